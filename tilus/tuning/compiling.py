"""Compiling variants by an executor: code is shared through the cache, so that it may be one of other processes."""

from __future__ import annotations

import multiprocessing
import os
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future, ThreadPoolExecutor, as_completed
from concurrent.futures import TimeoutError as FuturesTimeout
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np

from tilus.diagnostics import Diagnostic, Severity, TilusError, TilusWarning, warn
from tilus.model.prediction import Prediction
from tilus.records import record
from tilus.runtime.compile import compile_specialisation
from tilus.tuning.ranking import warn_of

if TYPE_CHECKING:
    from tilus.runtime.jit import Prepared
    from tilus.tuning.ranking import Predictor

MOST_THREADS = 8


@record(frozen=True)
class Ghost:
    """A NumPy array without its contents: what code is compiled for depends on nothing else."""

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: Any
    writable: bool
    misaligned: int
    """The address modulo 64."""

    @classmethod
    def of(cls, value: Any) -> Any:
        """For an array of NumPy's own class its ghost; for anything else itself."""
        if type(value) is not np.ndarray:
            return value
        return cls(value.shape, value.strides, value.dtype, value.flags.writeable, value.ctypes.data % 64)

    def array(self) -> np.ndarray[Any, Any]:
        """An array like it, whose memory nobody has touched."""
        steps = [(n - 1) * s for n, s in zip(self.shape, self.strides, strict=True) if n]
        low, high = sum(s for s in steps if s < 0), sum(s for s in steps if s > 0) + self.dtype.itemsize
        memory = np.empty(high - low + 128, np.uint8)
        offset = -low + (self.misaligned - (memory.ctypes.data - low)) % 64
        array: np.ndarray[Any, Any] = np.ndarray(self.shape, self.dtype, memory, offset, self.strides)
        array.flags.writeable = self.writable
        return array


@record(frozen=True)
class Outcome:
    """What became of a variant that was to be compiled: why that failed, or "", and what a model says of the code."""

    reason: str
    prediction: Prediction | None = None


def compile_variant(function: Any, engine_name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any],
                    predictor: Predictor | None = None) -> Outcome:
    """Compile what a call runs for the target of an engine, and ask a model about it. It is run by executors, in this
    process or another one."""
    def real(value: Any) -> Any:
        return value.array() if isinstance(value, Ghost) else value

    # Filters of warnings are those of all threads, so that in a thread of the search's process it has set them.
    quiet = many_specialisations() if multiprocessing.parent_process() is not None else nullcontext()
    try:
        with quiet:
            prepared = function.kernel.prepared(engine_name, tuple(map(real, args)),
                                                {name: real(value) for name, value in kwargs.items()})
            compiled = compile_specialisation(prepared.specialisation, prepared.engine.target)
    except Exception as error:
        return Outcome(reason_of(error))
    return Outcome("", None if predictor is None else _predicted(predictor, prepared, compiled))


def _predicted(predictor: Predictor, prepared: Prepared, compiled: Any) -> Prediction | None:
    try:
        return predictor.compiled(prepared, compiled)
    except Exception as error:
        warn_of(prepared.engine.target, error)
        return None


def reason_of(error: Exception) -> str:
    """An error in one line."""
    if isinstance(error, TilusError) and error.diagnostics:
        return f"{error.diagnostics[0].code}: {error.diagnostics[0].message}"
    return f"{type(error).__name__}: {error}".split("\n")[0]


class Compiler:
    """Compiles variants of a call side by side.

    Args:
        executor: what runs the compilations; None for threads of this process.
        predictor: the model that is asked about what is compiled; None for none.
    """

    def __init__(self, function: Any, engine_name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any],
                 executor: Executor | None, predictor: Predictor | None = None) -> None:
        self.function, self.engine_name, self.predictor = function, engine_name, predictor
        self.args = tuple(map(Ghost.of, args))
        self.kwargs = {name: Ghost.of(value) for name, value in kwargs.items()}
        self.executor = executor

    def compile(self, variants: Sequence[Mapping[str, Any]], seconds: float) -> Iterator[tuple[int, Outcome]]:
        """Compile variants; gives for each, as soon as it is done, its number and what became of it. What is not done
        in time is left out."""
        deadline = time.monotonic() + seconds
        done: set[int] = set()
        with self._executor() as executor:
            try:
                for number, outcome in self._results(executor, variants, deadline):
                    done.add(number)
                    yield number, outcome
                return
            except BrokenExecutor as error:
                left = len(variants) - len(done)
                warn(Diagnostic("W1113", f"the executor that compiled variants has died ({error}); the other {left} "
                                         "are compiled in this process", severity=Severity.WARNING))
                self.executor = None
        rest = [number for number in range(len(variants)) if number not in done]
        for number, outcome in self.compile([variants[n] for n in rest], deadline - time.monotonic()):
            yield rest[number], outcome

    def _results(self, executor: Executor, variants: Sequence[Mapping[str, Any]],
                 deadline: float) -> Iterator[tuple[int, Outcome]]:
        numbers: dict[Future[Outcome], int] = {}
        try:
            for number, variant in enumerate(variants):
                numbers[self._submit(executor, variant)] = number
            for future in as_completed(numbers, max(0.0, deadline - time.monotonic())):
                yield numbers[future], self._result(future, variants[numbers[future]])
        except FuturesTimeout:
            pass
        finally:
            for future in numbers:
                future.cancel()

    def _submit(self, executor: Executor, variant: Mapping[str, Any]) -> Future[Outcome]:
        try:
            return executor.submit(compile_variant, self.function, self.engine_name, self.args,
                                   {**self.kwargs, **variant}, self.predictor)
        except BrokenExecutor:
            raise
        except RuntimeError as error:  # it has been shut down
            raise BrokenExecutor(str(error)) from error

    def _result(self, future: Future[Outcome], variant: Mapping[str, Any]) -> Outcome:
        try:
            return future.result()
        except BrokenExecutor:
            raise
        except Exception:  # what cannot be sent to another process is compiled here
            return compile_variant(self.function, self.engine_name, self.args, {**self.kwargs, **variant},
                                   self.predictor)

    @contextmanager
    def _executor(self) -> Iterator[Executor]:
        if self.executor is not None:
            yield self.executor
            return
        threads = ThreadPoolExecutor(min(MOST_THREADS, os.cpu_count() or 1), "tilus-compile")
        try:
            yield threads
        finally:
            threads.shutdown(wait=True, cancel_futures=True)


@contextmanager
def many_specialisations() -> Iterator[None]:
    """Nobody is warned that a parameter has had many values."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"(?s).*W0605", TilusWarning)
        yield


__all__ = ["Compiler", "Ghost", "Outcome", "compile_variant", "many_specialisations", "reason_of"]
