"""Groups of an operation run side by side, those that share warps in order; what follows waits for all of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tilus as tl
from tests.lowering.test_groups import ENGINES
from tilus.ir.ops.groups import Groups


@tl.jit
def hand_over(x: tl.f32["N"], y: tl.f32["N"], z: tl.f32["M"], B: int = 64):
    """One group loads into a ring of two, the other stores from it; then the block reduces what was stored."""
    tl.block(warps=3)
    tl.grid(1)
    ring = tl.shared((2, B), tl.f32)
    full = [tl.named_barrier(1 + n, 3) for n in range(2)]
    empty = [tl.named_barrier(3 + n, 3) for n in range(2)]
    pairs = x.shape[0] // (2 * B)
    with tl.group(0, 1):
        for i in tl.range(pairs):
            for n in tl.static_range(2):
                if i > 0:
                    empty[n].sync()
                tl.store(ring[n], 0, tl.load(x, (2 * i + n) * B, B))
                full[n].arrive()
    with tl.group(1, 2):
        for i in tl.range(pairs):
            for n in tl.static_range(2):
                full[n].sync()
                tl.store(y, (2 * i + n) * B, tl.load(ring[n]) * 2.0)
                if i + 1 < pairs:
                    empty[n].arrive()
    z[0] = tl.sum(tl.load(y, 0, 512))


def hand_over_reference(x: Any) -> tuple[Any, Any]:
    return 2 * x, np.r_[2 * x.sum(), np.zeros(7)]


@tl.jit
def warps_in_common(x: tl.f32["N"], y: tl.f32["N"], z: tl.f32["M"]):
    """The first two wait for each other, the third one has a warp of each, the last one those of the first."""
    tl.block(warps=4)
    tl.grid(1)
    s = tl.shared((64,), tl.f32)
    there, back = tl.named_barrier(1, 4), tl.named_barrier(2, 4)
    with tl.group(0, 2):
        tl.store(s, 0, tl.load(x, 0, 64) + 1.0)
        there.arrive()
        back.sync()
        tl.store(y, 0, tl.load(s, 0, 64))
        z[0] = tl.sum(tl.load(x, 0, 128))
    with tl.group(2, 2):
        there.sync()
        part = tl.load(s, 0, 64)
        tl.sync()
        tl.store(s, 0, part * 2.0)
        back.arrive()
        z[1] = tl.sum(tl.load(x, 128, 128))
    with tl.group(1, 2):
        z[2] = tl.sum(tl.load(x, 256, 128))
        tl.store(y, 64, tl.load(x, 64, 64).reshape(8, 8).T.reshape(64))
    with tl.group(0, 2):
        z[3] = tl.sum(tl.load(y, 0, 64).reshape(8, 8).T.reshape(64))


def warps_in_common_reference(x: Any) -> tuple[Any, Any]:
    y, z = np.zeros_like(x), np.zeros(8)
    y[:64] = 2 * (x[:64] + 1)
    y[64:128] = x[64:128].reshape(8, 8).T.ravel()
    z[:4] = x[:128].sum(), x[128:256].sum(), x[256:384].sum(), y[:64].sum()
    return y, z


@tl.jit
def behind_one_that_waits(x: tl.f32["N"], y: tl.f32["N"], z: tl.f32["M"]):
    """The second one begins after the first, which waits for the third."""
    tl.block(warps=2)
    tl.grid(1)
    ready = tl.named_barrier(1, 2)
    with tl.group(0, 1):
        ready.sync()
        tl.store(y, 0, tl.load(x, 0, 64))
    with tl.group(0, 1):
        tl.store(y, 0, tl.load(y, 0, 64).reshape(8, 8).T.reshape(64) + 1.0)
    with tl.group(1, 1):
        ready.arrive()


def behind_one_that_waits_reference(x: Any) -> tuple[Any, Any]:
    return np.r_[x[:64].reshape(8, 8).T.ravel() + 1, np.zeros(448)], np.zeros(8)


@tl.jit
def in_control_flow(x: tl.f32["N"], y: tl.f32["N"], z: tl.f32["M"]):
    """Each operation with groups begins when those of the one before have ended: global memory is in order, also where
    other warps go on."""
    tl.block(warps=4)
    tl.grid(1)
    n = x.shape[0] // 128
    for i in tl.range(n):
        with tl.group(0, 2):
            tl.store(y, 0, tl.load(x, i * 128, 128) + tl.load(y, 128, 128))
        if i % 2 == 1:
            with tl.group(0, 2):
                tl.store(y, 256, tl.load(y, 0, 64) * 2.0)
            with tl.group(2, 2):
                tl.store(y, 320, tl.load(y, 64, 64) * 3.0)
        else:
            with tl.group(2, 1):
                tl.store(y, 256, tl.load(y, 0, 128))
        with tl.group(1, 3):
            tl.store(y, 128, tl.load(y, 256, 128).reshape(16, 8).T.reshape(128))


def in_control_flow_reference(x: Any) -> tuple[Any, Any]:
    a, b, c = np.zeros((3, 128))
    for i, part in enumerate(x.reshape(-1, 128)):
        a = part + b
        c = a * np.repeat([2, 3], 64) if i % 2 else a
        b = c.reshape(16, 8).T.ravel()
    return np.r_[a, b, c, np.zeros(128)], np.zeros(8)


@tl.jit
def pure_between(x: tl.f32["N"], y: tl.f32["N"], z: tl.f32["M"]):
    """What is between the groups has no effect, so that they run side by side: each waits for the other."""
    tl.block(warps=2)
    tl.grid(1)
    there, back = tl.named_barrier(1, 2), tl.named_barrier(2, 2)
    at = x.shape[0] // 4
    with tl.group(0, 1):
        there.arrive()
        back.sync()
        tl.store(y, at, tl.load(x, at, 64))
    half = at * 2
    ones = tl.full((64,), 1.0, tl.f32)
    with tl.group(1, 1):
        there.sync()
        back.arrive()
        tl.store(y, half, tl.load(x, half, 64) + ones)


def pure_between_reference(x: Any) -> tuple[Any, Any]:
    y = np.zeros_like(x)
    y[128:192], y[256:320] = x[128:192], x[256:320] + 1
    return y, np.zeros(8)


@tl.jit
def one_operation_to_the_next(x: tl.f32["N"], y: tl.f32["N"], z: tl.f32["M"]):
    """Barriers count on from one operation to the next, and in the whole block."""
    tl.block(warps=4)
    tl.grid(1)
    handed, whole = tl.named_barrier(1, 4), tl.named_barrier(2, 4)
    s = tl.shared((64,), tl.f32)
    with tl.group(0, 2):
        tl.store(s, 0, tl.load(x, 0, 64))
        handed.arrive()
    tl.store(y, 128, tl.load(x, 128, 64))
    with tl.group(2, 2):
        handed.sync()
        tl.store(y, 0, tl.load(s, 0, 64))
    whole.sync()
    tl.store(y, 64, tl.load(s, 0, 64) + 1.0)


def one_operation_to_the_next_reference(x: Any) -> tuple[Any, Any]:
    return np.r_[x[:64], x[:64] + 1, x[128:192], np.zeros(320)], np.zeros(8)


@tl.jit
def hand_over_in_a_loop(x: tl.f32["N"], y: tl.f32["N"], z: tl.f32["M"]):
    """The one that takes comes first, and has the memory again after the block's barrier."""
    tl.block(warps=3)
    tl.grid(1)
    s, ready = tl.shared((64,), tl.f32), tl.named_barrier(1, 3)
    for i in tl.range(x.shape[0] // 64):
        with tl.group(1, 2):
            ready.sync()
            tl.store(y, i * 64, tl.load(s, 0, 64))
        with tl.group(0, 1):
            tl.store(s, 0, tl.load(x, i * 64, 64))
            ready.arrive()
        tl.sync()


def hand_over_in_a_loop_reference(x: Any) -> tuple[Any, Any]:
    return x, np.zeros(8)


@tl.jit
def slowly(z: tl.f32["M"], k: Any):
    """Groups that wait for each other twice before one stores ``k + 1``, in one of two places."""
    first, second, third = (tl.named_barrier(n, 2) for n in (1, 2, 3))
    with tl.group(1, 1):
        first.sync()
        third.arrive()
        second.sync()
        z[6 + (k + 1) % 2] = (k + 1).to(tl.f32)
    with tl.group(2, 1):
        first.arrive()
        third.sync()
        second.arrive()


@tl.jit
def around_loops_and_branches(x: tl.f32["N"], y: tl.f32["N"], z: tl.f32["M"]):
    """What groups stored in an iteration, or in a branch, is there for those after it."""
    tl.block(warps=3)
    tl.grid(1)
    for i in tl.range(x.shape[0] // 256):
        with tl.group(0, 1):
            z[i] = z[6 + i % 2]
        slowly(z, i)
    with tl.group(0, 1):
        z[2] = z[6]
    if x.shape[0] > 1:
        slowly(z, x.shape[0])
    with tl.group(0, 1):
        z[3] = z[7]
    n = x.shape[0] // 256
    while n > 0:
        n = n - 1
        with tl.group(0, 1):
            z[4 + n] = z[6 + n % 2]
        slowly(z, n)


def around_loops_and_branches_reference(x: Any) -> tuple[Any, Any]:
    return np.zeros_like(x), np.array([0, 1, 2, 513, 2, 513, 2, 1])


@tl.jit
def semaphore(x: tl.f32["N"], y: tl.f32["N"], z: tl.f32["M"]):
    """A group waits for an element of global memory that a later one writes."""
    tl.block(warps=2)
    tl.grid(1)
    with tl.group(0, 1):
        tl.acquire(z, 0, 1.0)
        tl.store(y, 0, tl.load(x, 0, 64))
    with tl.group(1, 1):
        tl.store(y, 64, tl.load(x, 64, 64))
        tl.release(z, 0, 1.0)


def semaphore_reference(x: Any) -> tuple[Any, Any]:
    return np.r_[x[:128], np.zeros(384)], np.r_[1, np.zeros(7)]


KERNELS = {
    hand_over: (hand_over_reference, 1), warps_in_common: (warps_in_common_reference, 1),
    behind_one_that_waits: (behind_one_that_waits_reference, 1),
    in_control_flow: (in_control_flow_reference, 4), pure_between: (pure_between_reference, 1),
    hand_over_in_a_loop: (hand_over_in_a_loop_reference, 1),
    around_loops_and_branches: (around_loops_and_branches_reference, 5),
    one_operation_to_the_next: (one_operation_to_the_next_reference, 2), semaphore: (semaphore_reference, 1),
}
"""What each computes, and how many operations its groups are."""


@pytest.mark.sweep
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: kernel.__name__)
def test_values(kernel: Any, engine: str) -> None:
    reference, _ = KERNELS[kernel]
    x = np.random.default_rng(0).integers(-9, 9, 512).astype("f4")
    y, z = np.zeros_like(x), np.zeros(8, "f4")
    kernel.on(engine)(x, y, z)
    expected = reference(x)
    np.testing.assert_array_equal(y, expected[0])
    np.testing.assert_array_equal(z, expected[1])


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: kernel.__name__)
def test_groups_side_by_side_are_one_operation(kernel: Any) -> None:
    _, count = KERNELS[kernel]
    module = kernel.assume("divisible", {}).trace()
    assert sum(isinstance(op, Groups) for op in module.kernels[0].walk()) == count


@tl.jit
def waits_for_what_comes_after(y: tl.f32["N"]):
    tl.block(warps=2)
    tl.grid(1)
    later = tl.named_barrier(1, 2)
    with tl.group(0, 1):
        later.sync()
    y[0] = 1.0
    with tl.group(1, 1):
        later.arrive()


@tl.jit
def waits_for_the_same_warps(y: tl.f32["N"]):
    tl.block(warps=2)
    tl.grid(1)
    later = tl.named_barrier(1, 2)
    with tl.group(0, 1):
        later.sync()
    with tl.group(0, 2):
        later.arrive()


@pytest.mark.parametrize("engine", ["python", "interpret", "cpu"])
@pytest.mark.parametrize("kernel", [waits_for_what_comes_after, waits_for_the_same_warps],
                         ids=lambda kernel: kernel.__name__)
def test_what_comes_after_begins_when_the_groups_have_ended(kernel: Any, engine: str) -> None:
    with pytest.raises(tl.TilusError, match=r"deadlock: block 0.* waits for barrier 1, which never comes"):
        kernel.on(engine)(np.zeros(8, np.float32))


@pytest.mark.parametrize("engine", ["python", "interpret"])
def test_groups_of_some_of_the_same_warps_are_ordered_by_the_user(engine: str) -> None:
    @tl.jit
    def kernel(x: tl.f32["N"], y: tl.f32["N"]):
        tl.block(warps=3)
        tl.grid(1)
        s = tl.shared((64,), tl.f32)
        with tl.group(0, 2):
            tl.store(s, 0, tl.load(x, 0, 64))
        with tl.group(1, 2):
            tl.store(y, 0, tl.load(s, 0, 64))

    with pytest.raises(tl.TilusError, match="race on "):
        kernel.on(engine)(np.zeros(64, np.float32), np.zeros(64, np.float32))


@pytest.mark.parametrize("engine", ["python", "interpret"])
def test_a_barrier_of_a_group_orders_what_its_warps_did_before(engine: str) -> None:
    @tl.jit
    def kernel(x: tl.f32["N"], y: tl.f32["N"]):
        tl.block(warps=3)
        tl.grid(1)
        s = tl.shared((64,), tl.f32)
        with tl.group(0, 2):
            tl.store(s, 0, tl.load(x, 0, 64))
        with tl.group(0, 2):
            tl.sync()
            tl.store(y, 0, tl.load(s, 0, 64))

    x, y = np.arange(64, dtype=np.float32), np.zeros(64, np.float32)
    kernel.on(engine)(x, y)
    np.testing.assert_array_equal(x, y)
