"""Which functions a kernel calls, and what names mean in them."""

from __future__ import annotations

import copy
import functools
import linecache
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

import tilus as tl
from tests.lang.agree import HOST, agree, refused


def plain(x: Any) -> Any:
    return x + 1


def steps(function: Any) -> Any:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs) * 10

    return wrapper


@functools.wraps(plain)
def wrapped(x: Any) -> Any:
    return x + 100 if x > 2 else x - 100


@steps
def decorated(x: Any, *, add: Any = 1) -> Any:
    return x + add if x > 2 else x


def renamed(x: Any) -> Any:
    return x + 7 if x > 0 else 0


renamed.__name__ = renamed.__qualname__ = "other"


class Scale:
    bias = 3

    def __init__(self, by: int) -> None:
        self.by = by

    def __call__(self, x: Any) -> Any:
        return x * self.by if x > 2 else x

    def method(self, x: Any, y: Any = 0) -> Any:
        return self.static(x) * self.by + y if x > 2 else y

    @staticmethod
    def static(x: Any) -> Any:
        return x + 1 if x > 0 else x

    @classmethod
    def of_class(cls, x: Any) -> Any:
        return x + cls.bias if x > 0 else x


class Shifted(Scale):
    def method(self, x: Any, y: Any = 0) -> Any:
        return super().method(x, y) + 100 if x > 0 else super().static(x)


SCALE = Scale(4)
SEVENTH = functools.partial(SCALE.method, y=7)
FIXED = functools.partial(wrapped, 3)


@tl.jit
def callables(o: tl.i64["N"], n: tl.i32):
    tl.grid(1)
    o[0] = wrapped(n)
    o[1] = decorated(n, add=2)
    o[2] = renamed(n)
    o[3] = SCALE(n)
    o[4] = SCALE.method(n, 1)
    o[5] = SEVENTH(n)
    o[6] = Scale.static(n) + SCALE.static(n)
    o[7] = Scale.of_class(n)
    o[8] = FIXED()


@pytest.mark.parametrize(("n", "want"), [
    (5, [105, 70, 12, 20, 25, 31, 12, 8, 103]), (1, [-99, 10, 8, 1, 1, 7, 4, 4, 103]),
])
def test_methods_wrappers_and_partial_functions(n: int, want: list[int]) -> None:
    agree(callables, want, n)


@tl.jit
def inherited(o: tl.i64["N"], n: tl.i32):
    tl.grid(1)
    o[0] = Shifted(4).method(n, 1)
    q, r = divmod(n, 3)
    o[1] = q * 10 + r
    xs = [n, [n, 2]]
    deep, flat = copy.deepcopy(xs), copy.copy(xs)
    if n > 2:
        xs[1][0] = n + 5
    o[2] = deep[1][0] * 100 + flat[1][0]


@pytest.mark.parametrize(("n", "want"), [(4, [121, 11, 409]), (1, [101, 1, 101]), (-2, [-2, -9, -202])])
def test_inherited_methods_and_copies(n: int, want: list[int]) -> None:
    agree(inherited, want, n)


@tl.jit
def late_binding(o: tl.i64["N"], n: tl.i32):
    tl.grid(1)
    k = 1
    f = lambda x: x + k  # noqa: E731
    if n > 2:
        k = 20
    o[0] = f(n)
    k = 300
    o[1] = f(n)
    fs = [lambda x: x + i for i in range(3)]  # noqa: B023
    gs = [lambda x, i=i: x + i for i in range(3)]
    o[2] = fs[0](n)
    o[3] = gs[0](n)

    def outer(a: Any) -> Any:
        def inner(b: Any) -> Any:
            return a + b + k

        k = 5
        return inner

    o[4] = outer(n)(n)
    o[5] = (lambda *a, **b: a[1] + b["z"])(1, n, z=k)


@pytest.mark.parametrize(("n", "want"), [(3, [23, 303, 5, 3, 11, 303]), (1, [2, 301, 3, 1, 7, 301])])
def test_variables_are_seen_as_they_are_at_the_call(n: int, want: list[int]) -> None:
    agree(late_binding, want, n)


@tl.jit
def decorated_inside(o: tl.i64["N"], n: tl.i32):
    tl.grid(1)

    def twice(f: Any) -> Any:
        return lambda x: f(f(x))

    @twice
    def add(x: Any) -> Any:
        return x + 3 if x > 0 else x

    o[0] = add(n)
    o[1] = max([1, 4, 2], key=lambda v: -v)
    o[2] = functools.reduce(lambda a, b: a * b + n, [1, 2, 3])


def test_functions_of_the_kernel() -> None:
    agree(decorated_inside, [8, 1, (2 + 2) * 3 + 2], 2)


@tl.jit
def walrus(o: tl.i64["N"], n: tl.i32):
    tl.grid(1)
    k = n + 0
    total = 0
    while (k := k - 1) > 0:
        total += k
    o[0] = total
    o[1] = k
    o[2] = y if (y := n * 2) > 4 else -y
    total = sum(i for i in range(4) if i % 2)
    o[3] = total


@pytest.mark.parametrize(("n", "want"), [(4, [6, 0, 8, 4]), (1, [0, 0, -2, 4])])
def test_names_assigned_in_expressions(n: int, want: list[int]) -> None:
    agree(walrus, want, n)


@tl.jit
def comprehensions(o: tl.i64["N"], n: tl.i32):
    tl.grid(1)
    i = 40
    xs = [i * j for i in range(3) for j in range(2) if i != j]
    d = {k: v * n for k, v in zip("ab", (1, 2), strict=True)}
    s = {x % 2 for x in xs}
    o[0] = sum(xs) + i
    o[1] = d["a"] + d["b"]
    o[2] = len(s)
    o[3] = next(iter(x for x in xs if x > 1))


def test_comprehensions() -> None:
    agree(comprehensions, [42, 9, 1, 2], 3)


LIMIT = 3


@tl.jit
def local_before_assigned(o: tl.i64["N"], n: tl.i32):
    tl.grid(1)
    o[0] = LIMIT  # noqa: F823
    LIMIT = 4  # noqa: F841


@tl.jit
def not_taken(o: tl.i64["N"], n: tl.i32, flag: bool = False):
    tl.grid(1)
    if flag:
        LIMIT = 4
    o[0] = LIMIT


def test_assigned_names_are_local() -> None:
    refused(local_before_assigned, "E0110", "o[0] = LIMIT", 1)
    refused(not_taken, "E0110", "o[0] = LIMIT", 1)


@tl.jit
def evaluated_once(o: tl.i64["N"], n: tl.i32):
    tl.grid(1)
    o[0] = 0
    for k in range(1, 4):
        o[k] = 10
    o[tl.atomic_add(o, 0, tl.scalar(1, tl.i64)) + 1] += 5
    d = {tl.atomic_add(o, 0, tl.scalar(1, tl.i64)) is None: 1}
    o[3] = len(d)


def test_a_target_is_evaluated_once() -> None:
    agree(evaluated_once, [2, 15, 10, 1], 1)


def _exec(source: str, name: str) -> Any:
    linecache.cache[name] = (len(source), None, source.splitlines(True), name)
    space: dict[str, Any] = {"tl": tl}
    exec(compile(source, name, "exec"), space)
    return space["k"]


@pytest.mark.parametrize("name", ["<ipython-input-3-0123456789ab>", "<made>"])
def test_sources_that_python_knows_of(name: str) -> None:
    kernel = _exec('@tl.jit\ndef k(o: tl.i64["N"], n: tl.i32):\n    tl.grid(1)\n    o[0] = n + 1\n', name)
    agree(kernel, [4], 3)


SCRIPT = '''
import numpy as np, tilus as tl
@tl.jit
def k(o: tl.i64["N"]):
    tl.grid(1)
    o[0] = 3 {extra}
o = np.zeros(1, "i8"); k(o); print(o[0])
'''


def test_python_dash_c() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT.format(extra="")], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "3"
    done = subprocess.run([sys.executable, "-c", SCRIPT.format(extra="+ undefined")], capture_output=True, text=True)
    assert "   6 |     o[0] = 3 + undefined" in done.stderr
    source = SCRIPT.format(extra="")
    done = subprocess.run([sys.executable, "-"], input=source, capture_output=True, text=True)
    assert "the source of 'k' is not available (<stdin>)" in done.stderr


def test_source_of_a_string_that_is_not_the_script() -> None:
    space: dict[str, Any] = {"tl": tl}
    exec('@tl.jit\ndef k(o: tl.i64["N"]):\n    tl.grid(1)\n    o[0] = 1\n', space)
    with pytest.raises(tl.UserError, match="is not available"):
        space["k"](np.zeros(1, np.int64))


class Model:
    def __init__(self, by: int) -> None:
        self.by = by

    @tl.jit
    def scaled(self, o: tl.i64["N"], n: tl.i32):
        tl.grid(1)
        o[0] = n * self.by

    @staticmethod
    @tl.jit
    def fixed(o: tl.i64["N"], n: tl.i32):
        tl.grid(1)
        o[0] = n + 1


def test_kernels_as_methods() -> None:
    two, three = Model(2), Model(3)
    for engine in HOST:
        out = np.zeros(1, np.int64)
        two.scaled.on(engine)(out, 5)
        assert out[0] == 10
        three.scaled.on(engine)(out, 5)
        assert out[0] == 15
        Model.scaled.on(engine)(two, out, n=4)
        assert out[0] == 8
        Model.fixed.on(engine)(out, 5)
        assert out[0] == 6
    assert "o[0] = n * self.by" not in repr(two.scaled)
    assert two.scaled.compile("sm_80").cubin
