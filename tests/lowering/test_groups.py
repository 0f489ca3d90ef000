"""Thread groups that run side by side: shared memory, scratch memory and barriers of their own."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

import tilus as tl

ENGINES = ("python", "interpret", "cpu",
           *(f"simulate:{t}:{v}" for t in ("sm_70", "sm_80", "sm_90a") for v in ("cuda", "ptx")))


@tl.jit
def named_memory(x: tl.f32["N"], y: tl.f32["N"], second: int = 4):
    tl.block(warps=16)
    tl.grid(1)
    with tl.group(0, 4):
        a = tl.shared((128,), tl.f32)
        tl.store(a, 0, tl.load(x, 0, 128))
        tl.sync()
        tl.store(y, 0, tl.load(a, 64, 64))
    with tl.group(second, 2):
        b = tl.shared((128,), tl.f32)
        tl.store(b, 0, tl.load(x, 128, 128))
        tl.sync()
        tl.store(y, 128, tl.load(b, 64, 64) + 2.0)


def named_memory_reference(x: Any) -> Any:
    y = np.zeros_like(x)
    y[:64], y[128:192] = x[64:128], x[192:256] + 2
    return y


@tl.jit
def sums(x: tl.f32["N"], y: tl.f32["N"], second: int = 4):
    """Reductions across warps take scratch memory, before, in and after the groups."""
    tl.block(warps=16)
    tl.grid(1)
    whole = tl.sum(tl.load(x, 0, 1024))
    with tl.group(0, 4):
        y[0] = tl.sum(tl.load(x, 0, 512))
        y[1] = tl.max(tl.load(x, 0, 512))
    with tl.group(second, 4):
        y[2] = tl.sum(tl.load(x, 512, 512))
    y[3] = whole + tl.sum(tl.load(x, 512, 512))


def sums_reference(x: Any) -> Any:
    y = np.zeros_like(x)
    wide = x.astype("f8")
    y[:4] = wide[:512].sum(), x[:512].max(), wide[512:1024].sum(), wide[:1024].sum() + wide[512:1024].sum()
    return y


@tl.jit
def in_a_loop(x: tl.f32["N"], y: tl.f32["N"], second: int = 4):
    tl.block(warps=16)
    tl.grid(1)
    for i in tl.range(x.shape[0] // 512):
        with tl.group(0, 4):
            y[2 * i] = tl.sum(tl.load(x, i * 512, 512))
        with tl.group(second, 4):
            y[2 * i + 1] = tl.sum(tl.load(x, i * 512, 512) * 2.0)
    tl.sync()
    with tl.group(1, 8):
        total = tl.sum(tl.load(x, 0, 1024))
        y[100] = total


def in_a_loop_reference(x: Any) -> Any:
    y = np.zeros_like(x)
    parts = x.astype("f8").reshape(-1, 512).sum(1)
    y[:2 * len(parts)] = np.stack([parts, 2 * parts], 1).ravel()
    y[100] = x[:1024].astype("f8").sum()
    return y


@tl.jit
def conversions(x: tl.f32["N"], y: tl.f32["N"], second: int = 4):
    """A transposed tile goes through scratch memory, a product through several layouts."""
    tl.block(warps=16)
    tl.grid(1)
    with tl.group(0, 4):
        t = tl.load(x, 0, 1024).reshape(32, 32)
        tl.store(y, 0, t.T.reshape(1024) + 1.0)
    with tl.group(second, 4):
        u = tl.load(x, 1024, 1024).reshape(32, 32).to(tl.f16)
        tl.store(y, 1024, tl.dot(u, u.T).reshape(1024))


def conversions_reference(x: Any) -> Any:
    y = np.zeros_like(x)
    y[:1024] = x[:1024].reshape(32, 32).T.ravel() + 1
    u = x[1024:2048].reshape(32, 32).astype("f2").astype("f8")
    y[1024:2048] = (u @ u.T).ravel()
    return y


KERNELS = {"named_memory": (named_memory, named_memory_reference), "sums": (sums, sums_reference),
           "in_a_loop": (in_a_loop, in_a_loop_reference), "conversions": (conversions, conversions_reference)}


@pytest.mark.sweep
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("second", [4, 8, 12])
@pytest.mark.parametrize("name", KERNELS)
def test_values(name: str, second: int, engine: str) -> None:
    kernel, reference = KERNELS[name]
    x = np.random.default_rng(0).standard_normal(2048).astype("f4")
    y = np.zeros_like(x)
    kernel.on(engine)(x, y, second=second)
    np.testing.assert_allclose(y, reference(x), rtol=2e-3, atol=2e-3)


def many(count: int, warps: int) -> Any:
    @tl.jit
    def groups(x: tl.f32["N"], y: tl.f32["N"]):
        tl.block(warps=count * warps)
        tl.grid(1)
        for g in tl.static_range(count):
            with tl.group(g * warps, warps):
                y[g] = tl.sum(tl.load(x, g * 128, 128))

    return groups


@pytest.mark.sweep(keep=12)
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("count", "warps"), [(15, 2), (16, 1), (32, 1), (10, 3)])
def test_many_groups(count: int, warps: int, engine: str) -> None:
    x = np.random.default_rng(0).standard_normal(128 * count).astype("f4")
    y = np.zeros_like(x)
    many(count, warps).on(engine)(x, y)
    np.testing.assert_allclose(y[:count], x.astype("f8").reshape(count, 128).sum(1), rtol=1e-4, atol=1e-5)


def barriers(ptx: str) -> set[str]:
    constants = dict(re.findall(r"mov\.u32\s+(%r\d+), (\d+);", ptx))
    found = re.findall(r"bar(?:rier)?\.sync(?:\.aligned)?\s+(%?\w+), %?\w+", ptx)
    return {constants.get(name, name) for name in found}


@pytest.mark.parametrize("via", ["cuda", "ptx"])
def test_groups_have_barriers_of_their_own(via: str) -> None:
    for second in (4, 8):
        assert len(barriers(named_memory.compile("sm_80", via, second=second).ptx)) == 2
    assert len(barriers(many(10, 3).compile("sm_80", via).ptx)) == 10
    assert barriers(many(16, 1).compile("sm_80", via).ptx) == set()  # one warp synchronises without


def test_too_many_groups() -> None:
    with pytest.raises(tl.UserError, match="16 different groups of several warps"):
        many(16, 2).compile("sm_80")


@tl.jit
def named_barriers(x: tl.f32["N"], y: tl.f32["N"]):
    """The user's barrier between two groups is none of those that the groups have."""
    tl.block(warps=8)
    tl.grid(1)
    s = tl.shared((128,), tl.f32)
    ready = tl.named_barrier(7, 8)
    with tl.group(0, 4):
        tl.store(s, 0, tl.load(x, 0, 128))
        ready.arrive()
        y[128] = tl.sum(tl.load(x, 0, 256))
    with tl.group(4, 4):
        ready.sync()
        tl.store(y, 0, tl.load(s, 0, 128))
        y[129] = tl.sum(tl.load(x, 256, 256))


@pytest.mark.parametrize("engine", ENGINES)
def test_named_barriers(engine: str) -> None:
    x = np.random.default_rng(0).standard_normal(512).astype("f4")
    y = np.zeros_like(x)
    named_barriers.on(engine)(x, y)
    np.testing.assert_array_equal(y[:128], x[:128])
    np.testing.assert_allclose(y[128:130], x.astype("f8").reshape(2, 256).sum(1), rtol=1e-4)


@tl.jit
def one_after_another(x: tl.f32["N"], y: tl.f32["N"], z: tl.f32["N"]):
    """Groups of the same warps are the same threads: global memory goes on in program order, in loops too."""
    tl.block(warps=8)
    tl.grid(1)
    for i in tl.range(3):
        with tl.group(0, 4):
            tl.store(y, 0, tl.load(x, 0, 256) + tl.load(z, 0, 256))
        with tl.group(4, 4):
            tl.store(y, 256, tl.load(x, 256, 256))
        with tl.group(0, 4):
            tl.store(z, 0, tl.load(y, 0, 256).reshape(16, 16).T.reshape(256) + i.to(tl.f32))


@pytest.mark.parametrize("engine", ENGINES)
def test_groups_of_the_same_warps_are_in_order(engine: str) -> None:
    x = np.random.default_rng(0).integers(-9, 9, 512).astype("f4")
    y, z = np.zeros_like(x), np.zeros_like(x)
    one_after_another.on(engine)(x, y, z)
    expected = np.zeros(256, "f4")
    for i in range(3):
        first = x[:256] + expected
        expected = first.reshape(16, 16).T.ravel() + i
    np.testing.assert_array_equal(y, np.r_[first, x[256:]])
    np.testing.assert_array_equal(z[:256], expected)


@tl.jit
def before_and_after(x: tl.f32["N"], y: tl.f32["N"], z: tl.f32["N"]):
    """What the block wrote is there for its groups, and what they wrote for the block: global memory is in order."""
    tl.block(warps=8)
    tl.grid(1)
    tl.store(y, 0, tl.load(x, 0, 512) + 1.0)
    with tl.group(0, 4):
        tl.store(z, 0, tl.load(y, 256, 256))
    with tl.group(4, 4):
        tl.store(z, 256, tl.load(y, 0, 256))
    tl.store(y, 0, tl.load(z, 0, 512).reshape(2, 256).T.reshape(512))


@pytest.mark.parametrize("engine", ENGINES)
def test_the_block_and_its_groups_are_in_order(engine: str) -> None:
    x = np.random.default_rng(0).integers(-9, 9, 512).astype("f4")
    y, z = np.zeros_like(x), np.zeros_like(x)
    before_and_after.on(engine)(x, y, z)
    np.testing.assert_array_equal(z, np.r_[x[256:], x[:256]] + 1)
    np.testing.assert_array_equal(y, z.reshape(2, 256).T.ravel())
