"""The disk cache: content-addressed entries, each one file, published whole by one atomic rename.

An entry is a digest of all that follows, a JSON header (key, metadata, names and sizes of the blobs) and the blobs.
What does not match its digest is removed and built again, never used. Where the directory cannot be used (read-only,
disk full), everything works without it after one warning. A process that is killed leaves at most a temporary file,
which a later sweep removes.
"""

from __future__ import annotations

import functools
import itertools
import json
import os
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from tilus.records import field, record

try:
    from _blake2 import blake2b as blake2b  # hashlib's own, without OpenSSL, which hashlib takes milliseconds to load
except ImportError:  # a Python that is made otherwise
    from hashlib import blake2b as blake2b

MAGIC = b"tilus-cache-1\n"
_DIGEST_SIZE = 20
_HEADER_START = len(MAGIC) + _DIGEST_SIZE + 4
# An entry's time of last use is its mtime, written at most once in this many seconds.
_USE_RESOLUTION = 3600.0
# Temporary files older than this have no writer any more.
_TEMPORARY_AGE = 3600.0
_PUTS_PER_SWEEP = 64

Parts = tuple[Mapping[str, bytes], Mapping[str, Any]]


class CacheWarning(UserWarning):
    """The cache cannot be used; tilus goes on without it."""


@record(frozen=True)
class Entry:
    """Named blobs with JSON metadata."""

    key: str
    blobs: Mapping[str, bytes]
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def __getitem__(self, name: str) -> bytes:
        return self.blobs[name]


class CacheStats(NamedTuple):
    """What lies on disk, and how this process used it; sizes in bytes."""

    path: str
    entries: int
    bytes: int
    max_bytes: int
    temporary_files: int
    hits: int
    misses: int


class DamagedEntry(Exception):
    """The bytes of an entry do not match its digest or key."""


def key_of(parts: Iterable[bytes | str]) -> str:
    """The key of everything that a result depends on; parts are kept apart, so ("ab", "c") is not ("a", "bc")."""
    digest = blake2b(digest_size=_DIGEST_SIZE)
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(b"%c%d:" % (115 if isinstance(part, str) else 98, len(data)))
        digest.update(data)
    return digest.hexdigest()


def cache_directory() -> str:
    """``$TILUS_CACHE_DIR``, else ``$XDG_CACHE_HOME/tilus``, else ``~/.cache/tilus``."""
    if chosen := os.environ.get("TILUS_CACHE_DIR"):
        return os.path.abspath(chosen)
    base = os.environ.get("XDG_CACHE_HOME", "")
    # The XDG specification says that a relative path is to be ignored.
    if not os.path.isabs(base):
        base = os.path.join(os.path.expanduser("~"), ".cache")
    return os.path.join(base, "tilus")


@functools.cache
def default_cache() -> Cache:
    """The cache of this process, in ``cache_directory()`` as it was at the first call."""
    return Cache(cache_directory())


class Cache:
    """Entries by key in a directory. Threads and processes may use one directory at once.

    Args:
        path: the directory; made when first written to.
        max_bytes: entries unused for longest are removed once all of them take more than this.
        lock_timeout: seconds to wait for another process that builds the same key, before building it as well.
    """

    def __init__(self, path: str | os.PathLike[str], *, max_bytes: int = 4 << 30, lock_timeout: float = 120.0) -> None:
        self.path = os.path.abspath(os.fspath(path))
        self.max_bytes = max_bytes
        self.lock_timeout = lock_timeout
        self.hits = 0
        self.misses = 0
        self._entries = os.path.join(self.path, "entries")
        self._temporary = os.path.join(self.path, "tmp")
        self._warned = False
        self._puts = itertools.count()
        self._names = itertools.count()
        self._warn_lock = threading.Lock()

    def get(self, key: str) -> Entry | None:
        """The entry of ``key``; None where there is none, or none that is whole."""
        entry = self._load(key)
        if entry is None:
            self.misses += 1
        else:
            self.hits += 1
        return entry

    def put(self, key: str, blobs: Mapping[str, bytes], metadata: Mapping[str, Any] | None = None) -> Entry:
        """Publish an entry, in place of any other of the same key; returns it whether or not it could be written."""
        entry = Entry(key, dict(blobs), dict(metadata or {}))
        data = encode(entry)
        try:
            self._publish(self._file(key), data)
            if next(self._puts) % _PUTS_PER_SWEEP == 0:
                self.sweep()
        except OSError as error:
            self._warn(error)
        return entry

    def get_or_build(self, key: str, build: Callable[[], Parts]) -> Entry:
        """The entry of ``key``, which ``build`` makes (as blobs and metadata) where there is none.

        One process and thread builds a key while the others wait for it. Errors of ``build`` are passed on and leave
        nothing behind.
        """
        entry = self.get(key)
        if entry is not None:
            return entry
        from tilus.runtime.filelock import key_lock

        with key_lock(self._file(key) + ".lock", self.lock_timeout):
            # Whoever held the lock before has probably built it.
            entry = self._load(key)
            return entry if entry is not None else self.put(key, *build())

    def stats(self) -> CacheStats:
        sizes = [size for _, _, size in self._scan()]
        return CacheStats(self.path, len(sizes), sum(sizes), self.max_bytes, len(_listdir(self._temporary)),
                          self.hits, self.misses)

    def clear(self) -> int:
        """Remove every entry and what killed processes left; returns how many entries there were."""
        self._remove_abandoned()
        return sum(_remove(path) for path, _, _ in self._scan())

    def verify(self) -> list[str]:
        """Read every entry; returns the keys of those that were damaged, which are removed."""
        keys = [os.path.basename(path) for path, _, _ in self._scan()]
        return [key for key in keys if self._load(key) is None]

    def sweep(self) -> None:
        """Remove what killed processes left, and the entries unused for longest where there is too much."""
        self._remove_abandoned()
        entries = sorted(self._scan(), key=lambda item: item[1])
        total = sum(size for _, _, size in entries)
        for path, _, size in entries:
            if total <= self.max_bytes:
                return
            total -= size
            _remove(path)

    def _remove_abandoned(self) -> None:
        limit = time.time() - _TEMPORARY_AGE
        for name in _listdir(self._temporary):
            path = os.path.join(self._temporary, name)
            if _mtime(path) < limit:
                _remove(path)

    def _file(self, key: str) -> str:
        return os.path.join(self._entries, key[:2], key)

    def _load(self, key: str) -> Entry | None:
        path = self._file(key)
        try:
            with open(path, "rb") as stream:
                data = stream.read()
                used = os.fstat(stream.fileno()).st_mtime
        except FileNotFoundError:
            return None
        except OSError as error:
            self._warn(error)
            return None
        try:
            entry = decode(key, data)
        except DamagedEntry:
            _remove(path)
            return None
        if time.time() - used > _USE_RESOLUTION:
            _touch(path)
        return entry

    def _publish(self, path: str, data: bytes) -> None:
        name = f"{os.getpid()}-{next(self._names)}-{os.urandom(6).hex()}"
        temporary = os.path.join(self._temporary, name)
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileNotFoundError:
            os.makedirs(self._temporary, mode=0o700, exist_ok=True)
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            try:
                _write(descriptor, data)
            finally:
                os.close(descriptor)
            os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
            os.replace(temporary, path)
        except BaseException:
            _remove(temporary)
            raise

    def _scan(self) -> Iterator[tuple[str, float, int]]:
        """Path, time of last use and size of every entry."""
        for directory in _listdir(self._entries):
            try:
                with os.scandir(os.path.join(self._entries, directory)) as files:
                    for file in files:
                        if not file.name.endswith(".lock"):
                            status = file.stat()
                            yield file.path, status.st_mtime, status.st_size
            except OSError:
                continue  # another process cleared it

    def _warn(self, error: OSError) -> None:
        with self._warn_lock:
            first, self._warned = not self._warned, True
        if first:
            from tilus.diagnostics import Diagnostic, Severity, render

            message = f"the cache in {self.path} cannot be used: {error.strerror or error}"
            advice = "kernels are compiled anew in every process; set TILUS_CACHE_DIR to a writable directory"
            text = render(Diagnostic("E0903", message, help=advice, severity=Severity.WARNING))
            warnings.warn(text, CacheWarning, stacklevel=3)


def encode(entry: Entry) -> bytes:
    """The bytes of an entry's file."""
    sizes = [[name, len(blob)] for name, blob in entry.blobs.items()]
    header = json.dumps({"key": entry.key, "metadata": entry.metadata, "blobs": sizes}, sort_keys=True).encode()
    body = b"".join((len(header).to_bytes(4, "little"), header, *entry.blobs.values()))
    return MAGIC + blake2b(body, digest_size=_DIGEST_SIZE).digest() + body


def decode(key: str, data: bytes) -> Entry:
    """The entry in the bytes of its file.

    Raises:
        DamagedEntry: they are not what ``encode`` wrote for this key.
    """
    digest_end = len(MAGIC) + _DIGEST_SIZE
    body = memoryview(data)[digest_end:]
    if data[:len(MAGIC)] != MAGIC or len(data) < _HEADER_START:
        raise DamagedEntry(key)
    if blake2b(body, digest_size=_DIGEST_SIZE).digest() != data[len(MAGIC):digest_end]:
        raise DamagedEntry(key)
    start = _HEADER_START + int.from_bytes(body[:4], "little")
    header = json.loads(data[_HEADER_START:start])
    if header["key"] != key:
        raise DamagedEntry(key)
    blobs = {}
    for name, size in header["blobs"]:
        blobs[name] = data[start:start + size]
        start += size
    return Entry(key, blobs, header["metadata"])


def _write(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view):]


def _listdir(path: str) -> list[str]:
    try:
        return os.listdir(path)
    except OSError:
        return []


def _remove(path: str) -> bool:
    try:
        os.unlink(path)
    except OSError:
        return False
    return True


def _mtime(path: str) -> float:
    try:
        return os.stat(path).st_mtime
    except OSError:
        return time.time()


def _touch(path: str) -> None:
    try:
        os.utime(path)
    except OSError:
        return  # read-only, or evicted meanwhile: the entry is good all the same
