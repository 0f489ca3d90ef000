"""What runs compiled kernels: toolchains, the disk cache, arguments, drivers and launches."""
