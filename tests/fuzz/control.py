"""Control flow: loops that carry values, branches, functions of the user, loops of dots that are pipelined."""

from __future__ import annotations

import math

from tests.fuzz import memory
from tests.fuzz.elementwise import common_grid
from tests.fuzz.generator import MOST, Generator, Statement
from tests.fuzz.program import PRECISION, Shape, Value
from tests.fuzz.tiles import dot_of


def simple(g: Generator, count: int) -> None:
    """A few statements of the families that have no control flow."""
    from tests.fuzz.families import SIMPLE

    for _ in range(count):
        g.statement(SIMPLE)


def loop(g: Generator) -> None:
    """A loop that carries integers, and a float sum or maximum."""
    x = g.pick(lambda v: v.is_int and v.shape != ())
    if x is None:
        return
    trips = g.random.randint(0, 5)
    kind = g.random.choice(("plain", "if", "continue", "break", "while", "static", "down", "nested", "two breaks"))
    g.count(f"loop {kind}")
    name = g.name()
    g.line(f"{name} = {g.random.choice((x.name, f'tl.zeros({x.shape}, tl.{x.dtype})', f'{x.name} + 1'))}")
    carried = g.add(Value(name, x.dtype, x.shape))
    index = g.name("k")
    bound = g.random.choice((str(trips), f"tl.minimum(n, {trips})", "n", "n - 2"))
    stages = g.random.choice(("", "", ", stages=2", ", unroll=2"))
    if kind == "while":
        g.line(f"{index} = n * 0")
        g.line(f"while {index} < {trips}:")
    elif kind == "static":
        g.line(f"for {index} in tl.static_range({trips}):")
    elif kind == "down":
        stop = g.random.choice(("-1", "0", "g", "n - 5"))
        g.line(f"for {index} in tl.range({trips}, {stop}, -{g.random.randint(1, 2)}):")
    else:
        step = g.random.choice(("", "", ", 1", ", 2", ", 3"))
        start = f"{g.random.choice(('0', '1', '-2', 'g'))}, " if step else ""
        g.line(f"for {index} in tl.range({start}{bound}{step}{stages}):")
    with g.nested():
        _body(g, carried, kind, index)
    if kind == "while":
        g.line(f"    {index} = {index} + 1")


def _body(g: Generator, carried: Value, kind: str, index: str) -> None:
    name = carried.name
    if kind in ("continue", "break", "two breaks"):
        word = "continue" if kind == "continue" else "break"
        g.line(f"if {index} {g.random.choice(('==', '>'))} {g.random.randint(0, 3)}:")
        g.line(f"    {word}")
    simple(g, g.random.randint(0, 3))
    step = g.pick(lambda v: v.dtype == carried.dtype and v.shape == carried.shape)
    term = step.name if step is not None else "1"
    op = g.random.choice(("+", "-", "^", "*", "|"))
    if kind == "if":
        g.line(f"if {index} % 2 == g % 2:")
        g.line(f"    {name} = {name} {op} {term}")
        g.line("else:")
        g.line(f"    {name} = {name} - {term}")
    elif kind == "nested":
        inner = g.name("k")
        g.line(f"for {inner} in tl.range({g.random.choice(('2', 'n', 'g + 1'))}):")
        g.line(f"    {name} = {name} {op} {term}")
        g.line(f"{name} = {name} + 1")
    else:
        g.line(f"{name} = {name} {op} {term}")
    if kind == "two breaks":
        g.line(f"if {index} + g > {g.random.randint(1, 4)}:")
        g.line("    break")
        g.line(f"{name} = {name} ^ {term}")


def accumulate(g: Generator) -> None:
    """A loop over tiles of an array: a sum and a maximum are carried. Tiles may overlap, begin anywhere, go back."""
    rows, columns = g.random.choice((1, 4, 16, 32)), g.random.choice((8, 16, 17, 32))
    dtype = g.random.choice(("f32", "f16", "i32", "f64", "bf16", "i32"))
    length = g.random.choice((0, 1, columns, 2 * columns, 3 * columns - 5, 100, 96))
    fill = "small" if dtype == "i32" else "grid"
    array = g.array(dtype, (rows + g.random.choice((0, 0, -1, 3)), length), fill,
                    g.random.choice(("C", "C", "F", "padded")))
    stages = g.random.choice(("", ", stages=2", ", stages=3"))
    g.count("loop over tiles" + (" staged" if stages else ""))
    wide = "f32" if dtype in ("f16", "bf16") else dtype
    total, best, k, tile = g.name(), g.name(), g.name("k"), g.name("t")
    transposed = g.chance(0.3)
    shape: Shape = (columns, rows) if transposed else (rows, columns)
    g.line(f"{total} = tl.full({shape}, {g.random.choice((0, 1))}, tl.{wide})")
    g.line(f"{best} = tl.full({shape}, -8, tl.{dtype})")
    step = g.random.choice((columns, columns, columns, columns // 2, columns // 2, columns + 3))
    stop = g.random.choice((f"{array.name}.shape[1]", f"{array.name}.shape[1]", str(length),
                            f"{array.name}.shape[1] - n", f"tl.minimum({array.name}.shape[1], {columns} * g)"))
    start = g.random.choice(("0", "0", "0", "0", "g", "1", "n", "-3"))
    at = g.random.choice((k, k, k, k, f"{k} - 3", f"{k} + g * 8", f"{length} - {k}"))
    mask = f", mask=tl.iota(({rows}, {columns}), 1) + {k} < {array.name}.shape[1] - 1" if g.chance(0.2) else ""
    g.line(f"for {k} in tl.range({start}, {stop}, {step}{stages}):")
    g.line(f"    {tile} = tl.load({array.name}, (0, {at}), ({rows}, {columns}){mask})" + (".T" if transposed else ""))
    if g.chance(0.5):
        limit = g.random.choice((f"{array.name}.shape[1]", f"{array.name}.shape[1]", "20", f"{length} - 9", "n * 9"))
        inside = f"tl.iota({shape}, {0 if transposed else 1}) + {k} < {limit}"
        g.line(f"    {tile} = tl.where({inside}, {tile}, tl.full({shape}, -7, tl.{dtype}))")
    g.line(f"    {total} = {total} + {tile}.to(tl.{wide})" + (f" + {k}.to(tl.i32)" if dtype == "i32" else ""))
    g.line(f"    {best} = tl.maximum({best}, {tile})")
    trips = 2 + (length + 3) // max(1, step)
    if dtype == "i32":
        g.add(Value(total, wide, shape))
        g.add(Value(best, dtype, shape))
    else:
        g.add(Value(total, wide, shape, 8.0 * trips, -2, zeros=False))
        g.add(Value(best, dtype, shape, 8.0, -2, zeros=False))


def update_in_place(g: Generator) -> None:
    """A loop that reads and writes one array, each iteration where another one does."""
    size, trips = g.random.choice((8, 16, 33)), g.random.randint(1, 4)
    dtype = g.random.choice(("i32", "i64", "i16"))
    array = g.array(dtype, (g.blocks, size * trips + g.random.choice((0, 0, -3, 5))), "small", written=True)
    k, tile = g.name("k"), g.name("t")
    step = g.random.choice((size, size, size - 1, size // 2))
    reads = g.random.choice((f"{k}", f"{k} - {step}", f"{k} + 1", f"{k} - 1"))
    stages = g.random.choice(("", ", stages=2", ", stages=3"))
    g.count("loop in place")
    g.line(f"for {k} in tl.range(0, {array.name}.shape[1], {step}{stages}):")
    g.line(f"    {tile} = tl.load({array.name}[g, :], {reads}, {size})")
    g.line(f"    tl.store({array.name}[g, :], {k}, {tile} * 2 + {k}.to(tl.{dtype}))")
    g.made(f"tl.load({array.name}[g, :], 1, {size})", dtype, (size,))


def matmul(g: Generator) -> None:
    """A loop of dots over k: staged, with a tail, transposed operands, work on the tiles, row sums beside it."""
    dtype = g.random.choice(("f16", "f16", "bf16", "f32", "i8", "f64"))
    m, n = g.random.choice((16, 16, 32, 64, 5)), g.random.choice((8, 16, 32, 64, 9))
    k = g.random.choice((16, 32, 8, 20))
    length = g.random.choice((k, 2 * k, 3 * k, 5 * k, 2 * k + 3, k - 1, 7 * k + 1, 1, 0))
    stages = g.random.choice((0, 1, 2, 3, 4))
    integer = dtype == "i8"
    fill = "full" if integer else "grid"
    wide = "i32" if integer else "f64" if dtype == "f64" else "f32"
    turned = g.chance(0.3), g.chance(0.3)
    rows, columns = m + g.random.choice((0, 0, -3, 40)), n + g.random.choice((0, 0, -1, 16))
    layouts = ("C", "C", "C", "F", "padded", "offset")
    a = g.array(dtype, (length, rows) if turned[0] else (rows, length), fill, g.random.choice(layouts))
    b = g.array(dtype, (columns, length) if turned[1] else (length, columns), fill, g.random.choice(layouts))
    left = f"{a.name}.T" if turned[0] else a.name
    right = f"{b.name}.T" if turned[1] else b.name
    acc, total, best = g.name(), g.name(), g.name()
    kk, x, y = g.name("k"), g.name("t"), g.name("t")
    row = g.random.choice(("0", "0", f"g * {m}", "1"))
    column = g.random.choice(("0", "0", f"g * {n}"))
    extent = g.random.choice((f"{left}.shape[1]", f"{right}.shape[0]", str(length), f"{left}.shape[1] - g"))
    sums = not integer and g.chance(0.4)
    maxima = g.chance(0.2)
    tail = f", stages={stages}" if stages else ""
    g.count(f"matmul {dtype} stages {stages}")
    g.line(f"{acc} = tl.zeros(({m}, {n}), tl.{wide})")
    if sums:
        g.line(f"{total} = tl.full(({m},), {g.random.choice((0.0, 1.0))}, tl.{wide})")
    if maxima:
        g.line(f"{best} = tl.full(({k}, {n}), 1, tl.{dtype})")
    start = g.random.choice(("0", "0", "0", "0", "g", str(k), "3"))
    g.line(f"for {kk} in tl.range({start}, {extent}, {k}{tail}):")
    g.line(f"    {x} = tl.load({left}, ({row}, {kk}), ({m}, {k}))")
    g.line(f"    {y} = tl.load({right}, ({kk}, {column}), ({k}, {n}))")
    bound, grid = 8.0, -2
    if not integer and g.chance(0.3):
        g.line(f"    {x} = {x} * 0.5")
        bound, grid = 8.0, -3
    if g.chance(0.2):
        g.line(f"    {x} = tl.where(tl.iota(({m}, {k}), 1) + {kk} < {left}.shape[1] - 2, {x}, "
               f"tl.zeros(({m}, {k}), tl.{dtype}))")
    if g.chance(0.15):
        g.line(f"    if {kk} == {k}:")
        g.line(f"        {x} = {x} + 1")
        bound = 9.0
    if sums:
        g.line(f"    {total} = {total}{g.random.choice(('', ' * 0.5', ' * -1.0'))} + tl.sum({x}.to(tl.{wide}), 1)")
    if maxima:
        g.line(f"    {best} = tl.maximum({best}, {y})")
    g.line(f"    {acc} = " + g.random.choice((f"tl.dot({x}, {y}, {acc})", f"{acc} + tl.dot({x}, {y})")))
    count = max(1, length + k)
    if integer:
        g.add(Value(acc, wide, (m, n)))
    else:
        add_float_sum(g, acc, wide, (m, n), count, bound * 8.0, grid - 2)
        if sums:
            halvings = -(-count // k)
            add_float_sum(g, total, wide, (m,), count + 1, bound, grid - halvings)
    if maxima:
        g.add(Value(best, dtype, (k, n), 8.0, -2, zeros=False) if not integer else Value(best, dtype, (k, n)))


def add_float_sum(g: Generator, name: str, dtype: str, shape: Shape, count: int, bound: float,
                  grid: int | None) -> None:
    """A sum of ``count`` terms: exact where every partial sum is representable."""
    if grid is not None and count * bound <= 2.0 ** (grid + PRECISION[dtype]):
        g.add(Value(name, dtype, shape, count * bound, grid, zeros=False))
    else:
        error = count * count * bound * 2.0 ** -PRECISION[dtype]
        g.add(Value(name, dtype, shape, count * bound, None, 2 * error, zeros=False))


def attention(g: Generator) -> None:
    """Two dots in a row with work between, as in attention: layouts of results become layouts of operands."""
    a = g.pick(lambda v: len(v.shape) == 2 and v.dtype in ("f16", "bf16", "f32") and v.finite and v.bound <= 64
               and 0 not in v.shape)
    if a is None:
        return
    k, n, columns = a.shape[1], g.random.choice((8, 16, 32, 9)), g.random.choice((8, 16, 64))
    views = [memory.window(g, shape, a.dtype, "grid") for shape in ((k, n), (n, columns))]
    names = [g.new(f"tl.load({v.text}, (0, 0), {shape})", Value("", a.dtype, shape, 8.0, -2))
             for v, shape in zip(views, ((k, n), (n, columns)), strict=True)]
    first = dot_of(g, a, names[0], a.name, names[0].name, (a.shape[0], n), k)
    if first is None or not first.finite:
        return
    limited = g.new(f"tl.clamp({first.name}, -4, 4)", Value("", first.dtype, first.shape, 4.0, first.grid, first.error,
                                                           False, False))
    narrow = limited
    if a.dtype != "f32":
        text = f"{limited.name}.to(tl.{a.dtype})"
        made = g.rounded(text, a.dtype, first.shape, 4.0, limited.grid, zeros=False) if limited.determined else \
            g.inexact(text, a.dtype, first.shape, 4.0, limited.error)
        if made is None:
            return
        narrow = made
    g.count("dot of dot")
    dot_of(g, narrow, names[1], narrow.name, names[1].name, (a.shape[0], columns), n)


def recurrence(g: Generator) -> None:
    """A loop of products whose operands the loop carries, as in recurrent networks and matrix iterations. Values stay
    few multiples of a power of two, so that every sum is exact."""
    dtype = g.random.choice(("f32", "f32", "f16", "bf16", "f64"))
    wide = "f64" if dtype == "f64" else "f32"
    n = g.random.choice((8, 16, 16, 32, 5))
    m = g.random.choice((n, n, n, 16, 3))
    squared = m == n and g.chance(0.4)  # products of the state with itself
    trips = g.random.randint(1, 2 if squared else 3)
    first, weights = (memory.window(g, shape, dtype, "grid") for shape in ((m, n), (n, n)))
    state, w, before = g.name(), g.name("t"), g.name()
    g.count(f"recurrence {dtype}")
    g.line(f"{state} = tl.load({first.text}, (0, 0), ({m}, {n})).to(tl.{wide})")
    g.line(f"{w} = tl.load({weights.text}, (0, 0), ({n}, {n}))")
    g.line(f"{before} = {state} * 0.5")
    narrow = state if dtype == wide else f"{state}.to(tl.{dtype})"
    forms = [f"tl.dot({narrow}, {w}, {state})", f"tl.dot({narrow}, {w}) + {state}", f"tl.dot({narrow}, {w}, {before})",
             f"tl.dot({narrow}, {w}.T) - {before}"]
    if squared:
        forms = [f"tl.dot({narrow}, {narrow}.T)", f"tl.dot({narrow}, {narrow}, {state}) + {state}.T"]
    elif m == n:
        forms += [f"tl.dot({w}, {narrow}, {state})", f"tl.dot({narrow}.T, {w}, {state})"]
    kept = g.random.choice((state, f"tl.maximum({before}, {state})", f"{before}.T" if m == n else before))
    g.line(f"for {g.name('k')} in tl.range({g.random.choice((str(trips), f'tl.minimum(n, {trips})'))}):")
    body = [f"    {state} = tl.clamp({g.random.choice(forms)}, -8, 8)", f"    {before} = {kept}"]
    for line in body if g.chance(0.5) else body[::-1]:
        g.line(line)
    grid = -3 * 2**trips if squared else -3 - 2 * trips
    assert n * 64 + 16 <= 2.0 ** (grid + PRECISION[wide])
    g.add(Value(state, wide, (m, n), 8.0, grid, zeros=False))
    g.add(Value(before, wide, (m, n), 8.0, grid, zeros=False))


def products(g: Generator) -> None:
    """Several products of a few square matrices, each an operand here and an accumulator there."""
    dtype, n = g.random.choice(("f32", "f32", "f64")), g.random.choice((8, 16, 16, 32, 5, 9))
    pool = [g.new(f"tl.load({memory.window(g, (n, n), dtype, 'grid').text}, (0, 0), ({n}, {n}))",
                  Value("", dtype, (n, n), 8.0, -2)) for _ in range(2)]
    g.count("products of squares")
    for _ in range(g.random.randint(2, 4)):
        a, b = g.random.choice(pool[-3:]), g.random.choice(pool[-3:])
        left, right = (f"{x.name}.T" if g.chance(0.3) else x.name for x in (a, b))
        made = dot_of(g, a, b, left, right, (n, n), n)
        if made is not None:
            pool.append(made)


def branch(g: Generator) -> None:
    x = g.pick_any(lambda v: v.shape != ())
    y = g.pick_any(lambda v: v.dtype == x.dtype and v.shape == x.shape and v is not x) if x else None
    if x is None or y is None:
        return
    name = g.name()
    kind = g.random.choice(("else", "elif", "update", "expression"))
    g.count(f"if {kind}")
    scalar = g.pick(lambda v: v.shape == () and v.dtype == "bool")
    test = scalar.name if scalar is not None and g.chance(0.5) else \
        g.random.choice((f"n > {g.random.randint(-2, 6)}", "g == 1", "n > 1 and g < 2", "not n > 3 or m > 5"))
    if kind == "expression":
        g.line(f"{name} = {x.name} if {test} else {y.name}")
    elif kind == "update":
        g.line(f"{name} = {x.name}")
        g.line(f"if {test}:")
        g.line(f"    {name} = {y.name}")
    else:
        g.line(f"if {test}:")
        with g.nested():
            simple(g, g.random.randint(0, 2))
            g.line(f"{name} = {x.name}")
        if kind == "elif":
            g.line("elif g < 1:")
            g.line(f"    {name} = {y.name}")
        g.line("else:")
        with g.nested():
            simple(g, g.random.randint(0, 2))
            g.line(f"{name} = {y.name}" if kind == "else" else f"{name} = {x.name}")
    g.add(Value(name, x.dtype, x.shape, max(x.bound, y.bound), common_grid(x, y), max(x.error, y.error),
                x.product or y.product, x.zeros and y.zeros))


def map_elements(g: Generator) -> None:
    """tl.map with control flow of its own per element."""
    x = g.pick(lambda v: v.is_int and v.shape != () and math.prod(v.shape) <= 512)
    if x is None:
        return
    name, kind = g.name("f"), g.random.choice(("halving", "two", "early", "pair"))
    g.count(f"map {kind}")
    if kind == "halving":
        g.prelude += [
            f"def {name}(a):", "    c = a * 0", "    while (a != 0) & (c < 9):", "        if a % 2 == 0:",
            "            a = a // 2", "        else:", "            a = a - 1", "        c = c + 1", "    return c", "",
            ""]
        g.made(f"tl.map({name}, {x.name})", x.dtype, x.shape)
        return
    y = g.pick(lambda v: v.is_int and v.shape == x.shape) or x
    if kind == "two":
        g.prelude += [f"def {name}(a, b):", "    for i in range(3):", "        if a > b:", "            a = a - b",
                      "        else:", "            b = b ^ a", "    return b", "", ""]
        if y.dtype == x.dtype:
            g.made(f"tl.map({name}, {x.name}, {y.name})", x.dtype, x.shape)
    elif kind == "early":
        g.prelude += [f"def {name}(a):", "    if a < 3:", "        return a + 1", "    while a > 5:",
                      "        a = a // 3", "        if a % 4 == 1:", "            break", "    return a", "", ""]
        g.made(f"tl.map({name}, {x.name})", x.dtype, x.shape)
    else:
        g.prelude += [f"def {name}(a, b):", "    if a % 3 == 0:", "        return a, b", "    return a ^ 1, b + 1", "",
                      ""]
        first, second = g.name(), g.name()
        g.line(f"{first}, {second} = tl.map({name}, {x.name}, {y.name})")
        g.add(Value(first, x.dtype, x.shape))
        g.add(Value(second, y.dtype, x.shape))


def helper(g: Generator) -> None:
    """A function of the user that is inlined: early return, a loop, a tuple."""
    x = g.pick(lambda v: v.is_int and v.shape != ())
    if x is None:
        return
    y = g.pick(lambda v: v.dtype == x.dtype and v.shape == x.shape) or x
    name = g.name("h")
    g.count("helper")
    decorated = ["@tl.jit"] if g.chance(0.3) else []
    kind = g.random.choice(("early", "loop", "tuple", "recursive"))
    if kind == "early":
        g.prelude += [*decorated, f"def {name}(a, b, n):", "    if n > 2:", "        return a ^ b", "    a = a + 1",
                      "    return a - b", "", ""]
        g.made(f"{name}({x.name}, {y.name}, n)", x.dtype, x.shape)
    elif kind == "loop":
        g.prelude += [*decorated, f"def {name}(a, b, n):", "    for i in range(n):", "        if i == 3:",
                      "            return a", "        a, b = b, a + b", "    return a", "", ""]
        g.made(f"{name}({x.name}, {y.name}, n)", x.dtype, x.shape)
    elif kind == "tuple":
        g.prelude += [*decorated, f"def {name}(a, b):", "    low = tl.minimum(a, b)", "    return low, a + b - low", "",
                      ""]
        first, second = g.name(), g.name()
        g.line(f"{first}, {second} = {name}({x.name}, {y.name})")
        g.add(Value(first, x.dtype, x.shape))
        g.add(Value(second, x.dtype, x.shape))
    else:
        g.prelude += [f"def {name}(a, depth):", "    if depth == 0:", "        return a",
                      f"    return {name}(a * 3 + depth, depth - 1)", "", ""]
        g.made(f"{name}({x.name}, {g.random.randint(0, 3)})", x.dtype, x.shape)


assert MOST >= 64 * 64
STATEMENTS: list[tuple[Statement, float]] = [
    (loop, 2), (accumulate, 3), (update_in_place, 1), (matmul, 2.5), (attention, 0.5), (recurrence, 0.8),
    (products, 0.6), (branch, 2), (map_elements, 0.6), (helper, 0.5),
]
