"""Thread groups: side by side, handing tiles on, with warps in common, one operation after another."""

from __future__ import annotations

from contextlib import nullcontext

from tests.fuzz.generator import Generator, Statement
from tests.fuzz.program import bits_of


def halves(g: Generator) -> None:
    """Two thread groups that fill halves of shared memory side by side."""
    if g.warps != 4 or g.depth > 1:
        return
    x = g.pick(lambda v: len(v.shape) == 1 and v.is_int and 0 not in v.shape and "u64" not in v.dtype)
    if x is None:
        return
    name, n = g.name("s"), g.random.choice((8, 33, 64))
    array = g.array("i32", (2 * n - g.random.choice((0, 3)),), "small")
    g.count("thread groups")
    g.line(f"{name} = tl.shared(({2 * n},), tl.i32)")
    g.line("with tl.group(0, 2):")
    g.line(f"    tl.store({name}, 0, tl.load({array.name}, 0, {n}) + 1)")
    g.line("with tl.group(2, 2):")
    g.line(f"    tl.store({name}, {n}, tl.cumsum(tl.load({array.name}, {n}, {n})))")
    g.line("tl.sync()")
    g.made(f"tl.load({name}, 0, {2 * n})", "i32", (2 * n,))


def side_by_side(g: Generator) -> None:
    """Groups of several sizes that reduce, transpose and keep tiles in memory of their own, before and after work of
    the whole block."""
    if g.warps < 2 or g.depth > 1:
        return
    n = g.random.choice((32, 64, 100))
    cuts = sorted(g.random.sample(range(1, g.warps), min(g.warps - 1, g.random.choice((1, 1, 2, 3)))))
    bounds = [(a, b - a) for a, b in zip((0, *cuts), (*cuts, g.warps), strict=True)]
    array = g.array("i32", (len(bounds), 2 * n), "small")
    out = g.array("i32", (g.blocks, len(bounds), n + 1), "small", written=True)
    g.count("groups side by side")
    loop = g.chance(0.3)
    if loop:
        k = g.name("k")
        g.line(f"for {k} in tl.range({g.random.choice(('2', 'tl.minimum(n, 3)'))}):")
        g.count("groups in a loop")
    with g.nested() if loop else nullcontext():
        for number, (first, count) in enumerate(bounds):
            x, s = g.name("t"), g.name("s")
            row = f"{out.name}[g, {number}, :]"
            g.line(f"with tl.group({first}, {count}):")
            g.line(f"    {x} = tl.load({array.name}[{number}, :], {g.random.choice((0, 3))}, {n})")
            kind = g.random.choice(("shared", "sums", "transpose", "scan"))
            if kind == "shared":
                g.line(f"    {s} = tl.shared(({n},), tl.i32)")
                g.line("    tl.sync()")
                g.line(f"    tl.store({s}, 0, {x})")
                g.line("    tl.sync()")
                g.line(f"    {x} = tl.load({s}, 0, {n}) + tl.gather({s}, (tl.iota(({n},), 0) * 7 + 3) % {n})")
            elif kind == "transpose" and n % 8 == 0:
                g.line(f"    {x} = {x}.reshape(8, {n // 8}).T.reshape({n})")
            elif kind == "scan":
                g.line(f"    {x} = tl.cumsum({x})")
            g.line(f"    tl.store({row}, 0, {x})")
            g.line(f"    {out.name}[g, {number}, {n}] = tl.sum({x}) + tl.max({x})")
            if g.chance(0.3):
                g.line("tl.sync()")
    if g.chance(0.5):
        g.count("groups read by the block")
        g.made(f"tl.load({out.name}[g, :, :], (0, 0), ({len(bounds)}, {n}))", "i32", (len(bounds), n))
    y = g.pick(lambda v: v.is_int and len(v.shape) == 1 and 0 not in v.shape)
    if y is not None:
        wide = "i32" if bits_of(y.dtype) < 32 else y.dtype
        g.made(f"tl.sum({y.name}, axis=0, keepdims=True) ^ {y.name}.to(tl.{wide})", wide, y.shape)


def handed_on(g: Generator) -> None:
    """A group hands a tile to another one through shared memory and a named barrier, beside pure operations; more of
    them have warps in common with these, or come after, and read what others have stored."""
    if g.warps < 4 or g.depth > 1:
        return
    n, cut = g.random.choice((32, 64, 100)), g.random.randint(1, g.warps - 1)
    array, out = g.array("i32", (2, n), "small"), g.array("i32", (g.blocks, 5, n), "small", written=True)
    s, ready, x, k = g.name("s"), g.name("ready"), g.name("t"), g.name("k")
    g.count("groups that hand on")
    g.line(f"{s} = tl.shared(({n},), tl.i32)")
    g.line(f"{ready} = tl.named_barrier({g.random.randint(1, 4)}, {g.warps})")
    loop = g.chance(0.4)
    if loop:
        g.line(f"for {k} in tl.range({g.random.choice(('2', 'tl.minimum(n, 3)'))}):")
    with g.nested() if loop else nullcontext():
        taking = [f"with tl.group({cut}, {g.warps - cut}):", f"    {ready}.sync()", f"    {x} = tl.load({s}, 0, {n})",
                  f"    tl.store({out.name}[g, 0, :], 0, {x} + tl.sum({x}))"]
        giving = [f"with tl.group(0, {cut}):", f"    tl.store({s}, 0, tl.load({array.name}[0, :], 0, {n}))",
                  f"    {ready}.arrive()"]
        if g.chance(0.4):
            giving.append(f"    tl.store({out.name}[g, 1, :], 0, tl.cumsum(tl.load({array.name}[1, :], 0, {n})))")
        first, second = (giving, taking) if g.chance(0.6) else (taking, giving)
        pure = [f"{g.name()} = n * 3 + {n}"] if g.chance(0.5) else []
        for line in (*first, *pure, *second):
            g.line(line)
        if g.chance(0.5):
            _in_common(g, array.name, f"{out.name}[g, 2, :]", n)
        if g.chance(0.5):
            _after(g, f"{out.name}[g, 0, :]", f"{out.name}[g, 3, :]", n)
        g.line("tl.sync()")
    g.made(f"tl.load({out.name}[g, :, :], (0, 0), (5, {n}))", "i32", (5, n))


def _in_common(g: Generator, array: str, row: str, n: int) -> None:
    """A group of any warps, beside those before it."""
    g.count("groups with warps in common")
    first = g.random.randrange(g.warps)
    g.line(f"with tl.group({first}, {g.random.randint(1, g.warps - first)}):")
    g.line(f"    tl.store({row}, 0, tl.load({array}[1, :], 0, {n}) * 3 + tl.max(tl.load({array}[0, :], 0, {n})))")


def _after(g: Generator, source: str, target: str, n: int) -> None:
    """A group of a later operation that reads what another group has stored."""
    g.count("groups after groups")
    first = g.random.randrange(g.warps)
    g.line(f"{source[:source.index('[')]}[g, 4, 0] = 7")
    g.line(f"with tl.group({first}, {g.random.randint(1, g.warps - first)}):")
    g.line(f"    tl.store({target}, 0, tl.load({source}, 0, {n}) + 1)")


STATEMENTS: list[tuple[Statement, float]] = [(halves, 0.2), (side_by_side, 0.8), (handed_on, 0.5)]
