"""Arrays of short floats, and arrays of what their rounding leaves.

What is rounded in each step of a recurrence, h on the way there and the gates' gradients on the way back, makes all
further steps differ, by more in the end than results are rounded by. So where an element has few digits, there are two
of them: x = high + low, where low is what rounding x to high leaves, has twice as many, and x w = high w + low w are
still products of short floats.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import tilus as tl


def has_low(dtype: Any) -> bool:
    """Whether elements of a type (of NumPy's, too) come with an array of what their rounding leaves. Those of bf16 do;
    f16 has three more bits."""
    return str(getattr(dtype, "name", dtype)) in ("bf16", "bfloat16")


@dataclass(frozen=True)
class Rounded:
    """Steps lie along the second dimension, of ``low`` all of them, or only two, by turns. ``low`` may be None."""

    high: Any
    low: Any

    def steps(self, t: Any) -> list[Any]:
        """The views of step ``t``."""
        if self.low is None:
            return [self.high[:, t]]
        return [self.high[:, t], self.low[:, t % self.low.shape[1]]]

    def load(self, tile: Any, t: Any, *at: Any) -> Any:
        """A tile of step ``t``, f32."""
        return whole([tile.load(x, slice(None), *at) for x in self.steps(t)])

    def store(self, tile: Any, t: Any, at: tuple[Any, ...], value: Any) -> None:
        """Store a tile of step ``t``."""
        for view, part in zip(self.steps(t), self.parts(value), strict=True):
            tile.store(view, (slice(None), *at), part)

    def parts(self, value: Any) -> list[Any]:
        """A tile as it is stored."""
        high = value.to(self.high.dtype)
        return [high] if self.low is None else [high, (value - high.to(tl.f32)).to(high.dtype)]


def whole(parts: list[Any]) -> Any:
    """The sum of a tile's parts, f32."""
    return parts[0].to(tl.f32) if len(parts) == 1 else parts[0].to(tl.f32) + parts[1].to(tl.f32)


def factors(parts: list[Any]) -> list[Any]:
    """What is multiplied for the product with a tile of these parts. CPUs multiply f32 anyway, so that one product
    does."""
    return [whole(parts)] if len(parts) > 1 and tl.target() == "cpu" else parts


def dot(x: Any, y: Any, acc: Any) -> Any:
    """``acc + x y``, where one may be f32 and the other shorter."""
    dtype = tl.f32 if x.dtype is not y.dtype else x.dtype
    return tl.dot(x.to(dtype), y.to(dtype), acc)


__all__ = ["Rounded", "dot", "factors", "has_low", "whole"]
