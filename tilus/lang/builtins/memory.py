"""Loads, stores, gathers, atomics, shared memory and asynchronous copies."""

from __future__ import annotations

from typing import Any

from tilus.ir.dtypes import DType
from tilus.ir.ops import (
    AllocShared,
    Atomic,
    CommitAsync,
    CopyAsync,
    Gather,
    Load,
    Scatter,
    Store,
    WaitAsync,
)
from tilus.lang.context import current
from tilus.lang.values import (
    Tile,
    absent_element,
    as_index,
    as_tile,
    broadcast_shapes,
    broadcast_to,
    constant,
    element_type,
    emit,
    fail,
    static_shape,
)
from tilus.lang.views import View


def _view(array: Any, what: str) -> View:
    if not isinstance(array, View):
        kind = "tile" if isinstance(array, Tile) else f"Python {type(array).__name__}"
        raise fail("E0301", f"{what} takes an array or a view of one, not a {kind}")
    return array


def _tuple(items: Any) -> tuple[Any, ...]:
    return tuple(items) if isinstance(items, (tuple, list)) else (items,)


def _offsets(view: View, offsets: Any) -> tuple[Any, ...]:
    given = (0,) * view.rank if offsets is None else _tuple(offsets)
    if len(given) != view.rank:
        raise fail("E0301", f"an array of rank {view.rank} is accessed with {len(given)} offsets",
                   help=f"give {view.rank} offsets, e.g. {(0,) * view.rank}")
    return tuple(as_index(o, "an offset").value for o in given)


def _mask(mask: Any, shape: tuple[int, ...]) -> Any:
    if mask is None:
        return None
    tile = as_tile(mask)
    if not tile.dtype.is_bool:
        raise fail("E0302", f"the mask is {tile.dtype}, not bool", help="compare it, e.g. `x != 0`")
    if broadcast_shapes(tile.shape, shape) != shape:
        raise fail("E0302", f"a mask of shape {tile.shape} for an access of shape {shape}")
    return broadcast_to(tile, shape).value


def _other(other: Any, dtype: DType) -> Any:
    if other is None:
        return absent_element(dtype)
    if isinstance(other, Tile):
        if other.shape or other.dtype is not dtype:
            raise fail("E0302", f"`other` is {other.value.type}, not a scalar of {dtype}")
        return other.value
    if dtype.is_int and isinstance(other, float):
        raise fail("E0302", f"`other` is {other}, which is not a value of {dtype}")
    return constant(other, dtype).value


def load(array: View, offsets: Any = None, shape: Any = None, *, mask: Any = None, other: Any = None,
         layout: Any = None, stages: int = 0) -> Tile:
    """The tile of ``shape`` at ``offsets`` of an array or view (default: all of a view of constant extents).

    Elements out of bounds or masked off read as ``other`` (default 0). ``mask`` broadcasts to ``shape``. In a pipelined
    loop ``stages`` is how many tiles of this load are in shared memory at once, if not as many as the loop says; 1:
    none is ahead of its iteration. That changes no value.
    """
    view = _view(array, "tl.load")
    if shape is None:
        if any(d is None for d in view.type.shape):
            raise fail("E0105", "tl.load needs a shape: the extents of this array are run-time values",
                       help="tl.load(array, offsets, shape); one element is array[i, j]")
        shape = view.type.shape
    extents = static_shape(shape)
    if len(extents) != view.rank:
        raise fail("E0301", f"an array of rank {view.rank} is loaded as a tile of shape {extents}",
                   help="index the other dimensions away first, e.g. `a[i, :, :]`")
    tile = emit(Load(view.value, _offsets(view, offsets), extents, _mask(mask, extents), _other(other, view.dtype),
                     layout, stages=static_shape((stages,), "stages")[0], span=current().span))
    tile.pinned = layout
    return tile


def store(array: View, offsets: Any, value: Any, *, mask: Any = None) -> None:
    """Writes the tile ``value`` at ``offsets``; elements out of bounds or masked off are not written."""
    view = _view(array, "tl.store")
    tile = as_tile(value, None if isinstance(value, Tile) else view.dtype, "tl.store")
    if tile.dtype is not view.dtype:
        raise fail("E0201", f"a tile of {tile.dtype} is stored into an array of {view.dtype}",
                   help=f"convert it: `.to(tl.{view.dtype})`")
    if tile.shape and len(tile.shape) != view.rank:
        raise fail("E0301", f"a tile of shape {tile.shape} is stored into an array of rank {view.rank}",
                   help="index the other dimensions away first, e.g. `a[i, :, :]`")
    current().emit(Store(view.value, _offsets(view, offsets), tile.value, _mask(mask, tile.shape),
                         span=current().span))


def _indices(view: View, indices: Any) -> tuple[tuple[Any, ...], tuple[int, ...]]:
    tiles = [as_tile(i, None, "an index") for i in _tuple(indices)]
    if len(tiles) != view.rank:
        raise fail("E0301", f"an array of rank {view.rank} is indexed by {len(tiles)} index tiles")
    shape: tuple[int, ...] = ()
    for tile in tiles:
        if not tile.dtype.is_int:
            raise fail("E0301", f"an index is {tile.dtype}, not an integer")
        shape = broadcast_shapes(shape, tile.shape)
    return tuple(broadcast_to(t, shape).value for t in tiles), shape


def gather(array: View, indices: Any, *, mask: Any = None, other: Any = None, stages: int = 0) -> Tile:
    """``array[indices]`` elementwise: one integer tile per dimension, broadcast together. Elements out of bounds or
    masked off read as ``other`` (default 0). ``stages`` is as of :func:`load`."""
    view = _view(array, "tl.gather")
    values, shape = _indices(view, indices)
    return emit(Gather(view.value, values, _mask(mask, shape), _other(other, view.dtype),
                       stages=static_shape((stages,), "stages")[0], span=current().span))


def scatter(array: View | Tile, indices: Any, value: Any, axis: int = 0, *, mask: Any = None) -> Tile | None:
    """``array[indices] = value`` elementwise; where indices are equal an unspecified value wins.

    In a fused function it gives a new array, in which ``value`` is at ``indices`` along ``axis``: see
    :func:`scatter_add`.
    """
    if isinstance(array, Tile) and current().level == "array":
        from tilus.lang import array_scatter

        if mask is not None:
            raise fail("E0107", "tl.scatter takes no mask in a fused function",
                       help="choose the indices by tl.where: one outside of the array leaves its update out")
        return array_scatter.scattered("set", array, indices, value, axis)
    if axis:
        raise fail("E0107", "tl.scatter into memory takes no axis", help="give an index tile for each dimension")
    view = _view(array, "tl.scatter")
    values, shape = _indices(view, indices)
    tile = as_tile(value, None if isinstance(value, Tile) else view.dtype)
    if tile.dtype is not view.dtype:
        raise fail("E0201", f"a tile of {tile.dtype} is scattered into an array of {view.dtype}",
                   help=f"convert it: `.to(tl.{view.dtype})`")
    current().emit(Scatter(view.value, values, broadcast_to(tile, shape).value, _mask(mask, shape),
                           span=current().span))
    return None


def _atomic(kind: str, array: Any, indices: Any, value: Any, compare: Any, mask: Any, order: str, scope: str) -> Tile:
    view = _view(array, f"tl.atomic_{kind}")
    values, shape = _indices(view, indices)
    tile = broadcast_to(as_tile(value, None if isinstance(value, Tile) else view.dtype), shape)
    expected = None if compare is None else broadcast_to(as_tile(compare, view.dtype), shape).value
    return emit(Atomic(kind, view.value, values, tile.value, expected, _mask(mask, shape), order, scope,
                       span=current().span))


def atomic_add(array: View, indices: Any, value: Any, *, mask: Any = None, order: str = "relaxed",
               scope: str = "device") -> Tile:
    """Adds ``value`` to the elements at ``indices`` (a tile or scalar per dimension); gives the old values."""
    return _atomic("add", array, indices, value, None, mask, order, scope)


def atomic_min(array: View, indices: Any, value: Any, *, mask: Any = None, order: str = "relaxed",
               scope: str = "device") -> Tile:
    """Atomic minimum; gives the old values."""
    return _atomic("min", array, indices, value, None, mask, order, scope)


def atomic_max(array: View, indices: Any, value: Any, *, mask: Any = None, order: str = "relaxed",
               scope: str = "device") -> Tile:
    """Atomic maximum; gives the old values."""
    return _atomic("max", array, indices, value, None, mask, order, scope)


def atomic_and(array: View, indices: Any, value: Any, *, mask: Any = None, order: str = "relaxed",
               scope: str = "device") -> Tile:
    """Atomic bitwise and; gives the old values."""
    return _atomic("and", array, indices, value, None, mask, order, scope)


def atomic_or(array: View, indices: Any, value: Any, *, mask: Any = None, order: str = "relaxed",
              scope: str = "device") -> Tile:
    """Atomic bitwise or; gives the old values."""
    return _atomic("or", array, indices, value, None, mask, order, scope)


def atomic_xor(array: View, indices: Any, value: Any, *, mask: Any = None, order: str = "relaxed",
               scope: str = "device") -> Tile:
    """Atomic bitwise exclusive or; gives the old values."""
    return _atomic("xor", array, indices, value, None, mask, order, scope)


def atomic_exchange(array: View, indices: Any, value: Any, *, mask: Any = None, order: str = "relaxed",
                    scope: str = "device") -> Tile:
    """Atomic exchange; gives the old values."""
    return _atomic("exchange", array, indices, value, None, mask, order, scope)


def atomic_cas(array: View, indices: Any, compare: Any, value: Any, *, mask: Any = None, order: str = "relaxed",
               scope: str = "device") -> Tile:
    """Atomic compare-and-swap: stores ``value`` where the element equals ``compare``; gives the old values."""
    return _atomic("cas", array, indices, value, compare, mask, order, scope)


def shared(shape: Any, dtype: DType, layout: Any = None) -> View:
    """Shared memory of the block, uninitialised; accesses are synchronised by the user (``tl.sync``).

    ``layout`` is a SharedLayout, or None for one without bank conflicts chosen by the compiler.
    """
    extents = static_shape(shape)
    (value,) = current().emit(AllocShared(element_type(dtype), extents, layout, span=current().span))
    return View(value, extents)


def copy_async(destination: View, source: View, offsets: Any = None, *, mask: Any = None) -> None:
    """Starts copying the tile of ``source`` at ``offsets`` into all of ``destination`` (shared memory)."""
    to, view = _view(destination, "tl.copy_async"), _view(source, "tl.copy_async")
    extents = tuple(d or 0 for d in to.type.shape)
    if to.rank != view.rank:
        raise fail("E0301", f"copy_async from an array of rank {view.rank} into shared memory of rank {to.rank}")
    current().emit(CopyAsync(to.value, view.value, _offsets(view, offsets), _mask(mask, extents),
                             span=current().span))


def commit() -> None:
    """Closes the group of the asynchronous copies started since the last commit."""
    current().emit(CommitAsync(span=current().span))


def wait(pending: int = 0) -> None:
    """Waits until at most ``pending`` groups of this thread's copies are not complete."""
    (count,) = static_shape((pending,), "the number of pending groups")
    current().emit(WaitAsync(count, span=current().span))


def workspace(shape: Any, dtype: DType, zero: bool = False) -> View:
    """Global scratch memory of the launch, shared by all blocks; extents are computable at the launch."""
    extents = tuple(as_index(d, "an extent of the workspace") for d in _tuple(shape))
    return View(current().declare_workspace(extents, element_type(dtype), zero))


def may_alias(*arrays: View) -> None:
    """Declares that these array parameters may share memory; without it a call whose written arguments overlap others
    is refused. Reads and writes through them happen in program order within a block."""
    names = []
    for array in arrays:
        view = _view(array, "tl.may_alias")
        if not view.value.name or view.value.defining is not None:
            raise fail("E0107", "tl.may_alias takes array parameters, not views of them")
        names.append(view.value.name)
    current().declare_alias(tuple(names))
