"""What is refused, and what the messages say."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

import tilus as tl

W = np.ones((100, 6), np.float32)


def changed(value: float) -> np.ndarray:
    w = np.ones((4, 6))
    w[2, 3] = value
    return w


CALLS: dict[str, tuple[type[Exception], Any]] = {
    "axis 0 has 100 elements, which groups of 32 do not divide: fill it up to 128, or take a group of 20, 25, 50":
        (ValueError, lambda: tl.quantize(W, tl.i4, group=32)),
    "axis 2 is none of an array of rank 2": (ValueError, lambda: tl.quantize(W, tl.i4, axis=2)),
    "a group has 1 element or more, or is -1 for a whole axis, not 0":
        (ValueError, lambda: tl.quantize(W, tl.i4, group=0)),
    "an array of shape (0, 4) has nothing to quantise": (ValueError, lambda: tl.quantize(np.zeros((0, 4)), tl.i4)),
    "an array of shape () has nothing to quantise": (ValueError, lambda: tl.quantize(np.zeros(()), tl.i4)),
    "numbers of f16, bf16, f32 or f64 are quantised, not of int64":
        (TypeError, lambda: tl.quantize(np.ones(4, np.int64), tl.i4)),
    "have no tilus element type": (TypeError, lambda: tl.quantize(np.array(["a"]), tl.i4)),
    "w[2, 3] is nan: i4 has no NaN (1 such of 24 numbers)": (ValueError, lambda: tl.quantize(changed(np.nan), tl.i4)),
    "w[2, 3] is nan: nf4 has no NaN": (ValueError, lambda: tl.quantize(changed(np.nan), tl.nf4)),
    "w[2, 3] is nan: u4 has no NaN":
        (ValueError, lambda: tl.quantize(changed(np.nan), tl.u4, symmetric=False)),
    "w[2, 3] is -inf: f8e4m3fn has no infinity": (ValueError, lambda: tl.quantize(changed(-np.inf), tl.f8e4m3fn)),
    "w[2, 3] is 1e+300: numbers are quantised in f32, which does not reach as far":
        (ValueError, lambda: tl.quantize(changed(1e300), tl.f8e5m2)),
    "w[2, 3] is -1: f8e4m4u has no sign":
        (ValueError, lambda: tl.quantize(changed(-1), tl.float(4, 4, signed=False))),
    "a scale would be 142857, but those of f16 end at 65504: ask for another scale_dtype (tl.f32 has room)":
        (ValueError, lambda: tl.quantize(changed(1e6), tl.i4)),
    "the numbers of a group are further apart than f32 reaches":
        (ValueError, lambda: tl.quantize(np.array([3e38, -3e38]), tl.u4, symmetric=False, scale_dtype=tl.f32)),
    "f4e2m1 has no zero points, which are for integers":
        (TypeError, lambda: tl.quantize(W, tl.f4e2m1, symmetric=False)),
    "nf4 has no zero points": (TypeError, lambda: tl.quantize(W, tl.nf4, symmetric=False)),
    "zero_dtype=f16 is for symmetric=False": (ValueError, lambda: tl.quantize(W, tl.u4, zero_dtype=tl.f16)),
    "zero points of u4 are of u4, f16, bf16 or f32, not of u8":
        (TypeError, lambda: tl.quantize(W, tl.u4, symmetric=False, zero_dtype=tl.u8)),
    "symmetric=False goes with scale='max'": (ValueError, lambda: tl.quantize(W, tl.u4, symmetric=False, scale="mean")),
    "scale is 'max' or 'mean', not 'least'": (ValueError, lambda: tl.quantize(W, tl.u4, scale="least")),
    "rounding is 'nearest' or 'stochastic', not 'up'": (ValueError, lambda: tl.quantize(W, tl.u4, rounding="up")),
    "the seed is an integer from 0 to 2^64 - 1, not -1":
        (ValueError, lambda: tl.quantize(W, tl.u4, rounding="stochastic", seed=-1)),
    "scales are floats of up to 32 bits or a QuantFormat, not i8":
        (TypeError, lambda: tl.quantize(W, tl.u4, scale_dtype=tl.i8)),
    "not to f16": (TypeError, lambda: tl.quantize(W, tl.f16)),
    "not to i32": (TypeError, lambda: tl.quantize(W, tl.i32)),
    "not to bool": (TypeError, lambda: tl.quantize(W, tl.bool)),
    "to an element type or a QuantFormat, not to str": (TypeError, lambda: tl.quantize(W, "i4")),
    "all numbers of the codebook none are 0": (ValueError, lambda: tl.quantize(W, tl.codebook("none", [0, 0]))),
    "codes without scales are numbers by themselves": (ValueError, lambda: tl.dequantize(tl.pack(W, tl.i4))),
    "quantised numbers have their scales, zero points and groups":
        (ValueError, lambda: tl.dequantize(tl.quantize(W, tl.i4), W)),
    "codes are a packed array (tl.packed), not ndarray": (TypeError, lambda: tl.dequantize(W, W)),
    "scales of shape (3, 6) for codes of shape (100, 6)":
        (ValueError, lambda: tl.dequantize(tl.pack(W, tl.i4), np.ones((3, 6), np.float32))),
    "scales of shape (4, 5) for codes of shape (100, 6), whose groups along axis 0 take (4, 6)":
        (ValueError, lambda: tl.dequantize(tl.pack(W, tl.i4), np.ones((4, 5), np.float32))),
    "scales of shape (4, 6) for codes of shape (100, 6), whose groups along axis 0 take (2, 6)":
        (ValueError, lambda: tl.dequantize(tl.pack(W, tl.i4), np.ones((4, 6), np.float32), group=50)),
    "zeros of shape (6,)":
        (ValueError, lambda: tl.dequantize(tl.pack(W, tl.i4), np.ones((4, 6), np.float32), np.ones(6, np.float32))),
    "in row-major order: say how many elements a group has":
        (ValueError, lambda: tl.dequantize(tl.pack(W, tl.i4), np.ones(60, np.float32), axis=None)),
    "codes with scales are floats, not numbers of int8":
        (TypeError, lambda: tl.dequantize(tl.quantize(W, tl.i4), dtype=np.int8)),
}


@pytest.mark.parametrize("message", CALLS)
def test_message(message: str) -> None:
    kind, call = CALLS[message]
    with pytest.raises(kind, match=re.escape(message)):
        call()


def test_in_a_kernel() -> None:
    @tl.jit
    def kernel(x: tl.f32["N"]):
        tl.grid(1)
        tl.quantize(tl.load(x, 0, 16), tl.i4)

    with pytest.raises(tl.UserError, match=r"before a kernel runs; within it, tiles are by `\.to\(dtype\)`"):
        kernel(np.ones(16, np.float32))
