"""Plans that move a tile from one register layout to another.

``plan_conversion`` returns the cheapest of: nothing, a renaming of registers, shuffles within warps, transpositions of
matrices there, a round trip through shared memory. Every plan can be applied to an array of values, which is its
definition.
"""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from tilus.diagnostics import UserError
from tilus.layouts.banks import Access, access_of, choose_swizzle, wavefronts
from tilus.layouts.mma import MatrixPlan, ldmatrix_plan
from tilus.layouts.modes import undefined
from tilus.layouts.register import RegisterLayout, Shape
from tilus.layouts.shared import SharedLayout
from tilus.layouts.shuffle import LANES, ShufflePlan, plan_shuffles
from tilus.records import record

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tilus.layouts.register import IntArray

WORD_BITS = 32
_BARRIER_COST = 24
"""What a block-wide barrier costs, in wavefronts."""


@record(frozen=True)
class Identity:
    """Every element is where it should be."""

    cost: int = 0

    def apply(self, values: NDArray[Any]) -> NDArray[Any]:
        return values


@record(frozen=True)
class RegisterPermutation:
    """``out[local] = in[perm[local]]`` in every thread; a register may be read several times or never."""

    perm: tuple[int, ...]
    cost: int = 0

    def apply(self, values: NDArray[Any]) -> NDArray[Any]:
        result: NDArray[Any] = values[:, list(self.perm)]
        return result


@record(frozen=True)
class SharedPlan:
    """Store to shared memory, wait for the block, load.

    Attributes:
        src, dst: the layouts.
        shared: where the elements lie; its shape covers both layouts, so no access needs a bounds check.
        element_bits: width of an element in shared memory; narrow elements are widened to whole bytes.
        store, load: ``vector`` consecutive locals per access, along ``dim``, of the layout or of its registers in
            another order (``order_of``); or stmatrix and ldmatrix.
        cost: wavefronts per block, the barrier included.

    Only threads whose ``src.replica_terms`` digits are all 0 need to store.
    """

    src: RegisterLayout
    dst: RegisterLayout
    shared: SharedLayout
    element_bits: int
    store: Access | MatrixPlan
    load: Access | MatrixPlan
    cost: int

    @property
    def bytes(self) -> int:
        """Of shared memory."""
        return self.shared.size * max(8, self.element_bits) // 8

    def apply(self, values: NDArray[Any]) -> NDArray[Any]:
        import numpy as np

        memory = np.zeros(self.shared.size, dtype=values.dtype)
        first = np.ones(self.src.num_threads, dtype=bool)
        for div, size in self.src.replica_terms:
            first &= np.arange(self.src.num_threads) // div % size == 0
        memory[self.shared.offsets(self.src.table()[first])] = values[first]
        result: NDArray[Any] = memory[self.shared.offsets(self.dst.table())]
        return result


@record(frozen=True)
class MatrixTransposition:
    """Each warp transposes matrices of 8×8 elements of 16 bits (``movmatrix``), of which a lane has a pair: pair d of
    the result is of the matrix that pair ``pairs[d]`` was of."""

    pairs: tuple[int, ...]

    @property
    def cost(self) -> int:
        """Instructions of a warp."""
        return len(self.pairs)

    def apply(self, values: NDArray[Any]) -> NDArray[Any]:
        import numpy as np

        threads, halves = _movmatrix_sources(len(values))
        taken: NDArray[Any] = np.empty((len(values), 2 * len(self.pairs)), values.dtype)
        for d, s in enumerate(self.pairs):
            taken[:, 2 * d : 2 * d + 2] = values[threads, 2 * s + halves]
        return taken


Plan = Identity | RegisterPermutation | ShufflePlan | MatrixTransposition | SharedPlan


def relative(dst: RegisterLayout, src: RegisterLayout) -> tuple[IntArray, IntArray]:
    """Where ``dst``'s elements lie in ``src``: its first thread and its local, two int64[threads, locals] over
    ``dst``'s threads and locals. The shapes must be equal."""
    if dst.shape != src.shape:
        raise undefined(f"layouts of shape {dst.shape} and {src.shape} hold different tiles")
    return src.owners(dst.table())


def plan_conversion(src: RegisterLayout, dst: RegisterLayout, element_bits: int = 32,
                    shape: Sequence[int] | None = None, allow: str = "any",
                    matrices: tuple[bool, bool] = (False, False), transposes: bool = False) -> Plan:
    """The cheapest way from one layout to another.

    Args:
        src, dst: layouts over the same number of threads. Their shapes may differ where both are padded covers;
            elements outside of ``shape`` get unspecified values.
        element_bits: width of an element in registers.
        shape: extents of the tile (default: the smaller of the two layouts' extents).
        allow: ``"any"``, ``"shuffle"`` (shared memory only where shuffles cannot do it) or ``"shared"``.
        matrices: whether there are ``stmatrix`` and ``ldmatrix``.
        transposes: whether there is ``movmatrix``.

    Raises:
        UserError: E0404 if ranks or numbers of threads differ, or one does not cover the tile.
    """
    if src.rank != dst.rank or src.num_threads != dst.num_threads:
        raise undefined(f"there is no conversion between {src} and {dst}: rank or number of threads differ")
    tile = tuple(map(min, src.shape, dst.shape)) if shape is None else tuple(shape)
    if not (src.covers(tile) and dst.covers(tile)):
        raise undefined(f"{src} and {dst} do not both cover a tile of shape {tile}")
    return _plan(src, dst, element_bits, tile, allow, matrices, transposes)


class Round(NamedTuple):
    """A part of a conversion: the registers that it takes and gives, and how."""

    taken: tuple[int, ...]
    given: tuple[int, ...]
    plan: SharedPlan


@lru_cache(maxsize=512)
def conversion_rounds(plan: SharedPlan, limit: int) -> tuple[Round, ...]:
    """A conversion as a few that take at most ``limit`` bytes each, one after another in the same memory; as one where
    it fits, and where its parts would not be the same registers in all threads.

    A part is the elements whose index along a dimension has one value of a digit.
    """
    whole = Round(tuple(range(plan.src.num_locals)), tuple(range(plan.dst.num_locals)), plan)
    if plan.bytes <= limit or plan.src.shape != plan.dst.shape:
        return (whole,)
    count = 2
    while plan.bytes > limit * count:
        count *= 2
    for parts in (count, 2 * count, 4 * count):
        for dim, extent in enumerate(plan.src.shape):
            inner = extent // parts
            while inner and extent % (inner * parts) == 0:
                rounds = _split(plan, dim, parts, inner)
                if rounds is not None:
                    return rounds
                inner //= 2
    return (whole,)


def _split(plan: SharedPlan, dim: int, parts: int, inner: int) -> tuple[Round, ...] | None:
    shape = plan.src.shape
    split = (*shape[:dim], shape[dim] // (parts * inner), parts, inner, *shape[dim + 1:])
    size = tuple(1 if d == dim + 1 else n for d, n in enumerate(split))
    rounds = []
    try:
        layouts = [layout.reshape(split) for layout in (plan.src, plan.dst)]
        for part in range(parts):
            start = tuple(part if d == dim + 1 else 0 for d in range(len(split)))
            (src, taken), (dst, given) = (layout.slice(start, size) for layout in layouts)
            matrices = isinstance(plan.store, MatrixPlan), isinstance(plan.load, MatrixPlan)
            rounds.append(Round(taken, given, _plan_shared(src, dst, plan.element_bits, matrices)))
    except UserError:
        return None
    return tuple(rounds)


@lru_cache(maxsize=2048)
def _plan(src: RegisterLayout, dst: RegisterLayout, element_bits: int, tile: Shape, allow: str,
          matrices: tuple[bool, bool], transposes: bool) -> Plan:
    if src == dst:
        return Identity()
    shuffles = plan_shuffles(src, dst, element_bits)
    if shuffles is not None:
        perm = shuffles.register_permutation()
        if perm is not None:
            return _renaming(perm, src)
    else:
        perm = _permutation(src, dst, tile)
        if perm is not None:
            return _renaming(perm, src)
    within: list[ShufflePlan | MatrixTransposition] = [] if shuffles is None else [shuffles]
    if transposes and element_bits == 16:
        within += _transpositions(src, dst, tile)
    best = min(within, key=lambda plan: plan.cost, default=None)
    if best is not None and allow == "shuffle":
        return best
    # What is beyond the tile was perhaps not written: no matrix that has some of it is loaded.
    shared = _plan_shared(src, dst, element_bits, (matrices[0], matrices[1] and dst.shape == tile))
    warps = -(-src.num_threads // LANES)
    return best if best is not None and allow == "any" and best.cost * warps <= shared.cost else shared


def _movmatrix_sources(threads: int) -> tuple[IntArray, IntArray]:
    """For both elements of each thread's pair of a transposed matrix, the thread that has it, and which of its pair it
    is: two int64[threads, 2]."""
    import numpy as np

    lane = np.arange(threads)[:, None] % LANES
    source = 4 * (2 * (lane % 4) + np.arange(2)) + lane // 8
    return np.arange(threads)[:, None] - lane + source, np.broadcast_to(lane // 4 % 2, (threads, 2))


def _transpositions(src: RegisterLayout, dst: RegisterLayout, tile: Shape) -> list[MatrixTransposition]:
    """The transposition of matrices that brings every thread what it needs, if there is one; by enumeration."""
    if src.num_threads % LANES or src.num_locals % 2 or dst.num_locals % 2 or not dst.rank:
        return []
    import numpy as np

    sources, halves = _movmatrix_sources(src.num_threads)
    first = np.array(_first_holders(src))[sources]
    table, last = dst.table(), np.asarray(tile) - 1
    pairs = []
    for d in range(0, dst.num_locals, 2):
        elements = table[:, d : d + 2]
        needed = (elements <= last).all(axis=-1)
        threads, locals_ = src.owners(np.minimum(elements, last))
        found = np.unique((locals_ - halves)[needed])
        if not (threads == first)[needed].all() or len(found) > 1 or (found % 2).any():
            return []
        pairs.append(int(found[0]) // 2 if len(found) else 0)
    return [MatrixTransposition(tuple(pairs))]


def _renaming(perm: tuple[int, ...], src: RegisterLayout) -> Plan:
    return Identity() if perm == tuple(range(src.num_locals)) else RegisterPermutation(perm)


def _permutation(src: RegisterLayout, dst: RegisterLayout, tile: Shape) -> tuple[int, ...] | None:
    """By enumeration, for layouts of any radix: the register permutation, if every thread has what it needs."""
    # most layouts fail at their first or last register, long before the whole table is looked at
    if not all(_keeps_threads(src, dst, tile, local) for local in (0, dst.num_locals - 1)):
        return None
    import numpy as np

    own = np.array(_first_holders(src))
    table = dst.table()
    needed = (table < np.asarray(tile)).all(axis=-1)
    threads, locals_ = src.owners(np.minimum(table, np.asarray(tile) - 1))
    if not ((threads == own[:, None]) | ~needed).all():
        return None
    low = np.where(needed, locals_, src.num_locals).min(axis=0)
    high = np.where(needed, locals_, -1).max(axis=0)
    if not ((low == high) | (high < 0)).all():
        return None
    return tuple(int(h) if h >= 0 else 0 for h in high)


def _first_holders(layout: RegisterLayout) -> list[int]:
    """Of each thread, the first one that holds the same elements."""
    replicas = layout.replica_terms
    return [t - sum(t // div % size * div for div, size in replicas) for t in range(layout.num_threads)]


def _keeps_threads(src: RegisterLayout, dst: RegisterLayout, tile: Shape, local: int) -> bool:
    """Whether every thread has in ``src`` what is to be in its register ``local`` in ``dst``."""
    moved = dst.local_index(local)
    for own, thread in zip(_first_holders(src), dst.thread_indices, strict=True):
        index = tuple(map(operator.add, thread, moved))
        if all(map(operator.lt, index, tile)) and src.thread_of(index) != own:
            return False
    return True


def _plan_shared(src: RegisterLayout, dst: RegisterLayout, element_bits: int,
                 matrices: tuple[bool, bool]) -> SharedPlan:
    bits = max(8, 1 << (element_bits - 1).bit_length())
    shape = tuple(map(max, src.shape, dst.shape))
    fast = [d for d in range(src.rank) if max(src.vector_width(d), dst.vector_width(d)) > 1] or [src.rank - 1]
    plans = []
    for d in fast[::-1]:
        if src.rank == 0:
            d = 0
        order = (d, *(e for e in reversed(range(src.rank)) if e != d)) if src.rank else ()
        moves: list[list[Access | MatrixPlan]] = []
        for layout, has in zip((src, dst), matrices, strict=True):
            matrix = ldmatrix_plan(layout, bits, d) if has and shape[d] * bits % 128 == 0 else None
            moves.append([*([matrix] if matrix else []), _widest_access(layout, bits, d, shape)])
        if src.is_replicated:  # only the first holders store
            moves[0] = moves[0][-1:]
        for store, load in itertools.product(*moves):
            accesses = [m.access if isinstance(m, MatrixPlan) else m for m in (store, load)]
            shared = choose_swizzle(shape, bits, accesses, order) if src.rank else SharedLayout((), ())
            cost = sum(_cost(shared, move, bits) for move in (store, load)) + _BARRIER_COST
            plans.append(SharedPlan(src, dst, shared, bits, store, load, cost))
    return min(plans, key=lambda plan: plan.cost)


def order_of(layout: RegisterLayout, access: Access) -> tuple[int, ...]:
    """The registers of a layout in the order in which an access moves them."""
    return tuple(map(layout.local_of, access.layout.local_indices))


def _widest_access(layout: RegisterLayout, bits: int, dim: int, shape: Shape) -> Access:
    """An access of the layout, or, where that moves less than a word, of its registers in another order, by which more
    lie side by side."""
    access = _vector_access(layout, bits, dim, shape)
    beside = [m for m in layout.local_modes if (m.dim, m.stride) == (dim, 1)]
    if access.vector * bits >= WORD_BITS or not beside:
        return access
    modes = [m for m in layout.local_modes if m is not beside[0]] + beside
    other = _vector_access(RegisterLayout(layout.shape, layout.thread_modes, modes), bits, dim, shape)
    return other if other.vector > access.vector else access


def _vector_access(layout: RegisterLayout, bits: int, dim: int, shape: Shape) -> Access:
    """The widest access whose vectors stay whole in rows of the given shape."""
    if not shape:
        return Access(layout, 1, 0)
    access = access_of(layout, bits, dim)
    return Access(layout, math.gcd(access.vector, shape[dim]), dim)


def _cost(shared: SharedLayout, access: Access | MatrixPlan, bits: int) -> int:
    if isinstance(access, MatrixPlan):  # lanes beyond the matrices' rows move nothing
        return _cost(shared, access.access, bits) * access.count // 4
    if not access.layout.rank:
        return access.warps
    taken, _ = wavefronts(shared, access, bits)
    requests = access.warps * (access.layout.num_locals // access.vector)
    return -(-taken * requests // len(access.requests()))
