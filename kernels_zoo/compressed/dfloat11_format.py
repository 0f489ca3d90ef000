"""DFloat11's format: numbers of bf16 without loss in about 11 bits, since few of their exponents are frequent (Zhang et
al., arXiv 2504.11651).

A number's sign and mantissa are a byte; its exponent is a Huffman code. Codes lie one behind another, the first bit
the highest of a word of 64 bits; a thread decodes those that begin in its word, and is told where the first does.
"""

# NumPy types the results of most functions as Any.
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import heapq
import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np

import tilus as tl
from kernels_zoo.checking import Array

WORD = 64
THREADS = 512
"""Words of a block: each has one thread."""
GAP = tl.integer(5, False)
LONGEST = 32
"""Bits of a code."""
WINDOW = 11
"""Bits that tell several codes at once where a decoder goes through a block code by code."""
MOST_SYMBOLS = 6
TABLE = 256
"""Entries of the tables from here on are numbers of tables."""


@dataclass(frozen=True)
class Code:
    """A canonical Huffman code of exponents.

    Attributes:
        lengths: u8 (256,): of each exponent's code in bits; 0 where there is none.
        words: u32 (256,): the codes, in the lowest bits.
        tables: u16 (tables, 256): for a byte of a code the exponent, or 256 and the number of the table for the next.
        several: u64 (2^11,): for 11 bits the exponents of up to six whole codes that they begin with in the lower
            bytes, how many there are in the seventh, and their bits in the eighth; 0 where there is no whole code.
    """

    lengths: Array
    words: Array
    tables: Array
    several: Array


@dataclass(frozen=True)
class Encoded:
    """Numbers of bf16 in DFloat11.

    Attributes:
        rest: u8 (n,): signs and mantissas.
        words: u64 (words + 1,): the codes.
        gaps: u5 (words,): the bit of each word at which a code first begins.
        word_starts: i64 (blocks + 1,): the first word of each block.
        positions: i64 (blocks + 1,): the first number of each block.
        code: the exponents' codes.
        shape: of the numbers.
        tile: None where blocks are 512 words; else blocks are tiles of a matrix, row by row, and in a tile its rows.
    """

    rest: Array
    words: Array
    gaps: Any
    word_starts: Array
    positions: Array
    code: Code
    shape: tuple[int, ...]
    tile: tuple[int, int] | None = None

    @property
    def nbytes(self) -> int:
        code = self.code
        parts = (self.rest, self.words, self.gaps, self.word_starts, self.positions, code.tables, code.lengths)
        return sum(int(part.nbytes) for part in parts)


def encode(numbers: Array, tile: tuple[int, int] | None = None) -> Encoded:
    """Encode an array of bf16.

    Args:
        numbers: bf16 of any shape.
        tile: for a matrix, that its tiles are blocks of their own, filled up with zeros: for a product that decodes
            each tile where it needs it.
    """
    bits = np.ascontiguousarray(numbers).view(np.uint16)
    flat = bits.reshape(-1) if tile is None else in_tiles(bits, tile)
    exponents = (flat >> np.uint16(7)).astype(np.uint8)
    rest = (flat >> np.uint16(8) & np.uint16(0x80) | flat & np.uint16(0x7F)).astype(np.uint8)
    code = code_for(np.bincount(exponents, minlength=256))
    lengths = code.lengths[exponents].astype(np.int64)
    size = len(flat) if tile is None else tile[0] * tile[1]
    starts = np.cumsum(lengths) - lengths
    if tile is not None and len(flat):  # each tile begins with a word
        whole = lengths.reshape(-1, size).sum(axis=1)
        words = -(-whole // WORD)
        word_starts = np.concatenate([[0], np.cumsum(words)])
        inside = starts.reshape(-1, size) - starts.reshape(-1, size)[:, :1]
        starts = (inside + word_starts[:-1, None] * WORD).reshape(-1)
        positions = np.arange(len(words) + 1) * size
    else:
        count = -(-int(lengths.sum()) // WORD)
        blocks = -(-count // THREADS)
        word_starts = np.minimum(np.arange(blocks + 1) * THREADS, count)
        positions = np.searchsorted(starts, word_starts * WORD)
        positions[-1:] = len(flat)
    count = int(word_starts[-1]) if len(word_starts) else 0
    first = np.searchsorted(starts, np.arange(count) * WORD)
    begins = np.append(starts, count * WORD)[first] - np.arange(count) * WORD
    gaps = tl.pack(np.minimum(begins, LONGEST - 1).astype(np.int32), GAP)
    return Encoded(rest, bits_in_words(code.words[exponents], lengths, starts, count), gaps,
                   word_starts.astype(np.int64), positions.astype(np.int64), code, numbers.shape, tile)


def in_tiles(matrix: Array, tile: tuple[int, int]) -> Array:
    """The elements of a matrix tile by tile, those beyond it 0."""
    (rows, columns), (R, C) = matrix.shape, tile
    filled = np.zeros((-(-rows // R) * R, -(-columns // C) * C), matrix.dtype)
    filled[:rows, :columns] = matrix
    return filled.reshape(-1, R, filled.shape[1] // C, C).transpose(0, 2, 1, 3).reshape(-1)


def bits_in_words(codes: Array, lengths: Array, starts: Array, count: int) -> Array:
    """Codes at their first bits in so many words of 64 bits and one more."""
    words = np.zeros(count + 1, np.uint64)
    place, offset = starts // WORD, (starts % WORD).astype(np.int64)
    shift = WORD - offset - lengths
    own = codes.astype(np.uint64)
    inside = np.where(shift >= 0, own << np.maximum(shift, 0).astype(np.uint64),
                      own >> np.maximum(-shift, 0).astype(np.uint64))
    heads = np.flatnonzero(np.diff(place, prepend=-1))
    if count:
        words[place[heads]] = np.bitwise_or.reduceat(inside, heads)
    across = np.flatnonzero(shift < 0)  # at most one of a word
    words[place[across] + 1] |= own[across] << (WORD + shift[across]).astype(np.uint64)
    return words


def code_for(counts: Array) -> Code:
    """The code for exponents that are so frequent. Where a code would be longer than 32 bits, the rarest exponents
    count as equally rare."""
    counts = counts.astype(np.int64)
    if not counts.any():
        counts[0] = 1
    rare = 1
    lengths = huffman_lengths(counts)
    while lengths.max() > LONGEST:
        rare += 1
        order = [e for e in np.argsort(counts, kind="stable") if counts[e]]
        limited = counts.copy()
        limited[order[:rare]] = 1
        lengths = huffman_lengths(limited)
    return code_of(lengths)


def code_of(lengths: Array) -> Code:
    """The code whose lengths are these, u8 (256,).

    Raises:
        ValueError: no code has them.
    """
    used = lengths[lengths > 0].astype(np.float64)
    lone = used.tolist() == [1]
    if lengths.shape != (256,) or used.max(initial=0) > LONGEST or (not lone and np.exp2(-used).sum() != 1):
        raise ValueError("no code has these lengths")
    words = canonical(lengths)
    return Code(lengths, words, tables_of(lengths, words), several_at_once(lengths, words))


def huffman_lengths(counts: Array) -> Array:
    """The bits of each symbol's code, u8; 0 for those that do not occur. A lone symbol has one bit."""
    lengths = np.zeros(len(counts), np.uint8)
    number = itertools.count()
    heap = [(int(c), next(number), [symbol]) for symbol, c in enumerate(counts) if c]
    if len(heap) == 1:
        lengths[heap[0][2]] = 1
    heapq.heapify(heap)
    while len(heap) > 1:
        (a, _, left), (b, _, right) = heapq.heappop(heap), heapq.heappop(heap)
        lengths[left + right] += 1
        heapq.heappush(heap, (a + b, next(number), left + right))
    return lengths


def canonical(lengths: Array) -> Array:
    """Codes by increasing length, and of one length by symbol: each the one before plus 1."""
    words = np.zeros(len(lengths), np.uint32)
    code = length = 0
    for symbol in sorted(np.flatnonzero(lengths), key=lambda s: (lengths[s], s)):
        code <<= int(lengths[symbol]) - length
        length = int(lengths[symbol])
        words[symbol] = code
        code += 1
    return words


def tables_of(lengths: Array, words: Array) -> Array:
    """A table for the first byte of codes, and one for each run of bytes that longer ones begin with. What no code has
    is some exponent, so that a decoder goes on."""
    filler = int(np.argmax(lengths > 0))
    found, prefixes = [np.full(256, filler, np.uint16)], {b"": 0}
    for symbol in np.flatnonzero(lengths):
        length = int(lengths[symbol])
        left = (int(words[symbol]) << (LONGEST - length)).to_bytes(4, "big")
        table = 0
        for level in range((length - 1) // 8):
            prefix = left[: level + 1]
            if prefix not in prefixes:
                prefixes[prefix] = len(found)
                found[table][left[level]] = TABLE + len(found)
                found.append(np.full(256, filler, np.uint16))
            table = prefixes[prefix]
        last = (length - 1) // 8
        found[table][left[last] : left[last] + (1 << 8 * (last + 1) - length)] = symbol
    return np.stack(found)


def several_at_once(lengths: Array, words: Array) -> Array:
    """What ``Code.several`` says."""
    table = np.zeros(1 << WINDOW, np.uint64)
    single = np.full(1 << WINDOW, -1, np.int64)
    for symbol in np.flatnonzero((lengths > 0) & (lengths <= WINDOW)):
        free = WINDOW - int(lengths[symbol])
        single[int(words[symbol]) << free : (int(words[symbol]) + 1) << free] = symbol
    window, used = np.arange(1 << WINDOW), np.zeros(1 << WINDOW, np.int64)
    count, live = np.zeros(1 << WINDOW, np.int64), np.ones(1 << WINDOW, bool)
    for n in range(MOST_SYMBOLS):
        symbol = single[(window << used) & ((1 << WINDOW) - 1)]
        after = used + lengths[np.maximum(symbol, 0)]
        live &= (symbol >= 0) & (after <= WINDOW)
        table |= np.where(live, symbol, 0).astype(np.uint64) << np.uint64(8 * n)
        used, count = np.where(live, after, used), count + live
    return table | count.astype(np.uint64) << np.uint64(48) | used.astype(np.uint64) << np.uint64(56)


__all__ = ["GAP", "LONGEST", "TABLE", "THREADS", "WINDOW", "Code", "Encoded", "code_for", "code_of", "encode"]
