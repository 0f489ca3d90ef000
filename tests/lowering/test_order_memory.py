"""Program order of global memory within a block: barriers where the accesses of different threads meet, only there."""

import numpy as np
import pytest

import tilus as tl
from tilus.ir.ops import Sync
from tilus.lowering.pipelines import GPU_TILE_PASSES
from tilus.lowering.schedule.order_memory import order_memory

ENGINES = ("simulate:sm_80:cuda", "simulate:sm_80:ptx")


@tl.jit
def accumulate(x: tl.f32["N"], out: tl.f32["K"]):
    tl.grid(1)
    for k in range(0, x.shape[0], 64):
        out[0] = out[0] + tl.sum(tl.load(x, k, 64))


@tl.jit
def shift(x: tl.f32["N"]):
    tl.grid(1)
    tl.store(x, 0, tl.load(x, 1, 256))
    tl.store(x, 2, tl.load(x, 3, 256) * 2)


@tl.jit
def recurrence(x: tl.f32["N"]):
    tl.grid(1)
    for i in range(1, 40):
        x[i] = x[i] + x[i - 1]


@tl.jit
def in_place(x: tl.f32["N"]):
    i = tl.grid(tl.cdiv(x.shape[0], 256))
    for _ in range(3):
        tl.store(x, i * 256, tl.load(x, i * 256, 256) + 1)


@tl.jit
def blocks_of_rows(x: tl.f32["N"]):
    tl.grid(1)
    for k in range(0, x.shape[0], 128):
        tl.store(x, k, tl.load(x, k, 128) + 1)


@tl.jit
def aliases(x: tl.f32["N"], y: tl.f32["N"]):
    tl.grid(1)
    tl.may_alias(x, y)
    tl.store(x, 0, tl.load(y, 0, 256) + 1)
    tl.store(x, 1, tl.load(y, 2, 250) * 3)


@tl.jit
def by_index(x: tl.f32["N"]):
    tl.grid(1)
    index = tl.arange(256)
    tl.scatter(x, 255 - index, tl.gather(x, index))


@tl.jit
def through_views(x: tl.f32["N"]):
    tl.grid(1)
    left, right = x[0:128], x[128:256]
    tl.store(left, 0, tl.load(left, 0, 128) + 1)
    tl.store(right, 0, tl.load(right, 0, 128) + 1)
    tl.store(left, 0, tl.load(right, 0, 128))


KERNELS = {"accumulate": accumulate, "shift": shift, "recurrence": recurrence, "in_place": in_place, "aliases": aliases,
           "blocks_of_rows": blocks_of_rows, "by_index": by_index, "through_views": through_views}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", KERNELS)
def test_no_race(name, engine):
    kernel = KERNELS[name]
    count = 2 if name in ("accumulate", "aliases") else 1
    rng = np.random.default_rng(0)
    want = [rng.standard_normal(300).astype(np.float32) for _ in range(count)]
    have = [a.copy() for a in want]
    kernel.on("interpret")(*want)
    kernel.on(engine)(*have)
    for w, h in zip(want, have, strict=True):
        np.testing.assert_allclose(h, w, rtol=1e-5)


@pytest.mark.parametrize("engine", ENGINES)
def test_one_array_twice(engine):
    want = np.random.default_rng(0).standard_normal(300).astype(np.float32)
    have = want.copy()
    aliases.on("interpret")(want, want)
    aliases.on(engine)(have, have)
    np.testing.assert_array_equal(have, want)


@pytest.mark.parametrize(("name", "barriers"), [("in_place", 0), ("blocks_of_rows", 0), ("recurrence", 2), ("shift", 3),
                                                ("through_views", 0)])
def test_barriers(name, barriers):
    """Threads that keep to their own elements, and windows that cannot meet, need none."""
    module = KERNELS[name].assume("divisible", {}).trace()
    module.target = "sm_80"
    for _, run in GPU_TILE_PASSES:
        run(module)
    assert sum(isinstance(op, Sync) for op in module.kernels[0].walk()) == barriers
    order_memory(module)
    assert sum(isinstance(op, Sync) for op in module.kernels[0].walk()) == barriers
