"""Functions that rearrange the elements of tiles."""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import Any

from tilus.ir.dtypes import DType
from tilus.ir.ops import Concat, ConvertLayout, Insert, Slice, Take
from tilus.ir.ops import View as ViewBits
from tilus.lang.array_sizes import new_shape
from tilus.lang.array_sizes import product as _product
from tilus.lang.context import current
from tilus.lang.values import Tile, as_tile, emit, fail, static_shape
from tilus.lang.values import broadcast_to as _broadcast_to


def _axis(axis: Any, rank: int, what: str) -> int:
    if isinstance(axis, bool) or not isinstance(axis, int) or not -rank <= axis < rank:
        raise fail("E0204", f"axis {axis} is not one of {what}")
    return axis % rank


def _tile(x: Any, what: str) -> Tile:
    if not isinstance(x, Tile):
        raise fail("E0201", f"{what} takes a tile, not a Python {type(x).__name__}")
    return x


def reshape(x: Tile, *shape: Any) -> Tile:
    """The same elements, row-major, under another shape; one extent may be -1."""
    return _tile(x, "tl.reshape").reshape(*shape)


def transpose(x: Tile, *permutation: Any) -> Tile:
    """Dimensions permuted (reversed by default), as in NumPy."""
    return _tile(x, "tl.transpose").transpose(*permutation)


def expand_dims(x: Tile, axis: int | Sequence[int]) -> Tile:
    """New dimensions of extent 1 at the positions ``axis`` of the result."""
    tile = as_tile(x)
    axes = tuple(axis) if isinstance(axis, (tuple, list)) else (axis,)
    rank = len(tile.shape) + len(axes)
    places = {_axis(a, rank, f"a tile of rank {rank}") for a in axes}
    if len(places) != len(axes):
        raise fail("E0204", f"axes {axes} are not all different")
    old = iter(tile.shape)
    return tile.reshape(tuple(1 if d in places else next(old) for d in range(rank)))


def squeeze(x: Tile, axis: int) -> Tile:
    """Without a dimension of extent 1."""
    tile = _tile(x, "tl.squeeze")
    place = _axis(axis, len(tile.shape), f"a tile of shape {tile.shape}")
    if tile.shape[place] != 1:
        raise fail("E0202", f"dimension {axis} of a tile of shape {tile.shape} has not extent 1")
    return tile.reshape(tile.shape[:place] + tile.shape[place + 1 :])


def broadcast_to(x: Any, shape: Any) -> Tile:
    """NumPy broadcasting to ``shape``."""
    tile, extents = as_tile(x), new_shape(shape)
    if len(tile.shape) > len(extents):
        raise fail("E0202", f"shape {tile.shape} does not broadcast to {extents}")
    return _broadcast_to(tile, extents)


def concatenate(tiles: Sequence[Tile], axis: int = 0) -> Tile:
    """Tiles joined along ``axis``."""
    parts = [_tile(t, "tl.concatenate") for t in tiles]
    if not parts:
        raise fail("E0107", "tl.concatenate of no tiles")
    place = _axis(axis, len(parts[0].shape), f"a tile of shape {parts[0].shape}")
    if current().level == "array":
        joined: Tile = _array_moves("tl.concatenate").concatenate(parts, place)
        return joined
    return emit(Concat(tuple(p.value for p in parts), place, span=current().span))


def stack(tiles: Sequence[Tile], axis: int = 0) -> Tile:
    """Tiles of one shape side by side along a new dimension, at position ``axis`` of the result."""
    parts = [_tile(t, "tl.stack") for t in tiles]
    if not parts:
        raise fail("E0107", "tl.stack of no tiles")
    for part in parts[1:]:
        if len(part.shape) != len(parts[0].shape):
            raise fail("E0202", f"tiles of shapes {parts[0].shape} and {part.shape} are stacked")
    return concatenate([expand_dims(part, axis) for part in parts], axis)


def split(x: Tile, parts: int | Sequence[int], axis: int) -> tuple[Tile, ...]:
    """The tile cut along ``axis``: into ``parts`` equal pieces, or pieces of the given extents."""
    tile = _tile(x, "tl.split")
    place = _axis(axis, len(tile.shape), f"a tile of shape {tile.shape}")
    extent = tile.shape[place]
    if isinstance(extent, str):
        raise fail("E0115", "tl.split along a run-time extent", help="slice the array: x[:n], x[n:]")
    if isinstance(parts, int):
        if parts < 1 or extent % parts:
            raise fail("E0202", f"an extent of {extent} is not cut into {parts} equal parts")
        sizes: tuple[int, ...] = (extent // parts,) * parts
    else:
        sizes = static_shape(tuple(parts), "the sizes of the parts")
        if sum(sizes) != extent:
            raise fail("E0202", f"parts of {sizes} do not make an extent of {extent}")
    out, start = [], 0
    for size in sizes:
        if current().level == "array":
            out.append(tile[(slice(None),) * place + (slice(start, start + size),)])
            start += size
            continue
        starts = tuple(start if d == place else 0 for d in range(len(tile.shape)))
        extents = tuple(size if d == place else n for d, n in enumerate(tile.shape))
        out.append(emit(Slice(tile.value, starts, extents, span=current().span)))
        start += size
    return tuple(out)


def pad(x: Tile, widths: int | Sequence[Any], value: bool | int | float = 0) -> Tile:
    """A whole array with ``value`` around it, in a fused function. ``widths`` are how many elements come before and
    after: a number or a pair for all dimensions, or a pair for each; negative ones leave elements out."""
    padded: Tile = _array_moves("tl.pad").pad(_tile(x, "tl.pad"), widths, value)
    return padded


def flip(x: Tile, axis: int | Sequence[int] | None = None) -> Tile:
    """A whole array with the order of elements reversed along ``axis`` (all of them by default), in a fused
    function."""
    moves, tile = _array_moves("tl.flip"), _tile(x, "tl.flip")
    flipped: Tile = moves.flip(tile, _axes(axis, tile))
    return flipped


def roll(x: Tile, shift: int | Sequence[int], axis: int | Sequence[int]) -> Tile:
    """A whole array whose elements have moved by ``shift`` places along ``axis``, those from the end to the beginning,
    in a fused function; as NumPy's ``roll`` along axes."""
    moves, tile = _array_moves("tl.roll"), _tile(x, "tl.roll")
    axes = _axes(axis, tile)
    shifts = tuple(shift) if isinstance(shift, (tuple, list)) else (shift,) * len(axes)
    if len(shifts) != len(axes) or [n for n in shifts if isinstance(n, bool) or not isinstance(n, int)]:
        raise fail("E0107", f"shift is {shift}, not a number for each of {len(axes)} axes")
    for n, place in zip(shifts, axes, strict=True):
        tile = moves.roll(tile, n, place)
    return tile


def repeat(x: Tile, count: int, axis: int) -> Tile:
    """Each slice of a whole array ``count`` times, one after the other along ``axis``, in a fused function; as NumPy's
    ``repeat`` of a number."""
    _array_moves("tl.repeat")
    tile = _tile(x, "tl.repeat")
    if isinstance(count, bool) or not isinstance(count, int) or count < 0:
        raise fail("E0107", f"the count is {count!r}, not a number from 0 on")
    place = _axis(axis, len(tile.shape), f"an array of shape {tile.shape}")
    wide = (*tile.shape[: place + 1], count, *tile.shape[place + 1 :])
    merged = (*tile.shape[:place], _product((tile.shape[place], count)), *tile.shape[place + 1 :])
    return _broadcast_to(expand_dims(tile, place + 1), wide).reshape(merged)


def windows(x: Tile, sizes: int | Sequence[int], axes: int | Sequence[int], *, stride: int | Sequence[int] = 1,
            dilation: int | Sequence[int] = 1) -> Tile:
    """The windows of ``sizes`` elements along ``axes`` of a whole array, in a fused function: new dimensions at the
    end have the elements of a window, ``dilation`` apart, and along ``axes`` are the windows, ``stride`` apart."""
    moves, tile = _array_moves("tl.windows"), _tile(x, "tl.windows")
    places = _axes(axes, tile)

    def each(given: Any, what: str) -> list[int]:
        found = list(static_shape(given, what)) if isinstance(given, (tuple, list)) else [given] * len(places)
        if len(found) != len(places) or any(isinstance(n, bool) or not isinstance(n, int) or n < 1 for n in found):
            raise fail("E0107", f"{what} are {given}, not a positive number for each of {len(places)} axes")
        return found

    found: Tile = moves.windows(tile, each(sizes, "the sizes of windows"), places, each(stride, "strides"),
                                each(dilation, "dilations"))
    return found


def _axes(axis: Any, tile: Tile) -> list[int]:
    rank = len(tile.shape)
    axes = range(rank) if axis is None else axis if isinstance(axis, (tuple, list)) else (axis,)
    places = [_axis(a, rank, f"an array of shape {tile.shape}") for a in axes]
    if len(set(places)) != len(places):
        raise fail("E0204", f"axes {tuple(axes)} are not all different")
    return places


def _array_moves(what: str) -> ModuleType:
    """What moves elements of whole arrays. Raises UserError (E0115) where tiles are traced."""
    if current().level != "array":
        raise fail("E0115", f"{what} is for whole arrays, in a function of @tl.fuse",
                   help="a kernel loads the tile that it wants: indices outside of the array give `other=`")
    from tilus.lang import array_moves as moves

    return moves


def insert(x: Tile, part: Any, starts: Any) -> Tile:
    """``x`` with the box at the constant ``starts`` replaced by the tile ``part`` of the same rank."""
    tile = _tile(x, "tl.insert")
    piece = as_tile(part, None if isinstance(part, Tile) else tile.dtype)
    return emit(Insert(tile.value, piece.value, static_shape(starts, "the starts"), span=current().span))


def take(x: Tile, indices: Tile, axis: int = 0) -> Tile:
    """``x`` at ``indices`` along ``axis``, elementwise in the other dimensions (NumPy's take_along_axis); an index
    outside gives 0."""
    tile = _tile(x, "tl.take")
    place = _axis(axis, len(tile.shape), f"a tile of shape {tile.shape}")
    if current().level == "array":
        taken: Tile = _array_moves("tl.take").take_along(tile, _tile(indices, "tl.take"), place)
        return taken
    return emit(Take(tile.value, _tile(indices, "tl.take").value, place, span=current().span))


def scatter_add(x: Tile, indices: Tile, updates: Any, axis: int = 0) -> Tile:
    """``x`` with ``updates`` added to its elements at ``indices`` along ``axis``, in a fused function; equal indices
    add up, in any order, and an index outside leaves its update out. Indices of one dimension name slices, as in
    NumPy's ``add.at``; those with as many dimensions as ``x`` name elements, at the same place in the other dimensions,
    as in :func:`take`. ``updates`` broadcast to what is named. Sums of 16-bit floats are rounded once."""
    _array_moves("tl.scatter_add")
    from tilus.lang.array_scatter import scattered

    return scattered("add", x, indices, updates, axis)


def view(x: Tile, *, dtype: DType | None = None, layout: Any, from_layout: Any = None) -> Tile:
    """The same register bits as another type under another layout: each thread's bits under the layout of ``x`` are
    read as ``dtype`` under ``layout``.

    The layout of ``x`` is the one that its load or the previous view was given, or ``from_layout``.
    """
    tile = _tile(x, "tl.view")
    source = from_layout if from_layout is not None else tile.pinned
    if source is None:
        raise fail("E0403", "tl.view of a tile whose layout is not pinned",
                   help="give `layout=` to its tl.load, or `from_layout=` here")
    result = emit(ViewBits(tile.value, dtype or tile.dtype, source, layout, span=current().span))
    result.pinned = layout
    return result


def convert_layout(x: Tile, layout: Any) -> Tile:
    """The tile held in the register layout ``layout``; its values do not change."""
    result = emit(ConvertLayout(_tile(x, "tl.convert_layout").value, layout, span=current().span))
    result.pinned = layout
    return result
