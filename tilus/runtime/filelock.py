"""A lock on a file's name that is released when its holder dies, for building one key of the cache once."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Iterator

_SHORTEST_WAIT, _LONGEST_WAIT = 0.001, 0.05


@contextlib.contextmanager
def key_lock(path: str, timeout: float) -> Iterator[None]:
    """Hold the lock called ``path`` among processes and threads.

    After ``timeout`` seconds, or where the directory takes no locks, goes on without the lock: it only saves work.
    """
    descriptor = _acquire(path, timeout)
    try:
        yield
    finally:
        if descriptor is not None:
            # Whoever waits on the removed file finds that it is gone and opens a new one.
            with contextlib.suppress(OSError):
                os.unlink(path)
            os.close(descriptor)


def _acquire(path: str, timeout: float) -> int | None:
    deadline = time.monotonic() + timeout
    wait = _SHORTEST_WAIT
    while True:
        try:
            descriptor = _try_lock(path)
        except OSError:
            return None
        if descriptor is not None:
            return descriptor
        if time.monotonic() > deadline:
            return None
        time.sleep(wait)
        wait = min(2 * wait, _LONGEST_WAIT)


def _try_lock(path: str) -> int | None:
    """The locked file's descriptor, or None while another holds it."""
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags, 0o600)
    except FileNotFoundError:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        descriptor = os.open(path, flags, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _is_at(descriptor, path):
            return descriptor
    except OSError as error:
        if error.errno not in (errno.EWOULDBLOCK, errno.EINTR):
            os.close(descriptor)
            raise
    os.close(descriptor)
    return None


def _is_at(descriptor: int, path: str) -> bool:
    """Whether the open file is still the one of that name."""
    try:
        named = os.stat(path)
    except FileNotFoundError:
        return False
    held = os.fstat(descriptor)
    return (held.st_dev, held.st_ino) == (named.st_dev, named.st_ino)
