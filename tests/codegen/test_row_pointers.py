"""Addresses of rows by PTX: one multiply-add of 32 bits for each, from the stride that is an argument."""

from __future__ import annotations

import re

import tilus as tl


@tl.jit
def product(a: tl.f16["M", "K"], b: tl.f16["N", "K"], c: tl.f16["M", "N"]) -> None:
    i, j = tl.grid(tl.cdiv(a.shape[0], 128), tl.cdiv(b.shape[0], 128))
    total = tl.zeros((128, 128), tl.f32)
    for k in tl.range(0, a.shape[1], 32, stages=3):
        total = tl.dot(tl.load(a, (i * 128, k), (128, 32)), tl.load(b, (j * 128, k), (128, 32)).T, total)
    tl.store(c, (i * 128, j * 128), total.to(tl.f16))


def test_strides_are_multiplied_in_32_bits() -> None:
    """Where rows begin anywhere there are as many addresses as copies of four bytes; LLVM would make multiples of a
    stride of 64 bits of them, in every iteration."""
    ptx = product.compile("sm_80", "ptx", assume="contiguous").ptx
    assert not re.search(r"\bm(ul|ad)\.lo\.s64", ptx)
    assert len(re.findall(r"\bmul\.wide\.s32", ptx)) > 8
