"""Long work of libraries that Python's signal handlers cannot interrupt."""

from __future__ import annotations

import atexit
import sys
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
_left: list[threading.Thread] = []
"""Threads whose work nobody waits for any more."""


def interruptible(work: Callable[[], T]) -> T:
    """What ``work`` gives or raises. On the main thread another one does it, so that Ctrl-C ends the wait at once;
    the work is then left to finish by itself, and what it gives is dropped."""
    if threading.current_thread() is not threading.main_thread():
        return work()
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, name="tilus-compile", daemon=True)
    thread.start()
    try:
        thread.join()
    except BaseException:
        _left.append(thread)
        raise
    if errors:
        raise errors[0]
    return results[0]


@atexit.register
def _finish() -> None:
    """A library must not run while the process takes it down. A process that ends by Ctrl-C does not wait: the signal
    ends it as it is."""
    if getattr(sys, "last_type", None) is not KeyboardInterrupt:
        for thread in _left:
            thread.join()
