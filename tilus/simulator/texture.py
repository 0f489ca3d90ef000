"""Textures: arrays that kernels sample through the handles of texture objects."""
# NumPy types the results of most functions as Any.
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import numpy.typing as npt

from tilus.diagnostics import UserError

Array = npt.NDArray[Any]
ADDRESSING = ("clamp", "border", "wrap", "mirror")


class Texture:
    """What ``cudaCreateTextureObject`` would make of an array.

    Args:
        array: (width,), (height, width) or (depth, height, width) elements; for ``channels`` an axis of 2 or 4 follows.
        channels: 1, 2 or 4.
        filter: ``"point"``, or ``"linear"``, whose weights have 8 bits of fraction.
        address: what lies outside: ``"clamp"``, ``"border"`` (zeros), or, for normalised coordinates, ``"wrap"`` or
            ``"mirror"``.
        normalised_coordinates: coordinates go from 0 to 1.
        normalised_values: integers are read as floats from 0 or -1 to 1.

    Raises:
        UserError: E1003 where these do not go together.
    """

    def __init__(self, array: Array, *, channels: int = 1, filter: str = "point", address: str = "clamp",
                 normalised_coordinates: bool = False, normalised_values: bool = False) -> None:
        axes = array.ndim - (channels > 1)
        if channels not in (1, 2, 4) or (channels > 1 and array.shape[-1:] != (channels,)) or not 1 <= axes <= 3:
            raise UserError.at("E1003", f"a texture of {channels} channels cannot have the shape {array.shape}")
        if filter not in ("point", "linear") or address not in ADDRESSING:
            raise UserError.at("E1003", f"a texture has the filter 'point' or 'linear' and one of the address modes "
                               f"{', '.join(ADDRESSING)}; not {filter!r} and {address!r}")
        if address in ("wrap", "mirror") and not normalised_coordinates:
            raise UserError.at("E1003", f"the address mode {address!r} needs normalised coordinates")
        integers = array.dtype.kind in "iu"
        if normalised_values and not (integers and array.dtype.itemsize <= 2):
            raise UserError.at("E1003", "only integers of 8 and 16 bits are read as normalised values")
        if filter == "linear" and integers and not normalised_values:
            raise UserError.at("E1003", "linear filtering needs floats or normalised values")
        if array.dtype.kind not in "iuf" or array.dtype.itemsize > 4:
            raise UserError.at("E1003", f"a texture cannot have elements of type {array.dtype}")
        self.array, self.channels, self.axes = array, channels, axes
        self.filter, self.address = filter, address
        self.normalised_coordinates, self.normalised_values = normalised_coordinates, normalised_values

    def texels(self) -> Array:
        """Elements as (..., 4): missing channels are 0, 0 and 1."""
        data = self.array if self.channels > 1 else self.array[..., None]
        if self.normalised_values:
            top = np.iinfo(data.dtype).max
            data = np.maximum(data.astype(np.float32) / np.float32(top), np.float32(-1))
        elif data.dtype.kind == "f":
            data = data.astype(np.float32)
        else:
            data = data.astype(f"{data.dtype.kind}4")
        fill = np.zeros((*data.shape[:-1], 4 - self.channels), data.dtype)
        if fill.shape[-1]:
            fill[..., -1] = 1
        return np.concatenate([data, fill], axis=-1)

    def sample(self, coordinates: list[Array]) -> Array:
        """(n, 4) values at coordinates x, y, z of n lanes, integers or floats."""
        extents = self.array.shape[:self.axes][::-1]
        texels = self.texels()
        if coordinates[0].dtype.kind in "iu":
            return self._fetch(texels, [c.astype(np.int64) for c in coordinates], extents)
        places = [c.astype(np.float64) * (e if self.normalised_coordinates else 1)
                  for c, e in zip(coordinates, extents, strict=True)]
        if self.filter == "point":
            return self._fetch(texels, [np.floor(p).astype(np.int64) for p in places], extents)
        low = [np.floor(p - 0.5).astype(np.int64) for p in places]
        weights = [np.rint((p - 0.5 - l) * 256) / 256 for p, l in zip(places, low, strict=True)]
        result = np.zeros((coordinates[0].size, 4))
        for corner in itertools.product((0, 1), repeat=self.axes):
            weight = np.ones(coordinates[0].size)
            for side, part in zip(corner, weights, strict=True):
                weight = weight * (part if side else 1 - part)
            values = self._fetch(texels, [p + side for p, side in zip(low, corner, strict=True)], extents)
            result += weight[:, None] * values
        return result.astype(np.float32)

    def _fetch(self, texels: Array, index: list[Array], extents: tuple[int, ...]) -> Array:
        inside = np.ones(index[0].size, bool)
        places = []
        for position, extent in zip(index, extents, strict=True):
            if self.address == "border":
                inside &= (position >= 0) & (position < extent)
            if self.address == "wrap":
                position = position % extent
            elif self.address == "mirror":
                position = position % (2 * extent)
                position = np.minimum(position, 2 * extent - 1 - position)
            places.append(np.clip(position, 0, extent - 1))
        found = texels[tuple(reversed(places))]
        return np.where(inside[:, None], found, np.zeros(1, found.dtype))
