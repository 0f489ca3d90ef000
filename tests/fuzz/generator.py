"""Random tile programs, as Python source, with bounds on what each value may differ between engines.

Every float value carries its largest magnitude ``bound``, the grid 2**``grid`` whose multiples it takes while it is
exact, and the absolute ``error`` that rounding may have put into it on any engine. While a result is representable in
its type the error stays 0, and engines have to agree to the bit; values that are not exact never feed an operation that
is not continuous (comparisons, conversions to integers, rounding). Integers always have to be equal.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from dataclasses import dataclass, field

EXTENTS = (1, 2, 3, 5, 8, 16, 17, 31, 32)
INTEGERS = ("i8", "i16", "i32", "i64", "u8", "u16", "u32", "u64")
FLOATS = ("f32", "f16", "bf16", "f64")
PRECISION = {"f16": 11, "bf16": 8, "f32": 24, "f64": 53}
LARGEST = {"f16": 6e4, "bf16": 1e30, "f32": 1e30, "f64": 1e200}
ULPS = 8.0
"""What an elementary function may be off by, in units of the last place; the documented bounds are lower."""


@dataclass
class Value:
    name: str
    dtype: str
    shape: tuple[int, ...]
    bound: float = 0.0
    grid: int | None = None
    error: float = 0.0

    @property
    def is_float(self) -> bool:
        return self.dtype in PRECISION

    @property
    def exact(self) -> bool:
        return not self.is_float or (self.error == 0.0 and self.grid is not None)


@dataclass
class ArrayInput:
    name: str
    dtype: str
    shape: tuple[int, ...]
    layout: str = "C"
    low: int = -8
    high: int = 8
    grid: int = -2


@dataclass
class Output:
    name: str
    dtype: str
    shape: tuple[int, ...]
    error: float


@dataclass
class Program:
    seed: int
    source: str
    inputs: list[ArrayInput]
    outputs: list[Output]
    scalar: int
    blocks: int
    counts: Counter[str] = field(default_factory=Counter)


class Generator:
    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.random = random.Random(seed)
        self.lines: list[str] = []
        self.indent = 1
        self.values: list[Value] = []
        self.inputs: list[ArrayInput] = []
        self.counts: Counter[str] = Counter()
        self.names = 0
        # A program keeps to few types and extents, so that its values meet.
        self.extents = self.random.sample(EXTENTS, 3)
        self.dtypes = [self.random.choice(FLOATS[:3]), *self.random.sample((*FLOATS, *INTEGERS), 2)]

    # -- text

    def line(self, text: str) -> None:
        self.lines.append("    " * self.indent + text)

    def new(self, text: str, dtype: str, shape: tuple[int, ...], bound: float = 0.0, grid: int | None = None,
            error: float = 0.0) -> Value:
        self.names += 1
        value = Value(f"v{self.names}", dtype, shape, bound, grid, error)
        self.line(f"{value.name} = {text}")
        self.values.append(value)
        return value

    def rounded(self, text: str, dtype: str, shape: tuple[int, ...], bound: float, grid: int | None, error: float,
                ulps: float = 0.5) -> Value | None:
        """A float result: exact where the type represents it, else with the rounding's error; None beyond the range."""
        if bound > LARGEST[dtype]:
            return None
        p = PRECISION[dtype]
        if grid is not None and error == 0.0 and bound <= 2.0 ** (grid + p) and grid >= -24 and ulps <= 0.5:
            return self.new(text, dtype, shape, bound, grid)
        unit = 2.0 ** (1 - p) * ulps
        return self.new(text, dtype, shape, bound, None, error + unit * (bound + error) + 1e-7 * (dtype == "f16"))

    # -- picking

    def shape(self, rank: int | None = None) -> tuple[int, ...]:
        rank = rank or self.random.choice((1, 2, 2, 2, 3))
        extents = tuple(self.random.choice(self.extents if rank < 3 else (*self.extents, 1)) for _ in range(rank))
        return extents if math.prod(extents) <= 2048 else self.shape(rank)

    def pick(self, *conditions: object) -> Value | None:
        found = [v for v in self.values if all(c(v) for c in conditions)]  # type: ignore[operator]
        return self.random.choice(found[-12:]) if found else None

    def partner(self, x: Value) -> Value | None:
        """A value of the same type that broadcasts against ``x``."""
        def fits(v: Value) -> bool:
            a, b = v.shape[::-1], x.shape[::-1]
            return v.dtype == x.dtype and all(m == n or 1 in (m, n) for m, n in zip(a, b, strict=False))

        return self.pick(fits, lambda v: v is not x) or self.pick(fits)

    @staticmethod
    def broadcast(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...]:
        rank = max(len(a), len(b))
        left, right = (1,) * (rank - len(a)) + a, (1,) * (rank - len(b)) + b
        return tuple(max(m, n) if 0 not in (m, n) else 0 for m, n in zip(left, right, strict=True))

    # -- statements

    def load(self) -> None:
        shape = self.shape()
        dtype = self.random.choice(self.dtypes)
        extents = tuple(max(0, n + self.random.choice((-3, -1, 0, 0, 1, 7))) for n in shape)
        name = f"x{len(self.inputs)}"
        layout = self.random.choice(("C", "C", "C", "F", "strided", "reversed"))
        source = ArrayInput(name, dtype, extents, layout)
        if dtype in INTEGERS:
            source.low, source.high, source.grid = (0, 20, 0) if dtype[0] == "u" else (-20, 20, 0)
        self.inputs.append(source)
        offsets = [self.random.choice(("0", "0", "g", "g * 2", "1", "-1", "n - 3")) for _ in shape]
        text = f"tl.load({name}, ({', '.join(offsets)},), {shape}"
        if self.random.random() < 0.3:
            self.counts["mask"] += 1
            axis = self.random.randrange(len(shape))
            test = self.random.choice(("% 2 == 0", "< n", "!= g", "> 1"))
            text += f", mask=tl.iota({shape}, {axis}) {test}"
        if self.random.random() < 0.3:
            self.counts["other"] += 1
            text += f", other={self.random.choice((1, 3, 5))}"
        self.counts["load"] += 1
        self.counts[f"rank {len(shape)}"] += 1
        self.counts[f"array {layout}"] += 1
        if dtype in INTEGERS:
            self.new(text + ")", dtype, shape)
        else:
            self.new(text + ")", dtype, shape, 8.0, -2)

    def binary(self) -> None:
        x = self.pick()
        y = self.partner(x) if x else None
        if x is None or y is None:
            return
        shape = self.broadcast(x.shape, y.shape)
        if not x.is_float:
            op = self.random.choice(("+", "-", "*", "//", "%", "&", "|", "^", "<<", ">>", "min", "max"))
            text = f"tl.{op}imum({x.name}, {y.name})" if op in ("min", "max") else f"{x.name} {op} {y.name}"
            self.counts[f"int {op}"] += 1
            self.new(text, x.dtype, shape)
            return
        op = self.random.choice(("+", "-", "*", "min", "max", "/"))
        self.counts[f"float {op}"] += 1
        grid = None if x.grid is None or y.grid is None else min(x.grid, y.grid)
        if op in ("+", "-"):
            self.rounded(f"{x.name} {op} {y.name}", x.dtype, shape, x.bound + y.bound, grid, x.error + y.error)
        elif op == "*":
            product = None if x.grid is None or y.grid is None else x.grid + y.grid
            error = x.bound * y.error + y.bound * x.error + x.error * y.error
            self.rounded(f"{x.name} * {y.name}", x.dtype, shape, x.bound * y.bound, product, error)
        elif op == "/":
            if y.bound > 1e4:
                return
            error = x.error + x.bound * y.error
            self.rounded(f"{x.name} / (tl.abs({y.name}) + 1)", x.dtype, shape, x.bound, None,
                         error + x.bound * 2.0 ** (1 - PRECISION[x.dtype]) * 2, 2.0)
        else:
            value = self.new(f"tl.{op}imum({x.name}, {y.name})", x.dtype, shape, max(x.bound, y.bound), grid,
                             max(x.error, y.error))
            if grid is None and value.error == 0.0:
                value.error = max(x.error, y.error)

    def literal(self) -> None:
        """An operation with a constant: what simplifiers look at."""
        x = self.pick()
        if x is None:
            return
        self.counts["literal"] += 1
        if not x.is_float:
            c = self.random.choice((0, 0, 1, 1, 2, 3, 8, 16, 100))
            op = self.random.choice(("+", "-", "*", "//", "%", "&", "|", "^", "<<", ">>"))
            text = f"{x.name} {op} {c}" if self.random.random() < 0.6 else f"{c} {op} {x.name}"
            self.new(text, x.dtype, x.shape)
            return
        op, c = self.random.choice((("+", 1.0), ("-", 0.0), ("*", 2.0), ("*", 0.5), ("*", 1.0), ("+", 0.0)))
        if op == "*":
            grid = None if x.grid is None else x.grid + {2.0: 1, 0.5: -1, 1.0: 0}[c]
            self.rounded(f"{x.name} * {c}", x.dtype, x.shape, x.bound * c, grid, x.error * c)
        else:
            grid = None if x.grid is None else min(x.grid, 0)
            self.rounded(f"{x.name} {op} {c}", x.dtype, x.shape, x.bound + c, grid, x.error)

    def folding(self) -> None:
        """What a simplifier can fold: constants that wrap, comparisons of indices at their edges, rearrangements of
        rearrangements."""
        x = self.pick(lambda v: len(v.shape) >= 2)
        if x is None:
            return
        self.counts["folding"] += 1
        same = {"bound": x.bound, "grid": x.grid, "error": x.error}
        rank = len(x.shape)
        kind = self.random.choice(("constants", "edge", "edge", "chain"))
        if kind == "constants":
            dtype = self.random.choice(INTEGERS)
            op = self.random.choice(("+", "*", "-", "|", "//", "%"))
            self.new(f"tl.full({x.shape}, 100, tl.{dtype}) {op} tl.full({x.shape}, {self.random.choice((1, 3, 120))}, "
                     f"tl.{dtype})", dtype, x.shape)
        elif kind == "edge":
            axis = self.random.randrange(rank)
            n = x.shape[axis]
            limit = self.random.choice((0, 1, n - 3, n - 2, n - 1, n, n + 1, -1))
            op = self.random.choice(("<", "<=", ">", ">=", "==", "!="))
            index = f"tl.iota({x.shape}, {axis})"
            left = self.random.choice((index, index, f"({index} - {self.random.randint(0, 3)})", f"({n} - {index})"))
            self.new(f"tl.where({left} {op} {limit}, {x.name}, tl.zeros({x.shape}, tl.{x.dtype}))", x.dtype, x.shape,
                     **same)
        else:
            first, second = list(range(rank)), list(range(rank))
            self.random.shuffle(first)
            self.random.shuffle(second)
            shape = tuple(x.shape[first[p]] for p in second)
            text = f"{x.name}.transpose{tuple(first)}.transpose{tuple(second)}"
            flat = f"{text}.reshape(-1).reshape{shape}" if self.random.random() < 0.5 else text
            self.new(flat, x.dtype, shape, **same)

    def unary(self) -> None:
        x = self.pick()
        if x is None:
            return
        if not x.is_float:
            op = self.random.choice(("-{}", "~{}", "tl.abs({})", "tl.popcount({})", "tl.clz({})"))
            self.counts["int unary"] += 1
            self.new(op.format(x.name), x.dtype, x.shape)
            return
        op = self.random.choice(("neg", "abs", "exp", "sqrt", "tanh", "sigmoid", "log", "sin", "floor", "rsqrt", "erf"))
        self.counts[f"unary {op}"] += 1
        if op in ("neg", "abs"):
            text = f"-{x.name}" if op == "neg" else f"tl.abs({x.name})"
            self.new(text, x.dtype, x.shape, x.bound, x.grid, x.error)
        elif op == "floor":
            if x.exact:
                self.new(f"tl.floor({x.name})", x.dtype, x.shape, x.bound + 1, 0)
        elif op == "exp":
            self.rounded(f"tl.exp(tl.clamp({x.name}, -4.0, 4.0))", x.dtype, x.shape, 55.0, None,
                         55.0 * math.expm1(min(x.error, 8.0)), ULPS)
        elif op in ("sqrt", "log", "rsqrt"):
            inner = x.error + 2.0 ** (1 - PRECISION[x.dtype]) * (x.bound + 1)
            bound = {"sqrt": math.sqrt(x.bound + 1), "log": math.log(x.bound + 2), "rsqrt": 1.0}[op]
            self.rounded(f"tl.{op}(tl.abs({x.name}) + 1)", x.dtype, x.shape, bound, None, inner, ULPS)
        elif op == "sin" and x.bound > 1e4:
            return
        else:
            self.rounded(f"tl.{op}({x.name})", x.dtype, x.shape, 1.0, None, 1.2 * x.error, ULPS)

    def cast(self) -> None:
        x = self.pick()
        if x is None:
            return
        to = self.random.choice((*self.dtypes, *self.dtypes, *FLOATS, *INTEGERS))
        text = f"{x.name}.to(tl.{to})"
        self.counts["cast"] += 1
        if to in INTEGERS:
            if x.exact:
                self.new(text, to, x.shape)
        elif x.is_float:
            self.rounded(text, to, x.shape, x.bound, x.grid, x.error)
        elif x.dtype in ("i8", "u8", "i16", "u16"):
            # Conversions of integers round once, to nearest: the same everywhere.
            bound = 2.0 ** int(x.dtype[1:])
            if bound <= LARGEST[to] and bound <= 2.0 ** PRECISION[to]:
                self.new(text, to, x.shape, bound, 0)

    def compare(self) -> None:
        x = self.pick(lambda v: v.exact)
        if x is None:
            return
        y = self.partner(x)
        a, b = self.pick(lambda v: v.shape == x.shape), None
        if a is not None:
            b = self.pick(lambda v: v.shape == a.shape and v.dtype == a.dtype and v is not a)
        if y is None or not y.exact or a is None or b is None or self.broadcast(x.shape, y.shape) != x.shape:
            return
        op = self.random.choice(("<", "<=", "==", "!=", ">", ">="))
        self.counts["where"] += 1
        grid = None if a.grid is None or b.grid is None else min(a.grid, b.grid)
        self.new(f"tl.where({x.name} {op} {y.name}, {a.name}, {b.name})", a.dtype, a.shape, max(a.bound, b.bound), grid,
                 max(a.error, b.error))

    def reduce(self) -> None:
        x = self.pick(lambda v: len(v.shape) >= 2)
        if x is None:
            return
        axis = self.random.randrange(len(x.shape))
        n = x.shape[axis]
        keep = self.random.random() < 0.5
        shape = tuple(1 if d == axis else e for d, e in enumerate(x.shape) if keep or d != axis)
        kind = self.random.choice(("sum", "max", "min", "argmax", "cumsum", "prod"))
        tail = f", axis={axis}, keepdims={keep})"
        self.counts[f"reduce {kind}"] += 1
        if kind == "argmax":
            if x.exact:
                self.new(f"tl.argmax({x.name}{tail}", "i64", shape)
        elif kind in ("max", "min"):
            self.new(f"tl.{kind}({x.name}{tail}", x.dtype, shape, x.bound, x.grid, x.error)
        elif not x.is_float:
            wide = "i32" if int(x.dtype[1:]) < 32 else x.dtype
            if kind == "cumsum":
                self.new(f"tl.cumsum({x.name}, axis={axis}, reverse={keep})", wide, x.shape)
            else:
                self.new(f"tl.{kind}({x.name}{tail}", wide, shape)
        elif kind in ("sum", "cumsum"):
            accumulator = PRECISION["f32" if x.dtype in ("f16", "bf16") else x.dtype]
            exact = x.exact and x.grid is not None and n * x.bound <= 2.0 ** (x.grid + accumulator)
            error = 0.0 if exact else n * x.error + n * n * x.bound * 2.0 ** (1 - accumulator)
            text = f"tl.sum({x.name}{tail}" if kind == "sum" else f"tl.cumsum({x.name}, axis={axis}, reverse={keep})"
            self.rounded(text, x.dtype, shape if kind == "sum" else x.shape, n * x.bound, x.grid if exact else None,
                         error)

    def dot(self) -> None:
        a = self.pick(lambda v: len(v.shape) == 2 and v.dtype in ("f16", "bf16", "f32", "i8", "u8", "f64"))
        if a is None:
            return
        b = self.pick(lambda v: len(v.shape) == 2 and v.dtype == a.dtype)
        if b is None:
            return
        m, k = a.shape
        left, right = a.name, b.name
        if b.shape[0] != k:
            if b.shape[1] != k:
                return
            right, columns = f"{right}.T", b.shape[0]
        else:
            columns = b.shape[1]
        self.counts[f"dot {a.dtype}"] += 1
        if not a.is_float:
            self.new(f"tl.dot({left}, {right})", "i32", (m, columns))
            return
        to = "f64" if a.dtype == "f64" else "f32"
        bound = k * a.bound * b.bound
        grid = None if a.grid is None or b.grid is None else a.grid + b.grid
        exact = a.exact and b.exact and grid is not None and bound <= 2.0 ** (grid + PRECISION[to])
        error = 0.0 if exact else k * (a.bound * b.error + b.bound * a.error + a.error * b.error) + \
            k * bound * 2.0 ** (1 - PRECISION[to])
        self.rounded(f"tl.dot({left}, {right})", to, (m, columns), bound, grid if exact else None, error)

    def rearrange(self) -> None:
        x = self.pick()
        if x is None:
            return
        kind = self.random.choice(("T", "reshape", "slice", "concat", "expand", "insert", "broadcast", "take"))
        self.counts[f"shape {kind}"] += 1
        same = {"bound": x.bound, "grid": x.grid, "error": x.error}
        rank = len(x.shape)
        if kind == "T" and rank > 1:
            order = list(range(rank))
            self.random.shuffle(order)
            self.new(f"{x.name}.transpose{tuple(order)}", x.dtype, tuple(x.shape[p] for p in order), **same)
        elif kind == "reshape":
            self.new(f"{x.name}.reshape(-1)", x.dtype, (math.prod(x.shape),), **same)
        elif kind == "slice":
            starts = [self.random.randrange(n) for n in x.shape]
            stops = [self.random.randint(s + 1, n) for s, n in zip(starts, x.shape, strict=True)]
            text = ", ".join(f"{s}:{e}" for s, e in zip(starts, stops, strict=True))
            self.new(f"{x.name}[{text}]", x.dtype, tuple(e - s for s, e in zip(starts, stops, strict=True)), **same)
        elif kind == "concat":
            y = self.pick(lambda v: v.dtype == x.dtype and v.shape[1:] == x.shape[1:])
            if y is not None and math.prod(x.shape) + math.prod(y.shape) <= 4096:
                grid = None if x.grid is None or y.grid is None else min(x.grid, y.grid)
                self.new(f"tl.concatenate([{x.name}, {y.name}])", x.dtype, (x.shape[0] + y.shape[0], *x.shape[1:]),
                         max(x.bound, y.bound), grid, max(x.error, y.error))
        elif kind == "expand" and rank < 3:
            axis = self.random.randint(0, rank)
            self.new(f"tl.expand_dims({x.name}, {axis})", x.dtype, (*x.shape[:axis], 1, *x.shape[axis:]), **same)
        elif kind == "insert":
            y = self.pick(lambda v: v.dtype == x.dtype and len(v.shape) == rank
                          and all(m <= n for m, n in zip(v.shape, x.shape, strict=True)))
            if y is not None:
                starts = [self.random.randint(0, n - m) for m, n in zip(y.shape, x.shape, strict=True)]
                grid = None if x.grid is None or y.grid is None else min(x.grid, y.grid)
                self.new(f"tl.insert({x.name}, {y.name}, {tuple(starts)})", x.dtype, x.shape,
                         max(x.bound, y.bound), grid, max(x.error, y.error))
        elif kind == "broadcast" and 1 in x.shape:
            shape = tuple(self.random.choice(EXTENTS[:6]) if n == 1 else n for n in x.shape)
            if math.prod(shape) <= 4096:
                self.new(f"tl.broadcast_to({x.name}, {shape})", x.dtype, shape, **same)
        elif kind == "take":
            axis = self.random.randrange(rank)
            text = f"(tl.iota({x.shape}, {axis}) * 3 + g) % {x.shape[axis] + 1}"
            self.new(f"tl.take({x.name}, {text}, axis={axis})", x.dtype, x.shape, **same)

    def loop(self) -> None:
        """A loop that carries a sum, with a condition, `continue` or `break` at times."""
        x = self.pick(lambda v: v.exact and (not v.is_float or v.dtype in ("f32", "f64")))
        if x is None:
            return
        trips = self.random.randint(0, 5)
        bound = self.random.choice((str(trips), f"tl.minimum(n, {trips})"))
        kind = self.random.choice(("plain", "if", "continue", "break", "while"))
        self.counts[f"loop {kind}"] += 1
        zero = f"tl.zeros({x.shape}, tl.{x.dtype})"
        self.names += 1
        name = f"v{self.names}"
        self.line(f"{name} = {zero}")
        add = f"{name} = {name} + {x.name}"
        if kind == "while":
            self.line(f"k{name} = n * 0")
            self.line(f"while k{name} < {trips}:")
            self.line(f"    {add}")
            self.line(f"    k{name} = k{name} + 1")
        else:
            self.line(f"for k in tl.range({bound}):")
            if kind == "if":
                self.line("    if k % 2 == g % 2:")
                self.line(f"        {add}")
                self.line("    else:")
                self.line(f"        {name} = {name} - {x.name}")
            else:
                if kind in ("continue", "break"):
                    self.line(f"    if k == {self.random.randint(0, 4)}:")
                    self.line(f"        {kind}")
                self.line(f"    {add}")
        total = trips * x.bound
        if x.is_float and x.grid is not None and total > 2.0 ** (x.grid + PRECISION[x.dtype]):
            return
        self.values.append(Value(name, x.dtype, x.shape, total, x.grid))

    def branch(self) -> None:
        x = self.pick()
        y = self.pick(lambda v: v.dtype == x.dtype and v.shape == x.shape and v is not x) if x else None
        if x is None or y is None:
            return
        self.counts["if"] += 1
        self.names += 1
        name = f"v{self.names}"
        self.line(f"if n > {self.random.randint(-2, 6)}:")
        self.line(f"    {name} = {x.name}")
        self.line("else:")
        self.line(f"    {name} = {y.name}")
        grid = None if x.grid is None or y.grid is None else min(x.grid, y.grid)
        self.values.append(Value(name, x.dtype, x.shape, max(x.bound, y.bound), grid, max(x.error, y.error)))

    def map(self) -> None:
        x = self.pick(lambda v: not v.is_float and v.dtype in ("i32", "i64"))
        if x is None:
            return
        self.counts["map"] += 1
        self.names += 1
        name = f"v{self.names}"
        self.line(f"def f{name}(a):")
        self.line("    c = a * 0")
        self.line("    while (a != 0) & (c < 9):")
        self.line("        if a % 2 == 0:")
        self.line("            a = a // 2")
        self.line("        else:")
        self.line("            a = a - 1")
        self.line("        c = c + 1")
        self.line("    return c")
        self.new(f"tl.map(f{name}, {x.name})", x.dtype, x.shape)

    def gather(self) -> None:
        shape = self.shape()
        name = f"x{len(self.inputs)}"
        dtype = self.random.choice(("f32", "i32", "f16"))
        self.inputs.append(ArrayInput(name, dtype, (37,), "C", *((-20, 20, 0) if dtype == "i32" else (-8, 8, -2))))
        axis = self.random.randrange(len(shape))
        self.counts["gather"] += 1
        text = f"tl.gather({name}, tl.iota({shape}, {axis}) * 5 - 3 + g)"
        if dtype == "i32":
            self.new(text, dtype, shape)
        else:
            self.new(text, dtype, shape, 8.0, -2)

    # -- a whole program

    def run(self) -> Program:
        statements = [(self.binary, 6), (self.literal, 3), (self.folding, 3), (self.unary, 3), (self.cast, 2),
                      (self.compare, 2), (self.reduce, 3), (self.dot, 3), (self.rearrange, 3), (self.loop, 1),
                      (self.branch, 1), (self.load, 2), (self.map, 0.3), (self.gather, 0.7)]
        for _ in range(self.random.randint(3, 4)):
            self.load()
        kinds, weights = zip(*statements, strict=True)
        for _ in range(self.random.randint(3, 12)):
            self.random.choices(kinds, weights)[0]()
        self.values = [v for v in self.values if 0 not in v.shape]
        used = self.values[-4:] if len(self.values) > 4 else self.values
        outputs = []
        for i, value in enumerate(used):
            short = tuple(max(1, n - self.random.choice((0, 0, 1))) for n in value.shape)
            outputs.append(Output(f"o{i}", value.dtype, short, value.error))
            self.line(f"tl.store(o{i}[g, {', '.join([':'] * len(short))}], ({'0, ' * len(short)}), {value.name})")
        blocks = self.random.choice((1, 2, 3))
        parameters = [f"{x.name}: tl.{x.dtype}[{_dims(x.name, len(x.shape))}]" for x in self.inputs]
        parameters += [f"{o.name}: tl.{o.dtype}[{_dims(o.name, len(o.shape) + 1)}]" for o in outputs]
        source = "\n".join(["import tilus as tl", "", "", "@tl.jit",
                            f"def kernel({', '.join(parameters)}, n: tl.i32):", f"    g = tl.grid({blocks})",
                            *self.lines, ""])
        return Program(self.seed, source, self.inputs, outputs, self.random.randint(0, 6), blocks, self.counts)


def _dims(name: str, rank: int) -> str:
    return ", ".join(f'"{name}_{d}"' for d in range(rank))


def generate(seed: int) -> Program:
    """The program of a seed; equal seeds give equal programs."""
    return Generator(seed).run()
