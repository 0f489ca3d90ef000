"""Tiles of packed elements as bytes: which byte each thread holds, and which tiles threads read 128 bits at once."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tilus.layouts.modes import REPLICATED, Mode, misfit, take_inner
from tilus.layouts.register import RegisterLayout, column_local, local
from tilus.layouts.shuffle import LANES

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


def byte_layout(layout: RegisterLayout, bits: int, piece: int | None = None) -> RegisterLayout:
    """The layout of a tile's bytes, in the order of memory: for each piece of ``piece`` bytes those of all threads
    (which hold different elements) one after another. A thread's bytes are its locals of ``bits`` bits side by side.

    Args:
        layout: of the elements.
        bits: of an element.
        piece: bytes that a thread reads at once; as many as there may be, at most 16, by default.

    Raises:
        UserError: E0403, a thread's elements fill no whole bytes, or no whole pieces.
    """
    widest = pieces_of(layout, bits)
    own = layout.num_locals * bits // 8
    piece = widest if piece is None else piece
    if piece < 1 or own % piece:
        raise misfit(f"a thread's {own} bytes do not come in pieces of {piece}")
    modes, stride = [], piece
    for mode in reversed(layout.thread_modes):
        modes.append(mode if mode.dim == REPLICATED else Mode(mode.size, 0, stride))
        stride *= 1 if mode.dim == REPLICATED else mode.size
    pieces = own // piece
    locals_ = [Mode(pieces, 0, stride), Mode(piece, 0, 1)]
    return RegisterLayout((stride * pieces,), modes[::-1], locals_)


def unify(layout: RegisterLayout, bits: int, stored: RegisterLayout | Sequence[int],
          stored_bits: int = 8) -> RegisterLayout:
    """The layout over the bytes of a stored tile under which each thread's bits are its elements of ``layout``: the
    ``from_layout`` of the ``tl.view`` that makes the one tile the other.

    Args:
        layout: of the elements that a kernel wants to have, as that of a dot's operand.
        bits: of such an element.
        stored: the layout in which threads read the stored tile; or its extents, for the layout in which each thread
            reads pieces as wide as may be, and threads neighbouring ones.
        stored_bits: of an element of the stored tile, a multiple of 8; elements are made of neighbouring bytes along
            the last dimension.

    Returns:
        The layout of the stored tile's bytes: its shape is that of ``stored`` with ``stored_bits / 8`` times as many
        columns.

    Raises:
        UserError: E0403, the two have other numbers of threads or of bits per thread, or other threads share elements;
            E0404, the extents cannot be cut as the threads' pieces are.
    """
    if stored_bits < 8 or stored_bits % 8:
        raise misfit(f"the elements of a stored tile have whole bytes, not {stored_bits} bits",
                     help="give its bytes: the layout or extents of a tile of u8")
    size = stored_bits // 8
    if not isinstance(stored, RegisterLayout):
        extents = tuple(stored)
        found = byte_layout(layout, bits)
        if math.prod(extents) * size != found.size:
            raise misfit(f"a stored tile of {_times(extents)} elements of {stored_bits} bits has "
                         f"{math.prod(extents) * stored_bits} bits, and one of {_times(layout.shape)} elements of "
                         f"{bits} bits in the layout {layout} has {layout.size * bits}", help=_SIZES)
        return found.reshape((*extents[:-1], extents[-1] * size))
    wanted, have = layout.num_locals * bits, stored.num_locals * stored_bits
    if layout.num_threads != stored.num_threads or wanted != have:
        raise misfit(f"the layouts do not hold the same bits: {layout} has {layout.num_threads} threads with {wanted} "
                     f"bits each ({layout.num_locals} elements of {bits}), {stored} has {stored.num_threads} threads "
                     f"with {have} bits each ({stored.num_locals} elements of {stored_bits})", help=_SIZES)
    if layout.replica_terms != stored.replica_terms:
        raise misfit(f"threads that hold the same elements of {layout} hold different ones of {stored}",
                     help="replicate both layouts over the same threads")
    return stored * local(*(1 for _ in stored.shape[1:]), size)


_SIZES = "take a larger or smaller tile of one of the two, or let another number of warps share it"


def _times(shape: Sequence[int]) -> str:
    return "×".join(map(str, shape))


def tile_for(fragment: RegisterLayout, bits: int, at_least: Sequence[int] | None = None,
             column: bool = False) -> RegisterLayout:
    """The layout of the least tile of which each thread has whole pieces of 128 bits: so all copies and loads of the
    tile, prepacked, have 128 bits a thread, and are free of bank conflicts in shared memory.

    A tile is made of whole fragments, which a warp has side by side as ``tl.mma`` arranges them. Of several least tiles
    it is the one with the most fragments along the first dimension: of weights (k, n), along k.

    Args:
        fragment: of a dot's operand, with the fragment of one instruction for each warp:
            ``tl.mma((16, 32, 16), tl.f16, warps=(1, 4)).b``.
        bits: of an element.
        at_least: the least extents; those of the fragment by default.
        column: whether a thread's fragments are numbered along the first dimension first.

    Returns:
        The layout; its ``shape`` has the extents.

    Raises:
        UserError: E0403, it is not a warp's fragment for each warp, or ``at_least`` is of another rank.
    """
    warp = _warp_fragment(fragment)
    warps = fragment.try_divide(warp) if warp is not None else None
    if warp is None or warps is None:
        raise misfit(f"{fragment} is not made of one warp's fragment for each warp",
                     help="give the layout of one instruction's operand spread over warps, as `tl.mma((16, 32, 16), "
                          "tl.f16, warps=(1, 4)).b` is")
    least = tuple(at_least) if at_least is not None else fragment.shape
    if len(least) != fragment.rank:
        raise misfit(f"at_least={least} has not the {fragment.rank} extents of a tile of {fragment}")
    counts = [-(-n // extent) for n, extent in zip(least, fragment.shape, strict=True)]
    needed = 8 * PIECE // math.gcd(8 * PIECE, warp.num_locals * bits)
    repeats = min(_multiples(counts, needed), key=lambda found: (math.prod(found), tuple(-n for n in found)))
    return warps * (column_local if column else local)(*repeats) * warp


def _warp_fragment(layout: RegisterLayout) -> RegisterLayout | None:
    """What one warp has, as a layout of its own; None where warps lie within it."""
    lanes, _ = take_inner(layout.thread_modes, min(LANES, layout.num_threads))
    if lanes is None:
        return None
    shape = [1] * layout.rank
    for mode in (*lanes, *layout.local_modes):
        if mode.dim >= 0:
            shape[mode.dim] *= mode.size
    if any(mode.dim >= 0 and mode.size * mode.stride > shape[mode.dim] for mode in (*lanes, *layout.local_modes)):
        return None
    return RegisterLayout(shape, lanes, layout.local_modes)


def _multiples(counts: Sequence[int], factor: int) -> list[tuple[int, ...]]:
    """The least counts, from the given ones on, whose product is a multiple of ``factor``, a power of two: for each way
    to give its twos to the counts."""
    if len(counts) == 1:
        return [(-(-counts[0] // factor) * factor,)]
    found = []
    for power in range(factor.bit_length()):
        first = -(-counts[0] >> power) << power
        found += [(first, *rest) for rest in _multiples(counts[1:], factor >> power)]
    return found


__all__ = ["byte_layout", "pieces_of", "tile_for", "unify"]
