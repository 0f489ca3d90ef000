"""Random fused functions against NumPy."""
