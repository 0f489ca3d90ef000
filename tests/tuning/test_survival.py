"""Whatever ends a search, a process or a variant: what was found is there, and nothing that is wrong."""

from __future__ import annotations

import ctypes
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tilus as tl
from tilus.runtime.cache import CacheWarning, default_cache
from tilus.targets import get_target
from tilus.tuning import journal, search, store
from tilus.tuning.identity import identity_of
from tilus.tuning.measure import Race
from tilus.tuning.trial import Ended, TooLong, tried

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def own_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TILUS_CACHE_DIR", str(tmp_path))
    fresh()
    yield
    fresh()


def fresh() -> None:
    """As a new process."""
    for cached in (store.default_store, default_cache):
        cached.cache_clear()
    for kernel in (worked, endless):
        for memory in (kernel.results, kernel._choices, kernel._absent):
            memory.clear()


@tl.autotune(ROUNDS=list(range(1, 9)), BLOCK=[32, 64, 256], key="N")
@tl.jit
def worked(x: tl.f32["N"], y: tl.f32["N"], ROUNDS: int = 8, BLOCK: int = 32) -> None:
    """Copies, after so much work as ROUNDS says."""
    i = tl.grid(tl.cdiv(x.shape[0], BLOCK)) * BLOCK
    found = tl.load(x, i, BLOCK)
    work = found
    for _ in tl.range(ROUNDS * 20):
        work = tl.sin(work)
    tl.store(y, i, found + work * 0)


@tl.autotune(HOW=["well", "endless"])
@tl.jit
def endless(x: tl.f32["N"], y: tl.f32["N"], HOW: str = "well") -> None:
    tl.grid(1)
    at = tl.scalar(0, tl.i32)
    if HOW == "endless":
        while at < 1:
            at = at * 1
    tl.store(y, at, tl.load(x, at, 16))


def vectors() -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    return np.arange(4000, dtype=np.float32), np.zeros(4000, np.float32)


def rows() -> list[store.Row]:
    x, y = vectors()
    key = worked.key_of({"x": x, "y": y}, "cpu")
    return store.default_store().rows(identity_of(worked.function, key, get_target("cpu")))


# -- children


def test_what_a_child_gives() -> None:
    assert tried(lambda: ("", 1.5), 10) == ("", 1.5)
    assert tried(lambda: ("x" * 100_000, 0.0), 10) == ("x" * 100_000, 0.0)


@pytest.mark.parametrize(("end", "message"), [
    (lambda: os.kill(os.getpid(), signal.SIGSEGV), r"ends its process: Segmentation fault \(SIGSEGV\)"),
    (lambda: os._exit(3), "ends its process with status 3"),
])
def test_children_that_die(end: Any, message: str) -> None:
    with pytest.raises(Ended, match=message):
        tried(end, 10)


def test_children_without_an_end() -> None:
    started = time.monotonic()
    with pytest.raises(TooLong):
        tried(lambda: time.sleep(60), 0.2)  # type: ignore[arg-type]
    assert time.monotonic() - started < 10


def test_children_write_to_copies() -> None:
    x = np.zeros(3)

    def write() -> tuple[str, float]:
        x[:] = 7
        return "", float(x.sum())

    assert tried(write, 10) == ("", 21.0)
    assert x.sum() == 0


# -- variants


def test_variants_that_would_end_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    call = search.Search._call

    def wild(self: search.Search, number: int) -> Any:
        return (lambda: ctypes.string_at(0)) if self.variants[number]["BLOCK"] == 64 else call(self, number)

    monkeypatch.setattr(search.Search, "_call", wild)
    x, y = vectors()
    result = worked.tune(x, y, ROUNDS=1)
    assert [(m.variant["BLOCK"], m.reason) for m in result.failed] == [
        (64, "it ends its process: Segmentation fault (SIGSEGV)")]
    assert len(result.measured) == 3
    assert (y == 0).all()


def test_variants_without_an_end() -> None:
    result = endless.tune(*vectors())
    assert [m.variant["HOW"] for m in result.failed] == ["endless"]
    assert result.failed[0].reason.startswith("it takes more than 1 s")


def test_a_variant_that_takes_longer_than_the_budget_is_left() -> None:
    result = endless.tune(*vectors(), budget=0.6)
    assert result.ended == "the budget was used up"
    assert not result.failed
    assert result.left == 1


# -- results on the way


def test_later_searches_go_on_from_earlier_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    first = worked.tune(*vectors(), budget=60)
    assert len(first.measured) == 24
    assert not any(m.earlier for m in first.measured)
    fresh()
    entered: list[int] = []
    enter = Race.enter
    monkeypatch.setattr(Race, "enter", lambda self, *given: (entered.append(given[0]), enter(self, *given))[1])
    again = worked.tune(*vectors(), budget=60)
    assert len(again.measured) == 24
    assert again.left == 0
    assert len(entered) <= search.MOST_AGAIN + 1
    assert sum(not m.earlier for m in again.measured) == len(entered)
    assert again.variant["ROUNDS"] == 1
    assert "earlier" in str(again)
    medians = {str(m.variant): m.median for m in first.measured}
    assert all(m.median == medians[str(m.variant)] for m in again.measured if m.earlier)
    entered.clear()
    assert not any(m.earlier for m in worked.tune(*vectors(), budget=60, fresh=True).measured)


def test_old_results_are_measured_again(monkeypatch: pytest.MonkeyPatch) -> None:
    worked.tune(*vectors(), BLOCK=64, budget=60)
    monkeypatch.setattr(journal, "RECENT", -1.0)
    assert not any(m.earlier for m in worked.tune(*vectors(), BLOCK=64, budget=60).measured)


def test_failures_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    endless.tune(*vectors())
    monkeypatch.setattr(search, "tried", None)
    result = endless.tune(*vectors())
    assert [(m.variant["HOW"], m.earlier) for m in result.measured] == [("well", False), ("endless", True)]


PROGRAM = """
import sys, time
from concurrent.futures import ThreadPoolExecutor
from tests.tuning.test_survival import *
from tilus.tuning import ranking
ranking._OWN.clear()
journal.BATCH = 0.1
check = search.Search._check

def told(self, number):
    check(self, number)
    print(json.dumps([time.time(), self.variants[number]]), flush=True)

search.Search._check = told
result = worked.tune(*vectors(), budget=60, executor=ThreadPoolExecutor(2))
print(json.dumps([time.time(), "done"]), flush=True)
print(json.dumps([len(result.measured), len(result.failed), result.left, result.stored, result.variant["ROUNDS"],
                  sum(m.earlier for m in result.measured)]))
"""


def searching(code: str = PROGRAM, before: str = "") -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", before + code], cwd=ROOT, text=True, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)})


def whole() -> bool:
    connection = sqlite3.connect(store.default_store().path)
    try:
        return bool(connection.execute("PRAGMA integrity_check").fetchone() == ("ok",))
    finally:
        connection.close()


def test_searches_that_are_killed() -> None:
    """At random moments: what was found before the last batch is there, the next search goes on from it, and the last
    one ends."""
    order = random.Random(2)
    found: dict[str, float] = {}
    before: set[str] = set()
    for _ in range(10):
        running = searching()
        assert running.stdout is not None
        first = [running.stdout.readline() for _ in range(order.randrange(1, 12))]  # variants that have run
        time.sleep(order.uniform(0.0, 0.5))
        killed = time.time()
        running.kill()
        lines = [json.loads(line) for line in [*map(str.strip, first), *running.communicate()[0].splitlines()]
                 if line.endswith("]")]
        for when, variant in (line for line in lines if isinstance(line[1], dict)):
            found.setdefault(json.dumps(variant, sort_keys=True), when)
        known = rows()
        assert whole()
        assert all(r.status == store.OK and r.median is not None and r.median > 0 and r.count for r in known)
        names = {json.dumps(r.variant, sort_keys=True) for r in known}
        assert names <= {json.dumps(v, sort_keys=True) for v in worked.space}
        # A row is written with the first variant after the batch's time: those before the last two are there.
        late = sorted(found.values())[-2:] if found else []
        assert {name for name, when in found.items() if when < killed - 0.5 and when not in late} <= names
        assert before <= names
        before = names
        if len(names) > 12:
            break
    assert len(before) > 5
    last = searching()
    output, errors = last.communicate(timeout=120)
    assert last.returncode == 0, errors
    measured, failed, left, stored, rounds, earlier = json.loads(output.splitlines()[-1])
    assert (measured, failed, left, stored, rounds) == (24, 0, 0, True, 1)
    assert earlier >= len(before) - search.MOST_AGAIN - 1
    assert len(rows()) == 24


def test_two_processes_that_search_at_once() -> None:
    both = [searching() for _ in range(2)]
    for process in both:
        output, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
        measured, failed, left, stored, rounds, _ = json.loads(output.splitlines()[-1])
        assert (measured, failed, left, stored, rounds) == (24, 0, 0, True, 1)
    assert whole()
    assert len(rows()) == 24
    x, y = vectors()
    assert worked.choose({"x": x, "y": y}, "cpu")["ROUNDS"] == 1


def test_a_disk_that_gets_full() -> None:
    """No file may be larger than a small one: the search ends with its result, which counts for the process."""
    x, y = vectors()
    key = worked.key_of({"x": x, "y": y}, "cpu")
    store.default_store().put(identity_of(worked.function, key, get_target("cpu")), [], None)
    before = ("import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
              "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))\n")
    full = searching(before=before)
    output, errors = full.communicate(timeout=120)
    assert full.returncode == 0, errors
    measured, failed, left, stored, rounds, _ = json.loads(output.splitlines()[-1])
    assert (measured, failed, left, stored, rounds) == (24, 0, 0, False, 1)
    assert "results of tuning" in errors
    assert whole()
    assert len(rows()) < 24


def test_a_store_that_cannot_be_written_is_reported_twice_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "BATCH", 0.0)
    directory = Path(store.default_store().path).parent
    Path(store.default_store().path).mkdir(parents=True)
    assert directory.exists()
    with pytest.warns(CacheWarning, match="results of tuning") as caught:
        result = worked.tune(*vectors(), BLOCK=64, budget=60)
    assert not result.stored
    assert sum("results of tuning" in str(w.message) for w in caught) <= 4
