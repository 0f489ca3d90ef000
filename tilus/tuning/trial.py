"""First runs of variants in a child of the process, on copies of all arrays: what ends the child, by a wild pointer or
without an end, ends nothing else."""

from __future__ import annotations

import faulthandler
import gc
import json
import os
import resource
import select
import signal
import sys
import time
import warnings
from collections.abc import Callable


class Ended(Exception):
    """The child has ended before it was done; the message says how."""


class TooLong(Exception):
    """It took longer than it may."""


def tried(run: Callable[[], tuple[str, float]], seconds: float) -> tuple[str, float]:
    """What ``run`` gives in a child, which shares no memory with this process but what is shared on purpose, such as
    files that are mapped.

    Raises:
        Ended: the child has died.
        TooLong: it was not done in that time.
    """
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        # The child calls nothing but the variant, whose threads are its own; others are gone, as it does not ask.
        warnings.simplefilter("ignore")
        child = os.fork()
    if child == 0:
        _be_tried(run, reading, writing)
    os.close(writing)
    try:
        data = _read(reading, time.monotonic() + seconds)
    except BaseException:  # also where the user interrupts
        os.kill(child, signal.SIGKILL)
        _how(child)
        raise
    finally:
        os.close(reading)
    how = _how(child)
    if not data:
        raise Ended(how)
    reason, took = json.loads(data)
    return reason, took


def _be_tried(run: Callable[[], tuple[str, float]], reading: int, writing: int) -> None:
    try:
        os.close(reading)
        # What stands in for them, such as a progress bar, may wait for threads that the child does not have.
        sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__
        gc.disable()  # what is collected may belong to threads that the child does not have
        faulthandler.disable()
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.write(writing, json.dumps(run()).encode())
    finally:
        os._exit(0)


def _read(reading: int, deadline: float) -> bytes:
    """What the child writes until its end. Raises TooLong."""
    data = b""
    while True:
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([reading], [], [], min(left, 1.0))[0]:
            if left <= 0:
                raise TooLong
            continue
        part = os.read(reading, 1 << 16)
        if not part:
            return data
        data += part


def _how(child: int) -> str:
    """Wait for the end of a child, and say how that was."""
    try:
        _, status = os.waitpid(child, 0)
    except ChildProcessError:  # somebody else has waited for it
        return "it ends its process"
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        return f"it ends its process: {signal.strsignal(number)} ({signal.Signals(number).name})"
    return f"it ends its process with status {os.WEXITSTATUS(status)}"


__all__ = ["Ended", "TooLong", "tried"]
