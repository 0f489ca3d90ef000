"""Ascend NPUs: compiled kernels as C++, and what runs that here."""
