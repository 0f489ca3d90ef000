"""Memory at tile level: views, loads, stores, gathers, atomics, shared memory and asynchronous copies.

Offsets and indices count from the start of a view; an element outside the view (negative ones too) reads as
``other`` and is not written. Scalars are accessed with ``shape=()``.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeVar, get_args

from tilus.ir.core import Effect, Operation, Value
from tilus.ir.dtypes import DType, i64, u8, u32
from tilus.ir.families import Access, AsyncCopy, DerivedView
from tilus.ir.terms import AtomicKind, Order, Scope
from tilus.ir.types import TileType, Type, ViewType

if TYPE_CHECKING:
    from tilus.layouts import RegisterLayout, SharedLayout

T = TypeVar("T")
ATOMIC_KINDS: tuple[AtomicKind, ...] = get_args(AtomicKind)
ORDERS = ("relaxed", "acquire", "release", "acq_rel")
SCOPES = ("block", "cluster", "device", "system")


class Dim(Operation):
    """The extent of a view along ``axis``, as i64."""

    NAME = "dim"
    view: Value
    axis: int

    def infer(self) -> Sequence[Type]:
        return (TileType(i64),)


class Stride(Operation):
    """The stride of a view along ``axis`` in elements, as i64."""

    NAME = "stride"
    view: Value
    axis: int

    def infer(self) -> Sequence[Type]:
        return (TileType(i64),)


class Subview(DerivedView):
    """A window of a view: per dimension of ``view`` a start and an extent (i64 scalars). ``dropped`` lists dimensions
    that a full index removes (extent 1). The window's own bounds are clipped to those of ``view``: elements before
    its beginning or past its end are out of bounds, and so is everything beyond the window's extent."""

    NAME = "subview"
    view: Value
    starts: tuple[Value, ...]
    extents: tuple[Value, ...]
    shape: tuple[int | None, ...]
    dropped: tuple[int, ...] = ()

    def infer(self) -> Sequence[Type]:
        view = self.view.view
        if not len(self.starts) == len(self.extents) == view.rank:
            self.fail("E0304", f"a view of rank {view.rank} is indexed by {len(self.starts)} indices")
        return (ViewType(view.dtype, self.shape, view.space),)


class PermuteView(DerivedView):
    """A view with its dimensions permuted: dimension d of the result is ``permutation[d]`` of the operand."""

    NAME = "permute_view"
    view: Value
    permutation: tuple[int, ...]

    def infer(self) -> Sequence[Type]:
        view = self.view.view
        if sorted(self.permutation) != list(range(view.rank)):
            self.fail("E0204", f"{self.permutation} does not permute {view.rank} dimensions")
        return (ViewType(view.dtype, tuple(view.shape[p] for p in self.permutation), view.space),)


class CollapseView(DerivedView):
    """A view of a whole contiguous array with adjacent dimensions taken as one: dimension d of the result is the next
    ``groups[d]`` dimensions of the operand, of which the last runs fastest."""

    NAME = "collapse_view"
    view: Value
    groups: tuple[int, ...]

    def infer(self) -> Sequence[Type]:
        view = self.view.view
        if view.space != "global" or sum(self.groups) != view.rank or min(self.groups, default=1) < 1:
            self.fail("E0204", f"groups {self.groups} do not divide the dimensions of {view}")
        return (ViewType(view.dtype, tuple(_product(part) for part in split_dims(view.shape, self.groups))),)


class TileBytes(DerivedView):
    """The bytes of a prepacked array (``ir/prepacked.py``): of an array of shape (..., K, N) in columns of tiles that
    are ``columns`` wide a view of u8 of shape (..., ⌈N / columns⌉, bytes of a column). A column has ``rows`` rows or a
    multiple of that; 0 while nobody has said."""

    NAME = "tile_bytes"
    view: Value
    columns: int
    rows: int = 0

    @property
    def row_bytes(self) -> int:
        """Of a row of a column."""
        return self.columns * self.view.view.dtype.packed_bits // 8

    def infer(self) -> Sequence[Type]:
        view = self.view.view
        if view.space != "global" or view.rank < 2 or self.columns * view.dtype.packed_bits % 8 or self.columns < 1:
            self.fail("E0304", f"{view} has no tiles of {self.columns} columns in whole bytes")
        count = view.shape[-1]
        return (ViewType(u8, (*view.shape[:-2], None if count is None else -(-count // self.columns), None)),)


def split_dims(dims: Sequence[T], groups: Sequence[int]) -> list[tuple[T, ...]]:
    """What belongs to the dimensions of a view, in the groups that :class:`CollapseView` takes as one."""
    rest = iter(dims)
    return [tuple(itertools.islice(rest, n)) for n in groups]


def _product(extents: Sequence[int | None]) -> int | None:
    return None if None in extents else math.prod(n for n in extents if n is not None)


def _check_offsets(op: Operation, view: ViewType, offsets: tuple[Value, ...], shape: tuple[int, ...]) -> None:
    if len(offsets) != view.rank:
        op.fail("E0301", f"an array of rank {view.rank} is accessed with {len(offsets)} offsets")
    if shape and len(shape) != view.rank:
        op.fail(
            "E0301",
            f"an array of rank {view.rank} is accessed with a tile of shape {shape}",
            help="index the other dimensions away first, e.g. `a[i, :, :]`",
        )


def _check_mask(op: Operation, mask: Value | None, shape: tuple[int, ...]) -> None:
    if mask is None:
        return
    if not mask.tile.dtype.is_bool:
        op.fail("E0302", f"the mask is {mask.tile.dtype}, not bool")
    if mask.tile.shape != shape:
        op.fail("E0302", f"a mask of shape {mask.tile.shape} for an access of shape {shape}")


class Load(Access):
    """The tile of ``shape`` at ``offsets`` (i64 scalars). Where ``mask`` is false or the element is out of bounds,
    ``other`` (a scalar of the element type; None means zero bits). ``layout`` is the user's wish, if any. ``in_bounds``
    names the dimensions along which every element is known to be in bounds. ``ring`` is the way by which the tile gets
    into shared memory ahead of its loop's iteration, empty where it does not; ``stages`` how many tiles its ring has, 0
    for those of the loop."""

    NAME = "load"
    view: Value
    offsets: tuple[Value, ...]
    shape: tuple[int, ...]
    mask: Value | None = None
    other: Value | None = None
    layout: RegisterLayout | None = None
    in_bounds: tuple[int, ...] = ()
    ring: str = ""
    stages: int = 0

    def infer(self) -> Sequence[Type]:
        view = self.view.view
        _check_offsets(self, view, self.offsets, self.shape)
        _check_mask(self, self.mask, self.shape)
        if self.other is not None and self.other.type != TileType(view.dtype):
            self.fail("E0302", f"`other` is {self.other.type}, but the array's elements are {view.dtype}")
        return (TileType(view.dtype, self.shape),)

    def effects(self) -> Sequence[Effect]:
        return (Effect("read", self.view.view.space, self.view),)


class AskFor(Access):
    """Asks the memory for the tile of ``shape`` at ``offsets``, which a load will read; it may be anywhere."""

    NAME = "ask_for"
    view: Value
    offsets: tuple[Value, ...]
    shape: tuple[int, ...]

    def infer(self) -> Sequence[Type]:
        _check_offsets(self, self.view.view, self.offsets, self.shape)
        return ()

    def effects(self) -> Sequence[Effect]:
        return (Effect("io"),)


class Store(Access):
    """Writes ``value`` at ``offsets`` where ``mask`` holds and the element is in bounds."""

    NAME = "store"
    view: Value
    offsets: tuple[Value, ...]
    value: Value
    mask: Value | None = None
    in_bounds: tuple[int, ...] = ()

    def infer(self) -> Sequence[Type]:
        view, tile = self.view.view, self.value.tile
        _check_offsets(self, view, self.offsets, tile.shape)
        _check_mask(self, self.mask, tile.shape)
        if tile.dtype is not view.dtype:
            self.fail(
                "E0201",
                f"a tile of {tile.dtype} is stored into an array of {view.dtype}",
                help=f"convert it: `.to(tl.{view.dtype})`",
            )
        return ()

    def effects(self) -> Sequence[Effect]:
        return (Effect("write", self.view.view.space, self.view),)


def _check_indices(op: Operation, view: ViewType, indices: tuple[Value, ...]) -> tuple[int, ...]:
    if len(indices) != view.rank:
        op.fail("E0301", f"an array of rank {view.rank} is indexed by {len(indices)} index tiles")
    shape = indices[0].tile.shape if indices else ()
    for index in indices:
        if not index.tile.dtype.is_int:
            op.fail("E0301", f"an index is {index.tile.dtype}, not an integer")
        if index.tile.shape != shape:
            op.fail("E0301", f"index tiles have shapes {shape} and {index.tile.shape}")
    return shape


class Gather(Access):
    """``result[i] = view[indices_0[i], indices_1[i], ...]``; masked and out-of-bounds elements give ``other``.
    ``ring`` and ``stages`` are as of :class:`Load`."""

    NAME = "gather"
    view: Value
    indices: tuple[Value, ...]
    mask: Value | None = None
    other: Value | None = None
    ring: str = ""
    stages: int = 0

    def infer(self) -> Sequence[Type]:
        shape = _check_indices(self, self.view.view, self.indices)
        _check_mask(self, self.mask, shape)
        return (TileType(self.view.view.dtype, shape),)

    def effects(self) -> Sequence[Effect]:
        return (Effect("read", self.view.view.space, self.view),)


class GatherWords(Access):
    """``result[i]`` (u32) has the bits of ``count`` elements, of :class:`Gather` at ``indices`` and after that along
    the last dimension, the first one's lowest; those that are masked or out of bounds are 0. Above them is anything."""

    NAME = "gather_words"
    view: Value
    indices: tuple[Value, ...]
    count: int
    mask: Value | None = None

    def infer(self) -> Sequence[Type]:
        shape = _check_indices(self, self.view.view, self.indices)
        _check_mask(self, self.mask, shape)
        if self.count * self.view.view.dtype.bits > u32.bits:
            self.fail("E0201", f"{self.count} elements of {self.view.view.dtype} do not fit u32")
        return (TileType(u32, shape),)

    def effects(self) -> Sequence[Effect]:
        return (Effect("read", self.view.view.space, self.view),)


class Scatter(Access):
    """``view[indices_0[i], ...] = value[i]``; of equal indices an unspecified one wins."""

    NAME = "scatter"
    view: Value
    indices: tuple[Value, ...]
    value: Value
    mask: Value | None = None

    def infer(self) -> Sequence[Type]:
        shape = _check_indices(self, self.view.view, self.indices)
        _check_mask(self, self.mask, shape)
        if self.value.tile.without_layout() != TileType(self.view.view.dtype, shape):
            self.fail(
                "E0201",
                f"{self.value.tile} is scattered into an array of {self.view.view.dtype} by indices of shape {shape}",
            )
        return ()

    def effects(self) -> Sequence[Effect]:
        return (Effect("write", self.view.view.space, self.view),)


class Atomic(Access):
    """Atomic read-modify-write of ``view`` at index tiles (or scalars); gives the old values (0 where masked or out of
    bounds). ``compare`` is the expected value of ``cas``."""

    NAME = "atomic"
    kind: AtomicKind
    view: Value
    indices: tuple[Value, ...]
    value: Value
    compare: Value | None = None
    mask: Value | None = None
    order: Order = "relaxed"
    scope: Scope = "device"

    def infer(self) -> Sequence[Type]:
        view = self.view.view
        shape = _check_indices(self, view, self.indices)
        _check_mask(self, self.mask, shape)
        dtype = view.dtype
        if self.kind not in ATOMIC_KINDS:
            self.fail("E0203", f"there is no atomic {self.kind!r}")
        if self.kind in ("and", "or", "xor"):
            valid = dtype.is_int and dtype.bits in (32, 64)
        elif self.kind in ("min", "max"):
            valid = (dtype.is_int and dtype.bits in (32, 64)) or dtype.name == "f32"
        elif self.kind == "add":
            valid = (dtype.is_int and dtype.bits in (32, 64)) or dtype.name in ("f16", "bf16", "f32", "f64")
        else:
            valid = dtype.is_arithmetic and dtype.bits in (32, 64)
        if not valid:
            self.fail("E0203", f"atomic {self.kind} is not defined for {dtype}")
        if self.value.tile.without_layout() != TileType(dtype, shape):
            self.fail("E0201", f"atomic {self.kind} of {self.value.tile} on {dtype} elements of shape {shape}")
        if (self.compare is None) == (self.kind == "cas"):
            self.fail("E0107", "atomic cas takes a value to compare with, the others do not")
        if self.order not in ORDERS or self.scope not in SCOPES:
            self.fail("E0107", f"order is one of {', '.join(ORDERS)}; scope one of {', '.join(SCOPES)}")
        return (TileType(dtype, shape),)

    def effects(self) -> Sequence[Effect]:
        return (Effect("atomic", self.view.view.space, self.view),)


class AllocShared(Operation):
    """Shared memory that lives as long as the block; uninitialised. ``layout`` is the user's, or None to choose;
    ``ordered`` says that the compiler made it and its barriers."""

    NAME = "alloc_shared"
    dtype: DType
    shape: tuple[int, ...]
    layout: SharedLayout | None = None
    ordered: bool = False

    def infer(self) -> Sequence[Type]:
        return (ViewType(self.dtype, self.shape, "shared", self.layout),)

    def effects(self) -> Sequence[Effect]:
        return (Effect("alloc", "shared"),)


class CopyAsync(AsyncCopy):
    """Starts copying the tile at ``offsets`` of a global view into all of a shared view; elements out of bounds or
    masked become 0. Complete after the ``wait`` that covers its group."""

    NAME = "copy_async"
    destination: Value
    source: Value
    offsets: tuple[Value, ...]
    mask: Value | None = None
    in_bounds: tuple[int, ...] = ()

    def infer(self) -> Sequence[Type]:
        to, source = self.destination.view, self.source.view
        if to.space != "shared" or source.space != "global":
            self.fail("E0301", f"copy_async goes from global to shared memory, not from {source.space} to {to.space}")
        if to.dtype is not source.dtype:
            self.fail("E0201", f"copy_async from {source.dtype} to {to.dtype}")
        _check_offsets(self, source, self.offsets, tuple(d or 0 for d in to.shape))
        return ()

    def effects(self) -> Sequence[Effect]:
        return (Effect("read", "global", self.source), Effect("write", "shared", self.destination))


class GatherAsync(Access, AsyncCopy):
    """Starts copying ``view[indices]`` into all of a shared view; elements out of bounds or masked become 0. Complete
    after the ``wait`` that covers its group. The compiler's form of a gather of a staged loop."""

    NAME = "gather_async"
    destination: Value
    view: Value
    indices: tuple[Value, ...]
    mask: Value | None = None

    def infer(self) -> Sequence[Type]:
        to, source = self.destination.view, self.view.view
        if to.space != "shared" or source.space != "global":
            self.fail("E0301", f"gather_async goes from global to shared memory, not from {source.space} to {to.space}")
        if to.dtype is not source.dtype:
            self.fail("E0201", f"gather_async from {source.dtype} to {to.dtype}")
        shape = _check_indices(self, source, self.indices)
        _check_mask(self, self.mask, shape)
        if shape != to.shape:
            self.fail("E0301", f"index tiles of shape {shape} fill a view of shape {to.shape}")
        return ()

    def effects(self) -> Sequence[Effect]:
        return (Effect("read", "global", self.view), Effect("write", "shared", self.destination))


class CommitAsync(Operation):
    """Closes the group of the copies started since the last commit."""

    NAME = "commit_async"

    def effects(self) -> Sequence[Effect]:
        return (Effect("sync"),)


class WaitAsync(Operation):
    """Waits until at most ``pending`` groups are not complete (for the executing threads; others need a barrier)."""

    NAME = "wait_async"
    pending: int = 0

    def effects(self) -> Sequence[Effect]:
        return (Effect("sync"),)


__all__ = [
    "AllocShared", "AskFor", "Atomic", "CollapseView", "CommitAsync", "CopyAsync", "Dim", "Gather", "GatherAsync",
    "GatherWords", "Load", "PermuteView", "Scatter", "Store", "Stride", "Subview", "TileBytes", "WaitAsync",
]
