"""Types for storage that the program keeps to: conversions, bit patterns, products, loops, groups and helpers."""

from __future__ import annotations

import math
from dataclasses import replace

from tests.fuzz import memory
from tests.fuzz.control import add_float_sum
from tests.fuzz.generator import Generator, Statement
from tests.fuzz.program import FLOATS, INTEGERS, PRECISION, Shape, Value, bits_of, spelled
from tests.fuzz.storage_types import STORED, range_of
from tilus.ir.dtypes import parse_dtype

ROUNDINGS = ("", "", "", ', rounding="rz"', ', rounding="rm"', ', rounding="rp"')


def _stored(g: Generator) -> Value | None:
    return g.pick_any(lambda v: not v.computes)


def _literal(dtype: str) -> int:
    """A number that fits."""
    return -1 if dtype == "i1" else 1


def load(g: Generator) -> None:
    memory.load_of(g, g.random.choice(g.stored))


def narrowed(g: Generator) -> None:
    """Numbers of any size to a type for storage."""
    x = g.pick(lambda v: v.determined and v.dtype != "bool")
    if x is None:
        return
    to = g.random.choice(g.stored)
    rounding = g.random.choice(ROUNDINGS) if x.is_float and not parse_dtype(to).is_codebook else ""
    g.count(f"narrowed to {_kind(to)}")
    g.kept(f"{x.name}.to({spelled(to)}{rounding})", to, x.shape, zeros=x.is_int or (x.zeros and x.finite))


def _kind(dtype: str) -> str:
    found = parse_dtype(dtype)
    return "a codebook" if found.is_codebook else "an integer" if found.is_int else "a float"


def widened(g: Generator) -> None:
    """Elements of a type for storage as numbers of a type that computes."""
    x = _stored(g)
    if x is None:
        return
    to = g.random.choice(FLOATS if g.chance(0.6) else INTEGERS)
    rounding = g.random.choice(ROUNDINGS) if parse_dtype(x.dtype).is_float and to not in FLOATS else ""
    g.count(f"widened from {_kind(x.dtype)} to {to if to in FLOATS else 'an integer'}")
    text = f"{x.name}.to(tl.{to}{rounding})"
    if to in INTEGERS:
        g.made(text, to, x.shape)
    else:
        g.rounded(text, to, x.shape, x.bound, x.grid, zeros=x.zeros and x.finite)


def restored(g: Generator) -> None:
    """From one type for storage to another."""
    x = _stored(g)
    if x is None:
        return
    to = g.random.choice((*g.stored, g.random.choice(STORED)))
    g.count(f"from {_kind(x.dtype)} to {_kind(to)}")
    g.kept(f"{x.name}.to({spelled(to)})", to, x.shape, zeros=parse_dtype(x.dtype).is_int or (x.zeros and x.finite))


def recoded(g: Generator) -> None:
    """The codes as another type of the same width."""
    x = g.pick_any(lambda v: v.zeros and not v.computes)
    if x is None:
        return
    bits = bits_of(x.dtype)
    to = g.random.choice([t for t in (*STORED, *INTEGERS, *FLOATS, f"i{bits}", f"u{bits}") if bits_of(t) == bits])
    g.count("codes as another type")
    text = f"{x.name}.bitcast({spelled(to)})"
    if to in FLOATS or to in INTEGERS:
        g.new(text, Value("", to, x.shape, zeros=to in INTEGERS))
    else:
        g.kept(text, to, x.shape)


def dequantised(g: Generator) -> None:
    """A loop of dots with weights that are converted, scaled and shifted, as in linear layers."""
    weights = [t for t in g.stored if range_of(t)[0] <= 64]
    if not weights or g.depth > 1:
        return
    dtype = g.random.choice(weights)
    bound, grid = range_of(dtype)
    to = g.random.choice(("f16", "f16", "bf16", "f32", "i8" if parse_dtype(dtype).is_int else "f16"))
    m, n, k = g.random.choice((16, 16, 5, 1, 64)), g.random.choice((16, 32, 64, 9)), g.random.choice((16, 32, 64, 20))
    length = g.random.choice((k, 2 * k, 3 * k, 2 * k + 3, 4 * k - 1, 1))
    stages = g.random.choice(("", "", ", stages=2", ", stages=3", ", stages=4"))
    turned = g.chance(0.4)
    layout = g.random.choice(("C", "C", "C", "F", "padded", "offset", "strided"))
    x = g.array(to, (m + g.random.choice((0, -1, 3)), length), "full" if to == "i8" else "grid")
    columns = n + g.random.choice((0, 0, -1, 16))
    w = g.array(dtype, (columns, length) if turned else (length, columns), "codes", layout)
    right, kk, t = f"{w.name}.T" if turned else w.name, g.name("k"), g.name("t")
    acc, wide = g.name(), "i32" if to == "i8" else "f32"
    scaled = to != "i8" and g.chance(0.5)
    g.count(f"product with weights that become {to}" + (" staged" if stages else ""))
    g.line(f"{acc} = tl.zeros(({m}, {n}), tl.{wide})")
    g.line(f"for {kk} in tl.range(0, {length}, {k}{stages}):")
    column = g.random.choice(("0", f"g * {n}", "1"))
    g.line(f"    {t} = tl.load({right}, ({kk}, {column}), ({k}, {n})).to(tl.{to})")
    if scaled:
        scale = g.array(to, (length // k + 1, columns), "grid")
        g.line(f"    {t} = {t} * tl.load({scale.name}[{kk} // {k}, :], {column}, {n})")
        bound, grid = 8 * bound, None if grid is None else grid - 2
        if grid is not None and bound > 2.0 ** (grid + PRECISION[to]):
            grid = None
    if to in FLOATS and grid is not None and bound > 2.0 ** (grid + PRECISION[to]):
        grid = None
    g.line(f"    {acc} = tl.dot(tl.load({x.name}, (0, {kk}), ({m}, {k})), {t}, {acc})")
    if to == "i8":
        g.add(Value(acc, wide, (m, n)))
    elif grid is None:
        # Rounded products of f16 or bf16 that may have been left unrounded count in units of the last place.
        error = 8.0 * bound * (length + k) * 2.0 ** -PRECISION[to] if scaled else 0.0
        sums = (length + k) ** 2 * bound * 8.0 * 2.0 ** (1 - PRECISION[wide])
        g.add(Value(acc, wide, (m, n), 8.0 * bound * (length + k), None, 2 * (error + sums), zeros=False))
    else:
        add_float_sum(g, acc, wide, (m, n), length + k, 8.0 * bound, grid - 2)


def walked(g: Generator) -> None:
    """A loop over tiles of an array, with sums and the greatest of the numbers, and the tile of the last iteration."""
    dtype = g.random.choice(g.stored)
    bound, grid = range_of(dtype)
    if bound > 1 << 20 or g.depth > 1:
        return
    rows, columns = g.random.choice((1, 4, 16, 32)), g.random.choice((8, 16, 17, 32, 64))
    length = g.random.choice((1, columns, 2 * columns, 3 * columns - 5, 100, 96, 161))
    array = g.array(dtype, (rows + g.random.choice((0, -1, 3)), length), "codes",
                    g.random.choice(("C", "C", "F", "padded", "offset", "strided")))
    wide = "i32" if parse_dtype(dtype).is_int else "f32"
    total, best, last, k, tile = g.name(), g.name(), g.name(), g.name("k"), g.name("t")
    turned = g.chance(0.3)
    shape: Shape = (columns, rows) if turned else (rows, columns)
    step = g.random.choice((columns, columns, columns // 2, columns + 3))
    stages = g.random.choice(("", ", stages=2", ", stages=3"))
    at = g.random.choice((k, k, k, f"{k} - 3", f"{k} + g", f"{length} - {k}"))
    mask = f", mask=tl.iota(({rows}, {columns}), 1) + {k} < {array.name}.shape[1] - 1" if g.chance(0.3) else ""
    other = f", other={memory.other_of(g, dtype)}" if mask and g.chance(0.5) else ""
    g.count("loop over packed tiles" + (" staged" if stages else ""))
    g.line(f"{total} = tl.zeros({shape}, tl.{wide})")
    g.line(f"{best} = tl.full({shape}, -8, tl.{wide})")
    g.line(f"{last} = tl.full({shape}, {_literal(dtype)}, {spelled(dtype)})")
    g.line(f"for {k} in tl.range({g.random.choice(('0', '0', 'g', 'n', '-3'))}, {length}, {step}{stages}):")
    loaded = f"tl.load({array.name}, (0, {at}), ({rows}, {columns}){mask}{other})"
    g.line(f"    {tile} = {loaded}{'.T' if turned else ''}")
    g.line(f"    {total} = {total} + {tile}.to(tl.{wide})")
    g.line(f"    {best} = tl.maximum({best}, {tile}.to(tl.{wide}))")
    g.line(f"    {last} = " + g.random.choice((tile, f"tl.where(tl.iota({shape}, 0) % 2 == 0, {last}, {tile})")))
    trips = 2 + (length + 3) // max(1, step)
    g.add(Value(last, dtype, shape, bound, grid))
    if wide == "i32":
        g.add(Value(total, wide, shape))
        g.add(Value(best, wide, shape))
    else:
        add_float_sum(g, total, wide, shape, trips, max(bound, 1.5), grid)
        g.add(Value(best, wide, shape, max(8.0, bound), grid, zeros=False))


def in_place(g: Generator) -> None:
    """A loop that reads and writes one packed array, each iteration where another one does."""
    dtype = g.random.choice(g.stored)
    size, trips = g.random.choice((8, 16, 33)), g.random.randint(1, 4)
    array = g.array(dtype, (g.blocks, size * trips + g.random.choice((0, -3, 5))), "codes",
                    g.random.choice(("C", "C", "padded", "strided", "offset")), written=True)
    k, tile = g.name("k"), g.name("t")
    step = g.random.choice((size, size - 1, size // 2))
    reads = g.random.choice((f"{k}", f"{k} - {step}", f"{k} + 1", f"{k} - 1"))
    wide = "i64" if parse_dtype(dtype).is_int else "f32"
    change = f"({tile}.to(tl.{wide}) * 3 + {k}.to(tl.{wide}))" if wide == "i64" else f"({tile}.to(tl.f32) * 0.5)"
    mask = f", mask={memory.mask_of(g, (size,))}" if g.chance(0.3) else ""
    g.count("packed array in place")
    g.line(f"for {k} in tl.range(0, {array.name}.shape[1], {step}{g.random.choice(('', ', stages=2'))}):")
    g.line(f"    {tile} = tl.load({array.name}[g, :], {reads}, {size})")
    g.line(f"    tl.store({array.name}[g, :], {k}, {change}.to({spelled(dtype)}){mask})")
    g.kept(f"tl.load({array.name}[g, :], 1, {size})", dtype, (size,), zeros=False)


def side_by_side(g: Generator) -> None:
    """Thread groups that store what lies in the same bytes, in global or shared memory."""
    if g.warps < 2 or g.depth > 1:
        return
    dtype = g.random.choice(g.stored)
    cut, n = g.random.randint(1, g.warps - 1), g.random.choice((8, 13, 33, 64, 77))
    source = g.array(dtype, (2 * n - g.random.choice((0, 3)),), "codes")
    at = g.random.choice((n, n // 2, 1))
    g.count("groups that share bytes")
    if g.chance(0.5):
        name = g.name("s")
        g.line(f"{name} = tl.shared(({2 * n},), {spelled(dtype)})")
        target = name
    else:
        target = f"{g.array(dtype, (g.blocks, 2 * n), 'codes', written=True).name}[g, :]"
    pieces = [(0, cut, 0, at), (cut, g.warps - cut, at, 2 * n - at)]
    for first, warps, start, size in pieces if g.chance(0.5) else pieces[::-1]:
        g.line(f"with tl.group({first}, {warps}):")
        g.line(f"    tl.store({target}, {start}, tl.load({source.name}, {start}, {size}))")
    g.line("tl.sync()")
    g.kept(f"tl.load({target}, 0, {2 * n})", dtype, (2 * n,))


def copied(g: Generator) -> None:
    """A tile that is copied to shared memory asynchronously, and read in part or with another shape of access."""
    dtype = g.random.choice(g.stored)
    name = g.name("s")
    if g.chance(0.5):
        rows, columns = g.random.choice((1, 3, 8, 16)), g.random.choice((8, 32, 64, 5, 24, 128))
        source, at = memory.window(g, (rows, columns), dtype, "codes").text, memory.offsets_of(g, 2)
    else:  # groups of elements that have words of their own
        rows, columns = g.random.choice((16, 16, 32, 8)), g.random.choice((64, 128, 128))
        shape = rows + g.random.choice((0, -3, 5)), columns * g.random.choice((1, 2))
        source = g.array(dtype, shape, "codes").name
        at = f"({g.random.choice(('0', 'n', 'g * 8', '-1'))}, {g.random.choice((0, 0, columns))})"
    g.count("copy of packed elements")
    g.line(f"{name} = tl.shared(({rows}, {columns}), {spelled(dtype)})")
    g.line(f"tl.copy_async({name}, {source}, {at})")
    g.line("tl.commit()")
    g.line("tl.wait(0)")
    g.line("tl.sync()")
    g.kept(f"tl.load({name}, (0, 0), ({rows}, {columns}))", dtype, (rows, columns))
    if g.chance(0.5):
        size = g.random.randint(1, columns)
        g.kept(f"tl.load({name}[n % {rows}, {columns - size}:], 0, {size})", dtype, (size,))


def updated_shared(g: Generator) -> None:
    """Some elements of a table in shared memory replaced, under a mask, by a scatter or a store of one element."""
    x = g.pick_any(lambda v: not v.computes and len(v.shape) == 1 and 0 not in v.shape)
    if x is None:
        return
    name, (n,) = g.name("s"), x.shape
    g.count("packed elements of shared memory replaced")
    g.line(f"{name} = tl.shared(({n},), {spelled(x.dtype)})")
    g.line(f"tl.store({name}, 0, {x.name})")
    g.line("tl.sync()")
    kind = g.random.choice(("mask", "scatter", "part"))
    if kind == "mask":
        g.line(f"tl.store({name}, 0, tl.full(({n},), {_literal(x.dtype)}, {spelled(x.dtype)}), "
               f"mask={memory.mask_of(g, x.shape)})")
    elif kind == "scatter":
        g.line(f"tl.scatter({name}, {n - 1} - tl.arange(0, {n}), {x.name}, mask=tl.arange(0, {n}) % 3 == g)")
    else:
        start = g.random.randrange(n)
        size = g.random.randint(1, n - start)
        g.line(f"tl.store({name}, {start}, {x.name}[:{size}])")
    g.line("tl.sync()")
    g.moved(f"tl.load({name}, 0, {n})", x, x.shape)


def carried(g: Generator) -> None:
    """A run-time loop that carries tiles of a type for storage and exchanges them."""
    x = g.pick_any(lambda v: not v.computes and v.shape != ())
    y = g.partner(x, lambda v: v.shape == x.shape) if x else None
    if x is None or y is None or x.shape != y.shape:
        return
    first, second, k = g.name(), g.name(), g.name("k")
    g.count("loop that carries packed tiles")
    g.line(f"{first}, {second} = {x.name}, {y.name}")
    g.line(f"for {k} in tl.range({g.random.choice(('n', '3', 'g + 1'))}):")
    g.line("    " + g.random.choice((
        f"{first}, {second} = {second}, {first}",
        f"{second} = {first} if {k} > 1 else {second}",
        f"{second} = tl.where(tl.iota({x.shape}, 0) > {k}, {first}, {second})")))
    for name in (first, second):
        g.add(replace(x, name=name, zeros=x.zeros and y.zeros))


def helped(g: Generator) -> None:
    """A function of the user on a tile, and one on each element of it."""
    x = g.pick_any(lambda v: not v.computes and v.shape != () and math.prod(v.shape) <= 512)
    if x is None:
        return
    name, wide = g.name("h"), "i64" if parse_dtype(x.dtype).is_int else "f32"
    g.count("helper of packed elements")
    if g.chance(0.5):
        g.prelude += [f"def {name}(a, n):", "    if n > 2:", f"        return a.to(tl.{wide})",
                      f"    return a.to(tl.{wide}) + 1", "", ""]
        text = f"{name}({x.name}, n)"
    else:
        g.prelude += [f"def {name}(a):", f"    b = a.to(tl.{wide})", "    if b > 1:", "        return b - 1",
                      "    return b", "", ""]
        text = f"tl.map({name}, {x.name})"
    if wide == "i64":
        g.made(text, wide, x.shape)
    else:
        g.rounded(text, wide, x.shape, x.bound + 1, None if x.grid is None else min(0, x.grid), zeros=False)


def staged_rows(g: Generator) -> None:
    """A staged loop over gathered rows of packed weights, with a dot."""
    weights = [t for t in g.stored if range_of(t)[0] <= 64 and range_of(t)[1] is not None]
    if not weights or g.depth > 1:
        return
    dtype = g.random.choice(weights)
    bound, grid = range_of(dtype)
    assert grid is not None
    height, depth, width = g.random.choice((16, 32)), g.random.choice((16, 32)), g.random.choice((16, 32))
    k, total, r = g.name("k"), g.name(), g.name("t")
    length = depth * g.random.choice((1, 2, 3)) + g.random.choice((0, -3))
    a = g.array(dtype, (20, length + g.random.choice((0, 5))), "codes", g.random.choice(("C", "C", "padded", "offset")))
    b = g.array("f16", (length, width), "grid")
    table = g.array("i32", (height + g.random.choice((0, -3)),), "small")
    if bound > 2.0 ** (grid + PRECISION["f16"]):
        return
    g.count("packed rows of a staged loop")
    g.line(f"{r} = tl.load({table.name}, 0, {height}, other=-1)")
    g.line(f"{total} = tl.zeros(({height}, {width}), tl.f32)")
    g.line(f"for {k} in tl.range(0, {length}, {depth}, stages={g.random.choice((2, 3))}):")
    g.line(f"    {r}a = tl.gather({a.name}, ({r}[:, None], ({k} + tl.arange(0, {depth}))[None, :])).to(tl.f16)")
    g.line(f"    {total} = tl.dot({r}a, tl.load({b.name}, ({k}, 0), ({depth}, {width})), {total})")
    add_float_sum(g, total, "f32", (height, width), length + depth, 8.0 * bound, grid - 2)


STATEMENTS: list[tuple[Statement, float]] = [
    (load, 4), (narrowed, 5), (widened, 7), (restored, 2), (recoded, 3), (dequantised, 3), (walked, 2.5), (in_place, 2),
    (side_by_side, 1.5), (copied, 1.5), (updated_shared, 1.5), (carried, 1.5), (helped, 1), (staged_rows, 0.7),
]
