"""Mistakes about what Python means in a kernel."""

from __future__ import annotations

import numpy as np

import tilus as tl

A = np.zeros((8, 8), np.float32)
I = np.zeros(8, np.int32)
V = np.zeros(8, np.float32)


def class_statement() -> None:
    @tl.jit
    def kernel(x: tl.f32["N"]):
        tl.grid(1)
        class Box:
            pass

    kernel(V)


def with_statement() -> None:
    @tl.jit
    def kernel(x: tl.f32["N"]):
        tl.grid(1)
        with open("f"):
            tl.store(x, 0, tl.zeros(8))

    kernel(V)


def generator() -> None:
    @tl.jit
    def kernel(x: tl.f32["N"]):
        tl.grid(1)
        yield x

    kernel(V)


def global_statement() -> None:
    @tl.jit
    def kernel(x: tl.f32["N"]):
        tl.grid(1)
        global COUNT
        COUNT = 1

    kernel(V)


def del_statement() -> None:
    @tl.jit
    def kernel(x: tl.f32["N"]):
        tl.grid(1)
        v = tl.zeros(8)
        del v

    kernel(V)


def async_kernel() -> None:
    @tl.jit
    async def kernel(x: tl.f32["N"]):
        tl.grid(1)

    kernel(V)


def star_parameters() -> None:
    @tl.jit
    def kernel(*arrays: tl.f32["N"]):
        tl.grid(1)

    kernel(V)


def match_statement() -> None:
    @tl.jit
    def kernel(x: tl.f32["N"], n: tl.i32):
        tl.grid(1)
        match n:
            case 1:
                tl.store(x, 0, tl.zeros(8))

    kernel(V, 1)


def comprehension_over_run_time() -> None:
    @tl.jit
    def kernel(x: tl.f32["N"]):
        tl.grid(1)
        [tl.load(x, i, 4) for i in tl.range(x.shape[0])]

    kernel(V)


def comprehension_over_python_range_of_run_time() -> None:
    @tl.jit
    def kernel(x: tl.f32["N"]):
        tl.grid(1)
        [tl.load(x, i, 4) for i in range(x.shape[0])]

    kernel(V)


def fstring_of_run_time() -> None:
    @tl.jit
    def kernel(x: tl.f32["N"]):
        i = tl.grid(1)
        tl.static_assert(True, f"block {i}")

    kernel(V)


def raise_statement() -> None:
    @tl.jit
    def kernel(x: tl.f32["N"]):
        tl.grid(1)
        raise ValueError("no")

    kernel(V)


def import_statement() -> None:
    @tl.jit
    def kernel(x: tl.f32["N"]):
        import math

        tl.grid(1)
        x[0] = math.pi

    kernel(V)


def nonlocal_statement() -> None:
    n = 3
    @tl.jit
    def kernel(x: tl.f32["N"]):
        nonlocal n
        n = 4
        tl.grid(1)

    kernel(V)


def lambda_default() -> None:
    @tl.jit
    def kernel(x: tl.f32["N"]):
        tl.grid(1)
        f = lambda a, b=UNKNOWN: a + b  # noqa: E731
        tl.store(x, 0, f(tl.zeros(8)))

    kernel(V)


def returns_differ() -> None:
    def pick(n, v):
        if n > 2:
            return v
        return v.to(tl.f16)
    @tl.jit
    def kernel(x: tl.f32["N"], n: tl.i32):
        tl.grid(1)
        tl.store(x, 0, pick(n, tl.zeros(8)))

    kernel(V, 1)


def recursion_of_a_local_function() -> None:
    @tl.jit
    def kernel(x: tl.f32["N"]):
        tl.grid(1)
        def f(n):
            return f(n + 1)

        f(0)

    kernel(V)


def division_by_constant_zero() -> None:
    @tl.jit
    def kernel(x: tl.f32["N"], B: int = 0):
        tl.grid(8 // B)

    kernel(V)


def math_function_of_scalar() -> None:
    import math
    @tl.jit
    def kernel(x: tl.f32["N"]):
        tl.grid(1)
        x[0] = math.sqrt(x[1])

    kernel(V)


def numpy_function_of_tile() -> None:
    @tl.jit
    def kernel(x: tl.f32["N"]):
        tl.grid(1)
        tl.store(x, 0, np.exp(tl.load(x, 0, 8)))

    kernel(V)


def numpy_global_as_tile() -> None:
    @tl.jit
    def kernel(x: tl.f32["N"]):
        tl.grid(1)
        tl.store(x, 0, tl.load(x, 0, 8) + V)

    kernel(V)


def numpy_global_loaded() -> None:
    @tl.jit
    def kernel(x: tl.f32["N"]):
        tl.grid(1)
        tl.store(x, 0, tl.load(V, 0, 8))

    kernel(V)


def unknown_keyword() -> None:
    @tl.jit
    def kernel(x: tl.f32["N"]):
        tl.grid(1)
        tl.store(x, 0, tl.load(x, 0, 8, msk=True))

    kernel(V)


def unknown_method() -> None:
    @tl.jit
    def kernel(x: tl.f32["N"]):
        tl.grid(1)
        tl.store(x, 0, tl.load(x, 0, 8).tofloat())

    kernel(V)


def unknown_view_attribute() -> None:
    @tl.jit
    def kernel(x: tl.f32["N"]):
        tl.grid(x.size)

    kernel(V)


def wrong_helper_args() -> None:
    def helper(a, b):
        return a + b

    @tl.jit
    def kernel(x: tl.f32["N"]):
        tl.grid(1)
        tl.store(x, 0, helper(tl.load(x, 0, 8)))

    kernel(V)


def exception_in_helper() -> None:
    def helper(n):
        return {}[n]

    @tl.jit
    def kernel(x: tl.f32["N"], n: int = 3):
        tl.grid(1)
        tl.store(x, 0, tl.zeros(helper(n)))

    kernel(V)


def jit_of_class() -> None:
    @tl.jit
    class K:
        pass


def jit_of_lambda() -> None:
    k = tl.jit(lambda x: x)
    k(V)


def assign_attribute() -> None:
    @tl.jit
    def kernel(x: tl.f32["N"]):
        tl.grid(1)
        x.size = 3

    kernel(V)


def unpack_wrong_count() -> None:
    @tl.jit
    def kernel(x: tl.f32["N"]):
        tl.grid(1)
        M, N = x.shape

    kernel(V)


def unpack_tile() -> None:
    @tl.jit
    def kernel(x: tl.f32["N"]):
        tl.grid(1)
        a, b = tl.load(x, 0, 2)

    kernel(V)


def iterate_tile() -> None:
    @tl.jit
    def kernel(x: tl.f32["N"]):
        tl.grid(1)
        for v in tl.load(x, 0, 2):
            x[0] = v

    kernel(V)


def return_value() -> None:
    @tl.jit
    def kernel(x: tl.f32["N"]):
        tl.grid(1)
        return tl.load(x, 0, 8)

    kernel(V)


def int_of_tile() -> None:
    @tl.jit
    def kernel(x: tl.f32["N"]):
        tl.grid(1)
        v = [0.0, 1.0][x.shape[0]]
        x[0] = v

    kernel(V)


def static_assert_run_time() -> None:
    @tl.jit
    def kernel(x: tl.f32["N"]):
        tl.grid(1)
        tl.static_assert(x.shape[0] > 3)

    kernel(V)


def call_outside() -> None:
    tl.load(V, 0, 8)


def static_range_run_time() -> None:
    @tl.jit
    def kernel(x: tl.f32["N"]):
        tl.grid(1)
        for i in tl.static_range(x.shape[0]):
            x[i] = 0.0

    kernel(V)


def python_range_of_step_0() -> None:
    @tl.jit
    def kernel(x: tl.f32["N"]):
        tl.grid(1)
        for i in range(0, 8, 0):
            x[i] = 0.0

    kernel(V)


def kernel_in_kernel() -> None:
    @tl.jit
    def inner(x: tl.f32["N"]):
        i = tl.grid(1)
        tl.store(x, i, tl.zeros(8))
    @tl.jit
    def kernel(x: tl.f32["N"]):
        tl.grid(1)
        inner(x)

    kernel(V)
