"""Blocks and thread groups that wait: what they keep meanwhile, and what is said where nothing can go on."""

import re
import sys
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import tilus as tl
from tilus.runtime.cpu import get_num_threads, set_num_threads


@pytest.fixture(params=[1, 2, 3], ids=lambda n: f"{n}_threads")
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = get_num_threads()
    set_num_threads(request.param)
    yield request.param
    set_num_threads(before)


@tl.jit
def loop_in_a_group(x: tl.f32["M", "N"], y: tl.f32["M"], n: tl.i32, M: int = 4, N: int = 4):
    tl.grid(1)
    tl.block(warps=2)
    bar = tl.named_barrier(1, 2)
    with tl.group(0, 1):
        acc = tl.zeros((M,), tl.f32)
        for _k in tl.range(n):
            acc = acc + tl.sum(tl.load(x, (0, 0), (M, N)), 1)
        tl.store(y, 0, acc)
        bar.sync()
    with tl.group(1, 1):
        bar.arrive()


@pytest.mark.parametrize("engine", ["cpu", "interpret"])
def test_temporaries_of_a_loop_lie_beside_the_barriers(engine: str) -> None:
    x, y = np.ones((4, 4), np.float32), np.zeros(4, np.float32)
    loop_in_a_group.on(engine)(x, y, 3)
    assert y.tolist() == [12] * 4


@tl.jit
def by_turns(x: tl.f32["N"], y: tl.f32["M", "N"], n: tl.i32, B: int = 32):
    """Two groups that work on temporaries of their own between barriers."""
    i = tl.grid(2)
    tl.block(warps=2)
    first, second = tl.named_barrier(1, 2), tl.named_barrier(2, 2)
    for g, mine, others in ((0, first, second), (1, second, first)):
        with tl.group(g, 1):
            total = tl.zeros((B,), tl.f32)
            for _k in tl.range(n):
                part = tl.cumsum(tl.load(x, 0, B) * float(g + 1), 0)
                if g == 0:
                    mine.arrive()
                    others.sync()
                else:
                    others.sync()
                    mine.arrive()
                total = total + part[:, None].reshape(B)
            tl.store(y[2 * i + g], 0, total)


@pytest.mark.parametrize("engine", ["cpu", "interpret"])
def test_groups_keep_their_temporaries_apart(engine: str) -> None:
    x, y = np.arange(32, dtype=np.float32), np.zeros((4, 32), np.float32)
    by_turns.on(engine)(x, y, 5)
    assert np.array_equal(y, np.cumsum(x)[None] * np.array([5, 10, 5, 10])[:, None])


@tl.jit
def ring(flags: tl.i32["N"], y: tl.i32["N"], G: int = 4):
    """Groups of cooperative blocks that wait for other blocks and for each other."""
    tl.block(cooperative=True, warps=2)
    i = tl.grid(G)
    a = tl.named_barrier(1, 2)
    with tl.group(0, 1):
        tl.wait_until(flags, (i + 1) % G, "ge", 1)
        a.arrive()
    with tl.group(1, 1):
        if i == G - 1:
            tl.atomic_add(flags, i, 1, order="release")
        a.sync()
        if i != G - 1:
            tl.atomic_add(flags, i, 1, order="release")
    y[i] = 1


def test_groups_wait_for_groups_of_other_blocks(threads: int) -> None:
    for _ in range(20):
        flags, y = np.zeros(4, np.int32), np.zeros(4, np.int32)
        ring(flags, y)
        assert y.all()


@tl.jit
def missing_at_the_grid_barrier(y: tl.i32["N"], G: int = 4):
    tl.block(cooperative=True)
    i = tl.grid(G)
    if i != 2:
        tl.grid_sync()
    y[i] = 1


@tl.jit
def semaphore_that_nobody_sets(y: tl.i32["N"], G: int = 5):
    i = tl.grid(G)
    if i > 2:
        tl.wait_until(y, 0, "ge", 1)
    y[i + 1] = 1


@tl.jit
def groups_that_wait_for_each_other(y: tl.i32["N"]):
    tl.grid(3)
    tl.block(warps=3)
    a, b = tl.named_barrier(1, 2), tl.named_barrier(2, 2)
    with tl.group(0, 1):
        a.sync()
        b.arrive()
    with tl.group(1, 1):
        b.sync()
        a.arrive()
    with tl.group(2, 1):
        y[0] = 2


@tl.jit
def group_of_a_cooperative_block(y: tl.i32["N"], G: int = 3):
    tl.block(cooperative=True, warps=2)
    tl.grid(G)
    a = tl.named_barrier(3, 2)
    with tl.group(0, 1):
        tl.wait_until(y, 0, "ge", 1)
        a.arrive()
    with tl.group(1, 1):
        a.sync()
    tl.grid_sync()


@tl.jit
def waits_for_a_later_value(y: tl.i32["N"], n: tl.i32):
    """Each block but the first waits for two values, the second of which the last block never writes."""
    i = tl.grid(n)
    tl.wait_until(y, 0, "ge", i.to(tl.i32))
    tl.atomic_add(y, 0, 1, order="release")
    if i == n - 1:
        tl.wait_until(y, 1, "eq", 1)


DEADLOCKS: dict[Any, tuple[tuple[int, ...], str, str]] = {
    missing_at_the_grid_barrier: ((), r"block \d waits for the other blocks at tl.grid_sync", "tl.grid_sync()"),
    semaphore_that_nobody_sets: ((), r"block [34] waits for a semaphore", 'tl.wait_until(y, 0, "ge", 1)'),
    groups_that_wait_for_each_other: ((), r"block \d, warps (0 to 0 waits for barrier 1|1 to 1 waits for barrier 2)",
                                      ".sync()"),
    group_of_a_cooperative_block: ((), r"block \d, warps (0 to 0 waits for a semaphore|1 to 1 waits for barrier 3)",
                                   "tl.wait_until"),
    waits_for_a_later_value: ((7,), r"block 6 waits for a semaphore", 'tl.wait_until(y, 1, "eq", 1)'),
}


@pytest.mark.parametrize("kernel", DEADLOCKS, ids=lambda k: k.__name__)
def test_a_deadlock_says_who_waits_where(threads: int, kernel: Any) -> None:
    scalars, who, line = DEADLOCKS[kernel]
    for _ in range(5):
        with pytest.raises(tl.UserError) as caught:
            kernel(np.zeros(10, np.int32), *scalars)
        text = str(caught.value)
        assert "E0705" in text
        assert re.search(f"deadlock: {who}, which never comes", text), text
        assert line in text


def test_after_a_deadlock_all_goes_on(threads: int) -> None:
    with pytest.raises(tl.UserError, match="deadlock"):
        missing_at_the_grid_barrier(np.zeros(10, np.int32))
    flags, y = np.zeros(4, np.int32), np.zeros(4, np.int32)
    ring(flags, y)
    assert y.all()


@tl.jit
def chain(y: tl.i32["N"], x: tl.f32["M"], B: int = 256):
    """A long chain of blocks, with work of unequal length between their waits."""
    i = tl.grid(y.shape[0] - 1)
    v = tl.zeros((B,), tl.f32)
    for _k in tl.range((i * 7) % 31):
        v = v + tl.exp(tl.load(x, 0, B))
    tl.wait_until(y, i, "ge", 1)
    tl.store(x, B, v)
    y[i + 1] = 1
    tl.atomic_add(y, i + 1, 1, order="release")


def test_no_deadlock_is_seen_where_there_is_none(threads: int) -> None:
    """Waiting cores, working cores and cores that have finished, over and over."""
    for _ in range(10):
        y, x = np.zeros(300, np.int32), np.zeros(512, np.float32)
        y[0] = 1
        chain(y, x)
        assert (y[1:] == 2).all()


@tl.jit
def heavy_blocks(x: tl.f32["N", "N"], B: int = 128):
    """Few blocks with much to do, that wait for each other from the beginning."""
    i = tl.grid(tl.cdiv(x.shape[0], B))
    tl.block(cooperative=True)
    tl.print("{}", i)
    for _ in tl.range(3):
        tl.grid_sync()
        a = tl.load(x, (i * B, 0), (B, B))
        tl.grid_sync()
        tl.store(x, (i * B, 0), tl.dot(a, a) * 0.01)


def test_cores_share_cooperative_blocks(monkeypatch: pytest.MonkeyPatch, threads: int) -> None:
    """None takes those of another one while that is yet to wake, since blocks stay where they begin."""
    begun: list[int] = []

    class Output:
        def write(self, text: str) -> None:
            if text.strip():
                begun.append(threading.get_ident())

        def flush(self) -> None:
            pass

    monkeypatch.setattr(sys, "stdout", Output())
    for blocks in (2, 3, 6):
        begun.clear()
        heavy_blocks(np.ones((128 * blocks, 128 * blocks), np.float32))
        assert len(begun) == blocks
        assert max(begun.count(thread) for thread in begun) == -(-blocks // threads)
