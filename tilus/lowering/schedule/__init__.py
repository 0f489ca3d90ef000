"""The schedule of a kernel: how its loops are pipelined and unrolled, the order of blocks and of accesses to memory."""
