"""Differential testing of what Python means: random kernels as text, run untraced and traced.

``python -m tests.fuzz_python --first 0 --count 1000`` runs programs; ``--show SEED`` prints one.
"""
