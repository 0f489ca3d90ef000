"""A lock on a file's name that is released when its holder dies, for building one key of the cache once."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Iterator
from io import FileIO

_SHORTEST_WAIT, _LONGEST_WAIT = 0.001, 0.05


@contextlib.contextmanager
def key_lock(path: str, timeout: float) -> Iterator[None]:
    """Hold the lock called ``path`` among processes and threads.

    After ``timeout`` seconds, or where the directory takes no locks, goes on without the lock: it only saves work.
    """
    file = _acquire(path, timeout)
    try:
        yield
    finally:
        if file is not None:
            # Whoever waits on the removed file finds that it is gone and opens a new one.
            with contextlib.suppress(OSError):
                os.unlink(path)
            file.close()


def _acquire(path: str, timeout: float) -> FileIO | None:
    deadline = time.monotonic() + timeout
    wait = _SHORTEST_WAIT
    while True:
        try:
            file = _try_lock(path)
        except OSError:
            return None
        if file is not None:
            return file
        if time.monotonic() > deadline:
            return None
        time.sleep(wait)
        wait = min(2 * wait, _LONGEST_WAIT)


def _try_lock(path: str) -> FileIO | None:
    """The locked file, or None while another holds it. It is an object, not a number: where Ctrl-C comes before anybody
    has it, it is closed all the same, and the lock released."""
    try:
        file = _open(path)
    except FileNotFoundError:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        file = _open(path)
    try:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _is_at(file.fileno(), path):
            return file
    except OSError as error:
        if error.errno not in (errno.EWOULDBLOCK, errno.EINTR):
            file.close()
            raise
    file.close()
    return None


def _open(path: str) -> FileIO:
    return FileIO(path, "a+", opener=lambda name, flags: os.open(name, flags, 0o600))


def _is_at(descriptor: int, path: str) -> bool:
    """Whether the open file is still the one of that name."""
    try:
        named = os.stat(path)
    except FileNotFoundError:
        return False
    held = os.fstat(descriptor)
    return (held.st_dev, held.st_ino) == (named.st_dev, named.st_ino)
