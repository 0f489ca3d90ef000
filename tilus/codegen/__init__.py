"""Back ends: CUDA C, and LLVM IR for NVPTX and for the host."""
