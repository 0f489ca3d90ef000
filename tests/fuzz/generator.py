"""Random tile programs, as Python source: operands, results, and the bounds on what engines may differ by."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from tests.fuzz.program import (
    FINEST,
    FLOATS,
    GREATEST,
    INTEGERS,
    PRECISION,
    SUBNORMAL,
    ArrayArgument,
    Output,
    Program,
    Shape,
    Value,
)
from tests.fuzz.storage_types import range_of, some_type

EXTENTS = (1, 1, 2, 3, 4, 5, 8, 8, 13, 16, 16, 17, 31, 32, 32, 33, 64, 100, 128)
MOST = 4096
"""The most elements of a tile."""
Statement = Callable[["Generator"], None]


class Generator:
    """Writes one program. Statements of the families call it to emit lines and to pick operands."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.random = random.Random(seed)
        self.lines: list[str] = []
        self.prelude: list[str] = []
        self.depth = 1
        self.values: list[Value] = []
        self.types: dict[str, tuple[str, Shape]] = {}
        self.arrays: list[ArrayArgument] = []
        self.scalars: dict[str, tuple[str, float]] = {}
        self.counts: Counter[str] = Counter()
        self.names = 0
        # A program keeps to few types and extents, so that its values meet.
        self.extents = self.random.sample(EXTENTS, 3)
        self.dtypes = [self.random.choice(FLOATS[:3]), *self.random.sample((*FLOATS, *INTEGERS), 2)]
        self.stored = [some_type(self.random) for _ in range(self.random.choice((0, 1, 2)))]
        """Types for storage that the program keeps to; some programs have none."""
        self.warps = self.random.choice((4, 4, 4, 1, 2, 8))
        self.grid: Shape = self.random.choice(((1,), (2,), (3,), (2, 2)))

    @property
    def blocks(self) -> int:
        return math.prod(self.grid)

    # -- text

    def line(self, text: str) -> None:
        self.lines.append("    " * self.depth + text)

    def name(self, prefix: str = "v") -> str:
        self.names += 1
        return f"{prefix}{self.names}"

    def count(self, what: str) -> None:
        self.counts[what] += 1

    def chance(self, probability: float) -> bool:
        return self.random.random() < probability

    @contextmanager
    def nested(self) -> Iterator[None]:
        """Lines one level further in; the values that they make end with them."""
        kept = list(self.values)
        self.depth += 1
        try:
            yield
        finally:
            self.depth -= 1
            self.values = kept

    # -- results

    def add(self, value: Value) -> Value:
        """A value whose assignment is written already."""
        self.values.append(value)
        self.types[value.name] = (value.dtype, value.shape)
        return value

    def new(self, text: str, value: Value) -> Value:
        """``value`` under a new name, assigned ``text``."""
        value = replace(value, name=self.name())
        self.line(f"{value.name} = {text}")
        return self.add(value)

    def made(self, text: str, dtype: str, shape: Shape) -> Value:
        """A determined value of an integer type or bool."""
        return self.new(text, Value("", dtype, shape))

    def kept(self, text: str, dtype: str, shape: Shape, *, zeros: bool = True) -> Value:
        """A determined value of a type for storage."""
        return self.new(text, Value("", dtype, shape, *range_of(dtype), zeros=zeros))

    def moved(self, text: str, x: Value, shape: Shape) -> Value:
        return self.new(text, x.moved("", shape))

    def rounded(self, text: str, dtype: str, shape: Shape, bound: float, grid: int | None = None, *,
                product: bool = False, zeros: bool = True) -> Value:
        """The correctly rounded result of determined operands: determined itself. ``grid`` stays where no rounding
        happened."""
        bound = bound if bound <= GREATEST[dtype] / 4 else math.inf
        exact = grid is not None and bound <= 2.0 ** (grid + PRECISION[dtype]) and grid >= FINEST[dtype]
        return self.new(text, Value("", dtype, shape, bound, grid if exact else None, 0.0, product and not exact,
                                    zeros))

    def inexact(self, text: str, dtype: str, shape: Shape, bound: float, error: float,
                ulps: float = 0.5) -> Value | None:
        """A result that is within ``error`` before a rounding of ``ulps``; None beyond the range of the type."""
        if not bound + error < GREATEST[dtype] / 4:
            return None
        unit = 2.0 ** (1 - PRECISION[dtype]) * ulps
        return self.new(text, Value("", dtype, shape, bound, None,
                                    error + unit * (bound + error) + SUBNORMAL[dtype] * ulps, False, False))

    # -- picking

    def shape(self, rank: int | None = None) -> Shape:
        rank = rank or self.random.choice((1, 2, 2, 2, 3))
        extents = tuple(self.random.choice(self.extents if rank < 3 else (*self.extents, 1, 2)) for _ in range(rank))
        if self.chance(0.01):
            extents = (0, *extents[1:])
        return extents if math.prod(extents) <= MOST else self.shape(rank)

    def pick(self, *conditions: Callable[[Value], bool]) -> Value | None:
        """One of the values made last, of a type that computes or bool, for which all conditions hold."""
        return self.pick_any(lambda v: v.computes, *conditions)

    def pick_any(self, *conditions: Callable[[Value], bool]) -> Value | None:
        """:meth:`pick`, from those of types for storage too."""
        found = [v for v in self.values if all(c(v) for c in conditions)]
        return self.random.choice(found[-12:]) if found else None

    def partner(self, x: Value, *conditions: Callable[[Value], bool]) -> Value | None:
        """A value of the same type that broadcasts against ``x``."""
        def fits(v: Value) -> bool:
            pairs = zip(v.shape[::-1], x.shape[::-1], strict=False)
            return v.dtype == x.dtype and all(m == n or 1 in (m, n) for m, n in pairs) and \
                math.prod(broadcast(v.shape, x.shape)) <= 2 * MOST

        return self.pick_any(fits, lambda v: v is not x, *conditions) or self.pick_any(fits, *conditions)

    def array(self, dtype: str, shape: Shape, fill: str, layout: str = "C", *, written: bool = False) -> ArrayArgument:
        """A new array parameter."""
        prefix = "w" if written else "x"
        shape = tuple(max(0, extent) for extent in shape)  # of a window that is shorter than an empty tile
        array = ArrayArgument(f"{prefix}{len(self.arrays)}", dtype, shape, layout, fill, written)
        self.arrays.append(array)
        self.count(f"array {layout}")
        self.count(f"fill {fill}")
        return array

    def scalar(self, dtype: str, value: float) -> str:
        """A new run-time parameter that is a number."""
        name = f"p{len(self.scalars)}"
        self.scalars[name] = (dtype, value)
        self.count(f"scalar {dtype}")
        return name

    # -- a whole program

    def statement(self, families: list[tuple[Statement, float]]) -> None:
        kinds, weights = zip(*families, strict=True)
        self.random.choices(kinds, weights)[0](self)

    def declare(self) -> None:
        """Dimensions of arrays are names of their own, names that equal extents share, or numbers."""
        numbers, shared = self.chance(0.5), self.chance(0.5)
        for array in self.arrays:
            kinds = ["own", *(["number"] if numbers else []), *(["shared"] if shared and not array.absent else [])]
            dims = []
            for axis, extent in enumerate(array.shape):
                kind = self.random.choice(kinds)
                self.count(f"dimension {kind}")
                dims.append({"own": f'"{array.name}_{axis}"', "number": str(extent), "shared": f'"E{extent}"'}[kind])
            array.dims = tuple(dims)

    def finish(self) -> Program:
        self.declare()
        if any(array.dtype in self.stored for array in self.arrays):
            self.count("program with arrays of types for storage")
        outputs = [self._store(i, v) for i, v in enumerate(self._results())]
        self.count(f"blocks {self.blocks}")
        self.count(f"warps {self.warps}")
        scalars = {"n": self.random.randint(0, 6), "m": self.random.choice((0, 3, -2, 1 << 33)),
                   "f": self.random.choice((0.0, 1.5, -2.25))}
        scalars.update((name, value) for name, (_, value) in self.scalars.items())
        return Program(self.seed, self.prelude, self.lines, self.arrays, outputs, self.grid, self.warps, self.types,
                       scalars, self.counts, {name: dtype for name, (dtype, _) in self.scalars.items()})

    def _results(self) -> list[Value]:
        """What is stored: the values made last, and any that nothing else uses."""
        text = "\n".join(self.lines)
        unused = [v for v in self.values[:-3] if text.count(f"{v.name} ") + text.count(f"{v.name},") +
                  text.count(f"{v.name})") + text.count(f"{v.name}.") <= 1]
        return [*self.random.sample(unused, min(2, len(unused))), *self.values[-3:]]

    def _store(self, number: int, value: Value) -> Output:
        """A store to a new output, which is at times smaller or larger than the tile."""
        shape = tuple(max(0, n + self.random.choice((0, 0, 0, -1, 2))) for n in value.shape)
        layout = self.random.choice(("C", "C", "C", "padded", "F", "strided", "reversed"))
        output = Output(f"o{number}", value.dtype, shape, value.error, layout, value.zeros and not value.computes)
        self.count(f"result {'determined' if value.determined else 'within a bound'}")
        self.count(f"stored {layout}")
        if not value.computes:
            self.count("result of a type for storage")
        if not shape:
            self.line(f"{output.name}[g] = {value.name}")
            return output
        offsets = ", ".join(self.random.choice(("0", "0", "0", "0", "0", "-1", "1")) for _ in shape)
        mask = ""
        if self.chance(0.2):
            axis = self.random.randrange(len(shape))
            mask = f", mask=tl.iota({value.shape}, {axis}) {self.random.choice(('% 3 != 1', '> 0', '< n', '!= g'))}"
            self.count("stored masked")
        self.line(f"tl.store({output.name}[g, {', '.join([':'] * len(shape))}], ({offsets},), {value.name}{mask})")
        return output


def broadcast(a: Shape, b: Shape) -> Shape:
    """The shape that two shapes broadcast to."""
    rank = max(len(a), len(b))
    left, right = (1,) * (rank - len(a)) + a, (1,) * (rank - len(b)) + b
    return tuple(n if m == 1 else m for m, n in zip(left, right, strict=True))


def generate(seed: int) -> Program:
    """The program of a seed; equal seeds give equal programs. One in five is a fused function."""
    from tests.fuzz import families
    from tests.fuzz.fused import generate_fused

    if seed % 5 == 4:
        return generate_fused(seed)
    generator = Generator(seed)
    families.write(generator)
    return generator.finish()
