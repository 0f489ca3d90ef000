"""``and``, ``or``, ``not`` and chains of comparisons on run-time values: a side is evaluated only where it counts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tilus as tl
from tests.lang.agree import ALL, agree, refused
from tilus.ir.ops import If


def count(o: Any, k: int) -> Any:
    tl.atomic_add(o, k, tl.scalar(1, tl.i64))
    return o[k]


def checked(x: Any, i: Any) -> Any:
    tl.device_assert(i < 4, "index out of range")
    return x[i] == 0


def halvings(n: Any) -> Any:
    k = 0
    while n != 1:
        n = n - 2
        k += 1
    return k


@tl.jit
def effects(o: tl.i64["N"], n: tl.i32):
    tl.grid(1)
    for k in tl.static_range(7):
        o[k] = 0
    if n > 0 and count(o, 0) > 0:
        o[1] = 1
    if n < 1 or count(o, 2) > 0:
        o[3] = 1
    if n > 5 and n < 9 and count(o, 4) > 0:
        o[5] = 1
    if not (n > 0 and count(o, 6) > 0):
        o[5] = 7


@pytest.mark.parametrize(("n", "want"), [(1, [1, 1, 1, 1, 0, 0, 1]), (0, [0, 0, 0, 1, 0, 7, 0]),
                                         (7, [1, 1, 1, 1, 1, 1, 1])])
def test_effects_of_the_right_side(n: int, want: list[int]) -> None:
    agree(effects, want, n, engines=ALL)


@tl.jit
def in_a_loop(o: tl.i64["N"], x: tl.i64["M"], n: tl.i32):
    tl.grid(1)
    i = 0
    while i < 4 and checked(x, i):
        i += 1
    o[0] = i
    o[1] = 1 if n % 2 == 1 and halvings(n.to(tl.i64)) < 100 else 0
    j = 0
    while not (j >= n or checked(x, j)):
        j += 1
    o[2] = j


@pytest.mark.parametrize(("n", "want"), [(7, [4, 1, 0]), (8, [4, 0, 0]), (0, [4, 0, 0])])
def test_guards(n: int, want: list[int]) -> None:
    agree(in_a_loop, want, np.zeros(4, np.int64), n, engines=ALL)


@tl.jit
def left_by_break(o: tl.i64["N"], n: tl.i32):
    tl.grid(1)
    o[0] = 0
    i = 0
    while i < n and count(o, 0) > 0:
        i += 1
        if i == 2:
            break
    o[1] = i


@pytest.mark.parametrize(("n", "want"), [(5, [2, 2]), (1, [1, 1]), (0, [0, 0])])
def test_a_condition_is_not_evaluated_after_break(n: int, want: list[int]) -> None:
    agree(left_by_break, want, n, engines=ALL)


@tl.jit
def values(o: tl.i64["N"], n: tl.i32):
    tl.grid(1)
    o[0] = n and n + 10
    o[1] = n or 5
    o[2] = n - 1 and (n - 2 or 77)
    o[3] = (n > 1 and n < 3).to(tl.i64) if n > 100 else (1 if n > 1 and n < 3 else 0)
    o[4] = 4 if True and n else 3
    o[5] = 4 if 0 < n <= 2 else 3
    x = [5]
    if n > 1 and set_first(x):
        o[6] = 1
    else:
        o[6] = 0
    o[7] = x[0]


def set_first(xs: list[Any]) -> bool:
    xs[0] = 6
    return True


@pytest.mark.parametrize(("n", "want"), [
    (2, [12, 2, 77, 1, 4, 4, 1, 6]), (0, [0, 5, -2, 0, 3, 3, 0, 5]), (1, [11, 1, 0, 0, 4, 4, 0, 5]),
])
def test_values(n: int, want: list[int]) -> None:
    agree(values, want, n, engines=ALL)


@tl.jit
def chain(o: tl.i64["N"], n: tl.i32):
    tl.grid(1)
    for k in tl.static_range(3):
        o[k] = 0
    if 2 < n < count(o, 0) + 4 < 100:
        o[1] = 1
    if n == 3 != count(o, 2):
        o[1] += 10


@pytest.mark.parametrize(("n", "want"), [(1, [0, 0, 0]), (3, [1, 11, 1]), (9, [1, 0, 0])])
def test_chained_comparisons(n: int, want: list[int]) -> None:
    agree(chain, want, n, engines=ALL)


@tl.jit
def tiles_and(o: tl.i64["N"], n: tl.i32):
    tl.grid(1)
    t = tl.load(o, 0, 4)
    tl.store(o, 0, tl.where((t > 1) and (t < 5), t, 0))


@tl.jit
def tiles_chain(o: tl.i64["N"], n: tl.i32):
    tl.grid(1)
    t = tl.load(o, 0, 4)
    tl.store(o, 0, tl.where(1 < t < 5, t, 0))


@tl.jit
def tiles_not(o: tl.i64["N"], n: tl.i32):
    tl.grid(1)
    t = tl.load(o, 0, 4)
    tl.store(o, 0, tl.where(not (t > 1), t, 0))


@tl.jit
def types_differ(o: tl.i64["N"], n: tl.i32):
    tl.grid(1)
    o[0] = (n > 1) and n


@pytest.mark.parametrize(("kernel", "code"), [
    (tiles_and, "E0113"), (tiles_chain, "E0113"), (tiles_not, "E0113"), (types_differ, "E0104"),
])
def test_what_has_no_value_of_one_type(kernel: Any, code: str) -> None:
    refused(kernel, code, "tl.store(o, 0, tl.where(" if code == "E0113" else "o[0] = (n > 1) and n", 1)


def test_cheap_sides_are_computed_without_a_branch() -> None:
    @tl.jit
    def cheap(o: tl.i64["N"], n: tl.i32):
        tl.grid(1)
        if (n > 1 and n * 3 < 20) or n == 100:
            o[0] = 1

    (kernel,) = cheap.assume("divisible", {}).trace().kernels
    assert sum(isinstance(op, If) for op in kernel.walk()) == 1
