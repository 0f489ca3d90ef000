"""Tuning: the best variant is found, wrong ones are not, arrays stay as they were, whatever ends the search."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tilus as tl
from tilus.diagnostics import TilusWarning
from tilus.runtime.arrays import ArrayArgument
from tilus.runtime.cache import default_cache
from tilus.runtime.filelock import key_lock
from tilus.runtime.recognise import as_array
from tilus.targets import get_target
from tilus.tuning import identity, store
from tilus.tuning.devices import Host
from tilus.tuning.measure import Race, Written, default_tolerance
from tilus.tuning.search import Search, lock_of


@pytest.fixture(autouse=True)
def own_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[store.Store]:
    """A store and a cache of each test's own; what kernels remember is forgotten."""
    monkeypatch.setenv("TILUS_CACHE_DIR", str(tmp_path))
    for cached in (store.default_store, default_cache):
        cached.cache_clear()
    for kernel in (slower, wrong, added, accumulated, fused, failing):
        kernel.results.clear()
        kernel._choices.clear()
        kernel._absent.clear()
        kernel.kernel.forget()
    yield store.default_store()
    for cached in (store.default_store, default_cache):
        cached.cache_clear()


@tl.autotune(ROUNDS=[40, 1, 8], BLOCK=[64, 32], key="N")
@tl.jit
def slower(x: tl.f32["N"], y: tl.f32["N"], ROUNDS: int = 8, BLOCK: int = 32) -> None:
    """Copies, after so much work as ROUNDS says."""
    i = tl.grid(tl.cdiv(x.shape[0], BLOCK)) * BLOCK
    found = tl.load(x, i, BLOCK)
    work = found
    for _ in tl.range(ROUNDS):
        work = tl.sin(work)
    tl.store(y, i, found + work * 0)


@tl.autotune(FACTOR=[3, 2, 1], key="N")
@tl.jit
def wrong(x: tl.f32["N"], y: tl.f32["N"], FACTOR: int = 2) -> None:
    i = tl.grid(tl.cdiv(x.shape[0], 32)) * 32
    tl.store(y, i, tl.load(x, i, 32) * FACTOR)


@tl.autotune(BLOCK=[16, 64])
@tl.jit
def added(x: tl.f32["N"], y: tl.f32["N"], BLOCK: int = 16) -> None:
    """y += x"""
    i = tl.grid(tl.cdiv(x.shape[0], BLOCK)) * BLOCK
    tl.store(y, i, tl.load(x, i, BLOCK) + tl.load(y, i, BLOCK))


@tl.autotune(BLOCK=[16, 64])
@tl.jit
def accumulated(x: tl.f32["N"], acc: tl.f32["N"], BLOCK: int = 16) -> None:
    """acc is 0 at each start."""
    i = tl.grid(tl.cdiv(x.shape[0], BLOCK)) * BLOCK
    tl.device_assert(tl.all(tl.load(acc, i, BLOCK) == 0), "not reset")
    tl.store(acc, i, tl.load(x, i, BLOCK))


@tl.autotune(BM=[16, 32], BN=[32, 64])
@tl.fuse
def fused(x: tl.f32["M", "N"], y: tl.f32["M", "N"]):
    return x + y, tl.sum(x, axis=1)


@tl.autotune(BLOCK=[32, 48, 64], SHIFT=[0, 1])
@tl.jit
def failing(x: tl.f32["N"], y: tl.f32["N"], BLOCK: int = 32, SHIFT: int = 0) -> None:
    tl.static_assert(SHIFT == 0, "no shifts today")
    tl.static_assert(BLOCK != 48, "48 is no power of two")
    i = tl.grid(tl.cdiv(x.shape[0], BLOCK)) * BLOCK
    tl.store(y, i, tl.load(x, i, BLOCK))


def vectors(n: int = 1000) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    return np.arange(n, dtype=np.float32), np.full(n, 7, np.float32)


def test_the_fastest_variant_is_chosen_and_arrays_stay(own_store: store.Store) -> None:
    x, y = vectors(100_000)
    result = slower.tune(x, y, budget=60)
    assert result.variant["ROUNDS"] == 1
    assert result.untuned == {"ROUNDS": 8, "BLOCK": 32}
    assert len(result.measured) == 6
    assert result.left == 0
    assert result.stored
    assert result.speedup is not None
    assert result.speedup > 1
    assert (y == 7).all()
    assert slower.choose({"x": x, "y": y}, "cpu") == result.variant
    assert slower.choose({"x": x[:70_000], "y": y[:70_000]}, "cpu") == result.variant  # of the same key
    slower(x, y)
    assert (x == y).all()
    rows = own_store.export()
    assert len(rows["results"]) == 6
    assert len(rows["choices"]) == 1


def test_the_result_as_a_table() -> None:
    text = str(slower.tune(*vectors(100_000), budget=60))
    assert text.splitlines()[0].startswith("slower on cpu for N=131072: ROUNDS=1, BLOCK=")
    assert "untuned" in text
    assert "6 variants in" in text


def test_wrong_variants_are_reported_and_not_chosen() -> None:
    x, y = vectors()
    result = wrong.tune(x, y)
    assert result.variant == {"FACTOR": 2}
    assert {m.variant["FACTOR"] for m in result.failed} == {1, 3}
    assert all("y differs from what the untuned kernel gives, at 999 of 1000 elements" in m.reason
               for m in result.failed)
    assert "failed, 2: y differs" in str(result)


def test_variants_that_do_not_compile_are_listed() -> None:
    result = failing.tune(*vectors())
    assert sorted((m.variant["BLOCK"], m.variant["SHIFT"]) for m in result.failed) == [
        (32, 1), (48, 0), (48, 1), (64, 1)]
    reasons = {m.variant["BLOCK"]: m.reason for m in result.failed}
    assert "no shifts today" in reasons[32]
    assert "48 is no power of two" in {m.reason[-21:] for m in result.failed}
    assert result.variant["SHIFT"] == 0
    assert "no shifts today" in str(result)


def test_no_variant_works() -> None:
    with pytest.raises(tl.UserError, match=r"E1112.*no variant of 'failing' works(?s:.*)no shifts today"):
        failing.tune(*vectors(), SHIFT=1)


def test_kernels_that_add_to_their_arrays() -> None:
    x, y = vectors()
    result = added.tune(x, y)
    assert not result.failed
    assert (y == 7).all()
    added(x, y)
    assert (y == x + 7).all()


def test_reset() -> None:
    x, acc = vectors()
    result = accumulated.tune(x, acc, reset="acc")
    assert not result.failed
    assert (acc == 7).all()


def test_parameters_that_the_call_gives_are_kept() -> None:
    x, y = vectors(100_000)
    result = slower.tune(x, y, ROUNDS=8)
    assert result.variant["ROUNDS"] == 8
    assert len(result.measured) == 2
    assert slower.choose({"x": x, "y": y, "ROUNDS": 8}, "cpu") == result.variant
    slower.results.clear()
    assert slower.choose({"x": x, "y": y}, "cpu") == {"ROUNDS": 8, "BLOCK": 32}


@pytest.mark.parametrize("given", [False, True])
def test_fused_functions(given: bool) -> None:
    x = np.arange(200 * 50, dtype=np.float32).reshape(200, 50)
    out = (np.full_like(x, 3), np.full(200, 3, np.float32))
    result = fused.tune(x, x, **({"out": out} if given else {}))
    assert not result.failed
    assert len(result.measured) == 4
    assert (out[0] == 3).all()
    assert (out[1] == 3).all()
    total, sums = fused(x, x)
    assert (total == 2 * x).all()
    assert np.allclose(sums, x.sum(axis=1))


def test_a_small_budget_measures_the_untuned_one() -> None:
    result = slower.tune(*vectors(), budget=1e-9)
    assert result.variant == {"ROUNDS": 8, "BLOCK": 32}
    assert result.ended == "the budget was used up"
    assert result.left == 5


def test_ctrl_c_keeps_what_is_known(monkeypatch: pytest.MonkeyPatch, own_store: store.Store) -> None:
    turns = Race.turns

    def interrupted(self: Race, numbers: Any, count: int) -> None:
        if self._turn == 3:
            raise KeyboardInterrupt
        turns(self, numbers, count)

    monkeypatch.setattr(Race, "turns", interrupted)
    x, y = vectors(100_000)
    result = slower.tune(x, y)
    assert result.ended == "interrupted"
    assert result.variant["ROUNDS"] == 1
    assert (y == 7).all()
    assert len(own_store.export()["choices"]) == 1


def test_measuring_waits_for_other_searches() -> None:
    """Which does not count to the budget."""
    held, released = threading.Event(), [0.0]

    def hold() -> None:
        with key_lock(lock_of(Host()), 10):
            held.set()
            time.sleep(1.0)
            released[0] = time.perf_counter()

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait()
    started = time.perf_counter()
    result = added.tune(*vectors(), budget=0.9)
    holder.join()
    assert started + result.seconds > released[0]
    assert len(result.measured) == 2


def test_ctrl_c_before_anything_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Search, "_check_all", interrupted)
    with pytest.raises(KeyboardInterrupt):
        slower.tune(*vectors())


@pytest.mark.parametrize("make", [
    lambda: ThreadPoolExecutor(2), lambda: ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))])
def test_executors(make: Any) -> None:
    with make() as executor:
        result = failing.tune(*vectors(), executor=executor)
    assert len(result.failed) == 4
    assert len(result.measured) == 6


def test_an_executor_that_dies() -> None:
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as executor:
        doomed = executor.submit(os._exit, 1)
        with pytest.warns(TilusWarning, match="W1113.*the executor that compiled variants is lost"):
            result = added.tune(*vectors(), executor=executor)
        assert doomed.exception() is not None
    assert len(result.measured) == 2
    assert not result.failed


def test_an_executor_that_is_shut_down() -> None:
    executor = ThreadPoolExecutor(1)
    executor.shutdown()
    with pytest.warns(TilusWarning, match="W1113.*after shutdown"):
        assert not added.tune(*vectors(), executor=executor).failed


def test_calls_tune_when_asked() -> None:
    x, y = vectors(100_000)
    slower(x, y)
    assert not slower.results
    with tl.tuning(True):
        slower(x, y)
        assert next(iter(slower.results.values()))["ROUNDS"] == 1
        slower(x, y)
        slower.on("interpret")(x[:40], y[:40])
        assert len(slower.results) == 1
        with tl.tuning(False):
            slower(x[:900], y[:900])
        assert len(slower.results) == 1
    assert (x == y).all()
    slower(x[:300], y[:300])
    assert len(slower.results) == 1


@pytest.mark.parametrize(("options", "message"), [
    ({"budget": 0}, "E1110.*budget is 0, not a number of seconds"),
    ({"executor": 3}, "E1110.*executor is 3"),
    ({"reset": "z"}, "E1110.*reset names 'z', but slower has no array 'z'"),
    ({"reset": "x"}, "E1110.*reset names 'x', but slower does not write 'x'"),
    ({"target": "interpret"}, "E1109.*'interpret' does not tell how fast"),
    ({"target": "sm_80"}, "E1109.*nothing here to measure sm_80 on"),
    ({"target": "sm_1"}, "E0501"),
    ({"BLOK": 64}, r"E0604(?s:.*)did you mean 'BLOCK'"),
])
def test_mistakes(options: dict[str, Any], message: str) -> None:
    with pytest.raises(tl.UserError, match=message):
        slower.tune(*vectors(), **options)


def test_races_go_by_shares_of_turns() -> None:
    """A machine that gets slower and slower does not choose."""
    race = Race(None, time.perf_counter() + 60)
    for turn in range(9):
        order = [0, 1, 2] if turn % 2 else [2, 1, 0]
        for place, number in enumerate(order):
            race.samples.setdefault(number, {})[turn] = (1 + 0.1 * number) * 2.0 ** (turn + place / 100)
    scores = race.scores([0, 1, 2])
    assert sorted(scores, key=scores.__getitem__) == [0, 1, 2]
    race.samples[3] = {8: 1.0}
    assert min(race.scores([0, 3]).items(), key=lambda item: item[1])[0] == 3


def argument(array: np.ndarray[Any, Any]) -> ArrayArgument:
    found = as_array(array)
    assert found is not None
    return found


def test_which_differences_count() -> None:
    x = np.array([1.0, 100.0, np.inf, np.nan], np.float32)
    written = Written({"x": argument(x)}, ())
    written.expect()
    assert written.difference(1e-3) == ""
    x[0] += 0.09
    assert written.difference(1e-3) == ""
    assert "at 1 of 4 elements, by up to 0.09" in written.difference(1e-4)
    x[3] = 0
    assert "at 1 of 4" in written.difference(1e-3)
    x[2:] = -np.inf, np.nan
    assert "at 1 of 4" in written.difference(1e-3)
    n = np.arange(4)
    whole = Written({"n": argument(n)}, ())
    whole.expect()
    n[2] += 1
    assert "at 1 of 4 elements" in whole.difference(1e-3)
    whole.restore()
    assert whole.difference(0.0) == ""


def test_tolerances() -> None:
    f16, f32, i8 = (argument(np.zeros(1, t)) for t in (np.float16, np.float32, np.int8))
    assert default_tolerance([f32, i8]) == pytest.approx(2.0 ** (-23 * 2 / 3))
    assert default_tolerance([f32, f16]) == pytest.approx(2.0 ** (-20 / 3))


def test_devices_are_told_apart() -> None:
    assert "threads" in identity.device_of(get_target("cpu"))
    assert identity.device_of(get_target("sm_80")) == "sm_80"
