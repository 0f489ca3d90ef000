"""The extents of the tensors of a graph, as those of arrays.

Arrays have symbols for extents, so that one fused function does for tensors of any size. Extents of one value (or of
one expression, where torch does not know the value) are one symbol: the graph holds for these sizes only, and torch
sees to it that others get a graph of their own.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tilus.ir.types import Extent
from tilus.torch.registry import Refused


def extent_key(n: Any) -> int | str:
    """What tells the extents of a graph apart: a number, or the text of an expression."""
    if isinstance(n, int):
        return n
    known = n.node.maybe_as_int()
    return str(n.node.expr) if known is None else int(known)


class Extents:
    """Names for the extents of the tensors that come in (``tensors``, fake ones)."""

    def __init__(self, tensors: Iterable[Any]) -> None:
        self.symbols: dict[int | str, str] = {}
        for tensor in tensors:
            for n in tensor.shape:
                key = extent_key(n)
                if key != 1:
                    self.symbols.setdefault(key, f"d{len(self.symbols)}")

    def of(self, n: Any) -> Extent:
        """The symbol, or the number where no tensor that comes in has it. Raises Refused for other expressions."""
        key = extent_key(n)
        found = self.symbols.get(key, key)
        if isinstance(key, str) and found is key:
            raise Refused(f"an extent, {key}, that no tensor which it reads has")
        return found

    def text(self, n: Any) -> str:
        return str(self.of(n))

    def has(self, n: Any) -> bool:
        """Whether it is a number, or an extent of a tensor that comes in."""
        key = extent_key(n)
        return isinstance(key, int) or key in self.symbols

    def shape(self, tensor: Any) -> tuple[Extent, ...]:
        """The extents of a tensor. Raises Refused."""
        return tuple(self.of(n) for n in tensor.shape)


__all__ = ["Extents", "extent_key"]
