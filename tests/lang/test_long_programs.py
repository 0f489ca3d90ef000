"""Programs are as long as they are: nothing in the front end recurses over their length."""

from __future__ import annotations

import linecache
import sys
import time
from typing import Any

import numpy as np
import pytest

import tilus as tl

COUNT = 0


def kernel_of(body: list[str], parameters: str = 'o: tl.i64["N"], n: tl.i32') -> Any:
    global COUNT
    COUNT += 1
    name = f"<program {COUNT}>"
    source = f"@tl.jit\ndef k({parameters}):\n" + "".join(f"    {line}\n" for line in body)
    linecache.cache[name] = (len(source), None, source.splitlines(True), name)
    space: dict[str, Any] = {"tl": tl}
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(100_000)  # Python's own compiler recurses
    try:
        exec(compile(source, name, "exec"), space)
    finally:
        sys.setrecursionlimit(limit)
    return space["k"]


def run(kernel: Any, engine: str, n: int) -> int:
    out = np.zeros(1, np.int64)
    kernel.on(engine)(out, n)
    return int(out[0])


def test_ten_thousand_operations() -> None:
    kernel = kernel_of(["tl.grid(1)", "x = n.to(tl.i64)", *["x = x + 1"] * 5000, *["x = x - n"] * 5000, "o[0] = x"])
    assert run(kernel, "interpret", 1) == 1


def test_a_chain_of_thousands() -> None:
    kernel = kernel_of(["tl.grid(1)", "o[0] = n" + " + 1" * 2500 + " + n" * 2500])
    assert run(kernel, "interpret", 2) == 2 + 2500 + 5000


@pytest.mark.parametrize("word", ["and", "or"])
def test_long_logic(word: str) -> None:
    test = f" {word} ".join(["n > 1"] * 2000)
    kernel = kernel_of(["tl.grid(1)", f"o[0] = 1 if {test} else 2"])
    assert [run(kernel, "interpret", n) for n in (2, 0)] == [1, 2]


def test_what_depends_on_a_long_chain_at_the_launch() -> None:
    kernel = kernel_of([*["n = n + n - n"] * 2000, "assert n < 5", "i = tl.grid(n)",
                        "if i == 0: o[0] = tl.grid_size(0)"])
    assert run(kernel, "interpret", 3) == 3


@pytest.mark.parametrize("body", [
    ["o[0] = " + " if n > 1 else ".join(["1"] * 1500)],
    ["o[0] = n" + " ** 1" * 1500],
    ["if n == 0: return"] * 1500,
    [line for i in range(1500) for line in (f"{'el' if i else ''}if n == {i}:", f"    o[0] = {i}")],
    ["d = [n]", "f = lambda x: x", *["g = lambda x, f=f: f(x)", "f = g"] * 200, "o[0] = f(n)"],
])
def test_what_nests_deeply_compiles_or_is_refused_at_a_line(body: list[str]) -> None:
    kernel = kernel_of(["tl.grid(1)", *body])
    error = None
    try:
        run(kernel, "interpret", 1)
    except tl.UserError as raised:
        error = raised
    assert error is None or (error.diagnostics[0].code == "E0112" and "| " in str(error))


def test_shared_operands_take_linear_time() -> None:
    kernel = kernel_of([*["n = n + n"] * 60, "assert n == 0", "tl.grid(1)", "o[0] = 1"])
    start = time.perf_counter()
    assert run(kernel, "interpret", 0) == 1
    assert time.perf_counter() - start < 60  # it would take years
