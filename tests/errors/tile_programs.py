"""Mistakes about tiles, types and shapes."""

from __future__ import annotations

import numpy as np

import tilus as tl

A = np.zeros((8, 8), np.float32)
I = np.zeros(8, np.int32)
V = np.zeros(8, np.float32)


def dot_of_vectors() -> None:
    @tl.jit
    def kernel(x: tl.f32["N"]):
        tl.grid(1)
        v = tl.load(x, 0, 8)
        x[0] = tl.dot(v, v)

    kernel(V)


def dot_bad_accumulator() -> None:
    @tl.jit
    def kernel(x: tl.f32["M", "N"]):
        tl.grid(1)
        v = tl.load(x, (0, 0), (8, 8))
        tl.store(x, (0, 0), tl.dot(v, v, tl.zeros((8, 8), tl.f16)))

    kernel(A)


def shift_of_float() -> None:
    @tl.jit
    def kernel(x: tl.f32["N"]):
        tl.grid(1)
        tl.store(x, 0, tl.load(x, 0, 8) << 1)

    kernel(V)


def negative_extent() -> None:
    @tl.jit
    def kernel(x: tl.f32["N"], B: int = -8):
        tl.grid(1)
        tl.store(x, 0, tl.zeros(B))

    kernel(V)


def float_index() -> None:
    @tl.jit
    def kernel(x: tl.f32["N"]):
        tl.grid(1)
        tl.store(x, 1.0, tl.zeros(8))

    kernel(V)


def float_subscript() -> None:
    @tl.jit
    def kernel(x: tl.f32["N"]):
        tl.grid(1)
        x[1.5] = 0.0

    kernel(V)


def store_of_wrong_shape() -> None:
    @tl.jit
    def kernel(x: tl.f32["M", "N"]):
        tl.grid(1)
        tl.store(x, (0, 0), tl.zeros(8))

    kernel(A)


def while_on_tile() -> None:
    @tl.jit
    def kernel(x: tl.f32["N"]):
        tl.grid(1)
        v = tl.load(x, 0, 8)
        while v > 0:
            v = v - 1

    kernel(V)


def ifexp_on_tile() -> None:
    @tl.jit
    def kernel(x: tl.f32["N"]):
        tl.grid(1)
        v = tl.load(x, 0, 8)
        tl.store(x, 0, v if v > 0 else -v)

    kernel(V)


def compare_mixed() -> None:
    @tl.jit
    def kernel(x: tl.u64["N"], y: tl.i64["N"]):
        tl.grid(1)
        tl.store(x, 0, tl.where(tl.load(x, 0, 8) < tl.load(y, 0, 8), 1, 0).to(tl.u64))

    kernel(np.zeros(8, np.uint64), np.zeros(8, np.int64))


def compare_with_string() -> None:
    @tl.jit
    def kernel(x: tl.f32["N"]):
        tl.grid(1)
        tl.store(x, 0, tl.where(tl.load(x, 0, 8) == "a", 1.0, 0.0))

    kernel(V)


def load_of_wrong_rank() -> None:
    @tl.jit
    def kernel(x: tl.f32["M", "N"]):
        tl.grid(1)
        tl.store(x, (0, 0), tl.load(x, (0, 0), 8))

    kernel(A)


def load_without_shape() -> None:
    @tl.jit
    def kernel(x: tl.f32["N"]):
        tl.grid(1)
        tl.store(x, 0, tl.load(x, 0))

    kernel(V)


def stages_negative() -> None:
    @tl.jit
    def kernel(x: tl.f32["N"]):
        tl.grid(1)
        for i in tl.range(8, stages=-1):
            x[i] = 0.0

    kernel(V)


def range_of_step_0() -> None:
    @tl.jit
    def kernel(x: tl.f32["N"]):
        tl.grid(1)
        for i in tl.range(0, 8, 0):
            x[i] = 0.0

    kernel(V)


def range_of_float() -> None:
    @tl.jit
    def kernel(x: tl.f32["N"]):
        tl.grid(1)
        for i in tl.range(8.0):
            x[i] = 0.0

    kernel(V)


def unroll_run_time() -> None:
    @tl.jit
    def kernel(x: tl.f32["N"]):
        tl.grid(1)
        for i in tl.range(x.shape[0], unroll=True):
            x[i] = 0.0

    kernel(V)


def tile_too_large() -> None:
    @tl.jit
    def kernel(x: tl.f32["N"]):
        tl.grid(1)
        tl.store(x, 0, tl.zeros(1 << 30))

    kernel(V)


def tile_index_run_time() -> None:
    @tl.jit
    def kernel(x: tl.f32["N"], n: tl.i32):
        tl.grid(1)
        v = tl.load(x, 0, 8)
        x[0] = v[n]

    kernel(V, 1)


def wrong_where() -> None:
    @tl.jit
    def kernel(x: tl.f32["N"]):
        tl.grid(1)
        v = tl.load(x, 0, 8)
        tl.store(x, 0, tl.where(v, v, 0.0))

    kernel(V)


def matmul_operator_shape() -> None:
    @tl.jit
    def kernel(x: tl.f32["M", "N"]):
        tl.grid(1)
        v = tl.load(x, (0, 0), (8, 4))
        tl.store(x, (0, 0), v @ v)

    kernel(A)


def bad_reduce_fn() -> None:
    @tl.jit
    def kernel(x: tl.f32["N"]):
        tl.grid(1)
        v = tl.load(x, 0, 8)
        x[0] = tl.reduce(v, 0, lambda a, b: (a + b).to(tl.f16))

    kernel(V)


def bad_map_fn() -> None:
    @tl.jit
    def kernel(x: tl.f32["N"]):
        tl.grid(1)
        v = tl.load(x, 0, 8)
        tl.store(x, 0, tl.map(lambda a: tl.sum(v) + a, v))

    kernel(V)


def cast_to_string() -> None:
    @tl.jit
    def kernel(x: tl.f32["N"]):
        tl.grid(1)
        tl.store(x, 0, tl.load(x, 0, 8).to("f16"))

    kernel(V)


def zeros_numpy_dtype() -> None:
    @tl.jit
    def kernel(x: tl.f32["N"]):
        tl.grid(1)
        tl.store(x, 0, tl.zeros(8, np.float32))

    kernel(V)


def bad_rounding() -> None:
    @tl.jit
    def kernel(x: tl.f32["N"]):
        tl.grid(1)
        tl.store(x, 0, tl.load(x, 0, 8).to(tl.f16, rounding="up").to(tl.f32))

    kernel(V)


def bad_view_slice_step() -> None:
    @tl.jit
    def kernel(x: tl.f32["N"]):
        tl.grid(1)
        tl.store(x, 0, tl.load(x[::2], 0, 4))

    kernel(V)


def too_many_view_indices() -> None:
    @tl.jit
    def kernel(x: tl.f32["N"]):
        tl.grid(1)
        x[0, 0] = 1.0

    kernel(V)


def transposed_permutation() -> None:
    @tl.jit
    def kernel(x: tl.f32["M", "N"]):
        tl.grid(1)
        tl.store(x, (0, 0), tl.load(x, (0, 0), (8, 8)).transpose(0, 2))

    kernel(A)


def tl_sum_list() -> None:
    @tl.jit
    def kernel(x: tl.f32["N"]):
        tl.grid(1)
        x[0] = tl.sum([1.0, 2.0])

    kernel(V)
