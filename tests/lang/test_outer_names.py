"""What a kernel reads outside of it is seen as it is at each call, on every engine."""

from __future__ import annotations

import collections
import os
import types
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tilus as tl
from tests.lang.agree import ALL, agree

os.environ["TILUS_TEST_OTHER"] = "4"
FACTOR = 2
TABLE = [1, 2, [3]]
SETTINGS = {"bias": 1}
CONFIG = types.SimpleNamespace(scale=3, deep=types.SimpleNamespace(by=1))
MODULE = types.ModuleType("settings")
MODULE.LIMIT = 5
Pair = collections.namedtuple("Pair", "a b")


class Shape:
    rank = 2

    def __init__(self) -> None:
        self.width = 4

    @property
    def area(self) -> int:
        return self.width * 10

    def size(self) -> int:
        return self.width + self.rank


SHAPE = Shape()


def helper(x: Any) -> Any:
    return x * FACTOR if x > 0 else x


def offset() -> int:
    return SETTINGS["bias"] + inner_offset()


def inner_offset() -> int:
    return FACTOR


@tl.jit
def k_global(o: tl.i64["N"], n: tl.i32):
    tl.grid(1)
    o[0] = n * FACTOR


@tl.jit
def k_helper(o: tl.i64["N"], n: tl.i32):
    tl.grid(1)
    o[0] = helper(n)


@tl.jit
def k_list(o: tl.i64["N"], n: tl.i32):
    tl.grid(1)
    o[0] = n + TABLE[1] + TABLE[2][0]


@tl.jit
def k_native(o: tl.i64["N"], n: tl.i32):
    tl.grid(1)
    o[0] = n + offset()


@tl.jit
def k_attribute(o: tl.i64["N"], n: tl.i32):
    tl.grid(1)
    o[0] = n + CONFIG.scale + CONFIG.deep.by + MODULE.LIMIT


@tl.jit
def k_object(o: tl.i64["N"], n: tl.i32):
    tl.grid(1)
    o[0] = n + SHAPE.size() + SHAPE.area + Shape.rank


@tl.jit
def k_builtin(o: tl.i64["N"], n: tl.i32):
    tl.grid(1)
    o[0] = n + len(TABLE)


@tl.jit
def k_environment(o: tl.i64["N"], n: tl.i32):
    tl.grid(1)
    o[0] = n + int(os.environ.get("TILUS_TEST_NUMBER", "1")) + int(os.environ["TILUS_TEST_OTHER"]) + of_environment()


def of_environment() -> int:
    return int(os.environ.get("TILUS_TEST_NUMBER", "0"))


CHANGES: list[tuple[Any, Callable[[pytest.MonkeyPatch], None], int, int]] = [
    (k_global, lambda m: m.setitem(globals(), "FACTOR", 100), 6, 300),
    (k_global, lambda m: m.setitem(globals(), "FACTOR", 2.0), 6, 6),
    (k_helper, lambda m: m.setitem(globals(), "FACTOR", 100), 6, 300),
    (k_helper, lambda m: m.setitem(globals(), "helper", lambda x: x + 1), 6, 4),
    (k_helper, lambda m: m.setattr(helper, "__code__", (lambda x: x + 50).__code__), 6, 53),
    (k_list, lambda m: TABLE.__setitem__(1, 20), 8, 26),
    (k_list, lambda m: TABLE[2].__setitem__(0, 30), 8, 35),
    (k_list, lambda m: m.setitem(globals(), "TABLE", [0, 0, (7,)]), 8, 10),
    (k_native, lambda m: m.setitem(SETTINGS, "bias", 8), 6, 13),
    (k_native, lambda m: m.setitem(globals(), "inner_offset", lambda: 40), 6, 44),
    (k_attribute, lambda m: m.setattr(CONFIG, "scale", 30), 12, 39),
    (k_attribute, lambda m: m.setattr(CONFIG.deep, "by", 10), 12, 21),
    (k_attribute, lambda m: m.setattr(MODULE, "LIMIT", 50), 12, 57),
    (k_object, lambda m: m.setattr(SHAPE, "width", 5), 3 + 6 + 40 + 2, 3 + 7 + 50 + 2),
    (k_object, lambda m: m.setattr(Shape, "rank", 3), 3 + 6 + 40 + 2, 3 + 7 + 40 + 3),
    (k_environment, lambda m: m.setenv("TILUS_TEST_NUMBER", "10"), 3 + 1 + 4, 3 + 10 + 4 + 10),
    (k_environment, lambda m: m.setenv("TILUS_TEST_OTHER", "5"), 3 + 1 + 4, 3 + 1 + 5),
    (k_builtin, lambda m: m.setitem(globals(), "len", lambda x: 90), 6, 93),
]


@pytest.mark.parametrize("case", range(len(CHANGES)))
def test_changes_are_seen_at_the_next_call(case: int, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel, change, before, after = CHANGES[case]
    agree(kernel, [before], 3)
    agree(kernel, [before], 3)
    change(monkeypatch)
    agree(kernel, [after], 3)
    monkeypatch.undo()
    TABLE[:] = [1, 2, [3]]
    agree(kernel, [before], 3)


def test_on_the_routes_of_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    agree(k_helper, [6], 3, engines=ALL)
    monkeypatch.setitem(globals(), "FACTOR", 5)
    agree(k_helper, [15], 3, engines=ALL)
    assert k_helper.compile("sm_80").ptx != ""


def test_variables_of_enclosing_functions() -> None:
    factor, values = 2, [1]

    @tl.jit
    def kernel(o: tl.i64["N"], n: tl.i32):
        tl.grid(1)
        o[0] = n * factor + values[0]

    agree(kernel, [7], 3)
    factor = 10
    agree(kernel, [31], 3)
    values.insert(0, 5)
    agree(kernel, [35], 3)


def test_fused_functions(monkeypatch: pytest.MonkeyPatch) -> None:
    @tl.fuse
    def scaled(x):
        return x * FACTOR + TABLE[0]

    x = np.arange(3, dtype=np.float32)
    for engine in ("cpu", "interpret"):
        assert scaled.on(engine)(x).tolist() == [1, 3, 5]
    monkeypatch.setitem(globals(), "FACTOR", 10)
    TABLE[0] = 0
    for engine in ("cpu", "interpret"):
        assert scaled.on(engine)(x).tolist() == [0, 10, 20]
    TABLE[0] = 1


def test_nothing_is_traced_again_where_nothing_changed() -> None:
    agree(k_object, [51], 3)
    plans, reads = k_object._plans, k_object.reads
    agree(k_object, [51], 3)
    assert k_object._plans is plans
    assert k_object.reads is reads


def test_a_value_that_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    @tl.jit
    def kernel(o: tl.i64["N"], n: tl.i32):
        tl.grid(1)
        o[0] = n * FACTOR

    kernel.compile("sm_80")
    monkeypatch.setitem(globals(), "FACTOR", 7)
    agree(kernel, [21], 3)
    monkeypatch.undo()
    agree(kernel, [6], 3)
