"""Register layouts: which thread keeps which element of a tile, and in which of its registers.

A layout is a function ``(thread, local) -> tile index``. Every element of the tile has exactly one local number, and
one thread or (with replication) several. The index is always a thread part plus a local part.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, cast
from weakref import WeakValueDictionary

from tilus.layouts.modes import (
    REPLICATED,
    Mode,
    Modes,
    flatten,
    merge,
    misfit,
    scale,
    split_digits,
    strip_inner,
    strip_outer,
    take_inner,
    total,
    undefined,
    unflatten,
    unscale,
)
from tilus.layouts.text import register_text

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    IntArray = NDArray[np.int64]

Shape = tuple[int, ...]


class Term(NamedTuple):
    """One summand of an index: ``number // divisor % modulus * multiplier``."""

    divisor: int
    modulus: int
    multiplier: int


class RegisterSlice(NamedTuple):
    """A sub-box of a tile: its layout, and the local of the whole tile that each of its locals is."""

    layout: RegisterLayout
    locals: tuple[int, ...]


class RegisterLayout:
    """An immutable, interned map from (thread, local) to the index of an element of a tile.

    Two layouts are equal exactly when they have the same shape, the same numbers of threads and locals, and are the
    same function. Build them with ``spatial``, ``local``, ``column_spatial``, ``column_local`` and ``replicated``;
    combine them with ``*``, or by chaining: ``spatial(8, 4).local(1, 2)``.

    Attributes:
        shape: extents of the tile.
        thread_modes, local_modes: the digits of a thread and of a local number, outermost first, canonical.
        num_threads, num_locals: how many threads take part, and how many elements each of them has.
    """

    shape: Shape
    thread_modes: Modes
    local_modes: Modes
    num_threads: int
    num_locals: int
    _hash: int
    __interned: ClassVar[WeakValueDictionary[Any, RegisterLayout]] = WeakValueDictionary()

    def __new__(cls, shape: Sequence[int], thread_modes: Sequence[tuple[int, int, int]] = (),
                local_modes: Sequence[tuple[int, int, int]] = ()) -> RegisterLayout:
        """The layout of the given digits ``(size, dim, stride)``, outermost first.

        Raises:
            UserError: E0403 if the digits do not reach every element exactly once per replica.
        """
        shape = tuple(shape)
        threads = [Mode(*mode) for mode in thread_modes]
        locals_ = [Mode(*mode) for mode in local_modes]
        _check(shape, threads, locals_)
        return cls._make(shape, threads, locals_)

    @classmethod
    def _make(cls, shape: Shape, threads: Sequence[Mode], locals_: Sequence[Mode]) -> RegisterLayout:
        key = (shape, merge(threads), merge(locals_))
        found = cls.__interned.get(key)
        if found is None:
            found = object.__new__(cls)
            found.shape, found.thread_modes, found.local_modes = key
            found.num_threads = total(key[1])
            found.num_locals = total(key[2])
            found._hash = hash(key)
            found = cls.__interned.setdefault(key, found)
        return found

    # identity

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if not isinstance(other, RegisterLayout):
            return NotImplemented
        return (self._hash == other._hash and self.shape == other.shape and self.thread_modes == other.thread_modes
                and self.local_modes == other.local_modes)

    def __hash__(self) -> int:
        return self._hash

    def __reduce__(self) -> tuple[Any, ...]:
        return RegisterLayout, (self.shape, tuple(map(tuple, self.thread_modes)), tuple(map(tuple, self.local_modes)))

    def __repr__(self) -> str:
        return f"RegisterLayout({self})"

    def __str__(self) -> str:
        return self._text

    @cached_property
    def _text(self) -> str:
        return register_text(self)

    # queries

    @property
    def rank(self) -> int:
        return len(self.shape)

    @cached_property
    def size(self) -> int:
        """Number of elements of the tile."""
        return math.prod(self.shape)

    @cached_property
    def replication(self) -> int:
        """How many threads hold each element."""
        return total(mode for mode in self.thread_modes if mode.dim < 0)

    @property
    def is_replicated(self) -> bool:
        return self.replication != 1

    @cached_property
    def thread_digits(self) -> tuple[tuple[int, int, int, int], ...]:
        """Per thread mode ``(divisor, size, dim, stride)``."""
        return split_digits(self.thread_modes)

    @cached_property
    def local_digits(self) -> tuple[tuple[int, int, int, int], ...]:
        """Per local mode ``(divisor, size, dim, stride)``."""
        return split_digits(self.local_modes)

    def thread_terms(self, dim: int) -> tuple[Term, ...]:
        """The thread part of the index along ``dim``, as summands over the thread number, outermost first."""
        return tuple(Term(div, size, stride) for div, size, d, stride in self.thread_digits if d == dim)

    def local_terms(self, dim: int) -> tuple[Term, ...]:
        """The local part of the index along ``dim``, as summands over the local number, outermost first."""
        return tuple(Term(div, size, stride) for div, size, d, stride in self.local_digits if d == dim)

    @cached_property
    def replica_terms(self) -> tuple[tuple[int, int], ...]:
        """The digits ``thread // divisor % modulus`` that only replicate; a thread whose digits are all 0 is the
        first holder of its elements."""
        return tuple((div, size) for div, size, d, _ in self.thread_digits if d < 0)

    @cached_property
    def replica_offsets(self) -> tuple[int, ...]:
        """What to add to the first holder of an element to get all of its holders, ascending."""
        offsets = [0]
        for div, size in self.replica_terms:
            offsets = [o + i * div for o in offsets for i in range(size)]
        return tuple(offsets)

    def thread_index(self, thread: int) -> Shape:
        """The thread part of the index."""
        return _index(self.thread_digits, thread, self.rank)

    def local_index(self, local: int) -> Shape:
        """The local part of the index."""
        return _index(self.local_digits, local, self.rank)

    def index(self, thread: int, local: int) -> Shape:
        """The index of the element that ``thread`` keeps in its register ``local``."""
        if not (0 <= thread < self.num_threads and 0 <= local < self.num_locals):
            raise misfit(f"(thread {thread}, local {local}) is outside of {self.num_threads} threads × "
                         f"{self.num_locals} locals")
        return tuple(a + b for a, b in zip(self.thread_index(thread), self.local_index(local), strict=True))

    def local_of(self, index: Sequence[int]) -> int:
        """The local number of the element at ``index`` (the same in every thread that holds it)."""
        self._check_index(index)
        return sum(index[d] // stride % size * div for div, size, d, stride in self.local_digits)

    def thread_of(self, index: Sequence[int]) -> int:
        """The first thread that holds the element at ``index``."""
        self._check_index(index)
        return sum(index[d] // stride % size * div for div, size, d, stride in self.thread_digits if d >= 0)

    def threads_of(self, index: Sequence[int]) -> tuple[int, ...]:
        """All threads that hold the element at ``index``, ascending."""
        first = self.thread_of(index)
        return tuple(first + offset for offset in self.replica_offsets)

    def vector_width(self, dim: int) -> int:
        """How many consecutive locals, in aligned groups from local 0, walk consecutive indices along ``dim``.

        Every divisor of the result is a valid vector width too.
        """
        if self.local_modes:
            mode = self.local_modes[-1]
            if mode.dim == dim and mode.stride == 1:
                return mode.size
        return 1

    def covers(self, shape: Sequence[int]) -> bool:
        """Whether every element of a tile of ``shape`` has a place; the layout may be larger (padding)."""
        return len(shape) == self.rank and all(have >= want for have, want in zip(self.shape, shape, strict=True))

    # arrays

    @cached_property
    def _thread_array(self) -> IntArray:
        return _index_array(self.thread_digits, self.num_threads, self.rank)

    @cached_property
    def _local_array(self) -> IntArray:
        return _index_array(self.local_digits, self.num_locals, self.rank)

    def thread_offsets(self) -> IntArray:
        """The thread parts of the indices, int64[threads, rank], read-only."""
        return self._thread_array

    def local_offsets(self) -> IntArray:
        """The local parts of the indices, int64[locals, rank], read-only."""
        return self._local_array

    @cached_property
    def local_indices(self) -> tuple[Shape, ...]:
        """The local parts of the indices, one index for each local: :meth:`local_offsets` without NumPy."""
        return tuple(_index(self.local_digits, n, self.rank) for n in range(self.num_locals))

    @cached_property
    def thread_indices(self) -> tuple[Shape, ...]:
        """The thread parts of the indices, one index for each thread: :meth:`thread_offsets` without NumPy."""
        return tuple(_index(self.thread_digits, n, self.rank) for n in range(self.num_threads))

    @cached_property
    def _table(self) -> IntArray:
        table = self._thread_array[:, None, :] + self._local_array[None, :, :]
        table.flags.writeable = False
        return table

    def table(self) -> IntArray:
        """All indices, int64[threads, locals, rank], read-only."""
        return self._table

    def owners(self, indices: Any) -> tuple[IntArray, IntArray]:
        """First threads and locals of many elements: int64[..., rank] -> two int64[...]."""
        import numpy as np

        indices = np.asarray(indices, dtype=np.int64)
        thread: IntArray = np.zeros(indices.shape[:-1], dtype=np.int64)
        local: IntArray = np.zeros(indices.shape[:-1], dtype=np.int64)
        for out, digits in ((thread, self.thread_digits), (local, self.local_digits)):
            for div, size, d, stride in digits:
                if d >= 0:
                    out += indices[..., d] // stride % size * div
        return thread, local

    # algebra

    def __mul__(self, other: RegisterLayout) -> RegisterLayout:
        """The Kronecker product: ``thread = t_f * T_g + t_g``, ``local = l_f * L_g + l_g``,
        ``index = f(t_f, l_f) * g.shape + g(t_g, l_g)``. Associative; not commutative."""
        if not isinstance(other, RegisterLayout):
            return NotImplemented
        return _product(self, other)

    def __truediv__(self, other: RegisterLayout) -> RegisterLayout:
        """The layout ``f`` with ``f * other == self``. Raises UserError E0404 if there is none."""
        if not isinstance(other, RegisterLayout):
            return NotImplemented
        result = self.try_divide(other)
        if result is None:
            raise undefined(f"{self} is not a product that ends in {other}")
        return result

    def try_divide(self, inner: RegisterLayout) -> RegisterLayout | None:
        """The layout ``f`` with ``f * inner == self``, or None."""
        return _divide_right(self, inner)

    def left_divide(self, outer: RegisterLayout) -> RegisterLayout:
        """The layout ``g`` with ``outer * g == self``. Raises UserError E0404 if there is none."""
        result = self.try_left_divide(outer)
        if result is None:
            raise undefined(f"{self} is not a product that begins with {outer}")
        return result

    def try_left_divide(self, outer: RegisterLayout) -> RegisterLayout | None:
        """The layout ``g`` with ``outer * g == self``, or None."""
        return _divide_left(self, outer)

    def spatial(self, *shape: int) -> RegisterLayout:
        """``self * spatial(*shape)``."""
        return self * spatial(*shape)

    def local(self, *shape: int) -> RegisterLayout:
        """``self * local(*shape)``."""
        return self * local(*shape)

    def column_spatial(self, *shape: int) -> RegisterLayout:
        """``self * column_spatial(*shape)``."""
        return self * column_spatial(*shape)

    def column_local(self, *shape: int) -> RegisterLayout:
        """``self * column_local(*shape)``."""
        return self * column_local(*shape)

    def replicated(self, num_threads: int) -> RegisterLayout:
        """``self * replicated(num_threads, rank)``: groups of neighbouring threads hold the same elements."""
        return self * replicated(num_threads, self.rank)

    def with_replication(self, count: int) -> RegisterLayout:
        """``replicated(count, rank) * self``: the whole set of threads is repeated ``count`` times."""
        return replicated(count, self.rank) * self

    def permute(self, dims: Sequence[int]) -> RegisterLayout:
        """Dimension ``i`` of the result is dimension ``dims[i]`` of this layout (as in ``numpy.transpose``)."""
        dims = tuple(d + self.rank if d < 0 else d for d in dims)
        if sorted(dims) != list(range(self.rank)):
            raise undefined(f"{dims} is not a permutation of the {self.rank} dimensions of {self}")
        to = {old: new for new, old in enumerate(dims)}
        return self._rename(tuple(self.shape[d] for d in dims), to)

    def transpose(self) -> RegisterLayout:
        """The layout with its dimensions in reverse order."""
        return self.permute(tuple(reversed(range(self.rank))))

    def expand_dims(self, axis: int) -> RegisterLayout:
        """A dimension of extent 1 is put before dimension ``axis`` of the result (as in ``numpy.expand_dims``)."""
        axis = axis + self.rank + 1 if axis < 0 else axis
        if not 0 <= axis <= self.rank:
            raise undefined(f"axis {axis} is out of range for a layout of rank {self.rank}")
        return self._rename((*self.shape[:axis], 1, *self.shape[axis:]),
                            {d: d + (d >= axis) for d in range(self.rank)})

    def squeeze(self, axis: int) -> RegisterLayout:
        """Dimension ``axis``, whose extent must be 1, is dropped."""
        axis = self._axis(axis)
        if self.shape[axis] != 1:
            raise undefined(f"dimension {axis} of {self} has extent {self.shape[axis]}, so it cannot be squeezed")
        return self._rename(self.shape[:axis] + self.shape[axis + 1:], {d: d - (d > axis) for d in range(self.rank)})

    def _rename(self, shape: Shape, to: dict[int, int]) -> RegisterLayout:
        threads = [mode if mode.dim < 0 else Mode(mode.size, to[mode.dim], mode.stride) for mode in self.thread_modes]
        locals_ = [Mode(mode.size, to[mode.dim], mode.stride) for mode in self.local_modes]
        return self._make(shape, threads, locals_)

    def reshape(self, shape: Sequence[int]) -> RegisterLayout:
        """The same elements, numbered row-major, under another shape; every element stays where it is.

        Raises:
            UserError: E0404 if the sizes differ or a digit of the layout would straddle two new dimensions.
        """
        shape = tuple(shape)
        if math.prod(shape) != self.size:
            raise undefined(f"a layout of shape {self.shape} cannot be reshaped to {shape}: the sizes differ")
        threads = unflatten(flatten(self.thread_modes, self.shape), shape)
        locals_ = unflatten(flatten(self.local_modes, self.shape), shape)
        if threads is None or locals_ is None:
            raise undefined(f"{self} cannot be reshaped from {self.shape} to {shape} without moving elements",
                            help="convert to another layout first")
        return self._make(shape, threads, locals_)

    def reduce(self, axis: int, keepdims: bool = False) -> RegisterLayout:
        """The layout of a reduction's result: dimension ``axis`` is dropped (or left with extent 1), its thread
        digits become replication, its local digits vanish."""
        axis = self._axis(axis)
        threads = [Mode(mode.size, REPLICATED, 0) if mode.dim == axis else mode for mode in self.thread_modes]
        locals_ = [mode for mode in self.local_modes if mode.dim != axis]
        kept = self._make((*self.shape[:axis], 1, *self.shape[axis + 1:]), threads, locals_)
        return kept if keepdims else kept.squeeze(axis)

    def broadcast(self, shape: Sequence[int]) -> RegisterLayout:
        """Dimensions of extent 1 grow to those of ``shape``; each thread holds all copies, in new outer locals."""
        shape = tuple(shape)
        if len(shape) != self.rank or any(have not in (1, want) for have, want in zip(self.shape, shape, strict=True)):
            raise undefined(f"a layout of shape {self.shape} cannot be broadcast to {shape}")
        return local(*(want if have == 1 else 1 for have, want in zip(self.shape, shape, strict=True))) * self

    def tile_to(self, shape: Sequence[int], column: bool = False) -> RegisterLayout:
        """The layout repeated in new outer locals until it covers ``shape`` (padded up to whole repetitions).

        The repetitions are numbered row-major, or column-major where ``column``.
        """
        if len(shape) != self.rank:
            raise misfit(f"a layout of rank {self.rank} cannot cover a tile of shape {tuple(shape)}")
        counts = [-(-want // have) for have, want in zip(self.shape, shape, strict=True)]
        return (column_local if column else local)(*counts) * self

    def slice(self, starts: Sequence[int], extents: Sequence[int]) -> RegisterSlice:
        """The sub-box of ``extents`` at ``starts``, for every thread a fixed choice of its registers.

        Raises:
            UserError: E0404 if some thread would have no share of the box, or the shares would differ.
        """
        if len(starts) != self.rank or len(extents) != self.rank:
            raise undefined(f"a slice of a layout of rank {self.rank} needs {self.rank} starts and extents")
        locals_: Modes | list[Mode] = self.local_modes
        first = 0
        for d in range(self.rank):
            locals_, offset = self._slice_dim(locals_, d, starts[d], extents[d])
            first += offset
        layout = self._make(tuple(extents), self.thread_modes, locals_)
        chosen = [first]
        for new, (old_div, _, _, _) in zip(reversed(locals_), reversed(self.local_digits), strict=True):
            chosen = [c + i * old_div for i in range(new.size) for c in chosen]
        return RegisterSlice(layout, tuple(chosen))

    def _slice_dim(self, locals_: Sequence[Mode], dim: int, start: int, extent: int) -> tuple[list[Mode], int]:
        """The local modes cut down to the slice along one dimension, and the local of the slice's first element."""
        if start < 0 or extent < 1 or start + extent > self.shape[dim]:
            raise undefined(f"[{start}:{start + extent}] is outside of dimension {dim} of extent {self.shape[dim]}")
        result = list(locals_)
        position = {mode.stride: i for i, mode in enumerate(result) if mode.dim == dim}
        span, first, full = self.shape[dim], 0, [*self.thread_modes, *self.local_modes]
        for mode in sorted((m for m in full if m.dim == dim), key=lambda m: -m.stride):
            if extent == span:
                break
            inner = mode.stride
            digit, rest = divmod(start, inner)
            count = max(extent // inner, 1)
            exact = rest == 0 and extent % inner == 0 if extent >= inner else rest + extent <= inner
            if inner not in position or not exact:
                raise undefined(f"a slice of extent {extent} at {start} along dimension {dim} of {self} does not give "
                                f"every thread the same registers", help="convert to another layout first")
            at = position[inner]
            first += digit * self.local_digits[at][0]
            result[at] = Mode(count, dim, inner)
            if extent >= inner:
                break
            start, span = rest, inner
        return result, first

    def thread_to_local(self, count: int) -> RegisterLayout:
        """The innermost ``count`` threads give their elements to one: their digits become the innermost locals."""
        inner, rest = take_inner(self.thread_modes, count)
        if inner is None or any(mode.dim < 0 for mode in inner):
            raise undefined(f"{count} does not split the threads of {self}")
        return self._make(self.shape, rest, [*self.local_modes, *inner])

    def local_to_thread(self, count: int) -> RegisterLayout:
        """The innermost ``count`` locals are spread over as many new innermost threads."""
        inner, rest = take_inner(self.local_modes, count)
        if inner is None:
            raise undefined(f"{count} does not split the locals of {self}")
        return self._make(self.shape, [*self.thread_modes, *inner], rest)

    def _axis(self, axis: int) -> int:
        if not -self.rank <= axis < self.rank:
            raise undefined(f"axis {axis} is out of range for a layout of rank {self.rank}")
        return axis % self.rank

    def _check_index(self, index: Sequence[int]) -> None:
        if len(index) != self.rank or not all(0 <= i < n for i, n in zip(index, self.shape, strict=True)):
            raise misfit(f"index {tuple(index)} is outside of the shape {self.shape}")


# construction


def _ordered(shape: Sequence[int], column: bool) -> list[Mode]:
    for extent in shape:
        if extent < 1:
            raise misfit(f"the extents of a layout are positive, got {tuple(shape)}")
    modes = [Mode(extent, d, 1) for d, extent in enumerate(shape)]
    return modes[::-1] if column else modes


@lru_cache(maxsize=4096)
def spatial(*shape: int) -> RegisterLayout:
    """One element per thread, threads numbered row-major over ``shape``."""
    return RegisterLayout._make(shape, _ordered(shape, False), ())


@lru_cache(maxsize=4096)
def column_spatial(*shape: int) -> RegisterLayout:
    """One element per thread, threads numbered column-major (first dimension fastest) over ``shape``."""
    return RegisterLayout._make(shape, _ordered(shape, True), ())


@lru_cache(maxsize=4096)
def local(*shape: int) -> RegisterLayout:
    """One thread with all elements, numbered row-major over ``shape``."""
    return RegisterLayout._make(shape, (), _ordered(shape, False))


@lru_cache(maxsize=4096)
def column_local(*shape: int) -> RegisterLayout:
    """One thread with all elements, numbered column-major (first dimension fastest) over ``shape``."""
    return RegisterLayout._make(shape, (), _ordered(shape, True))


@lru_cache(maxsize=4096)
def replicated(num_threads: int, rank: int) -> RegisterLayout:
    """One element of shape ``(1,) * rank``, held by each of ``num_threads`` threads."""
    if num_threads < 1:
        raise misfit(f"a layout needs at least one thread, got {num_threads}")
    return RegisterLayout._make((1,) * rank, (Mode(num_threads, REPLICATED, 0),), ())


def concatenate(layouts: Sequence[RegisterLayout], axis: int) -> RegisterLayout:
    """The layout of tiles joined along ``axis``, whose locals are those of the parts one after the other.

    Raises:
        UserError: E0404 unless the parts are repetitions of one layout in their outermost locals along ``axis``.
    """
    if not layouts:
        raise undefined("nothing to concatenate")
    axis = layouts[0]._axis(axis)
    parts = [_outer_repeat(layout, axis) for layout in layouts]
    base = layouts[0]
    if all(layout == base for layout in layouts):
        count = len(layouts)
    else:
        base = parts[0][1]
        if any(part != base for _, part in parts):
            raise undefined(f"tiles of different layouts cannot be joined along dimension {axis} without moving "
                            "elements", help="convert them to one layout first")
        count = sum(n for n, _ in parts)
    return local(*(count if d == axis else 1 for d in range(base.rank))) * base


def _outer_repeat(layout: RegisterLayout, axis: int) -> tuple[int, RegisterLayout]:
    """``(n, base)`` with the layout equal to ``n`` copies of ``base`` along ``axis`` in its outermost locals."""
    if layout.local_modes:
        mode = layout.local_modes[0]
        if mode.dim == axis and mode.size * mode.stride == layout.shape[axis]:
            shape = (*layout.shape[:axis], mode.stride, *layout.shape[axis + 1:])
            return mode.size, RegisterLayout._make(shape, layout.thread_modes, layout.local_modes[1:])
    return 1, layout


# implementation


def _check(shape: Shape, threads: Sequence[Mode], locals_: Sequence[Mode]) -> None:
    if any(mode.dim < 0 for mode in locals_):
        raise misfit("a local digit must move the index")
    for mode in (*threads, *locals_):
        if mode.size < 1 or mode.dim >= len(shape) or mode.dim < REPLICATED or (mode.dim < 0 and mode.stride):
            raise misfit(f"{tuple(mode)} is not a digit (size, dim, stride) of a layout of shape {shape}")
    for d, extent in enumerate(shape):
        reach = 1
        for mode in sorted((m for m in (*threads, *locals_) if m.dim == d and m.size > 1), key=lambda m: m.stride):
            if mode.stride != reach:
                raise misfit(f"the digits of dimension {d} do not reach every index of its extent {extent} once")
            reach *= mode.size
        if reach != extent:
            raise misfit(f"the digits of dimension {d} reach {reach} indices, its extent is {extent}")


def _index(digits: tuple[tuple[int, int, int, int], ...], number: int, rank: int) -> Shape:
    index = [0] * rank
    for div, size, d, stride in digits:
        if d >= 0:
            index[d] += number // div % size * stride
    return tuple(index)


def _index_array(digits: tuple[tuple[int, int, int, int], ...], count: int, rank: int) -> IntArray:
    import numpy as np

    result: IntArray = np.zeros((count, rank), dtype=np.int64)
    numbers = np.arange(count, dtype=np.int64)
    for div, size, d, stride in digits:
        if d >= 0:
            result[:, d] += numbers // div % size * stride
    result.flags.writeable = False
    return result


@lru_cache(maxsize=16384)
def _product(f: RegisterLayout, g: RegisterLayout) -> RegisterLayout:
    if f.rank != g.rank:
        raise undefined(f"layouts of rank {f.rank} and {g.rank} have no product: {f} and {g}")
    shape = tuple(a * b for a, b in zip(f.shape, g.shape, strict=True))
    return RegisterLayout._make(shape, [*scale(f.thread_modes, g.shape), *g.thread_modes],
                                [*scale(f.local_modes, g.shape), *g.local_modes])


def _quotient_shape(h: RegisterLayout, part: RegisterLayout) -> Shape | None:
    if h.rank != part.rank or any(a % b for a, b in zip(h.shape, part.shape, strict=True)):
        return None
    return tuple(a // b for a, b in zip(h.shape, part.shape, strict=True))


@lru_cache(maxsize=4096)
def _divide_right(h: RegisterLayout, g: RegisterLayout) -> RegisterLayout | None:
    shape = _quotient_shape(h, g)
    if shape is None:
        return None
    parts = []
    for whole, inner in ((h.thread_modes, g.thread_modes), (h.local_modes, g.local_modes)):
        rest = strip_inner(whole, inner)
        quotient = None if rest is None else unscale(rest, g.shape)
        if quotient is None:
            return None
        parts.append(quotient)
    return RegisterLayout._make(shape, *parts)


@lru_cache(maxsize=4096)
def _divide_left(h: RegisterLayout, f: RegisterLayout) -> RegisterLayout | None:
    shape = _quotient_shape(h, f)
    if shape is None:
        return None
    parts = []
    for whole, outer in ((h.thread_modes, f.thread_modes), (h.local_modes, f.local_modes)):
        rest = strip_outer(whole, cast(Modes, tuple(scale(outer, shape))))
        if rest is None or any(m.dim >= 0 and m.stride * m.size > shape[m.dim] for m in rest):
            return None
        parts.append(rest)
    return RegisterLayout._make(shape, *parts)
