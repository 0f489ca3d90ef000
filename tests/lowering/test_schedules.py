"""Schedules as the user asks for them, and as they are printed and changed: none changes a value."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import tilus as tl
from tilus.ir.core import Module
from tilus.ir.ops import For
from tilus.ir.parser import parse_module
from tilus.ir.printer import print_module
from tilus.ir.schedule import LoopSchedule
from tilus.lowering.pipelines import GPU, run_passes
from tilus.lowering.schedule.plan import ring_bytes
from tilus.runtime.nvidia.build import ROUTES, check_resources
from tilus.simulator import launch
from tilus.targets import get_target


@tl.jit
def product(a: tl.f16["M", "K"], b: tl.f16["K", "N"], c: tl.f32["M", "N"], stages: int = 2, unroll: int = 1,
            prefetch: bool | None = None):
    tl.grid(1)
    tl.block(warps=2)
    acc = tl.zeros((32, 16), tl.f32)
    for k in tl.range(0, a.shape[1], 32, stages=stages, unroll=unroll, prefetch=prefetch):
        acc = tl.dot(tl.load(a, (0, k), (32, 32)), tl.load(b, (k, 0), (32, 16)), acc)
    tl.store(c, (0, 0), acc)


@tl.jit
def asks_for_three(x: tl.f32["N"]):
    tl.grid(1)
    for i in tl.range(0, x.shape[0], 32, prefetch=3):
        tl.store(x, i, tl.load(x, i, 32))


def _arrays(depth: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(depth)
    a, b = (rng.integers(-4, 4, shape).astype(np.float16) for shape in ((32, depth), (depth, 16)))
    return a, b, a.astype(np.float32) @ b.astype(np.float32)


def _planned(module: Module) -> Module:
    module.target = "sm_80"
    names = [name for name, _ in GPU.tile]
    run_passes(module, GPU.tile[: names.index("plan-loops") + 1])
    return module


def _schedules(module: Module) -> list[LoopSchedule | None]:
    return [op.schedule for kernel in module.kernels for op in kernel.walk() if isinstance(op, For)]


ENGINES = ("interpret", "cpu", "simulate:sm_80:ptx", "simulate:sm_80:cuda", "simulate:sm_75:ptx")
ASKED = ((2, 1, False), (3, 2, True), (3, 2, False), (4, 1, None), (1, 3, None))
OTHERS = (LoopSchedule(4, 4, 16, True), LoopSchedule(2, 3), LoopSchedule(5, split=True), LoopSchedule())


@pytest.mark.sweep
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("stages", "unroll", "prefetch"), ASKED)
def test_values(stages: int, unroll: int, prefetch: bool | None, engine: str) -> None:
    for depth in (32, 100, 256):
        a, b, wanted = _arrays(depth)
        c = np.zeros((32, 16), np.float32)
        product.on(engine)(a, b, c, stages, unroll, prefetch)
        np.testing.assert_array_equal(c, wanted)


@pytest.mark.parametrize(("asked", "made"), [
    ((3, 1, None), LoopSchedule(3, 3, 16, True)),
    ((3, 4, True), LoopSchedule(3, 6, 16, True)),
    ((3, 4, False), LoopSchedule(3, 4, 0, True)),
    ((1, 4, None), LoopSchedule(1, 4, 0, False)),
])
def test_records(asked: tuple[int, int, bool | None], made: LoopSchedule) -> None:
    stages, unroll, prefetch = asked
    constants = {"stages": stages, "unroll": unroll, "prefetch": prefetch}
    module = _planned(product.assume("divisible", constants).trace(get_target("sm_80")))
    assert _schedules(module) == [made]
    (loop,) = [op for op in module.kernels[0].walk() if isinstance(op, For)]
    assert ring_bytes(loop) == (stages * (32 * 32 + 32 * 16) * 2 if stages > 1 else 0)


def test_single_elements_are_not_ahead() -> None:
    """They go through registers, where rows are any number of elements apart."""
    module = _planned(product.assume("contiguous", {}).trace(get_target("sm_80")))
    assert _schedules(module) == [LoopSchedule(2, 1, 0, True)]


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("schedule", OTHERS, ids=str)
def test_schedules_of_others(schedule: LoopSchedule, route: str) -> None:
    """The planned module is written as text, the schedule in it replaced, and the rest of the passes run."""
    target = get_target("sm_80")
    module = parse_module(print_module(_planned(product.assume("contiguous", {}).trace(target))))
    (loop,) = [op for op in module.kernels[0].walk() if isinstance(op, For)]
    assert loop.schedule is not None
    loop.schedule = schedule
    names = [name for name, _ in GPU.tile]
    rest = replace(GPU, tile=GPU.tile[names.index("plan-loops") + 1 :])
    threads = rest.run(module, "sm_80", verify=True)
    check_resources(threads, target)
    (kernel,) = threads.kernels
    source = ROUTES[route].to_ptx(ROUTES[route].text(threads, False), target, "product")
    for depth in (32, 100, 256):
        a, b, wanted = _arrays(depth)
        c = np.zeros((32, 16), np.float32)
        arrays = {"a": a, "b": b, "c": c}
        arguments = [arrays[n.partition(".")[0]].shape[int(n[-2])] if "." in n else arrays[n]
                     for n in kernel.attributes.arguments]
        launch(source, "product", (1, 1, 1), (64, 1, 1), arguments, shared_bytes=kernel.attributes.shared_bytes)
        np.testing.assert_array_equal(c, wanted)


def test_what_prefetch_is() -> None:
    with pytest.raises(tl.UserError, match="prefetch is True, False or None, not 3"):
        asks_for_three.compile()


@tl.jit
def large(a: tl.f32["M", "K"], b: tl.f32["N", "K"], c: tl.f32["M", "N"], BM: int = 128, BN: int = 128, BK: int = 32):
    i, j = tl.grid(tl.cdiv(c.shape[0], BM), tl.cdiv(c.shape[1], BN))
    acc = tl.zeros((BM, BN), tl.f32)
    for k in tl.range(0, a.shape[1], BK):
        acc = tl.dot(tl.load(a, (i * BM, k), (BM, BK)), tl.load(b, (j * BN, k), (BN, BK)).T, acc)
    tl.store(c, (i * BM, j * BN), acc)


@pytest.mark.parametrize(("target", "staged"), [("sm_75", False), ("sm_86", True), ("sm_80", True)])
def test_loops_that_do_not_say_have_the_stages_that_fit(target: str, staged: bool) -> None:
    compiled = large.compile(target, via="ptx")
    assert compiled.metadata["dynamic_shared_bytes"] <= get_target(target).shared_per_block_optin
    assert (compiled.metadata["dynamic_shared_bytes"] >= 2 * 2 * 128 * 32 * 4) == staged


def test_values_without_stages() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((70, 50)).astype("f"), rng.standard_normal((33, 50)).astype("f")
    c = np.empty((70, 33), "f")
    large.on("simulate:sm_75:ptx")(a, b, c)
    np.testing.assert_allclose(c, a.astype("d") @ b.T.astype("d"), rtol=1e-4, atol=1e-5)
