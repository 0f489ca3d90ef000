"""What meets other features: workspaces, scalars and constants of every type, ceilings."""

from __future__ import annotations

import math

from tests.fuzz import memory
from tests.fuzz.generator import Generator, Statement, broadcast
from tests.fuzz.program import FLOATS, INTEGERS, Value, bits_of, spelled
from tests.fuzz.storage_types import range_of
from tilus.ir.dtypes import parse_dtype

STORAGE = ("f8e4m3fn", "f8e5m2", "f6e3m2", "f6e2m3", "f4e2m1", "tf32", "i2", "i3", "i4", "i7", "u1", "u3", "u4", "u6")
"""Types whose values are only made, moved and converted."""
NUMBERS = (0.0, -0.0, -1.5, 448.0, 1e6, -1e39, 1e-9, 3.0625, 0.1, 0.7, -2.3, 65519.99, 1.00390625, 1.01171875, 1e-5)


def constant(g: Generator) -> None:
    """A literal, as a rule of a type for storage, through whatever moves it, and to another type."""
    shape = g.shape()
    kind = g.random.choice((*STORAGE, *STORAGE[:2], *FLOATS, "f32", *5 * g.stored))
    float_ = not parse_dtype(kind).is_int
    value = g.random.choice(NUMBERS) if float_ else g.random.randint(*_range(kind))
    to = g.random.choice(("f32", "f16", "bf16", "f64") if float_ else ("i32", "i64", "i8", "f32"))
    if kind in FLOATS and g.chance(0.6):
        to = kind
    name = g.name("c")
    g.count(f"constant {kind}")
    g.line(f"{name} = tl.full({shape}, {value!r}, {spelled(kind)})")
    if g.chance(0.4):
        other = g.random.choice(NUMBERS) if float_ else g.random.randint(*_range(kind))
        axis = g.random.randrange(len(shape))
        second = f"tl.full({shape}, {other!r}, {spelled(kind)})"
        g.line(f"{name} = tl.where(tl.iota({shape}, {axis}) % 3 != g, {name}, {second})")
    if g.chance(0.3) and len(shape) == 2:
        g.line(f"{name} = {name}.T")
        shape = shape[::-1]
    if kind in g.stored and g.chance(0.5):
        g.add(Value(name, kind, shape, *range_of(kind)))
        return
    text = f"{name}.to(tl.{to})"
    if to in FLOATS:
        g.rounded(text, to, shape, math.inf)
    else:
        g.made(text, to, shape)


def _range(kind: str) -> tuple[int, int]:
    bits = int(kind[1:])
    return (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if kind[0] == "i" else (0, (1 << bits) - 1)


def storage(g: Generator) -> None:
    """Numbers of any size rounded to a float type for storage, and back."""
    x = g.pick(lambda v: v.is_float and v.determined)
    kind = g.random.choice(("f8e4m3fn", "f8e5m2", "f8e5m2", "f6e3m2", "f6e2m3", "f4e2m1", "tf32", *2 * g.stored))
    if x is None or g.chance(0.5):
        shape = g.shape()
        array = g.array("f32", shape, "wild")
        x = g.new(f"tl.load({array.name}, {(0,) * len(shape)}, {shape})", Value("", "f32", shape))
    to = g.random.choice(("f32", "f16", "bf16", "f64"))
    g.count(f"rounded to {kind}")
    g.rounded(f"{x.name}.to({spelled(kind)}).to(tl.{to})", to, x.shape, math.inf, zeros=False)


def scalar(g: Generator) -> None:
    """A run-time parameter of any type that computes, beside a tile of it."""
    kind = g.random.choice((*INTEGERS, *FLOATS, "bool"))
    if kind == "bool":
        name = g.scalar(kind, g.chance(0.5))
        x = g.pick_any(lambda v: v.shape != ())
        if x is not None:
            g.moved(f"tl.where({name}, {x.name}, {x.name})", x, x.shape)
        return
    if kind in INTEGERS:
        bits = bits_of(kind)
        low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if kind[0] == "i" else (0, (1 << bits) - 1)
        value: float = g.random.choice((low, high, 0, 1, 7, g.random.randint(low, high)))
        name = g.scalar(kind, value)
        g.made(f"{name} {g.random.choice('+*^')} tl.iota((8,), 0).to(tl.{kind})", kind, (8,))
        return
    value = g.random.choice((0.0, -0.0, 0.1, 1.5, -2.25, 65504.0, 3.0e4, 1e-7, math.inf))
    name = g.scalar(kind, value)
    x = g.pick(lambda v: v.dtype == kind and v.determined and v.zeros)
    if x is not None and g.chance(0.7):
        g.rounded(f"tl.fma({x.name}, {name}, {x.name})", kind, x.shape, math.inf)
    else:
        g.rounded(f"{name}.to(tl.f64)", "f64", (), math.inf)


def ceiling(g: Generator) -> None:
    """tl.cdiv of run-time integers of any sign, and as the bound of a loop."""
    x = g.pick(lambda v: v.is_int)
    if x is None:
        return
    y = g.partner(x)
    g.count("ceiling division")
    if y is not None and g.chance(0.5):
        g.made(f"tl.cdiv({x.name}, {y.name})", x.dtype, broadcast(x.shape, y.shape))
        return
    divisors = [d for d in (1, 3, 16, 100, 127) if d < 1 << (bits_of(x.dtype) - 1)]
    if x.dtype[0] == "i":
        divisors += [-d for d in divisors]
    g.made(f"tl.cdiv({x.name}, {g.random.choice(divisors)})", x.dtype, x.shape)
    total, k = g.name(), g.name("k")
    g.line(f"{total} = {x.name}")
    g.line(f"for {k} in tl.range(tl.cdiv(n, {g.random.choice((1, 2, 3))})):")
    g.line(f"    {total} = {total} ^ ({x.name} + {k}.to(tl.{x.dtype}))")
    g.add(Value(total, x.dtype, x.shape))


def workspace(g: Generator) -> None:
    """A tile by way of global scratch memory, of this block or of rank 0."""
    if g.depth > 1:
        return
    x = g.pick_any(lambda v: len(v.shape) <= 2 and v.dtype != "bool" and 0 not in v.shape and v.determined)
    if x is None:
        return
    name, zero = g.name("w_s"), g.chance(0.4)
    tail = ", zero=True" if zero else ""
    if x.shape == () and g.blocks == 1:
        g.count("workspace of rank 0")
        g.line(f"{name} = tl.workspace((), {spelled(x.dtype)}{tail})")
        g.line(f"{name}[()] = {x.name}")
        g.moved(f"{name}[()]", x, ())
        return
    shape = x.shape or (1,)
    extents = tuple(n + g.random.choice((0, 0, 3)) for n in shape)
    g.count("workspace")
    g.line(f"{name} = tl.workspace(({g.blocks}, {', '.join(map(str, extents))}), {spelled(x.dtype)}{tail})")
    view = f"{name}[g, {', '.join([':'] * len(shape))}]"
    if zero:  # what nothing is stored to is 0
        g.count("workspace of zeros")
        g.line(f"tl.store({view}, {(1,) * len(shape)}, {x.name if x.shape else f'tl.broadcast_to({x.name}, (1,))'})")
        g.moved(f"tl.load({view}, {(0,) * len(shape)}, {extents})", x, extents)
        return
    value = x.name if x.shape else f"tl.broadcast_to({x.name}, (1,))"
    g.line(f"tl.store({view}, {(0,) * len(shape)}, {value})")
    if len(shape) == 2 and g.chance(0.5):
        g.moved(f"tl.load({view}.T, (0, 0), {shape[::-1]})", x, shape[::-1])
    else:
        g.moved(f"tl.load({view}, {(0,) * len(shape)}, {shape})", x, shape)


def rows(g: Generator) -> None:
    """Rows of an array picked by a tile, and put back elsewhere: indices that run along memory."""
    height, width = g.random.choice((1, 4, 16, 33)), g.random.choice((16, 16, 16, 32, 64, 24, 7))
    dtype = g.random.choice(("f16", "f32", "i8", "i32", "bf16", "f64", *2 * g.stored))
    fill = memory.fill_of(g, dtype)
    layout = g.random.choice(("C", "padded", "F", "strided", "reversed", "offset")) if g.chance(0.4) else "C"
    array = g.array(dtype, (20, width + g.random.choice((0, 0, 0, 0, 16, -1))), fill, layout)
    index = g.pick(lambda v: v.is_int and v.shape == (height,))
    picked = f"({index.name} % 23)" if index is not None else f"(tl.iota(({height},), 0) * 5 % 23 - 1)"
    start = g.random.choice(("0", "8", "g * 8", "n", "3", "n * 4"))
    columns = f"({start} + tl.arange(0, {width}))"
    known = memory.element(dtype, fill)
    mask = ""
    if g.chance(0.3):
        mask = f", mask=({columns} < {g.random.choice((width, width - 1, 8))})[None, :]"
    g.count("rows gathered")
    text = f"tl.gather({array.name}, ({picked}[:, None], {columns}[None, :]){mask})"
    if g.chance(0.3):
        turned = mask.replace("[None, :]", "[:, None]")
        text = f"tl.gather({array.name}.T, ({columns}[:, None], {picked}[None, :]){turned})"
        value = g.new(text, Value("", dtype, (width, height), known.bound, known.grid))
    else:
        value = g.new(text, Value("", dtype, (height, width), known.bound, known.grid))
    if g.chance(0.5):
        a, b = value.shape
        out = g.array(dtype, (g.blocks, a, b + g.random.choice((0, 8, -1))), "small" if dtype in INTEGERS else "grid",
                      written=True)
        g.count("rows scattered")
        g.line(f"tl.scatter({out.name}[g, :, :], ({a - 1} - tl.arange(0, {a})[:, None], tl.arange(0, {b})[None, :]), "
               f"{value.name})")


def staged_rows(g: Generator) -> None:
    """A staged loop over gathered rows, with a dot or a sum."""
    if g.depth > 1:
        return
    height, depth, width = g.random.choice((16, 32)), g.random.choice((16, 32)), g.random.choice((16, 32))
    k, total = g.name("k"), g.name()
    length = depth * g.random.choice((1, 2, 3)) + g.random.choice((0, -3))
    layout = g.random.choice(("C", "C", "padded", "offset"))
    a = g.array("f16", (20, length + g.random.choice((0, 0, 5))), "grid", layout)
    b = g.array("f16", (length, width), "grid")
    table = g.array("i32", (height + g.random.choice((0, -3)),), "small")
    inside = g.chance(0.5)
    read = f"tl.load({table.name}, 0, {height}, other=-1)"
    r = g.name("t")
    g.count("rows of a staged loop")
    if not inside:
        g.line(f"{r} = {read}")
    g.line(f"{total} = tl.zeros(({height}, {width}), tl.f32)")
    g.line(f"for {k} in tl.range(0, {length}, {depth}, stages={g.random.choice((2, 3))}):")
    if inside:
        g.line(f"    {r} = {read}")
    g.line(f"    {r}a = tl.gather({a.name}, ({r}[:, None], ({k} + tl.arange(0, {depth}))[None, :]))")
    g.line(f"    {total} = tl.dot({r}a, tl.load({b.name}, ({k}, 0), ({depth}, {width})), {total})")
    g.add(Value(total, "f32", (height, width), 64.0 * length, -4, zeros=False))


def spread_accumulator(g: Generator) -> None:
    """A dot of its own whose accumulator is one value for a row, a column or all."""
    dtype = g.random.choice(("f16", "f16", "bf16"))
    m, k, n = (g.random.choice((16, 16, 32, 64)) for _ in range(3))
    views = [memory.window(g, shape, dtype, "grid") for shape in ((m, k), (k, n))]
    names = [g.name("t") for _ in views]
    for name, view, shape in zip(names, views, ((m, k), (k, n)), strict=True):
        g.line(f"{name} = tl.load({view.text}, (0, 0), {shape})")
    kind = g.random.choice(("column", "row", "number", "column of a dot"))
    start = g.array("f32", (m if kind != "row" else n,), "grid")
    text, most = f"tl.load({start.name}, 0, {start.shape[0]})", 8.0
    if kind == "column of a dot":
        text, most = f"tl.max(tl.dot({names[0]}, {names[1]}), 1)", 64.0 * k
    key = "[None, :]" if kind == "row" else "[:, None]"
    spread = f"tl.full(({m}, {n}), {start.name}[0], tl.f32)" if kind == "number" else \
        f"tl.broadcast_to({text}{key}, ({m}, {n}))"
    g.count("dot with a spread accumulator")
    g.rounded(f"tl.dot({names[0]}, {names[1]}, {spread})", "f32", (m, n), 64.0 * k + most, -4, zeros=False)


def float_floor(g: Generator) -> None:
    """// and % of floats of any size."""
    x = g.pick(lambda v: v.is_float and v.determined and v.zeros)
    y = g.partner(x, lambda v: v.determined and v.zeros) if x else None
    if x is None or y is None:
        return
    op = g.random.choice(("//", "%"))
    g.count(f"float {op}")
    g.rounded(f"{x.name} {op} {y.name}", x.dtype, broadcast(x.shape, y.shape), math.inf, zeros=False)


STATEMENTS: list[tuple[Statement, float]] = [
    (constant, 1.2), (storage, 0.6), (scalar, 0.6), (ceiling, 0.6), (workspace, 0.5), (rows, 1.8),
    (staged_rows, 0.3), (spread_accumulator, 0.5), (float_floor, 0.6),
]
