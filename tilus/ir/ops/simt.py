"""Thread level of a GPU: special registers, shared memory, barriers, warp collectives, tensor-core instructions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tilus.ir.core import Block, Effect, Operation, Value
from tilus.ir.dtypes import DType, i32
from tilus.ir.families import Elementwise
from tilus.ir.ops.thread import pointer_type
from tilus.ir.terms import AtomicKind, ShuffleMode
from tilus.ir.types import PointerType, TileType, Type

SPECIAL_REGISTERS = ("tid", "lane", "warp", "ctaid.x", "ctaid.y", "ctaid.z", "nctaid.x", "nctaid.y", "nctaid.z")

REREAD = {"tid": "tid.x", "ctaid.x": "ctaid.x", "ctaid.y": "ctaid.y", "ctaid.z": "ctaid.z"}
"""Registers, with their names in PTX, that are cheaper to read once more than to keep."""


class SpecialRegister(Operation):
    """A special register, as i32: ``tid`` (thread of the block), ``lane``, ``warp``, ``ctaid.*``, ``nctaid.*``.
    Reads of different ``phase`` are not merged."""

    NAME = "special_register"
    register: str
    phase: int = 0

    def infer(self) -> Sequence[Type]:
        if self.register not in SPECIAL_REGISTERS:
            self.fail("E0801", f"there is no special register {self.register!r}")
        return (TileType(i32),)


class SharedBase(Operation):
    """The shared memory at a byte offset of the block's allocation, as elements of ``dtype``."""

    NAME = "shared_base"
    offset: int
    dtype: DType

    def infer(self) -> Sequence[Type]:
        return (PointerType(self.dtype, "shared"),)


class Barrier(Operation):
    """``bar.sync id, threads`` (``threads`` 0: all of the block), or ``bar.arrive``; orders memory among them."""

    NAME = "barrier"
    id: int = 0
    threads: int = 0
    arrive: bool = False

    def effects(self) -> Sequence[Effect]:
        return (Effect("sync"),)


class WarpBarrier(Operation):
    """``bar.warp.sync`` of the whole warp; orders memory among its lanes."""

    NAME = "warp_barrier"

    def effects(self) -> Sequence[Effect]:
        return (Effect("sync"),)


class CpAsync(Operation):
    """``cp.async`` of ``bytes`` (4, 8 or 16) from global to shared memory. Where ``predicate`` is false the
    destination is filled with zeros and nothing is read; where ``active`` is false, nothing is done. Only the first
    ``count`` bytes are read, and the others are zeros, if that is given."""

    NAME = "cp_async"
    destination: Value
    source: Value
    bytes: int
    predicate: Value | None = None
    active: Value | None = None
    count: Value | None = None

    def effects(self) -> Sequence[Effect]:
        return (Effect("read", "global", self.source), Effect("write", "shared", self.destination))


class CpAsyncCommit(Operation):
    """``cp.async.commit_group``."""

    NAME = "cp_async_commit"

    def effects(self) -> Sequence[Effect]:
        return (Effect("sync"),)


class CpAsyncWait(Operation):
    """``cp.async.wait_group pending``."""

    NAME = "cp_async_wait"
    pending: int

    def effects(self) -> Sequence[Effect]:
        return (Effect("sync"),)


class LdMatrix(Operation):
    """``ldmatrix.sync.aligned.m8n8.xN(.trans).shared.b16``: the row addresses come from lanes 0 to 8N-1. The result
    has ``count * 4 / itemsize`` elements of the pointer's type: 32 bits of each matrix in turn."""

    NAME = "ldmatrix"
    pointer: Value
    count: int
    trans: bool = False

    def infer(self) -> Sequence[Type]:
        dtype = pointer_type(self.pointer).dtype
        return (TileType(dtype, (self.count * 32 // dtype.bits,)),)

    def effects(self) -> Sequence[Effect]:
        return (Effect("read", "shared", self.pointer),)


class StMatrix(Operation):
    """``stmatrix.sync.aligned.m8n8.xN(.trans).shared.b16``, the inverse of :class:`LdMatrix`."""

    NAME = "stmatrix"
    pointer: Value
    value: Value
    count: int
    trans: bool = False

    def effects(self) -> Sequence[Effect]:
        return (Effect("write", "shared", self.pointer),)


class Mma(Operation):
    """``mma.sync.aligned.SHAPE.ORDER`` on fragment vectors; ``shape`` is (m, n, k); ``tf32`` marks f32 operands that
    the instruction reads as tf32; ``order`` is ``row.col`` but for m8n8k4 on f16, which has all four. With
    ``metadata``, one word of each lane, it is ``mma.sp`` with the selector 0, and k that of A with its zeros;
    ``ordered`` says to the assembler that the indices of each pair ascend, so that nothing has to order them."""

    NAME = "mma"
    a: Value
    b: Value
    c: Value
    shape: tuple[int, int, int]
    tf32: bool = False
    order: str = "row.col"
    metadata: Value | None = None
    ordered: bool = False

    @property
    def title(self) -> str:
        m, n, k = self.shape
        return f"mma{'.sp' if self.metadata is not None else ''}.m{m}n{n}k{k}"

    def infer(self) -> Sequence[Type]:
        return (self.c.type,)


class MmaScaled(Operation):
    """``mma.sync`` of ``kind`` with ``.block_scale`` on words of fragments: ``formats`` are the types of A's and B's
    elements, ``scale`` that of the scales, ``scales`` how many an instruction takes of a row. ``select`` is the byte
    and the thread of a quad at which those of A are, then of B."""

    NAME = "mma_scaled"
    a: Value
    b: Value
    c: Value
    a_scales: Value
    b_scales: Value
    shape: tuple[int, int, int]
    kind: str
    formats: tuple[str, str]
    scale: str
    scales: int
    select: tuple[int, int, int, int]

    @property
    def title(self) -> str:
        m, n, k = self.shape
        return f"mma.m{m}n{n}k{k}.{self.kind}"

    def infer(self) -> Sequence[Type]:
        return (self.c.type,)


class WarpShuffle(Operation):
    """``shfl.sync.MODE.b32`` of each 32-bit part of ``value``: ``mode`` is ``bfly``, ``idx``, ``up`` or ``down``;
    ``lane`` the lane mask, source lane or distance. Lanes whose source is outside keep their own value."""

    NAME = "warp_shuffle"
    value: Value
    lane: Value
    mode: ShuffleMode = "bfly"

    def infer(self) -> Sequence[Type]:
        return (self.value.type,)


class MovMatrix(Operation):
    """``movmatrix.sync.aligned.m8n8.trans.b16``: a matrix of 8×8 elements of 16 bits, of which each lane has two
    neighbours of a row in ``value``, transposed."""

    NAME = "movmatrix"
    value: Value

    def infer(self) -> Sequence[Type]:
        return (self.value.type,)


class WarpRedux(Operation):
    """``redux.sync.KIND`` of a 32-bit integer over the warp (``add``, ``min``, ``max``, ``and``, ``or``, ``xor``)."""

    NAME = "warp_redux"
    value: Value
    kind: AtomicKind

    def infer(self) -> Sequence[Type]:
        return (self.value.type,)


class PrintThread(Operation):
    """``vprintf`` of scalars by the executing thread; ``format`` has ``{}`` where each goes."""

    NAME = "print_thread"
    format: str
    values: tuple[Value, ...] = ()

    def effects(self) -> Sequence[Effect]:
        return (Effect("io"),)


class ExitIf(Operation):
    """Ends the thread where ``condition`` holds, which all threads of the block agree on."""

    NAME = "exit_if"
    condition: Value

    def effects(self) -> Sequence[Effect]:
        return (Effect("io"),)


ASSERTION_FAILED = "device assertion failed: "
"""How a thread's print begins before it traps for a failed assertion."""


class Trap(Operation):
    """Ends the kernel with an error."""

    NAME = "trap"

    def effects(self) -> Sequence[Effect]:
        return (Effect("io"),)


class ApproxUnary(Elementwise):
    """A hardware approximation: ``ex2``, ``lg2``, ``rcp``, ``rsqrt``, ``sqrt``, ``sin``, ``cos``, ``tanh`` of f32
    (subnormals flushed where ``ftz``)."""

    NAME = "approx_unary"
    kind: str
    x: Value
    ftz: bool = False

    def infer(self) -> Sequence[Type]:
        return (self.x.type,)


class CvtFp8(Operation):
    """``cvt`` of 8-bit floats, two at a time: to f16 exactly, or from f32 to nearest even, beyond the range to the
    greatest number (``satfinite``)."""

    NAME = "cvt_fp8"
    x: Value
    dtype: DType

    def infer(self) -> Sequence[Type]:
        return (TileType(self.dtype, self.x.tile.shape),)


class Keep(Operation):
    """``x``, computed where this stands: compilers do not move its computation to where it is used."""

    NAME = "keep"
    x: Value

    def infer(self) -> Sequence[Type]:
        return (self.x.type,)


class CallEach(Operation):
    """``body`` of one group of values after the other: code that is there once, and is called. ``values`` are the
    arguments of the first call, then those of the second; so are the results. ``body`` has no effects, and uses its
    arguments only."""

    NAME = "call_each"
    values: tuple[Value, ...]
    body: Block

    def infer(self) -> Sequence[Type]:
        return tuple(v.type for v in self.body.terminator.operands) * self.calls

    @property
    def calls(self) -> int:
        return len(self.values) // len(self.body.args)

    def groups(self) -> Iterator[tuple[Sequence[Value], Sequence[Value]]]:
        """Arguments and results of each call."""
        taken, given = len(self.body.args), len(self.body.terminator.operands)
        for i in range(self.calls):
            yield self.values[i * taken : (i + 1) * taken], self.results[i * given : (i + 1) * given]

    def verify(self) -> None:
        if [v.type for v in self.values] != [a.type for a in self.body.args] * self.calls:
            self.fail("E0802", "a call's arguments are not of the types that its body takes")


__all__ = [
    "ApproxUnary",
    "Barrier",
    "CallEach",
    "CpAsync",
    "CpAsyncCommit",
    "CpAsyncWait",
    "CvtFp8",
    "ExitIf",
    "Keep",
    "LdMatrix",
    "Mma",
    "MmaScaled",
    "PrintThread",
    "SharedBase",
    "SpecialRegister",
    "StMatrix",
    "Trap",
    "WarpBarrier",
    "WarpRedux",
    "WarpShuffle",
]
