"""What the model of GPUs knows before compiling, against numbers worked out by hand, what it refuses, and which of two
variants it prefers."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tilus as tl
from benchmarks.ranking import product
from kernels_zoo.gemm.matmul import matmul
from tilus.model.boards import board_of
from tilus.model.sampled import sampled
from tilus.model.tiles.call import estimate
from tilus.model.tiles.predict import Estimate
from tilus.model.tiles.times import together
from tilus.runtime.cache import default_cache
from tilus.targets import get_target
from tilus.tuning.ranking import modelled_engine, predict


def model(kernel: Any, *args: Any, target: str = "sm_80", **constants: Any) -> Estimate:
    record = get_target(target)
    engine, board = modelled_engine(record), board_of(target)
    assert engine is not None
    assert board is not None
    return estimate(kernel.prepared(engine.name, args, constants), record, board)


def halves(*shape: int) -> np.ndarray[Any, Any]:
    return np.empty(shape, np.float16)


def floats(*shape: int) -> np.ndarray[Any, Any]:
    return np.empty(shape, np.float32)


# -- counts


@pytest.mark.parametrize(("m", "n", "k"), [(256, 128, 64), (100, 70, 50), (1000, 600, 333)])
def test_a_products_counts_are_exact_whatever_its_extents(m: int, n: int, k: int) -> None:
    bm, bn, bk = 64, 32, 32
    found = model(matmul, halves(m, k), halves(k, n), halves(m, n), BM=bm, BN=bn, BK=bk).counts
    rows, columns, steps = -(-m // bm), -(-n // bn), -(-k // bk)
    assert found["blocks"] == rows * columns
    assert found["multiply-adds mma.m16n8k16"] == pytest.approx(rows * columns * steps * bm * bn * bk)
    assert found["read"] == pytest.approx(2 * (m * k * columns + k * n * rows))
    assert found["written"] == pytest.approx(2 * m * n)


def test_what_blocks_of_a_wave_share_comes_from_memory_once() -> None:
    n = 1024
    found = model(matmul, halves(n, n), halves(n, n), halves(n, n), BM=128, BN=128).counts
    assert found["L2"] == pytest.approx(2 * n * n * (8 + 8 + 1))
    assert found["DRAM"] == pytest.approx(2 * n * n * 3)


@pytest.mark.parametrize("stages", [2, 3, 4])
def test_rings_take_as_much_shared_memory_as_in_what_is_compiled(stages: int) -> None:
    constants = {"BM": 64, "BN": 64, "BK": 64, "stages": stages}
    found = model(matmul, halves(512, 512), halves(512, 512), halves(512, 512), **constants).kernels[0]
    assert found.shared == stages * 64 * (64 + 64) * 2
    compiled = matmul.compile("sm_80", **constants)
    assert found.shared == compiled.launches["matmul"].dynamic_shared_bytes
    assert abs(found.registers - compiled.metadata["registers"]) < 40


@tl.jit
def triangle(x: tl.f32["M", "N"], y: tl.f32["M"], B: int = 32) -> None:
    """Row i of blocks reads what is left of the diagonal."""
    i = tl.grid(tl.cdiv(x.shape[0], B))
    total = tl.zeros((B, B), tl.f32)
    for j in tl.range(i + 1):
        total += tl.load(x, (i * B, j * B), (B, B))
    tl.store(y, i * B, tl.sum(total, axis=1))


@pytest.mark.parametrize("rows", [1, 3, 7, 40])
def test_loops_that_depend_on_the_block_are_counted(rows: int) -> None:
    n = 32 * rows
    assert model(triangle, floats(n, n), floats(n)).counts["read"] == pytest.approx(4 * 32 * 32 * rows * (rows + 1) / 2)


@tl.jit
def repeated(x: tl.f32["N"], y: tl.f32["M"], n: tl.i32, B: int = 256) -> None:
    """As often as a scalar says, and every other time a part more."""
    tl.grid(1)
    total = tl.zeros((B,), tl.f32)
    at = n * 0
    for _ in tl.range(n):
        total += tl.load(x, at, B)
        at = at + 2
    if n > 10:
        tl.store(y, 0, total)


@pytest.mark.parametrize(("times", "written"), [(3, 0), (50, 1024)])
def test_scalars_of_the_call_are_followed(times: int, written: int) -> None:
    found = model(repeated, floats(300), floats(256), times).counts
    assert found["written"] == written
    ends = [min(300, 2 * t + 256) - 2 * t for t in range(times)]
    inside = sum(share * ends[t] for t, share in sampled(times))
    assert found["read"] == pytest.approx(4 * inside)


@tl.jit
def grouped(x: tl.f32["N"], y: tl.f32["N"], B: int = 128) -> None:
    tl.block(warps=4)
    i = tl.grid(tl.cdiv(x.shape[0], 3 * B)) * 3 * B
    with tl.group(0, 1):
        tl.store(y, i, tl.load(x, i, B))
    with tl.group(1, 3):
        tl.store(y, i + B, tl.load(x, i + B, 2 * B))


def test_thread_groups_are_counted() -> None:
    found = model(grouped, floats(3000), floats(3000)).counts
    assert (found["read"], found["written"]) == (12000, 12000)


@tl.fuse
def standardised(x: tl.f32["M", "N"]) -> Any:
    return x / tl.sum(x * x, axis=None)


def test_every_kernel_of_a_call_counts() -> None:
    found = model(standardised, floats(512, 512))
    assert len(found.kernels) > 1
    assert found.seconds == pytest.approx(sum(kernel.seconds for kernel in found.kernels))
    assert found.counts["read"] >= 2 * 4 * 512 * 512


@tl.jit
def ragged(lengths: tl.i32["R"], x: tl.f32["R", "N"], y: tl.f32["R"], B: int = 64) -> None:
    r = tl.grid(lengths.shape[0])
    total = tl.zeros((B,), tl.f32)
    for j in tl.range(0, lengths[r], B):
        total += tl.load(x[r, :], j, B)
    tl.store(y, r, tl.sum(total, axis=0))


def test_tables_in_host_memory_are_looked_into() -> None:
    lengths = np.array([64, 640, 128], np.int32)
    found = model(ragged, lengths, floats(3, 1024), floats(3))
    assert found.counts["read"] == 4 * (64 + 640 + 128) + 4 * 3
    assert not found.assumed


@tl.jit
def until_small(x: tl.f32["N"], y: tl.f32["N"]) -> None:
    i = tl.grid(x.shape[0])
    value = x[i]
    while value > 1.0:
        value = value * 0.5
    tl.store(y, i, value)


def test_what_is_data_is_assumed_and_said() -> None:
    found = model(until_small, floats(100), floats(100))
    assert any("run 16 times" in text for text in found.assumed)
    assert found.counts["written"] == 400


@tl.jit
def masked(x: tl.f32["M", "N"], y: tl.f32["M"], BN: int = 1024) -> None:
    i = tl.grid(x.shape[0])
    columns = tl.arange(BN)
    tl.store(y, i, tl.sum(tl.load(x[i, :], 0, BN, mask=columns < x.shape[1] // 2), axis=0))


def test_masks_that_follow_from_numbers_are_evaluated() -> None:
    assert model(masked, floats(10, 600), floats(10)).counts["read"] == pytest.approx(10 * 4 * 300, rel=0.5)
    assert not model(masked, floats(10, 600), floats(10)).assumed


@tl.jit
def masked_parts(x: tl.f32["N"], y: tl.f32["N"], n: tl.i32, B: int = 64) -> None:
    tl.grid(1)
    for i in tl.range(0, n, B):
        tl.store(y, i, tl.load(x, i, B, mask=i + tl.arange(B) < n))


@pytest.mark.parametrize("n", [0, 1, 64, 100, 1000])
def test_masks_in_loops_are_evaluated_whether_or_not_there_are_iterations(n: int) -> None:
    found = model(masked_parts, floats(1024), floats(1024), n).counts
    assert found["read"] == pytest.approx(4 * n, rel=0.02)
    assert found["written"] == pytest.approx(min(1024, -(-n // 64) * 64) * 4)


# -- what cannot be launched


def test_too_much_shared_memory_is_refused_with_the_reason() -> None:
    found = model(matmul, *[halves(2048, 2048)] * 3, BM=256, BN=256, BK=64, stages=4, warps=8)
    assert found.seconds == math.inf
    assert "262144 bytes of shared memory" in found.bottleneck
    assert "166912" in found.bottleneck
    assert math.isfinite(model(matmul, *[halves(2048, 2048)] * 3, BM=128, BN=128, BK=64, stages=4, warps=8).seconds)


def test_what_the_compiler_refuses_is_not_known() -> None:
    engine = modelled_engine(get_target("sm_80"))
    assert engine is not None
    given = [halves(256, 256)] * 3
    found = predict(tuned, engine, (), dict(zip("abc", given, strict=True)),
                    [{"BM": 64, "warps": 64}, {"BM": 64, "warps": 4}], 10)
    assert list(found) == [1]


# -- contrasts


@pytest.mark.parametrize(("clean", "planted"), [
    ({}, {"registers": 96}), ({}, {"plain": True}), ({}, {"shift": 2}), ({"BN": 64}, {"BN": 64, "stages": 1}),
    ({}, {"BM": 16, "BN": 16}),
])
def test_planted_mistakes_are_behind_their_clean_twins(clean: dict[str, Any], planted: dict[str, Any]) -> None:
    m = n = k = 2048
    arguments = halves(m, k + 16), halves(k, n + 16), halves(m, n)
    base = {"BM": 128, "BN": 128, "warps": 4}
    seconds = [model(product, *arguments, **{**base, **extra}).seconds for extra in (clean, planted)]
    assert seconds[0] < 0.97 * seconds[1]


def test_the_busiest_resource_is_named() -> None:
    @tl.jit
    def copied(x: tl.f32["N"], y: tl.f32["N"], B: int = 4096) -> None:
        i = tl.grid(tl.cdiv(x.shape[0], B)) * B
        tl.store(y, i, tl.load(x, i, B))

    n = 1 << 26
    found = model(copied, floats(n), floats(n))
    assert "memory bandwidth" in found.bottleneck
    board = board_of("sm_80")
    assert board is not None
    assert found.seconds == pytest.approx(2 * 4 * n / (board.memory_bandwidth * board.efficiency * 1e9), rel=0.15)


def test_warps_together_are_between_the_busiest_pipe_and_one_after_another() -> None:
    for warps in range(1, 20):
        period = together(warps, [10.0, 4.0], 50.0)
        assert max(50.0, warps * 10.0) <= period <= 50.0 + (warps - 1) * 10.0
    assert together(8, [], 5.0) == 5.0


@pytest.mark.parametrize("target", ["sm_75", "sm_80", "sm_86", "sm_89", "sm_90a", "sm_100a", "sm_120a"])
def test_every_target_with_a_board_has_a_model(target: str) -> None:
    found = model(matmul, *[halves(512, 512)] * 3, target=target)
    assert 1e-6 < found.seconds < 1e-2
    assert found.bottleneck


# -- calls


tuned = tl.autotune(BM=[16, 128], warps=[4], key=("M", "N", "K"))(matmul)


def test_calls_that_nobody_has_tuned_get_the_models_guess(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TILUS_CACHE_DIR", str(tmp_path))
    default_cache.cache_clear()
    given = dict(zip("abc", [halves(4096, 4096)] * 3, strict=True))
    engine = modelled_engine(get_target("sm_80"))
    assert engine is not None
    found = predict(tuned, engine, (), given, [{"BM": 16}, {"BM": 128}], 10)
    assert found[1].seconds < found[0].seconds
    assert tuned.choose(given, "sm_80")["BM"] == 128
    default_cache.cache_clear()
