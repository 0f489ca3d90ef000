"""Lowering of tile programs to the threads of a GPU."""
