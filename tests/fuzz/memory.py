"""Statements that read and write memory: views of every kind, masks, gathers, scatters, atomics, program order."""

from __future__ import annotations

import math
from dataclasses import dataclass

from tests.fuzz.generator import EXTENTS, MOST, Generator, Statement, broadcast
from tests.fuzz.program import FLOATS, INTEGERS, STORAGE_FLOATS, ArrayArgument, Shape, Value, spelled
from tests.fuzz.storage_types import range_of
from tilus.ir.dtypes import parse_dtype

LAYOUTS = ("C", "C", "C", "C", "F", "strided", "reversed", "padded", "offset", "zero", "overlapping")
FULL = ("full", "full", "small")


def fill_of(g: Generator, dtype: str) -> str:
    """How an array of the type is filled."""
    if dtype in INTEGERS:
        return g.random.choice(FULL)
    return g.random.choice(("grid", "grid", "grid", "wild")) if dtype in FLOATS else "codes"


def element(dtype: str, fill: str) -> Value:
    """What is known of the elements of an array."""
    if dtype in FLOATS and fill == "grid":
        return Value("", dtype, (), 8.0, -2)
    if dtype in (*FLOATS, *INTEGERS):
        return Value("", dtype, ())
    return Value("", dtype, (), *range_of(dtype))


@dataclass
class Window:
    """A view as an expression. Its extents are estimates: bounds are part of what is tested."""

    text: str
    rank: int


def window(g: Generator, shape: Shape, dtype: str, fill: str) -> Window:
    """A view of a new array, of about the extents of ``shape``."""
    near = [max(0, n + g.random.choice((-3, -1, 0, 0, 0, 0, 1, 7))) for n in shape]
    layout = g.random.choice(LAYOUTS)
    kind = g.random.choice(("whole", "whole", "whole", "permuted", "part", "dropped", "nested", "nested"))
    if kind == "permuted" and len(shape) > 1:
        order = list(range(len(shape)))
        g.random.shuffle(order)
        extents = [0] * len(shape)
        for d, p in enumerate(order):
            extents[p] = near[d]
        array = g.array(dtype, tuple(extents), fill, layout)
        text = f"{array.name}.T" if order == [*reversed(range(len(shape)))] else \
            f"{array.name}.transpose({', '.join(map(str, order))})"
    elif kind == "dropped" and len(shape) < 3:
        place = g.random.randint(0, len(shape))
        many = g.random.choice((1, 2, 4))
        array = g.array(dtype, (*near[:place], many, *near[place:]), fill, layout)
        keys = [":"] * len(shape)
        keys.insert(place, g.random.choice(("0", "g", "n % 2", str(many - 1), str(many), "n - 1")))
        text = f"{array.name}[{', '.join(keys)}]"
    elif kind in ("part", "nested"):
        keys, extents = [], []
        for n in near:
            start = g.random.choice(("", "1", "g", "2", "n", "n - 3", "g - 1"))
            stop = g.random.choice(("", "", str(n), "n + 9", str(max(0, n - 2)), f"{n} - g"))
            keys.append(f"{start}:{stop}")
            extents.append(n + g.random.choice((0, 0, 2)))
        array = g.array(dtype, tuple(extents), fill, layout)
        text = f"{array.name}[{', '.join(keys)}]"
        if kind == "nested":
            axis = g.random.randrange(len(shape))
            first = g.random.choice(("1:", "1:", "2:", "g:", "n - 2:", f"1:{near[axis]}"))
            inner = ", ".join(first if d == axis else ":" for d in range(len(shape)))
            text = f"{text}[{inner}]" if g.chance(0.5) or len(shape) == 1 else f"{text}.T[{inner}].T"
    else:
        kind = "whole"
        text = g.array(dtype, tuple(near), fill, layout).name
    g.count(f"view {kind}")
    return Window(text, len(shape))


def offsets_of(g: Generator, rank: int) -> str:
    choices = ("0", "0", "0", "g", "g * 2", "1", "-1", "n - 3", "m", "g * 16", "-5")
    return "(" + "".join(f"{g.random.choice(choices)}, " for _ in range(rank)) + ")"


def mask_of(g: Generator, shape: Shape) -> str:
    """A bool tile that broadcasts to ``shape``: of indices, of data, or a scalar."""
    g.count("mask")
    given = g.pick(lambda v: (v.dtype == "bool" or v.is_int) and len(v.shape) <= len(shape)
                   and broadcast(v.shape, shape) == shape)
    if given is not None and g.chance(0.5):
        g.count("mask of data")
        return given.name if given.dtype == "bool" else f"{given.name} % 3 != 0"
    axis = g.random.randrange(len(shape))
    kind = g.random.choice(("index", "index", "two", "scalar", "row"))
    g.count(f"mask {kind}")
    test = g.random.choice(("% 2 == 0", "< n", "!= g", "> 1", f"< {shape[axis]}", f">= {shape[axis] - 1}", "< n * 4"))
    if kind == "two" and len(shape) > 1:
        return f"tl.iota({shape}, {axis}) {g.random.choice(('<', '>=', '!='))} tl.iota({shape}, {axis - 1}) + g"
    if kind == "scalar":
        return g.random.choice(("n > 2", "g == 0", "(n > 1) & (g < 2)"))
    if kind == "row":
        row = tuple(n if d == axis else 1 for d, n in enumerate(shape))
        return f"tl.iota({row}, {axis}) {test}"
    return f"tl.iota({shape}, {axis}) {test}"


def other_of(g: Generator, dtype: str) -> str:
    g.count("other")
    if dtype not in (*FLOATS, *INTEGERS):
        found = parse_dtype(dtype)
        value = g.random.choice((1, 0, -1, 3))
        if g.chance(0.5) and (not found.is_int or found.min_value <= value <= found.max_value):
            return str(value if found.is_int else value * 0.5)
        return f"tl.scalar({value}, tl.{g.random.choice(('i32', 'f32'))}).to({spelled(dtype)})"
    if dtype == "f32" and g.chance(0.3):
        return "f"
    if dtype[0] == "i" and g.chance(0.3):
        return "-3"
    return str(g.random.choice((1, 3, 5)))


def load(g: Generator) -> None:
    load_of(g, g.random.choice((*g.dtypes, *g.stored)))


def load_of(g: Generator, dtype: str) -> None:
    shape = g.shape()
    fill = fill_of(g, dtype)
    view = window(g, shape, dtype, fill)
    text = f"tl.load({view.text}, {offsets_of(g, len(shape))}, {shape}"
    if g.chance(0.3):
        text += f", mask={mask_of(g, shape)}"
    if g.chance(0.3):
        text += f", other={other_of(g, dtype)}"
    g.count("load")
    g.count(f"rank {len(shape)}")
    g.count(f"elements {size_class(math.prod(shape))}")
    known = element(dtype, fill)
    g.new(text + ")", Value("", dtype, shape, known.bound, known.grid))


def size_class(size: int) -> str:
    for limit in (0, 1, 31, 255, 1023):
        if size <= limit:
            return f"up to {limit}"
    return "1024 and more"


def load_storage(g: Generator) -> None:
    """Arrays of 8-bit floats and bools."""
    shape = g.shape()
    dtype = g.random.choice((*STORAGE_FLOATS, "bool"))
    view = window(g, shape, dtype, "codes")
    text = f"tl.load({view.text}, {offsets_of(g, len(shape))}, {shape})"
    g.count(f"load {dtype}")
    if dtype == "bool":
        g.made(text, "bool", shape)
        return
    to = g.random.choice(("f32", "f16", "bf16"))
    g.rounded(f"{text}.to(tl.{to})", to, shape, math.inf)


def element_load(g: Generator) -> None:
    """One element, a scalar of the block."""
    rank = g.random.choice((1, 2))
    dtype = g.random.choice(("i32", "i64", "f32", "i16", *2 * g.stored))
    fill = "small" if dtype in INTEGERS else "grid" if dtype in FLOATS else "codes"
    array = g.array(dtype, (7, 5)[:rank], fill, g.random.choice(LAYOUTS))
    index = ", ".join(g.random.choice(("g", "n", "2", "9", "-1", "g + n")) for _ in range(rank))
    known = element(dtype, fill)
    g.count("load of an element")
    g.new(f"{array.name}[{index}]", Value("", dtype, (), known.bound, known.grid))


def index_tile(g: Generator, shape: Shape, extent: int) -> str:
    given = g.pick(lambda v: v.is_int and v.shape == shape)
    if given is not None and g.chance(0.4):
        return f"{given.name} % {min(127, extent + 2)}" if g.chance(0.8) else given.name
    axis = g.random.randrange(len(shape))
    return g.random.choice((f"tl.iota({shape}, {axis}) * 5 - 3 + g", f"tl.iota({shape}, {axis})",
                            f"{extent} - tl.iota({shape}, {axis})", f"tl.full({shape}, 3, tl.i32)"))


def gather(g: Generator) -> None:
    shape = g.shape()
    dtype = g.random.choice(("f32", "i32", "f16", "i8", "u64", *2 * g.stored))
    fill = fill_of(g, dtype)
    extents = (37, 11)[: g.random.choice((1, 2))]
    view = window(g, extents, dtype, fill)
    indices = "".join(f"{index_tile(g, shape, n)}, " for n in extents)
    text = f"tl.gather({view.text}, ({indices})"
    if g.chance(0.3):
        text += f", mask={mask_of(g, shape)}"
    if g.chance(0.3):
        text += f", other={other_of(g, dtype)}"
    g.count("gather")
    known = element(dtype, fill)
    g.new(text + ")", Value("", dtype, shape, known.bound, known.grid))


def scatter(g: Generator) -> None:
    """To distinct elements of the block's own slice."""
    value = g.pick_any(lambda v: v.shape != () and v.determined and v.dtype != "bool")
    if value is None:
        return
    size = math.prod(value.shape)
    array = g.array(value.dtype, (g.blocks, max(1, size + g.random.choice((-2, 0, 3)))), "small", written=True)
    strides = [math.prod(value.shape[d + 1 :]) for d in range(len(value.shape))]
    index = " + ".join(f"tl.iota({value.shape}, {d}) * {s}" for d, s in enumerate(strides))
    if g.chance(0.5):
        index = f"{size - 1} - ({index})"
    mask = f", mask={mask_of(g, value.shape)}" if g.chance(0.4) else ""
    g.count("scatter")
    g.line(f"tl.scatter({array.name}[g, :], {index}, {value.name}{mask})")


def atomic(g: Generator) -> None:
    """Integer atomics on shared elements, whose order does not count; old values where indices are distinct."""
    value = g.pick(lambda v: v.shape != () and v.dtype in ("i32", "i64", "u32", "u64"))
    if value is None:
        return
    kind = g.random.choice(("add", "min", "max", "and", "or", "xor"))
    size = math.prod(value.shape)
    mask = f", mask={mask_of(g, value.shape)}" if g.chance(0.3) else ""
    g.count(f"atomic {kind}")
    if g.chance(0.5):
        extent = g.random.choice((1, 3, 40))
        array = g.array(value.dtype, (extent,), "full", written=True)
        index = g.random.choice((f"tl.iota({value.shape}, 0) % {extent + 1}", f"({value.name} % {extent}).to(tl.i64)"))
        g.line(f"tl.atomic_{kind}({array.name}, {index}, {value.name}{mask})")
        return
    kind = g.random.choice((kind, "exchange", "cas"))
    array = g.array(value.dtype, (g.blocks, size + g.random.choice((-1, 0, 2)) or 1), "full", written=True)
    strides = [math.prod(value.shape[d + 1 :]) for d in range(len(value.shape))]
    index = " + ".join(f"tl.iota({value.shape}, {d}) * {s}" for d, s in enumerate(strides))
    compare = f"{value.name} | 1, " if kind == "cas" else ""
    g.made(f"tl.atomic_{kind}({array.name}[g, :], {index}, {compare}{value.name}{mask})", value.dtype, value.shape)


def atomic_float(g: Generator) -> None:
    """Atomics on floats, of NaNs too: extrema in any order, exchanges and sums where the order does not count."""
    kind = g.random.choice(("min", "max", "min", "max", "exchange", "cas", "add"))
    dtypes = ("f32",) if kind in ("min", "max") else ("f32", "f64") if kind != "add" else ("f16", "bf16", "f32", "f64")
    value = g.pick(lambda v: v.shape != () and v.dtype in dtypes and v.determined and v.zeros and 0 not in v.shape)
    if value is None or g.chance(0.5):
        shape, dtype = (g.random.choice((5, 32, 100)),), g.random.choice(dtypes)
        given = g.array(dtype, shape, "wild")
        value = g.new(f"tl.load({given.name}, 0, {shape})", Value("", dtype, shape))
    size = math.prod(value.shape)
    strides = [math.prod(value.shape[d + 1 :]) for d in range(len(value.shape))]
    index = " + ".join(f"tl.iota({value.shape}, {d}) * {s}" for d, s in enumerate(strides))
    mask = f", mask={mask_of(g, value.shape)}" if g.chance(0.3) else ""
    g.count(f"atomic float {kind}")
    if kind in ("min", "max") and g.chance(0.6):
        array = g.array("f32", (g.random.choice((1, 3, 40)),), "wild", written=True)
        g.line(f"tl.atomic_{kind}({array.name}, ({index}) % {array.shape[0]}, {value.name}{mask})")
        return
    array = g.array(value.dtype, (g.blocks, size + g.random.choice((0, 2))), "wild", written=True)
    compare = f"{value.name} * 0, " if kind == "cas" else ""
    old = f"tl.atomic_{kind}({array.name}[g, :], {index}, {compare}{value.name}{mask})"
    g.rounded(old, value.dtype, value.shape, math.inf, zeros=False)


def ordered(g: Generator) -> None:
    """Stores and loads of one array: program order, through windows that overlap."""
    value = g.pick_any(lambda v: 1 <= len(v.shape) <= 2 and v.determined and v.dtype != "bool" and 0 not in v.shape)
    if value is None:
        return
    fill = "small" if value.is_int else "grid" if value.is_float else "codes"
    layout = g.random.choice(("C", "C", "F", "padded"))
    shape = value.shape
    array = g.array(value.dtype, (g.blocks, *(n + 2 for n in shape)), fill, layout, written=True)
    view = f"{array.name}[g, {', '.join([':'] * len(shape))}]"
    known = element(value.dtype, fill)
    bound = max(value.bound, known.bound)
    grid = None if value.grid is None or known.grid is None else min(value.grid, known.grid)
    product, zeros = value.product, value.zeros
    result = Value("", value.dtype, shape, bound, grid, 0.0, product, zeros)
    g.count("store then load")
    g.line(f"tl.store({view}, {_at(g, shape)}, {value.name})")
    for _ in range(g.random.choice((1, 1, 2))):
        if len(shape) == 2 and g.chance(0.4):
            loaded = g.new(f"tl.load({view}.T, {_at(g, shape)}, {shape[::-1]})", result.moved("", shape[::-1]))
        else:
            loaded = g.new(f"tl.load({view}, {_at(g, shape)}, {shape})", result)
        if g.chance(0.5):
            target = f"{view}.T" if loaded.shape != shape else view
            g.line(f"tl.store({target}, {_at(g, loaded.shape)}, {loaded.name})")


def _at(g: Generator, shape: Shape) -> str:
    return "(" + "".join(f"{g.random.choice((0, 0, 1, 2, 'g'))}, " for _ in shape) + ")"


def optional(g: Generator) -> None:
    """An array that may be absent, and one that is."""
    x = g.pick(lambda v: len(v.shape) == 1 and v.is_int and 0 not in v.shape)
    if x is None:
        return
    array = ArrayArgument(f"x{len(g.arrays)}", x.dtype, x.shape, "C", "small", absent=True)
    array.absent = g.chance(0.5)
    g.arrays.append(array)
    g.count("optional array")
    name = g.name()
    g.line(f"{name} = {x.name}")
    if array.absent:
        g.line(f"if {array.name} is not None:")
        g.line(f"    {name} = {name} + tl.load({array.name}, 0, {x.shape})")
    else:
        g.line(f"{name} = {name} ^ tl.load({array.name}, 0, {x.shape})")
    g.add(Value(name, x.dtype, x.shape))


assert max(EXTENTS) <= MOST
STATEMENTS: list[tuple[Statement, float]] = [
    (load, 2), (load_storage, 0.5), (element_load, 0.7), (gather, 1), (scatter, 0.7), (atomic, 0.8),
    (atomic_float, 1.5), (ordered, 0.8),
    (optional, 0.3),
]
