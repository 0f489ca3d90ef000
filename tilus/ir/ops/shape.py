"""Operations that rearrange the elements of a tile."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

from tilus.diagnostics import Diagnostic, Label, UserError
from tilus.ir.core import Operation, Value
from tilus.ir.dtypes import DType, u8
from tilus.ir.families import Movement
from tilus.ir.types import TileType, Type

if TYPE_CHECKING:
    from tilus.layouts import RegisterLayout


class Reshape(Movement):
    """The same elements in row-major order under another shape of the same size. Where extents are symbols (at array
    level), only extents of 1 come and go."""

    NAME = "reshape"
    x: Value
    shape: tuple[int, ...]

    def infer(self) -> Sequence[Type]:
        tile = self.x.tile
        if any(isinstance(n, str) for n in (*tile.shape, *self.shape)):
            if [n for n in tile.shape if n != 1] != [n for n in self.shape if n != 1]:
                self.fail("E0202", f"an array of shape {tile.shape} cannot be reshaped to {self.shape}",
                          help="with run-time extents, reshape may only insert and remove dimensions of extent 1")
            return (TileType(tile.dtype, self.shape),)
        if math.prod(self.shape) != tile.size:
            self.fail("E0202", f"a tile of shape {tile.shape} cannot be reshaped to {self.shape}: "
                               f"{tile.size} elements against {math.prod(self.shape)}")
        return (TileType(tile.dtype, self.shape),)


class Transpose(Movement):
    """Dimension ``d`` of the result is dimension ``permutation[d]`` of the operand."""

    NAME = "transpose"
    x: Value
    permutation: tuple[int, ...]

    def infer(self) -> Sequence[Type]:
        tile = self.x.tile
        if sorted(self.permutation) != list(range(tile.rank)):
            self.fail("E0204", f"{self.permutation} does not permute the dimensions of a tile of rank {tile.rank}")
        return (TileType(tile.dtype, tuple(tile.shape[p] for p in self.permutation)),)


class Slice(Movement):
    """The box of ``sizes`` elements from ``starts`` on, both compile-time constants."""

    NAME = "slice"
    x: Value
    starts: tuple[int, ...]
    sizes: tuple[int, ...]

    def infer(self) -> Sequence[Type]:
        tile = self.x.tile
        if not len(self.starts) == len(self.sizes) == tile.rank:
            self.fail("E0204", f"slice of a tile of rank {tile.rank} needs {tile.rank} starts and sizes")
        if any(s < 0 or n < 0 or s + n > d for s, n, d in zip(self.starts, self.sizes, tile.shape, strict=True)):
            self.fail("E0202", f"slice from {self.starts} of {self.sizes} exceeds the tile's shape {tile.shape}")
        return (TileType(tile.dtype, self.sizes),)


class Insert(Operation):
    """``x`` with the box at ``starts`` replaced by ``part``."""

    NAME = "insert"
    x: Value
    part: Value
    starts: tuple[int, ...]

    def infer(self) -> Sequence[Type]:
        tile, part = self.x.tile, self.part.tile
        if part.dtype is not tile.dtype:
            self.fail("E0201", f"a part of {part.dtype} inserted into a tile of {tile.dtype}")
        if not len(self.starts) == part.rank == tile.rank:
            self.fail("E0204", f"insert into a tile of rank {tile.rank} needs a part and starts of that rank")
        if any(s < 0 or s + n > d for s, n, d in zip(self.starts, part.shape, tile.shape, strict=True)):
            self.fail("E0202", f"a part of shape {part.shape} at {self.starts} exceeds the tile's shape {tile.shape}")
        return (tile.without_layout(),)


class Concat(Operation):
    """Tiles joined along ``axis``."""

    NAME = "concat"
    parts: tuple[Value, ...]
    axis: int

    def infer(self) -> Sequence[Type]:
        first = self.parts[0].tile
        if not 0 <= self.axis < first.rank:
            self.fail("E0204", f"axis {self.axis} is not one of a tile of rank {first.rank}")
        for part in self.parts[1:]:
            other = part.tile
            if other.dtype is not first.dtype:
                self.fail("E0201", f"tiles of {first.dtype} and {other.dtype} cannot be concatenated")
            if other.rank != first.rank or any(
                a != b for d, (a, b) in enumerate(zip(first.shape, other.shape, strict=True)) if d != self.axis
            ):
                self.fail("E0202", f"shapes {first.shape} and {other.shape} differ outside of axis {self.axis}")
        total = sum(p.tile.shape[self.axis] for p in self.parts)
        return (TileType(first.dtype, first.shape[: self.axis] + (total,) + first.shape[self.axis + 1 :]),)


class Take(Operation):
    """``result[..., i, ...] = x[..., indices[..., i, ...], ...]`` along ``axis`` (NumPy's take_along_axis).

    ``indices`` is an integer tile whose other extents equal those of ``x``; an index outside gives 0.
    """

    NAME = "take"
    x: Value
    indices: Value
    axis: int

    def infer(self) -> Sequence[Type]:
        tile, indices = self.x.tile, self.indices.tile
        if not indices.dtype.is_int:
            self.fail("E0201", f"indices are {indices.dtype}, not integers")
        if not 0 <= self.axis < tile.rank or indices.rank != tile.rank or any(
            a != b for d, (a, b) in enumerate(zip(tile.shape, indices.shape, strict=True)) if d != self.axis
        ):
            self.fail("E0202", f"indices of shape {indices.shape} do not fit a tile of shape {tile.shape} along axis "
                               f"{self.axis}")
        return (TileType(tile.dtype, indices.shape),)


class View(Operation):
    """The bits of the registers regrouped: each thread's bits under ``from_layout`` are read as ``dtype`` under
    ``layout``. The only operation whose value depends on layouts, both of which the user gives."""

    NAME = "view_bits"
    x: Value
    dtype: DType
    from_layout: RegisterLayout
    layout: RegisterLayout

    def infer(self) -> Sequence[Type]:
        tile, old, new = self.x.tile, self.from_layout, self.layout
        if old.shape != tile.shape:
            self.fail("E0403", f"a layout of shape {old.shape} for a tile of shape {tile.shape}")
        if old.num_threads != new.num_threads:
            self.differ(f"the layouts have {old.num_threads} and {new.num_threads} threads")
        before, after = old.num_locals * tile.dtype.bits, new.num_locals * self.dtype.bits
        if before != after:
            fits = f": {before // self.dtype.bits} elements of {self.dtype}" if before % self.dtype.bits == 0 else ""
            self.differ(f"a thread holds {before} bits before and {after} bits after the view",
                        f"take a layout that gives each thread as many bits{fits}")
        return (TileType(self.dtype, new.shape),)

    def differ(self, message: str, help: str | None = None) -> NoReturn:
        """Raise the error of two layouts that do not fit each other, at both."""
        tile, maker = self.x.tile, self.x.defining
        labels = [Label(self.span, f"{self.layout.num_locals} x {self.dtype} a thread: {self.layout}")]
        if maker is not None and maker.span.known and maker.span != self.span:
            labels.append(Label(maker.span, f"{self.from_layout.num_locals} x {tile.dtype} a thread: "
                                            f"{self.from_layout}"))
        raise UserError(Diagnostic("E0403", message, tuple(labels), help))


class Unpack(Operation):
    """The tile of ``dtype`` whose elements are the bytes ``x`` of a prepacked array, the parameter ``source``. Each
    thread's bytes hold its elements, whatever the layout of the result is: the array is packed for it
    (``ir/prepacked.py``, which also says what ``order`` is). ``layout`` is the user's wish, if any."""

    NAME = "unpack"
    x: Value
    dtype: DType
    shape: tuple[int, ...]
    source: str
    layout: RegisterLayout | None = None
    order: tuple[int, ...] = ()

    def infer(self) -> Sequence[Type]:
        tile = self.x.tile
        if tile.dtype is not u8 or tile.shape != (math.prod(self.shape) * self.dtype.packed_bits // 8,):
            self.fail("E0403", f"{tile} is not the bytes of a tile of {self.dtype} of shape {self.shape}")
        return (TileType(self.dtype, self.shape),)


class ConvertLayout(Movement):
    """The same tile in another register layout (``layout``); inserted by layout inference or asked for by the user."""

    NAME = "convert_layout"
    x: Value
    layout: RegisterLayout

    def infer(self) -> Sequence[Type]:
        tile = self.x.tile
        return (TileType(tile.dtype, tile.shape, self.layout),)


__all__ = ["Concat", "ConvertLayout", "Insert", "Reshape", "Slice", "Take", "Transpose", "Unpack", "View"]
