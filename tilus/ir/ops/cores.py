"""Core level: programs of cores that have several memories and an instruction queue (a *pipe*) for each unit.

The scalar unit issues calls to pipes in program order and goes on at once; pipes run side by side, and only flags and
barriers order them. Tensors in local memory are values of :class:`tilus.ir.types.LocalType`; arithmetic of scalars and
control flow are the operations of ``arith`` and ``control``, global memory is reached through pointers (``thread``).
"""

from __future__ import annotations

from collections.abc import Sequence

from tilus.ir.core import Block, Effect, Operation, Value
from tilus.ir.dtypes import DType, i64
from tilus.ir.terms import Space
from tilus.ir.types import LocalType, PointerType, TileType, Type


def local_type(value: Value) -> LocalType:
    if not isinstance(value.type, LocalType):
        raise TypeError(f"expected a tensor in local memory, got {value.type}")
    return value.type


class Local(Operation):
    """A tensor of ``size`` elements in local memory. One with several ``slots`` is that many tensors, which iterations
    of the innermost loop around it take in turn, as ``turn`` says. Loops that follow each other may use the same bytes
    for theirs: those of one ``ring``. A ``staged`` one has flags of its own. One of a ``queue`` is the buffer that this
    gives. ``address`` in bytes is that of the first, −1 while nobody has chosen."""

    NAME = "local"
    dtype: DType
    size: int
    memory: str = "ub"
    slots: int = 1
    address: int = -1
    ring: int = -1
    staged: bool = False
    queue: int = -1
    turn: Value | None = None

    def infer(self) -> Sequence[Type]:
        return (LocalType(self.dtype, self.size, self.memory),)

    def effects(self) -> Sequence[Effect]:
        return (Effect("alloc", "local"),)


class Part(Operation):
    """``size`` elements from ``start`` (and ``offset``, a scalar) on; as elements of ``dtype``, which all those
    count then."""

    NAME = "part"
    tensor: Value
    dtype: DType
    size: int
    start: int = 0
    offset: Value | None = None

    def infer(self) -> Sequence[Type]:
        return (LocalType(self.dtype, self.size, local_type(self.tensor).memory),)


class Call(Operation):
    """A call of the target's library for ``pipe``. ``form`` is its text, in which ``{0}`` is the first of ``tensors``
    (local, or pointers to global memory) and ``{s0}`` the first of ``scalars``. The first ``written`` of the tensors
    are written, those from ``read`` on are read. Calls of one ``group`` (not 0) do not meet each other, although the
    parts that they go by overlap: each takes other columns."""

    NAME = "call"
    form: str
    pipe: str
    tensors: tuple[Value, ...]
    scalars: tuple[Value, ...] = ()
    written: int = 1
    read: int = 1
    group: int = 0

    def effects(self) -> Sequence[Effect]:
        return (*(Effect("write", _space(t), t) for t in self.tensors[:self.written]),
                *(Effect("read", _space(t), t) for t in self.tensors[self.read:]))


def _space(value: Value) -> Space:
    return "global" if isinstance(value.type, PointerType) else "local"


class Strips(Operation):
    """What ``body`` makes of ``count`` strips of rows of ``inputs``, one after the other. The body takes the strip's
    number and strips of the inputs, and yields strips of the results; rows are the first dimension whose extent is not
    1."""

    NAME = "strips"
    inputs: tuple[Value, ...]
    count: int
    body: Block

    def infer(self) -> Sequence[Type]:
        return [_rows_times(v.tile, self.count) for v in self.body.terminator.operands]


def _rows_times(strip: TileType, count: int) -> TileType:
    first = next((d for d, n in enumerate(strip.shape) if n != 1), 0)
    return TileType(strip.dtype, tuple(n * count if d == first else n for d, n in enumerate(strip.shape)))


class Turn(Operation):
    """The slot whose turn it is, of ``slots``: 0 at first, and the next one after each :class:`NextTurn`."""

    NAME = "turn"
    slots: int

    def infer(self) -> Sequence[Type]:
        return (TileType(i64),)

    def effects(self) -> Sequence[Effect]:
        return (Effect("alloc", "local"),)


class NextTurn(Operation):
    """The next slot's turn."""

    NAME = "next_turn"
    turn: Value
    slots: int

    def effects(self) -> Sequence[Effect]:
        return (Effect("sync"),)


class Queue(Operation):
    """So many buffers (``slots``) of ``bytes`` each, the first at ``address``, in which the pipe ``source`` leaves what
    the pipe ``target`` uses."""

    NAME = "queue"
    number: int
    source: str
    target: str
    bytes: int
    slots: int
    address: int = -1

    def effects(self) -> Sequence[Effect]:
        return (Effect("alloc", "local"),)


class QueueStep(Operation):
    """A step in the life of a buffer: ``"AllocTensor"`` gives one to the source when the target has done with it,
    ``"EnQue"`` and ``"DeQue"`` hand it on when the source is done, ``"FreeTensor"`` gives it back."""

    NAME = "queue_step"
    kind: str
    tensor: Value
    queue: int
    source: str
    target: str

    def effects(self) -> Sequence[Effect]:
        return (Effect("sync"),)


class SetFlag(Operation):
    """Set flag ``number`` (plus ``slot``) of the pair ``source`` → ``target`` when all earlier calls of ``source`` are
    done."""

    NAME = "set_flag"
    source: str
    target: str
    number: int
    slot: Value | None = None

    def effects(self) -> Sequence[Effect]:
        return (Effect("sync"),)


class WaitFlag(Operation):
    """Later calls of ``target`` begin when the flag has been set; it is cleared. One that lets slots be filled again
    names their ``rings``."""

    NAME = "wait_flag"
    source: str
    target: str
    number: int
    slot: Value | None = None
    rings: tuple[int, ...] = ()

    def effects(self) -> Sequence[Effect]:
        return (Effect("sync"),)


class PipeBarrier(Operation):
    """Later calls of a pipe (``"ALL"``: of all) begin when earlier ones are done."""

    NAME = "pipe_barrier"
    pipe: str

    def effects(self) -> Sequence[Effect]:
        return (Effect("sync"),)


class CrossSet(Operation):
    """Tell the cores of the other kind of this block that earlier calls of ``pipe`` are done; vector cores tell it
    together."""

    NAME = "cross_set"
    pipe: str
    number: int
    slot: Value | None = None

    def effects(self) -> Sequence[Effect]:
        return (Effect("sync"),)


class CrossWait(Operation):
    """Later calls of ``pipe`` begin when the cores of the other kind have said so."""

    NAME = "cross_wait"
    pipe: str
    number: int
    slot: Value | None = None

    def effects(self) -> Sequence[Effect]:
        return (Effect("sync"),)


class ReadScalar(Operation):
    """The first element of a tensor as a scalar; the scalar unit waits until what is issued before is done where a flag
    says so."""

    NAME = "read_scalar"
    tensor: Value

    def infer(self) -> Sequence[Type]:
        return (TileType(local_type(self.tensor).dtype),)

    def effects(self) -> Sequence[Effect]:
        return (Effect("read", "local", self.tensor),)


class CoreIndex(Operation):
    """``kind`` ``"block"``: which of the launched blocks this is, as cores of its kind count them (``"whole"``: as
    matrix cores do); ``"blocks"``: how many there are; ``"part"``: which of the vector cores of its block it is."""

    NAME = "core_index"
    kind: str

    def infer(self) -> Sequence[Type]:
        return (TileType(i64),)


class Side(Operation):
    """What the cores of one kind do: ``"cube"`` or ``"vector"``."""

    NAME = "side"
    kind: str
    body: Block


class Send(Operation):
    """Gives a tile, or its rows from ``row`` on, to the cores of the other kind, which :class:`Receive` it from the
    same channel."""

    NAME = "send"
    value: Value
    channel: int
    row: Value | None = None

    def effects(self) -> Sequence[Effect]:
        return (Effect("sync"),)


class Receive(Operation):
    """The next tile that the cores of the other kind send, or the rows of ``shape`` from ``row`` on."""

    NAME = "receive"
    channel: int
    dtype: DType
    shape: tuple[int, ...]
    row: Value | None = None

    def infer(self) -> Sequence[Type]:
        return (TileType(self.dtype, self.shape),)

    def effects(self) -> Sequence[Effect]:
        return (Effect("sync"),)


__all__ = [
    "Call", "CoreIndex", "CrossSet", "CrossWait", "Local", "NextTurn", "Part", "PipeBarrier", "Queue", "QueueStep",
    "ReadScalar", "Receive", "Send", "SetFlag", "Side", "Strips", "Turn", "WaitFlag", "local_type",
]
