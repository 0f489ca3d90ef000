"""What the model of the CPU counts, against numbers worked out by hand, and which of two variants it prefers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tilus as tl
from tilus.model.cpu.call import estimate
from tilus.model.cpu.machine import estimate as usual_host
from tilus.model.cpu.predict import Estimate
from tilus.runtime.cpu.llvm import machine

VECTOR = machine().vector_bytes // 4
"""f32 in a register."""


def model(kernel: Any, *args: Any, threads: int = 2, **constants: Any) -> Estimate:
    """On a machine whose record is always the same, with this one's vectors."""
    return estimate(kernel.prepared("cpu", args, constants), usual_host(machine().vector_bytes), threads)


def floats(*shape: int) -> np.ndarray[Any, Any]:
    return np.zeros(shape, np.float32)


@tl.jit
def add_one(x: tl.f32["N"], y: tl.f32["N"], B: int = 256) -> None:
    i = tl.grid(tl.cdiv(x.shape[0], B)) * B
    tl.store(y, i, tl.load(x, i, B) + 1.0)


@tl.jit
def scaled(x: tl.f32["M", "N"], y: tl.f32["M", "N"], B: int = 32, C: int = 64) -> None:
    i, j = tl.grid(tl.cdiv(x.shape[0], B), tl.cdiv(x.shape[1], C))
    tl.store(y, (i * B, j * C), tl.load(x, (i * B, j * C), (B, C)) * 2.0)


@tl.jit
def transposed(x: tl.f32["M", "N"], y: tl.f32["N", "M"], B: int = 64) -> None:
    i, j = tl.grid(tl.cdiv(x.shape[0], B), tl.cdiv(x.shape[1], B))
    tl.store(y, (j * B, i * B), tl.load(x, (i * B, j * B), (B, B)).T)


@tl.jit
def matmul(a: tl.f32["M", "K"], b: tl.f32["K", "N"], c: tl.f32["M", "N"], BM: int = 32, BN: int = 64,
           BK: int = 16) -> None:
    i, j = tl.grid(tl.cdiv(a.shape[0], BM), tl.cdiv(b.shape[1], BN))
    acc = tl.zeros((BM, BN), tl.f32)
    for k in tl.range(0, a.shape[1], BK):
        acc = tl.dot(tl.load(a, (i * BM, k), (BM, BK)), tl.load(b, (k, j * BN), (BK, BN)), acc)
    tl.store(c, (i * BM, j * BN), acc)


@tl.jit
def sums(x: tl.f32["N"], y: tl.f32["G"], B: int = 256) -> None:
    """Blocks that cannot be divided."""
    i = tl.grid(y.shape[0])
    tl.store(y, i, tl.sum(tl.load(x, i * B, B)))


@tl.jit
def repeated(x: tl.f32["N"], y: tl.f32["M"], n: tl.i32, B: int = 256) -> None:
    """As often as a scalar says."""
    tl.grid(1)
    acc = tl.zeros((B,), tl.f32)
    for k in tl.range(0, n):
        acc = acc + tl.load(x, k * B, B)
    tl.store(y, 0, acc)


@tl.jit
def triangle(x: tl.f32["M", "N"], y: tl.f32["M"], B: int = 64) -> None:
    """Row i sums the first i + 1 tiles."""
    i = tl.grid(x.shape[0])
    acc = tl.zeros((B,), tl.f32)
    for k in tl.range(0, (i + 1) * B, B):
        acc = acc + tl.load(x, (i, k), (1, B)).reshape(B)
    tl.store(y, i, tl.sum(acc))


@tl.jit
def counted_by_data(x: tl.f32["N"], n: tl.i32["one"], y: tl.f32["M"], B: int = 256) -> None:
    tl.grid(1)
    acc = tl.zeros((B,), tl.f32)
    for k in tl.range(0, n[0]):
        acc = acc + tl.load(x, k * B, B)
    tl.store(y, 0, acc)


@tl.jit
def normalised(x: tl.f32["M", "N"], y: tl.f32["M", "N"], BM: int = 4, BN: int = 64) -> None:
    """Rows of one tile divided by their sums."""
    i = tl.grid(tl.cdiv(x.shape[0], BM)) * BM
    tile = tl.load(x, (i, 0), (BM, BN))
    tl.store(y, (i, 0), tile / tl.sum(tile, axis=1, keepdims=True))


@tl.jit
def gathered(x: tl.f32["N"], index: tl.i32["M"], y: tl.f32["M"], B: int = 256) -> None:
    i = tl.grid(tl.cdiv(y.shape[0], B)) * B
    tl.store(y, i, tl.gather(x, tl.load(index, i, B)))


class TestCounts:
    def test_blocks_bytes_and_flops_of_whole_tiles(self):
        found = model(add_one, floats(1024), floats(1024))
        assert found.counts["blocks"] == 4
        assert found.counts["flops"] == 1024
        assert (found.counts["read"], found.counts["written"]) == (4096, 4096)
        assert found.assumed == set()

    def test_of_the_last_tile_whole_vectors_count_as_far_as_the_array_goes(self):
        found = model(add_one, floats(1000), floats(1000))
        vectors = -(-232 // VECTOR)  # the others are left out
        assert found.counts["blocks"] == 4
        assert found.counts["flops"] == 768 + vectors * VECTOR

    @pytest.mark.parametrize(("m", "n", "blocks"), [(64, 128, 4), (65, 129, 9), (1, 1, 1), (100, 1000, 64)])
    def test_grids_of_two_axes(self, m: int, n: int, blocks: int):
        assert model(scaled, floats(m, n), floats(m, n)).counts["blocks"] == blocks

    def test_nothing_is_launched_for_nothing(self):
        found = model(scaled, floats(0, 64), floats(0, 64))
        assert found.counts.get("flops", 0) == 0

    def test_products_count_two_for_each_multiply_add(self):
        found = model(matmul, floats(128, 256), floats(256, 128), floats(128, 128))
        assert found.counts["flops"] == 2 * 128 * 128 * 256 + 128 * 128  # and one for what the sums are added to
        assert found.counts["written"] == 4 * 128 * 128

    def test_rows_beyond_the_array_are_not_multiplied(self):
        rows, K, N = 33, 128, 64
        found = model(matmul, floats(rows, K), floats(K, N), floats(rows, N), BM=64)
        whole = model(matmul, floats(64, K), floats(K, N), floats(64, N), BM=64)
        assert 2 * rows * K * N <= found.counts["flops"] < 0.75 * whole.counts["flops"]

    @pytest.mark.parametrize("n", [0, 1, 7])
    def test_loops_run_as_often_as_scalars_say(self, n: int):
        found = model(repeated, floats(7 * 256), floats(256), n)
        assert found.counts["flops"] == n * 256
        assert found.counts["read"] == 4 * n * 256

    @pytest.mark.parametrize("rows", [1, 2, 3, 4, 5, 8, 33])
    def test_loops_that_are_longer_in_later_blocks(self, rows: int):
        found = model(triangle, floats(rows, rows * 64), floats(rows))
        assert found.counts["read"] == 4 * 64 * rows * (rows + 1) // 2

    def test_loops_by_data_are_assumed_and_that_is_said(self):
        count = np.array([5], np.int32)
        found = model(counted_by_data, floats(4096), count, floats(256))
        assert found.counts["flops"] == 16 * 256
        assert found.assumed == {"loops whose bounds are data run 16 times"}

    def test_bytes_come_from_where_they_fit(self):
        host = usual_host(machine().vector_bytes)
        small, large = 1 << 12, int(4 * host.levels[1].capacity) // 4
        assert model(add_one, floats(small), floats(small)).counts["memory"] == 0
        found = _large(large)
        # The stores go around the caches, the loads are read once.
        assert found.counts["memory"] == pytest.approx(8 * large, rel=0.05)


def _large(n: int) -> Estimate:
    """In blocks of whose stores the ends, which some hosts write through the caches, are few."""
    return model(add_one, np.empty(n, np.float32), np.empty(n, np.float32), B=1024)


class TestOrder:
    """Planted contrasts: the first one has to be the faster one."""

    def faster(self, better: Estimate, worse: Estimate, times: float = 1.0) -> None:
        assert worse.seconds > times * better.seconds

    def test_tiles_of_one_element(self):
        x, y = floats(512, 512), floats(512, 512)
        self.faster(model(scaled, x, y, B=32, C=64), model(scaled, x, y, B=1, C=1), 5)

    def test_products_of_tiny_tiles(self):
        a, b, c = floats(256, 256), floats(256, 256), floats(256, 256)
        self.faster(model(matmul, a, b, c, BM=32, BN=64), model(matmul, a, b, c, BM=1, BN=1), 5)

    def test_columns_that_are_narrower_than_a_vector(self):
        x, y = floats(512, 512), floats(512, 512)
        self.faster(model(scaled, x, y, B=32, C=64), model(scaled, x, y, B=512, C=2), 2)

    def test_strided_accesses(self):
        x, y = floats(512, 512 * 16), floats(512, 512)
        self.faster(model(scaled, x[:, :512], y), model(scaled, x[:, ::16], y), 1.5)

    def test_one_block_on_two_cores(self):
        """It is divided, and so takes no longer than several."""
        x, y = floats(1 << 18), floats(1 << 18)
        several, one = model(add_one, x, y, B=4096), model(add_one, x, y, B=1 << 18)
        assert one.seconds < 1.1 * several.seconds

    def test_three_blocks_on_two_cores(self):
        x = floats(6 << 16)
        self.faster(model(sums, x, floats(2), B=3 << 16), model(sums, x, floats(3), B=2 << 16), 1.1)

    def test_gathers_from_more_than_the_caches_hold(self):
        index = np.zeros(1 << 16, np.int32)
        near, far = (model(gathered, np.empty(n, np.float32), index, floats(1 << 16)) for n in (1 << 10, 1 << 24))
        self.faster(near, far, 2)

    def test_more_work(self):
        for small, large in ((256, 512), (1000, 1001 * 8)):
            self.faster(model(add_one, floats(small), floats(small)), model(add_one, floats(large), floats(large)))

    def test_transposes_of_narrow_tiles(self):
        x, y = floats(1024, 1024), floats(1024, 1024)
        self.faster(model(transposed, x, y, B=64), model(transposed, x, y, B=2), 2)

    def test_few_rows_wait_for_their_sums(self):
        x, y = floats(4096, 128), floats(4096, 128)
        few, many = model(normalised, x, y, BM=2, BN=128), model(normalised, x, y, BM=32, BN=128)
        assert few.parts["waiting for results"] > 8 * many.parts["waiting for results"] > 0
        self.faster(many, few)

    def test_blocks_of_short_rows_are_taken_together(self):
        x, y = floats(4096, 64), floats(4096, 64)
        few, many = model(normalised, x, y, BM=2), model(normalised, x, y, BM=32)
        assert few.counts["blocks"] == many.counts["blocks"] == 4096 / 32
        assert few.seconds < 1.1 * many.seconds

    def test_the_bottleneck_is_named(self):
        a, b, c = floats(512, 512), floats(512, 512), floats(512, 512)
        assert model(matmul, a, b, c, BM=128).bottleneck == "vector arithmetic"
        assert _large(1 << 24).bottleneck == "memory"
