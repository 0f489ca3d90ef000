"""Parts of whole arrays, arrays with more around them, and several as one: all are affine accesses
(:class:`~tilus.ir.ops.array.AffineAccess`)."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from tilus.ir.dtypes import DType, i64
from tilus.ir.ops import Broadcast, Iota, Reshape
from tilus.ir.ops.array import AffineAccess, Lookup, Regroup
from tilus.ir.types import Extent
from tilus.lang.array_operations import extent_scalar
from tilus.lang.array_sizes import ceiling, combined, extent_of, is_symbol, product
from tilus.lang.builtins.elementwise import where
from tilus.lang.context import current
from tilus.lang.promotion import promote
from tilus.lang.values import METHODS, Tile, as_tile, broadcast_shapes, broadcast_to, compare, emit, fail, whole_key

Term = tuple[tuple[int, int], ...]


def access(x: Tile, shape: Sequence[Extent], starts: Sequence[Extent], terms: Sequence[Term],
           fill: bool | int | float | None = None) -> Tile:
    """Elements of ``x`` at indices that are affine in those of the result: see
    :class:`~tilus.ir.ops.array.AffineAccess`."""
    return emit(AffineAccess(x.value, tuple(shape), tuple(starts), tuple(terms), fill, span=current().span))


def index(x: Tile, key: Any) -> Tile:
    """``x[key]`` as in NumPy: integers, slices with steps, ``None`` and ``...``; bounds may be made of extents."""
    keys = whole_key(key if isinstance(key, tuple) else (key,), len(x.shape), f"an array of rank {len(x.shape)}")
    if any(isinstance(k, Tile) and k.shape for k in keys):
        return _mixed(x, keys)
    shape: list[Extent] = []
    starts: list[Extent] = []
    terms: list[Term] = []
    dims = iter(x.shape)
    for k in keys:
        if k is None:
            shape.append(1)
            continue
        extent: Extent = next(dims)
        if isinstance(k, slice):
            start, step, count = _slice(k, extent)
            terms.append(((len(shape), step),))
            shape.append(count)
        else:
            place = extent_of(k, "the index of an array")
            start = combined("add", extent, place) if isinstance(place, int) and place < 0 else place
            if isinstance(start, int) and isinstance(extent, int) and not 0 <= start < extent:
                raise fail("E0204", f"index {place} is out of range for an extent of {extent}")
            terms.append(())
        starts.append(start)
    moved = any(start != 0 or not term or term[0][1] != 1 or shape[term[0][0]] != n
                for n, start, term in zip(x.shape, starts, terms, strict=True))
    return access(x, shape, starts, terms) if moved else x.reshape(tuple(shape)) if tuple(shape) != x.shape else x


def _mixed(x: Tile, keys: list[Any]) -> Tile:
    """Indexing by arrays of integers and slices: first the slices, then the arrays."""
    if any(k is None or not isinstance(k, (slice, Tile)) or (isinstance(k, Tile) and not k.shape) for k in keys):
        raise fail("E0204", "arrays index an array together with slices only",
                   help="take the part that a number names, and add dimensions, before or after")
    sliced = index(x, tuple(slice(None) if isinstance(k, Tile) else k for k in keys))
    return look_up(sliced, [k if isinstance(k, Tile) else None for k in keys])


def _slice(key: slice, extent: Extent) -> tuple[Extent, int, Extent]:
    """Where it starts, its step, and how many elements it has."""
    step = 1 if key.step is None else extent_of(key.step, "the step of a slice")
    if not isinstance(step, int) or step == 0:
        raise fail("E0204", f"the step of a slice is a number other than 0, not {step}")
    bounds = [b if b is None else extent_of(b, "the bound of a slice") for b in (key.start, key.stop)]
    if all(isinstance(n, (int, type(None))) for n in (extent, *bounds)):
        start, stop, _ = slice(bounds[0], bounds[1], step).indices(extent)  # type: ignore[arg-type]
        return start, step, len(range(start, stop, step))
    low: Extent = 0 if step > 0 else -1
    last: Extent = extent if step > 0 else combined("sub", extent, 1)

    def bound(n: Extent | None, default: Extent) -> Extent:
        if n is None:
            return default
        from_end = isinstance(n, int) and n < 0
        return combined("max", combined("add", extent, n), low) if from_end else combined("min", n, last)

    if step < 0:
        begin, end = bound(bounds[0], last), bound(bounds[1], low)
        return begin, step, combined("max", ceiling(combined("sub", begin, end), -step), 0)
    # A start beyond the end is as good as the end: there are no elements from there on.
    first = bounds[0] if bounds[0] is not None and not (isinstance(bounds[0], int) and bounds[0] < 0) else \
        bound(bounds[0], 0)
    count = ceiling(combined("sub", bound(bounds[1], extent), first), step)
    return first, step, count if first == 0 else combined("max", count, 0)


def look_up(x: Tile, keys: Sequence[Any]) -> Tile:
    """``x`` at arrays of integers, as NumPy's indexing by arrays: a key for each dimension, None for all of it."""
    indices = indices_of(x, keys)
    return emit(Lookup(x.value, tuple(i.value for i in indices), span=current().span))


def indices_of(x: Tile, keys: Sequence[Any]) -> list[Tile]:
    """The indices, along each dimension of ``x``, of the elements that :func:`look_up` gives."""
    places = [d for d, k in enumerate(keys) if k is not None]
    if places != list(range(places[0], places[-1] + 1)):
        raise fail("E0204", "the arrays that index an array are of dimensions side by side",
                   help="transpose it first, so that they are")
    given = [as_tile(keys[d]) for d in places]
    for index in given:
        if not index.dtype.is_int:
            raise fail("E0301", f"an array is indexed by an array of {index.dtype}, not of integers",
                       help="choose by a mask with tl.where")
    shared = functools.reduce(broadcast_shapes, (index.tile_shape for index in given))
    before, after = x.shape[: places[0]], x.shape[places[-1] + 1 :]
    shape = before + shared + after
    indices = []
    for d in range(len(x.shape)):
        if d in places:
            lined = given[d - places[0]]
            wanted = (1,) * (len(shared) - len(lined.shape)) + lined.tile_shape + (1,) * len(after)
            indices.append(broadcast_to(lined.reshape(wanted), shape))
        else:
            axis = d if d < places[0] else d - len(places) + len(shared)
            indices.append(emit(Iota(shape, axis, i64, span=current().span)))
    return indices


def take_along(x: Tile, indices: Tile, axis: int) -> Tile:
    """``x`` at ``indices`` along ``axis``, and at the same place in the other dimensions."""
    if len(indices.shape) != len(x.shape) or not indices.dtype.is_int:
        raise fail("E0301", f"tl.take of an array of shape {x.shape} by indices of {indices.dtype} of shape "
                            f"{indices.shape}", help="indices are integers, with as many dimensions as the array")
    every = [indices.value if d == axis else emit(Iota(indices.shape, d, i64, span=current().span)).value
             for d in range(len(x.shape))]
    return emit(Lookup(x.value, tuple(every), span=current().span))


def arange(start: Any, stop: Any, dtype: DType) -> Tile:
    """See :func:`tilus.lang.builtins.creation.arange`."""
    first, last = (extent_of(n, "a bound of tl.arange") for n in (start, stop))
    length = combined("sub", last, first)
    length = length if first == 0 else combined("max", length, 0)
    tile = emit(Iota((length,), 0, dtype, span=current().span))
    return tile if first == 0 else tile + as_tile(extent_scalar(first)).to(dtype)


def pad(x: Tile, widths: Any, value: Any) -> Tile:
    """See :func:`tilus.lang.builtins.shape.pad`."""
    rank = len(x.shape)
    pairs = _widths(widths, rank)
    if not isinstance(value, (bool, int, float)):
        raise fail("E0107", "tl.pad takes a number that is known when the function is compiled",
                   help="pad with zeros, and choose with tl.where")
    if not _is_of(value, x.dtype):
        raise fail("E0107", f"tl.pad of an array of {x.dtype} with {value}, which is none of its numbers")
    shape = [combined("add", n, low + high) for n, (low, high) in zip(x.shape, pairs, strict=True)]
    shape = [combined("max", n, 0) if low + high < 0 else n for n, (low, high) in zip(shape, pairs, strict=True)]
    if not any(low or high for low, high in pairs):
        return x
    return access(x, shape, [-low for low, _ in pairs], [((d, 1),) for d in range(rank)], value)


def _is_of(value: bool | int | float, dtype: DType) -> bool:
    if dtype.is_int:
        return isinstance(value, int) and dtype.min_value <= value <= dtype.max_value
    return value in (0, 1) if dtype.is_bool else True


def _widths(widths: Any, rank: int) -> list[tuple[int, int]]:
    if isinstance(widths, int):
        return [(widths, widths)] * rank
    given = list(widths)
    if len(given) == 2 and all(isinstance(n, int) for n in given):
        return [(given[0], given[1])] * rank
    pairs: list[Any] = [(n, n) if isinstance(n, int) else tuple(n) for n in given]
    if len(pairs) != rank or any(len(p) != 2 or not all(isinstance(n, int) for n in p) for p in pairs):
        raise fail("E0107", f"the widths {widths} are not those of an array of rank {rank}",
                   help="give a number, a pair, or a pair (before, after) for each dimension")
    return pairs


def reshape(x: Tile, shape: Sequence[Any]) -> Tile:
    """The elements in the same order under another shape; one extent may be -1."""
    given = tuple(shape[0]) if len(shape) == 1 and isinstance(shape[0], (tuple, list)) else tuple(shape)
    target: list[Extent] = [n if is_symbol(n) else extent_of(n, "an extent of the new shape")
                            for n in given]
    if target.count(-1) > 1 or any(isinstance(n, int) and n < -1 for n in target):
        raise fail("E0204", f"the new shape {given} has extents that are not numbers of elements",
                   help="one of them may be -1, for what is left")
    kept = [n for n in x.shape if n != 1]
    if -1 in target:
        others = [n for n in target if n not in (1, -1)]
        missing = [n for n in kept if n not in others]
        alike = len(missing) + len(others) == len(kept) and len(missing) <= 1
        target[target.index(-1)] = (missing[0] if missing else 1) if alike else \
            combined("floordiv", product(x.shape), product(n for n in target if n != -1))
    if tuple(target) == x.shape:
        return x
    if [n for n in target if n != 1] == kept:
        return emit(Reshape(x.value, tuple(target), span=current().span))
    if x.dtype.bits % 8 and not x.dtype.is_bool:
        raise fail("E0115", f"an array of {x.dtype} of shape {x.shape} is reshaped to {given}",
                   help="convert it to a type of whole bytes first, or reshape it before the call")
    maker = x.value.defining
    source = maker.x if isinstance(maker, Regroup) else x.value
    totals = product(x.shape), product(target)
    return emit(Regroup(source, tuple(target), totals, span=current().span))


def flip(x: Tile, axes: Sequence[int]) -> Tile:
    """See :func:`tilus.lang.builtins.shape.flip`."""
    starts = [combined("sub", n, 1) if d in axes else 0 for d, n in enumerate(x.shape)]
    return access(x, x.shape, starts, [((d, -1 if d in axes else 1),) for d in range(len(x.shape))])


def roll(x: Tile, shift: int, axis: int) -> Tile:
    """Along one axis: see :func:`tilus.lang.builtins.shape.roll`."""
    extent, rank = x.shape[axis], len(x.shape)
    whole = combined("max", extent, 1)
    moved = combined("sub", shift, combined("mul", combined("floordiv", shift, whole), whole))  # the remainder
    terms = [((d, 1),) for d in range(rank)]

    def part(start: Extent) -> Tile:
        zero = False if x.dtype.is_bool else 0.0 if x.dtype.is_float else 0
        return access(x, x.shape, [start if d == axis else 0 for d in range(rank)], terms, zero)

    place = emit(Iota(x.shape, axis, i64, span=current().span))
    from_end = compare("lt", place, as_tile(extent_scalar(moved)))
    return where(from_end, part(combined("sub", extent, moved)), part(combined("sub", 0, moved)))


def windows(x: Tile, sizes: Sequence[int], axes: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
            ) -> Tile:
    """See :func:`tilus.lang.builtins.shape.windows`."""
    shape: list[Extent] = list(x.shape)
    terms: list[list[tuple[int, int]]] = [[(d, 1)] for d in range(len(shape))]
    for axis, size, stride, dilation in zip(axes, sizes, strides, dilations, strict=True):
        reach = combined("sub", x.shape[axis], dilation * (size - 1) + 1)
        count = combined("add", combined("floordiv", reach, stride), 1)
        shape[axis] = combined("max", count, 0)
        terms[axis] = [(axis, stride), (len(shape), dilation)]
        shape.append(size)
    return access(x, shape, [0] * len(terms), [tuple(t) for t in terms])


def concatenate(parts: Sequence[Tile], axis: int, length: Extent | None = None) -> Tile:
    """Arrays one behind the other along ``axis``; ``length`` is what they have together there, if that has a name."""
    dtype = functools.reduce(_promoted, (p.dtype for p in parts))
    parts = [p.to(dtype) for p in parts]
    for part in parts[1:]:
        if len(part.shape) != len(parts[0].shape):
            raise fail("E0202", f"arrays of ranks {len(parts[0].shape)} and {len(part.shape)} are concatenated")
    ends: list[Extent] = [0]
    for part in parts:
        ends.append(combined("add", ends[-1], part.shape[axis]))
    shape = tuple((ends[-1] if length is None else length) if d == axis else n for d, n in enumerate(parts[0].shape))
    rank = len(shape)
    terms = [((d, 1),) for d in range(rank)]
    place = emit(Iota(shape, axis, i64, span=current().span))
    zero = False if parts[0].dtype.is_bool else 0.0 if parts[0].dtype.is_float else 0
    result: Tile | None = None
    for part, start, end in reversed(list(zip(parts, ends, ends[1:], strict=False))):
        lined = _alike(part, shape, axis)
        moved = access(lined, shape, [combined("sub", 0, start) if d == axis else 0 for d in range(rank)], terms, zero)
        result = moved if result is None else where(compare("lt", place, as_tile(extent_scalar(end))), moved, result)
    assert result is not None
    return result


def _promoted(first: DType, second: DType) -> DType:
    found = promote(first, second)
    if found is None:
        raise fail("E0201", f"arrays of {first} and {second} are concatenated: the types do not meet",
                   help="convert one with `.to(dtype)`")
    return found


def _alike(part: Tile, shape: Sequence[Extent], axis: int) -> Tile:
    """A part whose extents but that along ``axis`` have to be those of the result."""
    wanted = tuple(part.shape[d] if d == axis else n for d, n in enumerate(shape))
    for n, m in zip(part.shape, wanted, strict=True):
        if n != m and ((isinstance(n, int) and isinstance(m, int)) or 1 in (n, m)):
            raise fail("E0202", f"arrays of shapes {part.shape} and {tuple(shape)} are concatenated along axis {axis}")
    return part if wanted == part.shape else emit(Broadcast(part.value, wanted, span=current().span))


METHODS.update({"index array": index, "reshape array": reshape})
__all__ = ["access", "concatenate", "flip", "index", "look_up", "pad", "take_along", "windows"]
