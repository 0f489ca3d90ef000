"""Atomics on rows of arrays: a launch that has them alone changes vectors, with the results of single elements."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tilus as tl
from tests.cpu.test_atomics import TYPES, Array, numbers, with_threads

CASES = [(kind, dtype) for kind, dtypes in TYPES.items() for dtype in dtypes]


@tl.jit
def rows(dtype: tl.DType, x: dtype["T", "D"], at: tl.i32["T"], a: dtype["V", "D"], old: dtype["T", "D"], kind: str,
         mask: str, keep: bool, way: str, BT: int = 5, BD: int = 24) -> None:
    """Row t of x goes to row at[t] of a; several to one, and some to none."""
    j, i = tl.grid(tl.cdiv(x.shape[1], BD), tl.cdiv(x.shape[0], BT))
    view = a[1:, :] if way == "view" else a
    row = tl.load(at, i * BT, BT, other=-1)[:, None]
    column = (j * BD - 3 * (way == "before") + tl.arange(BD, dtype=tl.i32))[None, :]
    v = tl.load(x, (i * BT, j * BD), (BT, BD))
    masks = {"": None, "rows": row >= 0, "elements": (row + column) % 3 != 0}
    if kind == "cas":
        found = tl.atomic_cas(view, (row, column), v * 0, v, mask=masks[mask])
    else:
        found = getattr(tl, "atomic_" + kind)(view, (row, column), v, mask=masks[mask])
    if keep:
        tl.store(old, (i * BT, j * BD), found)


def result(engine: str, kind: str, dtype: str, turned: bool = False, **options: Any) -> list[Array]:
    x, a = numbers(dtype, 17 * 37).reshape(17, 37), numbers(dtype, 9 * 37).reshape(9, 37) % 2
    if turned:
        x, a = np.asfortranarray(x), np.asfortranarray(a)
    at, old = np.random.default_rng(2).integers(-1, 10, 17).astype(np.int32), np.zeros_like(x)
    rows.on(engine)(getattr(tl, dtype), x, at, a, old, kind, **options)
    return [a, old]


def check(kind: str, dtype: str, **options: Any) -> None:
    for got, wanted in zip(*(result(e, kind, dtype, **options) for e in ("cpu", "interpret")), strict=True):
        np.testing.assert_array_equal(got, wanted)


@with_threads(1)  # blocks in order, as the interpreter has them
@pytest.mark.sweep(keep=8)
@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("mask", ["", "rows", "elements"])
@pytest.mark.parametrize(("kind", "dtype"), CASES)
def test_kinds_and_types(kind: str, dtype: str, mask: str, keep: bool, threads: int) -> None:
    check(kind, dtype, mask=mask, keep=keep, way="whole")


@with_threads(1)
@pytest.mark.parametrize("way", ["view", "before"])
@pytest.mark.parametrize("turned", [False, True])
def test_views_and_strides(way: str, turned: bool, threads: int) -> None:
    for mask in ("", "rows"):
        check("add", "f32", mask=mask, keep=True, way=way, turned=turned)


@with_threads(2)
@pytest.mark.parametrize("dtype", ["f32", "i32"])
def test_several_threads(dtype: str, threads: int) -> None:
    """Sums of small integers, in whatever order."""
    got, wanted = (result(e, "add", dtype, mask="rows", keep=False, way="whole")[0] for e in ("cpu", "interpret"))
    np.testing.assert_array_equal(got, wanted)
