"""Reductions, scans, dot and per-element maps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

from tilus.ir.core import Block, Operation, Value
from tilus.ir.dtypes import (
    DType,
    bf16,
    f4e2m1,
    f6e2m3,
    f6e3m2,
    f8e4m3fn,
    f8e5m2,
    f8e8m0fnu,
    f16,
    f32,
    f64,
    i8,
    i32,
    i64,
    parse_dtype,
    u8,
    u16,
    u32,
)
from tilus.ir.families import Elementwise
from tilus.ir.terms import ReduceKind, ScanKind
from tilus.ir.types import TileType, Type

REDUCE_KINDS: tuple[ReduceKind, ...] = get_args(ReduceKind)
SCAN_KINDS: tuple[ScanKind, ...] = get_args(ScanKind)


def _check_axis(op: Operation, tile: TileType, axis: int) -> None:
    if not 0 <= axis < tile.rank:
        op.fail("E0204", f"axis {axis} is not one of a tile of shape {tile.shape}")


class Reduce(Operation):
    """Reduction along ``axis``, which is dropped. 16-bit float sums accumulate in f32, 8-bit integer sums in i32 (the
    front end casts before and after); arg kinds give the least index of an extremum, as i64."""

    NAME = "reduce"
    kind: ReduceKind
    x: Value
    axis: int

    def infer(self) -> Sequence[Type]:
        tile = self.x.tile
        _check_axis(self, tile, self.axis)
        dtype, kind = tile.dtype, self.kind
        if kind not in REDUCE_KINDS:
            self.fail("E0203", f"there is no reduction {kind!r}")
        if kind in ("any", "all"):
            valid = dtype.is_bool
        elif kind == "xor":
            valid = dtype.is_int and dtype.is_arithmetic
        else:
            valid = dtype.is_arithmetic
        if not valid:
            self.fail("E0203", f"reduction {kind} is not defined for {dtype}")
        if kind in ("min", "max", "argmin", "argmax") and tile.shape[self.axis] == 0:
            self.fail("E0204", f"reduction {kind} over an empty axis has no value")
        shape = tile.shape[: self.axis] + tile.shape[self.axis + 1 :]
        return (TileType(i64 if kind.startswith("arg") else dtype, shape),)


class ReduceWith(Operation):
    """Reduction of several tiles of one shape at once by a user-given associative ``combine``: a block with 2n scalar
    arguments (left then right) that yields n scalars. The order of combination is left to right, in any grouping."""

    NAME = "reduce_with"
    xs: tuple[Value, ...]
    axis: int
    combine: Block

    def infer(self) -> Sequence[Type]:
        tile = self.xs[0].tile
        _check_axis(self, tile, self.axis)
        if tile.shape[self.axis] == 0:
            self.fail("E0204", "a reduction with a user-given function over an empty axis has no value")
        shape = tile.shape[: self.axis] + tile.shape[self.axis + 1 :]
        return tuple(TileType(x.tile.dtype, shape) for x in self.xs)


class Scan(Operation):
    """Inclusive scan along ``axis``; from the far end where ``reverse``."""

    NAME = "scan"
    kind: ScanKind
    x: Value
    axis: int
    reverse: bool = False

    def infer(self) -> Sequence[Type]:
        _check_axis(self, self.x.tile, self.axis)
        if self.kind not in SCAN_KINDS:
            self.fail("E0203", f"there is no scan {self.kind!r}")
        if not self.x.tile.dtype.is_arithmetic:
            self.fail("E0203", f"scan {self.kind} is not defined for {self.x.tile.dtype}")
        return (self.x.tile.without_layout(),)


class ScanWith(Operation):
    """Inclusive scan of several tiles by a user-given associative ``combine`` (as in :class:`ReduceWith`)."""

    NAME = "scan_with"
    xs: tuple[Value, ...]
    axis: int
    combine: Block
    reverse: bool = False

    def infer(self) -> Sequence[Type]:
        _check_axis(self, self.xs[0].tile, self.axis)
        return tuple(x.tile.without_layout() for x in self.xs)


DOT_FAMILIES: tuple[tuple[tuple[DType, ...], tuple[DType, ...]], ...] = (
    ((f16,), (f32, f16)),
    ((bf16,), (f32,)),
    ((f32,), (f32,)),
    ((f64,), (f64,)),
    ((i8, u8), (i32,)),
    ((f8e4m3fn, f8e5m2), (f32,)),
)
"""Types that operands of a dot may have, any two of a family, and those of its accumulator, the default first."""
DOT_TYPES = {(a, b): accumulators for types, accumulators in DOT_FAMILIES for a in types for b in types}
"""For each supported pair of operand types, the accumulator types."""


SPARSE_METADATA: dict[int, tuple[DType, int]] = {16: (u16, 16), 8: (u32, 32)}
"""By the bits of an element the type of a word of metadata, and the columns that it is for."""


SCALED_ELEMENTS: tuple[DType, ...] = (f8e4m3fn, f8e5m2, f6e3m2, f6e2m3, f4e2m1)
"""Types that operands of a scaled dot may have, any two of them."""
SCALE_BLOCKS: dict[DType, int] = {f8e8m0fnu: 32, f8e4m3fn: 16}
"""By the type of the scales how many neighbours along K share one: those of the OCP formats, and of NVFP4."""


class Dot(Operation):
    """``a @ b + accumulator`` over the last two dimensions (leading ones are batch).

    ``precision`` is ``"ieee"``, or ``"tf32"`` which lets f32 operands be rounded to tf32. ``unit`` names what does it
    (``lowering/dots``); it is empty until that has been chosen. With ``metadata`` ``a`` holds two of each four elements
    along K, (M, K / 2), and the metadata where they were: four bits for two elements, the index of the first and, above
    it, that of the second, in words along K from the lowest bits on: u16 (M, K / 16) for elements of 16 bits, u32
    (M, K / 32) for those of 8.

    With ``a_scales`` (M, K / block) and ``b_scales`` (K / block, N), whose type says how large blocks are
    (``SCALE_BLOCKS``), elements count times the scale of their block. Operands of less than 8 bits may be given in the
    bytes that instructions take, u8: ``formats`` then has the names of their types. The code of an f4e2m1 lies at bit 2
    of its byte, others at bit 0.
    """

    NAME = "dot"
    a: Value
    b: Value
    accumulator: Value
    precision: str = "ieee"
    unit: str = ""
    metadata: Value | None = None
    a_scales: Value | None = None
    b_scales: Value | None = None
    formats: tuple[str, ...] = ()

    @property
    def is_scaled(self) -> bool:
        """Whether elements count times the scales of their blocks."""
        return self.a_scales is not None

    @property
    def is_plain(self) -> bool:
        """Whether it is of A and B as they are."""
        return self.metadata is None and not self.is_scaled

    @property
    def elements(self) -> tuple[DType, DType]:
        """The types of what is multiplied."""
        if self.formats:
            a, b = map(parse_dtype, self.formats)
            return a, b
        return self.a.tile.dtype, self.b.tile.dtype

    def infer(self) -> Sequence[Type]:
        a, b, c = self.a.tile, self.b.tile, self.accumulator.tile
        if self.a_scales is not None and self.b_scales is not None:
            self._check_scales(self.a_scales.tile, self.b_scales.tile)
            accumulators: tuple[DType, ...] | None = (f32,)
        else:
            accumulators = DOT_TYPES.get((a.dtype, b.dtype))
        if accumulators is None:
            pairs = ", ".join(f"{x}×{y}" for x, y in DOT_TYPES)
            self.fail("E0206", f"dot of {a.dtype} and {b.dtype} is not supported",
                      help=f"convert the operands to one of: {pairs}")
        if c.dtype not in accumulators:
            self.fail("E0206", f"dot of {a.dtype} and {b.dtype} accumulates in "
                               f"{' or '.join(map(str, accumulators))}, not {c.dtype}")
        if a.rank < 2 or a.rank != b.rank:
            self.fail("E0202", f"dot needs two tiles of one rank ≥ 2, not shapes {a.shape} and {b.shape}")
        if self.metadata is not None:
            a = TileType(a.dtype, (*a.shape[:-1], 2 * a.shape[-1]))
            self._check_metadata(a, self.metadata.tile)
        if a.shape[-1] != b.shape[-2] or a.shape[:-2] != b.shape[:-2]:
            self.fail("E0202", f"dot of shapes {a.shape} and {b.shape}: the inner dimensions are "
                               f"{a.shape[-1]} and {b.shape[-2]}")
        shape = (*a.shape[:-1], b.shape[-1])
        if c.shape != shape:
            self.fail("E0202", f"dot of shapes {a.shape} and {b.shape} gives {shape}, but the accumulator has "
                               f"{c.shape}")
        if self.precision not in ("ieee", "tf32"):
            self.fail("E0107", f"precision is 'ieee' or 'tf32', not {self.precision!r}")
        return (TileType(c.dtype, shape),)

    def _check_scales(self, a_scales: TileType, b_scales: TileType) -> None:
        """Raises UserError where elements or scales have other types or shapes than a scaled dot takes."""
        (a, b), (left, right) = (self.a.tile, self.b.tile), self.elements
        for dtype in (left, right):
            if dtype not in SCALED_ELEMENTS:
                self.fail("E0206", f"a scaled dot of {left} and {right} is not supported",
                          help=f"elements are {', '.join(map(str, SCALED_ELEMENTS))}")
        if a.rank != 2 or b.rank != 2:
            self.fail("E0202", f"a scaled dot of shapes {a.shape} and {b.shape}: both operands have rank 2")
        scale = a_scales.dtype
        block = SCALE_BLOCKS.get(scale)
        if block is None or b_scales.dtype is not scale:
            self.fail("E0206", f"scales of {a_scales.dtype} and {b_scales.dtype} in a scaled dot",
                      help="both are f8e8m0fnu, one for 32 elements along K, or f8e4m3fn, one for 16 of f4e2m1")
        if block == 16 and (left is not f4e2m1 or right is not f4e2m1):
            self.fail("E0206", f"a scaled dot of {left} and {right} with scales of {scale}",
                      help="elements of other types than f4e2m1 have scales of f8e8m0fnu, one for 32 of them")
        k = a.shape[1]
        if k % block:
            self.fail("E0202", f"{k} columns of A in a scaled dot, of which {block} share a scale",
                      help=f"take tiles whose extent along K is a multiple of {block}; what lies beyond an array is 0")
        for name, tile, scales, wanted in (("A", a, a_scales, (a.shape[0], k // block)),
                                           ("B", b, b_scales, (k // block, b.shape[1]))):
            if scales.shape != wanted:
                self.fail("E0202", f"scales {scale}{list(scales.shape)} of {name} {list(tile.shape)} in a scaled dot",
                          help=f"there is one for {block} elements along K: a tile of shape {wanted}")

    def _check_metadata(self, a: TileType, metadata: TileType) -> None:
        """Raises UserError where it is not that of A, given with all of its columns."""
        wanted = SPARSE_METADATA.get(a.dtype.bits)
        if wanted is None or a.rank != 2:
            self.fail("E0206", f"a sparse dot of {a.dtype} and rank {a.rank} is not supported",
                      help="A is of rank 2, of f16, bf16, 8-bit integers or 8-bit floats")
        dtype, columns = wanted
        if metadata.dtype is not dtype or a.shape[1] % columns or metadata.shape != (a.shape[0], a.shape[1] // columns):
            self.fail("E0202", f"metadata {metadata.dtype}{list(metadata.shape)} of a sparse dot whose A is, with its "
                               f"zeros, {a.dtype}{list(a.shape)}",
                      help=f"it is {dtype}, with a word for {columns} columns of A, of which there are a multiple")


class Map(Elementwise):
    """Per-element scalar code: ``body`` takes one scalar of each tile (all of one shape), then the ``captured``
    block-uniform scalars, and yields scalars. Elements run independently."""

    NAME = "map"
    xs: tuple[Value, ...]
    captured: tuple[Value, ...]
    body: Block

    def infer(self) -> Sequence[Type]:
        shape = self.xs[0].tile.shape
        for x in self.xs[1:]:
            if x.tile.shape != shape:
                self.fail("E0202", f"map over tiles of shapes {shape} and {x.tile.shape}")
        return tuple(TileType(v.tile.dtype, shape) for v in self.body.terminator.operands)


__all__ = ["SCALED_ELEMENTS", "SCALE_BLOCKS", "Dot", "Map", "Reduce", "ReduceWith", "Scan", "ScanWith"]
