"""What a quantised array is made of: the types of its codes, scales and zero points, and how scales are chosen."""

from __future__ import annotations

import itertools
import math

from tilus.ir.dtypes import (
    DType,
    codebook,
    f4e2m1,
    f6e2m3,
    f6e3m2,
    f8e4m3fn,
    f8e5m2,
    f8e8m0fnu,
    f16,
    f32,
    i8,
    nf4,
)
from tilus.records import record

WIDEST_INTEGER = 16
"""Bits of an integer: quotients are numbers of f32, whose 24 bits leave some for the fraction."""


@record(frozen=True)
class QuantFormat:
    """How ``tl.quantize`` represents numbers. ``tl.mxfp4`` and the other named formats are of this type.

    Attributes:
        dtype: the type of the codes: an integer of 1 to 16 bits, a float of 3 to 8 bits or a codebook.
        group: how many elements along the axis share a scale; -1: all of them.
        symmetric: whether 0 lies in the middle of the range. If not (integers only), groups have zero points.
        scale_dtype: a float type of at most 32 bits, or the format that the scales are quantised to, in row-major
            order whatever their shape.
        zero_dtype: of the zero points: None for ``dtype`` itself (they are integers), or a float type.
        scale: ``"max"`` makes the greatest magnitude of a group the greatest number of ``dtype``, ``"mean"`` the mean
            magnitude, of at least 1e-5, the number 1 (of types of one bit, 1/2: the numbers are -mean and mean).
        centred: whether numbers are quantised less their mean, which is kept as an offset.

    Raises:
        TypeError: a type is none that can be in its place.
        ValueError: a group is none, or options exclude each other.
    """

    dtype: DType
    group: int = -1
    symmetric: bool = True
    scale_dtype: DType | QuantFormat = f16
    zero_dtype: DType | None = None
    scale: str = "max"
    centred: bool = False

    def __post_init__(self) -> None:
        _check_codes(self.dtype)
        if self.group != -1 and self.group < 1:
            raise ValueError(f"a group has 1 element or more, or is -1 for a whole axis, not {self.group}")
        if self.scale not in ("max", "mean"):
            raise ValueError(f"scale is 'max' or 'mean', not {self.scale!r}")
        _check_scales(self.scale_dtype)
        _check_zeros(self)

    @property
    def limits(self) -> tuple[int, int]:
        """The least and the greatest integer that codes of an integer type stand for."""
        return self.dtype.min_value, self.dtype.max_value

    @property
    def has_whole_zeros(self) -> bool:
        """Whether zero points are integers rather than floats."""
        zero = self.fixed_zero
        return self.zero_dtype in (None, self.dtype) if zero is None else zero == int(zero)

    @property
    def fixed_zero(self) -> float | None:
        """The zero point of all groups of a symmetric format whose numbers lie elsewhere: 2^(bits - 1) of unsigned
        integers. The two numbers of a single bit lie on either side of a half."""
        if not self.symmetric or not self.dtype.is_int:
            return None
        if self.dtype.bits == 1:
            return sum(self.limits) / 2
        return 1 << (self.dtype.bits - 1) if self.dtype.kind == "uint" else None


def reach(dtype: DType, symmetric: bool = True) -> float:
    """The number of a type that the greatest magnitude of a group becomes; with zero points the difference of the
    greatest and the least number.

    Signed integers leave their least number out, as usual. Those with a fixed zero point have half the steps of the
    type: ``2 amax / (2^b - 1)`` is GPTQ's scale.
    """
    if dtype.is_int:
        steps = float(dtype.max_value - dtype.min_value)
        if not symmetric:
            return steps
        return dtype.max_value if dtype.kind == "int" and dtype.bits > 1 else steps / 2
    if dtype.is_codebook:
        return max(map(abs, dtype.values))
    return greatest_number(dtype)


def greatest_number(dtype: DType) -> float:
    """The greatest number of a float type, as far as f32 reaches."""
    code = dtype.greatest_code
    while dtype.bits <= 8 and number_of(dtype, code) >= 2.0**128:
        code -= 1
    return number_of(dtype, code)


def number_of(dtype: DType, code: int) -> float:
    """The number that a positive, finite code of a float type stands for."""
    exponent, fraction = code >> dtype.mantissa, code & ((1 << dtype.mantissa) - 1)
    hidden = exponent > 0 or not dtype.has_zero
    significand = fraction + (hidden << dtype.mantissa)
    return math.ldexp(significand, max(exponent, int(dtype.has_zero)) - dtype.bias - dtype.mantissa)


def _check_codes(dtype: DType) -> None:
    if not isinstance(dtype, DType):
        raise TypeError(f"numbers are quantised to an element type or a QuantFormat, not to {type(dtype).__name__}")
    if dtype.is_bool or dtype.bits > (WIDEST_INTEGER if dtype.is_int else 8):
        raise TypeError(f"numbers are quantised to integers of up to {WIDEST_INTEGER} bits and to floats and codebooks "
                        f"of up to 8, not to {dtype}")
    if dtype.is_codebook and not any(dtype.values):
        raise ValueError(f"all numbers of the codebook {dtype} are 0")


def _check_scales(dtype: DType | QuantFormat) -> None:
    if isinstance(dtype, QuantFormat):
        return
    if not isinstance(dtype, DType) or not dtype.is_float or dtype.bits > 32 or dtype.name == "tf32":
        raise TypeError(f"scales are floats of up to 32 bits or a QuantFormat, not {dtype}")


def _check_zeros(format: QuantFormat) -> None:
    dtype, zeros = format.dtype, format.zero_dtype
    if format.symmetric:
        if zeros is not None:
            raise ValueError(f"zero_dtype={zeros} is for symmetric=False: a symmetric range has no zero points")
        return
    if not dtype.is_int:
        raise TypeError(f"{dtype} has no zero points, which are for integers: leave symmetric=False out")
    if format.scale != "max" or format.centred:
        raise ValueError("zero points are those of a range: symmetric=False goes with scale='max', without centred")
    if zeros not in (None, dtype) and not (isinstance(zeros, DType) and zeros.is_float and 16 <= zeros.bits <= 32
                                           and zeros.is_arithmetic):
        raise TypeError(f"zero points of {dtype} are of {dtype}, f16, bf16 or f32, not of {zeros}")


def _dynamic_map() -> list[float]:
    """A codebook for numbers of many orders of magnitude: per decade from 1e-6 on the middles of a grid of 1, 2, 4, …
    steps, with both signs, and 0 and 1 (Dettmers et al., 8-bit optimizers, arXiv 2110.02861)."""
    numbers = [0.0, 1.0]
    for decade in range(7):
        ends = [0.1 + 0.9 * k / 2**decade for k in range(2**decade + 1)]
        middles = [(a + b) / 2 * 10.0 ** (decade - 6) for a, b in itertools.pairwise(ends)]
        numbers += [*middles, *(-m for m in middles)]
    return sorted(numbers)


# OCP Microscaling Formats (MX) 1.0: blocks of 32 with a power of two each.
mxfp4 = QuantFormat(f4e2m1, group=32, scale_dtype=f8e8m0fnu)
mxfp6e3m2 = QuantFormat(f6e3m2, group=32, scale_dtype=f8e8m0fnu)
mxfp6e2m3 = QuantFormat(f6e2m3, group=32, scale_dtype=f8e8m0fnu)
mxfp8e5m2 = QuantFormat(f8e5m2, group=32, scale_dtype=f8e8m0fnu)
mxfp8e4m3 = QuantFormat(f8e4m3fn, group=32, scale_dtype=f8e8m0fnu)
mxint8 = QuantFormat(i8, group=32, scale_dtype=f8e8m0fnu)
# NVIDIA's: blocks of 16, whose scales are of f8e4m3fn with one f32 for all of them, amax / (448 * 6).
nvfp4 = QuantFormat(f4e2m1, group=16, scale_dtype=QuantFormat(f8e4m3fn, scale_dtype=f32))
# QLoRA (arXiv 2305.14314): NF4 in blocks of 64, whose greatest magnitudes are quantised in blocks of 256.
dynamic8 = codebook("dynamic8", _dynamic_map())
qlora = QuantFormat(nf4, group=64, scale_dtype=QuantFormat(dynamic8, group=256, scale_dtype=f32, centred=True))

__all__ = [
    "QuantFormat", "dynamic8", "greatest_number", "mxfp4", "mxfp6e2m3", "mxfp6e3m2", "mxfp8e4m3", "mxfp8e5m2", "mxint8",
    "number_of", "nvfp4", "qlora",
    "reach",
]
