"""Functions given by the user: per-element code, and reductions and scans with a combine function."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tilus.lang.context import current
from tilus.lang.values import Tile, as_tile, broadcast_shapes, broadcast_to, fail


def map(function: Callable[..., Any], *tiles: Any) -> Any:
    """``function`` applied to each element of the tiles (broadcast together): scalar code with its own ``if`` and
    ``while``. It gives a scalar, or a tuple of them for as many tiles."""
    if not tiles:
        raise fail("E0107", "tl.map takes a function and at least one tile")
    parts = [as_tile(t) for t in tiles]
    shape: tuple[int, ...] = ()
    for part in parts:
        shape = broadcast_shapes(shape, part.shape)
    if not shape:
        return function(*parts)
    results, single = current().map_elements(function, [broadcast_to(p, shape) for p in parts])
    return results[0] if single else tuple(results)


def _along(x: Any, axis: Any, what: str) -> tuple[list[Tile], int, bool]:
    single = not isinstance(x, (tuple, list))
    tiles = [as_tile(t) for t in ((x,) if single else x)]
    if not tiles:
        raise fail("E0107", f"{what} of no tiles")
    shape = tiles[0].shape
    for tile in tiles:
        if tile.shape != shape:
            raise fail("E0202", f"{what} of tiles of shapes {shape} and {tile.shape}")
    if isinstance(axis, bool) or not isinstance(axis, int) or not -len(shape) <= axis < len(shape):
        raise fail("E0204", f"axis {axis} is not one of a tile of shape {shape}")
    return tiles, axis % len(shape), single


def reduce(x: Tile | Sequence[Tile], axis: int, combine: Callable[..., Any], *, keepdims: bool = False) -> Any:
    """Reduction along ``axis`` by an associative ``combine(left, right)`` of scalars; of several tiles at once,
    ``combine(l0, l1, …, r0, r1, …)`` gives as many values. Elements are combined left to right, in any grouping."""
    tiles, place, single = _along(x, axis, "tl.reduce")
    if tiles[0].shape[place] == 0:
        raise fail("E0204", "tl.reduce over an empty axis has no value")
    results = current().combine_along(combine, tiles, place, None)
    if keepdims:
        shape = tiles[0].shape
        results = [r.reshape(shape[:place] + (1,) + shape[place + 1 :]) for r in results]
    return results[0] if single else tuple(results)


def scan(x: Tile | Sequence[Tile], axis: int, combine: Callable[..., Any], *, reverse: bool = False) -> Any:
    """Inclusive running reduction along ``axis`` by ``combine``, as in :func:`reduce`; from the far end where
    ``reverse``."""
    tiles, place, single = _along(x, axis, "tl.scan")
    results = current().combine_along(combine, tiles, place, reverse)
    return results[0] if single else tuple(results)
