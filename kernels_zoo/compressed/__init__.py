"""Weights in fewer bytes without loss, and sparse ones."""
