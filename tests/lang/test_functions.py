"""Functions of the user: which one a lambda is, early returns, reductions that keep their rank."""

import numpy as np
import pytest

import tilus as tl

PAIR = (lambda a, b: a + b, lambda a, b: a - b)
NESTED = lambda a: (lambda b: b * 3)(a) + 1  # noqa: E731


def kernel_of(operation):
    @tl.jit
    def kernel(x: tl.i32["N"], y: tl.i32["N"]):
        tl.grid(1)
        a = tl.load(x, 0, 8)
        tl.store(y, 0, operation(a, a * 2))

    return kernel


def test_lambdas_on_one_line_are_told_apart():
    results = []
    for operation in (*PAIR, lambda a, b: NESTED(a)):

        x, y = np.arange(8, dtype=np.int32), np.zeros(8, np.int32)
        kernel_of(operation).on("interpret")(x, y)
        results.append(y)
    np.testing.assert_array_equal(results, [x * 3, -x, x * 3 + 1])


def early(a, n):
    if n > 2:
        if n > 4:
            return a + 1
        a = a * 2
    else:
        return a + 3
    return a


def from_a_loop(a, n):
    for i in range(n):
        if i == 3:
            return a
        a = a * 2 + 1
    return a


@pytest.mark.parametrize("function", [early, from_a_loop], ids=lambda f: f.__name__)
@pytest.mark.parametrize("n", [0, 2, 3, 4, 5, 9])
def test_values_returned_early(function, n):
    @tl.jit
    def kernel(x: tl.i32["N"], y: tl.i32["N"], n: tl.i32):
        tl.grid(1)
        tl.store(y, 0, function(tl.load(x, 0, 8), n))

    x, y = np.arange(8, dtype=np.int32), np.zeros(8, np.int32)
    kernel.on("interpret")(x, y, n)
    np.testing.assert_array_equal(y, function(x, n))


def test_argmax_of_all_axes_keeps_the_rank():
    @tl.jit
    def kernel(x: tl.f32["M", "N"], y: tl.i64["A", "B"]):
        tl.grid(1)
        tl.store(y, (0, 0), tl.argmax(tl.load(x, (0, 0), (4, 8)), keepdims=True))

    x, y = np.random.default_rng(0).random((4, 8)).astype(np.float32), np.zeros((1, 1), np.int64)
    kernel.on("interpret")(x, y)
    assert y[0, 0] == x.argmax()
