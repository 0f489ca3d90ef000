"""NVIDIA's compilers out of their wheels: ``ptxas``, ``nvrtc``, ``nvcc`` and ``binutils``, imported when needed."""
