"""Mistakes on a target with several kinds of cores: what it lacks, memory that does not suffice, its engine."""

from __future__ import annotations

import os
from unittest import mock

import numpy as np

import tilus as tl

V = np.zeros(8, np.float32)


def named_instructions_on_ascend() -> None:
    @tl.jit
    def kernel(x: tl.f32["N"]):
        tl.grid(1)
        s = tl.shared(64, tl.f32)
        tl.copy_async(s, x, 0)
        tl.commit()
        tl.wait(0)

    kernel.compile("ascend910b")


def shared_memory_on_ascend() -> None:
    @tl.jit
    def kernel(x: tl.f32["N"]):
        tl.grid(1)
        s = tl.shared(64, tl.f32)
        tl.store(s, 0, tl.load(x, 0, 64))
        tl.sync()
        tl.store(x, 0, tl.load(s))

    kernel.compile("ascend910b")


def result_of_an_atomic_on_ascend() -> None:
    @tl.jit
    def kernel(x: tl.f32["N"], y: tl.f32["N"]):
        tl.grid(1)
        tl.store(y, 0, tl.atomic_add(x, tl.arange(0, 64), tl.zeros(64)))

    kernel.compile("ascend910b")


def doubles_on_ascend() -> None:
    @tl.jit
    def kernel(x: tl.f64["N"]):
        tl.grid(1)
        tl.store(x, 0, tl.load(x, 0, 64) * 2)

    kernel.compile("ascend910b")


def too_much_unified_buffer() -> None:
    @tl.jit
    def kernel(x: tl.f32["N"]):
        tl.grid(1)
        tl.store(x, 0, tl.exp(tl.load(x, 0, 65536)) * tl.load(x, 0, 65536))

    kernel.compile("ascend910b")


def bytes_without_sign_on_the_matrix_core() -> None:
    @tl.jit
    def kernel(a: tl.u8["M", "K"], b: tl.u8["K", "N"], c: tl.i32["M", "N"]):
        tl.grid(1)
        tl.store(c, (0, 0), tl.dot(tl.load(a, (0, 0), (64, 64)), tl.load(b, (0, 0), (64, 64))))

    kernel.compile("ascend910b")


def sums_beyond_the_matrix_core() -> None:
    @tl.jit
    def kernel(a: tl.f16["M", "K"], b: tl.f16["K", "N"], c: tl.f32["M", "N"]):
        tl.grid(1)
        sums = tl.zeros((512, 512))
        for k in tl.range(0, a.shape[1], 64):
            sums = tl.dot(tl.load(a, (0, k), (512, 64)), tl.load(b, (k, 0), (64, 512)), sums)
        tl.store(c, (0, 0), sums)

    kernel.compile("ascend910b")


def more_exchanges_than_flags() -> None:
    @tl.jit
    def kernel(a: tl.f16["M", "K"], b: tl.f16["K", "N"], c: tl.f32["M", "N"]):
        tl.grid(1)
        x = tl.load(a, (0, 0), (16, 16))
        for n in tl.static_range(1, 10):
            product = tl.dot(x, tl.load(b, (0, 0), (16, 16 * n)))
            tl.store(c, (16 * n, 0), tl.exp(product))

    kernel.compile("ascend910b")


def print_on_ascend() -> None:
    @tl.jit
    def kernel(x: tl.f32["N"]):
        tl.grid(1)
        tl.print(tl.load(x, 0, 8))

    kernel.compile("ascend910b")


def unknown_order_of_an_engine() -> None:
    @tl.jit
    def kernel(x: tl.f32["N"]):
        tl.grid(1)
        tl.store(x, 0, tl.zeros(8))

    kernel.on("ascend910b:backwards")(V)


def no_compiler_for_the_twin() -> None:
    from tilus.twin.compiler import find_compiler

    @tl.jit
    def kernel(x: tl.f32["N"]):
        tl.grid(1)
        tl.store(x, 0, tl.zeros(8))

    find_compiler.cache_clear()
    try:
        with mock.patch.dict(os.environ, {"CXX": ""}), mock.patch("shutil.which", return_value=None), \
                mock.patch("importlib.util.find_spec", return_value=None):
            kernel.on("ascend910b")(V)
    finally:
        find_compiler.cache_clear()
