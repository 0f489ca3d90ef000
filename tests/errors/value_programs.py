"""Mistakes about run-time values and Python's objects; each is one message on every engine that traces."""

from __future__ import annotations

import numpy as np

import tilus as tl

OUTSIDE: list[int] = []


def open_slice_of_a_tile(engine: str = "interpret") -> None:
    @tl.jit
    def kernel(x: tl.f32["N"], y: tl.f32["N"], n: tl.i32):
        tl.grid(1)
        t = tl.load(x, 0, 64)
        tl.store(y, 0, t[n:])

    kernel.on(engine)(np.zeros(64, np.float32), np.zeros(64, np.float32), 3)


def slice_of_a_tile_in_two_dimensions(engine: str = "interpret") -> None:
    @tl.jit
    def kernel(x: tl.f32["N"], y: tl.f32["N"], n: tl.i32):
        tl.grid(1)
        t = tl.load(x, 0, 64).reshape(8, 8)
        tl.store(y, 0, t[0, n:n + 4])

    kernel.on(engine)(np.zeros(64, np.float32), np.zeros(64, np.float32), 3)


def slice_of_a_tile_by_a_tile(engine: str = "interpret") -> None:
    @tl.jit
    def kernel(x: tl.f32["N"], y: tl.f32["N"], n: tl.i32):
        tl.grid(1)
        t = tl.load(x, 0, 64)
        tl.store(y, 0, t[t:4])

    kernel.on(engine)(np.zeros(64, np.float32), np.zeros(64, np.float32), 3)


def slice_of_a_tile_with_a_step(engine: str = "interpret") -> None:
    @tl.jit
    def kernel(x: tl.f32["N"], y: tl.f32["N"], n: tl.i32):
        tl.grid(1)
        t = tl.load(x, 0, 64)
        tl.store(y, 0, t[::2])

    kernel.on(engine)(np.zeros(64, np.float32), np.zeros(64, np.float32), 3)


def view_bounded_by_a_tile(engine: str = "interpret") -> None:
    @tl.jit
    def kernel(x: tl.f32["N"], y: tl.f32["N"], n: tl.i32):
        tl.grid(1)
        t = tl.load(x, 0, 64)
        tl.store(y, 0, tl.load(x[t:], 0, 4))

    kernel.on(engine)(np.zeros(64, np.float32), np.zeros(64, np.float32), 3)


def pointer_arithmetic(engine: str = "interpret") -> None:
    @tl.jit
    def kernel(x: tl.f32["N"], y: tl.f32["N"], n: tl.i32):
        tl.grid(1)
        o = tl.arange(0, 64)
        tl.store(y + o, 0, tl.load(x, 0, 64))

    kernel.on(engine)(np.zeros(64, np.float32), np.zeros(64, np.float32), 3)


def block_index_of_another_language(engine: str = "interpret") -> None:
    @tl.jit
    def kernel(x: tl.f32["N"], y: tl.f32["N"], n: tl.i32):
        tl.grid(1)
        i = tl.program_id(0)
        y[i] = 1.0

    kernel.on(engine)(np.zeros(64, np.float32), np.zeros(64, np.float32), 3)


def and_of_tiles(engine: str = "interpret") -> None:
    @tl.jit
    def kernel(x: tl.f32["N"], y: tl.f32["N"], n: tl.i32):
        tl.grid(1)
        t = tl.load(x, 0, 64)
        tl.store(y, 0, tl.where((t > 1) and (t < 5), t, 0.0))

    kernel.on(engine)(np.zeros(64, np.float32), np.zeros(64, np.float32), 3)


def chain_of_tiles(engine: str = "interpret") -> None:
    @tl.jit
    def kernel(x: tl.f32["N"], y: tl.f32["N"], n: tl.i32):
        tl.grid(1)
        t = tl.load(x, 0, 64)
        tl.store(y, 0, tl.where(1 < t < 5, t, 0.0))

    kernel.on(engine)(np.zeros(64, np.float32), np.zeros(64, np.float32), 3)


def not_of_a_tile(engine: str = "interpret") -> None:
    @tl.jit
    def kernel(x: tl.f32["N"], y: tl.f32["N"], n: tl.i32):
        tl.grid(1)
        t = tl.load(x, 0, 64)
        tl.store(y, 0, tl.where(not t > 1, t, 0.0))

    kernel.on(engine)(np.zeros(64, np.float32), np.zeros(64, np.float32), 3)


def length_of_an_array(engine: str = "interpret") -> None:
    @tl.jit
    def kernel(x: tl.f32["N"], y: tl.f32["N"], n: tl.i32):
        tl.grid(1)
        tl.store(y, 0, tl.zeros(len(x), tl.f32))

    kernel.on(engine)(np.zeros(64, np.float32), np.zeros(64, np.float32), 3)


def sum_with_a_list(engine: str = "interpret") -> None:
    @tl.jit
    def kernel(x: tl.f32["N"], y: tl.f32["N"], n: tl.i32):
        tl.grid(1)
        y[0] = x[0] + [1]

    kernel.on(engine)(np.zeros(64, np.float32), np.zeros(64, np.float32), 3)


def sum_with_none(engine: str = "interpret") -> None:
    @tl.jit
    def kernel(x: tl.f32["N"], y: tl.f32["N"], n: tl.i32):
        tl.grid(1)
        y[0] = x[0] + None

    kernel.on(engine)(np.zeros(64, np.float32), np.zeros(64, np.float32), 3)


def text_of_a_run_time_value(engine: str = "interpret") -> None:
    @tl.jit
    def kernel(x: tl.f32["N"], y: tl.f32["N"], n: tl.i32):
        tl.grid(1)
        tl.print("n = " + str(n))

    kernel.on(engine)(np.zeros(64, np.float32), np.zeros(64, np.float32), 3)


def run_time_key(engine: str = "interpret") -> None:
    @tl.jit
    def kernel(x: tl.f32["N"], y: tl.f32["N"], n: tl.i32):
        tl.grid(1)
        d = {n: 1}  # noqa: F841
        y[0] = 1.0

    kernel.on(engine)(np.zeros(64, np.float32), np.zeros(64, np.float32), 3)


def enumerated_range(engine: str = "interpret") -> None:
    @tl.jit
    def kernel(x: tl.f32["N"], y: tl.f32["N"], n: tl.i32):
        tl.grid(1)
        for i, _ in enumerate(range(n)):
            y[i] = 1.0

    kernel.on(engine)(np.zeros(64, np.float32), np.zeros(64, np.float32), 3)


def reversed_range(engine: str = "interpret") -> None:
    @tl.jit
    def kernel(x: tl.f32["N"], y: tl.f32["N"], n: tl.i32):
        tl.grid(1)
        for i in reversed(range(n)):
            y[i] = 1.0

    kernel.on(engine)(np.zeros(64, np.float32), np.zeros(64, np.float32), 3)


def numpy_reduction(engine: str = "interpret") -> None:
    @tl.jit
    def kernel(x: tl.f32["N"], y: tl.f32["N"], n: tl.i32):
        tl.grid(1)
        y[0] = np.mean(tl.load(x, 0, 64))

    kernel.on(engine)(np.zeros(64, np.float32), np.zeros(64, np.float32), 3)


def launch_value_in_the_body(engine: str = "interpret") -> None:
    @tl.jit
    def kernel(x: tl.f32["N"], y: tl.f32["N"], n: tl.i32):
        tl.grid(1)
        y[tl.resident_blocks()] = 1.0

    kernel.on(engine)(np.zeros(64, np.float32), np.zeros(64, np.float32), 3)


def converted_compile_time_number(engine: str = "interpret") -> None:
    @tl.jit
    def kernel(x: tl.f32["N"], y: tl.f32["N"], n: tl.i32):
        tl.grid(1)
        k = 3
        y[0] = (k * 2).to(tl.f32)

    kernel.on(engine)(np.zeros(64, np.float32), np.zeros(64, np.float32), 3)


def sides_of_two_types(engine: str = "interpret") -> None:
    @tl.jit
    def kernel(x: tl.f32["N"], y: tl.f32["N"], n: tl.i32):
        tl.grid(1)
        y[0] = (n > 1) and n

    kernel.on(engine)(np.zeros(64, np.float32), np.zeros(64, np.float32), 3)


def condition_of_a_comprehension(engine: str = "interpret") -> None:
    @tl.jit
    def kernel(x: tl.f32["N"], y: tl.f32["N"], n: tl.i32):
        tl.grid(1)
        y[0] = sum([k for k in (1, 2) if k < n])

    kernel.on(engine)(np.zeros(64, np.float32), np.zeros(64, np.float32), 3)


def list_that_grows_in_a_loop(engine: str = "interpret") -> None:
    @tl.jit
    def kernel(x: tl.f32["N"], y: tl.f32["N"], n: tl.i32):
        tl.grid(1)
        xs = [0]
        for i in range(n):
            xs.append(i)
        y[0] = len(xs) * 1.0

    kernel.on(engine)(np.zeros(64, np.float32), np.zeros(64, np.float32), 3)


def list_that_shrinks_in_a_branch(engine: str = "interpret") -> None:
    @tl.jit
    def kernel(x: tl.f32["N"], y: tl.f32["N"], n: tl.i32):
        tl.grid(1)
        xs = [0, 1]
        if n > 1:
            xs.pop()
        y[0] = len(xs) * 1.0

    kernel.on(engine)(np.zeros(64, np.float32), np.zeros(64, np.float32), 3)


def one_of_two_lists_changed(engine: str = "interpret") -> None:
    @tl.jit
    def kernel(x: tl.f32["N"], y: tl.f32["N"], n: tl.i32):
        tl.grid(1)
        a, b = [1.0], [2.0]
        c = a if n > 1 else b
        c[0] = 3.0
        y[0] = a[0]

    kernel.on(engine)(np.zeros(64, np.float32), np.zeros(64, np.float32), 3)


def a_list_of_the_program_changed(engine: str = "interpret") -> None:
    @tl.jit
    def kernel(x: tl.f32["N"], y: tl.f32["N"], n: tl.i32):
        tl.grid(1)
        OUTSIDE.append(1)
        y[0] = 1.0

    kernel.on(engine)(np.zeros(64, np.float32), np.zeros(64, np.float32), 3)
