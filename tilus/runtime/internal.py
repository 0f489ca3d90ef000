"""Turns crashes of the compiler into internal errors with a file that reproduces them."""

from __future__ import annotations

import gc
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from tilus.diagnostics import InternalError, TilusError, ToolchainError
from tilus.ir.printer import print_module
from tilus.runtime.specialise import Specialisation

T = TypeVar("T")


def guarded(specialisation: Specialisation, stage: str, function: Callable[[], T]) -> T:
    """``function()``; what it raises that is no message of ours becomes an InternalError (E0999), which names a file
    with the traced module for ``tilus opt``."""
    try:
        with collection_paused():
            return function()
    except (TilusError, MemoryError):
        raise
    except Exception as error:
        if _of_a_signal(error):
            raise
        kernel = specialisation.captured
        if isinstance(error, OSError):  # of the machine: no room, no more files or processes
            raise ToolchainError.at("E0902", f"{stage} of {kernel.name} failed: {error}", kernel.span(kernel.node),
                                    help="compilers use temporary files (TMPDIR): see that there is room for them"
                                    ) from error
        path = write_reproducer(specialisation, stage)
        raise InternalError.at("E0999", f"{stage} of {kernel.name} failed: {type(error).__name__}: {error}",
                               kernel.span(kernel.node),
                               help=f"this is a bug in tilus; {path} reproduces it") from error


def _of_a_signal(error: Exception) -> bool:
    """Whether a handler of the user's raised it, which Python runs between any two steps of ours."""
    handlers = {getattr(signal.getsignal(number), "__code__", None) for number in signal.valid_signals()} - {None}
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code not in handlers:
        trace = trace.tb_next
    return trace is not None


@contextmanager
def collection_paused() -> Iterator[None]:
    """No cyclic garbage collection meanwhile: a compilation makes many objects at once and they all stay until its
    end, so that collecting only walks them."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def write_reproducer(specialisation: Specialisation, stage: str) -> str:
    """A file with the traced module; its path."""
    import tempfile

    with tempfile.NamedTemporaryFile("w", prefix="tilus-reproducer-", suffix=".tile", delete=False) as report:
        report.write(f"// {stage}: tilus opt {report.name} --lower --target sm_80\n")
        report.write(print_module(specialisation.trace(), locations=True))
    return report.name
