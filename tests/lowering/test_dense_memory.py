"""Elements that lie in memory without regard to bytes, on GPUs: loads, stores, copies, gathers and shared memory."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

import tilus as tl
from tilus.runtime.nvidia.launch_facts import facts_in
from tilus.simulator import launch

TYPES = (tl.u1, tl.i2, tl.u3, tl.u4, tl.i5, tl.u6, tl.u7, tl.integer(12, signed=False), tl.integer(24))
ANY = tl.u1["K", "N"]
for _dtype in TYPES[1:]:
    ANY = ANY | _dtype["K", "N"]
BK, BN = 8, 32


@tl.jit
def converted(w: ANY, y: tl.i32["K", "N"]):
    tl.block(raster=0, warps=1)
    i, j = tl.grid(tl.cdiv(w.shape[0], BK), tl.cdiv(w.shape[1], BN))
    tl.store(y, (i * BK, j * BN), tl.load(w, (i * BK, j * BN), (BK, BN)).to(tl.i32))


@tl.jit
def copied(w: ANY, y: ANY):
    tl.block(raster=0, warps=1)
    i, j = tl.grid(tl.cdiv(w.shape[0], BK), tl.cdiv(w.shape[1], BN))
    tl.store(y, (i * BK, j * BN), tl.load(w, (i * BK, j * BN), (BK, BN)))


@tl.jit
def masked(w: ANY, y: ANY):
    """Where neither index is a multiple of 3, else 1."""
    tl.block(raster=0, warps=1)
    i, j = tl.grid(tl.cdiv(w.shape[0], BK), tl.cdiv(w.shape[1], BN))
    rows, columns = i * BK + tl.iota((BK, BN), 0), j * BN + tl.iota((BK, BN), 1)
    t = tl.load(w, (i * BK, j * BN), (BK, BN), mask=rows % 3 != 0, other=tl.scalar(1, tl.i32).to(w.dtype))
    tl.store(y, (i * BK, j * BN), t, mask=columns % 3 != 0)


@tl.jit
def staged(w: ANY, y: tl.i32["K", "N"]):
    tl.block(raster=0, warps=1)
    i, j = tl.grid(tl.cdiv(w.shape[0], BK), tl.cdiv(w.shape[1], BN))
    s = tl.shared((BK, BN), w.dtype)
    tl.copy_async(s, w, (i * BK, j * BN))
    tl.commit()
    tl.wait(0)
    tl.sync()
    tl.store(y, (i * BK, j * BN), tl.load(s, (0, 0), (BK, BN)).to(tl.i32))


@tl.jit
def through_shared(w: ANY, y: ANY):
    tl.block(raster=0, warps=1)
    i, j = tl.grid(tl.cdiv(w.shape[0], BK), tl.cdiv(w.shape[1], BN))
    s = tl.shared((BK, BN), w.dtype)
    tl.store(s, (0, 0), tl.load(w, (i * BK, j * BN), (BK, BN)))
    tl.sync()
    tl.store(y, (i * BK, j * BN), tl.load(s, (0, 0), (BK, BN)))


@tl.jit
def gathered(w: ANY, y: tl.i32["K", "N"]):
    """Rows in reverse."""
    tl.block(raster=0, warps=1)
    i, j = tl.grid(tl.cdiv(w.shape[0], BK), tl.cdiv(w.shape[1], BN))
    rows, columns = i * BK + tl.iota((BK, BN), 0), j * BN + tl.iota((BK, BN), 1)
    tl.store(y, (i * BK, j * BN), tl.gather(w, (w.shape[0] - 1 - rows, columns)).to(tl.i32))


@tl.jit
def scattered(w: ANY, y: ANY):
    """Rows in reverse."""
    tl.block(raster=0, warps=1)
    i, j = tl.grid(tl.cdiv(w.shape[0], BK), tl.cdiv(w.shape[1], BN))
    rows, columns = i * BK + tl.iota((BK, BN), 0), j * BN + tl.iota((BK, BN), 1)
    tl.scatter(y, (w.shape[0] - 1 - rows, columns), tl.load(w, (i * BK, j * BN), (BK, BN)))


def dense(codes: Any, bits: int) -> Any:
    """Codes as bytes, in whole words."""
    each = (codes.reshape(-1, 1) >> np.arange(bits, dtype=np.uint64)) & np.uint64(1)
    found = np.packbits(each.astype(np.uint8).reshape(-1), bitorder="little")
    return np.concatenate([found, np.zeros(-len(found) % 4, np.uint8)])


def codes_of(found: Any, bits: int, count: int) -> Any:
    each = np.unpackbits(found, bitorder="little")[: count * bits].reshape(count, bits).astype(np.uint64)
    return (each << np.arange(bits, dtype=np.uint64)).sum(axis=1).astype(np.uint64)


def run(kernel: Any, via: str, dtype: tl.DType, assume: str, shape: tuple[int, int], w: Any, y: Any) -> None:
    types = {n: dtype for n in ("w", "y") if n == "w" or y.dtype == np.uint8}
    compiled = kernel.compile("sm_80", assume=assume, via=via, **types)
    facts = facts_in(compiled.metadata)[kernel.__name__]
    arrays, strides = {"w": w, "y": y}, (shape[1], 1)
    arguments: list[Any] = []
    for name, _ in facts.arguments:
        match = re.fullmatch(r"(\w+)(?:\.(shape|strides)\[(\d)\])?", name)
        assert match is not None
        arguments.append((shape if match[2] == "shape" else strides)[int(match[3])] if match[2] else arrays[match[1]])
    grid = (-(-shape[0] // BK), -(-shape[1] // BN), 1)
    launch(compiled.ptx, kernel.__name__, grid, (facts.threads, 1, 1), arguments, target=80,
           shared_bytes=facts.dynamic_shared_bytes)


@pytest.mark.sweep(keep=3)
@pytest.mark.parametrize(("assume", "shape"), [("divisible", (16, 64)), ("strided", (13, 61))])
@pytest.mark.parametrize("via", ["ptx", "cuda"])
@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_memory(dtype: tl.DType, via: str, assume: str, shape: tuple[int, int]) -> None:
    rng, count, bits = np.random.default_rng(0), shape[0] * shape[1], dtype.bits
    codes = rng.integers(0, 1 << bits, count, dtype=np.uint64)
    signed = codes.astype(np.int64)
    if dtype.kind == "int":
        signed = np.where(signed >> (bits - 1), signed - (1 << bits), signed)
    w, numbers, table = dense(codes, bits), signed.reshape(shape), codes.reshape(shape)
    for kernel, wanted in ((converted, numbers), (staged, numbers), (gathered, numbers[::-1])):
        y = np.full(shape, -99, np.int32)
        run(kernel, via, dtype, assume, shape, w, y)
        np.testing.assert_array_equal(y, wanted, kernel.__name__)
    rows, columns = np.arange(shape[0])[:, None] % 3 != 0, np.arange(shape[1])[None] % 3 != 0
    for kernel, wanted in ((copied, table), (through_shared, table), (scattered, table[::-1]),
                           (masked, np.where(rows, table, np.uint64(1)))):
        before = rng.integers(0, 256, len(w)).astype(np.uint8)
        y = before.copy()
        run(kernel, via, dtype, assume, shape, w, y)
        if kernel is masked:
            wanted = np.where(columns, wanted, codes_of(before, bits, count).reshape(shape))
        np.testing.assert_array_equal(codes_of(y, bits, count).reshape(shape), wanted, kernel.__name__)
        after = slice(count * bits, None)
        np.testing.assert_array_equal(np.unpackbits(y, bitorder="little")[after],
                                      np.unpackbits(before, bitorder="little")[after])
