"""The python engine: thread groups and cooperative blocks run in turn, assertions are diagnostics, breakpoints hold."""

from __future__ import annotations

import bdb
import re
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tilus as tl
from tests.lowering import hazard_kernels
from tests.runtime import asserting
from tests.runtime.asserting import bounded
from tilus.diagnostics import CheckError, Span, UserError

BOTH = ["python", "interpret"]


def line_of(text: str, file: str = __file__) -> int:
    """The line of a file that begins with a text."""
    lines = Path(file).read_text().splitlines()
    return next(n for n, line in enumerate(lines, 1) if line.strip().startswith(text))


def run(kernel: Any, engine: str, *, blocks: int = 4, **constants: Any) -> np.ndarray:
    x, y = np.arange(64 * blocks, dtype=np.float32), np.zeros(64 * blocks, np.float32)
    kernel.on(engine)(x, y, **constants)
    return y


@tl.jit
def hand_over(x: tl.f32["N"], y: tl.f32["N"], last: int = 2, B: int = 64) -> None:
    """A group loads, another one stores, through a ring of two; ``last`` less than 2 forgets an arrival."""
    tl.block(warps=3)
    tl.grid(1)
    ring = tl.shared((2, B), tl.f32)
    full = [tl.named_barrier(1 + n, 3) for n in range(2)]
    empty = [tl.named_barrier(3 + n, 3) for n in range(2)]
    done = 0
    with tl.group(0, 1):
        for i in tl.static_range(4):
            if i > 1:
                empty[i % 2].sync()
            tl.store(ring[i % 2], 0, tl.load(x, i * B, B))
            full[i % 2].arrive()
            done += 1
    with tl.group(1, 2):
        for i in tl.static_range(4):
            full[i % 2].sync()
            tile = tl.load(ring[i % 2]) + 1 + done
            tl.store(y, i * B, tile)
            if i < last:
                empty[i % 2].arrive()


@pytest.mark.parametrize("engine", BOTH)
def test_groups_hand_over(engine: str) -> None:
    before = threading.active_count()
    assert np.array_equal(run(hand_over, "python"), np.arange(256) + 1)
    assert threading.active_count() == before


@pytest.mark.parametrize("engine", BOTH)
def test_a_deadlock_names_who_waits(engine: str) -> None:
    before = threading.active_count()
    with pytest.raises(CheckError) as caught:
        run(hand_over, engine, last=1)
    error = caught.value.diagnostics[0]
    assert error.code == "E0705"
    assert re.fullmatch("deadlock: block 0.* waits for barrier 4, which never comes", error.message)
    assert error.span is not None
    assert error.span.line == line_of("empty[i % 2].sync()")
    assert threading.active_count() == before


@pytest.mark.parametrize("engine", BOTH)
def test_groups_in_a_loop(engine: str) -> None:
    """The names that a group sees are those of the moment when it begins."""

    @tl.jit
    def kernel(x: tl.f32["N"], y: tl.f32["N"], B: int = 64) -> None:
        tl.block(warps=4)
        tl.grid(1)
        for n in tl.static_range(4):
            at = n * B
            with tl.group(n, 1):
                tl.store(y, at, tl.load(x, at, B) * n)

    assert np.array_equal(run(kernel, engine), np.arange(256) * np.repeat(np.arange(4), 64))


@pytest.mark.parametrize("engine", BOTH)
def test_a_helper_with_groups(engine: str) -> None:
    @tl.jit
    def copy_by_two(x: Any, y: Any, B: int) -> None:
        for n in tl.static_range(2):
            with tl.group(n, 1):
                tl.store(y, n * B, tl.load(x, n * B, B))

    @tl.jit
    def kernel(x: tl.f32["N"], y: tl.f32["N"]) -> None:
        tl.block(warps=2)
        tl.grid(1)
        copy_by_two(x, y, 64)

    assert np.array_equal(run(kernel, engine, blocks=2), np.arange(128))


def test_a_plain_helper_with_groups_is_to_be_decorated() -> None:
    def helper(x: Any, y: Any) -> None:
        with tl.group(0, 1):
            tl.store(y, 0, tl.load(x, 0, 64))

    @tl.jit
    def kernel(x: tl.f32["N"], y: tl.f32["N"]) -> None:
        tl.grid(1)
        helper(x, y)

    with pytest.raises(UserError, match=r"(?s)E0507.*decorated with @tl.jit.*with tl.group\(0, 1\)"):
        run(kernel, "python")
    assert run(kernel, "interpret")[1] == 1


@pytest.mark.parametrize("engine", BOTH)
def test_cooperative_blocks(engine: str) -> None:
    """Each block adds what the others have written, round after round."""

    @tl.jit
    def kernel(x: tl.f32["N"], y: tl.f32["N"], rounds: int = 3, B: int = 64) -> None:
        i = tl.grid(tl.cdiv(x.shape[0], B))
        tl.block(cooperative=True)
        n = tl.cdiv(x.shape[0], B)
        for _ in tl.static_range(rounds):
            part = tl.load(x, (i + 1) % n * B, B)
            tl.grid_sync()
            tl.store(x, i * B, part + 1)
            tl.grid_sync()
        tl.store(y, i * B, tl.load(x, i * B, B))

    before = threading.active_count()
    assert np.array_equal(run(kernel, engine), np.roll(np.arange(256), -192) + 3)
    assert threading.active_count() == before


@pytest.mark.parametrize("engine", BOTH)
def test_a_block_that_waits_for_a_later_one(engine: str) -> None:
    @tl.jit
    def kernel(x: tl.f32["N"], y: tl.f32["N"], together: bool = True) -> None:
        i = tl.grid(2)
        if together:
            tl.block(cooperative=True)
        flags = tl.workspace((2,), tl.i32, zero=True)
        if i == 0:
            tl.acquire(flags, 1, 1)
            tl.store(y, 0, tl.load(y, 64, 64))
        else:
            tl.store(y, 64, tl.load(x, 64, 64))
            tl.release(flags, 1, 1)

    assert np.array_equal(run(kernel, engine)[:64], np.arange(64, 128))
    with pytest.raises(CheckError, match=r"(?s)E0705.*waits for a semaphore.*cooperative=True\) lifts this"):
        run(kernel, engine, together=False)


@pytest.mark.parametrize("engine", BOTH)
@pytest.mark.parametrize("kernel", [*hazard_kernels.CODES, *hazard_kernels.CLEAN], ids=lambda k: str(k.__name__))
def test_explicit_kernels(kernel: Any, engine: str) -> None:
    out = [np.zeros(256, np.float32) for _ in BOTH]
    for engine, y in zip(BOTH, out, strict=True):
        kernel.on(engine)(np.arange(256, dtype=np.float32), y)
    assert np.array_equal(*out)


@pytest.mark.parametrize("engine", BOTH)
@pytest.mark.parametrize("plain", [True, False])
def test_an_assertion(engine: str, plain: bool) -> None:
    with pytest.raises(CheckError) as caught:
        run(bounded, engine, plain=plain)
    error = caught.value.diagnostics[0]
    assert (error.code, error.message, error.notes) == ("E0704", "a value is too large", ("in block 1",))
    assert error.span is not None
    start = "assert tl.max(tile)" if plain else "tl.device_assert(tl.max(tile)"
    assert (error.span.file, error.span.line) == (asserting.__file__, line_of(start, asserting.__file__))


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_assertions_are_those_of_the_other_engines(n: int) -> None:
    """Of compile-time values, of arguments, of tiles, and of both."""
    errors = []
    for engine in BOTH:
        with pytest.raises(UserError) as caught:
            run(asserting.kinds, engine, n=n)
        error = caught.value.diagnostics[0]
        errors.append((type(caught.value), error.code, error.message, error.span))
    assert errors[0] == errors[1]


def test_other_errors_of_the_user_stay_what_they_are() -> None:
    @tl.jit
    def kernel(x: tl.f32["N"], y: tl.f32["N"]) -> None:
        tl.block(warps=2)
        tl.grid(1)
        with tl.group(0, 1):
            raise ValueError("mine")

    before = threading.active_count()
    with pytest.raises(ValueError, match="mine"):
        run(kernel, "python")
    assert threading.active_count() == before


@pytest.mark.parametrize("engine", BOTH)
def test_a_return_cannot_leave_a_group(engine: str) -> None:
    @tl.jit
    def kernel(x: tl.f32["N"], y: tl.f32["N"]) -> None:
        tl.grid(1)
        with tl.group(0, 1):
            return

    with pytest.raises(UserError, match=r"E0101.*cannot leave a thread group"):
        run(kernel, engine)


class Stops(bdb.Bdb):
    """A debugger that notes where it stops, and the name ``i`` there."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[int, int]] = []

    def user_line(self, frame: Any) -> None:
        if self.break_here(frame):
            self.seen.append((frame.f_lineno, int(frame.f_locals["i"])))
        self.set_continue()


@pytest.mark.parametrize(("kernel", "file", "text"), [
    (bounded, asserting.__file__, "tile = tl.load(x, i * 64, 64)"),
    (hand_over, __file__, "tile = tl.load(ring[i % 2]) + 1 + done"),
], ids=["kernel", "group"])
def test_breakpoints(kernel: Any, file: str, text: str) -> None:
    debugger = Stops()
    assert debugger.set_break(file, line_of(text, file)) is None
    trace = sys.gettrace()
    debugger.runcall(lambda: run(kernel, "python", blocks=1 if kernel is bounded else 4))
    sys.settrace(trace)
    assert debugger.seen == [(line_of(text, file), i) for i in range(4)]


def test_spans_are_those_of_the_source() -> None:
    @tl.jit
    def kernel(x: tl.f32["N"], y: tl.f32["N"]) -> None:
        tl.block(warps=2)
        tl.grid(1)
        s = tl.shared((64,), tl.f32)
        with tl.group(0, 1):
            tl.store(s, 0, tl.load(s))  # of nothing

    with pytest.raises(CheckError) as caught:
        run(kernel, "python")
    line = line_of("tl.store(s, 0, tl.load(s))  # of nothing")
    assert caught.value.diagnostics[0].span == Span(__file__, line, 27, line, 37)


def test_a_number_that_a_loop_changes_is_a_scalar() -> None:
    @tl.jit
    def kernel(y: tl.f32["N"], z: tl.i64["M"], n: tl.i32):
        tl.grid(1)
        k = 0
        for i in range(n):
            k += 2
            y[i] = i.to(tl.f32)
        y[3] = (k * 2).to(tl.f32)
        z[0] = 1 if k.dtype is tl.i64 and k.shape == () else 0

    for engine in ("python", "interpret", "cpu"):
        y, z = np.zeros(4, np.float32), np.zeros(1, np.int64)
        kernel.on(engine)(y, z, 3)
        assert y.tolist() == [0, 1, 2, 12]
        assert z[0] == 1
