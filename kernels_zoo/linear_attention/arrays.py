"""The arrays of linear attention: keys (and queries) and values of sequences and of one token, and the state."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import tilus as tl

if TYPE_CHECKING:  # what kernels do with them is not for type checkers
    KEYS = Any
    VALUES = Any
    KEY = Any
    VALUE = Any
    STATE = Any
else:
    KEYS = tl.f16["B", "H", "N", "D"] | tl.bf16["B", "H", "N", "D"] | tl.f32["B", "H", "N", "D"]
    VALUES = tl.f16["B", "H", "N", "E"] | tl.bf16["B", "H", "N", "E"] | tl.f32["B", "H", "N", "E"]
    KEY = tl.f16["B", "H", "D"] | tl.bf16["B", "H", "D"] | tl.f32["B", "H", "D"]
    VALUE = tl.f16["B", "H", "E"] | tl.bf16["B", "H", "E"] | tl.f32["B", "H", "E"]
    STATE = tl.f32["B", "H", "D", "E"]

__all__ = ["KEY", "KEYS", "STATE", "VALUE", "VALUES"]
