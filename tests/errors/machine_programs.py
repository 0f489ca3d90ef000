"""Mistakes about targets, synchronisation and the launch."""

from __future__ import annotations

import numpy as np

import tilus as tl


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


def memory_of_an_odd_type() -> None:
    @tl.jit
    def kernel(x: tl.u4["N"], y: tl.f16["N"]):
        tl.grid(1)
        tl.store(y, 0, tl.load(x, 0, 8).to(tl.f16))

    kernel.compile("sm_80")


def an_array_of_an_odd_type() -> None:
    @tl.jit
    def kernel(x: tl.u4["N"]):
        tl.grid(1)

    kernel(np.zeros(8, np.uint8))
