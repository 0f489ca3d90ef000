"""Quantised numbers."""

from __future__ import annotations

from typing import Any

from tilus.ir.dtypes import DType
from tilus.records import record
from tilus.runtime.packed_array import PackedArray
from tilus.runtime.prepacked_array import PrepackedArray
from tilus.runtime.recognise import as_array


@record(frozen=True, eq=False)
class Quantized:
    """Numbers as codes with scales: ``(code's number - zero) * scale + offset``.

    Attributes:
        values: the codes, of the shape of the numbers; prepacked only in files.
        scales: one number for each group: the shape of the numbers with the groups in place of the axis' elements, or
            (groups,) where ``axis`` is None. An array (of f16, bf16, f32 and types of ml_dtypes; of others packed), or
            quantised in turn.
        zeros: None, a number for all groups, or an array of the shape of the scales, packed or of floats.
        group: how many elements share a scale.
        axis: along which dimension, counted from the first; None: in row-major order, the last group may be shorter.
        offset: what is added to all numbers.
        order: None, or an array of integers: what stands at i along the axis is element ``order[i]`` of the numbers.
    """

    values: PackedArray | PrepackedArray
    scales: Any
    zeros: Any = None
    group: int = -1
    axis: int | None = 0
    offset: float = 0.0
    order: Any = None

    @property
    def dtype(self) -> DType:
        """The type of the codes."""
        return self.values.dtype

    @property
    def scale_dtype(self) -> DType:
        """The type of the scales, or of their codes."""
        if isinstance(self.scales, (PackedArray, Quantized)):
            return self.scales.dtype
        found = as_array(self.scales)
        if found is None:
            raise TypeError(f"scales are an array, not {type(self.scales).__name__}")
        return found.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the numbers."""
        return self.values.shape

    @property
    def nbytes(self) -> int:
        """The bytes of codes, scales, zero points and order together."""
        parts = (self.values, self.scales, self.zeros, self.order)
        return sum(int(getattr(part, "nbytes", 0)) for part in parts)

    def __repr__(self) -> str:
        dims = ", ".join(map(str, self.shape))
        along = "in row-major order" if self.axis is None else f"along axis {self.axis}"
        zeros = "" if self.zeros is None else ", zero points"
        order = "" if self.order is None else ", in an order of its own"
        return (f"<quantised {self.dtype}[{dims}], groups of {self.group} {along}, "
                f"scales of {self.scale_dtype}{zeros}{order}, {self.nbytes} bytes>")


__all__ = ["Quantized"]
