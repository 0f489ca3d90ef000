"""Kernels written in tilus, each with its NumPy reference, its shapes and a ``main()``."""
