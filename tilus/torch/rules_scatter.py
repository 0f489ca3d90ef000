"""Updates of elements at tensors of indices, and gradients that are such: where equal indices add up, in any order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tilus.ir.dtypes import i64
from tilus.ir.ops import Iota
from tilus.ir.terms import ScatterKind
from tilus.lang.array_moves import access, indices_of
from tilus.lang.array_scatter import put, scattered
from tilus.lang.builtins.elementwise import where
from tilus.lang.context import current
from tilus.lang.values import Tile, emit
from tilus.torch.node import Call, operand
from tilus.torch.registry import Refused, rule
from tilus.torch.rules_moves import from_the_start, whole


@rule("scatter.src", "scatter.value")
def scatter(call: Call, x: Tile, dim: int, indices: Tile, updates: Any) -> Tile:
    return _along("set", x, dim, indices, updates)


@rule("scatter_add")
def scatter_add(call: Call, x: Tile, dim: int, indices: Tile, updates: Tile) -> Tile:
    return _along("add", x, dim, indices, updates)


@rule("scatter_reduce.two")
def scatter_reduce(call: Call, x: Tile, dim: int, indices: Tile, updates: Tile, kind: str, with_self: bool) -> Tile:
    if kind != "sum" or not with_self:
        raise Refused(f"the reduction {kind!r}{'' if with_self else ' of updates alone'}")
    return _along("add", x, dim, indices, updates)


def _along(kind: ScatterKind, x: Tile, dim: int, indices: Tile, updates: Any) -> Tile:
    if not x.shape or len(x.shape) != len(indices.shape) or (kind == "add" and x.dtype.is_bool):
        raise Refused("a tensor of rank 0 or of bools")
    updates = operand(updates, x.dtype)
    if updates.shape not in ((), indices.shape):  # as many of them as there are indices
        updates = access(updates, indices.shape, [0] * len(x.shape), whole(len(x.shape)))
    return scattered(kind, x, indices, updates, dim)


@rule("index_put", "_unsafe_index_put")
def index_put(call: Call, x: Tile, indices: Sequence[Tile | None], values: Tile, accumulate: bool) -> Tile:
    keys = [*indices, *[None] * (len(x.shape) - len(indices))]
    mask, others = keys[0], keys[1:]
    if mask is not None and mask.dtype.is_bool and not any(k is not None for k in others):
        if accumulate or call.metas[2].numel() != 1:
            raise Refused("values for the elements of a mask")
        lined = mask.reshape(*mask.shape, *[1] * (len(x.shape) - len(mask.shape)))
        return where(lined, values.reshape(()), x)
    if any(k is not None and (k.dtype.is_bool or k.dtype.name == "u8") for k in keys):
        raise Refused("a mask as an index")
    if accumulate and x.dtype.is_bool:
        raise Refused("sums of bools")
    places = indices_of(x, [None if k is None else from_the_start(k, n) for k, n in zip(keys, x.shape, strict=True)])
    return put("add" if accumulate else "set", x, places, values)


@rule("slice_scatter")
def slice_scatter(call: Call, x: Tile, part: Tile, dim: int, start: Any, end: Any, step: Any) -> Tile:
    dim %= len(x.shape)
    size = call.metas[0].shape[dim]
    if not all(isinstance(n, (int, type(None))) for n in (start, end, step, size)):
        raise Refused("a part whose place is known at the call only")
    first, _, step = slice(start, end, step).indices(size)
    place = emit(Iota(part.shape, dim, i64, span=current().span)) * step + first
    if step == 1:
        starts = [-first if d == dim else 0 for d in range(len(x.shape))]
        fill = False if x.dtype.is_bool else 0.0 if x.dtype.is_float else 0
        moved = access(part, x.shape, starts, whole(len(x.shape)), fill)
        at = emit(Iota(x.shape, dim, i64, span=current().span))
        return where((at >= first) & (at < first + call.metas[1].shape[dim]), moved, x)
    return scattered("set", x, place, part, dim)
