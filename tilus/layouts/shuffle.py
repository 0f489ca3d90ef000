"""Conversions within warps by shuffles, for layouts whose moving digits are powers of two.

The bits of a thread and of a local number then stand for bits of the tile index, so a conversion renames bits: each
bit of the source's (thread, local) is a bit of the destination's. A shuffle is needed only where a lane bit comes from
another bit. All maps are XORs of bits, so they cost a few instructions and no tables.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from tilus.layouts.modes import Mode
from tilus.layouts.register import RegisterLayout
from tilus.records import record

if TYPE_CHECKING:
    from numpy.typing import NDArray

LANE_BITS = 5
LANES = 1 << LANE_BITS
"""Threads of a warp, among which shuffles move values and whose accesses to shared memory are one request."""


class BitMap(NamedTuple):
    """``constant`` XOR ``columns[i]`` for every bit ``i`` that is set in the argument."""

    constant: int
    columns: tuple[int, ...]

    def __call__(self, x: Any) -> Any:
        """For an int or an array of ints."""
        result = x * 0 + self.constant
        for i, column in enumerate(self.columns):
            if column:
                result = result ^ (x >> i & 1) * column
        return result

    @property
    def is_constant(self) -> bool:
        return not any(self.columns)


class Round(NamedTuple):
    """One exchange. Every thread offers its source register group ``send(thread)``, reads what the thread
    ``source(thread)`` of its warp offers, and keeps it as destination register group ``receive(thread)``."""

    source: BitMap
    send: BitMap
    receive: BitMap

    @property
    def is_local(self) -> bool:
        """Whether each thread reads from itself, so that no shuffle is needed."""
        return self.source.constant == 0 and all(c == 1 << i for i, c in enumerate(self.source.columns))

    @property
    def xor_mask(self) -> int | None:
        """The mask of a butterfly shuffle (``source == thread ^ mask``), if it is one."""
        return self.source.constant if all(c == 1 << i for i, c in enumerate(self.source.columns)) else None


@record(frozen=True)
class ShufflePlan:
    """Rounds of warp shuffles.

    Attributes:
        rounds: the exchanges of one repetition; their thread arguments are whole thread numbers.
        repeat: how often the rounds are done, for consecutive parts of the locals.
        unit: consecutive locals that travel together as one register group.
        src_groups, dst_groups: groups per repetition: the local of group ``g``, element ``u`` in repetition ``o`` is
            ``(o * groups + g) * unit + u``.
        cost: instructions per thread (shuffles and selections).
    """

    rounds: tuple[Round, ...]
    repeat: int
    unit: int
    src_groups: int
    dst_groups: int
    cost: int

    def register_permutation(self) -> tuple[int, ...] | None:
        """The source local of each destination local, if no thread needs another's registers or a selection."""
        if not all(r.is_local and r.send.is_constant and r.receive.is_constant for r in self.rounds):
            return None
        group = {r.receive.constant: r.send.constant for r in self.rounds}
        return tuple((o * self.src_groups + group[g]) * self.unit + u for o in range(self.repeat)
                     for g in range(self.dst_groups) for u in range(self.unit))

    def apply(self, values: NDArray[Any]) -> NDArray[Any]:
        import numpy as np

        threads = np.arange(values.shape[0])
        held = values.reshape(len(threads), self.repeat, self.src_groups, self.unit)
        result = np.zeros((len(threads), self.repeat, self.dst_groups, self.unit), dtype=values.dtype)
        for step in self.rounds:
            offered = held[threads, :, step.send(threads)]
            result[threads, :, step.receive(threads)] = offered[step.source(threads)]
        return result.reshape(len(threads), -1)


def plan_shuffles(src: RegisterLayout, dst: RegisterLayout, element_bits: int) -> ShufflePlan | None:
    """The shuffles from one layout to another over the same threads, or None where warps must exchange elements or
    digits that differ between the layouts are no powers of two."""
    src_locals, dst_locals, unit, repeat = _strip_common(list(src.local_modes), list(dst.local_modes))
    src_threads, dst_threads = list(src.thread_modes), list(dst.thread_modes)
    _strip_odd(src_threads, dst_threads)
    sources = [_bits(modes) for modes in (src_threads, src_locals)]
    targets = [_bits(modes) for modes in (dst_threads, dst_locals)]
    if any(bits is None for bits in (*sources, *targets)):
        return None
    s_thread, s_local, d_thread, d_local = (bits or [] for bits in (*sources, *targets))
    solved = _solve(s_thread, s_local, d_thread, d_local, src)
    if solved is None:
        return None
    thread_bits = (src.num_threads - 1).bit_length()
    rounds = tuple(_round(j, *solved, thread_bits) for j in range(1 << len(d_local)))
    words = -(-unit * element_bits // 32) * repeat
    selections = sum(sum(map(bool, m.columns)) for m in (rounds[0].send, rounds[0].receive))
    cost = words * sum((not r.is_local) + selections for r in rounds)
    return ShufflePlan(rounds, repeat, unit, 1 << len(s_local), 1 << len(d_local), cost)


def _strip_common(src: list[Mode], dst: list[Mode]) -> tuple[list[Mode], list[Mode], int, int]:
    """Without the innermost and the outermost local digits that both layouts share."""
    unit = repeat = 1
    while src and dst and src[-1].dim == dst[-1].dim and src[-1].stride == dst[-1].stride:
        size = min(src[-1].size, dst[-1].size)
        if max(src[-1].size, dst[-1].size) % size:
            break
        unit *= size
        for modes in (src, dst):
            mode = modes.pop()
            if mode.size != size:
                modes.append(Mode(mode.size // size, mode.dim, mode.stride * size))
    while src and dst and src[0].dim == dst[0].dim and src[0].size * src[0].stride == dst[0].size * dst[0].stride:
        size = min(src[0].size, dst[0].size)
        if max(src[0].size, dst[0].size) % size:
            break
        repeat *= size
        for modes in (src, dst):
            mode = modes.pop(0)
            if mode.size != size:
                modes.insert(0, Mode(mode.size // size, mode.dim, mode.stride))
    return src, dst, unit, repeat


def _strip_odd(src: list[Mode], dst: list[Mode]) -> None:
    """Removes an odd factor that both layouts have in the same outermost threads, as in 96 threads of three warps."""
    while src and dst and src[0].dim == dst[0].dim and src[0].size * src[0].stride == dst[0].size * dst[0].stride:
        odd = src[0].size // (src[0].size & -src[0].size)
        if odd == 1 or odd != dst[0].size // (dst[0].size & -dst[0].size):
            break
        for modes in (src, dst):
            mode = modes.pop(0)
            if mode.size != odd:
                modes.insert(0, Mode(mode.size // odd, mode.dim, mode.stride))


def _is_power(n: int) -> bool:
    return n & (n - 1) == 0


Bit = tuple[int, int]
"""``(dim, stride)`` that a bit moves the index by; ``(-1, position)`` for a replicating bit."""


def _bits(modes: list[Mode]) -> list[Bit] | None:
    """The bits of a number, the lowest first."""
    result: list[Bit] = []
    for mode in reversed(modes):
        if not _is_power(mode.size):
            return None
        for i in range(mode.size.bit_length() - 1):
            result.append((mode.dim, mode.stride << i) if mode.dim >= 0 else (-1, len(result)))
    return result


Row = tuple[str, int] | None
"""Which destination bit gives a source bit: ``("thread", i)``, ``("local", i)``, or None for constant 0."""


def _solve(s_thread: list[Bit], s_local: list[Bit], d_thread: list[Bit], d_local: list[Bit], src: RegisterLayout,
           ) -> tuple[list[Row], list[Row], dict[int, int]] | None:
    """Source thread bits and local bits in terms of the destination's, and the skew: destination local bit -> the
    thread bit that is added to the round's number to get it."""
    where: dict[Bit, Row] = {bit: ("local", i) for i, bit in enumerate(d_local)}
    where.update({bit: ("thread", i) for i, bit in enumerate(d_thread) if bit[0] >= 0})
    held = {bit for bit in (*s_thread, *s_local) if bit[0] >= 0}
    # a destination bit that the source lacks must lie in the padding; else the digits are cut differently
    if any(bit not in held and bit[1] < src.shape[bit[0]] for bit in (*d_thread, *d_local) if bit[0] >= 0):
        return None
    if any(bit not in where and any(b[0] == bit[0] and b[1] > bit[1] for b in where) for bit in held):
        return None
    threads = [where.get(bit) if bit[0] >= 0 else None for bit in s_thread]
    locals_ = [where.get(bit) for bit in s_local]
    free = [i for i, bit in enumerate(s_thread) if bit[0] < 0]
    for i in range(LANE_BITS, len(s_thread)):
        if i in free:
            threads[i] = ("thread", i)
        elif threads[i] != ("thread", i):
            return None
    free = [i for i in free if i < LANE_BITS]
    seen = {row[1] for row in threads if row is not None and row[0] == "thread"}
    # a sender chooses its register by lane bits of the receiver, which its own lane number must therefore tell
    needs = [row[1] for row in locals_ if row is not None and row[0] == "thread" and row[1] not in seen
             and row[1] < LANE_BITS]
    for i in [i for i in free if i in needs]:
        threads[i] = ("thread", i)
        needs.remove(i)
        free.remove(i)
    skew: dict[int, int] = {}
    for row in threads:
        if needs and row is not None and row[0] == "local":
            skew[row[1]] = needs.pop(0)
    for i in free:
        threads[i] = ("thread", needs.pop(0) if needs else i)
    if needs:  # one lane would have to offer two registers at once
        return None
    return threads, locals_, skew


def _round(number: int, threads: list[Row], locals_: list[Row], skew: dict[int, int],
           thread_bits: int) -> Round:
    """Round ``number``: destination local ``number ^ skew(thread)``."""
    # the thread bits above those that were solved for belong to parts that both layouts share
    columns = [0] * len(threads) + [1 << i for i in range(len(threads), thread_bits)]
    constant = 0
    recover: dict[int, tuple[int, int]] = {}
    for i, row in enumerate(threads):
        if row is None:
            continue
        kind, bit = row
        flip = 0
        if kind == "local":
            flip = number >> bit & 1
            constant |= flip << i
            if bit not in skew:
                continue
            bit = skew[bit]
        columns[bit] ^= 1 << i
        recover[bit] = (i, flip)
    send_columns, send_constant = [0] * len(threads), 0
    for i, row in enumerate(locals_):
        if row is None:
            continue
        kind, bit = row
        flip = 0
        if kind == "local":
            flip = number >> bit & 1
            if bit not in skew:
                send_constant ^= flip << i
                continue
            bit = skew[bit]
        lane, flipped = recover[bit]
        send_columns[lane] ^= 1 << i
        send_constant ^= (flip ^ flipped) << i
    receive_columns = [0] * len(threads)
    for bit, lane in skew.items():
        receive_columns[lane] ^= 1 << bit
    return Round(BitMap(constant, tuple(columns)), BitMap(send_constant, tuple(send_columns)),
                 BitMap(number, tuple(receive_columns)))
