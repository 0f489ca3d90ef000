"""Tuning: the spaces of variants of kernels, and integer constraints on them."""
