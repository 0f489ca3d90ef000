"""The reference interpreter: tile programs in plain NumPy, with checks for races, uninitialised reads and bounds.

It implements docs/language.md one operation at a time and shares no code with the lowering.
"""

from tilus.interp.launch import evaluate_launch, interpret

__all__ = ["evaluate_launch", "interpret"]
