"""Trees of values: what a variable holds, as leaves that control flow can carry.

A variable's value is a tree of tuples, lists and dicts whose leaves are tiles, Python numbers, or other compile-time
objects.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

from tilus.diagnostics import Span
from tilus.ir.dtypes import DType, bool_, f32, i64
from tilus.ir.types import TileType
from tilus.lang.constants import constant_key
from tilus.lang.values import Tile, constant
from tilus.lang.views import View
from tilus.records import record


class _Unset:
    def __repr__(self) -> str:
        return "<no value>"


UNSET = _Unset()
"""The value of a function that has not returned yet."""


@record(frozen=True, slots=True)
class Undefined:
    """What a name or an element holds that some path leaves without a (usable) value."""

    reason: str
    span: Span


Leaf = Any
Slot = TileType | None
"""How a leaf is carried: as a value of this type, or None where it stays the same compile-time object."""


def flatten(value: Any, deep: bool = True) -> tuple[list[Leaf], Callable[[Sequence[Leaf]], Any], Any]:
    """Leaves, a function that rebuilds the tree from leaves, and its structure for comparison.

    Lists and dicts are leaves themselves unless ``deep``.
    """
    items = _items(value, deep)
    if items is None:
        return [value], lambda leaves: leaves[0], None
    parts = [flatten(item, deep) for item in items]

    def rebuild(leaves: Sequence[Leaf]) -> Any:
        out, at = [], 0
        for part in parts:
            out.append(part[1](leaves[at : at + len(part[0])]))
            at += len(part[0])
        return with_items(value, out)

    keys = tuple(value) if isinstance(value, dict) else ()
    return [leaf for part in parts for leaf in part[0]], rebuild, (type(value), keys, tuple(p[2] for p in parts))


def _items(value: Any, deep: bool) -> list[Any] | None:
    if isinstance(value, tuple) or (deep and isinstance(value, list)):
        return list(value)
    return list(value.values()) if deep and isinstance(value, dict) else None


def with_items(value: Any, items: list[Any]) -> Any:
    """A new tuple, list or dict like ``value`` with these items."""
    kind = type(value)
    if isinstance(value, tuple):
        return kind._make(items) if hasattr(kind, "_make") else tuple.__new__(kind, items)
    new = copy.copy(value)
    if isinstance(value, list):
        new[:] = items
    else:
        new.update(zip(value, items, strict=True))
    return new


def containers(value: Any) -> list[Any]:
    """The lists and dicts of a tree, outer ones first."""
    items = _items(value, True)
    if items is None:
        return []
    inner = [c for item in items for c in containers(item)]
    return inner if isinstance(value, tuple) else [value, *inner]


def is_number(leaf: Leaf) -> bool:
    return isinstance(leaf, (bool, int, float)) and not isinstance(leaf, Tile)


def same(a: Leaf, b: Leaf) -> bool:
    """Whether two leaves are one compile-time value: no program can tell them apart."""
    if a is b:
        return True
    if type(a) is not type(b) or isinstance(a, (Tile, View)):
        return False
    try:
        return bool(constant_key(a) == constant_key(b))
    except Exception:
        return False  # without a hash, or with an `==` of its own that fails


def _number_type(*numbers: bool | int | float) -> DType:
    if any(isinstance(n, float) for n in numbers):
        return f32
    return bool_ if all(isinstance(n, bool) for n in numbers) else i64


def literal_meets(number: bool | int | float, dtype: DType) -> bool:
    """Whether a Python number becomes a value of ``dtype`` where it meets one."""
    if isinstance(number, bool):
        return True
    return dtype.is_float or dtype.is_codebook if isinstance(number, float) else not dtype.is_bool


def common_type(a: Leaf, b: Leaf) -> TileType | None:
    """The type in which two leaves meet, or None where they do not."""
    if isinstance(a, Tile) and isinstance(b, Tile):
        return a.value.tile.without_layout() if (a.dtype, a.shape) == (b.dtype, b.shape) else None
    if isinstance(a, Tile) or isinstance(b, Tile):
        tile, number = (a, b) if isinstance(a, Tile) else (b, a)
        if not is_number(number) or not literal_meets(number, tile.dtype):
            return None
        return TileType(tile.dtype, tile.shape)
    if is_number(a) and is_number(b):
        return TileType(_number_type(a, b))
    return None


def typed(leaf: Leaf, type_: TileType) -> Tile:
    return leaf if isinstance(leaf, Tile) else constant(leaf, type_.dtype, type_.shape)


def zero_like(value: Any) -> Any:
    """A tree of zeros shaped like ``value``, for a result that no path has produced yet."""
    leaves, rebuild, _ = flatten(value)
    return rebuild([constant(0, x.dtype, x.shape) if isinstance(x, Tile) else x for x in leaves])


def describe(leaf: Leaf) -> str:
    """A leaf as messages name it."""
    if isinstance(leaf, Tile):
        return str(leaf.value.tile.without_layout())
    if isinstance(leaf, View):
        return "a view of an array"
    if isinstance(leaf, (list, dict)) or repr(leaf).startswith("<"):
        return f"a Python {type(leaf).__name__}"
    return repr(leaf)
