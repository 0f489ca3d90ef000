"""What a request to memory costs a multiprocessor, as the timing takes it."""

from __future__ import annotations

from tilus.records import record


@record(frozen=True)
class Cost:
    """A mean request of one memory instruction.

    Attributes:
        shared: whether it is to shared memory.
        store: whether nothing comes back.
        passes: cycles of the data path that all sub-cores share.
        extra: passes beyond those without conflicts, which delay the result.
        beyond: how many of the requests miss the first level.
        l2_bytes: bytes between the first and the second level.
        memory_bytes: those of them that memory delivers or takes.
    """

    shared: bool
    store: bool
    passes: float
    extra: float = 0.0
    beyond: float = 1.0
    l2_bytes: float = 0.0
    memory_bytes: float = 0.0


__all__ = ["Cost"]
