"""Compiling variants by an executor, in other processes or on other machines.

Variants are traced here. What is sent is an :class:`~tilus.runtime.compile.Order`, so that nothing of the user's has to
be imported elsewhere; what comes back is the code, which goes into the cache of this machine.
"""

from __future__ import annotations

import os
import pickle
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import (
    FIRST_COMPLETED,
    BrokenExecutor,
    CancelledError,
    Executor,
    Future,
    ThreadPoolExecutor,
    wait,
)
from contextlib import contextmanager
from typing import Any

import numpy as np

from tilus.backends import Options, backend_of
from tilus.diagnostics import Diagnostic, Severity, TilusError, warn
from tilus.model.prediction import CallArray, CompiledCall, Prediction
from tilus.records import record
from tilus.runtime.arrays import ArrayArgument
from tilus.runtime.cache import Entry, default_cache
from tilus.runtime.compile import Order, fingerprint_of, kernel_of
from tilus.runtime.internal import collection_paused
from tilus.runtime.jit import Prepared
from tilus.targets import Target, get_target
from tilus.tuning import executors
from tilus.tuning.ranking import Predictor

MOST_THREADS = 8
STARTING = 1.0
"""Processes are started for compilations that take at least so many seconds one after another. They take about half a
second to start (``python -m benchmarks.tuning executors``)."""
STARTING_SHARE = 4.0
"""Nor are they where the time for compiling is less than so many times that."""
USUAL = 0.1
"""Seconds of a compilation, before one is known."""
WAITING = 64
"""How many orders lie at an executor at least: tracing goes on while it works."""
LARGEST_TABLE = 1 << 20
"""Bytes of an array of integers whose contents models get."""
DIED = "the compiler ends its process"


@record(eq=False)
class Job:
    """What an executor does: an order, unless ``entry`` is what came out of it before, and the question to a model."""

    order: Order
    entry: Entry | None
    arguments: Sequence[Any]
    predictor: Predictor | None


@record(eq=False)
class Outcome:
    """What became of a variant.

    Attributes:
        reason: why it could not be compiled; "" where it could.
        entry: the code.
        prediction: what the model says of it; trouble: why it has failed, or "".
        seconds: how long that took.
        fits: whether the executor's machine has the same tilus, tools and processor; nothing was done where not.
    """

    reason: str = ""
    entry: Entry | None = None
    prediction: Prediction | None = None
    trouble: str = ""
    seconds: float = 0.0
    fits: bool = True


def carry_out(job: Job) -> Outcome:
    """Do a job. It is run by executors, in this process or another one."""
    order, started = job.order, time.perf_counter()
    if fingerprint_of(order.route) != order.fingerprint:
        return Outcome(fits=False)
    kept = None if job.predictor is None else pickle.dumps(order.module)
    try:
        entry = job.entry
        if entry is None:
            with collection_paused():
                entry = Entry(order.key, *order.carried_out())
    except Exception as error:
        return Outcome(reason_of(error))
    outcome = Outcome("", entry)
    if job.predictor is not None and kept is not None:
        call = CompiledCall(get_target(order.target), pickle.loads(kept), entry.blobs, entry.metadata, job.arguments)
        try:
            outcome.prediction = job.predictor.compiled(call)
        except Exception as error:
            outcome.trouble = reason_of(error)
    outcome.seconds = time.perf_counter() - started
    return outcome


def _described(argument: Any) -> Any:
    """An argument of a call as models get it."""
    if not isinstance(argument, ArrayArgument):
        return argument
    held = argument.array
    is_table = isinstance(held, np.ndarray) and held.dtype.kind in "iub" and not argument.format
    is_small = is_table and isinstance(held, np.ndarray) and held.nbytes <= LARGEST_TABLE
    return CallArray(argument.shape, argument.strides, np.asarray(held) if is_small else None)


def reason_of(error: Exception) -> str:
    """An error in one line."""
    if isinstance(error, TilusError) and error.diagnostics:
        return f"{error.diagnostics[0].code}: {error.diagnostics[0].message}"
    return f"{type(error).__name__}: {error}".split("\n")[0]


@record(eq=False)
class Sent:
    """A variant that is being compiled."""

    number: int
    prepared: Prepared
    job: Job


class Compiler:
    """Compiles variants of a call side by side.

    Args:
        target: what it compiles for.
        executor: what runs the compilations; None for processes, or threads of this one where there is little to do.
        predictor: the model that is asked about what is compiled; None for none.
    """

    def __init__(self, target: Target, executor: Executor | None = None, predictor: Predictor | None = None) -> None:
        self.target, self.executor, self.predictor = target, executor, predictor
        self.seconds = USUAL
        """How long the last compilation took."""
        self._processes: bool | None = None
        """Whether processes compile; None: where they are there, or there is enough to do."""
        self._suspects = 0

    def compile(self, variants: Sequence[Callable[[], Prepared]], seconds: float) -> Iterator[tuple[int, Outcome]]:
        """Compile variants; gives for each, as soon as it is done, its number and what became of it. What is not done
        in time is left out. A variant is a function that gives the call."""
        deadline = time.monotonic() + seconds
        todo, alone = deque(enumerate(variants)), Counter[int]()
        while todo:
            running: dict[Future[Outcome], Sent] = {}
            with self._executor(len(todo), deadline - time.monotonic()) as executor:
                try:
                    yield from self._until(deadline, executor, todo, running)
                    return
                except BrokenExecutor as error:
                    left = sorted(sent.number for sent in running.values())
                    self._replace(executor, error, len(left) + len(todo))
                    if len(left) == 1 and not isinstance(error, _Lost):
                        alone[left[0]] += 1
                        if alone[left[0]] == 2:  # the first time it may have been chance, as where memory was short
                            yield left.pop(), Outcome(DIED)
                    todo.extendleft((number, variants[number]) for number in reversed(left))
                    self._suspects = len(left)

    def _until(self, deadline: float, executor: Executor, todo: deque[tuple[int, Callable[[], Prepared]]],
               running: dict[Future[Outcome], Sent]) -> Iterator[tuple[int, Outcome]]:
        """What an executor has done by the deadline. Raises BrokenExecutor, with what it had in ``running``."""
        try:
            while todo or running:
                while todo and len(running) < self._most(executor) and time.monotonic() < deadline:
                    yield from self._start(executor, *todo.popleft(), running)
                left = deadline - time.monotonic()
                if left <= 0 and not self._last(executor, running):
                    return
                done, _ = wait(running, left if left > 0 else None, FIRST_COMPLETED)
                for future in done:
                    outcome = self._received(executor, running[future], future)
                    yield running.pop(future).number, outcome
        finally:
            for future in running:
                future.cancel()

    def _last(self, executor: Executor, running: dict[Future[Outcome], Sent]) -> bool:
        """Whether to wait for compilations after the deadline: those of this machine that have begun, since they would
        disturb measurements."""
        for future in [future for future in running if future.cancel() or executor is self.executor]:
            del running[future]
        return bool(running)

    def _start(self, executor: Executor, number: int, variant: Callable[[], Prepared],
               running: dict[Future[Outcome], Sent]) -> Iterator[tuple[int, Outcome]]:
        """Send a variant, unless that is done at once: it is wrong, or in the cache."""
        try:
            prepared = variant()
            job = self._job(prepared)
        except Exception as error:
            yield number, Outcome(reason_of(error))
            return
        if job.entry is not None and self.predictor is None:
            yield number, self._taken(prepared, job, Outcome(entry=job.entry))
            return
        sent = Sent(number, prepared, job)
        try:
            running[executor.submit(carry_out, job)] = sent
        except RuntimeError as error:  # it has been shut down, or a process has died
            running[Future()] = sent
            raise _Lost(str(error)) from error

    def _job(self, prepared: Prepared) -> Job:
        route = backend_of(self.target).routes[0]
        order = Order.of(prepared.specialisation, self.target, route, Options())
        arguments = [] if self.predictor is None else list(map(_described, prepared.call.arguments))
        return Job(order, default_cache().get(order.key), arguments, self.predictor)

    def _received(self, executor: Executor, sent: Sent, future: Future[Outcome]) -> Outcome:
        """What has come back. Raises BrokenExecutor."""
        try:
            outcome = future.result()
        except BrokenExecutor as error:
            raise (_Lost(str(error)) if executor is self.executor else error) from error
        except CancelledError as error:
            raise _Lost("it has cancelled what it was given") from error
        except Exception as error:
            if type(error).__name__ == "KilledWorker":  # of Dask: each worker that had it has died
                return Outcome(DIED)
            outcome = carry_out(sent.job)  # what cannot be sent to another process
        if not outcome.fits:
            raise _Lost("it has another tilus, other tools or another processor than this machine")
        self._suspects = max(0, self._suspects - 1)
        return self._taken(sent.prepared, sent.job, outcome)

    def _taken(self, prepared: Prepared, job: Job, outcome: Outcome) -> Outcome:
        """Code goes into the cache, and calls have it."""
        if outcome.entry is not None:
            if job.entry is None:
                self.seconds = outcome.seconds
                default_cache().put(job.order.key, outcome.entry.blobs, outcome.entry.metadata)
            kernel_of(prepared.specialisation, job.order, outcome.entry)
        return outcome

    # -- executors

    def _most(self, executor: Executor) -> int:
        """How many variants an executor has at once. One, where it is one of those that one of them has killed."""
        if executor is self.executor:
            return WAITING
        # One more than they are, so that none waits. What has been handed to a process cannot be called back.
        return 1 if self._suspects else executors.process_count() + 1

    @contextmanager
    def _executor(self, count: int, seconds: float) -> Iterator[Executor]:
        """What compiles so many variants, in so much time."""
        if self.executor is not None:
            yield self.executor
        elif self._worth_processes(count, seconds):
            yield executors.processes()
        else:
            threads = ThreadPoolExecutor(min(MOST_THREADS, os.cpu_count() or 1), "tilus-compile")
            try:
                yield threads
            finally:
                threads.shutdown(wait=True, cancel_futures=True)

    def _worth_processes(self, count: int, seconds: float) -> bool:
        if self._processes is not None:
            return self._processes
        if executors.are_running():
            return count > 1
        return count * self.seconds > STARTING and seconds > STARTING_SHARE * STARTING

    def _replace(self, executor: Executor, error: BrokenExecutor, left: int) -> None:
        """After a process has died, or an executor is lost. What kills a process must not run in this one."""
        theirs = executor is self.executor
        self.executor = None
        if not theirs:
            executors.discard(executor)
        self._processes = executors.can_run()
        if theirs or not self._processes:
            reason = str(error).split("\n")[0]
            where = "processes" if self._processes else "threads"
            warn(Diagnostic("W1113", f"the executor that compiled variants is lost ({reason}); the other {left} are "
                                     f"compiled by {where} of this machine", severity=Severity.WARNING))


class _Lost(BrokenExecutor):
    """An executor that cannot be used, for which no variant is to blame."""


__all__ = ["Compiler", "Job", "Outcome", "carry_out", "reason_of"]
