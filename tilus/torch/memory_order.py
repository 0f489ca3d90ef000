"""In which order the elements of tensors lie in memory. Fused functions take and give arrays whose last dimension runs
along memory, as the channels of images do that have them last; elsewhere their kernels would go by elements."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

from tilus.torch.registry import Refused

Order: TypeAlias = tuple[int, ...]


def memory_order(tensor: Any) -> Order | None:
    """The dimensions in the order of memory, where the last one that has several elements does not run along it and
    another one does; None where the tensor is taken as it is. Raises Refused."""
    several = [d for d, n in enumerate(tensor.shape) if not (isinstance(n, int) and n == 1)]
    strides = [hint(s) for s in tensor.stride()]
    ordered = sorted(several, key=lambda d: -strides[d])
    if not several or strides[several[-1]] == 1 or strides[ordered[-1]] != 1:
        return None
    places = dict(zip(several, ordered, strict=True))
    return tuple(places.get(d, d) for d in range(tensor.dim()))


def inverse(order: Order) -> Order:
    return tuple(order.index(d) for d in range(len(order)))


def reordered(tensors: Sequence[Any], orders: Sequence[Order | None]) -> list[Any]:
    """Views of tensors with their dimensions in other orders."""
    return [t if order is None else t.permute(order) for t, order in zip(tensors, orders, strict=True)]


def hint(n: Any) -> int:
    """An extent or stride, or what torch has seen of it first. Raises Refused for those that follow from data."""
    found = n if isinstance(n, int) else n.node.hint
    if found is None:
        raise Refused(f"an extent or a stride, {n}, that follows from data")
    return int(found)


__all__ = ["Order", "hint", "inverse", "memory_order", "reordered"]
