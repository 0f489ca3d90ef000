"""Mistakes about targets, synchronisation and the launch."""

from __future__ import annotations

import numpy as np

import tilus as tl

I = np.zeros(8, np.int32)
V = np.zeros(8, np.float32)


def instruction_the_target_lacks() -> None:
    @tl.jit
    def kernel(x: tl.f32["N"]):
        tl.grid(1)
        s = tl.shared(64, tl.f32)
        tl.copy_async(s, x, 0)
        tl.commit()
        tl.wait(0)
        tl.sync()
        tl.copy_async(s, x, 64)

    kernel.compile("sm_75")


def supports_of_something_else() -> None:
    @tl.jit
    def kernel(x: tl.f32["N"]):
        tl.grid(1)
        if tl.supports(np.sum):
            tl.store(x, 0, tl.zeros(8))

    kernel.compile("sm_75")


def grid_sync_without_cooperation() -> None:
    @tl.jit
    def kernel(x: tl.f32["N"]):
        tl.grid(4)
        tl.grid_sync()

    kernel(np.zeros(8, np.float32))


def blocks_that_do_not_fit() -> None:
    @tl.jit
    def kernel(x: tl.f32["N"]):
        tl.grid(x.shape[0])
        tl.block(cooperative=True)
        tl.grid_sync()

    kernel.on("simulate:sm_80")(np.zeros(100_000, np.float32))


def an_array_of_an_odd_type() -> None:
    @tl.jit
    def kernel(x: tl.u4["N"]):
        tl.grid(1)

    kernel(np.zeros(8, np.uint8))


def conflicting_layouts() -> None:
    @tl.jit
    def kernel(x: tl.f32["N"]):
        tl.grid(1)
        v = tl.load(x, 0, 128, layout=tl.layouts.spatial(128))
        w = tl.view(v, dtype=tl.i32, layout=tl.layouts.spatial(128), from_layout=tl.layouts.spatial(64).local(2))
        tl.store(x, 0, w.to(tl.f32))

    kernel.compile("sm_80")


def grid_in_a_branch() -> None:
    @tl.jit
    def kernel(x: tl.f32["N"], n: tl.i32):
        if n > 3:
            tl.grid(1)

    kernel(V, 1)


def grid_of_four() -> None:
    @tl.jit
    def kernel(x: tl.f32["N"]):
        tl.grid(1, 2, 3, 4)

    kernel(V)


def grid_of_none() -> None:
    @tl.jit
    def kernel(x: tl.f32["N"]):
        tl.grid()

    kernel(V)


def grid_of_float() -> None:
    @tl.jit
    def kernel(x: tl.f32["N"]):
        tl.grid(x.shape[0] / 4)

    kernel(V)


def warps_zero() -> None:
    @tl.jit
    def kernel(x: tl.f32["N"], warps: int = 0):
        tl.block(warps=warps)
        tl.grid(1)

    kernel(V)


def warps_64() -> None:
    @tl.jit
    def kernel(x: tl.f32["N"]):
        tl.block(warps=64)
        tl.grid(1)

    kernel(V)


def warps_float() -> None:
    @tl.jit
    def kernel(x: tl.f32["N"]):
        tl.block(warps=2.0)
        tl.grid(1)

    kernel(V)


def warps_run_time() -> None:
    @tl.jit
    def kernel(x: tl.f32["N"], n: tl.i32):
        tl.block(warps=n)
        tl.grid(1)

    kernel(V, 3)


def wait_negative() -> None:
    @tl.jit
    def kernel(x: tl.f32["N"]):
        tl.grid(1)
        tl.wait(-1)

    kernel(V)


def bad_group() -> None:
    @tl.jit
    def kernel(x: tl.f32["N"]):
        tl.grid(1)
        with tl.group(3, 4):
            tl.store(x, 0, tl.zeros(8))

    kernel(V)


def group_in_group() -> None:
    @tl.jit
    def kernel(x: tl.f32["N"]):
        tl.grid(1)
        with tl.group(0, 2):
            if x.shape[0] > 8:
                with tl.group(0, 1):
                    tl.store(x, 0, tl.zeros(8))

    kernel(V)


def group_of_no_warps() -> None:
    @tl.jit
    def kernel(x: tl.f32["N"]):
        tl.grid(1)
        with tl.group(1, 0):
            tl.store(x, 0, tl.zeros(8))

    kernel(V)


def second_group_beyond_the_block() -> None:
    @tl.jit
    def kernel(x: tl.f32["N"]):
        tl.block(warps=2)
        tl.grid(1)
        with tl.group(0, 1):
            tl.store(x, 0, tl.zeros(8))
        with tl.group(2, 1):
            tl.store(x, 8, tl.zeros(8))

    kernel(V)


def tile_leaves_group() -> None:
    @tl.jit
    def kernel(x: tl.f32["N"]):
        tl.grid(1)
        with tl.group(0, 1):
            v = tl.load(x, 0, 8)
        tl.store(x, 0, v)

    kernel(V)


def atomic_on_f16() -> None:
    @tl.jit
    def kernel(x: tl.f16["N"]):
        tl.grid(1)
        tl.atomic_max(x, tl.arange(8), tl.zeros(8, tl.f16))

    kernel(np.zeros(8, np.float16))


def atomic_bad_order() -> None:
    @tl.jit
    def kernel(x: tl.i32["N"]):
        tl.grid(1)
        tl.atomic_add(x, 0, 1, order="seq_cst")

    kernel(I)


def shared_bad() -> None:
    @tl.jit
    def kernel(x: tl.f32["N"]):
        tl.grid(1)
        tl.shared(8)

    kernel(V)


def tile_too_large_gpu() -> None:
    @tl.jit
    def kernel(x: tl.f32["N"]):
        tl.grid(1)
        tl.store(x, 0, tl.load(x, 0, 1 << 22) + 1)

    kernel.compile("sm_80")
