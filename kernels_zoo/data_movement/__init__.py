"""Kernels that move data."""
