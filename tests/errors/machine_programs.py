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
