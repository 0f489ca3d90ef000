"""Fused functions of whole arrays."""
