"""Tensor maps: opaque on hardware, described here by an array, a box and a swizzle."""

from __future__ import annotations

# NumPy types the results of most functions as Any.
# mypy: disable-error-code="no-any-return"
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tilus.diagnostics import UserError

Array = npt.NDArray[Any]


class TensorMap:
    """What ``cuTensorMapEncodeTiled`` would encode.

    Args:
        array: the global tensor; the last axis is contiguous and becomes dimension 0 of the copy instructions.
        box: extents of a tile, in the order of the array's axes.
        swizzle: 0, 32, 64 or 128 bytes.
        element_strides: steps in each axis, in the order of the array's axes.
        nan_fill: fill out-of-bounds elements of floats with NaN instead of zero.
    """

    def __init__(
        self,
        array: Array,
        box: Sequence[int],
        *,
        swizzle: int = 0,
        element_strides: Sequence[int] | None = None,
        nan_fill: bool = False,
    ) -> None:
        if swizzle not in (0, 32, 64, 128):
            raise UserError.at("E1003", f"a swizzle of {swizzle} bytes does not exist: 0, 32, 64 or 128")
        if len(box) != array.ndim or not 1 <= array.ndim <= 5:
            raise UserError.at("E1003", f"box {tuple(box)} does not fit an array of {array.ndim} axes (1 to 5)")
        if array.strides[-1] != array.itemsize and array.shape[-1] > 1:
            raise UserError.at("E1003", "the last axis of a tensor map's array must be contiguous")
        if any(s % 16 for s in array.strides[:-1]):
            raise UserError.at("E1003", "the strides of a tensor map's array must be multiples of 16 bytes")
        if any(not 1 <= extent <= 256 for extent in box):
            raise UserError.at("E1003", f"box {tuple(box)}: extents go from 1 to 256")
        if swizzle and box[-1] * array.itemsize > swizzle:
            raise UserError.at(
                "E1003", f"the box is {box[-1] * array.itemsize} bytes wide, more than its swizzle of {swizzle}"
            )
        if box[-1] * array.itemsize % 16:
            raise UserError.at("E1003", "the box's last extent must be a multiple of 16 bytes")
        self.array = array
        self.box = tuple(int(b) for b in reversed(box))
        self.extents = tuple(reversed(array.shape))
        self.strides = tuple(reversed(array.strides))
        self.steps = tuple(reversed(element_strides)) if element_strides else (1,) * array.ndim
        self.swizzle = swizzle
        self.size = array.itemsize
        self.nan_fill = nan_fill
        self.base = 0

    def bind(self, device_address: Callable[[int], int]) -> None:
        """Fix the array's address in the simulated memory."""
        self.base = device_address(int(self.array.__array_interface__["data"][0]))

    @property
    def box_bytes(self) -> int:
        return int(np.prod(self.box)) * self.size

    def tile(self, coordinates: Sequence[int]) -> tuple[Array, Array]:
        """(global address, inside) of each element of a tile, dimension 0 fastest."""
        address = np.full(1, self.base, np.int64)
        inside = np.ones(1, bool)
        for extent, stride, box, step, start in zip(self.extents, self.strides, self.box, self.steps, coordinates,
                                                    strict=True):
            index = start + np.arange(box) * step
            address = (address[None, :] + (index * stride)[:, None]).reshape(-1)
            inside = (inside[None, :] & ((index >= 0) & (index < extent))[:, None]).reshape(-1)
        return address, inside

    def shared_offsets(self, start: int) -> Array:
        """Shared address of each element of a tile that begins at ``start``, with the swizzle."""
        from tilus.simulator.ops_wgmma import swizzle_address

        return swizzle_address(start + np.arange(int(np.prod(self.box))) * self.size, self.swizzle or 16)
