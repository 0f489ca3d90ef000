"""Layouts as text: every layout prints as an expression that ``parse_layout`` reads back to an equal layout."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from tilus.layouts.modes import Mode

if TYPE_CHECKING:
    from tilus.layouts.register import RegisterLayout
    from tilus.layouts.shared import SharedLayout


def register_text(layout: RegisterLayout) -> str:
    """A product of elementary layouts where there is one, else the digits themselves."""
    factors = _factors(layout)
    if factors is None:
        return (f"digits({_tuple(layout.shape)}, threads=[{_modes(layout.thread_modes)}], "
                f"locals=[{_modes(layout.local_modes)}])")
    if not factors:
        return f"local({', '.join(['1'] * layout.rank)})"
    return ".".join(_factor_text(kind, modes, layout.rank, first=i == 0) for i, (kind, modes) in enumerate(factors))


def _factors(layout: RegisterLayout) -> list[tuple[str, list[Mode]]] | None:
    """The elementary factors, outermost first, each with its digits outermost first."""
    lists = {"local": list(layout.local_modes), "spatial": list(layout.thread_modes)}
    reached = [1] * layout.rank
    factors: list[tuple[str, list[Mode]]] = []
    kind = "local"
    while lists["local"] or lists["spatial"]:
        if not _strippable(lists[kind], reached):
            kind = "spatial" if kind == "local" else "local"
            if not _strippable(lists[kind], reached):
                return None
        mode = lists[kind].pop()
        name = "replicated" if mode.dim < 0 else kind
        if mode.dim >= 0:
            reached[mode.dim] *= mode.size
        if factors and factors[0][0] == name and _joins(factors[0][1], mode):
            factors[0][1].insert(0, mode)
        else:
            factors.insert(0, (name, [mode]))
    return factors


def _strippable(modes: Sequence[Mode], reached: Sequence[int]) -> bool:
    return bool(modes) and (modes[-1].dim < 0 or modes[-1].stride == reached[modes[-1].dim])


def _joins(modes: Sequence[Mode], outer: Mode) -> bool:
    """Whether the digits, with one more outside, are still numbered row-major or column-major."""
    dims = [outer.dim, *(mode.dim for mode in modes)]
    return outer.dim >= 0 and len(set(dims)) == len(dims) and dims in (sorted(dims), sorted(dims, reverse=True))


def _factor_text(kind: str, modes: Sequence[Mode], rank: int, first: bool) -> str:
    if kind == "replicated":
        return f"replicated({modes[0].size}, rank={rank})" if first else f"replicated({modes[0].size})"
    extents = [1] * rank
    for mode in modes:
        extents[mode.dim] = mode.size
    column = len(modes) > 1 and modes[0].dim > modes[1].dim
    return f"{'column_' if column else ''}{kind}({', '.join(map(str, extents))})"


def _tuple(values: Sequence[int]) -> str:
    return f"({', '.join(map(str, values))}{',' if len(values) == 1 else ''})"


def _modes(modes: Sequence[Mode]) -> str:
    return ", ".join(str(mode.size) if mode.dim < 0 else f"{mode.size}@{mode.dim}:{mode.stride}" for mode in modes)


def shared_text(layout: SharedLayout, named: Sequence[Callable[..., SharedLayout]]) -> str:
    """One of the ``named`` functions of the shape, or the strides themselves, then the swizzle."""
    suffix = "" if layout.swizzle is None else f".swizzle{layout.swizzle}"
    for make in named:
        plain = make(*layout.shape)
        if plain.modes == layout.modes and layout.base == 0:
            return f"{make.__name__}({', '.join(map(str, layout.shape))}){suffix}"
    strides = ", ".join(_stride_text(digits) for digits in layout.modes)
    base = f", base={layout.base}" if layout.base else ""
    return f"shared({_tuple(layout.shape)}, strides=[{strides}]{base}){suffix}"


def _stride_text(digits: Sequence[tuple[int, int]]) -> str:
    if len(digits) <= 1:
        return str(digits[0][1] if digits else 0)
    return "[" + ", ".join(f"{size}:{stride}" for size, stride in digits) + "]"
