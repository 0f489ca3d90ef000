"""DFloat11: numbers of bf16 decoded bit by bit as they were, alone and in a product's loads (Zhang et al., arXiv
2504.11651).

On GPUs each thread of a block counts the codes that begin in its word of 64 bits, a scan over the block says where its
numbers go, and it decodes them again, into shared memory, from where rows of the block are written with their signs and
mantissas. On a CPU one thread goes through a block, several codes at a time.
"""

from __future__ import annotations

from typing import Any

import tilus as tl
from kernels_zoo.checking import Case, empty, normal, report, wide
from kernels_zoo.compressed.dfloat11_format import TABLE, THREADS, WINDOW, Encoded, encode

SHAPES = [(1, 1), (7, 3), (64, 100), (129, 67), (300, 256)]
PRODUCTS = [(1, 96, 128), (7, 1, 64), (5, 40, 250), (0, 5, 3), (33, 130, 100)]
TILE = (64, 128)
MOST = 64 * THREADS
"""Codes that may begin in a block of 512 words."""
SPARE = 32
"""Codes that may be decoded behind the last one that counts."""


@tl.jit
def dfloat11_decode(rest: tl.u8["L"], words: tl.u64["V"], gaps: tl.u5["W"], word_starts: tl.i64["C"],
                    positions: tl.i64["C"], tables: tl.u16["T", 256], lengths: tl.u8[256], several: tl.u64["S"],
                    y: tl.u16["L"], levels: int = 4, serial: bool | None = None, warps: int = 16) -> None:
    """y, the bits of bf16. ``levels`` is how many bytes the longest code has; ``serial`` goes through blocks code by
    code, by default on CPUs."""
    tl.block(warps=warps)
    b = tl.grid(word_starts.shape[0] - 1)
    exponents = tl.shared((MOST + SPARE,), tl.u8)
    code = (words, gaps, tables, lengths, several)
    decode_block(code, exponents, word_starts[b], word_starts[b + 1], positions[b + 1] - positions[b], levels, serial)
    begin, end = positions[b], positions[b + 1]
    step = 2048
    for at in tl.range(0, end - begin, step):
        written = tl.arange(step) + at < end - begin
        found = merged(tl.load(exponents, at, step, mask=written), tl.load(rest[begin:end], at, step))
        tl.store(y[begin:end], at, found)


@tl.jit
def dfloat11_matmul(x: tl.bf16["M", "K"], rest: tl.u8["L"], words: tl.u64["V"], gaps: tl.u5["W"],
                    word_starts: tl.i64["C"], tables: tl.u16["T", 256], lengths: tl.u8[256],
                    several: tl.u64["S"], y: tl.bf16["M", "N"] | tl.f32["M", "N"], levels: int = 4,
                    serial: bool | None = None, BM: int = 16, BN: int = 128, BK: int = 64, warps: int = 8) -> None:
    """y = x @ w of weights (K, N) that are encoded in tiles (BK, BN)."""
    M, K = x.shape
    N = y.shape[1]
    tl.block(warps=warps)
    columns = tl.cdiv(N, BN)
    i, j = tl.grid(tl.cdiv(M, BM), columns)
    exponents = tl.shared((BK * BN + SPARE,), tl.u8)
    code = (words, gaps, tables, lengths, several)
    acc = tl.zeros((BM, BN), tl.f32)
    for k in tl.range(0, tl.cdiv(K, BK)):
        b = k * columns + j
        decode_block(code, exponents, word_starts[b], word_starts[b + 1], BK * BN, levels, serial)
        bits = merged(tl.load(exponents, 0, BK * BN), tl.load(rest, b * (BK * BN), BK * BN))
        tl.sync()
        w = tl.bitcast(bits, tl.bf16).reshape(BK, BN)
        acc = tl.dot(tl.load(x, (i * BM, k * BK), (BM, BK)), w, acc)
    tl.store(y, (i * BM, j * BN), acc.to(y.dtype))


def merged(exponents: Any, rest: Any) -> Any:
    """The bits of bf16 from exponents and from signs with mantissas."""
    low = rest.to(tl.u16)
    return (low & 0x80) << 8 | exponents.to(tl.u16) << 7 | low & 0x7F


def decode_block(code: tuple[Any, ...], exponents: Any, first: Any, last: Any, count: Any, levels: int,
                 serial: bool | None) -> None:
    """Write the exponents of a block, whose words are from ``first`` to ``last``, to shared memory."""
    if tl.target() == "cpu" if serial is None else serial:
        one_by_one(code, exponents, first, count, levels)
    else:
        side_by_side(code, exponents, first, last, count, levels)
    tl.sync()


def one_by_one(code: tuple[Any, ...], exponents: Any, first: Any, count: Any, levels: int) -> None:
    """The codes of a block in their order: those that 11 bits tell at once, or one longer one."""
    words, gaps, tables, lengths, several = code
    bit = first * 64 + gaps[first].to(tl.i64)
    done = tl.full((), 0, tl.i64)
    while done < count:
        place, offset = bit // 64, (bit % 64).to(tl.u64)
        window = words[place] << offset | words[place + 1] >> 64 - offset
        if several[(window >> 64 - WINDOW).to(tl.i64)] >> 56 == 0:
            symbol = tl.sum(looked_up(tables, (window >> 32).to(tl.u32).reshape(1), levels).to(tl.i64))
            tl.store(exponents, done, symbol.to(tl.u8).reshape(1))
            done += 1
            bit += lengths[symbol].to(tl.i64)
        else:
            for _ in tl.static_range(64 // WINDOW):
                entry = several[(window >> 64 - WINDOW).to(tl.i64)]
                found, used = (entry >> 48 & 255).to(tl.i64), entry >> 56
                part = (entry >> tl.arange(8).to(tl.u64) * 8).to(tl.u8)
                tl.store(exponents, done, part, mask=tl.arange(8) < found)
                done += found
                bit += used.to(tl.i64)
                window = window << used


def side_by_side(code: tuple[Any, ...], exponents: Any, first: Any, last: Any, count: Any, levels: int) -> None:
    """512 words at a time, a thread each: count, scan, decode."""
    words, gaps, tables, lengths, several = code
    base = tl.full((), 0, tl.i64)
    for start in tl.range(first, last, THREADS):
        lane = tl.arange(THREADS) + start
        here = lane < last
        high = tl.load(words, start, THREADS, mask=here)
        low = tl.load(words, start + 1, THREADS, mask=here)
        begin = tl.where(here, tl.load(gaps, start, THREADS).to(tl.i32), 64)
        bit, mine = begin, tl.zeros((THREADS,), tl.i32)
        while tl.any(bit < 64):
            symbol = looked_up(tables, bits_at(high, low, bit), levels)
            live = bit < 64
            mine += live.to(tl.i32)
            bit += tl.where(live, tl.gather(lengths, symbol.to(tl.i64)).to(tl.i32), 0)
        place = base + (tl.cumsum(mine) - mine).to(tl.i64)
        bit = begin
        while tl.any(bit < 64):
            symbol = looked_up(tables, bits_at(high, low, bit), levels)
            live = bit < 64
            tl.scatter(exponents, place, symbol.to(tl.u8), mask=live & (place < count))
            place += live.to(tl.i64)
            bit += tl.where(live, tl.gather(lengths, symbol.to(tl.i64)).to(tl.i32), 0)
        base += tl.sum(mine).to(tl.i64)


def bits_at(high: Any, low: Any, bit: Any) -> Any:
    """The 32 bits from a bit of the first of two words on."""
    offset = bit.to(tl.u64)
    return ((high << offset | low >> 64 - offset) >> 32).to(tl.u32)


def looked_up(tables: Any, bits: Any, levels: int) -> Any:
    """The exponents whose codes 32 bits begin with, byte by byte."""
    entry = tl.gather(tables, (tl.zeros(bits.shape, tl.i64), (bits >> 24).to(tl.i64)))
    for level in tl.static_range(1, levels):
        if tl.any(entry >= TABLE):
            byte = (bits >> 24 - 8 * level & 255).to(tl.i64)
            table = tl.where(entry >= TABLE, entry.to(tl.i64) - TABLE, 0)
            entry = tl.where(entry >= TABLE, tl.gather(tables, (table, byte)), entry)
    return entry


def arguments_of(e: Encoded) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The decoder's arguments before its output, and its constants."""
    return ((e.rest, e.words, e.gaps, e.word_starts, e.positions, e.code.tables, e.code.lengths, e.code.several),
            {"levels": -(-int(e.code.lengths.max()) // 8)})


def decode(e: Encoded) -> Any:
    """The numbers of bf16, as they were."""
    import numpy as np

    y = np.empty(len(e.rest), np.uint16)
    arguments, constants = arguments_of(e)
    dfloat11_decode(*arguments, y, **constants)
    return y.view(tl.bf16.numpy).reshape(e.shape)


def multiply(x: Any, e: Encoded, y: Any, **constants: Any) -> None:
    """y = x @ w, with w encoded in tiles of (64, 128)."""
    BK, BN = e.tile or TILE
    arguments, own = arguments_of(e)
    dfloat11_matmul(x, *arguments[:4], *arguments[5:], y, **{**own, "BK": BK, "BN": BN, **constants})


def case(shape: tuple[int, ...], dtype: tl.DType = tl.bf16, seed: int = 0) -> Case:
    """Numbers as trained weights have them: normal, of scales that differ from row to row."""
    import numpy as np

    rng = np.random.default_rng(seed)
    w = (rng.standard_normal(shape) * np.exp(rng.standard_normal((shape[0], 1)))).astype(tl.bf16.numpy)
    e = encode(w)
    arguments, constants = arguments_of(e)
    y = np.zeros(w.size, np.uint16)
    return Case((*arguments, y), (y,), (wide(w.view(np.uint16).reshape(-1)),), constants)


def product_case(shape: tuple[int, ...], dtype: tl.DType = tl.bf16, seed: int = 0) -> Case:
    """``shape`` is (M, N, K)."""
    import numpy as np

    m, n, k = shape
    rng = np.random.default_rng(seed)
    w = (rng.standard_normal((k, n)) * 0.05).astype(tl.bf16.numpy)
    arguments, constants = arguments_of(encode(w, TILE))
    x, y = normal(rng, (m, k), tl.bf16), empty((m, n), tl.bf16)
    return Case((x, *arguments[:4], *arguments[5:], y), (y,), (wide(x) @ wide(w),), constants, depth=k)


def main() -> None:
    report(dfloat11_decode, SHAPES, case)
    report(dfloat11_matmul, PRODUCTS, product_case)


if __name__ == "__main__":
    main()
