"""Searches that measure on a GPU, and engines by route: with a stand-in for CuPy whose launches run on the simulator
and take as long as the test says."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import tilus as tl
from tests.cli.test_kernels import tilus
from tests.fake_gpu import stand_in
from tilus.runtime.cache import default_cache
from tilus.runtime.engines import get_engine
from tilus.runtime.recognise import as_array
from tilus.tuning import gpu as timing
from tilus.tuning import store
from tilus.tuning.arguments import on_gpu, random_array
from tilus.tuning.gpu import Gpu, GpuMemory


@pytest.fixture(autouse=True)
def cupy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The stand-in, a cache of each test's own, and short samples."""
    fake_module = stand_in()
    monkeypatch.setitem(sys.modules, "cupy", fake_module)
    monkeypatch.setenv("TILUS_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(Gpu, "most_repeats", 2)
    monkeypatch.setattr(timing, "WARM", 0.0)
    fake_module.device.reset()
    for cached in (store.default_store, default_cache):
        cached.cache_clear()
    for kernel in (added, accumulated, wrong, fused):
        kernel.results.clear()
        kernel._choices.clear()
        kernel._absent.clear()
        kernel.kernel.forget()
    yield fake_module
    fake_module.device.reset()
    for cached in (store.default_store, default_cache):
        cached.cache_clear()


@tl.autotune(BLOCK=[32, 64, 128], key="N")
@tl.jit
def added(x: tl.f32["N"] | tl.bf16["N"], y: tl.f32["N"] | tl.bf16["N"], BLOCK: int = 32) -> None:
    """y += x"""
    i = tl.grid(tl.cdiv(x.shape[0], BLOCK)) * BLOCK
    tl.store(y, i, tl.load(x, i, BLOCK) + tl.load(y, i, BLOCK))


@tl.autotune(BLOCK=[32, 64], key="N")
@tl.jit
def accumulated(x: tl.f32["N"], acc: tl.f32["N"], BLOCK: int = 32) -> None:
    """acc is 0 at each start."""
    i = tl.grid(tl.cdiv(x.shape[0], BLOCK)) * BLOCK
    tl.device_assert(tl.all(tl.load(acc, i, BLOCK) == 0), "not reset")
    tl.store(acc, i, tl.load(x, i, BLOCK))


@tl.autotune(FACTOR=[3, 2], key="N")
@tl.jit
def wrong(x: tl.f32["N"], y: tl.f32["N"], FACTOR: int = 2) -> None:
    i = tl.grid(tl.cdiv(x.shape[0], 32)) * 32
    tl.store(y, i, tl.load(x, i, 32) * FACTOR)


def vectors(n: int = 128) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    return np.arange(n, dtype=np.float32), np.full(n, 7, np.float32)


def blocks_of(grid: tuple[int, ...]) -> int:
    return int(np.prod(grid))


# -- searches


def test_the_variant_that_the_device_runs_fastest_is_chosen_and_arrays_stay(cupy: Any) -> None:
    x, y = map(on_gpu, vectors())
    cupy.device.seconds = lambda name, grid, count: {4: 3e-5, 2: 1e-5, 1: 2e-5}[blocks_of(grid)]
    result = added.tune(x, y, budget=60)
    assert result.variant == {"BLOCK": 64}
    assert result.untuned == {"BLOCK": 32}
    assert result.key.target == "sm_80"
    assert [round(1e6 * m.median) for m in result.measured if m.median] == [10, 20, 30]
    assert result.speedup == pytest.approx(3)
    assert (y.get() == 7).all()
    added(x, y)
    assert (y.get() == x.get() + 7).all()
    assert added.choose({"x": x, "y": y}, "sm_80") == {"BLOCK": 64}
    assert "hold" in cupy.device.launched


def test_arrays_are_cleared_before_each_run(cupy: Any) -> None:
    x, acc = map(on_gpu, vectors())
    result = accumulated.tune(x, acc, reset="acc", budget=60)
    assert len(result.measured) == 2
    assert not result.failed
    assert (acc.get() == 7).all()


def test_wrong_variants_are_not_chosen(cupy: Any) -> None:
    result = wrong.tune(*map(on_gpu, vectors()), budget=60)
    assert result.variant == {"FACTOR": 2}
    assert [m.variant for m in result.failed] == [{"FACTOR": 3}]
    assert "y differs from what the untuned kernel gives, at 127 of 128 elements" in result.failed[0].reason


def test_a_variant_that_breaks_the_device_ends_the_search(cupy: Any) -> None:
    x, y = map(on_gpu, vectors())
    cupy.device.breaks = lambda name, grid: name == "added" and blocks_of(grid) == 1
    result = added.tune(x, y, budget=60)
    assert result.variant["BLOCK"] in (32, 64)
    assert [m.variant for m in result.failed] == [{"BLOCK": 128}]
    assert "illegal memory access" in result.failed[0].reason
    assert "after BLOCK=128 nothing runs on the device in this process any more" in str(result)


def test_a_variant_that_breaks_the_device_later_is_not_chosen(cupy: Any) -> None:
    x, y = map(on_gpu, vectors())
    runs = []

    def breaks(name: str, grid: tuple[int, ...]) -> bool:
        runs.append(grid)
        return blocks_of(grid) == 2 and runs.count(grid) == 12

    cupy.device.breaks = breaks
    cupy.device.seconds = lambda name, grid, count: {4: 3e-5, 2: 1e-5, 1: 2e-5}.get(blocks_of(grid), 0)
    result = added.tune(x, y, budget=60)
    assert [m.variant for m in result.failed] == [{"BLOCK": 64}]
    assert result.variant in ({"BLOCK": 32}, {"BLOCK": 128})


def test_where_the_untuned_variant_breaks_the_device_nothing_works(cupy: Any) -> None:
    cupy.device.breaks = lambda name, grid: name == "added"
    with pytest.raises(tl.UserError, match=r"E1112(?s:.*)BLOCK=32: .*illegal memory access"):
        added.tune(*map(on_gpu, vectors()), budget=60)


@tl.autotune(BM=[16, 32], BN=[32])
@tl.fuse
def fused(x: tl.f32["M", "N"], y: tl.f32["M", "N"]):
    return x + y, tl.sum(x, axis=1)


def test_fused_functions(cupy: Any) -> None:
    x, y = (on_gpu(random_array(tl.f32, (40, 32), name)) for name in "xy")
    cupy.device.seconds = lambda name, grid, count: 1e-5 * (blocks_of(grid) + 1)
    result = fused.tune(x, y, budget=60)
    assert result.variant == {"BM": 32, "BN": 32}
    assert not result.failed
    total, sums = fused(x, y)
    assert np.allclose(total.get(), x.get() + y.get())
    assert np.allclose(sums.get(), x.get().sum(axis=1), atol=1e-4)


def test_element_types_that_cupy_may_lack(cupy: Any) -> None:
    x, y = (on_gpu(v.astype(ml_dtypes.bfloat16)) for v in vectors())
    result = added.tune(x, y, budget=60)
    assert dict(result.key.dtypes) == {"x": "bf16", "y": "bf16"}
    assert not result.failed
    assert (y.get() == 7).all()


def test_calls_tune_where_they_are_asked_to(cupy: Any) -> None:
    x, y = map(on_gpu, vectors())
    cupy.device.seconds = lambda name, grid, count: 1e-5 / blocks_of(grid)
    with tl.tuning(True):
        added(x, y)
        accumulated.on("cuda:cuda")(x, on_gpu(np.zeros(128, np.float32)))
    assert list(added.results.values()) == [{"BLOCK": 32}]
    assert not accumulated.results
    assert (y.get() == x.get() + 7).all()


@pytest.mark.parametrize(("target", "message"), [
    ("this-gpu", "E1109.*given arrays in host memory, and variants are measured on arrays on a GPU(?s:.*)pass CuPy"),
    ("cuda:cuda", r"E1109.*usual route to a target, which 'cuda:cuda' is not(?s:.*)tune on 'cuda'"),
    ("cuda:nvcc", r"E0506.*no engine 'cuda:nvcc'(?s:.*)cuda, cuda:ptx, cuda:cuda"),
    ("cuda:ptx:ptx", "E0506"),
])
def test_mistakes(target: str, message: str) -> None:
    with pytest.raises(tl.UserError, match=message):
        added.tune(*vectors(), target=target)


def test_arrays_on_a_gpu_are_not_measured_elsewhere(cupy: Any) -> None:
    with pytest.raises(tl.UserError, match=r"E1109.*on a GPU, and variants are measured on arrays in host"):
        added.tune(*map(on_gpu, vectors()), target="cpu")


def test_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "scaled.py"
    path.write_text("import tilus as tl\n\n\n@tl.autotune(BLOCK=[32, 64])\n@tl.jit\n"
                    "def scaled(x: tl.f32['N'], y: tl.f32['N'], BLOCK: int = 32):\n"
                    "    i = tl.grid(tl.cdiv(x.shape[0], BLOCK)) * BLOCK\n"
                    "    tl.store(y, i, tl.load(x, i, BLOCK) * 2)\n")
    assert tilus("tune", f"{path}:scaled", "--shape", "N=100", "--target", "this-gpu") == 0
    assert capsys.readouterr().out.startswith("scaled on sm_80 for N=128: BLOCK=")


# -- routes


@pytest.mark.parametrize("engine", ["cuda", "cuda:ptx", "cuda:cuda"])
def test_kernels_run_by_the_route_that_the_engine_names(cupy: Any, engine: str) -> None:
    x, y = map(on_gpu, vectors())
    added.kernel.on(engine)(x, y, BLOCK=64)
    assert (y.get() == x.get() + 7).all()
    prepared = added.kernel.prepared(engine, (x, y), {"BLOCK": 64})
    names = {key.split(":")[1] for key in prepared.specialisation.runners if key.startswith("sm_80:")}
    assert names == {"ptx" if engine == "cuda" else engine.split(":")[1]}
    assert get_engine(engine).target.name == "sm_80"


def test_kernels_with_much_shared_memory_are_launched(cupy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from kernels_zoo.gemm import matmul

    monkeypatch.setattr(cupy.cuda_driver, "shared", {})
    case = matmul.case((70, 100, 90))
    arguments = [on_gpu(a) for a in case.arguments]
    matmul.matmul(*arguments, BM=64, BN=128, BK=64, stages=3)
    assert cupy.cuda_driver.shared == {"matmul": 3 * 64 * (64 + 128) * 2}
    assert np.allclose(arguments[2].get(), case.references[0], rtol=1e-2, atol=1e-2)


# -- timing


def test_samples_are_taken_again_after_a_longer_hold(cupy: Any) -> None:
    cupy.device.late = 2
    x, y = map(on_gpu, vectors())
    cupy.device.seconds = lambda name, grid, count: 1e-5
    device = Gpu([as_array(x)])
    calls = []
    seconds = device.sample(lambda: (calls.append(None), added.kernel(x, y)), 2, None)
    assert seconds == pytest.approx(1e-5)
    assert len(calls) == 6
    assert cupy.device.launched.count("hold") == 3


class Strided:
    """Every second element of a device array, backwards."""

    def __init__(self, base: Any) -> None:
        self.base, self.dtype = base, base.dtype
        count, step = len(base.host) // 2, 2 * base.itemsize
        self.__cuda_array_interface__ = {
            "shape": (count,), "typestr": base.dtype.str, "version": 3, "strides": (-step,),
            "data": (base.data.ptr + step * (count - 1), False)}


def test_memory_of_strided_arrays(cupy: Any) -> None:
    base = on_gpu(np.arange(10, dtype=np.float32))
    array = as_array(Strided(base))
    memory = GpuMemory(cupy, array, cupy.cuda.Stream.null)
    assert memory.numbers().tolist() == [8, 6, 4, 2, 0]
    saved = memory.saved()
    memory.clear()
    assert base.get().tolist() == [0, 1, 0, 3, 0, 5, 0, 7, 0, 9]
    memory.put(saved)
    assert base.get().tolist() == list(range(10))


def test_memory_of_packed_and_of_empty_arrays(cupy: Any) -> None:
    values = random_array(tl.u4, (3, 5), "w")
    moved = on_gpu(values)
    assert (moved.shape, moved.dtype, moved.argument.kind) == ((3, 5), tl.u4, "cuda")
    memory = GpuMemory(cupy, moved.argument, cupy.cuda.Stream.null)
    assert memory.numbers().tolist() == values.base.tolist()
    memory.clear()
    assert not memory.numbers().any()
    none = GpuMemory(cupy, as_array(on_gpu(np.zeros((0, 3), np.float32))), cupy.cuda.Stream.null)
    none.put(none.saved())
    assert none.numbers().shape == (0, 3)
