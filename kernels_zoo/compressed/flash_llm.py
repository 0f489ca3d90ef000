"""Flash-LLM: sparse weights are read as words of a value and its place, and multiplied as dense tiles (Xia et al.,
arXiv 2309.10285).

A (M, K) is cut into tiles of 128 × 64, row by row. A word of 32 bits is the f16 value in the lower half, and
``row 64 + (column xor (row mod 8) 8)`` in the upper: the place in a tile of shared memory that is read without
conflicts. On GPUs a block zeroes such a tile, scatters its words and multiplies it on tensor cores, with two tiles in
turn: while one is multiplied, words of the next are on their way to registers and the other tile is zeroed. Blocks
share the sum over K where there are few (split-K). On CPUs each word is multiplied with its row of B as it is read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import tilus as tl
from kernels_zoo.checking import Array, Case, empty, normal, report, wide

ROWS, COLUMNS = 128, 64
MULTIPLE = 4
"""Words of a tile are filled up to a multiple of so many."""
LAST = COLUMNS // MULTIPLE
"""The turn of what is left when the fours of a row have been."""
PIECE = 32
"""Words that a CPU looks at at once, whether their fours are of one row each."""
AHEAD = 2048
"""Words of a tile that are read while another one is multiplied: all of them, where less than a quarter is kept."""
SHAPES = [(128, 8, 64), (256, 1, 64), (100, 40, 250), (1, 7, 3), (0, 5, 64), (300, 16, 130)]


@dataclass(frozen=True)
class Sparse:
    """A sparse matrix (M, K) in the format.

    Attributes:
        words: u32 (n,).
        starts: i32 (tiles + 1,): the first word of each tile, tiles row by row.
        shape: (M, K).
    """

    words: Array
    starts: Array
    shape: tuple[int, int]

    @property
    def nbytes(self) -> int:
        return int(self.words.nbytes + self.starts.nbytes)


@tl.jit
def flash_llm_matmul(words: tl.u32["W"], starts: tl.i32["T"], b: tl.f16["K", "N"],
                     y: tl.f16["M", "N"] | tl.f32["M", "N"], direct: bool | None = None, BN: int = 8,
                     chunk: int = 0, warps: int = 4) -> None:
    """y = A @ b. ``direct`` multiplies word by word, by default on CPUs. ``chunk`` words are on their way at a time."""
    across = tiles_of_a_row(starts, b, y)
    tl.block(warps=warps)
    i, j = tl.grid(tl.cdiv(y.shape[0], ROWS), tl.cdiv(y.shape[1], BN))
    if tl.target() == "cpu" if direct is None else direct:
        acc = word_by_word(words, starts, b, i * across, across, j * BN, BN, chunk or 128)
    else:
        acc = as_dense(words, starts, b, i * across, (0, across), j * BN, BN, chunk or AHEAD)
    tl.store(y, (i * ROWS, j * BN), acc.to(y.dtype))


@tl.jit
def flash_llm_split_k(words: tl.u32["W"], starts: tl.i32["T"], b: tl.f16["K", "N"],
                      y: tl.f16["M", "N"] | tl.f32["M", "N"], splits: tl.i32 = 4, BN: int = 8, chunk: int = 0,
                      warps: int = 4) -> None:
    """The same: ``splits`` blocks share the sum over K of a tile of y, and add up one after another."""
    across = tiles_of_a_row(starts, b, y)
    tl.block(warps=warps)
    rows, columns = tl.cdiv(y.shape[0], ROWS), tl.cdiv(y.shape[1], BN)
    i, j, s = tl.grid(rows, columns, splits)
    tl.device_assert(splits > 0, "splits is positive")
    tl.assume(splits > 0)
    partial = tl.workspace(y.shape, tl.f32)
    turn = tl.workspace((rows, columns), tl.i32, zero=True)
    each = tl.cdiv(across, splits)
    first, at = tl.minimum(s * each, across), (i * ROWS, j * BN)
    acc = as_dense(words, starts, b, i * across, (first, tl.minimum(first + each, across)), j * BN, BN, chunk or AHEAD)
    tl.acquire(turn, (i, j), s)
    if s > 0:
        acc += tl.load(partial, at, (ROWS, BN))
    if s == splits - 1:
        tl.store(y, at, acc.to(y.dtype))
    else:
        tl.store(partial, at, acc)
    tl.release(turn, (i, j), s + 1)


def tiles_of_a_row(starts: Any, b: Any, y: Any) -> Any:
    """How many tiles there are along K."""
    across = tl.cdiv(b.shape[0], COLUMNS)
    tl.device_assert(starts.shape[0] == tl.cdiv(y.shape[0], ROWS) * across + 1,
                     "there are other than the tiles of (M, K)")
    return across


def as_dense(words: Any, starts: Any, b: Any, row: Any, span: tuple[Any, Any], column: Any, BN: int, chunk: int) -> Any:
    """The sum over a span of the tiles of a row, which begins with tile ``row``."""
    first, last = span
    tiles = tl.shared((2, ROWS, COLUMNS), tl.f16)
    acc = tl.zeros((ROWS, BN), tl.f32)
    tl.store(tiles[0, :, :], (0, 0), tl.zeros((ROWS, COLUMNS), tl.f16))
    end = starts[row + first].to(tl.i64)
    begin, end = end, tl.where(first < last, starts[row + first + 1].to(tl.i64), end)
    ahead = tl.load(words, begin, chunk, mask=tl.arange(chunk) + begin < end)
    for k in tl.range(first, last):
        turn = (k - first) % 2
        tile = tiles[turn, :, :]
        right = tl.load(b, (k * COLUMNS, column), (COLUMNS, BN))
        tl.sync()
        scatter(tile, ahead, begin, end)
        for at in tl.range(begin + chunk, end, chunk):
            scatter(tile, tl.load(words, at, chunk, mask=tl.arange(chunk) + at < end), at, end)
        begin, end = end, tl.where(k + 1 < last, starts[row + k + 2].to(tl.i64), end)
        ahead = tl.load(words, begin, chunk, mask=tl.arange(chunk) + begin < end)
        tl.sync()
        tl.store(tiles[1 - turn, :, :], (0, 0), tl.zeros((ROWS, COLUMNS), tl.f16))
        acc = tl.dot(tl.load(tile, (0, 0), (ROWS, COLUMNS)), right, acc)
    return acc


def scatter(tile: Any, word: Any, at: Any, end: Any) -> None:
    """Put words from number ``at`` on, those before ``end``, in their places."""
    row, place, value = parts_of(word)
    tl.scatter(tile, (row.to(tl.i64), place.to(tl.i64)), value, mask=tl.arange(word.shape[0]) + at < end)


def word_by_word(words: Any, starts: Any, b: Any, first: Any, across: Any, column: Any, BN: int, chunk: int) -> Any:
    """The same, of which each word adds its value times a row of b. Words are taken apart by vectors."""
    sums, factors = tl.shared((ROWS * BN,), tl.f32), tl.shared((COLUMNS * BN,), tl.f32)
    rows, columns, values = (tl.shared((chunk,), t) for t in (tl.u16, tl.u16, tl.f32))
    tl.static_assert(chunk % PIECE == 0, "chunks are whole pieces")
    tl.static_assert(ROWS * BN <= 1 << 16, "the places of sums are numbers of 16 bits: BN is at most 512")
    tl.store(sums, 0, tl.zeros((ROWS * BN,), tl.f32))
    for k in tl.range(0, across):
        begin, end = starts[first + k].to(tl.i64), starts[first + k + 1].to(tl.i64)
        tl.sync()
        right = tl.load(b, (k * COLUMNS, column), (COLUMNS, BN)).to(tl.f32)
        tl.store(factors, 0, right.reshape(COLUMNS * BN))
        for at in tl.range(begin, end, chunk):
            tl.sync()
            row, place, value = parts_of(tl.load(words, at, chunk))
            tl.store(rows, 0, (row * BN).to(tl.u16))
            tl.store(columns, 0, (place * BN).to(tl.u16))
            tl.store(values, 0, value.to(tl.f32))
            tl.sync()
            count = tl.minimum(end - at, chunk)
            whole = count // PIECE * PIECE
            for top in tl.range(0, whole, PIECE):
                tl.sync()
                if fours_of_rows(words, at + top):
                    for n in tl.range(top, top + PIECE, MULTIPLE):
                        tl.sync()
                        add_products(sums, factors, rows, columns, values, n, MULTIPLE, BN)
                else:
                    for n in tl.range(top, top + PIECE):
                        tl.sync()
                        add_products(sums, factors, rows, columns, values, n, 1, BN)
            for n in tl.range(whole, count):
                tl.sync()
                add_products(sums, factors, rows, columns, values, n, 1, BN)
    tl.sync()
    return tl.load(sums, 0, ROWS * BN).reshape(ROWS, BN)


def fours_of_rows(words: Any, at: Any) -> Any:
    """Whether each four of the words of a piece are of one row."""
    word, following = tl.load(words, at, PIECE), tl.load(words, at + 1, PIECE)
    within = tl.arange(PIECE) % MULTIPLE != MULTIPLE - 1
    return tl.max(tl.where(within, (word ^ following) >> 16, 0)) < COLUMNS


def add_products(sums: Any, factors: Any, rows: Any, columns: Any, values: Any, n: Any, count: int, BN: int) -> None:
    """Add the products of some words of one row to its sums."""
    row = rows[n].to(tl.i64)
    tl.assume(row <= (ROWS - 1) * BN)
    total = tl.load(sums, row, BN)
    for m in tl.static_range(count):
        place = columns[n + m].to(tl.i64)
        tl.assume(place <= (COLUMNS - 1) * BN)
        total += values[n + m] * tl.load(factors, place, BN)
    tl.sync()
    tl.store(sums, row, total)


def parts_of(word: Any) -> tuple[Any, Any, Any]:
    """Row, column and value of words."""
    place = word >> 16
    row = place // COLUMNS % ROWS  # which the compiler knows to be within a tile
    column = place % COLUMNS ^ row % 8 * 8
    return row, column, tl.bitcast(word.to(tl.u16), tl.f16)


def encode(a: Array) -> Sparse:
    """The numbers other than 0 of f16 (M, K). In a tile fours of one row come first, which a CPU adds up at once, those
    of other rows between two of one; then what is left of the rows."""
    import numpy as np

    M, K = a.shape
    down, across = -(-M // ROWS), -(-K // COLUMNS)
    filled = np.zeros((down * ROWS, across * COLUMNS), np.float16)
    filled[:M, :K] = a
    bits = filled.view(np.uint16).reshape(down, ROWS, across, COLUMNS).transpose(0, 2, 1, 3)
    bits = bits.reshape(down * across, ROWS, COLUMNS)
    used = bits != 0
    in_row = used.sum(axis=2, keepdims=True)
    rank = np.cumsum(used, axis=2) - 1
    turn = np.where(rank < in_row // MULTIPLE * MULTIPLE, rank // MULTIPLE, LAST).astype(np.uint8)
    counts = in_row.sum(axis=(1, 2))
    short = -counts % MULTIPLE
    if short.any():  # zeros at places of their own, which come last
        flat = used.reshape(down * across, ROWS * COLUMNS)
        extra = (~flat & (np.cumsum(~flat, axis=1) <= short[:, None])).reshape(used.shape)
        used, turn = used | extra, np.where(extra, np.uint8(LAST + 1), turn)
    tile, row, column = np.nonzero(used)
    order = np.lexsort((turn[tile, row, column], tile))  # stable: row by row
    tile, row, column = tile[order], row[order], column[order]
    place = (row * COLUMNS + (column ^ row % 8 * 8)).astype(np.uint32) << np.uint32(16)
    starts = np.concatenate([[0], np.cumsum(counts + short)])
    return Sparse(place | bits[tile, row, column], starts.astype(np.int32), (M, K))


def decode(sparse: Sparse) -> Array:
    """The matrix, f16."""
    import numpy as np

    (M, K), words = sparse.shape, sparse.words
    down, across = -(-M // ROWS), -(-K // COLUMNS)
    tile = np.repeat(np.arange(down * across), np.diff(sparse.starts))
    row, column = np.divmod(words >> np.uint32(16), np.uint32(COLUMNS))
    column ^= row % 8 * 8
    found = np.zeros((down * across, ROWS, COLUMNS), np.float16)
    found[tile, row, column] = words.astype(np.uint16).view(np.float16)
    whole = found.reshape(down, across, ROWS, COLUMNS).transpose(0, 2, 1, 3)
    return np.array(whole.reshape(down * ROWS, across * COLUMNS)[:M, :K])


def multiply(a: Sparse, b: Array, y: Array, splits: int = 1) -> None:
    """y = A @ b, of f16 (K, N). ``splits`` blocks share a sum, for GPUs that run more blocks than there are tiles."""
    columns = b.shape[1]
    BN = 8 if columns <= 8 else 16 if columns <= 16 else 32
    if splits > 1:
        flash_llm_split_k(a.words, a.starts, b, y, splits, BN=BN)
    else:
        flash_llm_matmul(a.words, a.starts, b, y, BN=BN)


def sparse_weights(rng: Any, shape: tuple[int, int], sparsity: float) -> Array:
    """Normal numbers of which a part is 0."""
    import numpy as np

    return np.asarray(np.where(rng.random(shape) < sparsity, 0, rng.standard_normal(shape)).astype(np.float16))


def case(shape: tuple[int, ...], dtype: tl.DType = tl.f16, seed: int = 0, sparsity: float = 0.8) -> Case:
    """``shape`` is (M, N, K)."""
    import numpy as np

    m, n, k = shape
    rng = np.random.default_rng(seed)
    a = sparse_weights(rng, (m, k), sparsity)
    sparse = encode(a)
    b, y = normal(rng, (k, n), tl.f16), empty((m, n), dtype)
    return Case((sparse.words, sparse.starts, b, y), (y,), (wide(a) @ wide(b),), {}, depth=k)


def main() -> None:
    report(flash_llm_matmul, SHAPES, case)
    report(flash_llm_split_k, SHAPES, case)


if __name__ == "__main__":
    main()
