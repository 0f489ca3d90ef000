"""What ranks that compute together (processes, devices or threads) tell each other.

A communicator has three functions. ``all_reduce`` and ``shift`` begin an operation and return at once; until ``wait``
has returned for what they gave, arrays that are sent must not be written, and those that receive not be touched.
Every rank begins the same operations in the same order. Over NCCL they are ``ncclAllReduce`` and a group of
``ncclSend`` and ``ncclRecv`` on a stream of their own, with an event that ``wait`` waits for;
:mod:`torch_communicator` has them over torch.distributed.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol, TypeVar

from kernels_zoo.checking import Array

Operation = Any
"""What a communicator knows of an operation that it has begun."""
Result = TypeVar("Result")
PATIENCE = 600.0
"""Seconds that a thread waits for another one."""


class Communicator(Protocol):
    """One rank's view of all: ``rank`` of ``size``. Arrays are contiguous."""

    rank: int
    size: int

    def all_reduce(self, x: Array) -> Operation:
        """``x``, of one shape on all ranks, becomes the sum over the ranks, to the bit the same on all."""

    def shift(self, sent: Sequence[Array], received: Sequence[Array]) -> Operation:
        """The arrays ``sent`` go to the next rank, from the last to the first; ``received`` come from the rank
        before, whose shapes and types they have."""

    def wait(self, operation: Operation) -> None:
        """Returns when the operation is done on this rank."""


class RankError(RuntimeError):
    """Another rank has failed, or has nothing to say for too long."""


class Mail:
    """What threads have sent to each other, and nobody has taken yet."""

    def __init__(self) -> None:
        self.letters: dict[Any, list[Array]] = {}
        self.news = threading.Condition()
        self.closed = False

    def post(self, address: Any, arrays: Sequence[Array]) -> None:
        with self.news:
            self.letters[address] = [x.copy() for x in arrays]
            self.news.notify_all()

    def take(self, address: Any) -> list[Array]:
        with self.news:
            self.news.wait_for(lambda: address in self.letters or self.closed, PATIENCE)
            if address not in self.letters:
                raise RankError("another rank has failed" if self.closed else "another rank has sent nothing")
            return self.letters.pop(address)

    def close(self) -> None:
        with self.news:
            self.closed = True
            self.news.notify_all()


class ThreadCommunicator:
    """A rank that is a thread of this process. Sums are in the order of the ranks."""

    def __init__(self, rank: int, size: int, mail: Mail) -> None:
        self.rank, self.size, self.mail = rank, size, mail
        self.begun = 0

    def post(self, to: int, arrays: Sequence[Array]) -> None:
        self.mail.post((self.begun, self.rank, to), arrays)

    def all_reduce(self, x: Array) -> Operation:
        self.begun += 1
        for to in range(self.size):
            self.post(to, [x])
        number = self.begun

        def finish() -> None:
            parts = [self.mail.take((number, source, self.rank))[0] for source in range(self.size)]
            x[...] = functools.reduce(lambda a, b: a + b, parts)

        return finish

    def shift(self, sent: Sequence[Array], received: Sequence[Array]) -> Operation:
        self.begun += 1
        self.post((self.rank + 1) % self.size, sent)
        number, source = self.begun, (self.rank - 1) % self.size

        def finish() -> None:
            for into, x in zip(received, self.mail.take((number, source, self.rank)), strict=True):
                into[...] = x

        return finish

    def wait(self, operation: Callable[[], None]) -> None:
        operation()


def on_threads(size: int, work: Callable[[Communicator], Result]) -> list[Result]:
    """What ``work`` gives on each of so many ranks, threads of this process. Where one fails, all end."""
    mail = Mail()

    def of_rank(rank: int) -> Result:
        try:
            return work(ThreadCommunicator(rank, size, mail))
        except BaseException:
            mail.close()
            raise

    with ThreadPoolExecutor(size) as pool:
        futures = [pool.submit(of_rank, rank) for rank in range(size)]
        errors = [e for e in (f.exception() for f in futures) if e is not None]
    for error in sorted(errors, key=lambda e: isinstance(e, RankError)):      # the cause before what follows from it
        raise error
    return [f.result() for f in futures]
