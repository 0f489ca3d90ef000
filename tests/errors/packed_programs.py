"""Mistakes with packed and prepacked arrays."""

from __future__ import annotations

import numpy as np

import tilus as tl

W = tl.packed(np.zeros(64 * 64 // 2, np.uint8), tl.u4, (64, 64))


@tl.jit
def product(x: tl.f16["M", "K"], w: tl.u4["K", "N"], y: tl.f32["M", "N"], BN: int = 32):
    i = tl.grid(tl.cdiv(y.shape[1], BN))
    acc = tl.zeros((16, BN), tl.f32)
    for k in tl.range(0, x.shape[1], 64):
        acc = tl.dot(tl.load(x, (0, k), (16, 64)), tl.load(w, (k, i * BN), (64, BN)).to(tl.f16), acc)
    tl.store(y, (0, i * BN), acc)


KERNELS = [product]
del product  # it is no mistake itself


def view_of_other_bits() -> None:
    @tl.jit
    def kernel(x: tl.u8["N"], y: tl.f32["N"]):
        tl.grid(1)
        raw = tl.load(x, 0, 512, layout=tl.layouts.spatial(128).local(4))
        tl.store(y, 0, tl.view(raw, dtype=tl.u4, layout=tl.layouts.spatial(128).local(4)).to(tl.f32))

    kernel.compile("sm_80")


def prepacked_for_another_kernel() -> None:
    w = tl.prepack(W, for_=KERNELS[0], target="sm_80", BN=64)
    KERNELS[0].on("simulate:sm_80")(np.zeros((4, 64), np.float16), w, np.zeros((4, 64), np.float32))


def prepacked_and_read_anywhere() -> None:
    @tl.jit
    def kernel(w: tl.u4["K", "N"], y: tl.f32["K", "N"], at: tl.i32):
        tl.grid(1)
        tl.store(y, (0, 0), tl.load(w, (0, at), (16, 32)).to(tl.f32))

    tl.prepack(W, for_=kernel, target="sm_80")


def prepacked_in_fragments_that_do_not_fit() -> None:
    tl.prepack(W, for_=KERNELS[0], target="sm_80", BN=12)


def dot_without_a_rule() -> None:
    @tl.jit
    def kernel(a: tl.f16["M", "K"], w: tl.u4["K", "N"], y: tl.f32["M", "N"]):
        tl.grid(1)
        tl.store(y, (0, 0), tl.dot(tl.load(a, (0, 0), (16, 16)), tl.load(w, (0, 0), (16, 16))))

    kernel.compile("sm_80")
