"""Mistakes in fused functions: each function makes one, and its golden file has the message."""

from __future__ import annotations

from typing import Any

import numpy as np

import tilus as tl


def f32(*shape: int) -> Any:
    return np.zeros(shape, np.float32)


def inner_extents_differ() -> None:
    @tl.fuse
    def product(x, w):
        return tl.relu(x @ w)

    product(f32(4, 5), f32(6, 7))


def shapes_that_do_not_broadcast() -> None:
    @tl.fuse
    def add(x, y):
        return x * 2 + y

    add(f32(4, 5), f32(4))


def constant_shapes_that_do_not_broadcast() -> None:
    @tl.fuse
    def add(x: tl.f32["M", 4], y: tl.f32["M", 5]):
        return x + y

    add(f32(4, 4), f32(4, 5))


def rank_that_is_not_annotated() -> None:
    @tl.fuse
    def twice(x: tl.f32["M", "N"]):
        return x + x

    twice(f32(8))


def named_dimensions_that_differ() -> None:
    @tl.fuse
    def add(x: tl.f32["M", "N"], y: tl.f32["N"]):
        return x + y

    add(f32(4, 5), f32(6))


def axis_out_of_range() -> None:
    @tl.fuse
    def total(x):
        return tl.sum(x, axis=2)

    total(f32(4, 5))


def a_scan() -> None:
    @tl.fuse
    def running(x):
        return tl.scan(x, 1, lambda a, b: a * 2 + b)

    running(f32(4, 5))


def an_index_that_is_a_float() -> None:
    @tl.fuse
    def rows(x, i):
        return x[i]

    rows(f32(4, 5), f32(3))


def a_grid() -> None:
    @tl.fuse
    def kernel(x):
        tl.grid(1)
        return x

    kernel(f32(4))


def a_condition_on_values() -> None:
    @tl.fuse
    def choose(x):
        if tl.sum(x) > 0:
            return x
        return -x

    choose(f32(4))


def a_run_time_loop() -> None:
    @tl.fuse
    def power(x):
        y = x
        for _ in range(3):
            y = y * x
        return y

    power(f32(4))


def a_reshape_of_elements() -> None:
    @tl.fuse
    def halves(x):
        return x.reshape(2, 8)

    halves(f32(4, 5))


def an_index_that_is_not_there() -> None:
    @tl.fuse
    def row(x):
        return x[5] * 2

    row(f32(4, 3))


def a_slice_by_elements() -> None:
    @tl.fuse
    def head(x, n):
        return x[: tl.sum(n)]

    head(f32(4), np.zeros(3, np.int32))


def windows_of_no_elements() -> None:
    @tl.fuse
    def pool(x):
        return tl.max(tl.windows(x, 0, 1), axis=2)

    pool(f32(4, 5))


def pads_of_another_rank() -> None:
    @tl.fuse
    def around(x):
        return tl.pad(x, ((1, 1), (2, 2), (3, 3)))

    around(f32(4, 5))


def a_pad_of_another_type() -> None:
    @tl.fuse
    def around(x):
        return tl.pad(x, 1, 1000)

    around(np.zeros((4, 5), np.int8))


def arrays_that_do_not_fit_together() -> None:
    @tl.fuse
    def both(x, y):
        return tl.concatenate([x, y], 1)

    both(f32(4, 5), f32(6, 5))


def einsum_of_an_unknown_index() -> None:
    @tl.fuse
    def product(x, w):
        return tl.einsum("mk,kn->mz", x, w)

    product(f32(4, 5), f32(5, 6))


def einsum_of_another_rank() -> None:
    @tl.fuse
    def product(x, w):
        return tl.einsum("bmk,kn->bmn", x, w)

    product(f32(4, 5), f32(5, 6))


def a_pad_of_a_tile() -> None:
    @tl.jit
    def around(x: tl.f32["M"], y: tl.f32["N"]):
        i = tl.grid(1)
        tl.store(y, i, tl.pad(tl.load(x, i, 4), 1))

    around(f32(4), f32(6))


def no_result() -> None:
    @tl.fuse
    def nothing(x):
        x + x

    nothing(f32(4))


def product_of_integers() -> None:
    @tl.fuse
    def product(x, y):
        return x @ y

    product(np.zeros((4, 4), np.int32), np.zeros((4, 4), np.int32))


def product_of_a_number() -> None:
    @tl.fuse
    def product(x):
        return x @ 2

    product(f32(4, 4))


def types_that_do_not_meet() -> None:
    @tl.fuse
    def add(x, y):
        return x + y

    add(np.zeros(4, np.uint64), np.zeros(4, np.int8))


def maximum_of_nothing() -> None:
    @tl.fuse
    def greatest(x):
        return tl.max(x, axis=1)

    greatest(f32(4, 0))


def an_argument_that_is_no_array() -> None:
    @tl.fuse
    def twice(x: tl.f32["N"]):
        return x + x

    twice([1.0, 2.0])


def an_unknown_argument() -> None:
    @tl.fuse
    def twice(x):
        return x + x

    twice(f32(4), y=3)


def no_array_at_all() -> None:
    @tl.fuse
    def twice(x):
        return x + x

    twice(3.0)


def out_of_another_shape() -> None:
    @tl.fuse
    def twice(x):
        return x + x

    twice(f32(4), out=f32(5))


def out_that_overlaps() -> None:
    @tl.fuse
    def twice(x):
        return x + x

    x = f32(5)
    twice(x[:4], out=x[1:])


def the_python_engine() -> None:
    @tl.fuse
    def twice(x):
        return x + x

    with tl.engine("python"):
        twice(f32(4))


def bad_tile_size() -> None:
    @tl.fuse
    def twice(x):
        return x + x

    twice(f32(4), BN=0)


def a_scatter_by_floats() -> None:
    @tl.fuse
    def add(x, i):
        return tl.scatter_add(x, i, 1.0)

    add(f32(4), f32(4))


def a_scatter_of_another_rank() -> None:
    @tl.fuse
    def add(x, i, u):
        return tl.scatter_add(x, i, u)

    add(f32(4, 5, 6), np.zeros((4, 5), np.int64), f32(4, 5))


def updates_of_another_type() -> None:
    @tl.fuse
    def add(x, i, u):
        return tl.scatter(x, i, u)

    add(np.zeros(4, np.int32), np.zeros(2, np.int64), f32(2))


def more_than_there_are() -> None:
    @tl.fuse
    def best(x):
        return tl.topk(x, 7)

    best(f32(4, 5))


def a_sort_of_a_tile() -> None:
    @tl.jit
    def ordered(x: tl.f32["M"], y: tl.f32["M"]):
        i = tl.grid(1)
        tl.store(y, i, tl.sort(tl.load(x, i, 4)))

    ordered(f32(4), f32(4))


def a_derivative_by_integers() -> None:
    @tl.fuse
    def chosen(x, i):
        return tl.sum(x[i])

    tl.grad(chosen, 1)(f32(4), np.zeros(3, np.int64))


def a_gradient_of_an_array() -> None:
    @tl.fuse
    def twice(x):
        return x * 2

    tl.grad(twice)(f32(4))


def a_derivative_of_an_integer() -> None:
    @tl.fuse
    def count(x):
        return tl.sum((x > 0).to(tl.i32))

    tl.grad(count)(f32(4))


def a_derivative_by_a_number() -> None:
    @tl.fuse
    def scaled(x, factor=2.0):
        return tl.sum(x * factor)

    tl.grad(scaled, 1)(f32(4))


def a_parameter_that_is_not_there() -> None:
    @tl.fuse
    def twice(x):
        return tl.sum(x * 2)

    tl.grad(twice, 1)


def a_cotangent_of_another_rank() -> None:
    @tl.fuse
    def twice(x):
        return x * 2

    tl.vjp(twice)(f32(4, 4), f32(4))


def a_gradient_in_a_function_that_lacks_an_argument() -> None:
    @tl.fuse
    def product(x, y):
        return tl.sum(x * y)

    @tl.fuse
    def step(x):
        return x - tl.grad(product)(x)

    step(f32(4))


def a_derivative_of_a_kernel() -> None:
    @tl.jit
    def copy(x: tl.f32["N"], y: tl.f32["N"]):
        tl.store(y, 0, tl.load(x, 0, 4))

    tl.grad(copy)


def a_convolution_of_other_channels() -> None:
    @tl.fuse
    def convolved(x: tl.f32["N", 5, "H", "W"], w: tl.f32["O", 4, 3, 3]):
        return tl.convolution(x, w, padding=1)

    convolved(f32(1, 5, 6, 6), f32(7, 4, 3, 3))


def a_convolution_of_integers() -> None:
    @tl.fuse
    def convolved(x, w):
        return tl.convolution(x, w)

    convolved(np.zeros((1, 5, 6), np.int32), np.zeros((7, 5, 3), np.int32))


def strides_of_another_rank() -> None:
    @tl.fuse
    def convolved(x, w):
        return tl.convolution(x, w, stride=(2, 2, 2))

    convolved(f32(1, 5, 6, 6), f32(7, 5, 3, 3))


def weights_of_another_rank() -> None:
    @tl.fuse
    def convolved(x, w):
        return tl.convolution(x, w)

    convolved(f32(1, 5, 6, 6), f32(7, 5, 3))


def channels_that_differ_at_the_call() -> None:
    @tl.fuse
    def convolved(x, w):
        return tl.convolution(x, w)

    convolved(f32(1, 5, 6, 6), f32(7, 4, 3, 3))


def a_part_that_is_updated() -> None:
    @tl.fuse
    def head(x):
        return x.at[:3].set(0.0)

    head(f32(4))


PROGRAMS = {name: value for name, value in vars().items()
            if callable(value) and getattr(value, "__module__", "") == __name__ and name != "f32"}
