"""The store of results: nothing is lost or wrong, whoever writes, is killed, or damages the file."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tilus as tl
from tilus.runtime.cache import CacheWarning
from tilus.tuning.identity import Identity, decoded, encoded, kernel_text
from tilus.tuning.store import FAILED, Row, Store

ROOT = Path(__file__).parents[2]


def identity(number: int = 0, text: str = "t") -> Identity:
    return Identity("kernel", text, "compiler", "device", json.dumps({"sizes": {"M": number}}))


def row(n: int, median: float | None = 1.0) -> Row:
    return Row({"BM": n, "mode": "fast"}, median, 0.1, 7)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "cache" / "tuning.db")


def worker(store: Store, body: str, *arguments: object) -> subprocess.Popen[str]:
    """Another process that runs a body with ``store``, ``identity``, ``row`` and ``arguments``."""
    code = textwrap.dedent(f"""
        import sys
        from tests.tuning.test_store import *
        store = Store({store.path!r})
        arguments = [int(a) for a in sys.argv[1:]]
        """) + textwrap.dedent(body)
    return subprocess.Popen([sys.executable, "-c", code, *map(str, arguments)], cwd=ROOT, text=True,
                            stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)})


def whole(store: Store) -> bool:
    import sqlite3

    connection = sqlite3.connect(store.path)
    try:
        return connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    finally:
        connection.close()


def test_what_is_put_is_found(store: Store) -> None:
    assert store.choice(identity()) is None
    assert store.put(identity(), [row(64), row(32, 2.5), Row({"BM": 8}, None, None, 0, status=FAILED, reason="no")],
                     {"BM": 64, "mode": "fast"})
    assert store.choice(identity()) == {"BM": 64, "mode": "fast"}
    found = store.rows(identity())
    assert [(r.variant["BM"], r.median, r.status, r.reason) for r in found] == [
        (64, 1.0, "ok", ""), (32, 2.5, "ok", ""), (8, None, "failed", "no")]
    assert store.choice(identity(1)) is None
    assert store.choice(identity(0, text="another kernel")) is None


def test_later_results_replace_earlier_ones_of_the_same_variant_only(store: Store) -> None:
    store.put(identity(), [row(64), row(32)], {"BM": 64})
    store.put(identity(), [row(64, 9.0)], {"BM": 32})
    assert {r.variant["BM"]: r.median for r in store.rows(identity())} == {64: 9.0, 32: 1.0}
    assert store.choice(identity()) == {"BM": 32}


def test_copies_of_choices(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are as the database is, and answer without it."""
    assert store.choices.get(identity().digest) == (True, None)
    for n in (64, 32):
        store.put(identity(), [row(n)], {"BM": n})
        assert store.choices.get(identity().digest) == (True, {"BM": n})
    assert store.choices.get(identity(1).digest) == (True, None)
    monkeypatch.setattr(Store, "_read", None)
    assert store.choice(identity()) == {"BM": 32}
    assert store.choice(identity(1)) is None


def test_copies_that_are_damaged_or_missing(store: Store) -> None:
    for n in range(3):
        store.put(identity(n), [row(n)], {"BM": n})
    copies = Path(store.choices.directory)
    damaged = copies / identity(1).digest
    damaged.write_bytes(damaged.read_bytes()[:-1])
    assert store.choices.get(identity(1).digest) == (False, None)
    assert store.choice(identity(1)) == {"BM": 1}
    assert store.choices.get(identity(1).digest) == (True, {"BM": 1})
    shutil.rmtree(copies)
    assert store.choices.get(identity(2).digest) == (False, None)
    assert store.choice(identity(3)) is None
    assert [store.choices.get(identity(n).digest) for n in range(4)] == [
        *((True, {"BM": n}) for n in range(3)), (True, None)]


def test_another_database_in_its_place(store: Store, tmp_path: Path) -> None:
    store.put(identity(), [row(1)], {"BM": 1})
    other = Store(tmp_path / "other" / "tuning.db")
    other.put(identity(1), [row(2)], {"BM": 2})
    for part in ("-wal", "-shm"):
        assert not Path(other.path + part).exists()
    os.replace(other.path, store.path)
    assert store.choices.get(identity(1).digest) == (False, None)
    assert store.choice(identity(1)) == {"BM": 2}
    assert store.choices.get(identity(2).digest) == (True, None)
    assert store.choice(identity()) is None


def test_a_choice_whose_copy_cannot_be_written_is_not_stored(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.put(identity(), [row(1)], {"BM": 1})

    def full(*_: Any) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(store.choices, "put", full)
    with pytest.warns(CacheWarning, match="no space left"):
        assert not store.put(identity(1), [row(2)], {"BM": 2})
    monkeypatch.undo()
    assert store.choice(identity(1)) is None
    assert store.rows(identity(1)) == []


def test_export_and_import(store: Store, tmp_path: Path) -> None:
    store.put(identity(), [row(64), row(32)], {"BM": 64})
    data = json.loads(json.dumps(store.export()))
    other = Store(tmp_path / "other" / "tuning.db")
    assert other.add(data, "file.json") == 2
    assert other.choice(identity()) == {"BM": 64}
    assert other.export() == data
    other.put(identity(), [row(32, 0.5)], {"BM": 32})
    other.add(data, "file.json")
    assert other.choice(identity()) == {"BM": 32}  # which is later


@pytest.mark.parametrize("data", [
    None, [], {}, {"format": "tilus-tuning-1", "results": []}, {"format": "x", "results": [], "choices": []},
    {"format": "tilus-tuning-1", "results": [{}], "choices": []},
    {"format": "tilus-tuning-1", "results": [], "choices": [
        {"kernel": "k", "text": "t", "compiler": "c", "device": "d", "key": "{}", "variant": "no JSON", "time": 1.0}]},
])
def test_import_of_something_else(store: Store, data: Any) -> None:
    with pytest.raises(tl.UserError, match="E1111"):
        store.add(data, "file.json")
    assert store.export()["results"] == []


def test_a_new_file_that_many_write_to_at_once(tmp_path: Path) -> None:
    for n in range(40):
        store = Store(tmp_path / str(n) / "tuning.db")
        start = threading.Barrier(6)

        def put(number: int, store: Store = store, start: threading.Barrier = start) -> bool:
            start.wait()
            return store.put(identity(number), [row(number)], {"BM": number})

        with ThreadPoolExecutor(6) as pool:
            assert all(pool.map(put, range(6)))
        assert [store.choice(identity(number)) for number in range(6)] == [{"BM": number} for number in range(6)]


def test_two_writers(store: Store) -> None:
    body = """
        for n in range(20):
            assert store.put(identity(n), [row(arguments[0] * 100 + i) for i in range(5)], {"BM": arguments[0]})
    """
    workers = [worker(store, body, n) for n in (1, 2, 3)]
    assert [w.wait(60) for w in workers] == [0, 0, 0]
    for w in workers:
        w.communicate()
    for n in range(20):
        assert sorted(r.variant["BM"] for r in store.rows(identity(n))) == [w * 100 + i for w in (1, 2, 3)
                                                                          for i in range(5)]
        assert store.choice(identity(n))["BM"] in (1, 2, 3)  # type: ignore[index]


def test_writers_that_are_killed(store: Store) -> None:
    body = """
        for n in range(arguments[0], 100000):
            assert store.put(identity(n), [row(i) for i in range(10)], {"BM": n})
            print(n, flush=True)
    """
    order = random.Random(0)
    started, done = 0, -1
    for _ in range(4):
        killed = worker(store, body, started)
        assert killed.stdout is not None
        first = killed.stdout.readline()
        time.sleep(order.uniform(0.0, 0.05))
        os.kill(killed.pid, signal.SIGKILL)
        rest = killed.communicate()[0]
        done = max(int(line) for line in [first, *rest.split("\n")] if line.strip())
        assert whole(store)
        for n in range(started, done + 1):
            assert store.choice(identity(n)) == {"BM": n}
        for n in range(started, done + 3):
            assert len(store.rows(identity(n))) in ((10,) if n <= done else (0, 10))
        started = done + 5


def test_a_full_disk(store: Store) -> None:
    """The process may not write files of more than 100 KB: what it could not write, it says."""
    body = """
        import resource
        store.put(identity(0), [row(1)], {"BM": 0})
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        warnings.simplefilter("ignore")
        written = [n for n in range(1, 60) if store.put(identity(n), [row(i) for i in range(40)], {"BM": n})]
        print(json.dumps(written))
    """
    full = worker(store, body)
    written = json.loads(full.communicate(timeout=60)[0])
    assert full.returncode == 0
    assert 1 < len(written) < 59
    assert whole(store)
    for n in range(1, 60):
        assert len(store.rows(identity(n))) == (40 if n in written else 0)
        assert store.choice(identity(n)) == ({"BM": n} if n in written else None)
    assert store.choice(identity(0)) == {"BM": 0}
    assert store.put(identity(100), [row(5)], {"BM": 5})


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    store = Store(tmp_path / "file" / "tuning.db")
    with pytest.warns(CacheWarning, match="results of tuning"):
        assert not store.put(identity(), [row(1)], {"BM": 1})
    assert store.choice(identity()) is None


def test_a_file_that_is_something_else(store: Store) -> None:
    os.makedirs(os.path.dirname(store.path))
    Path(store.path).write_bytes(b"something else " * 1000)
    with pytest.warns(CacheWarning, match="damaged"):
        assert store.put(identity(), [row(1)], {"BM": 1})
    assert store.choice(identity()) == {"BM": 1}
    assert whole(store)


def test_damage_anywhere_gives_no_wrong_row(store: Store) -> None:
    for n in range(30):
        store.put(identity(n), [row(i, float(n)) for i in range(10)], {"BM": n})
    order = random.Random(1)
    sound = Path(store.path).read_bytes()
    kept = []
    for _ in range(25):
        data = bytearray(sound)
        start = order.randrange(len(data))
        for place in range(start, min(len(data), start + order.choice((1, 40, 5000)))):
            data[place] = order.randrange(256)
        for part in ("", "-wal", "-shm"):
            Path(store.path + part).unlink(missing_ok=True)
        Path(store.path).write_bytes(data)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CacheWarning)
            found = {n: store.rows(identity(n)) for n in range(30)}
            assert store.put(identity(99), [row(7)], {"BM": 7})
        kept.append(sum(map(len, found.values())))
        for n, rows in found.items():
            assert all(r.median == float(n) and r.variant["BM"] in range(10) for r in rows)
        assert len(store.rows(identity(99))) == 1
    assert sum(kept) > 0.7 * 25 * 300


def test_values_that_are_no_json() -> None:
    values = {"dtype": (tl.f16, tl.bf16), "n": (1, True, 1.0), "m": ((1, 2), (1, 3))}
    for variant in ({"dtype": tl.bf16, "n": True, "m": (1, 3)}, {"dtype": tl.f16, "n": 1, "m": (1, 2)}):
        stored = json.loads(json.dumps({name: encoded(value) for name, value in variant.items()}))
        found = decoded(stored, values)
        assert found is not None
        assert [(v, type(v)) for v in found.values()] == [(v, type(v)) for v in variant.values()]
    assert decoded({"n": 7}, values) is None


SOURCE = """
import tilus as tl
FACTOR = 2
def helper(x):
    return x * FACTOR
@tl.jit
def kernel(x: tl.f32["N"], BLOCK: int = 16):
    tl.grid(1)
    tl.store(x, 0, helper(tl.load(x, 0, BLOCK)))
"""


def text_of(tmp_path: Path, source: str) -> str:
    path = tmp_path / f"kernels_{len(list(tmp_path.iterdir()))}.py"
    path.write_text(source)
    space: dict[str, Any] = {"__name__": "kernels"}
    exec(compile(source, str(path), "exec"), space)
    return kernel_text(space["kernel"].function)


def test_the_text_of_a_kernel(tmp_path: Path) -> None:
    text = text_of(tmp_path, SOURCE)
    assert text_of(tmp_path, "\n\n" + SOURCE + "OTHER = 5\n") == text
    for before, after in (("FACTOR = 2", "FACTOR = 3"), ("x * FACTOR", "x + FACTOR"), ("BLOCK: int = 16", "BLOCK: int"),
                          ("store(x, 0", "store(x, 1")):
        assert text_of(tmp_path, SOURCE.replace(before, after)) != text


def test_the_text_has_fields_of_objects_and_methods(tmp_path: Path) -> None:
    source = SOURCE.replace("FACTOR = 2", "class C:\n    a = 1\n    def f(self):\n        return 4\nFACTOR = C()\n"
                                          "FACTOR.b = 5").replace("x * FACTOR", "x * FACTOR.b")
    assert text_of(tmp_path, source) == text_of(tmp_path, source)
    assert text_of(tmp_path, source) != text_of(tmp_path, source.replace("b = 5", "b = 6"))


@tl.autotune(BLOCK=[16, 32, 64])
@tl.jit
def copied(x: tl.f32["N"], y: tl.f32["N"], BLOCK: int = 32) -> None:
    i = tl.grid(tl.cdiv(x.shape[0], BLOCK)) * BLOCK
    tl.store(y, i, tl.load(x, i, BLOCK))


def test_a_new_process_uses_what_was_stored(tmp_path: Path) -> None:
    """No search, SQLite is not loaded, and the choice is neither the default nor what the model prefers."""
    file = tmp_path / "copied_kernels.py"
    file.write_text(textwrap.dedent("""
        import sys
        import numpy as np
        import tilus as tl

        @tl.autotune(BLOCK=[16, 32, 64])
        @tl.jit
        def copied(x: tl.f32["N"], y: tl.f32["N"], BLOCK: int = 32):
            i = tl.grid(tl.cdiv(x.shape[0], BLOCK)) * BLOCK
            tl.store(y, i, tl.load(x, i, BLOCK))

        x, y = np.ones(100, np.float32), np.zeros(100, np.float32)
        if sys.argv[1:]:
            from tilus.targets import get_target
            from tilus.tuning.identity import identity_of
            from tilus.tuning.store import default_store
            key = copied.key_of({"x": x, "y": y}, "cpu")
            default_store().put(identity_of(copied.function, key, get_target("cpu")), [], {"BLOCK": 16})
        else:
            copied(x, y)
            assert "tilus.tuning.search" not in sys.modules
            print(y.sum(), copied.choose({"x": x, "y": y}, "cpu"), "sqlite3" in sys.modules)
    """))
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TILUS_CACHE_DIR": str(tmp_path / "cache")}

    def run(*arguments: str) -> str:
        return subprocess.run([sys.executable, str(file), *arguments], env=environment, text=True, check=True,
                              capture_output=True).stdout

    untuned = run()
    assert untuned in ("100.0 {'BLOCK': 32} False\n", "100.0 {'BLOCK': 64} False\n")
    run("store")
    assert run() == "100.0 {'BLOCK': 16} False\n"
    file.write_text(file.read_text().replace("tl.load(x, i, BLOCK)", "2 * tl.load(x, i, BLOCK)"))
    assert run() == "200" + untuned[3:]


def test_results_outside_of_the_space_are_not_used() -> None:
    from tilus.targets import get_target
    from tilus.tuning.identity import identity_of
    from tilus.tuning.store import default_store

    x = np.ones(10, np.float32)
    key = copied.key_of({"x": x, "y": x}, "cpu")
    default_store().put(identity_of(copied.function, key, get_target("cpu")), [], {"BLOCK": 128})
    assert copied.choose({"x": x, "y": x}, "cpu") == {"BLOCK": 32}
