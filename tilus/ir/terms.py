"""The closed sets of words that operations and types are made of; type checkers hold them."""

from __future__ import annotations

from typing import Literal

Space = Literal["global", "shared", "local", ""]
"""Where memory is; ``""``: anywhere, or nowhere."""
Scope = Literal["block", "device", "system"]
"""Among which threads an access is atomic and ordered."""
Order = Literal["relaxed", "acquire", "release", "acq_rel"]
"""What an atomic access orders of what its thread does before and after it."""
EffectKind = Literal["read", "write", "atomic", "alloc", "sync", "io", "assume"]
"""What an operation does to memory."""
Rounding = Literal["rn", "rz", "rm", "rp"]
"""To nearest even, toward zero, down, up."""
CompareKind = Literal["eq", "ne", "lt", "le", "gt", "ge"]
AtomicKind = Literal["add", "min", "max", "and", "or", "xor", "exchange", "cas"]
ReduceKind = Literal["sum", "prod", "min", "max", "any", "all", "xor", "argmin", "argmax"]
ScanKind = Literal["sum", "prod", "min", "max"]
ScatterKind = Literal["set", "add"]
ShuffleMode = Literal["bfly", "idx", "up", "down"]
"""How lanes choose the lane that they read."""
BarrierMode = Literal["sync", "arrive"]
"""Whether a thread waits for the others, or only counts."""
ParameterKind = Literal["array", "scalar", "workspace"]
TypeKind = Literal["bool", "int", "uint", "float", "codebook"]

__all__ = [
    "AtomicKind", "BarrierMode", "CompareKind", "EffectKind", "Order", "ParameterKind", "ReduceKind", "Rounding",
    "ScanKind", "ScatterKind", "Scope", "ShuffleMode", "Space", "TypeKind",
]
