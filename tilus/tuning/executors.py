"""What runs compilations: processes of ours, executors of ``concurrent.futures``, Dask clusters."""

from __future__ import annotations

import atexit
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor, Executor
from contextlib import contextmanager
from typing import Any

from tilus.diagnostics import Span, UserError

IDLE = 120.0
"""Seconds after which processes without work end."""
DASK = "dask://"
_CONNECTING = 10.0

_processes: Any = None
_lock = threading.Lock()


def process_count() -> int:
    """How many processes compile at once: one for each processor that this one may use."""
    import loky

    count: int = loky.cpu_count()
    return count


def processes() -> Executor:
    """Processes that compile; they are kept, and started where they are missing. What they run is sent to them: unlike
    those of ``multiprocessing`` they do not import the main module, so that no script runs twice."""
    global _processes
    import loky

    with _lock:
        if _processes is None:
            atexit.unregister(_end)
            atexit.register(_end)
            _processes = loky.ProcessPoolExecutor(process_count(), timeout=IDLE, initializer=_begin)
        found: Executor = _processes
        return found


def _end() -> None:
    """Without waiting for what nobody asks for any more."""
    global _processes
    executor, _processes = _processes, None
    if executor is not None:
        executor.shutdown(wait=True, kill_workers=True)


def discard(executor: Executor) -> None:
    """Forget processes of which one has died; the next call of :func:`processes` starts others."""
    global _processes
    with _lock:
        if _processes is executor:
            _processes = None
    executor.shutdown(wait=False)


def are_running() -> bool:
    """Whether :func:`processes` has been called, so that starting them costs nothing."""
    return _processes is not None


def can_run() -> bool:
    """Whether processes can be started here at all."""
    try:
        return processes().submit(int).result() == 0
    except (BrokenExecutor, OSError):
        return False


def _begin() -> None:
    """In a new process: what the terminal interrupts is the search, which then ends them."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextmanager
def opened(executor: Executor | str | None, span: Span | None) -> Iterator[Executor | None]:
    """The executor that a user names; clusters are connected to until the end.

    Raises:
        UserError: E1110, it is none, its package is missing, or there is no cluster at the address.
    """
    if not isinstance(executor, str):
        if executor is not None and not hasattr(executor, "submit"):
            raise UserError.at("E1110", f"executor is {executor!r}, which has no `submit`", span,
                               help="pass an executor of concurrent.futures, or leave it out")
        yield executor
        return
    if not executor.startswith(DASK):
        raise UserError.at("E1110", f"there is no executor {executor!r}", span, help='write "dask://host:port"')
    client = _connected(executor[len(DASK):], span)
    try:
        yield client.get_executor(pure=False)
    finally:
        client.close()


def _connected(address: str, span: Span | None) -> Any:
    try:
        from distributed import Client
    except ImportError:
        raise UserError.at("E1110", "clusters of Dask need the package `distributed`, which is not installed", span,
                           help="pip install 'tilus[cluster]'") from None
    try:
        return Client(f"tcp://{address}", timeout=_CONNECTING, set_as_default=False)  # type: ignore[no-untyped-call]
    except (OSError, ValueError) as error:
        raise UserError.at("E1110", f"there is no scheduler of Dask at {address}: {error}", span,
                           help="start one: `dask scheduler`, and workers: `dask worker tcp://HOST:8786`") from None


__all__ = ["are_running", "can_run", "discard", "opened", "process_count", "processes"]
