"""The pool of threads that runs the blocks of CPU kernels, and the table of runtime functions that kernels call."""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import os
import platform
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from tilus.runtime.cpu import pool_ir
from tilus.runtime.cpu.fiber_ir import fiber_text
from tilus.runtime.cpu.llvm import function, function_address, loaded
from tilus.runtime.cpu.pool_ir import (
    CALLING,
    CAPACITY,
    CHECK,
    CORES,
    ENSURE,
    EXCEPTION,
    FETCH,
    FREE_CORE,
    MAIN,
    MAX_WAITERS,
    POOL_WORDS,
    RELEASE,
    SPIN,
    THREADS,
    TICK,
    WAITERS,
    WAKING,
    WORKERS,
    pool_text,
)
from tilus.runtime.cpu.wait_ir import NO_TASKS, WAIT_TEXT
from tilus.runtime.threads import cores, get_num_threads, on_change

SPINS = 4000
"""Turns that an idle worker looks for work before it sleeps; some tens of microseconds."""
_VOID, _I64 = None, ctypes.c_int64
PrintHandler = Callable[[int], None]


class _Code:
    """The compiled functions of the pool, once per process (they survive a fork)."""

    def __init__(self) -> None:
        name = platform.machine().lower()
        architecture = "x86" if name in ("x86_64", "amd64", "i686") else "arm" if name in ("aarch64", "arm64") else ""
        tasks = fiber_text(architecture)
        pool = pool_text(architecture, sys.platform == "linux")
        self.object = loaded((tasks or NO_TASKS) + WAIT_TEXT + pool)
        self.has_fibers = bool(tasks)
        self.init = function(self.object.address("pool_init"), _VOID, _I64)
        self.forget_atomics = function(self.object.address("atomics_forget"), _VOID)
        self.take = function(self.object.address("pool_take"), _I64, _I64)
        self.stop = function(self.object.address("pool_stop"), _VOID, _I64)
        self.release = function(self.object.address("pool_release"), _VOID, _I64)
        self.worker = function(self.object.address("pool_worker"), _VOID, _I64, _I64, _I64)
        self.ticker = function(self.object.address("pool_ticker"), _VOID, _I64)


class Pool:
    """``threads`` cores, the calling thread among them. ``table`` is the address of the runtime table that compiled
    launch functions take (``tilus/lowering/cpu/launch.py`` names its words)."""

    def __init__(self, code: _Code, threads: int, on_print: Any) -> None:
        self.code = code
        self.threads = threads
        self._raw = ctypes.create_string_buffer(8 * POOL_WORDS + 64)
        self.address = -(-ctypes.addressof(self._raw) // 64) * 64
        self._words = (ctypes.c_int64 * POOL_WORDS).from_address(self.address)
        self._words[WORKERS] = threads - 1
        self._words[SPIN] = SPINS
        self._words[CALLING], self._words[WAKING] = pool_ir.WORTH_CALLING, pool_ir.WORTH_WAKING
        self._words[CAPACITY] = 0
        self._words[FREE_CORE] = -1
        self._words[MAIN] = threading.main_thread().ident or 0
        for place, name in ((ENSURE, "PyGILState_Ensure"), (RELEASE, "PyGILState_Release"),
                            (CHECK, "PyErr_CheckSignals"), (FETCH, "PyErr_Fetch")):
            self._words[place] = _python_function(name)
        code.init(self.address)
        address = code.object.address
        self._table = (ctypes.c_int64 * 16)(
            self.address, address("pool_run"), address("pool_allocate"), address("pool_free"),
            function_address(on_print), threads,
            address("cooperate") if code.has_fibers else 0, address("pool_wait"), address("pool_pause"),
            self.address + 8 * TICK)
        self.table = ctypes.addressof(self._table)
        self.cores = cores()
        # Some of the cores may be other processes' as well: which ones to take, the system knows better.
        self.pinned = threads == len(self.cores) and hasattr(os, "sched_setaffinity")
        if self.pinned:
            self._words[FREE_CORE] = self.cores[0]
        for index in range(1, threads):
            self._words[CORES + index] = -1  # until its thread is there
        self.workers = [threading.Thread(target=self._work, args=(i,), name=f"tilus-cpu-{i}", daemon=True)
                        for i in range(1, threads)]
        self.workers.append(
            threading.Thread(target=code.ticker, args=(self.address,), name="tilus-ticker", daemon=True))
        for worker in self.workers:
            worker.start()

    def raise_interrupt(self) -> None:
        """Raise what a signal handler raised while a launch ran, which ended because of that."""
        words = self._words[EXCEPTION : EXCEPTION + 3]
        self._words[EXCEPTION : EXCEPTION + 3] = [0, 0, 0]
        restore = ctypes.pythonapi.PyErr_Restore
        restore.argtypes, restore.restype = [ctypes.c_void_p] * 3, None
        restore(*words)

    def take_waiters(self) -> list[tuple[int, int]]:
        """Where a launch that ended in a deadlock waited: numbers of places, and blocks, by block."""
        count = min(self._words[WAITERS], MAX_WAITERS)
        self._words[WAITERS] = 0
        first = WAITERS + 1
        return sorted(((self._words[first + 2 * i], self._words[first + 2 * i + 1]) for i in range(count)),
                      key=lambda waiter: waiter[::-1])

    def _work(self, index: int) -> None:
        if self.pinned:
            with contextlib.suppress(OSError):
                os.sched_setaffinity(0, {self.cores[index]})
                self._words[THREADS + index], self._words[CORES + index] = threading.get_native_id(), self.cores[index]
        self.code.worker(self.address, index, 0)

    def take(self) -> None:
        """Wait until no launch has the pool, and give it to none any more: those that still come to it run on their own
        threads."""
        while not self.code.take(self.address):
            time.sleep(0.001)

    def dissolve(self) -> None:
        """End the threads of a pool that has been taken, and free their frames."""
        self.stop()
        self.code.release(self.address)

    def stop(self) -> None:
        """End the threads."""
        self.code.stop(self.address)
        for worker in self.workers:
            worker.join()


def _python_function(name: str) -> int:
    """The address of a function of Python's C interface; 0 where there is none."""
    try:
        return function_address(getattr(ctypes.pythonapi, name))
    except AttributeError:
        return 0


_lock = threading.Lock()
_code: _Code | None = None
_pool: Pool | None = None
_print_handlers: dict[int, PrintHandler] = {}
RUNTIME = (ctypes.c_int64 * 1)()
"""The table of the pool that there is, for compiled calls; 0 while there is none."""


def _on_print(key: int, values: int) -> None:
    handler = _print_handlers.get(key)
    if handler is not None:
        handler(values)


_PRINT = ctypes.CFUNCTYPE(None, ctypes.c_int64, ctypes.c_int64)(_on_print)


def register_print(key: int, handler: PrintHandler) -> None:
    """``handler(address)`` is called for prints of that key, with the address of the values, 64 bits each."""
    _print_handlers[key] = handler


def _changed(threads: int) -> None:
    """There is to be a pool of another size. The next launch makes it."""
    global _pool
    with _lock:
        pool = _pool
        if pool is not None and pool.threads != threads:
            pool.take()
            RUNTIME[0], _pool = 0, None
            _stopped.append(pool)
            pool.dissolve()


on_change(_changed)


_stopped: list[Pool] = []
"""Pools that calls in progress may still look at; those run alone."""


@atexit.register
def _leave() -> None:
    """A launch that is running is not waited for."""
    global _pool
    pool, _pool = _pool, None
    if pool is not None:
        RUNTIME[0] = 0
        pool.stop()
        _stopped.append(pool)


def current_pool() -> Pool:
    """The pool, made on first use."""
    global _code, _pool
    pool = _pool
    if pool is not None:
        return pool
    with _lock:
        if _code is None:
            _code = _Code()
        if _pool is None:
            _pool = Pool(_code, get_num_threads(), _PRINT)
            RUNTIME[0] = _pool.table
        return _pool


def _after_fork() -> None:
    """A child has none of the threads: it makes a pool of its own when it needs one."""
    global _pool, _lock
    _lock = threading.Lock()
    _pool = None
    RUNTIME[0] = 0
    if _code is not None:
        _code.forget_atomics()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
