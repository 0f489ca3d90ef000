"""The arrays of the quantised products, as their kernels take them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import tilus as tl

if TYPE_CHECKING:  # what kernels do with them is not for type checkers
    X = Any
    X_OF_BATCH = Any
    Y = Any
    Y_OF_BATCH = Any
    BIAS = Any
    BIAS_OF_BATCH = Any
    POINTS = Any
    POINTS_OF_BATCH = Any
    SCALES = Any
    SCALES_OF_BATCH = Any
else:
    X, X_OF_BATCH = tl.f16["M", "K"] | tl.bf16["M", "K"], tl.f16["B", "M", "K"] | tl.bf16["B", "M", "K"]
    Y = tl.f16["M", "N"] | tl.bf16["M", "N"] | tl.f32["M", "N"]
    Y_OF_BATCH = tl.f16["B", "M", "N"] | tl.bf16["B", "M", "N"] | tl.f32["B", "M", "N"]
    BIAS = tl.f16["N"] | tl.bf16["N"] | tl.f32["N"]
    BIAS_OF_BATCH = tl.f16["B", "N"] | tl.bf16["B", "N"] | tl.f32["B", "N"]
    POINTS = tl.f16["G", "N"] | tl.bf16["G", "N"] | tl.f32["G", "N"]
    POINTS_OF_BATCH = tl.f16["B", "G", "N"] | tl.bf16["B", "G", "N"] | tl.f32["B", "G", "N"]
    SCALES = POINTS | tl.f8e8m0fnu["G", "N"] | tl.f8e4m3fn["G", "N"]
    SCALES_OF_BATCH = POINTS_OF_BATCH | tl.f8e8m0fnu["B", "G", "N"] | tl.f8e4m3fn["B", "G", "N"]

__all__ = [
    "BIAS",
    "BIAS_OF_BATCH",
    "POINTS",
    "POINTS_OF_BATCH",
    "SCALES",
    "SCALES_OF_BATCH",
    "X_OF_BATCH",
    "Y_OF_BATCH",
    "X",
    "Y",
]
