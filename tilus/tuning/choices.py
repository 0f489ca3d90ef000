"""The best variants in files of their own, for the first call of a kernel: looking one up opens one file, where loading
and opening SQLite takes milliseconds.

Each choice of the database lies in a file with a digest of its contents and the database that it is of. The files are
written before the transaction that they belong to ends, so that none is missing: ``complete`` says for which database
that holds. Where it does not, as where somebody has put another database in its place, the database is asked.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Mapping
from typing import Any

from tilus.runtime.cache import DamagedEntry, Entry, decode, encode

_COMPLETE = "complete"


class Choices:
    """Those beside the database at ``path``."""

    def __init__(self, path: str) -> None:
        self.database = path
        self.directory = f"{os.path.splitext(path)[0]}-choices"

    def get(self, digest: str) -> tuple[bool, dict[str, Any] | None]:
        """Whether it is known what the choice for an identity is, and that; None where there is none."""
        stamp = self._stamp()
        if not stamp:
            return True, None  # there is no database
        found = self._read(digest)
        if found is not None and found["database"] == stamp:
            return True, found["variant"]
        # What is damaged, or of another database, may be in this one all the same.
        if os.path.exists(self._file(digest)):
            return False, None
        found = self._read(_COMPLETE)
        return found is not None and found["database"] == stamp, None

    def put(self, digest: str, variant: Mapping[str, Any]) -> None:
        """Raises OSError."""
        self._write(digest, {"variant": dict(variant), "database": self._stamp()})

    def start(self, made: str) -> None:
        """The file ``made``, without any choice, is about to become the database. Raises OSError."""
        if os.path.isdir(self.directory):
            for name in os.listdir(self.directory):
                self._remove(name)
        self._write(_COMPLETE, {"database": _stamp(made)})

    def drop(self, digests: Iterable[str]) -> None:
        """Choices may not be as the database is: it is asked from now on."""
        for name in (_COMPLETE, *digests):
            self._remove(name)

    def fill(self, choices: Iterable[tuple[str, Mapping[str, Any]]]) -> None:
        """Write all choices of the database, which nobody else writes to meanwhile. Raises OSError."""
        for digest, variant in choices:
            self.put(digest, variant)
        self._write(_COMPLETE, {"database": self._stamp()})

    def _stamp(self) -> str:
        return _stamp(self.database)

    def _file(self, name: str) -> str:
        return os.path.join(self.directory, name)

    def _read(self, name: str) -> Mapping[str, Any] | None:
        try:
            with open(self._file(name), "rb", buffering=0) as stream:
                return decode(name, stream.read()).metadata
        except (OSError, DamagedEntry):
            return None

    def _remove(self, name: str) -> None:
        with contextlib.suppress(OSError):
            os.unlink(self._file(name))

    def _write(self, name: str, metadata: Mapping[str, Any]) -> None:
        os.makedirs(self.directory, mode=0o700, exist_ok=True)
        temporary = self._file(f"{name}.{os.getpid()}-{os.urandom(4).hex()}")
        try:
            with open(temporary, "xb", buffering=0) as stream:
                data = encode(Entry(name, {}, metadata))
                if stream.write(data) != len(data):
                    raise OSError(f"{temporary} could not be written")
            os.replace(temporary, self._file(name))
        except BaseException:
            self._remove(os.path.basename(temporary))
            raise


def _stamp(database: str) -> str:
    """What tells a database from others that are put in its place; empty where there is none."""
    try:
        status = os.stat(database)
    except OSError:
        return ""
    return f"{status.st_dev}:{status.st_ino}"


__all__ = ["Choices"]
