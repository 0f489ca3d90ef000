"""Shared-memory banks: how many passes a warp's request takes, and layouts that keep it at the least."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from tilus.layouts.modes import misfit
from tilus.layouts.register import RegisterLayout, Shape
from tilus.layouts.shared import SharedLayout, Swizzle, strided_order
from tilus.layouts.shuffle import LANES
from tilus.records import record

Requests = tuple[tuple[Shape | None, ...], ...]
"""Of each request, for each lane."""
BANKS = 32
WORD = 4
"""Bytes of a bank's word."""

BEARABLE = 1.35
"""How many times the least wavefronts accesses to rows that are no power of two may take: copies of parts of two rows
conflict where those of matrices, which are more, do not."""
_SAMPLED_WARPS = 2
_SAMPLED_LOCALS = 8


def bank_conflicts(addresses: Any, access_bytes: int) -> Any:
    """Wavefronts (passes over the banks) that a warp's request takes.

    32 banks of 4-byte words. Lanes that touch the same word share it. Accesses of 8 bytes are served by half
    warps, of 16 bytes by quarter warps. The least is 1 for up to 4 bytes a lane, 2 for 8 and 4 for 16.

    Args:
        addresses: byte addresses, int[..., 32]; negative ones belong to lanes that do not take part. Those of 8 and
            16 bytes are aligned.
        access_bytes: bytes per lane: 1, 2, 4, 8 or 16.

    Returns:
        int64[...], or an int for one request.
    """
    import numpy as np

    addresses = np.asarray(addresses, dtype=np.int64)
    if addresses.shape[-1] != LANES or access_bytes not in (1, 2, 4, 8, 16):
        raise misfit(f"a request has 32 lanes of 1, 2, 4, 8 or 16 bytes, got {addresses.shape[-1]} of {access_bytes}")
    counts = [_wavefronts_of(request, access_bytes) for request in addresses.reshape(-1, LANES).tolist()]
    return counts[0] if addresses.ndim == 1 else np.array(counts).reshape(addresses.shape[:-1])


def _wavefronts_of(addresses: Sequence[int], access_bytes: int) -> int:
    """Of one request."""
    size = max(WORD, access_bytes)
    lanes = BANKS * WORD // size  # that are served at once, and as many groups of banks that serve one lane each
    total = 0
    for first in range(0, LANES, lanes):
        counts = [0] * lanes
        for place in {address // size for address in addresses[first:first + lanes] if address >= 0}:
            counts[place % lanes] += 1
        total += max(counts)
    return total


@record(frozen=True)
class Access:
    """How one kind of instruction visits a tile in shared memory.

    Attributes:
        layout: the element (thread, local) that each lane's access begins with is every ``vector``-th local's.
        vector: consecutive locals that one access moves; they walk along ``dim``.
        dim: the dimension along which they are consecutive.
    """

    layout: RegisterLayout
    vector: int
    dim: int

    @property
    def warps(self) -> int:
        return -(-self.layout.num_threads // LANES)

    @property
    def count(self) -> int:
        """Of the requests that all warps make."""
        return self.warps * (self.layout.num_locals // self.vector)

    def requests(self) -> Requests:
        """A sample of the requests: the index with which each lane begins, None for absent lanes."""
        return _requests(self)


@lru_cache(maxsize=512)
def _requests(access: Access) -> Requests:
    layout = access.layout
    # other warps and locals shift the whole request; a few of each show whether shifts matter
    count = min(layout.num_threads, _SAMPLED_WARPS * LANES)
    threads: list[Shape | None] = [layout.thread_index(t) for t in range(count)]
    threads += [None] * (-count % LANES)
    locals_ = range(0, min(layout.num_locals, _SAMPLED_LOCALS * access.vector), access.vector)
    return tuple(tuple(None if thread is None else tuple(map(operator.add, thread, local))
                       for thread in threads[first:first + LANES])
                 for first in range(0, len(threads), LANES) for local in map(layout.local_index, locals_))


def wavefronts(shared: SharedLayout, access: Access, element_bits: int) -> tuple[int, int]:
    """Wavefronts of a sample of an access's requests, and the least that any layout could reach for them."""
    bytes_ = access.vector * element_bits // 8
    pieces = 1
    if bytes_ not in (1, 2, 4, 8, 16):
        bytes_, pieces = (16, bytes_ // 16) if bytes_ > 16 and bytes_ % 16 == 0 else (4, max(1, bytes_ // 4))
    linear = _linear_offsets(SharedLayout(shared.shape, shared.modes, None, shared.base), access)
    swizzle, taken = shared.swizzle, 0
    for request in linear:
        offsets = request if swizzle is None else [x if x < 0 else swizzle(x) for x in request]
        taken += _wavefronts_of([-1 if x < 0 else x * element_bits // 8 for x in offsets], bytes_)
    return taken * pieces, len(linear) * max(1, bytes_ // 4) * pieces


@lru_cache(maxsize=512)
def _linear_offsets(plain: SharedLayout, access: Access) -> tuple[tuple[int, ...], ...]:
    """Of the lanes of each request, -1 for those that are absent or outside of the tile: the same under all swizzles
    of a layout."""
    shape, offset = plain.shape, plain.linear_offset
    return tuple(tuple(-1 if index is None or not all(map(operator.lt, index, shape)) else offset(index)
                       for index in request) for request in access.requests())


def access_of(layout: RegisterLayout, element_bits: int, shared_dim: int, max_bytes: int = 16) -> Access:
    """The widest vector access with which threads read or write their share of a tile whose dimension
    ``shared_dim`` is contiguous in shared memory."""
    width = math.gcd(layout.vector_width(shared_dim), max(1, max_bytes * 8 // element_bits))
    while width > 1 and (width * element_bits % 8 or width * element_bits // 8 not in (1, 2, 4, 8, 16)):
        width = max(d for d in range(1, width) if width % d == 0)
    return Access(layout, width, shared_dim)


def choose_swizzle(shape: Sequence[int], element_bits: int, accesses: Sequence[Access | RegisterLayout],
                   order: Sequence[int] | None = None, align_bytes: int = 16, compact: bool = False) -> SharedLayout:
    """A shared layout for a tile on which the given accesses have as few bank conflicts as possible.

    A row-major layout (or one whose dimensions follow ``order`` from the fastest on) under an XOR swizzle of chunks
    of ``align_bytes``; where the rows are no power of two, padded rows. A simpler layout wins among equals.

    Rows of other lengths cross the blocks within which a swizzle moves chunks: a thread's addresses would differ by
    more than constants, and take a register each.

    Args:
        shape: extents of the tile.
        element_bits: width of an element.
        accesses: reads and writes alike: ``Access``, or register layouts that move their widest vectors
            (for ``ldmatrix`` give ``mma.ldmatrix_plan(...).access``).
        order: dimensions from the fastest to the slowest (default row-major).
        align_bytes: vectors of this many bytes stay whole and aligned; never less than an access's own bytes.
        compact: rather swizzles than padding, whatever the rows.
    """
    shape = tuple(shape)
    order = tuple(reversed(range(len(shape)))) if order is None else tuple(d % len(shape) for d in order)
    fixed = tuple(access_of(a, element_bits, order[0]) if isinstance(a, RegisterLayout) else a for a in accesses)
    widest = max((access.vector for access in fixed if access.dim == order[0]), default=1)
    return _choose_swizzle(shape, element_bits, fixed, order, max(align_bytes, widest * element_bits // 8), compact)


@lru_cache(maxsize=512)
def _choose_swizzle(shape: Shape, element_bits: int, accesses: tuple[Access, ...], order: Shape,
                    align_bytes: int, compact: bool) -> SharedLayout:
    plain = strided_order(shape, order)
    best, least = plain, math.inf
    others = [_swizzled(plain, order, element_bits, align_bytes), _padded(plain, order, element_bits, align_bytes)]
    row, bearable = shape[order[0]], 1.0
    if row & (row - 1) and not compact:
        others.reverse()
        bearable = BEARABLE
    for candidate in (plain, *others[0], *others[1]):
        if any(candidate.vector_width(access.dim) % access.vector for access in accesses):
            continue
        taken = ideal = 0.0
        for access in accesses:
            weight = access.count / len(access.requests())
            cost, floor = wavefronts(candidate, access, element_bits)
            taken, ideal = taken + cost * weight, ideal + floor * weight
        if taken < least:
            best, least = candidate, taken
        if taken <= bearable * ideal:
            break
    return best


def _swizzled(plain: SharedLayout, order: Shape, element_bits: int, align_bytes: int) -> list[SharedLayout]:
    """Swizzles of chunks within (at most) 128 bytes by the number of the row; the likeliest first."""
    row_bytes = plain.shape[order[0]] * element_bits // 8
    chunk_elements = align_bytes * 8 // element_bits
    # rows of an odd number of blocks work too: chunks move within a block, and block numbers differ between rows
    block = row_bytes & -row_bytes
    if block < 2 * align_bytes or chunk_elements & (chunk_elements - 1):
        return []
    base = chunk_elements.bit_length() - 1
    whole = (min(block, 128) // align_bytes).bit_length() - 1
    line = max(block, 128) // align_bytes
    first = Swizzle(whole, base, line.bit_length() - 1)
    others = [Swizzle(whole, base, shift) for shift in range(whole, line.bit_length() + 4)]
    return [plain.with_swizzle(s.bits, s.base, s.shift) for s in dict.fromkeys([first, *others])]


def _padded(plain: SharedLayout, order: Shape, element_bits: int, align_bytes: int) -> list[SharedLayout]:
    """Rows followed by a few unused chunks, at most 128 bytes, so that consecutive rows begin in other banks."""
    bits = align_bytes * 8
    row = plain.shape[order[0]] * element_bits
    to_chunk = -row % bits
    pads = [to_chunk + i * bits for i in range(128 // align_bytes)]
    return [strided_order(plain.shape, order, pad // element_bits) for pad in pads if pad and pad % element_bits == 0]
