"""Random fused functions: several kernels with grids of their own, workspaces between them, every result exact.

All numbers are small multiples of a power of two, so that sums and products are exact in whatever order they are taken,
and every division into kernels has to give the same bits.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass

from tests.fuzz.program import ArrayArgument, Program, Shape
from tests.fuzz.storage_types import STORED, range_of

EXTENTS = (1, 1, 2, 3, 5, 8, 17, 33, 64, 100, 257, 700)
EXACT = 2.0**24
EXACT_TYPES = [name for name in STORED if range_of(name)[0] <= 32 and range_of(name)[1] is not None]
"""Types for storage with few numbers, of which sums and products are exact."""


@dataclass(frozen=True)
class _Value:
    """``bound`` and ``grid`` as of the values of tile programs; ``dims`` numbers the extents, None for 1."""

    name: str
    dims: tuple[int | None, ...]
    bound: float
    grid: int

    @property
    def fits(self) -> bool:
        return self.bound <= EXACT * 2.0**self.grid


class _Writer:
    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.extents = [*(self.random.choice(EXTENTS) for _ in range(2)), self.random.choice((1, 2, 3, 5)),
                        self.random.choice((1, 2, 4, 7))]
        kind = self.random.random()
        if kind < 0.4:  # arrays of rank 3 are small
            self.extents = [min(n, 40) for n in self.extents]
            if self.random.random() < 0.5:  # and of rank 4 still smaller
                self.extents[:2] = [min(n, 14) for n in self.extents[:2]]
        elif kind < 0.7:  # several blocks in some of the kernels
            few, many = self.random.choice((1, 1, 2, 7)), 1500 + 7 * (seed % 200)
            self.extents[:2] = self.random.sample((few, many), 2)
        self.lines: list[str] = []
        self.values: list[_Value] = []
        self.counts: Counter[str] = Counter()
        self.names = 0

    def add(self, text: str, dims: tuple[int | None, ...], bound: float, grid: int, kind: str) -> None:
        value = _Value(f"v{self.names}", dims, bound, grid)
        if not value.fits:
            return
        self.names += 1
        self.lines.append(f"    {value.name} = {text}")
        self.values.append(value)
        self.counts[f"fused {kind}"] += 1

    def pick(self) -> _Value:
        return self.random.choice(self.values[-6:])

    def size(self, dims: tuple[int | None, ...]) -> int:
        total = 1
        for d in dims:
            total *= 1 if d is None else self.extents[d]
        return total

    def statement(self) -> None:
        self.random.choice((self.elementwise, self.elementwise, self.reduction, self.reduction, self.nested,
                            self.product, self.everything, self.turn))()

    def elementwise(self) -> None:
        a, b = self.pick(), self.pick()
        rank = max(len(a.dims), len(b.dims))
        pairs = list(zip((None,) * (rank - len(a.dims)) + a.dims, (None,) * (rank - len(b.dims)) + b.dims, strict=True))
        if any(m is not None and n is not None and m != n for m, n in pairs):
            return
        dims = tuple(n if m is None else m for m, n in pairs)
        kind = self.random.choice("+-*mMwa")
        grid = min(a.grid, b.grid)
        if kind in "+-":
            self.add(f"{a.name} {kind} {b.name}", dims, a.bound + b.bound, grid, "sum")
        elif kind == "*":
            self.add(f"{a.name} * {b.name}", dims, a.bound * b.bound, a.grid + b.grid, "product")
        elif kind in "mM":
            name = "minimum" if kind == "m" else "maximum"
            self.add(f"tl.{name}({a.name}, {b.name})", dims, max(a.bound, b.bound), grid, name)
        elif kind == "w":
            self.add(f"tl.where({a.name} > {b.name}, {a.name}, {b.name} * 0.5)", dims, max(a.bound, b.bound), grid - 1,
                     "where")
        else:
            self.add(f"tl.abs({a.name}) - 1", a.dims, a.bound + 1, min(a.grid, 0), "abs")

    def reduction(self) -> None:
        a = self.pick()
        if len(a.dims) < 2:
            return
        axis = self.random.randrange(len(a.dims))
        kind = self.random.choice(("sum", "sum", "max", "min"))
        dims = tuple(None if d == axis else m for d, m in enumerate(a.dims))
        bound = a.bound * (self.size((a.dims[axis],)) if kind == "sum" else 1)
        if self.random.random() < 0.5:
            text = f"tl.{kind}({a.name}, axis={axis}, keepdims=True)"
        else:
            key = ", ".join("None" if d == axis else ":" for d in range(len(dims)))
            text = f"tl.{kind}({a.name}, {axis})[{key}]"
        self.add(text, dims, bound, a.grid, f"{kind} along {axis} of {len(dims)}")

    def nested(self) -> None:
        """A reduction of a reduction, with a factor or without."""
        a = self.pick()
        if len(a.dims) < 2:
            return
        kind = self.random.choice(("sum", "sum", "max", "min"))
        inner = self.random.randrange(len(a.dims))
        outer = self.random.choice([d for d in range(len(a.dims)) if d != inner])
        factor = self.random.choice(("", " * 0.5", " * 2")) if kind == "sum" else ""
        dims = tuple(None if d in (inner, outer) else m for d, m in enumerate(a.dims))
        bound = a.bound * (2 * self.size((a.dims[inner], a.dims[outer])) if kind == "sum" else 1)
        text = f"tl.{kind}(tl.{kind}({a.name}, axis={inner}, keepdims=True){factor}, axis={outer}, keepdims=True)"
        self.add(text, dims, bound, a.grid - 1, f"{kind} of {kind} of {len(dims)}")

    def everything(self) -> None:
        a = self.pick()
        if not a.dims:
            return
        kind = self.random.choice(("sum", "max", "min"))
        bound = a.bound * (self.size(a.dims) if kind == "sum" else 1)
        self.add(f"tl.{kind}({a.name})", (), bound, a.grid, f"{kind} of all")

    def product(self) -> None:
        a, b = self.pick(), self.pick()
        if len(a.dims) not in (2, 3) or len(b.dims) != len(a.dims) or a.dims[:-2] != b.dims[:-2]:
            return
        k, turned = a.dims[-1], f"{b.name}.T" if len(b.dims) == 2 else f"{b.name}.transpose(0, 2, 1)"
        right = b.name if b.dims[-2] == k else turned if b.dims[-1] == k else None
        if right is None:
            return
        columns = b.dims[-1] if right == b.name else b.dims[-2]
        self.add(f"{a.name} @ {right}", (*a.dims[:-1], columns), self.size((k,)) * a.bound * b.bound, a.grid + b.grid,
                 f"contraction of {len(a.dims)}")

    def turn(self) -> None:
        a = self.pick()
        if len(a.dims) == 2:
            self.add(f"{a.name}.T", a.dims[::-1], a.bound, a.grid, "transpose")
        elif len(a.dims) == 3:
            self.permute(a, self.random.choice(((0, 2, 1), (2, 0, 1), (1, 0, 2), (2, 1, 0))))
        elif len(a.dims) == 4:
            self.permute(a, self.random.choice(((0, 2, 3, 1), (0, 3, 1, 2), (2, 3, 0, 1), (0, 1, 3, 2), (3, 2, 1, 0))))

    def permute(self, a: _Value, order: tuple[int, ...]) -> None:
        dims = tuple(a.dims[p] for p in order)
        self.add(f"{a.name}.transpose{order}", dims, a.bound, a.grid, f"transpose of {len(order)}")


def generate_fused(seed: int) -> Program:
    """The fused function of a seed; ``fused`` says that it gives its results."""
    w = _Writer(seed)
    arrays = []
    third = (((2, 0, 1),) if w.extents[0] * w.extents[1] <= 1600 else ())
    fourth = (((2, 0, 1, 3), (2, 0, None, None)) if w.extents[0] * w.extents[1] <= 200 else ())
    packed = (w.random.choice(((0, 1), (1, 0), (0, None))),) if w.random.random() < 0.5 else ()
    for number, dims in enumerate(((0, 1), (None, 1), (0, None), *third, *fourth, *packed)):
        shape: Shape = tuple(1 if d is None else w.extents[d] for d in dims)
        name, extents = f"x{number}", [w.extents[d] if d is not None else 1 for d in dims]
        known = tuple(None if n == 1 else d for d, n in zip(dims, extents, strict=True))
        dtype = w.random.choice(EXACT_TYPES) if number == 3 + len(third) + len(fourth) else "f32"
        arrays.append(ArrayArgument(name, dtype, shape, w.random.choice(("C", "C", "F", "padded", "strided")), "grid"))
        if dtype == "f32":
            w.values.append(_Value(name, known, 8.0, -2))
        else:
            bound, grid = range_of(dtype)
            assert grid is not None
            w.add(f"{name}.to(tl.f32)", known, bound, grid, "packed array")
    for _ in range(w.random.randint(2, 9)):
        w.statement()
    made = [v for v in w.values if v.name[0] == "v"]
    if not made:
        w.add("x0 + x1", w.values[0].dims, 16.0, -2, "sum")
        made = w.values[-1:]
    chosen = list(dict.fromkeys([made[-1].name, w.random.choice(made).name]))
    w.lines.append(f"    return {', '.join(chosen)}")
    w.counts[f"fused results {len(chosen)}"] += 1
    return Program(seed, [], w.lines, arrays, [], (1,), 4, {}, {}, w.counts, fused=True)
