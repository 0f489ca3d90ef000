"""Updates of elements of whole arrays at computed indices (:class:`~tilus.ir.ops.array.ScatterArray`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tilus.ir.dtypes import DType, f32, i32, i64
from tilus.ir.ops import Iota
from tilus.ir.ops.array import ScatterArray
from tilus.ir.terms import ScatterKind
from tilus.lang.array_moves import indices_of
from tilus.lang.context import current
from tilus.lang.promotion import promote
from tilus.lang.values import METHODS, Tile, as_tile, broadcast_to, emit, fail, whole_key


def scattered(kind: ScatterKind, x: Any, indices: Any, updates: Any, axis: Any) -> Tile:
    """See :func:`tilus.lang.builtins.shape.scatter_add`."""
    what = "tl.scatter" if kind == "set" else "tl.scatter_add"
    if not isinstance(x, Tile) or not x.shape:
        raise fail("E0201", f"{what} takes an array of rank 1 or more")
    if not isinstance(indices, Tile) or not indices.dtype.is_int:
        raise fail("E0301", f"{what} takes an array of integers as indices",
                   help="choose by a mask with tl.where")
    rank = len(x.shape)
    if isinstance(axis, bool) or not isinstance(axis, int) or not -rank <= axis < rank:
        raise fail("E0204", f"axis {axis} is not one of an array of shape {x.shape}")
    place = axis % rank
    if len(indices.shape) == 1:
        shape: tuple[Any, ...] = (*x.shape[:place], indices.shape[0], *x.shape[place + 1 :])
        lined = indices.reshape(*(indices.shape[0] if d == place else 1 for d in range(rank)))
        indices = broadcast_to(lined, shape)
    elif len(indices.shape) != rank:
        raise fail("E0301", f"{what} into an array of shape {x.shape} by indices of shape {indices.shape}",
                   help=f"indices have one dimension, or {rank} as the array has")
    shape = indices.shape
    every = [indices if d == place else emit(Iota(shape, d, i64, span=current().span)) for d in range(rank)]
    return put(kind, x, every, updates)


def put(kind: ScatterKind, x: Tile, indices: Sequence[Tile], updates: Any) -> Tile:
    """``x`` with updates at indices of one shape, one array for each of its dimensions."""
    values = as_tile(updates, None if isinstance(updates, Tile) else x.dtype)
    if promote(values.dtype, x.dtype) is not x.dtype:
        raise fail("E0201", f"updates of {values.dtype} for an array of {x.dtype}",
                   help=f"convert them: `.to(tl.{x.dtype})`")
    shape = indices[0].shape
    if len(values.shape) > len(shape):
        raise fail("E0202", f"updates of shape {values.shape} do not broadcast to {shape}, which the indices name")
    wide = _held(x.dtype)
    found = emit(ScatterArray(kind, x.to(wide).value, tuple(i.value for i in indices),
                              broadcast_to(values.to(wide), shape).value, span=current().span))
    return found.to(x.dtype)


class ElementsAt:
    """What ``x.at`` is, and with a key ``x.at[key]``: arrays of integers, and ``:`` for dimensions that are whole."""

    def __init__(self, x: Tile, key: Any = None) -> None:
        if current().level != "array":
            raise fail("E0115", "x.at is for whole arrays, in a function of @tl.fuse",
                       help="a kernel scatters to memory: tl.scatter, tl.atomic_add")
        self.x, self.key = x, key

    def __getitem__(self, key: Any) -> ElementsAt:
        rank = len(self.x.shape)
        keys = whole_key(key if isinstance(key, tuple) else (key,), rank, f"an array of rank {rank}")
        if any(k != slice(None) for k in keys if not isinstance(k, Tile)) or not any(
                isinstance(k, Tile) and k.shape for k in keys):
            raise fail("E0204", "x.at takes arrays of integers, and `:` for whole dimensions",
                       help="of slices, write x with tl.concatenate or tl.where")
        return ElementsAt(self.x, [k if isinstance(k, Tile) else None for k in keys])

    def add(self, updates: Any) -> Tile:
        """The array with updates added there."""
        return self._put("add", updates)

    def set(self, updates: Any) -> Tile:
        """The array with updates put there."""
        return self._put("set", updates)

    def _put(self, kind: ScatterKind, updates: Any) -> Tile:
        if self.key is None:
            raise fail("E0204", f"x.at.{kind} without indices", help=f"x.at[i].{kind}(updates)")
        return put(kind, self.x, indices_of(self.x, self.key), updates)


def _held(dtype: DType) -> DType:
    """The type that a scatter takes for elements of another one."""
    if dtype.is_arithmetic and (dtype.is_float or dtype.bits in (32, 64)):
        return dtype
    return i32 if dtype.is_bool or dtype.is_int else f32


METHODS["at array"] = ElementsAt  # type: ignore[assignment]  # whose methods give arrays
__all__ = ["ElementsAt", "put", "scattered"]
