"""Codes in words of 32 bits, as the public formats of quantised weights have them."""

# NumPy types the results of most functions as Any.
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import numpy as np

from tilus.quantization.groups import Array
from tilus.runtime.packing import pack_codes, unpack_codes

AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)
"""Which of eight columns the nibbles of a word hold, from the lowest on (Lin et al., AWQ, arXiv 2306.00978)."""


def stream_words(codes: Array, bits: int) -> Array:
    """Codes u8 (…, n) as i32 (…, n bits / 32): a run of bits along the last axis, from the lowest of each word on, in
    which codes of 3 bits lie across the ends of words (GPTQ). Raises ValueError where a run ends within a word."""
    count = codes.shape[-1]
    if count * bits % 32:
        raise ValueError(f"{count} codes of {bits} bits do not fill words of 32 bits")
    if count * bits % 8 == 0 and codes.size:
        memory = pack_codes(np.ascontiguousarray(codes).reshape(-1), bits)
        return memory.view("<i4").reshape(*codes.shape[:-1], count * bits // 32)
    return np.zeros((*codes.shape[:-1], count * bits // 32), np.int32)


def stream_codes(words: Array, bits: int) -> Array:
    """The codes u8 (…, 32 n / bits) of words i32 (…, n), as ``stream_words`` has them."""
    count = words.shape[-1] * 32 // bits
    memory = np.ascontiguousarray(words).view(np.uint8).reshape(-1)
    codes = unpack_codes(memory, words.size * 32 // bits, bits)
    return codes.reshape(*words.shape[:-1], count)


def field_words(codes: Array, bits: int) -> Array:
    """Codes u8 (…, n) as i32 (…, ⌈n / ⌊32 / bits⌋⌉): as many to a word as fit whole (compressed-tensors)."""
    each = 32 // bits
    count = codes.shape[-1]
    filled = np.zeros((*codes.shape[:-1], -(-count // each) * each), np.uint32)
    filled[..., :count] = codes
    shifts = (np.arange(each) * bits).astype(np.uint32)
    return np.bitwise_or.reduce(filled.reshape(*codes.shape[:-1], -1, each) << shifts, axis=-1).view(np.int32)


def field_codes(words: Array, bits: int, count: int) -> Array:
    """The first ``count`` codes u8 of words, as ``field_words`` has them."""
    each = 32 // bits
    shifts = (np.arange(each) * bits).astype(np.uint32)
    fields = np.ascontiguousarray(words).view(np.uint32)[..., None] >> shifts & np.uint32((1 << bits) - 1)
    return fields.reshape(*words.shape[:-1], -1)[..., :count].astype(np.uint8)


def awq_words(codes: Array) -> Array:
    """Codes u8 (…, n) of 4 bits as i32 (…, n / 8). Raises ValueError where n is no multiple of 8."""
    if codes.shape[-1] % 8:
        raise ValueError(f"{codes.shape[-1]} columns are no multiple of 8")
    eights = codes.reshape(*codes.shape[:-1], -1, 8)
    return stream_words(eights[..., AWQ_ORDER].reshape(codes.shape), 4)


def awq_codes(words: Array) -> Array:
    """The codes u8 (…, 8 n) of words i32 (…, n) in AWQ's order."""
    eights = stream_codes(words, 4).reshape(*words.shape, 8)
    return eights[..., np.argsort(AWQ_ORDER)].reshape(*words.shape[:-1], -1)


def high_first(memory: Array) -> Array:
    """Bytes of two codes of 4 bits with both exchanged: bitsandbytes has the first in the upper half, ``tl.packed`` in
    the lower."""
    return memory << np.uint8(4) | memory >> np.uint8(4)


__all__ = ["awq_codes", "awq_words", "field_codes", "field_words", "high_first", "stream_codes", "stream_words"]
