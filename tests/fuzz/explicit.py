"""The explicit style: pinned register layouts, views of registers, shared memory, asynchronous copies."""

from __future__ import annotations

import math
from collections.abc import Callable

from tests.fuzz import control, elementwise, memory, tiles
from tests.fuzz.generator import Generator, Statement
from tests.fuzz.program import FLOATS, INTEGERS, PRECISION, Shape, Value, bits_of, spelled
from tests.fuzz.storage_types import range_of

POWERS = (1, 2, 4, 8, 16, 32, 64, 128)


def register_layout(g: Generator, shape: Shape, threads: int, inner: str = "") -> str:
    """A random layout of exactly ``shape`` (powers of two) on ``threads`` threads, as an expression: a product of
    spatial and local factors, replicated where threads are left."""
    rest = list(shape)
    left = threads
    parts: list[str] = []
    while math.prod(rest) > 1:
        factor = [min(n, g.random.choice((1, 1, 2, 4, 8))) for n in rest]
        size = math.prod(factor)
        if size == 1:
            continue
        spread = size <= left and g.chance(0.75)
        if not spread and size > 16 and left > 1:
            continue
        name = ("spatial" if spread else "local") if g.chance(0.6) else ("column_spatial" if spread else "column_local")
        parts.append(f"{name}({', '.join(map(str, factor))})")
        left //= size if spread else 1
        rest = [n // f for n, f in zip(rest, factor, strict=True)]
    if left > 1:
        parts.insert(g.random.choice((0, 0, len(parts))), f"replicated({left}, {len(shape)})")
    product = " * ".join(f"tl.layouts.{p}" for p in parts) or f"tl.layouts.local({', '.join('1' for _ in shape)})"
    return f"{product}{inner}"


def _is_power(n: int) -> bool:
    return n > 0 and n & (n - 1) == 0


def pinned(g: Generator) -> None:
    """Conversions of a tile between random layouts, or a load into one."""
    shapes = [v.shape for v in g.values if 1 <= len(v.shape) <= 2 and all(map(_is_power, v.shape))]
    shape = g.random.choice(shapes) if shapes and g.chance(0.7) else tuple(
        g.random.choice(POWERS[:7]) for _ in range(g.random.choice((1, 2))))
    threads = 32 * g.warps
    x = g.pick_any(lambda v: v.shape == shape)
    if x is not None and g.chance(0.7):
        g.count("convert layout")
        chain = f"tl.convert_layout({x.name}, {register_layout(g, shape, threads)})"
        if g.chance(0.5):
            chain = f"tl.convert_layout({chain}, {register_layout(g, shape, threads)})"
        converted = g.moved(chain, x, shape)
        if g.chance(0.4):
            tiles.parts(g, converted)
        return
    dtype = g.random.choice((*g.dtypes, *g.stored))
    fill = memory.fill_of(g, dtype)
    view = memory.window(g, shape, dtype, fill)
    known = memory.element(dtype, fill)
    g.count("load into layout")
    g.new(f"tl.load({view.text}, {memory.offsets_of(g, len(shape))}, {shape}, "
          f"layout={register_layout(g, shape, threads)})", Value("", dtype, shape, known.bound, known.grid))


def register_view(g: Generator) -> None:
    """The bits that each thread holds, read as another type under another layout."""
    rank = g.random.choice((1, 2))
    outer = tuple(g.random.choice((1, 2, 4, 8)) for _ in range(rank))
    layout = register_layout(g, outer, 32 * g.warps)
    ones = ("1, " * (rank - 1))
    types = [t for t in (*INTEGERS, *FLOATS) if bits_of(t) < 64]
    source, target = (g.random.choice(g.stored if g.stored and g.chance(0.5) else types) for _ in range(2))
    held = math.lcm(bits_of(source), bits_of(target)) * g.random.choice((1, 2))
    if held > 256:
        return
    each = held // bits_of(source), held // bits_of(target)
    shapes = [(*outer[:-1], outer[-1] * n) for n in each]
    fill = "full" if source in INTEGERS else "grid" if source in FLOATS else "codes"
    view = memory.window(g, shapes[0], source, fill)
    inner = [g.random.choice((f" * tl.layouts.local({ones}{n})", f" * tl.layouts.column_local({ones}{n})"))
             for n in each]
    name = g.name()
    g.count("view of registers")
    g.line(f"{name} = tl.load({view.text}, {memory.offsets_of(g, rank)}, {shapes[0]}, layout={layout}{inner[0]})")
    known = memory.element(source, fill)
    g.add(Value(name, source, shapes[0], known.bound, known.grid))
    text = f"tl.view({name}, dtype={spelled(target)}, layout={layout}{inner[1]})"
    if target in g.stored:
        g.kept(text, target, shapes[1])
    else:
        g.new(text, Value("", target, shapes[1], zeros=target in INTEGERS))


def fragment_dot(g: Generator) -> None:
    """A dot with operands in the layouts of tl.mma."""
    if g.warps not in (1, 4):
        return
    dtype = g.random.choice(("f16", "bf16"))
    warps = (1, 1) if g.warps == 1 else g.random.choice(((2, 2), (1, 4), (4, 1)))
    m, n, k = 16 * warps[0] * g.random.choice((1, 2)), 8 * warps[1] * g.random.choice((1, 2)), g.random.choice((16, 32))
    name = g.name("mma")
    g.count("dot of fragments")
    g.line(f"{name} = tl.mma(({m}, {n}, {k}), tl.{dtype}, warps={warps})")
    views = [memory.window(g, shape, dtype, "grid") for shape in ((m, k), (k, n))]
    a = g.new(f"tl.load({views[0].text}, (0, 0), {(m, k)}, layout={name}.a)", Value("", dtype, (m, k), 8.0, -2))
    b = g.new(f"tl.load({views[1].text}, (0, 0), {(k, n)}, layout={name}.b)", Value("", dtype, (k, n), 8.0, -2))
    g.rounded(f"tl.dot({a.name}, {b.name})", "f32", (m, n), 64.0 * k, -4, zeros=False)


def shared_layout(g: Generator, shape: Shape) -> str:
    if g.chance(0.4):
        return ""
    text = f"tl.layouts.{g.random.choice(('row_major', 'row_major', 'column_major'))}({', '.join(map(str, shape))})"
    if math.prod(shape) & (math.prod(shape) - 1) == 0 and math.prod(shape) >= 64 and g.chance(0.6):
        bits, base = g.random.randint(1, 3), g.random.randint(0, 3)
        if 1 << (base + 2 * bits) <= math.prod(shape):
            text += f".with_swizzle({bits}, {base}, {bits})"
    return f", {text}"


def _tile(g: Generator, condition: Callable[[Value], bool]) -> Value | None:
    """A tile for shared memory, as a rule one that swizzles fit."""
    def even(v: Value) -> bool:
        return all(map(_is_power, v.shape)) and math.prod(v.shape) >= 64

    conditions = (condition, lambda v: 1 <= len(v.shape) <= 2 and 0 not in v.shape)
    return (g.pick_any(*conditions, even) if g.chance(0.7) else None) or g.pick_any(*conditions)


def shared(g: Generator) -> None:
    """A tile stored to shared memory and read back, whole, transposed or in part."""
    x = _tile(g, lambda v: v.dtype != "bool")
    if x is None:
        return
    name = g.name("s")
    g.count("shared memory")
    g.line(f"{name} = tl.shared({x.shape}, {spelled(x.dtype)}{shared_layout(g, x.shape)})")
    g.line(f"tl.store({name}, {(0,) * len(x.shape)}, {x.name})")
    g.line("tl.sync()")
    for _ in range(g.random.choice((1, 2))):
        _read_back(g, name, x)
    if g.chance(0.4):
        g.line("tl.sync()")
        g.line(f"tl.store({name}, {(0,) * len(x.shape)}, {x.name})")
        g.line("tl.sync()")
        _read_back(g, name, x)


def table(g: Generator) -> None:
    """A tile kept in shared memory and read in every iteration of a loop, beside reductions and other work; at times
    written anew between barriers."""
    x = _tile(g, lambda v: v.is_int or (v.is_float and v.grid is not None and v.determined and v.bound <= 64))
    if x is None:
        return
    name, total, k, part = g.name("s"), g.name(), g.name("k"), g.name("t")
    trips, at = g.random.randint(1, 4), (0,) * len(x.shape)
    written = g.chance(0.3)
    bound = x.bound * (2 ** (trips + 1) if written else 2)
    if x.is_float and x.grid is not None and bound > 2.0 ** (x.grid + PRECISION[x.dtype]):
        return
    g.count("loop over a table" + (" written anew" if written else ""))
    g.line(f"{name} = tl.shared({x.shape}, tl.{x.dtype}{shared_layout(g, x.shape)})")
    g.line(f"tl.store({name}, {at}, {x.name})")
    g.line("tl.sync()")
    row = len(x.shape) == 2 and g.chance(0.5)
    shape = x.shape[1:] if row else x.shape
    loaded = f"tl.load({name}, {at}, {shape})"
    if row:
        loaded = f"tl.load({name}[({k} + g) % {x.shape[0]}, :], 0, {shape[0]})"
    g.line(f"{total} = tl.zeros({shape}, tl.{x.dtype})")
    g.line(f"for {k} in tl.range({g.random.choice((str(trips), f'tl.minimum(n, {trips})'))}):")
    axis, kind = g.random.randrange(len(shape)), g.random.choice(("max", "min"))
    with g.nested():
        g.line(f"{part} = {loaded}")
        g.values = [*g.values, x.moved(part, shape)]
        for _ in range(g.random.randint(0, 2)):
            g.statement([*elementwise.STATEMENTS, *tiles.STATEMENTS])
        g.line(f"{part} = {part} - tl.{kind}({part}, axis={axis}, keepdims=True)")
        g.line(f"{total} = tl.maximum({total}, {part})")
        if written:
            g.line("tl.sync()")
            target = f"{name}[{k} % {x.shape[0]}, :], 0" if row else f"{name}, {at}"
            g.line(f"tl.store({target}, {part})")
            g.line("tl.sync()")
    g.add(Value(total, x.dtype, shape, bound, x.grid, zeros=False))


def _read_back(g: Generator, name: str, x: Value) -> None:
    kind = g.random.choice(("whole", "transposed", "part", "row", "gather"))
    if kind == "transposed" and len(x.shape) == 2:
        g.moved(f"tl.load({name}.T, (0, 0), {x.shape[::-1]})", x, x.shape[::-1])
    elif kind == "part":
        starts = [g.random.randrange(n) for n in x.shape]
        sizes = tuple(g.random.randint(1, n - s) for n, s in zip(x.shape, starts, strict=True))
        if g.chance(0.5):
            g.moved(f"tl.load({name}, {tuple(starts)}, {sizes})", x, sizes)
        else:
            keys = ", ".join(f"{s}:{s + n}" for s, n in zip(starts, sizes, strict=True))
            g.moved(f"tl.load({name}[{keys}], {(0,) * len(sizes)}, {sizes})", x, sizes)
    elif kind == "row" and len(x.shape) == 2:
        g.moved(f"tl.load({name}[n % {x.shape[0]}, :], 0, {x.shape[1]})", x, x.shape[1:])
    elif kind == "gather" and len(x.shape) == 1:
        g.moved(f"tl.gather({name}, (tl.iota({x.shape}, 0) * 3 + g) % {x.shape[0]})", x, x.shape)
    else:
        g.moved(f"tl.load({name}, {(0,) * len(x.shape)}, {x.shape})", x, x.shape)


def ring(g: Generator) -> None:
    """A ring of buffers filled by asynchronous copies ahead of their use."""
    dtype = g.random.choice(("f32", "f16", "i32", "i8", "f64", "i16", *3 * g.stored))
    bound, grid = range_of(dtype) if dtype in g.stored else (8.0, -2)
    if bound > 1 << 20:  # of sums that may not be exact
        return
    fill = "full" if dtype in INTEGERS else "grid" if dtype in FLOATS else "codes"
    rows, columns = g.random.choice((1, 4, 8, 16)), g.random.choice((8, 16, 32, 5, 24))
    depth, trips = g.random.choice((2, 3)), g.random.randint(1, 4)
    array = g.array(dtype, (rows + g.random.choice((0, -1, 2)), columns * trips + g.random.choice((0, 0, -3))), fill,
                    g.random.choice(("C", "C", "C", "F", "offset", "padded")))
    name, total, k = g.name("s"), g.name(), g.name("k")
    wide = dtype if dtype in ("f64", "i32", "f32") else "i32" if dtype[0] in "iu" else "f32"
    g.count("ring of copies")
    layout = shared_layout(g, (depth, rows, columns)) if g.chance(0.3) else ""
    if dtype in g.stored:
        g.count("ring of copies of packed elements")
    g.line(f"{name} = tl.shared(({depth}, {rows}, {columns}), {spelled(dtype)}{layout})")
    for d in range(depth - 1):
        g.line(f"tl.copy_async({name}[{d}, :, :], {array.name}, (0, {d * columns}))")
        g.line("tl.commit()")
    g.line(f"{total} = tl.zeros(({rows}, {columns}), tl.{wide})")
    g.line(f"for {k} in tl.range({trips}):")
    g.line(f"    tl.wait({depth - 2})")
    g.line("    tl.sync()")
    g.line(f"    {total} = {total} + tl.load({name}[{k} % {depth}, :, :], (0, 0), ({rows}, {columns})).to(tl.{wide})")
    g.line(f"    tl.copy_async({name}[({k} + {depth - 1}) % {depth}, :, :], {array.name}, "
           f"(0, ({k} + {depth - 1}) * {columns}))")
    g.line("    tl.commit()")
    g.line("tl.wait(0)")
    g.line("tl.sync()")
    if wide[0] == "f":
        control.add_float_sum(g, total, wide, (rows, columns), trips, bound, grid)
    else:
        g.add(Value(total, wide, (rows, columns)))


STATEMENTS: list[tuple[Statement, float]] = [
    (pinned, 1.5), (register_view, 0.6), (fragment_dot, 0.4), (shared, 1.5), (table, 1), (ring, 0.5),
]
