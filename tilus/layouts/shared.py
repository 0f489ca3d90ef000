"""Shared-memory layouts: at which offset the element of an index lies.

Offsets are in elements. A layout is a sum of mode strides per dimension, optionally followed by an XOR swizzle.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar
from weakref import WeakValueDictionary

from tilus.layouts.modes import misfit, undefined
from tilus.layouts.register import Shape, Term
from tilus.layouts.text import shared_text
from tilus.records import record

if TYPE_CHECKING:
    from tilus.layouts.register import IntArray

DimModes = tuple[tuple[int, int], ...]
"""Of one dimension: ``(size, stride)`` per digit of its index, outermost first."""


@record(frozen=True, slots=True)
class Swizzle:
    """``offset ^ ((offset >> shift) & mask)``, where the mask has ``bits`` ones from bit ``base`` on.

    The same triple as CuTe's ``Swizzle<bits, base, shift>`` (``shift`` >= ``bits``), over element offsets.
    """

    bits: int
    base: int
    shift: int

    def __post_init__(self) -> None:
        if self.bits < 0 or self.base < 0 or self.shift < self.bits:
            raise misfit(f"{self} is not a swizzle: bits and base must not be negative, shift at least bits")

    @property
    def mask(self) -> int:
        return ((1 << self.bits) - 1) << self.base

    def __call__(self, offset: Any) -> Any:
        """The swizzled offset, for an int or an array of ints."""
        return offset ^ ((offset >> self.shift) & ((1 << self.bits) - 1) << self.base)

    def __str__(self) -> str:
        return f"({self.bits}, {self.base}, {self.shift})"


class SharedLayout:
    """An immutable, interned map from the index of an element to its offset in elements.

    Two layouts are equal exactly when they have the same shape and are the same function.

    Attributes:
        shape: extents.
        modes: per dimension, the digits ``(size, stride)`` of its index, outermost first, canonical.
        base: the offset of index 0 before swizzling.
        swizzle: applied to the sum of all contributions, or None.
    """

    shape: Shape
    modes: tuple[DimModes, ...]
    base: int
    swizzle: Swizzle | None
    __interned: ClassVar[WeakValueDictionary[Any, SharedLayout]] = WeakValueDictionary()

    def __new__(cls, shape: Sequence[int], strides: Sequence[int | Sequence[tuple[int, int]]],
                swizzle: Swizzle | None = None, base: int = 0) -> SharedLayout:
        """Strides are per dimension an int, or the digits ``(size, stride)`` of the index, outermost first.

        Raises:
            UserError: E0403 if the digits do not count to the extents, or an offset would be negative.
        """
        shape = tuple(shape)
        if len(strides) != len(shape):
            raise misfit(f"{len(strides)} strides do not fit a shape of rank {len(shape)}")
        if base < 0 or any(extent < 1 for extent in shape):
            raise misfit(f"extents must be positive and the base not negative, got {shape} and {base}")
        modes = []
        for extent, stride in zip(shape, strides, strict=True):
            digits = ((extent, stride),) if isinstance(stride, int) else tuple(stride)
            if math.prod(size for size, _ in digits) != extent or any(s < 1 or st < 0 for s, st in digits):
                raise misfit(f"the digits {digits} do not count to the extent {extent}")
            modes.append(_merge(digits))
        reach = base + sum((size - 1) * stride for digits in modes for size, stride in digits)
        key = (shape, tuple(modes), base, _effective(swizzle, reach))
        found = cls.__interned.get(key)
        if found is None:
            found = object.__new__(cls)
            found.shape, found.modes, found.base, found.swizzle = key
            found = cls.__interned.setdefault(key, found)
        return found

    # identity

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if not isinstance(other, SharedLayout):
            return NotImplemented
        if self.shape != other.shape or self._samples != other._samples:
            return False
        if self.swizzle is None and other.swizzle is None:
            return self.modes == other.modes and self.base == other.base
        # a swizzle and a sum of strides may be the same function: only the values decide
        return bool((self.table() == other.table()).all())

    @cached_property
    def _hash(self) -> int:
        return hash((self.shape, self._samples))

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _samples(self) -> tuple[int, ...]:
        """Offsets at a few indices that depend on the shape only, so equal functions have equal samples."""
        corners = [(0,) * self.rank, tuple(n - 1 for n in self.shape), tuple(n // 2 for n in self.shape)]
        units = [tuple(min(1, n - 1) if d == e else 0 for e, n in enumerate(self.shape)) for d in range(self.rank)]
        return tuple(self.offset(index) for index in (*corners, *units))

    def __reduce__(self) -> tuple[Any, ...]:
        return SharedLayout, (self.shape, self.modes, self.swizzle, self.base)

    def __str__(self) -> str:
        return shared_text(self, (row_major, column_major))

    def __repr__(self) -> str:
        return f"SharedLayout({self})"

    # queries

    @property
    def rank(self) -> int:
        return len(self.shape)

    @cached_property
    def size(self) -> int:
        """Elements to allocate: one more than the largest offset."""
        reach = self.base + sum((size - 1) * stride for digits in self.modes for size, stride in digits) + 1
        if self.swizzle is None:
            return reach
        whole_blocks = reach % (1 << (self.swizzle.base + self.swizzle.bits)) == 0
        if whole_blocks and self.base == 0 and math.prod(self.shape) == reach:
            return reach
        return int(self.table().max()) + 1

    @property
    def strides(self) -> tuple[int, ...]:
        """One stride per dimension. Raises UserError E0404 where a dimension has several."""
        if any(len(digits) > 1 for digits in self.modes):
            raise undefined(f"{self} has no single stride per dimension")
        return tuple(digits[0][1] if digits else 0 for digits in self.modes)

    def terms(self, dim: int) -> tuple[Term, ...]:
        """The offset before swizzling as summands over the index of ``dim``, outermost first."""
        result = []
        divisor = 1
        for size, stride in reversed(self.modes[dim]):
            result.append(Term(divisor, size, stride))
            divisor *= size
        return tuple(reversed(result))

    def linear_offset(self, index: Sequence[int]) -> int:
        """The offset before swizzling."""
        return self.base + sum(map(self.part, range(self.rank), index))

    def part(self, dim: int, index: int) -> int:
        """What an index along ``dim`` adds to the offset before swizzling."""
        offset = 0
        for size, stride in reversed(self.modes[dim]):
            index, digit = divmod(index, size)
            offset += digit * stride
        return offset

    def offset(self, index: Sequence[int]) -> int:
        """The offset of the element at ``index``."""
        if len(index) != self.rank or not all(0 <= i < n for i, n in zip(index, self.shape, strict=True)):
            raise misfit(f"index {tuple(index)} is outside of the shape {self.shape}")
        offset = self.linear_offset(index)
        return offset if self.swizzle is None else int(self.swizzle(offset))

    def linear_offsets(self, indices: Any) -> IntArray:
        """Offsets before swizzling of many elements: int64[..., rank] -> int64[...]."""
        import numpy as np

        indices = np.asarray(indices, dtype=np.int64)
        result: IntArray = np.full(indices.shape[:-1], self.base, dtype=np.int64)
        for d in range(self.rank):
            terms = self.terms(d)
            if len(terms) == 1:
                result += indices[..., d] * terms[0].multiplier
                continue
            for div, mod, mul in terms:
                result += indices[..., d] // div % mod * mul
        return result

    def offsets(self, indices: Any) -> IntArray:
        """Offsets of many elements: int64[..., rank] -> int64[...]."""
        result = self.linear_offsets(indices)
        return result if self.swizzle is None else self.swizzle(result)

    @cached_property
    def _table(self) -> IntArray:
        import numpy as np

        table: IntArray = np.full((1,) * self.rank, self.base, dtype=np.int64)
        for d, extent in enumerate(self.shape):
            part: IntArray = np.zeros(extent, dtype=np.int64)
            for div, mod, mul in self.terms(d):
                part += np.arange(extent) // div % mod * mul
            table = table + part.reshape([-1 if e == d else 1 for e in range(self.rank)])
        table = table if self.swizzle is None else self.swizzle(table)
        table.flags.writeable = False
        return table

    def table(self) -> IntArray:
        """All offsets, int64[shape], read-only."""
        return self._table

    def is_injective(self) -> bool:
        """Whether no two elements share an offset."""
        import numpy as np

        return int(np.unique(self.table()).size) == math.prod(self.shape)

    def vector_width(self, dim: int) -> int:
        """How many elements along ``dim``, in aligned groups from index 0, lie at consecutive offsets that start at
        a multiple of their number."""
        digits = self.modes[dim]
        if not digits or digits[-1][1] != 1:
            return 1
        width = digits[-1][0]
        others = [stride for d, modes in enumerate(self.modes) for size, stride in modes
                  if (d != dim or (size, stride) != digits[-1])]
        width = math.gcd(width, self.base, *others) if others or self.base else width
        if self.swizzle is not None:
            width = math.gcd(width, 1 << self.swizzle.base)
        return width

    # views

    def permute(self, dims: Sequence[int]) -> SharedLayout:
        """Dimension ``i`` of the result is dimension ``dims[i]`` of this layout."""
        dims = tuple(d + self.rank if d < 0 else d for d in dims)
        if sorted(dims) != list(range(self.rank)):
            raise undefined(f"{dims} is not a permutation of the {self.rank} dimensions of {self}")
        return SharedLayout([self.shape[d] for d in dims], [self.modes[d] for d in dims], self.swizzle, self.base)

    def transpose(self) -> SharedLayout:
        """The layout with its dimensions in reverse order."""
        return self.permute(tuple(reversed(range(self.rank))))

    def slice(self, starts: Sequence[int], extents: Sequence[int]) -> SharedLayout:
        """The sub-box of ``extents`` at ``starts``; its index 0 is the box's corner.

        Raises:
            UserError: E0404 where a dimension's index has several digits and the box cuts through them.
        """
        modes: list[DimModes] = []
        base = self.base
        for d, (start, extent) in enumerate(zip(starts, extents, strict=True)):
            if start < 0 or extent < 1 or start + extent > self.shape[d]:
                raise undefined(f"[{start}:{start + extent}] is outside of dimension {d} of extent {self.shape[d]}")
            digits, moved = _slice_digits(self.modes[d], start, extent)
            if digits is None:
                raise undefined(f"a slice of extent {extent} at {start} along dimension {d} of {self} is no layout")
            modes.append(digits)
            base += moved
        return SharedLayout(extents, modes, self.swizzle, base)

    def drop(self, dim: int, index: int) -> SharedLayout:
        """The layout of lower rank at one index of dimension ``dim`` (one buffer of several)."""
        part = self.slice([index if d == dim else 0 for d in range(self.rank)],
                          [1 if d == dim else n for d, n in enumerate(self.shape)])
        return SharedLayout(part.shape[:dim] + part.shape[dim + 1:], part.modes[:dim] + part.modes[dim + 1:],
                            part.swizzle, part.base)

    def reshape(self, shape: Sequence[int]) -> SharedLayout:
        """The same elements, numbered row-major, under another shape of the same size.

        Raises:
            UserError: E0404 if the sizes differ or the digits cannot be regrouped.
        """
        shape = tuple(shape)
        if math.prod(shape) != math.prod(self.shape):
            raise undefined(f"a layout of shape {self.shape} cannot be reshaped to {shape}: the sizes differ")
        digits = list(itertools.chain.from_iterable(self.modes))
        modes: list[DimModes] = []
        for extent in reversed(shape):
            inner: list[tuple[int, int]] = []
            while extent > 1:
                size, stride = digits.pop()
                taken = math.gcd(size, extent)
                if taken != min(size, extent):
                    raise undefined(f"{self} cannot be reshaped to {shape}")
                inner.append((taken, stride))
                if taken != size:
                    digits.append((size // taken, stride * taken))
                extent //= taken
            modes.append(tuple(reversed(inner)))
        return SharedLayout(shape, modes[::-1], self.swizzle, self.base)

    def expand_dims(self, axis: int) -> SharedLayout:
        """A dimension of extent 1 is put before dimension ``axis`` of the result."""
        axis = axis + self.rank + 1 if axis < 0 else axis
        return SharedLayout((*self.shape[:axis], 1, *self.shape[axis:]), (*self.modes[:axis], (), *self.modes[axis:]),
                            self.swizzle, self.base)

    def with_swizzle(self, bits: int, base: int, shift: int) -> SharedLayout:
        """The same strides under another swizzle."""
        return SharedLayout(self.shape, self.modes, Swizzle(bits, base, shift), self.base)

    def buffers(self, count: int, align: int = 1) -> SharedLayout:
        """``count`` copies in a new leading dimension, each on a multiple of ``align`` elements and of the
        swizzle's period, so that every copy has the same pattern of banks."""
        if self.swizzle is not None:
            align = math.lcm(align, 1 << (self.swizzle.base + self.swizzle.shift + self.swizzle.bits))
        stride = -(-self.size // align) * align
        return SharedLayout((count, *self.shape), (((count, stride),), *self.modes), self.swizzle, self.base)


def row_major(*shape: int) -> SharedLayout:
    """The last dimension is contiguous."""
    return strided_order(shape, tuple(reversed(range(len(shape)))))


def column_major(*shape: int) -> SharedLayout:
    """The first dimension is contiguous."""
    return strided_order(shape, tuple(range(len(shape))))


def strided_order(shape: Sequence[int], order: Sequence[int], pad: int = 0) -> SharedLayout:
    """Compact strides with the dimensions of ``order`` from the fastest to the slowest; the fastest one is followed
    by ``pad`` unused elements."""
    strides = [0] * len(shape)
    reach = 1
    for i, d in enumerate(order):
        strides[d] = reach
        reach = reach * shape[d] + (pad if i == 0 else 0)
    return SharedLayout(shape, strides)


def _merge(digits: Sequence[tuple[int, int]]) -> DimModes:
    result: list[tuple[int, int]] = []
    for size, stride in digits:
        if size == 1:
            continue
        if result and result[-1][1] == stride * size:
            result[-1] = (result[-1][0] * size, stride)
        else:
            result.append((size, stride))
    return tuple(result)


def _effective(swizzle: Swizzle | None, reach: int) -> Swizzle | None:
    """The swizzle without the bits that no offset up to ``reach`` has."""
    if swizzle is None:
        return None
    bits = min(swizzle.bits, max(0, reach.bit_length() - swizzle.base - swizzle.shift))
    return Swizzle(bits, swizzle.base, swizzle.shift) if bits else None


def _slice_digits(digits: DimModes, start: int, extent: int) -> tuple[DimModes | None, int]:
    """The digits of the slice (None if it is no layout) and the offset of its first element."""
    inner = math.prod(size for size, _ in digits[1:])
    if not digits:
        return (), 0
    size, stride = digits[0]
    digit, rest = divmod(start, inner)
    if rest + extent <= inner:
        below, moved = _slice_digits(digits[1:], rest, extent)
        return below, moved + digit * stride
    if rest or extent % inner:
        return None, 0
    return ((extent // inner, stride), *digits[1:]), digit * stride
