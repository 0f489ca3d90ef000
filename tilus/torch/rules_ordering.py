"""Sorted rows and their greatest elements. Where elements are equal the first comes first, whether or not torch is
asked for that."""

from __future__ import annotations

from typing import Any

from tilus.ir.dtypes import i64
from tilus.lang.array_moves import access, take_along
from tilus.lang.builtins import ordering
from tilus.lang.builtins.creation import zeros
from tilus.lang.values import Tile
from tilus.torch.node import Call
from tilus.torch.registry import Refused, rule
from tilus.torch.rules_moves import whole


@rule("sort.default", "sort.stable")
def sort(call: Call, x: Tile, *rest: Any) -> tuple[Tile, Tile]:
    dim, descending = rest[-2:]
    if not x.shape:
        return x, zeros((), i64)
    indices = ordering.argsort(x, dim, descending=bool(descending))
    return take_along(x, indices, dim % len(x.shape)), indices


@rule("topk")
def topk(call: Call, x: Tile, k: Any, dim: int, largest: bool, _: bool) -> tuple[Tile, Tile]:
    if not x.shape or not isinstance(k, int):
        raise Refused("a tensor of rank 0, or a number of elements that is known at the call only")
    return ordering.topk(x, k, dim, largest=largest)


@rule("kthvalue")
def kthvalue(call: Call, x: Tile, k: Any, dim: int, keepdim: bool) -> tuple[Tile, Tile]:
    if not x.shape or not isinstance(k, int):
        raise Refused("a tensor of rank 0, or a number that is known at the call only")
    dim %= len(x.shape)
    starts = [k - 1 if d == dim else 0 for d in range(len(x.shape))]
    shape = tuple(1 if d == dim else n for d, n in enumerate(x.shape))
    indices = access(ordering.argsort(x, dim), shape, starts, whole(len(x.shape)))
    found = take_along(x, indices, dim), indices
    return found if keepdim else (found[0].reshape(*call.extents.shape(call.result[0])), indices.reshape(
        *call.extents.shape(call.result[1])))
