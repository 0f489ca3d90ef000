"""tilus: a tile-level language and compiler for GPU and NPU kernels."""
