"""Parts of tensors, tensors with more around them, several as one, and elements at indices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tilus.ir.dtypes import i64
from tilus.ir.types import Extent
from tilus.lang.array_moves import access, concatenate, look_up, take_along
from tilus.lang.array_operations import extent_scalar
from tilus.lang.array_sizes import combined
from tilus.lang.builtins.elementwise import where
from tilus.lang.values import Tile, as_tile
from tilus.torch.node import Call
from tilus.torch.registry import COPY, Refused, rule


def whole(rank: int) -> list[tuple[tuple[int, int], ...]]:
    """The terms of an access that takes all of each dimension."""
    return [((d, 1),) for d in range(rank)]


def _starts(x: Tile, dim: int, start: Any) -> list[Extent]:
    """0, but along one dimension, where negative numbers count from the end."""
    if not isinstance(start, (int, str)):
        raise Refused("a part from a number on that is known at the call only")
    starts: list[Extent] = [0] * len(x.shape)
    starts[dim] = combined("add", x.shape[dim], start) if isinstance(start, int) and start < 0 else start
    return starts


@rule("slice.Tensor", "slice_copy.Tensor", kind=COPY)
def slice_(call: Call, x: Tile, dim: int, start: Any, end: Any, step: Any) -> Tile:
    dim %= len(x.shape)
    if not isinstance(step, int):
        raise Refused("a slice whose step is known at the call only")
    count, size = call.result.shape[dim], call.metas[0].shape[dim]
    if call.shape == x.shape and count == size:
        return x
    if isinstance(size, int) and isinstance(start, int):
        start = min(max(start + size if start < 0 else start, 0), size)
    terms = whole(len(x.shape))
    terms[dim] = ((dim, step),)
    return access(x, call.shape, _starts(x, dim, start or 0), terms)


@rule("select.int", "select_copy.int", kind=COPY)
def select(call: Call, x: Tile, dim: int, index: Any) -> Tile:
    dim %= len(x.shape)
    terms: list[tuple[tuple[int, int], ...]] = whole(len(x.shape) - 1)
    terms.insert(dim, ())
    return access(x, call.shape, _starts(x, dim, index), terms)


@rule("split_with_sizes", "split_with_sizes_copy", "split.Tensor", "unbind.int", kind=COPY)
def split(call: Call, x: Tile, *rest: Any) -> tuple[Tile, ...]:
    dim = rest[-1] % len(x.shape)
    gone = len(call.result[0].shape) < len(x.shape)
    parts, start = [], 0
    for number, meta in enumerate(call.result):
        extent = 1 if gone else meta.shape[dim]
        if not isinstance(extent, int):
            raise Refused("parts of sizes that are known at the call only")
        terms = whole(len(x.shape) - gone)
        if gone:
            terms.insert(dim, ())
        starts = [start if d == dim else 0 for d in range(len(x.shape))]
        parts.append(access(x, call.extents.shape(meta), starts, terms) if call.uses(number) else None)
        start += extent
    return tuple(parts)  # type: ignore[arg-type]


@rule("unfold", kind=COPY)
def unfold(call: Call, x: Tile, dim: int, size: int, step: int) -> Tile:
    rank = len(x.shape)
    if not rank or not isinstance(size, int) or not isinstance(step, int):
        raise Refused("windows of a tensor of rank 0, or of a size that is known at the call only")
    terms = whole(rank)
    terms[dim % rank] = ((dim % rank, step), (rank, 1))
    return access(x, call.shape, [0] * rank, terms)


@rule("cat", kind=COPY)
def cat(call: Call, parts: Sequence[Tile], dim: int) -> Tile:
    if len({len(p.shape) for p in parts}) > 1:
        raise Refused("tensors of different ranks")
    dim %= len(parts[0].shape)
    return concatenate([p.to(call.dtype) for p in parts], dim, call.shape[dim])


@rule("constant_pad_nd", kind=COPY)
def constant_pad(call: Call, x: Tile, widths: Sequence[Any], value: Any) -> Tile:
    if not all(isinstance(n, int) for n in widths) or not isinstance(value, (bool, int, float)):
        raise Refused("a width or a value that is known at the call only")
    starts = [0] * len(x.shape)
    for place, low in enumerate(widths[::2]):
        starts[-1 - place] = -low
    fill = bool(value) if x.dtype.is_bool else int(value) if x.dtype.is_int else float(value)
    return access(x, call.shape, starts, whole(len(x.shape)), fill)


@rule("flip", kind=COPY)
def flip(call: Call, x: Tile, dims: Sequence[int]) -> Tile:
    axes = {d % len(x.shape) for d in dims}
    starts = [combined("sub", n, 1) if d in axes else 0 for d, n in enumerate(x.shape)]
    return access(x, call.shape, starts, [((d, -1 if d in axes else 1),) for d in range(len(x.shape))])


@rule("embedding", kind=COPY)
def embedding(call: Call, weight: Tile, indices: Tile, *_: Any) -> Tile:
    return look_up(weight, [indices, None])


@rule("index_select", kind=COPY)
def index_select(call: Call, x: Tile, dim: int, indices: Tile) -> Tile:
    if not x.shape or len(indices.shape) != 1:
        raise Refused("a tensor or indices of rank 0")
    return look_up(x, [indices if d == dim % len(x.shape) else None for d in range(len(x.shape))])


@rule("index.Tensor", kind=COPY)
def index(call: Call, x: Tile, indices: Sequence[Tile | None]) -> Tile:
    keys = [*indices, *[None] * (len(x.shape) - len(indices))]
    if any(k is not None and (k.dtype.is_bool or k.dtype.name == "u8") for k in keys):
        raise Refused("a mask as an index")
    return look_up(x, [None if k is None else from_the_start(k, n) for k, n in zip(keys, x.shape, strict=True)])


def from_the_start(indices: Tile, extent: Extent) -> Tile:
    """Negative indices count from the end."""
    place = indices.to(i64)
    return where(place < 0, place + as_tile(extent_scalar(extent)), place)


@rule("gather", kind=COPY)
def gather(call: Call, x: Tile, dim: int, indices: Tile, _: Any) -> Tile:
    if not x.shape or len(x.shape) != len(indices.shape):
        raise Refused("a tensor of rank 0")
    return take_along(x, indices, dim % len(x.shape))
