"""Global-memory layouts: strides that may be run-time symbols."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tilus.layouts.modes import misfit, undefined
from tilus.records import record


@record(frozen=True, slots=True)
class Linear:
    """``constant + sum(coefficient * symbol)``: canonical (terms sorted by name, no zero coefficients)."""

    constant: int = 0
    terms: tuple[tuple[str, int], ...] = ()

    @staticmethod
    def symbol(name: str) -> Linear:
        return Linear(0, ((name, 1),))

    @staticmethod
    def of(value: LinearLike) -> Linear:
        """An int as a constant, a string as a symbol."""
        if isinstance(value, Linear):
            return value
        return Linear.symbol(value) if isinstance(value, str) else Linear(value)

    @property
    def is_constant(self) -> bool:
        return not self.terms

    def __add__(self, other: LinearLike) -> Linear:
        other = Linear.of(other)
        terms = dict(self.terms)
        for name, coefficient in other.terms:
            terms[name] = terms.get(name, 0) + coefficient
        return Linear(self.constant + other.constant, tuple(sorted((n, c) for n, c in terms.items() if c)))

    __radd__ = __add__

    def __neg__(self) -> Linear:
        return self * -1

    def __sub__(self, other: LinearLike) -> Linear:
        return self + -Linear.of(other)

    def __mul__(self, factor: LinearLike) -> Linear:
        """Raises UserError E0404 for a product of two symbols."""
        other = Linear.of(factor)
        if not other.is_constant:
            if not self.is_constant:
                raise undefined(f"({self}) * ({other}) is not linear", help="name the product as a symbol of its own")
            return other * self.constant
        if other.constant == 0:
            return Linear()
        return Linear(self.constant * other.constant, tuple((n, c * other.constant) for n, c in self.terms))

    __rmul__ = __mul__

    def is_multiple_of(self, divisor: int, divisible: Mapping[str, int] | None = None) -> bool:
        """Whether the value is surely a multiple, given known divisors of symbols."""
        known = divisible or {}
        return self.constant % divisor == 0 and all(c * known.get(n, 1) % divisor == 0 for n, c in self.terms)

    def evaluate(self, values: Mapping[str, int]) -> int:
        return self.constant + sum(coefficient * values[name] for name, coefficient in self.terms)

    def __str__(self) -> str:
        parts = [name if c == 1 else f"{c}*{name}" for name, c in self.terms]
        if self.constant or not parts:
            parts.append(str(self.constant))
        return " + ".join(parts)


LinearLike = int | str | Linear


class GlobalLayout:
    """An immutable map from an index to an offset in elements: ``offset + sum(index * stride)``.

    Extents, strides and the offset are ints or linear forms of run-time symbols; strings stand for symbols.
    """

    __slots__ = ("offset", "shape", "strides")

    shape: tuple[Linear, ...]
    strides: tuple[Linear, ...]
    offset: Linear

    def __init__(self, shape: Sequence[LinearLike], strides: Sequence[LinearLike], offset: LinearLike = 0) -> None:
        if len(shape) != len(strides):
            raise misfit(f"{len(strides)} strides do not fit a shape of rank {len(shape)}")
        object.__setattr__(self, "shape", tuple(map(Linear.of, shape)))
        object.__setattr__(self, "strides", tuple(map(Linear.of, strides)))
        object.__setattr__(self, "offset", Linear.of(offset))

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("layouts are immutable")

    @staticmethod
    def row_major(shape: Sequence[int | str], names: Sequence[str] | None = None) -> GlobalLayout:
        """Compact strides. Where an extent is a symbol, the strides above it are the symbols ``names`` (default
        ``stride_0`` and so on), since a product of symbols is not linear; one symbol alone stays itself."""
        strides: list[Linear] = []
        reach = Linear(1)
        for d in range(len(shape) - 1, -1, -1):
            strides.append(reach)
            extent = Linear.of(shape[d])
            if reach.is_constant or extent.is_constant:
                reach = reach * extent
            elif d:
                reach = Linear.symbol(names[d - 1] if names else f"stride_{d - 1}")
        return GlobalLayout(shape, strides[::-1])

    def _key(self) -> tuple[object, ...]:
        # the stride of a dimension of extent 1 never matters
        one = Linear(1)
        strides = tuple(Linear() if n == one else s for n, s in zip(self.shape, self.strides, strict=True))
        return self.shape, strides, self.offset

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, GlobalLayout):
            return NotImplemented
        return self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def __reduce__(self) -> tuple[object, ...]:
        return GlobalLayout, (self.shape, self.strides, self.offset)

    @property
    def rank(self) -> int:
        return len(self.shape)

    def offset_of(self, index: Sequence[LinearLike]) -> Linear:
        """The offset of an index of ints or, where the strides are constant, symbols."""
        if len(index) != self.rank:
            raise misfit(f"an index of {len(index)} numbers does not fit a layout of rank {self.rank}")
        return sum((s * i for s, i in zip(self.strides, index, strict=True)), self.offset)

    def permute(self, dims: Sequence[int]) -> GlobalLayout:
        """Dimension ``i`` of the result is dimension ``dims[i]`` of this layout."""
        dims = tuple(d + self.rank if d < 0 else d for d in dims)
        if sorted(dims) != list(range(self.rank)):
            raise undefined(f"{dims} is not a permutation of {self.rank} dimensions")
        return GlobalLayout([self.shape[d] for d in dims], [self.strides[d] for d in dims], self.offset)

    def slice(self, starts: Sequence[LinearLike], extents: Sequence[LinearLike],
              steps: Sequence[int] | None = None) -> GlobalLayout:
        """The view of ``extents`` at ``starts``."""
        steps = steps or (1,) * self.rank
        strides = [s * k for s, k in zip(self.strides, steps, strict=True)]
        return GlobalLayout(extents, strides, self.offset_of(starts))

    def drop(self, dim: int, index: LinearLike) -> GlobalLayout:
        """The view of lower rank at one index of a dimension."""
        return GlobalLayout(self.shape[:dim] + self.shape[dim + 1:], self.strides[:dim] + self.strides[dim + 1:],
                            self.offset + self.strides[dim] * index)

    def contiguous_dims(self) -> tuple[int, ...]:
        """The dimensions whose stride is known to be 1 and whose extent is not known to be 1."""
        one = Linear(1)
        return tuple(d for d in range(self.rank) if self.strides[d] == one and self.shape[d] != one)

    def is_contiguous(self) -> bool:
        """Whether the elements are known to fill their memory row-major without gaps."""
        reach: Linear | None = Linear(1)
        for extent, stride in zip(reversed(self.shape), reversed(self.strides), strict=True):
            if extent == Linear(1):
                continue
            if reach is None or stride != reach:
                return False
            reach = reach * extent if extent.is_constant or reach.is_constant else None
        return True

    def alignment(self, dim: int, limit: int, divisible: Mapping[str, int] | None = None) -> int:
        """The largest divisor ``n`` of ``limit`` such that vectors of ``n`` elements along ``dim``, from indices that
        are multiples of ``n``, begin at offsets that are surely multiples of ``n``."""
        if self.strides[dim] != Linear(1):
            return 1
        others = [self.offset, *(s for d, s in enumerate(self.strides) if d != dim)]
        return next(n for n in range(limit, 0, -1)
                    if limit % n == 0 and all(o.is_multiple_of(n, divisible) for o in others))

    def __str__(self) -> str:
        offset = "" if self.offset == Linear() else f", offset={self.offset}"
        return f"global(({', '.join(map(str, self.shape))}), strides=[{', '.join(map(str, self.strides))}]{offset})"

    __repr__ = __str__
