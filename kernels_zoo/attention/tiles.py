"""Tiles that fit a GPU: what its shared memory has room for, and rows that take more registers than others."""

from __future__ import annotations

import tilus as tl
from tilus.targets import Feature, get_target

LEAST_ROWS, LEAST_WARPS = 8, 4
WARP_ROWS = 16
"""Rows that a warp multiplies at a time."""


def fitted(step: int, held: int, warps: int, of_step: int, of_held: int, target: str) -> tuple[int, int, int]:
    """Rows of a tile that a loop goes through, rows of one that is held, and warps, which share the latter: halved
    until shared memory has room for them. ``of_step`` and ``of_held`` are the bytes that a row takes."""
    gpu = get_target(target)
    while gpu.is_cuda and max(step, held) > LEAST_ROWS:
        exchanged = 4 * step * held if held < WARP_ROWS * warps else 0   # by warps that share rows
        if of_step * step + of_held * held + exchanged <= gpu.shared_per_block_optin:
            break
        if held <= LEAST_ROWS or (of_step * step >= of_held * held and step > LEAST_ROWS):
            step //= 2
        else:
            held, warps = held // 2, max(LEAST_WARPS, warps // 2)
    return step, held, warps


def row_bytes(D: int, bits: int) -> int:
    """Of a row in shared memory. Those of f32 are padded, and products of it pass through shared memory as well."""
    return -(-D // 16) * 16 * bits // 8 * (5 if bits > 16 else 4) // 4


def widened_bytes(D: int, dtype: tl.DType, target: str) -> int:
    """Of a row of bf16 that is converted in shared memory, where only f32 can be multiplied."""
    gpu = get_target(target)
    return -(-D // 16) * 64 if dtype is tl.bf16 and gpu.is_cuda and not gpu.has(Feature.MMA_BF16) else 0


def uneven(D: int, bits: int, target: str) -> bool:
    """Whether rows take more registers for addresses than some longer ones: those that do not begin at 16 bytes, and
    long ones that are no whole lines of shared memory."""
    return get_target(target).is_cuda and D * bits % (1024 if D * bits > 1024 else 128) != 0


__all__ = ["fitted", "row_bytes", "uneven", "widened_bytes"]
