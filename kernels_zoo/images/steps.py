"""Steps: what is computed with a pixel. Numbers are one for all channels, or one a channel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import tilus as tl
from kernels_zoo.images.source import Pixel, With, component


def of_channels(pixel: Pixel, numbers: tuple[Any, ...]) -> tuple[Any, ...]:
    return numbers if len(numbers) == len(pixel) else numbers * len(pixel)


@component(sets=1)
def times(pixel: Pixel, *numbers: Any) -> Pixel:
    return tuple(p * n for p, n in zip(pixel, of_channels(pixel, numbers), strict=True))


@component(sets=1)
def plus(pixel: Pixel, *numbers: Any) -> Pixel:
    return tuple(p + n for p, n in zip(pixel, of_channels(pixel, numbers), strict=True))


@component(sets=1)
def minus(pixel: Pixel, *numbers: Any) -> Pixel:
    return tuple(p - n for p, n in zip(pixel, of_channels(pixel, numbers), strict=True))


@component(sets=1)
def over(pixel: Pixel, *numbers: Any) -> Pixel:
    return tuple(p / n for p, n in zip(pixel, of_channels(pixel, numbers), strict=True))


def multiply(*numbers: float) -> With:
    return With(times, numbers)


def add(*numbers: float) -> With:
    return With(plus, numbers)


def subtract(*numbers: float) -> With:
    return With(minus, numbers)


def divide(*numbers: float) -> With:
    return With(over, numbers)


@component(sets=2)
def scaled_and_shifted(pixel: Pixel, *numbers: Any) -> Pixel:
    half = len(numbers) // 2
    return plus(times(pixel, *numbers[:half]), *numbers[half:])


def normalise(mean: Sequence[float], deviation: Sequence[float], scale: float = 1.0) -> With:
    """(pixel · scale − mean) / deviation, of each channel: a factor and a summand, computed once."""
    factors = [scale / d for d in deviation]
    return With(scaled_and_shifted, (*factors, *(-m / d for m, d in zip(mean, deviation, strict=True))))


@dataclass(frozen=True)
class Cast:
    """The nearest number of an integer type (of two as near the even one), within its range; floats are rounded."""

    dtype: tl.DType

    def __call__(self, pixel: Pixel) -> Pixel:
        return tuple(to(p, self.dtype).to(tl.f32) for p in pixel)


def to(x: Any, dtype: tl.DType) -> Any:
    """A tile in a type, as :class:`Cast` says."""
    return x.to(dtype) if dtype.is_float else tl.round(x).to(dtype)


@component(takes=3)
def swapped(pixel: Pixel) -> Pixel:
    """RGB to BGR, or back; what comes after three channels stays."""
    return (pixel[2], pixel[1], pixel[0], *pixel[3:])


@component(channels=1, takes=3)
def grey(pixel: Pixel) -> Pixel:
    """The luma of RGB (ITU-R BT.601)."""
    red, green, blue = pixel[:3]
    return (0.299 * red + 0.587 * green + 0.114 * blue,)
