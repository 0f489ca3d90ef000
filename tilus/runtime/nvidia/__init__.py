"""NVIDIA's GPUs: cubins by two routes, the C header that launches them, and the engines that run them."""
