"""Sums of products over named indices, and convolutions, which are those of windows, against NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tilus as tl

Array = Any
ENGINES = ("interpret", "cpu", "simulate:sm_80:cuda", "simulate:sm_80:ptx")
CASES = {
    "mk,kn->nm": ((5, 7), (7, 9)), "bmk,nk->bmn": ((2, 5, 7), (9, 7)), "abc,bcd->ad": ((5, 3, 7), (3, 7, 6)),
    "abc,ab->c": ((5, 3, 7), (5, 3)), "a,b->ab": ((5,), (6,)), "ab,ab->": ((5, 6), (5, 6)),
    "abc,bd->dbac": ((4, 3, 5), (3, 6)), "abij,cij->bca": ((2, 3, 4, 5), (6, 4, 5)), "a,a->": ((70,), (70,)),
    "ab,c->ac": ((3, 4), (5,)),
}


@tl.fuse
def product(x, y, indices: str):
    return tl.einsum(indices, x, y)


def numbers(seed: int, *shapes: tuple[int, ...]) -> list[Array]:
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape, np.float32) for shape in shapes]


def assert_near(found: Array, wanted: Array) -> None:
    assert found.shape == wanted.shape
    assert np.linalg.norm(found - wanted) <= 1e-6 * np.linalg.norm(wanted)


@pytest.mark.sweep
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("indices", CASES)
def test_indices(indices: str, engine: str) -> None:
    x, y = numbers(0, *CASES[indices])
    assert_near(product.on(engine)(x, y, indices=indices), np.einsum(indices, x.astype("d"), y.astype("d")))


@tl.fuse
def convolution(x, w, b, sizes: tuple, stride: int = 1, padding: int = 0, dilation: int = 1):
    x = tl.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    v = tl.windows(x, sizes, (2, 3), stride=stride, dilation=dilation)
    return tl.relu(tl.einsum("nchwij,ocij->nohw", v, w) + b[:, None, None])


@tl.fuse
def depthwise(x, w, sizes: tuple):
    return tl.einsum("nchwij,cij->nchw", tl.windows(x, sizes, (2, 3)), w)


def windows_of(x: Array, sizes: tuple[int, int], stride: int, padding: int, dilation: int) -> Array:
    x = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    reach = [dilation * (n - 1) + 1 for n in sizes]
    found = np.lib.stride_tricks.sliding_window_view(x, reach, (2, 3))
    return found[:, :, ::stride, ::stride, ::dilation, ::dilation]


@pytest.mark.sweep
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("stride", "padding", "dilation"), [(1, 0, 1), (2, 1, 1), (1, 2, 2)])
def test_convolution(stride: int, padding: int, dilation: int, engine: str) -> None:
    x, w, b = numbers(1, (2, 5, 12, 15), (7, 5, 3, 2), (7,))
    found = convolution.on(engine)(x, w, b, sizes=(3, 2), stride=stride, padding=padding, dilation=dilation)
    windows = windows_of(x.astype("d"), (3, 2), stride, padding, dilation)
    wanted = np.einsum("nchwij,ocij->nohw", windows, w.astype("d")) + b[:, None, None]
    assert_near(found, np.maximum(wanted, 0))


@pytest.mark.parametrize("engine", ENGINES)
def test_depthwise_convolution(engine: str) -> None:
    x, w = numbers(2, (2, 5, 9, 8), (5, 3, 2))
    windows = windows_of(x.astype("d"), (3, 2), 1, 0, 1)
    assert_near(depthwise.on(engine)(x, w, sizes=(3, 2)), np.einsum("nchwij,cij->nchw", windows, w.astype("d")))


def test_one_kernel() -> None:
    """Windows are read where they lie, and what is done to the sums is done in the same kernel."""
    text = convolution.explain(*numbers(0, (2, 5, 12, 15), (7, 5, 3, 2), (7,)), sizes=(3, 2), padding=1)
    assert "kernels: convolution\n" in text


@tl.fuse
def one(x, indices: str):
    return tl.einsum(indices, x)


@tl.fuse
def three(x, y, z, indices: str):
    return tl.einsum(indices, x, y, z)


@pytest.mark.sweep(keep=10)
@pytest.mark.parametrize("engine", ENGINES[:3])
@pytest.mark.parametrize("indices", ["ij->ji", "ij->", "ijk->ki", "ij", "ij,jk", "kj,ji", "ij,jk,kl->il", "ij,jk,ik->i",
                                     "ab,b,b->a", "ij,kl,jl->ik", "i,j,k->kij", "ij,jk,kl"])
def test_any_number_of_arrays(engine: str, indices: str) -> None:
    sizes = dict(zip("ijklab", (3, 5, 4, 6, 7, 2), strict=True))
    terms = indices.split("->")[0].split(",")
    operands = numbers(0, *(tuple(sizes[c] for c in term) for term in terms))
    function = {1: one, 2: product, 3: three}[len(terms)]
    wanted = np.einsum(indices, *(x.astype("d") for x in operands))
    assert_near(function.on(engine)(*operands, indices=indices), wanted)


@tl.fuse
def methods(x):
    return x.sum((0, 1), keepdims=True), x.mean(1), x.max(axis=-1, keepdims=True), x.min((0, 2)), x.mean()


def test_methods() -> None:
    (x,) = numbers(0, (3, 4, 5))
    best = x.sum((0, 1), keepdims=True), x.mean(1), x.max(axis=-1, keepdims=True), x.min((0, 2)), x.mean()
    for found, wanted in zip(methods(x), best, strict=True):
        assert_near(found, wanted)
