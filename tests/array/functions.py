"""Fused functions and what they compute, in float64 NumPy."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

import tilus as tl

Array = Any


@tl.fuse
def mlp(x, w, b):
    return tl.gelu(x @ w + b)


def mlp_reference(x: Array, w: Array, b: Array) -> Array:
    h = x @ w + b
    return h / 2 * (1 + np.vectorize(math.erf, otypes=[np.float64])(h / math.sqrt(2)))


@tl.fuse
def softmax(x):
    z = tl.exp(x - tl.max(x, axis=1, keepdims=True))
    return z / tl.sum(z, axis=1, keepdims=True)


def softmax_reference(x: Array, axis: int = 1) -> Array:
    if not x.size:
        return x
    z = np.exp(x - x.max(axis, keepdims=True))
    return z / z.sum(axis, keepdims=True)


@tl.fuse
def rms_norm(x, weight, epsilon=1e-5):
    return x * tl.rsqrt(tl.mean(x * x, axis=1, keepdims=True) + epsilon) * weight


def rms_norm_reference(x: Array, weight: Array) -> Array:
    return x / np.sqrt((x * x).mean(1, keepdims=True) + 1e-5) * weight


@tl.fuse
def layer_norm(x, weight, bias, epsilon=1e-5):
    centred = x - tl.mean(x, axis=1, keepdims=True)
    scale = tl.rsqrt(tl.mean(centred * centred, axis=1, keepdims=True) + epsilon)
    return centred * scale * weight + bias


def layer_norm_reference(x: Array, weight: Array, bias: Array) -> Array:
    centred = x - x.mean(1, keepdims=True)
    return centred / np.sqrt((centred * centred).mean(1, keepdims=True) + 1e-5) * weight + bias


@tl.fuse
def layer_norm_with_statistics(x, weight, bias, epsilon=1e-5):
    mean = tl.mean(x, axis=1)
    centred = x - mean[:, None]
    scale = tl.rsqrt(tl.mean(centred * centred, axis=1) + epsilon)
    return centred * scale[:, None] * weight + bias, mean, scale


def layer_norm_with_statistics_reference(x: Array, weight: Array, bias: Array) -> tuple[Array, ...]:
    scale = 1 / np.sqrt(x.var(1) + 1e-5)
    return layer_norm_reference(x, weight, bias), x.mean(1), scale


@tl.fuse
def two_layers(x, w1, w2):
    return tl.relu(x @ w1) @ w2


def two_layers_reference(x: Array, w1: Array, w2: Array) -> Array:
    return np.maximum(x @ w1, 0) @ w2


@tl.fuse
def attention(q, k, v):
    p = q @ k.transpose(0, 2, 1) * 0.25
    p = tl.exp(p - tl.max(p, axis=2, keepdims=True))
    return p / tl.sum(p, axis=2, keepdims=True) @ v


def attention_reference(q: Array, k: Array, v: Array) -> Array:
    return softmax_reference(q @ k.transpose(0, 2, 1) * 0.25, 2) @ v


@tl.fuse
def column_sums(x):
    return tl.sum(x, axis=0)


@tl.fuse
def sum_of_squares(x):
    return tl.sum(x * x)


@tl.fuse
def centre_columns(x):
    return x - tl.mean(x, axis=0)


@tl.fuse
def both_ways(x):
    return x / tl.sum(x, axis=0, keepdims=True) - tl.sum(x, axis=1, keepdims=True)


@tl.fuse
def every_axis(x):
    return tl.sum(x, axis=0), tl.max(x, axis=1), tl.min(x, axis=2), tl.sum(tl.sum(x, axis=2), axis=1)


@tl.fuse
def add_transposed(x, y):
    return x + y.T


@tl.fuse
def split_outputs(x, y):
    return x + y, x - y


@tl.fuse
def product_and_more(x, w):
    y = x @ w
    return y, tl.tanh(y), tl.sum(y, axis=1)


FUNCTIONS: dict[str, tuple[Any, Any, list[tuple[tuple[int, ...], ...]], int]] = {
    "mlp": (mlp, mlp_reference, [
        ((0, 3), (3, 4), (4,)), ((3, 0), (0, 4), (4,)), ((1, 1), (1, 1), (1,)), ((1, 17), (17, 5), (5,)),
        ((127, 31), (31, 129), (129,)), ((129, 33), (33, 1), (1,)), ((128, 32), (32, 128), (128,))], 1),
    "softmax": (softmax, softmax_reference, [((0, 3),), ((7, 1),), ((7, 1023),), ((4, 1024),), ((5, 1025),),
                                             ((3, 3001),)], 1),
    "rms_norm": (rms_norm, rms_norm_reference, [((5, 70), (70,)), ((3, 1031), (1031,))], 1),
    "layer_norm": (layer_norm, layer_norm_reference, [((5, 70), (70,), (70,)), ((3, 2500), (2500,), (2500,))], 1),
    "layer_norm_with_statistics": (layer_norm_with_statistics, layer_norm_with_statistics_reference,
                                   [((5, 70), (70,), (70,))], 0),
    "two_layers": (two_layers, two_layers_reference, [((9, 17), (17, 33), (33, 5))], 2),
    "attention": (attention, attention_reference, [((3, 33, 16), (3, 41, 16), (3, 41, 8))], 1),
    "column_sums": (column_sums, lambda x: x.sum(0), [((0, 4),), ((3, 5),), ((100, 300),), ((31, 129),)], 1),
    "sum_of_squares": (sum_of_squares, lambda x: (x * x).sum(), [((0, 4),), ((7,),), ((100, 30),), ((3, 4, 5),)], 2),
    "centre_columns": (centre_columns, lambda x: x - x.mean(0), [((50, 20),), ((3000, 3),)], 1),
    "both_ways": (both_ways, lambda x: x / x.sum(0, keepdims=True) - x.sum(1, keepdims=True), [((50, 20),)], 2),
    "every_axis": (every_axis, lambda x: (x.sum(0), x.max(1), x.min(2), x.sum(2).sum(1)), [((3, 50, 20),)], 1),
    "add_transposed": (add_transposed, lambda x, y: x + y.T, [((50, 20), (20, 50))], 1),
    "split_outputs": (split_outputs, lambda x, y: (x + y, x - y), [((50, 20), (20,)), ((2, 3, 4, 5), (3, 1, 5))], 1),
    "product_and_more": (product_and_more, lambda x, w: (x @ w, np.tanh(x @ w), (x @ w).sum(1)),
                         [((50, 20), (20, 30))], 2),
}
"""The function, its reference, the shapes of its arguments, and how many kernels it is (0: not asserted)."""
