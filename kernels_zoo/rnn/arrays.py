"""The arrays of recurrent layers, of B sequences of T steps and N heads of D elements."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import tilus as tl

if TYPE_CHECKING:  # what kernels do with them is not for type checkers
    INPUTS = Any
    WEIGHTS = Any
    BIASES = Any
    OUTPUTS = Any
    HISTORY = Any
    GATES = Any
    GRADIENTS = Any
    KEPT = Any
    LOW = Any
    GATES_LOW = Any
    STATES = Any
    TOTALS = Any
else:
    INPUTS = tl.f16["B", "T", "I", "N", "D"] | tl.bf16["B", "T", "I", "N", "D"] | tl.f32["B", "T", "I", "N", "D"]
    WEIGHTS = tl.f16["R", "N", "D", "D"] | tl.bf16["R", "N", "D", "D"] | tl.f32["R", "N", "D", "D"]
    BIASES = tl.f16["G", "N", "D"] | tl.bf16["G", "N", "D"] | tl.f32["G", "N", "D"]
    OUTPUTS = tl.f16["B", "T", "N", "D"] | tl.bf16["B", "T", "N", "D"] | tl.f32["B", "T", "N", "D"]
    HISTORY = tl.f16["B", "T + 1", "N", "D"] | tl.bf16["B", "T + 1", "N", "D"] | tl.f32["B", "T + 1", "N", "D"]
    GATES = tl.f32["B", "T", "G", "N", "D"]
    LOW = tl.f16["B", "K", "N", "D"] | tl.bf16["B", "K", "N", "D"]
    GATES_LOW = tl.f16["B", "L", "G", "N", "D"] | tl.bf16["B", "L", "G", "N", "D"]
    GRADIENTS = tl.f16["B", "T", "G", "N", "D"] | tl.bf16["B", "T", "G", "N", "D"] | tl.f32["B", "T", "G", "N", "D"]
    KEPT = tl.f32["P", "B", "T", "N", "D"]
    STATES = tl.f32["S", "B", "N", "D"]
    TOTALS = tl.f32["G", "B", "N", "D"]

__all__ = ["BIASES", "GATES", "GATES_LOW", "GRADIENTS", "HISTORY", "INPUTS", "KEPT", "LOW", "OUTPUTS", "STATES",
           "TOTALS", "WEIGHTS"]
