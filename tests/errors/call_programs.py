"""Mistakes in calls."""

from __future__ import annotations

import numpy as np

import tilus as tl

A = np.zeros((8, 8), np.float32)
I = np.zeros(8, np.int32)
V = np.zeros(8, np.float32)


def complex_array() -> None:
    @tl.jit
    def kernel(x: tl.f32["N"]):
        tl.grid(1)

    kernel(np.zeros(8, np.complex64))


def object_array() -> None:
    @tl.jit
    def kernel(x: tl.f32["N"]):
        tl.grid(1)

    kernel(np.zeros(8, object))


def big_endian_array() -> None:
    @tl.jit
    def kernel(x: tl.f32["N"]):
        tl.grid(1)

    kernel(np.zeros(8, ">f4"))


def misaligned_array() -> None:
    @tl.jit
    def kernel(x: tl.f32["N"]):
        tl.grid(1)
        tl.store(x, 0, tl.zeros(8))

    raw = np.zeros(33, np.uint8)
    kernel(raw[1:].view(np.float32))


def odd_strides() -> None:
    @tl.jit
    def kernel(x: tl.f32["N"]):
        tl.grid(1)
        tl.store(x, 0, tl.zeros(8))

    d = np.zeros(4, [("a", "f4"), ("b", "u1")])
    kernel(d["a"])


def array_for_constant() -> None:
    @tl.jit
    def kernel(x: tl.f32["N"], B: int = 8):
        tl.grid(1)

    kernel(V, V)


def array_for_scalar() -> None:
    @tl.jit
    def kernel(x: tl.f32["N"], n: tl.i32):
        tl.grid(1)

    kernel(V, V)


def string_for_scalar() -> None:
    @tl.jit
    def kernel(x: tl.f32["N"], n: tl.f32):
        tl.grid(1)

    kernel(V, "3")


def argument_twice() -> None:
    @tl.jit
    def kernel(x: tl.f32["N"]):
        tl.grid(1)

    kernel(V, x=V)


def simulator_of_an_unknown_target() -> None:
    @tl.jit
    def kernel(x: tl.f32["N"]):
        tl.grid(1)

    kernel.on("simulate:sm_81")(V)


def simulator_of_an_unknown_route() -> None:
    @tl.jit
    def kernel(x: tl.f32["N"]):
        tl.grid(1)

    kernel.on("simulate:sm_80:llvm")(V)


def unknown_engine_in_a_with() -> None:
    with tl.engine("interpet"):
        pass


def unknown_route() -> None:
    @tl.jit
    def kernel(x: tl.f32["N"]):
        tl.grid(1)

    kernel.compile("sm_80", via="llvm")


def cubin_for_the_cpu() -> None:
    @tl.jit
    def kernel(x: tl.f32["N"]):
        tl.grid(1)

    kernel.compile("cpu").stage("cubin")


def unknown_constant_of_compile() -> None:
    @tl.jit
    def kernel(x: tl.f32["N"], B: int = 3):
        tl.grid(1)

    kernel.compile("sm_80", BB=3)
