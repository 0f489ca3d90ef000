"""Statements on whole tiles: reductions, scans, dots and rearrangements."""

from __future__ import annotations

import math
from dataclasses import replace

from tests.fuzz.elementwise import common_grid
from tests.fuzz.generator import EXTENTS, MOST, Generator, Statement
from tests.fuzz.program import GREATEST, PRECISION, Shape, Value, bits_of


def accumulator(dtype: str) -> str:
    """The type that sums are taken in."""
    if dtype in ("f16", "bf16"):
        return "f32"
    return "i32" if dtype[0] in "iu" and bits_of(dtype) < 32 else dtype


def reduce(g: Generator) -> None:
    x = g.pick(lambda v: len(v.shape) >= 1 and 0 not in v.shape)
    if x is None:
        return
    axis: int | None = g.random.choice((*range(len(x.shape)), -1, None))
    keep = g.chance(0.4)
    n = math.prod(x.shape) if axis is None else x.shape[axis]
    place = axis if axis is None else axis % len(x.shape)
    shape: Shape = tuple(1 if keep else 0 for _ in x.shape) if axis is None else tuple(
        1 if d == place else m for d, m in enumerate(x.shape) if d != place or keep)
    if axis is None:
        shape = (1,) * len(x.shape) if keep else ()
    tail = f", axis={axis}, keepdims={keep})"
    if x.dtype == "bool":
        kind = g.random.choice(("any", "all", "sum"))
        g.count(f"reduce {kind}")
        g.made(f"tl.{kind}({x.name}{tail}", "i32" if kind == "sum" else "bool", shape)
    elif x.is_int:
        kind = g.random.choice(("sum", "max", "min", "argmax", "argmin", "xor_sum", "prod"))
        g.count(f"reduce {kind}")
        dtype = {"sum": accumulator(x.dtype), "prod": accumulator(x.dtype), "argmax": "i64",
                 "argmin": "i64"}.get(kind, x.dtype)
        g.made(f"tl.{kind}({x.name}{tail}", dtype, shape)
    elif x.is_float:
        kind = g.random.choice(("sum", "max", "min", "argmax", "argmin", "mean", "prod"))
        _reduce_float(g, x, kind, n, shape, tail)


def _reduce_float(g: Generator, x: Value, kind: str, n: int, shape: Shape, tail: str) -> None:
    g.count(f"reduce {kind}")
    text = f"tl.{kind}({x.name}{tail}"
    if kind in ("max", "min"):
        g.new(text, Value("", x.dtype, shape, x.bound, x.grid, x.error, x.product, False))
    elif kind in ("argmax", "argmin"):
        if x.determined:
            g.made(text, "i64", shape)
    elif kind == "prod":
        small = Value("", x.dtype, (), 2.0)
        if x.finite and n <= 8 and x.bound > 0:
            unit = 2.0 ** -PRECISION[accumulator(x.dtype)]
            bound = small.bound**n
            g.inexact(f"tl.prod(tl.clamp({x.name}, -2, 2){tail}", x.dtype, shape, bound,
                      bound * ((1 + x.error) ** n - 1) + 2 * n * unit * bound)
    else:
        total = sum_of(g, f"tl.sum({x.name}{tail}" if kind == "sum" else None, x, n, shape)
        if kind == "mean" and total is None and x.finite:
            unit = 2.0 ** -PRECISION[accumulator(x.dtype)]
            g.inexact(text, x.dtype, shape, x.bound, x.error + (2 * n + 2) * unit * x.bound)


def sum_of(g: Generator, text: str | None, x: Value, n: int, shape: Shape, deep: int | None = None) -> Value | None:
    """The sum of ``n`` elements in any order: exact where every partial sum is representable."""
    if text is None or not x.finite:
        return None
    wide = PRECISION[accumulator(x.dtype)]
    bound = n * x.bound
    if x.determined and not x.product and x.grid is not None and bound <= 2.0 ** (x.grid + wide):
        return g.rounded(text, x.dtype, shape, bound, x.grid, zeros=False)
    # Each of n - 1 additions rounds a partial sum of at most `bound`, on both engines.
    return g.inexact(text, x.dtype, shape, bound, n * x.error + 2.0**-wide * n * bound)


def scan(g: Generator) -> None:
    x = g.pick(lambda v: len(v.shape) >= 1 and v.dtype != "bool" and 0 not in v.shape)
    if x is None:
        return
    axis = g.random.randrange(len(x.shape))
    kind = g.random.choice(("cumsum", "cummax", "cummin", "cumprod"))
    text = f"tl.{kind}({x.name}, axis={axis}, reverse={g.chance(0.4)})"
    if x.is_int:
        g.count(f"scan {kind}")
        g.made(text, accumulator(x.dtype) if kind in ("cumsum", "cumprod") else x.dtype, x.shape)
    elif x.is_float and kind in ("cummax", "cummin"):
        g.count(f"scan {kind}")
        g.new(text, Value("", x.dtype, x.shape, x.bound, x.grid, x.error, x.product, False))
    elif x.is_float and kind == "cumsum":
        g.count("scan cumsum")
        sum_of(g, text, x, x.shape[axis], x.shape)


def combine(g: Generator) -> None:
    """tl.reduce and tl.scan with functions of the user, associative but not all commutative."""
    x = g.pick(lambda v: v.is_int and len(v.shape) >= 1 and 0 not in v.shape)
    if x is None:
        return
    axis = g.random.randrange(len(x.shape))
    kind = g.random.choice(("reduce", "scan"))
    shape = x.shape if kind == "scan" else tuple(n for d, n in enumerate(x.shape) if d != axis)
    keep = kind == "reduce" and g.chance(0.6)
    if keep:
        shape = tuple(1 if d == axis else n for d, n in enumerate(x.shape))
    extra = f", reverse={g.chance(0.5)}" if kind == "scan" else f", keepdims={keep}"
    g.count(f"combine {kind}")
    body = g.random.choice(("a + b", "tl.maximum(a, b)", "a ^ b", "a", "b", "tl.where(b == 0, a, b)"))
    if g.chance(0.5):
        result = g.made(f"tl.{kind}({x.name}, {axis}, lambda a, b: {body}{extra})", x.dtype, shape)
        if keep:
            g.made(f"{x.name} - {result.name}", x.dtype, x.shape)
        return
    # Affine maps under composition: associative, not commutative.
    function = g.name("affine")
    g.prelude += [f"def {function}(a, b, c, d):", "    return a * c, b * c + d", "", ""]
    first, second = g.name(), g.name()
    g.line(f"{first}, {second} = tl.{kind}(({x.name}, {x.name} ^ 1), {axis}, {function}{extra})")
    for name in (first, second):
        g.add(Value(name, x.dtype, shape))
    if keep:
        g.made(f"{x.name} * {first} + {second}", x.dtype, x.shape)


def dot(g: Generator) -> None:
    types = ("f16", "bf16", "f32", "i8", "u8", "f64")
    a = g.pick(lambda v: len(v.shape) in (2, 3) and v.dtype in types and v.finite == v.is_float and 0 not in v.shape)
    if a is None:
        return
    integers = ("i8", "u8")
    b = g.pick(lambda v: len(v.shape) == len(a.shape) and v.shape[:-2] == a.shape[:-2] and v.finite == v.is_float
               and (v.dtype == a.dtype or (v.dtype in integers and a.dtype in integers)) and 0 not in v.shape
               and a.shape[-1] in v.shape[-2:])
    if b is None:
        return
    k = a.shape[-1]
    right, columns = b.name, b.shape[-1]
    if b.shape[-2] != k:
        right = f"{right}.T" if len(b.shape) == 2 else f"{right}.transpose(0, 2, 1)"
        columns = b.shape[-2]
    shape = (*a.shape[:-1], columns)
    if math.prod(shape) > 2 * MOST or math.prod(shape) * k > 1 << 20:
        return
    dot_of(g, a, b, a.name, right, shape, k)


def dot_of(g: Generator, a: Value, b: Value, left: str, right: str, shape: Shape, k: int) -> Value | None:
    """``left @ right`` with an accumulator at times."""
    g.count(f"dot {a.dtype}" if a.dtype == b.dtype else "dot mixed")
    to = "i32" if a.is_int else "f64" if a.dtype == "f64" else "f32"
    c = g.pick(lambda v: v.dtype == to and v.shape == shape and v.finite == v.is_float) if g.chance(0.5) else None
    text = f"tl.dot({left}, {right}, {c.name})" if c is not None else f"tl.dot({left}, {right})"
    if c is not None:
        g.count("dot accumulated")
    if a.is_int:
        return g.made(text, "i32", shape)
    start = c or Value("", to, shape, 0.0, 0)
    bound = k * a.bound * b.bound + start.bound
    grid = None if None in (a.grid, b.grid, start.grid) else min(a.grid + b.grid, start.grid)  # type: ignore[operator,type-var]
    exact = a.determined and b.determined and start.determined and not start.product
    if exact and grid is not None and bound <= 2.0 ** (grid + PRECISION[to]):
        return g.rounded(text, to, shape, bound, grid, zeros=False)
    if bound > GREATEST[to] / 4:
        return None
    error = k * (a.bound * b.error + b.bound * a.error + a.error * b.error) + start.error
    return g.inexact(text, to, shape, bound, error + (k + 1) * bound * 2.0 ** -PRECISION[to])


def rearrange(g: Generator) -> None:
    x = g.pick_any(lambda v: v.shape != ())
    if x is None:
        return
    kind = g.random.choice(("transpose", "flatten", "reshape", "slice", "index", "concat", "expand", "insert",
                            "broadcast", "take", "split"))
    _REARRANGE[kind](g, x)


def _transpose(g: Generator, x: Value) -> None:
    order = list(range(len(x.shape)))
    g.random.shuffle(order)
    g.count("shape transpose")
    g.moved(f"{x.name}.transpose{tuple(order)}", x, tuple(x.shape[p] for p in order))


def _flatten(g: Generator, x: Value) -> None:
    g.count("shape flatten")
    g.moved(f"{x.name}.reshape(-1)", x, (math.prod(x.shape),))


def _reshape(g: Generator, x: Value) -> None:
    """Extents split into factors and joined again elsewhere."""
    size = math.prod(x.shape)
    if size == 0:
        return
    shape: list[int] = []
    rest = size
    for _ in range(g.random.choice((1, 2, 2, 3))):
        divisors = [d for d in range(1, min(rest, 129)) if rest % d == 0]
        if not divisors:
            break
        shape.append(g.random.choice(divisors[-6:]))
        rest //= shape[-1]
    shape.append(rest)
    g.random.shuffle(shape)
    if len(shape) <= 3:
        g.count("shape reshape")
        g.moved(f"{x.name}.reshape{tuple(shape)}", x, tuple(shape))


def _slice(g: Generator, x: Value) -> None:
    if 0 in x.shape:
        return
    if g.chance(0.5):
        starts, stops = _part(g, x.shape)
    else:
        starts = [g.random.randrange(n) if g.chance(0.6) else 0 for n in x.shape]
        stops = [g.random.randint(s + 1, n) if g.chance(0.6) else n for s, n in zip(starts, x.shape, strict=True)]
    text = ", ".join(f"{s}:{e}" for s, e in zip(starts, stops, strict=True))
    g.count("shape slice")
    g.moved(f"{x.name}[{text}]", x, tuple(e - s for s, e in zip(starts, stops, strict=True)))


def _part(g: Generator, shape: Shape) -> tuple[list[int], list[int]]:
    """A half, quarter or eighth of some dimensions, as in rotary embeddings and in work on sub-tiles."""
    sizes = [n // parts if n % parts == 0 else n for n in shape for parts in [g.random.choice((1, 2, 2, 4, 8))]]
    starts = [g.random.randrange(n // size) * size for n, size in zip(shape, sizes, strict=True)]
    return starts, [start + size for start, size in zip(starts, sizes, strict=True)]


def parts(g: Generator, x: Value | None = None) -> None:
    """Work on the halves or quarters of a tile, as in rotary embeddings and gated units."""
    if x is None:
        x = g.pick(lambda v: 1 <= len(v.shape) <= 2 and math.prod(v.shape) >= 64 * g.warps and v.dtype != "bool")
    axes = [] if x is None else [d for d, n in enumerate(x.shape) if n % 2 == 0]
    if x is None or not axes:
        return
    axis = g.random.choice(axes)
    n = x.shape[axis]
    count = 4 if n % 4 == 0 and g.chance(0.4) else 2
    shape = tuple(n // count if d == axis else m for d, m in enumerate(x.shape))
    g.count("shape parts")
    keys = [", ".join(f"{at}:{at + n // count}" if d == axis else ":" for d in range(len(shape)))
            for at in range(0, n, n // count)]
    pieces = [g.moved(f"{x.name}[{key}]", x, shape) for key in g.random.sample(keys, 2)]
    a, b = pieces if g.chance(0.5) else pieces[::-1]
    if x.is_int:
        text = g.random.choice((f"{a.name} - {b.name}", f"{b.name} * 3 + {a.name}", f"{a.name} ^ -{b.name}"))
        pieces.append(g.made(text, x.dtype, shape))
    elif x.is_float:
        pieces.append(g.new(f"tl.where({a.name} == {b.name}, {a.name} * 0, {b.name})", replace(
            x, name="", shape=shape, zeros=False)) if x.determined and x.finite else a)
    if g.chance(0.4):
        joined_up = tuple(2 * m if d == axis else m for d, m in enumerate(shape))
        g.new(f"tl.concatenate([{b.name}, {pieces[-1].name}], {axis})", joined(b, pieces[-1], joined_up))


def _index(g: Generator, x: Value) -> None:
    """Integer indices and None."""
    if 0 in x.shape:
        return
    parts, shape = [], []
    for n in x.shape:
        if g.chance(0.3):
            parts.append(str(g.random.randrange(-n, n)))
        else:
            parts.append(":")
            shape.append(n)
        if len(shape) < 3 and g.chance(0.15):
            parts.append("None")
            shape.append(1)
    if len(shape) <= 3:
        g.count("shape index")
        g.moved(f"{x.name}[{', '.join(parts)}]", x, tuple(shape))


def _concat(g: Generator, x: Value) -> None:
    axis = g.random.randrange(len(x.shape))
    y = g.pick_any(lambda v: v.dtype == x.dtype and len(v.shape) == len(x.shape) and all(
        m == n or d == axis for d, (m, n) in enumerate(zip(v.shape, x.shape, strict=True))))
    if y is None or math.prod(x.shape) + math.prod(y.shape) > MOST:
        return
    g.count("shape concat")
    shape = tuple(m + n if d == axis else m for d, (m, n) in enumerate(zip(x.shape, y.shape, strict=True)))
    g.new(f"tl.concatenate([{x.name}, {y.name}], {axis})", joined(x, y, shape))


def joined(x: Value, y: Value, shape: Shape) -> Value:
    """A tile of elements of both."""
    return Value("", x.dtype, shape, max(x.bound, y.bound), common_grid(x, y), max(x.error, y.error),
                 x.product or y.product, x.zeros and y.zeros)


def _split(g: Generator, x: Value) -> None:
    axis = g.random.randrange(len(x.shape))
    n = x.shape[axis]
    if n < 2:
        return
    at = n // 2 if n % 2 == 0 and g.chance(0.5) else g.random.randint(1, n - 1)
    parts = "2" if at * 2 == n else f"({at}, {n - at})"
    names = g.name(), g.name()
    g.count("shape split")
    g.line(f"{names[0]}, {names[1]} = tl.split({x.name}, {parts}, {axis})")
    for name, size in zip(names, (at, n - at), strict=True):
        g.add(x.moved(name, tuple(size if d == axis else m for d, m in enumerate(x.shape))))


def _expand(g: Generator, x: Value) -> None:
    if len(x.shape) < 3:
        axis = g.random.randint(0, len(x.shape))
        g.count("shape expand")
        g.moved(f"tl.expand_dims({x.name}, {axis})", x, (*x.shape[:axis], 1, *x.shape[axis:]))
    elif 1 in x.shape:
        axis = x.shape.index(1)
        g.count("shape squeeze")
        g.moved(f"tl.squeeze({x.name}, {axis})", x, (*x.shape[:axis], *x.shape[axis + 1 :]))


def _insert(g: Generator, x: Value) -> None:
    y = g.pick_any(lambda v: v.dtype == x.dtype and len(v.shape) == len(x.shape)
                   and all(m <= n for m, n in zip(v.shape, x.shape, strict=True)))
    if y is None:
        return
    starts = tuple(g.random.randint(0, n - m) for m, n in zip(y.shape, x.shape, strict=True))
    g.count("shape insert")
    g.new(f"tl.insert({x.name}, {y.name}, {starts})", joined(x, y, x.shape))


def _broadcast(g: Generator, x: Value) -> None:
    shape = tuple(g.random.choice(EXTENTS[:12]) if n == 1 else n for n in x.shape)
    if len(shape) < 3 and g.chance(0.3):
        shape = (g.random.choice(EXTENTS[:9]), *shape)
    if shape != x.shape and math.prod(shape) <= MOST:
        g.count("shape broadcast")
        g.moved(f"tl.broadcast_to({x.name}, {shape})", x, shape)


def _take(g: Generator, x: Value) -> None:
    if 0 in x.shape:
        return
    axis = g.random.randrange(len(x.shape))
    length = g.random.choice((x.shape[axis], 1, 7))
    shape = tuple(length if d == axis else n for d, n in enumerate(x.shape))
    indices = g.pick(lambda v: v.is_int and v.shape == shape)
    text = f"{indices.name} % {min(100, x.shape[axis] + 1)}" if indices is not None and g.chance(0.6) else \
        f"(tl.iota({shape}, {axis}) * 3 + g) % {x.shape[axis] + 1} - {g.random.choice((0, 0, 1))}"
    g.count("shape take")
    g.moved(f"tl.take({x.name}, {text}, axis={axis})", x, shape)


_REARRANGE = {
    "transpose": _transpose, "flatten": _flatten, "reshape": _reshape, "slice": _slice, "index": _index,
    "concat": _concat, "expand": _expand, "insert": _insert, "broadcast": _broadcast, "take": _take, "split": _split,
}
STATEMENTS: list[tuple[Statement, float]] = [(reduce, 4), (scan, 1.5), (combine, 1.2), (dot, 3), (rearrange, 5),
                                              (parts, 1.5)]
