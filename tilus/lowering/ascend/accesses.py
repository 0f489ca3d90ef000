"""What the operations of a core's program read and write, and by which pipe."""

from __future__ import annotations

from collections.abc import Iterator

from tilus.ir.core import Block, Operation, Value
from tilus.ir.ops import PtrAdd, PtrLoad
from tilus.ir.ops.cores import Call, Local, Part, ReadScalar, local_type
from tilus.ir.types import LocalType, PointerType
from tilus.records import record


@record(frozen=True, slots=True)
class Access:
    """Bytes from ``low`` up to, and without, ``high`` of ``memory``: a local memory by address, a tensor with slots or
    of a queue by its own bytes, or an array in global memory, all of it. ``tensor`` is the one in local memory."""

    memory: object
    low: int
    high: int
    pipe: str
    write: bool
    tensor: Local | None = None
    group: int = 0

    @property
    def ring(self) -> int:
        return self.tensor.ring if self.tensor is not None else -1

    @property
    def queue(self) -> int:
        return self.tensor.queue if self.tensor is not None else -1

    def meets(self, other: Access) -> bool:
        if self.group and self.group == other.group:
            return False
        return (self.memory == other.memory and self.low < other.high and other.low < self.high
                and (self.write or other.write))


def local_of(value: Value) -> Local | None:
    """The tensor that a value is, or is a part of."""
    op = value.defining
    while isinstance(op, Part):
        op = op.tensor.defining
    return op if isinstance(op, Local) else None


def byte_range(value: Value) -> tuple[int, int]:
    """The bytes of its tensor that a part may be, from the tensor's beginning."""
    op = value.defining
    if isinstance(op, Part):
        low, high = byte_range(op.tensor)
        if op.offset is not None:
            return low, high
        begin = low + op.start * op.dtype.packed_bits // 8
        return begin, min(high, begin + local_type(value).bytes)
    return 0, local_type(value).bytes


def array_of(value: Value) -> Value:
    """The pointer that a place in global memory belongs to."""
    while isinstance(value.defining, PtrAdd):
        value = value.defining.pointer
    return value


def accesses(op: Operation) -> Iterator[Access]:
    """Those of an operation and of all within it."""
    for inner in op.walk():
        if isinstance(inner, Call):
            for n, value in enumerate(inner.tensors):
                if _staged(value):
                    continue
                if n < inner.written:
                    yield _access(value, inner.pipe, True, inner.group)
                if n >= inner.read:
                    yield _access(value, inner.pipe, False, inner.group)
        elif isinstance(inner, ReadScalar):
            yield _access(inner.tensor, "S", False)
        elif isinstance(inner, PtrLoad):
            yield _access(inner.pointer, "S", False)


def _staged(value: Value) -> bool:
    """Whether a tensor is one of the halves that have flags of their own (``stages.py``)."""
    local = local_of(value) if isinstance(value.type, LocalType) else None
    return local is not None and local.staged


def accesses_of(block: Block) -> Iterator[Access]:
    """Those of a block."""
    for op in block.ops:
        yield from accesses(op)


def _access(value: Value, pipe: str, write: bool, group: int = 0) -> Access:
    if isinstance(value.type, PointerType):
        return Access(array_of(value), 0, 1, pipe, write)
    local = local_of(value)
    assert local is not None
    low, high = byte_range(value)
    if local.queue >= 0:
        return Access(("queue", local.queue), low, high, pipe, write, local, group)
    if local.ring >= 0 or local.slots > 1:
        return Access(("ring", local.ring) if local.ring >= 0 else local, low, high, pipe, write, local, group)
    return Access(local.memory, local.address + low, local.address + high, pipe, write, local, group)
