"""Counts of memory transactions: shared-memory wavefronts, global sectors."""
# NumPy types the results of most functions as Any.
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

SECTOR = 32


def by_warp(warps: int, lanes: Array | None, values: Array) -> Array:
    """Values as (warps, 32), -1 for the lanes that take no part; warps without a lane are left out."""
    if lanes is None:
        return values.reshape(-1, 32)
    table: Array = np.full(warps * 32, -1, np.int64)
    table[lanes] = values
    table = table.reshape(-1, 32)
    return table[(table >= 0).any(axis=1)]


def distinct(table: Array) -> Array:
    """How many distinct non-negative values each row has."""
    ordered = np.sort(table, axis=1)
    fresh = np.empty(ordered.shape, bool)
    fresh[:, 0] = True
    np.not_equal(ordered[:, 1:], ordered[:, :-1], out=fresh[:, 1:])
    fresh &= ordered >= 0
    result: Array = fresh.sum(axis=1)
    return result


def wavefronts(addresses: Array, size: int) -> Array:
    """Wavefronts of each warp's shared access.

    Args:
        addresses: (warps, 32) byte addresses, -1 for inactive lanes.
        size: bytes of each lane. Up to 4 bytes go in one phase of 32 lanes, 8 in two of 16, 16 in four of 8; a phase
            takes as many wavefronts as the most loaded of the 32 four-byte banks has distinct words.
    """
    warps = addresses.shape[0]
    if warps == 0:
        return np.zeros(0, np.int64)
    phases = max(1, size // 4)
    lanes = 32 // phases
    start = addresses.reshape(warps * phases, lanes)
    words = start >> 2
    if phases > 1:
        words = np.where(start[..., None] >= 0, words[..., None] + np.arange(phases), -1).reshape(warps * phases, -1)
    ordered = np.sort(words, axis=1)
    fresh = np.empty(ordered.shape, bool)
    fresh[:, 0] = True
    np.not_equal(ordered[:, 1:], ordered[:, :-1], out=fresh[:, 1:])
    fresh &= ordered >= 0
    bank = (ordered & 31) + 32 * np.arange(ordered.shape[0])[:, None]
    load = np.bincount(bank[fresh], minlength=32 * ordered.shape[0]).reshape(-1, 32).max(axis=1)
    result: Array = load.reshape(warps, phases).sum(axis=1)
    return result


def count_shared(warps: int, lanes: Array | None, address: Array, size: int) -> tuple[int, int, int]:
    """(requests, wavefronts, least wavefronts) of an access to shared memory."""
    table = by_warp(warps, lanes, address)
    ideal = len(table)
    if size > 4:
        ideal = int((table.reshape(-1, 128 // size) >= 0).any(axis=1).sum())
    return len(table), int(wavefronts(table, size).sum()), ideal


def count_global(warps: int, lanes: Array | None, offsets: Array, size: int) -> tuple[int, int, int]:
    """(requests, sectors, least sectors) of an access to global memory; sectors have 32 bytes."""
    table = by_warp(warps, lanes, offsets)
    first = np.where(table >= 0, table // SECTOR, -1)
    # What lanes of a warp share is needed once: the least is that of the distinct bytes.
    needed = distinct(np.where(table >= 0, table // size, -1)) * size
    return len(table), int(distinct(first).sum()), int(((needed + SECTOR - 1) // SECTOR).sum())
