"""The bytes of a tile whose elements lie as threads hold them, as a layout."""

from __future__ import annotations

import math

from tilus.layouts.modes import REPLICATED, Mode, misfit
from tilus.layouts.register import RegisterLayout

PIECE = 16
"""Bytes that a thread reads at once: 128 bits."""


def pieces_of(layout: RegisterLayout, bits: int) -> int:
    """The most bytes that a thread may read at once of its elements of so many bits each.

    Raises UserError (E0403) where they fill no whole bytes.
    """
    own = layout.num_locals * bits
    if own % 8:
        raise misfit(f"each thread has {layout.num_locals} elements of {bits} bits, which fill no whole bytes",
                     help="take a larger tile, or fewer warps")
    return math.gcd(own // 8, PIECE)


def byte_layout(layout: RegisterLayout, bits: int, piece: int) -> RegisterLayout:
    """The layout of the bytes, in the order of memory: for each piece of ``piece`` bytes those of all threads (which
    hold different elements) one after another. A thread's bytes are its locals of ``bits`` bits side by side."""
    own = layout.num_locals * bits // 8
    modes, stride = [], piece
    for mode in reversed(layout.thread_modes):
        modes.append(mode if mode.dim == REPLICATED else Mode(mode.size, 0, stride))
        stride *= 1 if mode.dim == REPLICATED else mode.size
    pieces = own // piece
    locals_ = [Mode(pieces, 0, stride), Mode(piece, 0, 1)]
    return RegisterLayout((stride * pieces,), modes[::-1], locals_)


__all__ = ["byte_layout", "pieces_of"]
