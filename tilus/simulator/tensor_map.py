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

    def tile(self, coordinates: Sequence[int], offsets: Sequence[int] = ()) -> tuple[Array, Array]:
        """(global address, inside) of each element of a tile, dimension 0 fastest; ``offsets`` are of im2col."""
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

        return swizzle_address(start + np.arange(self.box_bytes // self.size) * self.size, self.swizzle or 16)


class Im2colMap(TensorMap):
    """What ``cuTensorMapEncodeIm2col`` would encode: columns of pixels of an image tensor.

    The pixels of a column are those of a bounding box, walked along the innermost spatial axis first; the box reaches
    from ``lower`` to the extent plus ``upper`` minus 1 in each spatial axis. Offsets of the instruction move all.

    Args:
        array: (batch, [depth, [height,]] width, channels), channels contiguous.
        channels: channels of each pixel that are copied.
        pixels: pixels of a column.
        lower, upper: corners of the bounding box for each spatial axis, in the order of the array's axes.
        swizzle: 0, 32, 64 or 128 bytes.
        element_strides: steps between pixels in each axis, in the order of the array's axes.
    """

    def __init__(self, array: Array, channels: int, pixels: int, lower: Sequence[int], upper: Sequence[int], *,
                 swizzle: int = 0, element_strides: Sequence[int] | None = None, nan_fill: bool = False) -> None:
        if not 3 <= array.ndim <= 5 or len(lower) != array.ndim - 2 or len(upper) != array.ndim - 2:
            raise UserError.at("E1003", "an im2col tensor map needs 3 to 5 axes, and corners for all but the first "
                               "and last")
        if not 1 <= pixels <= 1024:
            raise UserError.at("E1003", f"{pixels} pixels in a column: 1 to 1024 are possible")
        super().__init__(array, (1,) * (array.ndim - 1) + (channels,), swizzle=swizzle,
                         element_strides=element_strides, nan_fill=nan_fill)
        self.pixels = pixels
        self.lower = tuple(reversed(lower))
        self.upper = tuple(reversed(upper))

    @property
    def box_bytes(self) -> int:
        return self.pixels * self.box[0] * self.size

    def tile(self, coordinates: Sequence[int], offsets: Sequence[int] = ()) -> tuple[Array, Array]:
        spatial = len(self.lower)
        at = list(coordinates[1:])
        steps = list(offsets) + [0] * (spatial - len(offsets))
        addresses, inside = [], []
        channels = coordinates[0] + np.arange(self.box[0]) * self.steps[0]
        for _ in range(self.pixels):
            position = [at[i] + steps[i] for i in range(spatial)] + at[spatial:]
            within = all(0 <= p < e for p, e in zip(position, self.extents[1:], strict=True))
            start = self.base + sum(p * s for p, s in zip(position, self.strides[1:], strict=True))
            addresses.append(start + channels * self.strides[0])
            inside.append((channels >= 0) & (channels < self.extents[0]) & within)
            for i in range(spatial):
                at[i] += self.steps[i + 1]
                if at[i] < self.extents[i + 1] + self.upper[i]:
                    break
                at[i] = self.lower[i]
            else:
                at[spatial] += 1
        return np.concatenate(addresses), np.concatenate(inside)
