"""Mistakes that users make: each function makes one, and its golden file has the message."""

from __future__ import annotations

from typing import Any

import numpy as np

import tilus as tl

A = np.zeros((8, 8), np.float32)
V = np.zeros(8, np.float32)


def f32(*shape: int) -> Any:
    return np.zeros(shape, np.float32)


def wrong_array_dtype() -> None:
    @tl.jit
    def kernel(x: tl.f32["N"]):
        tl.grid(1)

    kernel(np.zeros(8, np.float64))


def wrong_rank() -> None:
    @tl.jit
    def kernel(x: tl.f32["M", "N"]):
        tl.grid(1)

    kernel(V)


def not_an_array() -> None:
    @tl.jit
    def kernel(x: tl.f32["N"]):
        tl.grid(1)

    kernel([1.0, 2.0])


def inconsistent_dimensions() -> None:
    @tl.jit
    def kernel(x: tl.f32["N"], y: tl.f32["N"]):
        tl.grid(1)

    kernel(f32(8), f32(9))


def wrong_dimension_expression() -> None:
    @tl.jit
    def kernel(x: tl.f32["B"], starts: tl.f32["B+1"]):
        tl.grid(1)

    kernel(f32(8), f32(8))


def wrong_constant_dimension() -> None:
    @tl.jit
    def kernel(x: tl.f32["N", 4]):
        tl.grid(1)

    kernel(f32(8, 3))


def missing_argument() -> None:
    @tl.jit
    def kernel(x: tl.f32["N"], y: tl.f32["N"]):
        tl.grid(1)

    kernel(V)


def unknown_argument() -> None:
    @tl.jit
    def kernel(x: tl.f32["N"], BLOCK: int = 64):
        tl.grid(1)

    kernel(V, BLOKC=32)


def too_many_arguments() -> None:
    @tl.jit
    def kernel(x: tl.f32["N"]):
        tl.grid(1)

    kernel(V, 3)


def overlapping_arguments() -> None:
    @tl.jit
    def kernel(x: tl.f32["N"], y: tl.f32["N"]):
        tl.grid(1)
        tl.store(y, 0, tl.load(x, 0, 8))

    data = f32(12)
    kernel(data[:8], data[4:])


def read_only_output() -> None:
    @tl.jit
    def kernel(x: tl.f32["N"]):
        tl.grid(1)
        tl.store(x, 0, tl.zeros(8))

    data = f32(8)
    data.flags.writeable = False
    kernel(data)


def scalar_out_of_range() -> None:
    @tl.jit
    def kernel(x: tl.f32["N"], n: tl.i32):
        tl.grid(1)

    kernel(V, 1 << 40)


def float_for_an_integer() -> None:
    @tl.jit
    def kernel(x: tl.f32["N"], n: tl.i32):
        tl.grid(1)

    kernel(V, 1.5)


def wrong_compile_time_type() -> None:
    @tl.jit
    def kernel(x: tl.f32["N"], BLOCK: int = 64):
        tl.grid(1)

    kernel(V, BLOCK=64.0)


def none_for_an_array() -> None:
    @tl.jit
    def kernel(x: tl.f32["N"], bias: tl.f32["N"]):
        tl.grid(1)

    kernel(V, None)


def unknown_engine() -> None:
    @tl.jit
    def kernel(x: tl.f32["N"]):
        tl.grid(1)

    kernel.on("gpu")(V)


def unknown_target() -> None:
    @tl.jit
    def kernel(x: tl.f32["N"]):
        tl.grid(1)

    kernel.compile("sm_81")


def undefined_name() -> None:
    @tl.jit
    def kernel(x: tl.f32["N"], BLOCK: int = 8):
        tl.grid(1)
        tl.store(x, 0, tl.zeros(BLOCKS))

    kernel(V)


def unknown_function() -> None:
    @tl.jit
    def kernel(x: tl.f32["N"]):
        tl.grid(1)
        tl.store(x, 0, tl.zero(8))

    kernel(V)


def unsupported_statement() -> None:
    @tl.jit
    def kernel(x: tl.f32["N"]):
        tl.grid(1)
        try:
            tl.store(x, 0, tl.zeros(8))
        except ValueError:
            pass

    kernel(V)


def run_time_shape() -> None:
    @tl.jit
    def kernel(x: tl.f32["N"]):
        (N,) = x.shape
        tl.grid(1)
        tl.store(x, 0, tl.zeros(N))

    kernel(V)


def missing_return_path() -> None:
    @tl.jit
    def kernel(x: tl.f32["N"], n: tl.i32):
        def pick(v):
            if n > 0:
                return v

        tl.grid(1)
        tl.store(x, 0, pick(tl.load(x, 0, 8)))

    kernel(V, 1)


def dot_of_wrong_types() -> None:
    @tl.jit
    def kernel(x: tl.f16["M", "N"], y: tl.f32["M", "N"]):
        tl.grid(1)
        a, b = tl.load(x, (0, 0), (8, 8)), tl.load(y, (0, 0), (8, 8))
        tl.store(y, (0, 0), tl.dot(a, b))

    kernel(A.astype(np.float16), A.copy())


def dot_of_wrong_shapes() -> None:
    @tl.jit
    def kernel(x: tl.f32["M", "N"]):
        tl.grid(1)
        a, b = tl.load(x, (0, 0), (8, 4)), tl.load(x, (0, 0), (8, 8))
        tl.store(x, (0, 0), tl.dot(a, b))

    kernel(A.copy())


def shapes_that_do_not_broadcast() -> None:
    @tl.jit
    def kernel(x: tl.f32["N"]):
        tl.grid(1)
        tl.store(x, 0, tl.load(x, 0, 8) + tl.load(x, 0, 4))

    kernel(f32(8))


def types_that_do_not_meet() -> None:
    @tl.jit
    def kernel(x: tl.i64["N"], y: tl.u64["N"]):
        tl.grid(1)
        tl.store(x, 0, tl.load(x, 0, 8) + tl.load(y, 0, 8))

    kernel(np.zeros(8, np.int64), np.zeros(8, np.uint64))


def store_of_another_type() -> None:
    @tl.jit
    def kernel(x: tl.f16["N"]):
        tl.grid(1)
        tl.store(x, 0, tl.zeros(8, tl.f32))

    kernel(V.astype(np.float16))


def wrong_rank_of_offsets() -> None:
    @tl.jit
    def kernel(x: tl.f32["M", "N"]):
        tl.grid(1)
        tl.store(x, (0, 0), tl.load(x, 0, (8, 8)))

    kernel(A.copy())


def tile_as_a_condition() -> None:
    @tl.jit
    def kernel(x: tl.f32["N"]):
        tl.grid(1)
        v = tl.load(x, 0, 8)
        if v > 0:
            tl.store(x, 0, -v)

    kernel(f32(8))


def carried_value_changes_type() -> None:
    @tl.jit
    def kernel(x: tl.f16["N"]):
        tl.grid(1)
        acc = tl.zeros(8, tl.f16)
        for i in tl.range(4):
            acc = acc + tl.load(x, i, 8).to(tl.f32)
        tl.store(x, 0, acc.to(tl.f16))

    kernel(V.astype(np.float16))


def carried_value_changes_shape() -> None:
    @tl.jit
    def kernel(x: tl.f32["N"]):
        tl.grid(1)
        acc = tl.zeros(4)
        for _ in tl.range(4):
            acc = tl.concatenate([acc, acc])
        tl.store(x, 0, acc)

    kernel(f32(8))


def assigned_in_one_branch() -> None:
    @tl.jit
    def kernel(x: tl.f32["N"], n: tl.i32):
        tl.grid(1)
        if n > 3:
            v = tl.load(x, 0, 8)
        tl.store(x, 0, v)

    kernel(f32(8), 1)


def branches_of_different_types() -> None:
    @tl.jit
    def kernel(x: tl.f32["N"], n: tl.i32):
        tl.grid(1)
        v = tl.load(x, 0, 8)
        if n > 3:
            v = v.to(tl.f16)
        tl.store(x, 0, v.to(tl.f32))

    kernel(f32(8), 1)


def no_grid() -> None:
    @tl.jit
    def kernel(x: tl.f32["N"]):
        tl.store(x, 0, tl.zeros(8))

    kernel(f32(8))


def two_grids() -> None:
    @tl.jit
    def kernel(x: tl.f32["N"]):
        tl.grid(1)
        tl.grid(2)

    kernel(f32(8))


def grid_from_data() -> None:
    @tl.jit
    def kernel(x: tl.i32["N"]):
        tl.grid(x[0])

    kernel(np.zeros(8, np.int32))


def arithmetic_on_bool() -> None:
    @tl.jit
    def kernel(x: tl.f32["N"]):
        tl.grid(1)
        v = tl.load(x, 0, 8)
        tl.store(x, 0, ((v > 0) + (v < 1)).to(tl.f32))

    kernel(f32(8))


def literal_that_does_not_fit() -> None:
    @tl.jit
    def kernel(x: tl.i8["N"]):
        tl.grid(1)
        tl.store(x, 0, tl.load(x, 0, 8) + 300)

    kernel(np.zeros(8, np.int8))


def element_of_a_tile_assigned() -> None:
    @tl.jit
    def kernel(x: tl.f32["N"]):
        tl.grid(1)
        v = tl.load(x, 0, 8)
        v[3] = 0.0
        tl.store(x, 0, v)

    kernel(f32(8))


def wrong_axis() -> None:
    @tl.jit
    def kernel(x: tl.f32["M", "N"]):
        tl.grid(1)
        tl.store(x[0, :], 0, tl.sum(tl.load(x, (0, 0), (8, 8)), axis=2))

    kernel(A.copy())


def wrong_reshape() -> None:
    @tl.jit
    def kernel(x: tl.f32["N"]):
        tl.grid(1)
        tl.store(x, 0, tl.load(x, 0, 8).reshape(3, 3)[0])

    kernel(f32(8))


def mask_of_wrong_type() -> None:
    @tl.jit
    def kernel(x: tl.f32["N"]):
        tl.grid(1)
        tl.store(x, 0, tl.zeros(8), mask=tl.arange(8))

    kernel(f32(8))


def static_assertion() -> None:
    @tl.jit
    def kernel(x: tl.f32["N"], BLOCK: int = 8):
        tl.grid(1)
        tl.static_assert(BLOCK % 16 == 0, "BLOCK is a multiple of 16")

    kernel(f32(8))


def device_assertion() -> None:
    @tl.jit
    def kernel(x: tl.f32["N"]):
        tl.grid(1)
        tl.device_assert(tl.load(x, 0, 8) > 0, "all are positive")

    kernel(f32(8))


def too_much_shared_memory() -> None:
    @tl.jit
    def kernel(x: tl.f32["N"]):
        tl.grid(1)
        s = tl.shared((256, 256), tl.f32)
        tl.store(s, (0, 0), tl.zeros((256, 256)))
        tl.sync()
        tl.store(x, 0, tl.load(s[0, :]))

    kernel.compile("sm_80")


def missing_barrier() -> None:
    @tl.jit
    def kernel(x: tl.f32["N"]):
        tl.grid(1)
        s = tl.shared((64,), tl.f32)
        tl.store(s, 0, tl.load(x, 0, 64))
        tl.store(x, 0, tl.load(s))

    kernel.on("interpret")(f32(64))


def uninitialised_shared_memory() -> None:
    @tl.jit
    def kernel(x: tl.f32["N"]):
        tl.grid(1)
        s = tl.shared((64,), tl.f32)
        tl.store(x, 0, tl.load(s))

    kernel.on("interpret")(f32(64))


def missing_wait() -> None:
    @tl.jit
    def kernel(x: tl.f32["N"]):
        tl.grid(1)
        s = tl.shared((64,), tl.f32)
        tl.copy_async(s, x, 0)
        tl.commit()
        tl.sync()
        tl.store(x, 0, tl.load(s))

    kernel.on("interpret")(f32(64))


def shared_memory_out_of_bounds() -> None:
    @tl.jit
    def kernel(x: tl.f32["N"], n: tl.i32):
        tl.grid(1)
        s = tl.shared((2, 64), tl.f32)
        tl.store(s[n], 0, tl.load(x, 0, 64))

    kernel.on("interpret")(f32(64), 2)


def blocks_that_race() -> None:
    @tl.jit
    def kernel(x: tl.f32["N"]):
        i = tl.grid(2)
        tl.store(x, 0, tl.full(8, i.to(tl.f32)))

    kernel.on("interpret")(f32(8))


def deadlock() -> None:
    @tl.jit
    def kernel(x: tl.i32["N"]):
        i = tl.grid(2)
        tl.acquire(x, i, 1)
        tl.release(x, 0, 1)

    kernel.on("interpret")(np.zeros(2, np.int32))


def unannotated_parameter() -> None:
    @tl.jit
    def kernel(x: tl.f32["N"], n):
        tl.grid(1)

    kernel(f32(8), 3)


def bad_annotation() -> None:
    @tl.jit
    def kernel(x: tl.f31["N"]):
        tl.grid(1)

    kernel(f32(8))


def bad_layout() -> None:
    @tl.jit
    def kernel(x: tl.f32["N"]):
        tl.grid(1)
        tl.view(tl.load(x, 0, 8, layout=tl.layouts.spatial(8)), layout=tl.layouts.spatial(16))

    kernel.on("interpret")(f32(8))


def layout_that_does_not_cover() -> None:
    @tl.jit
    def kernel(x: tl.f32["N"]):
        tl.grid(1)
        tl.store(x, 0, tl.load(x, 0, 64, layout=tl.layouts.spatial(32)))

    kernel.compile("sm_80")


def recursion_without_end() -> None:
    def again(v):
        return again(v) + 1

    @tl.jit
    def kernel(x: tl.f32["N"]):
        tl.grid(1)
        tl.store(x, 0, again(tl.load(x, 0, 8)))

    kernel(f32(8))


def a_view_with_a_negative_bound() -> None:
    @tl.jit
    def kernel(x: tl.f32["N"]):
        tl.grid(1)
        tl.store(x, 0, tl.load(x[-8:], 0, 8))

    kernel(f32(8))


def unhashable_constant() -> None:
    @tl.jit
    def kernel(x: tl.f32["N"], sizes: dict):
        tl.grid(1)

    kernel(f32(8), {1: 2})


