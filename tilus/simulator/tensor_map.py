"""Tensor maps: a description of an array, a box and a swizzle, and the 128 bytes that stand for it on the device.

The layout of the bytes is this simulator's own, as the hardware's is opaque: kernels copy them, and change fields of
them by ``tensormap.replace``.
"""

from __future__ import annotations

# NumPy types the results of most functions as Any.
# mypy: disable-error-code="no-any-return"
import functools
import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from tilus.diagnostics import UserError

Array = npt.NDArray[Any]
MAP_BYTES = 128
_MAGIC = 0x70616D2D6C697574
_FORMAT = struct.Struct("<QQ4Q5I5H5B3h3hHBBBBBBB")
# Types in the numbering of tensormap.replace: the kind of a reduction and the bytes of an element.
_TYPES = (("u8", 1), ("u16", 2), ("u32", 4), ("s32", 4), ("u64", 8), ("s64", 8), ("f16", 2), ("f32", 4), ("f32", 4),
          ("f64", 8), ("bf16", 2), ("f32", 4), ("f32", 4), ("b4x16", 1), ("b4x16_p64", 1), ("b6x16_p32", 1))
# Of packed types: bits of an element, and bytes of shared memory for 16 of them. They are copied byte by byte.
_PACKED = {"b4x16": (4, 8), "b4x16_p64": (4, 16), "b6x16_p32": (6, 16)}
_SWIZZLES = (0, 32, 64, 128)


# Fields of tensormap.replace: the values that are possible, and what else the ISA has that is not simulated.
_RANGES = {"rank": range(5), "box_dim": range(1, 257), "element_stride": range(1, 9), "elemtype": range(len(_TYPES)),
           "swizzle_mode": range(len(_SWIZZLES)), "fill_mode": range(2), "interleave_layout": range(1),
           "swizzle_atomicity": range(1)}
_NOT_SIMULATED = {"swizzle_mode": (range(4, 5), "96 bytes"), "interleave_layout": (range(1, 3), "interleaved layouts"),
                  "swizzle_atomicity": (range(1, 4), "swizzles of other pieces than 16 bytes")}


def wrong_value(name: str, place: int, value: int) -> str:
    """What forbids ``value`` for a field of ``tensormap.replace``, at an ordinal of the field; empty where nothing."""
    dimensions = 4 if name == "global_stride" else 5
    if place >= dimensions or (name == "rank" and value > 4):
        return f"a tensor map has at most 5 dimensions, so {name} ends at {dimensions - 1}"
    others, what = _NOT_SIMULATED.get(name, (range(0), ""))
    if value in others:
        return f"the value {value} of {name} ({what}) is not simulated"
    if name in ("global_address", "global_stride") and (value % 16 or (name == "global_stride" and value >> 40)):
        return f"{name} is {value:#x}, and must be a multiple of 16{' below 2^40' * (name == 'global_stride')}"
    allowed = _RANGES.get(name)
    if allowed is not None and value not in allowed:
        return f"{name} is {value}; {allowed[0]} to {allowed[-1]} are possible"
    return ""


def _type_number(dtype: np.dtype[Any]) -> int:
    if dtype.itemsize == 1:
        wanted = "u8"       # whatever the byte means: integers, bools and the 8-bit floats of ml_dtypes
    else:
        wanted = "bf16" if dtype.name == "bfloat16" else f"{dtype.kind}{8 * dtype.itemsize}".replace("i", "s")
        wanted = "u16" if wanted == "s16" else wanted
    for number, (kind, _) in enumerate(_TYPES):
        if kind == wanted:
            return number
    raise UserError.at("E1003", f"a tensor map has no elements of type {dtype}")


@dataclass(frozen=True)
class Descriptor:
    """What the bytes of a tensor map say; tuples begin with the contiguous dimension, and may go on behind ``rank``.

    ``strides`` are bytes, that of dimension 0 is the element's. ``lower``, ``upper`` and ``pixels`` are of im2col mode.
    """

    base: int
    rank: int
    extents: tuple[int, ...]
    strides: tuple[int, ...]
    box: tuple[int, ...]
    steps: tuple[int, ...]
    type: int
    swizzle: int
    nan_fill: bool
    im2col: bool = False
    pixels: int = 0
    lower: tuple[int, ...] = ()
    upper: tuple[int, ...] = ()

    @property
    def kind(self) -> str:
        """PTX type of an element."""
        return _TYPES[self.type][0]

    @property
    def size(self) -> int:
        """Bytes of an element."""
        return _TYPES[self.type][1]

    @property
    def box_bytes(self) -> int:
        """Bytes that a copy signals: those of the elements."""
        return self._elements * _PACKED[self.kind][0] // 8 if self.kind in _PACKED else self._elements * self.size

    @property
    def room(self) -> int:
        """Bytes of shared memory that a tile takes, with the gaps of padded types."""
        return self._elements * _PACKED[self.kind][1] // 16 if self.kind in _PACKED else self._elements * self.size

    @property
    def _elements(self) -> int:
        return self.pixels * self.box[0] if self.im2col else int(np.prod(self.box[:self.rank]))

    def misfit(self, coordinates: Sequence[int], *, stores: bool = False, reduces: bool = False) -> str:
        """What forbids a copy of a tile of packed elements; empty where nothing."""
        if self.kind not in _PACKED:
            return ""
        padded = self.kind != "b4x16"
        if reduces:
            return f"a tensor of {self.kind} elements takes no reductions"
        if stores and self.kind == "b4x16_p64":
            return f"a tensor of {self.kind} elements can only be loaded"
        if padded and (self.box[0] != 128 or self.extents[0] % 128):
            return (f"{self.kind} needs boxes of 128 elements and a multiple of that in the tensor, not {self.box[0]} "
                    f"and {self.extents[0]}")
        if padded and (self.base % 32 or any(stride % 32 for stride in self.strides[1:self.rank])):
            return f"{self.kind} needs an address and strides that are multiples of 32 bytes"
        if self.swizzle not in (0, 128) and padded:
            return f"{self.kind} has no swizzle of {self.swizzle} bytes"
        multiple = 16 if padded else 2
        return f"the first coordinate is {coordinates[0]}, and must be a multiple of {multiple} for {self.kind}" \
            if coordinates[0] % multiple else ""

    def encode(self) -> bytes:
        """The 128 bytes."""
        def five(values: tuple[int, ...], fill: int, bits: int) -> tuple[int, ...]:
            return tuple(value & (1 << bits) - 1 for value in (*values, *[fill] * 5)[:5])

        packed = _FORMAT.pack(_MAGIC, self.base, *five(self.strides[1:], 0, 64)[:4], *five(self.extents, 1, 32),
                              *five(self.box, 1, 16), *five(self.steps, 1, 8), *(*self.lower, 0, 0, 0)[:3],
                              *(*self.upper, 0, 0, 0)[:3], self.pixels, self.rank, self.type, 0,
                              _SWIZZLES.index(self.swizzle), int(self.nan_fill), int(self.im2col), 0)
        return packed.ljust(MAP_BYTES, b"\0")

    def with_field(self, name: str, place: int, value: int) -> Descriptor:
        """The map after a ``tensormap.replace`` of a field, whose value :func:`wrong_value` has nothing against."""
        def put(values: tuple[int, ...], at: int) -> tuple[int, ...]:
            return (*values[:at], value, *values[at + 1:])[:5]

        if name == "global_stride":
            return replace(self, strides=put(self.strides, place + 1))
        tables = {"box_dim": "box", "global_dim": "extents", "element_stride": "steps"}
        if name in tables:
            changed: dict[str, Any] = {tables[name]: put(getattr(self, tables[name]), place)}
        else:
            fields: dict[str, dict[str, Any]] = {
                "global_address": {"base": value}, "rank": {"rank": value + 1}, "elemtype": {"type": value},
                "swizzle_mode": {"swizzle": _SWIZZLES[value % len(_SWIZZLES)]}, "fill_mode": {"nan_fill": bool(value)},
            }
            changed = fields.get(name, {})
        return replace(self, **changed)

    def tile(self, coordinates: Sequence[int], offsets: Sequence[int] = ()) -> tuple[Array, Array]:
        """(global address, inside) of each element of a tile, dimension 0 fastest; ``offsets`` are of im2col.

        Of packed elements they are those of each byte of shared memory; gaps are outside. Five coordinates of a tensor
        of two dimensions are a column and the rows of four tiles, one below the other.
        """
        if self.im2col:
            return self._columns(coordinates, offsets)
        if len(coordinates) > self.rank:
            parts = [self.tile((coordinates[0], row)) for row in coordinates[1:]]
            return np.concatenate([at for at, _ in parts]), np.concatenate([inside for _, inside in parts])
        dimensions = zip(self.extents, self.strides, self.box, self.steps, coordinates, strict=False)
        address = np.full(1, self.base, np.int64)
        inside = np.ones(1, bool)
        if self.kind in _PACKED:
            extent, _, box, _, start = next(dimensions)
            address, inside = self._packed_row(extent, box, start)
        for extent, stride, box, step, start in dimensions:
            index = start + np.arange(box) * step
            address = (address[None, :] + (index * stride)[:, None]).reshape(-1)
            inside = (inside[None, :] & ((index >= 0) & (index < extent))[:, None]).reshape(-1)
        return address, inside

    def _packed_row(self, extent: int, box: int, start: int) -> tuple[Array, Array]:
        """A row of a tile of packed elements, byte by byte as in shared memory."""
        bits, taken = _PACKED[self.kind]
        place = np.arange(box * taken // 16)
        data = bits * 2
        byte = start * bits // 8 + place // taken * data + place % taken
        return self.base + byte, (place % taken < data) & (byte >= 0) & (byte < extent * bits // 8)

    def _columns(self, coordinates: Sequence[int], offsets: Sequence[int]) -> tuple[Array, Array]:
        spatial = self.rank - 2
        at = list(coordinates[1:])
        steps = list(offsets) + [0] * (spatial - len(offsets))
        addresses, inside = [], []
        channels = coordinates[0] + np.arange(self.box[0]) * self.steps[0]
        for _ in range(self.pixels):
            position = [at[i] + steps[i] for i in range(spatial)] + at[spatial:]
            within = all(0 <= p < e for p, e in zip(position, self.extents[1:], strict=False))
            start = self.base + sum(p * s for p, s in zip(position, self.strides[1:], strict=False))
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

    def shared_offsets(self, start: int, tiles: int = 1) -> Array:
        """Shared address of each element of tiles one below the other, from ``start`` on, with the swizzle."""
        from tilus.simulator.ops_wgmma import swizzle_address

        return swizzle_address(start + np.arange(tiles * self.room // self.size) * self.size, self.swizzle or 16)


BLANK = Descriptor(0, 1, (1,) * 5, (1, 0, 0, 0, 0), (1,) * 5, (1,) * 5, 0, 0, False)


@functools.lru_cache(maxsize=4096)
def decode_map(data: bytes) -> Descriptor | None:
    """The map that 128 bytes hold; None where they hold none."""
    magic, base, *rest = _FORMAT.unpack_from(data)
    strides, extents, box, steps = rest[:4], rest[4:9], rest[9:14], rest[14:19]
    lower, upper = rest[19:22], rest[22:25]
    pixels, rank, kind, _, swizzle, nan_fill, im2col, _ = rest[25:]
    if magic != _MAGIC or not 1 <= rank <= 5 or kind >= len(_TYPES) or swizzle >= len(_SWIZZLES):
        return None
    size = _TYPES[kind][1]
    return Descriptor(base, rank, tuple(extents), (size, *strides), tuple(box), tuple(steps), kind, _SWIZZLES[swizzle],
                      bool(nan_fill), bool(im2col), pixels, tuple(lower), tuple(upper))


class TensorMap:
    """What ``cuTensorMapEncodeTiled`` would encode.

    Args:
        array: the global tensor; the last axis is contiguous and becomes dimension 0 of the copy instructions.
        box: extents of a tile, in the order of the array's axes.
        swizzle: 0, 32, 64 or 128 bytes.
        element_strides: steps in each axis, in the order of the array's axes.
        nan_fill: fill out-of-bounds elements of floats with NaN instead of zero.
        packed: ``"b4x16"``, ``"b4x16_p64"`` or ``"b6x16_p32"``, of an array of bytes that holds elements of 4 or 6 bits
            without gaps; in shared memory 16 of them take 8, 16 or 16 bytes. The box, the kernel's coordinates and the
            tensor's extents count elements.

    Raises:
        UserError: E1003 where no tensor map can be so.
    """

    def __init__(
        self,
        array: Array,
        box: Sequence[int],
        *,
        swizzle: int = 0,
        element_strides: Sequence[int] | None = None,
        nan_fill: bool = False,
        packed: str | None = None,
    ) -> None:
        if packed is not None and (packed not in _PACKED or array.itemsize != 1 or nan_fill):
            raise UserError.at("E1003", f"packed elements are {', '.join(_PACKED)}, in an array of bytes and filled "
                               "with zeros")
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
        bits, taken = _PACKED[packed] if packed else (8 * array.itemsize, 16 * array.itemsize)
        width = box[-1] * taken // 16
        if swizzle and width > swizzle:
            raise UserError.at("E1003", f"the box is {width} bytes wide, more than its swizzle of {swizzle}")
        if box[-1] * taken % 256:
            raise UserError.at("E1003", "the box's last extent must be a multiple of 16 bytes")
        self.array = array
        self.type = next(i for i, row in enumerate(_TYPES) if row[0] == packed) if packed else _type_number(array.dtype)
        self.box = tuple(int(b) for b in reversed(box))
        self.extents = tuple(reversed((*array.shape[:-1], array.shape[-1] * 8 * array.itemsize // bits)))
        self.strides = tuple(reversed(array.strides))
        self.steps = tuple(reversed(element_strides)) if element_strides else (1,) * array.ndim
        self.swizzle = swizzle
        self.size = array.itemsize
        self.nan_fill = nan_fill
        wrong = TensorMap.descriptor(self, 0).misfit((0,))
        if wrong:
            raise UserError.at("E1003", wrong)

    def descriptor(self, base: int) -> Descriptor:
        """The map as the device sees it, with the array's address."""
        return Descriptor(base, len(self.box), self.extents, self.strides, self.box, self.steps, self.type,
                          self.swizzle, self.nan_fill)


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

    def descriptor(self, base: int) -> Descriptor:
        return replace(super().descriptor(base), im2col=True, pixels=self.pixels, lower=self.lower, upper=self.upper)
