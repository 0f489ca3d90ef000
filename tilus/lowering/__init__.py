"""Passes over modules, and the lists of passes that make up each target's pipeline."""
