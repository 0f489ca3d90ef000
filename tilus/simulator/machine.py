"""The state of a batch of blocks: registers as rows over all lanes, groups of active lanes, and operand binding."""
# NumPy types the results of most functions as Any.
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tilus.diagnostics import Span, UserError
from tilus.simulator.layout import LOCAL_WINDOW, SHARED_WINDOW
from tilus.simulator.resolved import Both, Const, Mem, Op, Reg, Resolved, Sink, Special, Symbol, Vec
from tilus.simulator.syntax import type_bits
from tilus.simulator.taint import UNDEFINED, Taint

if TYPE_CHECKING:
    from tilus.simulator.asynchronous import AsyncQueue
    from tilus.simulator.barriers import BarrierState
    from tilus.simulator.execution import Launch
    from tilus.simulator.faults import Other
    from tilus.simulator.memory import LocalSpace, SharedSpace
    from tilus.simulator.order import Order

Array = npt.NDArray[Any]

POISON = 0x7FBADBAD
_FLOATS = {"f16": np.float16, "f32": np.float32, "f64": np.float64}


@functools.cache
def dtype_of(name: str) -> np.dtype[Any]:
    """NumPy type of a PTX type; bit types, bf16, packed and narrow formats map to unsigned integers."""
    if name in _FLOATS:
        return np.dtype(_FLOATS[name])
    if name == "pred":
        return np.dtype(bool)
    bits = max(8, type_bits(name))
    if name[0] == "s" and name[1:].isdigit():
        return np.dtype(f"i{bits // 8}")
    return np.dtype(f"u{bits // 8}")


class Group:
    """Lanes that run together.

    Attributes:
        mask: which lanes of the batch.
        m: the mask under which registers are written, or None where lanes outside of the group have ended.
        idx: numbers of the active lanes, or None for all lanes.
        full: whether every lane that still runs is in it.
    """

    __slots__ = ("_warps", "full", "idx", "lanes_total", "m", "mask")

    def __init__(self, mask: Array, full: bool, everyone: bool) -> None:
        self.mask = mask
        self.full = full
        self.m: Array | None = None if full else mask
        self.idx: Array | None = None if everyone else np.flatnonzero(mask)
        self.lanes_total = mask.size
        self._warps = -1

    def lanes(self) -> Array:
        """Numbers of the active lanes."""
        return np.arange(self.lanes_total) if self.idx is None else self.idx

    @property
    def count(self) -> int:
        return self.lanes_total if self.idx is None else self.idx.size

    @property
    def warps(self) -> int:
        """How many warps have an active lane."""
        if self._warps < 0:
            self._warps = self.lanes_total // 32 if self.idx is None else \
                int(self.mask.reshape(-1, 32).any(axis=1).sum())
        return self._warps

    def restrict(self, predicate: Array, negated: bool) -> Group | None:
        """The lanes whose predicate holds; None where there is none."""
        chosen = ~predicate if negated else predicate
        if self.idx is not None:
            chosen = chosen & self.mask
            count = int(np.count_nonzero(chosen))
            if count == self.idx.size:
                return self
        else:
            count = int(np.count_nonzero(chosen))
            if count == self.lanes_total:
                return self
        if count == 0:
            return None
        group = Group(chosen if chosen is not predicate else chosen.copy(), False, False)
        return group


Run = Callable[[Group], None]


@dataclass(frozen=True)
class Predicated:
    """A step that honours its operation's predicate by itself."""

    run: Run


@dataclass
class Batch:
    """Blocks that are simulated together.

    ``lanes`` = blocks × threads rounded up to warps; lane l belongs to block ``l // stride``.
    """

    launch: Launch
    capacity: int
    stride: int
    blocks: Array = field(default_factory=lambda: np.zeros(0, np.int64))

    regs: dict[int, Array] = field(default_factory=dict)
    valid: dict[tuple[int, int], Array] = field(default_factory=dict)
    in_flight: dict[tuple[int, int], Array] = field(default_factory=dict)
    specials: dict[str, Array] = field(default_factory=dict)
    shared: SharedSpace = field(init=False)
    local: LocalSpace = field(init=False)
    order: Order = field(init=False)
    barriers: BarrierState = field(init=False)
    queue: AsyncQueue = field(init=False)
    polled: dict[tuple[int, int, int], Array] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.lanes = self.capacity * self.stride
        self.warps = self.lanes // 32
        self.block_of = np.repeat(np.arange(self.capacity), self.stride)
        self.thread_of = np.tile(np.arange(self.stride), self.capacity)
        self.warp_of = np.arange(self.lanes) // 32
        self.every = np.arange(self.lanes)
        self.live = np.zeros(self.lanes, bool)
        self.carry = np.zeros(self.lanes, bool)
        self.polling = np.zeros(self.lanes, bool)
        # What each lane last found unchanged: the offset of an mbarrier and the parity it waits for, or an address.
        self.waits_for = np.full(self.lanes, -1, np.int64)
        self.waits_parity = np.zeros(self.lanes, np.int8)
        self.polls_at = np.full(self.lanes, -1, np.int64)
        self.release: Callable[[], None] = lambda: None
        self.state: dict[str, Any] = {}
        self.taint = Taint(self)
        self._scratch: dict[Any, Array] = {}

    def scratch(self, dtype: Any) -> Array:
        key = np.dtype(dtype)
        if key not in self._scratch:
            self._scratch[key] = np.zeros(self.lanes, key)
        return self._scratch[key]

    def poll(self, op: Op, lanes: Array, address: Array) -> None:
        """Lanes read what another thread may be about to change; reading on at new addresses is progress."""
        self.polling[lanes] = True
        self.waits_for[lanes] = -1
        self.polls_at[lanes] = address
        key = (id(op), int(lanes[0]), lanes.size)
        before = self.polled.get(key)
        if before is None or not np.array_equal(before, address):
            self.polled[key] = address.copy()
            self.launch.progress += 1

    def position(self, lane: int) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
        """Block and thread coordinates of a lane."""
        block = int(self.blocks[self.block_of[lane]])
        thread = int(self.thread_of[lane])
        gx, gy, _ = self.launch.grid
        bx, by, _ = self.launch.block
        return ((block % gx, block // gx % gy, block // (gx * gy)),
                (thread % bx, thread // bx % by, thread // (bx * by)))

    def fault(self, check: str, message: str, op: Op | None, lane: int | None = None, address: int | None = None,
              count: int = 1, other: Other | None = None, cause: Op | None = None, level: str = "error") -> None:
        block, thread = self.position(lane) if lane is not None else (None, None)
        self.launch.faults.add(check, message, op, block=block, thread=thread, address=address, count=count,
                               other=other, cause=cause, level=level)


class Binder:
    """Turns operands into array rows of a batch and operations into steps."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self.launch = batch.launch
        self.lanes = batch.lanes

    def error(self, message: str, op: Op) -> UserError:
        path = self.launch.path
        return UserError.at("E1002", f"{message} in {op.opcode!r} at line {op.line}", Span(path, op.line))

    # -- operands

    def row(self, reg: Reg) -> Array:
        return self.batch.regs[reg.bits][reg.index]

    def src(self, op: Op, item: Resolved, kind: str, loose: bool = False) -> Array:
        """The operand's values as an array of the lanes, or of one element for constants.

        ``loose`` lets a wider register stand for its low bits, as ld, st and cvt allow.
        """
        if kind == "b128":
            if not isinstance(item, Reg) or item.bits != 128:
                raise self.error("a register of 128 bits is expected", op)
            return self.row(item)
        dtype = dtype_of(kind)
        if isinstance(item, Reg):
            if kind == "pred":
                return self._predicate(op, item)
            if item.minus or item.negated or item.bits == 1:
                raise self.error(f"bad operand {item.name!r}", op)
            return self._view(op, item, dtype, loose)
        if isinstance(item, Const):
            try:
                return self.constant(item.value, kind)
            except (OverflowError, ValueError):     # an infinity or a NaN where an integer is expected
                raise self.error(f"{item.value} is no constant of this type", op) from None
        if isinstance(item, Symbol):
            address = np.array([self.symbol_address(item) & ((1 << 8 * dtype.itemsize) - 1)], f"u{dtype.itemsize}")
            return (self.in_cluster(address) if item.space in ("shared", "dynamic") else address).view(dtype)
        if isinstance(item, Special):
            row = self.special(item.name, op)
            return row if row.dtype == dtype else self._special_view(row, dtype)
        raise self.error("unexpected operand", op)

    def _predicate(self, op: Op, item: Reg) -> Array:
        if item.bits != 1:
            raise self.error(f"{item.name!r} is not a predicate", op)
        if item.negated:
            raise self.error(f"negated predicate {item.name!r} is not allowed here", op)
        return self.row(item)

    def _special_view(self, row: Array, dtype: np.dtype[Any]) -> Array:
        if row.dtype.itemsize > dtype.itemsize:
            return row.view(dtype)[::row.dtype.itemsize // dtype.itemsize]
        if row.dtype.itemsize == dtype.itemsize:
            return row.view(dtype)
        return row.astype(dtype)

    def constant(self, value: int | float, kind: str) -> Array:
        dtype = dtype_of(kind)
        if kind == "pred":
            return np.array([bool(value)])
        if dtype.kind == "f":
            return np.array([value], np.float64).astype(dtype)
        if isinstance(value, float):
            size = dtype.itemsize
            if size in (4, 8):
                return np.array([value], f"f{size}").view(dtype)
            value = int(value)
        bits = 8 * dtype.itemsize
        return np.array([value & ((1 << bits) - 1)], f"u{dtype.itemsize}").view(dtype)

    def symbol_address(self, item: Symbol) -> int:
        if item.space == "dynamic":
            return self.launch.dynamic_base + item.address
        return item.address

    def in_cluster(self, address: Array) -> Array:
        """Addresses in the own shared memory as the threads of a cluster see them: with the block's rank."""
        windows = self.batch.shared.windows
        return address if windows is None else (address + windows).astype(address.dtype)

    def _view(self, op: Op, reg: Reg, dtype: np.dtype[Any], loose: bool) -> Array:
        row = self.row(reg)
        size = row.dtype.itemsize
        if reg.bits == 128:
            raise self.error(f"register {reg.name!r} has the wrong size", op)
        if size == dtype.itemsize:
            return row if row.dtype == dtype else row.view(dtype)
        if size > dtype.itemsize and (loose or dtype.itemsize == 1):
            return row.view(dtype)[::size // dtype.itemsize]
        raise self.error(f"register {reg.name!r} of {reg.bits} bits does not fit the type", op)

    def dst(self, op: Op, item: Resolved, kind: str) -> Array:
        """The row to write; a scratch row for ``_``."""
        dtype = dtype_of(kind)
        if isinstance(item, Sink):
            return self.batch.scratch(dtype).copy()
        if not isinstance(item, Reg):
            raise self.error("the destination is not a register", op)
        if kind == "pred":
            return self._predicate(op, item)
        return self._view(op, item, dtype, False)

    def special(self, name: str, op: Op) -> Array:
        row = self.batch.specials.get(name)
        if row is None:
            raise self.error(f"special register {name!r} is not supported", op)
        return row

    def groups(self, op: Op, item: Resolved) -> int:
        """How many groups a wait leaves open."""
        if not isinstance(item, Const) or not isinstance(item.value, int) or not 0 <= item.value < 1 << 31:
            raise self.error("the number of groups must be a constant from 0 on", op)
        return item.value

    def need(self, op: Op, *counts: int) -> tuple[Resolved, ...]:
        """The operands, after checking how many there are."""
        if len(op.operands) not in counts:
            raise self.error(f"{len(op.operands)} operands", op)
        return op.operands

    # -- steps

    def alu(self, op: Op, fn: Callable[..., Any], dst: Array, *srcs: Array) -> Predicated:
        """A step ``dst = fn(*srcs)`` under the group's mask and the operation's predicate."""
        predicate = op.predicate
        if predicate is not None:
            return Predicated(_masked_step(fn, dst, srcs, self.row(predicate), predicate.negated))
        if isinstance(fn, np.ufunc):
            return Predicated(_ufunc_step(fn, dst, srcs, self.batch.scratch(dst.dtype)))
        return Predicated(_function_step(fn, dst, srcs))

    def store(self, dst: Array) -> Callable[[Group, Array], None]:
        """A writer of one value for each active lane, in the order of ``g.lanes()``."""
        def write(g: Group, value: Array) -> None:
            if g.idx is None:
                dst[...] = value
            else:
                dst[g.idx] = value

        return write

    def step(self, op: Op) -> Run:
        """Bind an operation."""
        assert op.form is not None
        try:
            made = op.form.handler(self, op)
        except (ValueError, IndexError, OverflowError) as problem:
            raise self.error("operands of the wrong number or kind", op) from problem
        run: Run = made.run if isinstance(made, Predicated) else self._guard(op, made)
        if self.launch.checks.uninitialised:
            run = self._track(op, run)
        if self.batch.in_flight and self.launch.checks.asynchronous and op.form.kind != "wgmma":
            run = self._track_flight(op, run)
        return run

    def _track_flight(self, op: Op, inner: Run) -> Run:
        """Wrap a step that touches registers which a wgmma may still be writing."""
        from tilus.simulator.flow import reads_and_writes

        reads, writes = reads_and_writes(op)
        rows = [(f"accumulator {r.name} is used before wgmma.wait_group", self.batch.in_flight[r.bits, r.index])
                for r in reads + writes if (r.bits, r.index) in self.batch.in_flight]
        if not rows:
            return inner
        batch = self.batch

        def run(g: Group) -> None:
            for message, row in rows:
                early = row & g.mask
                if early.any():
                    batch.fault("async", message, op, int(np.argmax(early)), count=int(early.sum()))
            inner(g)

        return run

    def _guard(self, op: Op, inner: Run) -> Run:
        if op.predicate is None:
            return inner
        row, negated = self.row(op.predicate), op.predicate.negated

        def run(g: Group) -> None:
            part = g.restrict(row, negated)
            if part is not None:
                inner(part)

        return run

    def _track(self, op: Op, inner: Run) -> Run:
        """Wrap a step that touches registers which may be unwritten: those that it reads are undefined from now on."""
        from tilus.simulator.flow import reads_and_writes

        valid, taint = self.batch.valid, self.batch.taint
        if not valid:
            return inner
        reads, writes = reads_and_writes(op)
        read_rows = [(r, valid[r.bits, r.index]) for r in reads if (r.bits, r.index) in valid]
        write_rows = [valid[r.bits, r.index] for r in writes if (r.bits, r.index) in valid]
        if not read_rows and not write_rows:
            return inner
        predicate = (self.row(op.predicate), op.predicate.negated) if op.predicate is not None else None
        batch = self.batch
        tracked = taint.track(op, inner)

        def run(g: Group) -> None:
            part = g if predicate is None else g.restrict(*predicate)
            fresh = False
            for reg, row in read_rows:
                if part is None:
                    break
                unwritten = part.mask & ~row & batch.live
                if unwritten.any():
                    row |= unwritten
                    taint.put(reg, np.flatnonzero(unwritten), UNDEFINED, op)
                    fresh = True
            if fresh:
                tracked(g)
            else:
                inner(g)
            if part is not None:
                for row in write_rows:
                    row |= part.mask

        return run


def _ufunc_step(fn: np.ufunc, dst: Array, srcs: tuple[Array, ...], scratch: Array) -> Run:
    copyto = np.copyto
    if len(srcs) == 2:
        a, c = srcs

        def run2(g: Group) -> None:
            if g.m is None:
                fn(a, c, out=dst)
            else:
                fn(a, c, out=scratch)
                copyto(dst, scratch, where=g.m)

        return run2

    def run(g: Group) -> None:
        if g.m is None:
            fn(*srcs, out=dst)
        else:
            fn(*srcs, out=scratch)
            copyto(dst, scratch, where=g.m)

    return run


def _function_step(fn: Callable[..., Any], dst: Array, srcs: tuple[Array, ...]) -> Run:
    copyto = np.copyto

    def run(g: Group) -> None:
        if g.m is None:
            dst[...] = fn(*srcs)
        else:
            copyto(dst, fn(*srcs), where=g.m, casting="unsafe")

    return run


def _masked_step(fn: Callable[..., Any], dst: Array, srcs: tuple[Array, ...], predicate: Array, negated: bool) -> Run:
    copyto = np.copyto

    def run(g: Group) -> None:
        mask = ~predicate if negated else predicate
        if g.m is not None:
            mask = mask & g.m
        copyto(dst, fn(*srcs), where=mask, casting="unsafe")

    return run


__all__ = [
    "LOCAL_WINDOW",
    "SHARED_WINDOW",
    "Batch",
    "Binder",
    "Both",
    "Const",
    "Group",
    "Mem",
    "Op",
    "Predicated",
    "Reg",
    "Run",
    "Sink",
    "Special",
    "Symbol",
    "Vec",
    "dtype_of",
]
