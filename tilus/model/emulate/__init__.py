"""Executes the integer part of machine code for many threads at once: which way control goes, which memory is touched.

A register of all threads is one NumPy array over (blocks, warps, lanes), of which an axis has extent 1 where the value
does not depend on it. What comes from floats, matrix instructions and memory is unknown.
"""
