"""Operations of the array level only. Elementwise operations, casts, broadcasts, transpositions, reshapes and
reductions are those of the tile level, on types whose extents may be symbols.

At array level the element type of a float is nominal: the type that it is rounded to where it is an output or where the
user says ``.to``. Until then it has the precision of f32, or of f64 if that is its type.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

from tilus.ir.core import Operation, Value
from tilus.ir.dtypes import DType, i32, i64
from tilus.ir.families import Elementwise, Movement
from tilus.ir.terms import ReduceKind, Rounding, ScatterKind
from tilus.ir.types import Extent as Extent_
from tilus.ir.types import TileType, Type, array_type, extents_of

SCATTER_KINDS: tuple[ScatterKind, ...] = get_args(ScatterKind)


class Extent(Operation):
    """The value of a symbolic extent, as an i64 scalar."""

    NAME = "extent"
    symbol: str

    def infer(self) -> Sequence[Type]:
        return (TileType(i64),)


class RoundTo(Elementwise):
    """The values rounded to ``dtype``: what ``.to`` in a fused function means, as opposed to a cast that promotion asks
    for, which changes the nominal type only."""

    NAME = "round_to"
    x: Value
    dtype: DType
    rounding: Rounding = "rn"

    def infer(self) -> Sequence[Type]:
        return (self.x.tile.with_dtype(self.dtype),)


class AffineAccess(Movement):
    """Elements of ``x`` at indices that are affine in those of the result: along dimension d of ``x`` the index is
    ``starts[d]`` plus, for each ``(axis, factor)`` of ``terms[d]``, ``factor`` times the index along that axis of the
    result. Where that is outside of ``x``, the element is ``fill``; without one it never is.

    Slices, flips, pads and windows are such; the axis of a dimension's first term is the one that goes along it, those
    of others go within windows. Each axis of the result, but those of extent 1, is in one term."""

    NAME = "affine_access"
    x: Value
    shape: tuple[Extent_, ...]
    starts: tuple[Extent_, ...]
    terms: tuple[tuple[tuple[int, int], ...], ...]
    fill: bool | int | float | None = None

    def whole(self, dim: int) -> int | None:
        """The axis of the result along which all of a dimension of ``x`` is taken; None where there is none."""
        terms = self.terms[dim]
        if self.starts[dim] == 0 and len(terms) == 1 and terms[0][1] == 1 and \
                self.shape[terms[0][0]] == extents_of(self.x.tile)[dim]:
            return terms[0][0]
        return None

    def infer(self) -> Sequence[Type]:
        rank = self.x.tile.rank
        if not len(self.starts) == len(self.terms) == rank:
            self.fail("E0204", f"an access to {self.x.tile} needs {rank} starts and as many terms")
        used = [axis for terms in self.terms for axis, _ in terms]
        needed = {axis for axis, n in enumerate(self.shape) if n != 1}
        if len(set(used)) != len(used) or not needed <= set(used) <= set(range(len(self.shape))):
            self.fail("E0204", f"the axes {used} are not those of a result of shape {self.shape}, once each")
        return (array_type(self.x.tile.dtype, self.shape),)


class Lookup(Operation):
    """Elements of ``x`` at integer ``indices``, one array for each dimension of ``x``, all of the shape of the result;
    0 where an index is outside of ``x``, as one is beyond the extents of the axes ``ends`` of the result."""

    NAME = "lookup"
    x: Value
    indices: tuple[Value, ...]
    ends: tuple[int, ...] = ()

    def infer(self) -> Sequence[Type]:
        if len(self.indices) != self.x.tile.rank or not self.indices:
            self.fail("E0301", f"{self.x.tile} is indexed by {len(self.indices)} arrays")
        shape = extents_of(self.indices[0].tile)
        for index in self.indices:
            if extents_of(index.tile) != shape or not index.tile.dtype.is_int:
                self.fail("E0301", f"indices are integers of one shape, not {index.tile}")
        return (array_type(self.x.tile.dtype, shape),)


class ScatterArray(Operation):
    """``x`` with ``updates`` put (``kind`` "set") or added ("add") to its elements at integer ``indices``, one array
    for each dimension of ``x``, all of the updates' shape. An index outside of ``x`` leaves its update out; of equal
    indices one is put, and all are added in any order."""

    NAME = "scatter_array"
    kind: ScatterKind
    x: Value
    indices: tuple[Value, ...]
    updates: Value

    def infer(self) -> Sequence[Type]:
        tile, updates = self.x.tile, self.updates.tile
        if self.kind not in SCATTER_KINDS:
            self.fail("E0203", f"there is no scatter {self.kind!r}")
        if len(self.indices) != tile.rank or not self.indices:
            self.fail("E0301", f"{tile} is indexed by {len(self.indices)} arrays")
        for index in self.indices:
            if extents_of(index.tile) != extents_of(updates) or not index.tile.dtype.is_int:
                self.fail("E0301", f"indices are integers of the updates' shape {updates.shape}, not {index.tile}")
        if updates.dtype is not tile.dtype:
            self.fail("E0201", f"updates of {updates.dtype} for an array of {tile.dtype}")
        if not tile.dtype.is_arithmetic or (tile.dtype.is_int and tile.dtype.bits not in (32, 64)):
            self.fail("E0203", f"updates of {tile.dtype} are not scattered")
        return (array_type(tile.dtype, extents_of(tile)),)


class Deposit(Operation):
    """What a kernel does for a scatter into the memory of ``x``. The result, of the updates' shape, stands for its
    being done (:mod:`tilus.lowering.array.scatters`)."""

    NAME = "deposit"
    kind: ScatterKind
    x: Value
    indices: tuple[Value, ...]
    updates: Value

    def infer(self) -> Sequence[Type]:
        return (array_type(self.updates.tile.dtype, extents_of(self.updates.tile)),)


class Deposited(Operation):
    """What is in the memory of ``x`` when ``deposit`` is done."""

    NAME = "deposited"
    x: Value
    deposit: Value

    def infer(self) -> Sequence[Type]:
        return (self.x.tile,)


class Sort(Operation):
    """The i64 elements of ``x`` along its last dimension in ascending order: of all of it, or of each run of ``run``
    elements, a power of two, where that is not 0."""

    NAME = "sort"
    x: Value
    run: int = 0

    def infer(self) -> Sequence[Type]:
        if self.x.tile.dtype is not i64 or not self.x.tile.rank:
            self.fail("E0203", f"{self.x.tile} is sorted, which is no array of i64")
        return (self.x.tile,)


class Greatest(Operation):
    """The ``count`` greatest of the i64 elements of ``x`` along its last dimension, from the greatest on. Those are all
    different, and neither the least i64 nor the greatest one. Where ``run`` is not 0 these of each run of so many
    elements, ``total`` in all; the least i64 stands for what there is not."""

    NAME = "greatest"
    x: Value
    count: int
    run: int = 0
    total: Extent_ = 0

    def infer(self) -> Sequence[Type]:
        if self.x.tile.dtype is not i64 or not self.x.tile.rank:
            self.fail("E0203", f"{self.x.tile} is no array of i64")
        return (array_type(i64, (*extents_of(self.x.tile)[:-1], self.total if self.run else self.count)),)


class MergeRuns(Operation):
    """The elements of ``x`` along its last dimension in ascending order, where each run of ``run`` of them, a power of
    two, is already. Nothing else reads ``x``, whose memory is used."""

    NAME = "merge_runs"
    x: Value
    run: int

    def infer(self) -> Sequence[Type]:
        return (self.x.tile,)


class Regroup(Operation):
    """The elements of ``x`` in the same order under another shape, of which other dimensions than those of extent 1
    differ. ``totals`` are the numbers of elements of both, which are equal (checked at the call where they are
    symbols)."""

    NAME = "regroup_array"
    x: Value
    shape: tuple[Extent_, ...]
    totals: tuple[Extent_, Extent_]

    def infer(self) -> Sequence[Type]:
        first, second = self.totals
        if isinstance(first, int) and isinstance(second, int) and first != second:
            self.fail("E0202", f"an array of {first} elements is reshaped to {self.shape}, which has {second}")
        return (array_type(self.x.tile.dtype, self.shape),)


class PartialReduce(Operation):
    """The reduction of all elements of ``x`` in ``parts`` parts (a symbol), of which each gives one number: tiles go
    to the parts by turns. A reduction of those is that of ``x``."""

    NAME = "partial_reduce"
    kind: ReduceKind
    x: Value
    parts: str

    def infer(self) -> Sequence[Type]:
        return (array_type(self.x.tile.dtype, (self.parts,)),)


class Contract(Operation):
    """``a @ b``: the sum over the last dimension of ``a`` and the last but one of ``b``, whose extents are equal
    (checked at the call where symbols differ). Leading dimensions are batch and equal in both; the last ``summed`` of
    them are summed over as well. Operands have one type; the products are summed in f32 (f64 for f64, i32 for 8-bit
    integers)."""

    NAME = "contract"
    a: Value
    b: Value
    precision: str = "ieee"
    summed: int = 0

    @property
    def batch(self) -> int:
        """How many batch dimensions the result has."""
        return self.a.tile.rank - 2 - self.summed

    def infer(self) -> Sequence[Type]:
        a, b = self.a.tile, self.b.tile
        shape_a, shape_b = extents_of(a), extents_of(b)
        if len(shape_a) < 2 or len(shape_a) != len(shape_b):
            self.fail("E0202", f"a contraction needs two arrays of one rank ≥ 2, not {a} and {b}")
        if shape_a[:-2] != shape_b[:-2]:
            self.fail("E0202", f"batch dimensions {shape_a[:-2]} and {shape_b[:-2]} differ")
        m, n = shape_a[-1], shape_b[-2]
        if m != n and isinstance(m, int) and isinstance(n, int):
            self.fail("E0202", f"a contraction of {a} and {b}: the inner dimensions are {m} and {n}")
        if a.dtype is not b.dtype and not (a.dtype.is_int and b.dtype.is_int):
            self.fail("E0206", f"a contraction of {a.dtype} and {b.dtype}")
        if a.dtype.is_int and not a.dtype.bits == b.dtype.bits == 8:
            self.fail("E0206", f"a contraction of {a.dtype} and {b.dtype} is not supported",
                      help="convert the operands to f32 or to 8-bit integers")
        if not a.dtype.is_arithmetic:
            self.fail("E0206", f"a contraction of {a.dtype}: it is a storage type", help="convert it with `.to(...)`")
        dtype = i32 if a.dtype.is_int else a.dtype
        if not 0 <= self.summed <= len(shape_a) - 2:
            self.fail("E0202", f"{self.summed} dimensions of {a} before the last two are summed over")
        return (array_type(dtype, (*shape_a[: self.batch], shape_a[-2], shape_b[-1])),)


class Attend(Operation):
    """The rows of ``values`` weighed by a softmax along the last dimension of ``scores``: row i of the result is the
    sum over j of w[i, j] · values[j], with w[i, j] = exp(scores[i, j] − max) / sum, rounded to ``rounding`` if that is
    given. Rows whose scores are all −∞ give NaN, or 0 where they are ``guarded``. Leading dimensions are batch and
    equal in both. No row of w is ever whole: maximum and sums are kept while the products are added (Milakov and
    Gimelshein's online softmax)."""

    NAME = "attend"
    scores: Value
    values: Value
    rounding: DType | None = None
    guarded: bool = False

    @property
    def batch(self) -> int:
        """How many batch dimensions there are."""
        return self.scores.tile.rank - 2

    def infer(self) -> Sequence[Type]:
        scores, values = extents_of(self.scores.tile), extents_of(self.values.tile)
        if len(scores) < 2 or len(scores) != len(values) or scores[:-2] != values[:-2]:
            self.fail("E0202", f"attention of {self.scores.tile} and {self.values.tile}, whose batches are not equal")
        if not (self.scores.tile.dtype.is_float and self.values.tile.dtype.is_float):
            self.fail("E0206", f"attention of {self.scores.tile.dtype} and {self.values.tile.dtype}: not of floats")
        return (array_type(self.values.tile.dtype, (*scores[:-1], values[-1])),)
