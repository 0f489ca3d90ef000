"""Results of tuning, in one SQLite file beside the cache of compiled kernels.

``results`` has a row for each variant that was tried, ``choices`` the best one of each identity (``identity.py``).
Every row has a digest of itself, so that a damaged one is never used. All rows of a search are written in one
transaction of SQLite's write-ahead log: a process that is killed has written all of them or none. A damaged file is put
aside, and what can be read of it goes into a new one.

The copies of choices that first calls read (``choices.py``) are written under SQLite's lock, so that none is older than
its row.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tilus.diagnostics import UserError
from tilus.records import field, record
from tilus.runtime.cache import CacheWarning, key_of
from tilus.tuning.choices import Choices
from tilus.tuning.identity import VERSION, Identity, store_path

if TYPE_CHECKING:
    import sqlite3

FORMAT = f"tilus-tuning-{VERSION}"
OK, FAILED, MODELLED = "ok", "failed", "model"
_LOCK_TIMEOUT = 60.0
_ATTEMPTS = 4
_PARTS = ("", "-wal", "-shm")
"""The files of a database in write-ahead mode."""

_IDENTITY = ("kernel", "text", "compiler", "device", "key")
_MEASURED = ("variant", "median", "spread", "count", "predicted", "time", "status", "reason")
_CHOSEN = ("variant", "time", "status")
_TABLES = {"results": (*_IDENTITY, *_MEASURED), "choices": (*_IDENTITY, *_CHOSEN)}
_SCHEMA = """
CREATE TABLE IF NOT EXISTS results (
    place TEXT, kernel TEXT, text TEXT, compiler TEXT, device TEXT, key TEXT, variant TEXT, median REAL, spread REAL,
    count INTEGER, predicted REAL, time REAL, status TEXT, reason TEXT, digest TEXT, PRIMARY KEY (place, variant));
CREATE TABLE IF NOT EXISTS choices (
    place TEXT PRIMARY KEY, kernel TEXT, text TEXT, compiler TEXT, device TEXT, key TEXT, variant TEXT, time REAL,
    status TEXT, digest TEXT);
"""


@record(frozen=True)
class Row:
    """What is known of one variant.

    Attributes:
        variant: its values, as :func:`~tilus.tuning.identity.encoded` gives them.
        median: seconds of a call; None where it has not been measured.
        spread: half of the distance between the quartiles, in seconds.
        count: how many measurements there were.
        predicted: seconds by a model; None where there is none.
        time: when, in seconds since 1970.
        status: ``"ok"``, ``"failed"``, or ``"model"`` where only a model has been asked; reason: why it failed.
    """

    variant: Mapping[str, Any]
    median: float | None
    spread: float | None
    count: int
    predicted: float | None = None
    time: float = field(default_factory=time.time)
    status: str = OK
    reason: str = ""


@functools.cache
def default_store() -> Store:
    """The store of this process, beside its cache."""
    return Store(store_path())


class Store:
    """Results in a file. Threads and processes may use one file at once."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.path.abspath(os.fspath(path))
        self.choices = Choices(self.path)

    # -- reading

    def choice(self, identity: Identity) -> dict[str, Any] | None:
        """The best variant for an identity, with values as they are stored; None where there is none."""
        known, variant = self.choices.get(identity.digest)
        if not known:
            rows = self._read("choices", identity)
            if self._inode() is not None:
                self._copy_all()
            variant = json.loads(rows[0]["variant"]) if rows else None
        return variant

    def rows(self, identity: Identity) -> list[Row]:
        """What is known of the variants for an identity."""
        return [_row(found) for found in self._read("results", identity)]

    def export(self) -> dict[str, Any]:
        """All rows, as JSON."""
        return {"format": FORMAT, **{table: self._read(table) for table in _TABLES}}

    def _read(self, table: str, identity: Identity | None = None) -> list[dict[str, Any]]:
        """The sound rows of a table, those of an identity alone."""
        import sqlite3

        if self._inode() is None:
            return []
        try:
            with self._opened() as connection:
                return list(_sound(connection, table, identity))
        except sqlite3.OperationalError as error:
            self._warn(error)
        except sqlite3.DatabaseError:
            self._mend()
            with contextlib.suppress(sqlite3.Error), self._opened() as connection:
                return list(_sound(connection, table, identity))
        return []

    # -- writing

    def put(self, identity: Identity, rows: Sequence[Row], choice: Mapping[str, Any] | None, status: str = OK) -> bool:
        """Write what is known of variants, in place of what was, and which one is best (None: leave what is there), by
        measurements or by a model (``status``). What a model says replaces nothing that was found by running. False,
        after a warning, where it cannot be written."""
        base = {name: getattr(identity, name) for name in _IDENTITY}
        written: dict[str, list[dict[str, Any]]] = {
            "results": [{**base, **{n: getattr(row, n) for n in _MEASURED}, "variant": _text(row.variant)}
                        for row in rows],
            "choices": [] if choice is None else [{**base, "variant": _text(choice), "time": time.time(),
                                                  "status": status}]}
        return self._write(written)

    def add(self, data: Any, source: str) -> int:
        """Add what :meth:`export` gave, from elsewhere; of two results for one variant the later one stays,
        and a measured one rather than a model's. Gives the number of results.

        Raises:
            UserError: E1111, it is something else.
        """
        tables = {table: [_checked(table, found, source) for found in _listed(data, table, source)]
                  for table in _TABLES}
        if not self._write(tables):
            raise UserError.at("E1111", f"the results of {source} could not be stored in {self.path}")
        return len(tables["results"])

    def _write(self, tables: Mapping[str, Sequence[Mapping[str, Any]]]) -> bool:
        import sqlite3

        try:
            os.makedirs(os.path.dirname(self.path), mode=0o700, exist_ok=True)
            for _ in range(_ATTEMPTS):
                try:
                    self._recover()
                    before = self._inode()
                    with self._opened(create=True) as connection:
                        self._insert(connection, tables)
                except sqlite3.OperationalError:
                    raise
                except sqlite3.DatabaseError:
                    self._mend()
                    continue
                # Where another process has put a damaged file aside meanwhile, this went to that one.
                if before is None or self._inode() == before:
                    return True
        except (sqlite3.Error, OSError) as error:
            self._warn(error)
            return False
        self._warn(OSError(f"{self.path} is damaged again and again"))
        return False

    def _insert(self, connection: sqlite3.Connection, tables: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
        """Write rows that are not older than those that are there, and not of a model in place of others, in one
        transaction."""
        connection.execute("BEGIN IMMEDIATE")
        try:
            for table, rows in tables.items():
                names = ("place", *_TABLES[table], "digest")
                identifying = "place, variant" if table == "results" else "place"
                statement = (f"INSERT INTO {table} ({', '.join(names)}) VALUES ({', '.join('?' * len(names))}) "
                             f"ON CONFLICT ({identifying}) DO UPDATE SET "
                             f"{', '.join(f'{n} = excluded.{n}' for n in names)} WHERE {_BETTER.format(table)}")
                connection.executemany(statement, [[_place(row), *(row[n] for n in _TABLES[table]),
                                                    _digest(table, row)] for row in rows])
            for row in tables.get("choices", ()):
                for current in _sound(connection, "choices", Identity(*(row[n] for n in _IDENTITY))):
                    self.choices.put(_place(current), json.loads(current["variant"]))
            connection.execute("COMMIT")
        except BaseException:
            self.choices.drop(map(_place, tables.get("choices", ())))
            with contextlib.suppress(Exception):
                connection.execute("ROLLBACK")
            raise

    def _copy_all(self) -> None:
        """Write the copies of all choices, where the database is not the one that they are of."""
        import sqlite3

        with contextlib.suppress(sqlite3.Error, OSError), self._opened() as connection:
            connection.execute("BEGIN IMMEDIATE")
            self.choices.fill((_place(row), json.loads(row["variant"])) for row in _sound(connection, "choices"))
            connection.execute("COMMIT")

    # -- the file

    def _inode(self) -> int | None:
        try:
            return os.stat(self.path).st_ino
        except OSError:
            return None

    @contextlib.contextmanager
    def _opened(self, create: bool = False) -> Iterator[sqlite3.Connection]:
        import sqlite3

        if create and self._inode() is None:
            self._create()
        connection = self._connect()
        try:
            connection.row_factory = sqlite3.Row
            connection.execute("PRAGMA synchronous = FULL")
            if create:
                connection.executescript(_SCHEMA)
            yield connection
        finally:
            connection.close()

    def _create(self) -> None:
        """An empty database. It is made elsewhere and appears at its path whole: SQLite does not let one change to
        write-ahead mode while others wait for the file."""
        import sqlite3

        from tilus.runtime.filelock import key_lock

        with key_lock(self.path + ".lock", _LOCK_TIMEOUT):
            if self._inode() is not None:
                return
            made = f"{self.path}.new-{os.getpid()}-{time.time_ns()}"
            try:
                with contextlib.closing(sqlite3.connect(made, isolation_level=None)) as connection:
                    connection.execute("PRAGMA journal_mode = WAL")
                    connection.executescript(_SCHEMA)
                self.choices.start(made)
                os.rename(made, self.path)
            finally:
                for part in _PARTS:
                    with contextlib.suppress(OSError):
                        os.unlink(made + part)

    def _connect(self) -> sqlite3.Connection:
        import sqlite3

        return sqlite3.connect(self.path, timeout=_LOCK_TIMEOUT, isolation_level=None)

    def _mend(self) -> None:
        """Put a damaged file aside, and take over what can be read of it."""
        import sqlite3

        from tilus.runtime.filelock import key_lock

        with key_lock(self.path + ".lock", _LOCK_TIMEOUT):
            with contextlib.suppress(sqlite3.OperationalError, OSError):
                try:
                    with contextlib.closing(self._connect()) as connection:
                        if connection.execute("PRAGMA quick_check").fetchone()[0] == "ok":
                            return  # another process has mended it
                except sqlite3.OperationalError:
                    raise
                except sqlite3.DatabaseError:
                    pass
            self._warn(OSError(f"{self.path} was damaged; what can be read of it is kept"))
            # The log goes first: a new file must not find it.
            aside = f"{self.path}.damaged-{os.getpid()}-{time.time_ns()}"
            for part in reversed(_PARTS):
                with contextlib.suppress(OSError):
                    os.replace(self.path + part, aside + part)
        self._recover()

    def _recover(self) -> None:
        """Take over what can be read of a file that has been put aside, by whomever."""
        import sqlite3

        directory, name = os.path.split(self.path)
        for file in sorted(os.listdir(directory)):
            if not file.startswith(f"{name}.damaged-") or file.endswith(_PARTS[1:]):
                continue
            aside = os.path.join(directory, file)
            found: dict[str, list[dict[str, Any]]] = {table: [] for table in _TABLES}
            with contextlib.closing(sqlite3.connect(aside, isolation_level=None)) as connection:
                connection.row_factory = sqlite3.Row
                for table in _TABLES:
                    for order in ("ASC", "DESC"):  # from both ends up to what cannot be read
                        with contextlib.suppress(sqlite3.Error):
                            found[table].extend(_sound(connection, table, order=order))
            with self._opened(create=True) as connection:
                self._insert(connection, found)
            for part in _PARTS:
                with contextlib.suppress(OSError):
                    os.unlink(aside + part)

    def _warn(self, error: Exception) -> None:
        warnings.warn(f"results of tuning: {error}", CacheWarning, stacklevel=2)


def _text(variant: Mapping[str, Any]) -> str:
    return json.dumps(variant, sort_keys=True)


def _place(row: Mapping[str, Any]) -> str:
    return Identity(*(row[name] for name in _IDENTITY)).digest


def _digest(table: str, row: Mapping[str, Any]) -> str:
    return key_of([table, json.dumps([row[name] for name in _TABLES[table]])])


def _sound(connection: sqlite3.Connection, table: str, identity: Identity | None = None, *,
           order: str = "ASC") -> Iterator[dict[str, Any]]:
    """The rows of a table that are as they were written."""
    import sqlite3

    names = _TABLES[table]
    where, values = ("", ()) if identity is None else (" WHERE place = ?", (identity.digest,))
    try:
        found = connection.execute(f"SELECT {', '.join(names)}, digest FROM {table}{where} ORDER BY rowid {order}",
                                   values)
    except sqlite3.OperationalError as error:
        if "no such table" in str(error):
            return
        raise
    while (row := found.fetchone()) is not None:
        values_by_name = {name: row[name] for name in names}
        with contextlib.suppress(TypeError, ValueError):
            if row["digest"] == _digest(table, values_by_name):
                yield values_by_name


def _row(found: Mapping[str, Any]) -> Row:
    return Row(**{**{name: found[name] for name in _MEASURED}, "variant": json.loads(found["variant"])})


def _listed(data: Any, table: str, source: str) -> Iterable[Any]:
    listed = data.get(table) if isinstance(data, Mapping) and data.get("format") == FORMAT else None
    if not isinstance(listed, list):
        raise UserError.at("E1111", f"{source} has no results of tuning",
                           help="`tilus tune --export FILE` writes such a file")
    return listed


_BETTER = (f"CASE WHEN (excluded.status = '{MODELLED}') = ({{0}}.status = '{MODELLED}') "
           f"THEN excluded.time >= {{0}}.time ELSE {{0}}.status = '{MODELLED}' END")
"""Whether a row replaces another one."""

_TYPES: dict[str, tuple[type, ...]] = {
    **dict.fromkeys((*_IDENTITY, "variant", "status", "reason"), (str,)), "count": (int,),
    "time": (int, float), **dict.fromkeys(("median", "spread", "predicted"), (int, float, type(None)))}


def _checked(table: str, row: Any, source: str) -> dict[str, Any]:
    """A row from elsewhere. Raises UserError (E1111)."""
    names = _TABLES[table]
    sound = isinstance(row, Mapping) and set(row) == set(names) and all(isinstance(row[n], _TYPES[n]) for n in names)
    if sound:
        with contextlib.suppress(ValueError):
            if isinstance(json.loads(row["variant"]), dict):
                return {n: float(v) if n in ("time", "median", "spread", "predicted") and v is not None else v
                        for n, v in row.items()}
    raise UserError.at("E1111", f"{source} has a row in {table!r} that is none: {str(row)[:80]}")


__all__ = ["FAILED", "MODELLED", "OK", "Row", "Store", "default_store"]
