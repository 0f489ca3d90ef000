"""What models say decides what is tried first, what is not tried, and what calls get that nobody has tuned."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tilus as tl
from tilus.diagnostics import TilusWarning
from tilus.interp import evaluate_launch
from tilus.model.prediction import Prediction
from tilus.targets import get_target
from tilus.tuning import ranking, store
from tilus.tuning.identity import identity_of
from tilus.tuning.ranking import MOST_AT_ONCE, guess, order_of, register_predictor
from tilus.tuning.store import FAILED, MODELLED, OK, Row

NO_GPU = pytest.mark.skipif(os.path.exists("/dev/nvidia0"), reason="there is a GPU")


class Toy:
    """Says of a variant what a function of it gives: seconds, None, or why it cannot be launched."""

    def __init__(self, before: Callable[[Any], Any] = lambda variant: None,
                 after: Callable[[Any], Any] = lambda variant: None) -> None:
        self.before, self.after = before, after
        self.asked: list[Mapping[str, Any]] = []

    def supports(self, target: Any) -> bool:
        return bool(target.name != "sm_75")

    def before_compiling(self, function: Any, engine: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any],
                         variants: Sequence[Mapping[str, Any]]) -> Iterator[Prediction | None]:
        for variant in variants:
            self.asked.append(variant)
            yield self.prediction(self.before(variant))

    def compiled(self, call: Any) -> Prediction | None:
        """By the number of blocks of a call on 1,000 elements."""
        assert call.metadata["target"] == call.target.name
        assert call.blobs["cubin"]
        grids: list[tuple[int, ...]] = []
        evaluate_launch(call.module.launch, call.arguments, allocate=lambda *workspace: None,
                        start=lambda name, grid, arguments: grids.append(grid), resident_blocks=lambda: 1)
        ((blocks, *_),) = grids
        return self.prediction(self.after({"BLOCK": next(b for b in (16, 32, 64, 128) if -(-1000 // b) == blocks)}))

    @staticmethod
    def prediction(found: Any) -> Prediction | None:
        if isinstance(found, str):
            return Prediction(math.inf, found)
        return None if found is None else Prediction(found, "the toy's limit")


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A store of each test's own."""
    monkeypatch.setenv("TILUS_CACHE_DIR", str(tmp_path))
    for cached in (store.default_store, tl.runtime.cache.default_cache):
        cached.cache_clear()
    forget()
    yield
    for cached in (store.default_store, tl.runtime.cache.default_cache):
        cached.cache_clear()


def forget() -> None:
    """What the process knows."""
    for memory in (copied.results, copied._choices, copied._absent, copied._guesses):
        memory.clear()


@tl.autotune(BLOCK=[16, 32, 64, 128], key="N")
@tl.jit
def copied(x: tl.f32["N"], y: tl.f32["N"], BLOCK: int = 32) -> None:
    i = tl.grid(tl.cdiv(x.shape[0], BLOCK)) * BLOCK
    tl.store(y, i, tl.load(x, i, BLOCK))


def vectors(n: int = 1000) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    return np.arange(n, dtype=np.float32), np.zeros(n, np.float32)


def chosen(target: str = "cpu") -> int:
    x, y = vectors()
    found: int = copied.choose({"x": x, "y": y}, target)["BLOCK"]
    return found


def largest(variant: Mapping[str, Any]) -> float:
    return 1 / float(variant["BLOCK"])


# -- calls


def test_without_a_model_calls_have_the_defaults() -> None:
    assert chosen() == chosen("sm_80") == 32


def test_calls_that_nobody_has_tuned_have_what_the_model_prefers() -> None:
    register_predictor("cpu", Toy(largest))
    x, y = vectors()
    copied(x, y)
    assert (x == y).all()
    assert next(iter(copied._choices.values())) == {"BLOCK": 128}
    assert chosen() == 128
    assert chosen("sm_80") == 32


def test_models_are_asked_once_for_a_key_whatever_the_process() -> None:
    toy = Toy(largest)
    register_predictor("cpu", toy)
    assert chosen() == 128
    assert toy.asked[0] == {"BLOCK": 32}
    assert len(toy.asked) == 4
    forget()  # as a new process
    assert chosen() == 128
    assert len(toy.asked) == 4


def test_engines_whose_time_tells_nothing_ask_no_model() -> None:
    toy = Toy(largest)
    register_predictor("cpu", toy)
    x, y = vectors(40)
    copied.on("interpret")(x, y)
    assert not toy.asked


def test_what_tuning_has_found_comes_before_a_model() -> None:
    register_predictor("cpu", Toy(largest))
    x, y = vectors()
    copied.adopt(copied.key_of({"x": x, "y": y}, "cpu"), {"BLOCK": 16})
    assert chosen() == 16


@pytest.mark.parametrize("before", [lambda variant: None, lambda variant: "no"])
def test_models_that_know_nothing(before: Any) -> None:
    register_predictor("cpu", Toy(before))
    assert chosen() == 32


def test_variants_that_cannot_be_launched_are_not_guessed() -> None:
    register_predictor("cpu", Toy(lambda v: "too large" if v["BLOCK"] > 64 else largest(v)))
    assert chosen() == 64


def test_a_model_that_fails() -> None:
    def broken(variant: Any) -> Any:
        raise ZeroDivisionError("1 / 0")

    register_predictor("cpu", Toy(broken))
    with pytest.warns(TilusWarning, match=r"W1114.*the model of cpu has failed \(ZeroDivisionError: 1 / 0\)"):
        assert chosen() == 32


def test_guesses_take_a_limited_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranking, "GUESSING", 0.0)
    toy = Toy(largest)
    register_predictor("cpu", toy)
    assert guess(copied, tl.runtime.engines.get_engine("cpu"), (), {}, copied.space, {"BLOCK": 32}) == {"BLOCK": 32}
    assert len(toy.asked) == 1


# -- searches


def test_searches_drop_what_cannot_be_launched_and_show_predictions() -> None:
    register_predictor("cpu", Toy(lambda v: "70000 bytes of a toy" if v["BLOCK"] == 64 else largest(v)))
    x, y = vectors()
    result = copied.tune(x, y)
    assert [(m.variant["BLOCK"], m.reason) for m in result.failed] == [
        (64, "cannot be launched, says the model: 70000 bytes of a toy")]
    assert {m.variant["BLOCK"]: m.predicted for m in result.measured if not m.reason} == {
        16: 1 / 16, 32: 1 / 32, 128: 1 / 128}
    assert all(m.median is not None and m.count for m in result.measured if not m.reason)
    text = str(result)
    assert "model" in text.splitlines()[1]
    assert "7.81 ms" in text
    assert "the toy's limit" in text
    rows = store.default_store().rows(identity_of(copied.function, result.key, get_target("cpu")))
    assert {r.variant["BLOCK"]: r.predicted for r in rows} == {16: 1 / 16, 32: 1 / 32, 128: 1 / 128, 64: None}
    assert {r.status for r in rows} == {OK, FAILED}


def test_the_untuned_variant_is_tried_whatever_the_model_says() -> None:
    register_predictor("cpu", Toy(lambda v: "no"))
    result = copied.tune(*vectors())
    assert result.variant == {"BLOCK": 32}
    assert len(result.failed) == 3


def test_the_order_in_which_variants_are_tried() -> None:
    seconds = [Prediction(float(s)) for s in (9, 8, 7, 6, 5, 4, 3, 2)]
    assert order_of(seconds) == [7, 6, 5, 0, 4, 3, 2, 1]
    assert order_of([None, Prediction(math.inf), Prediction(2.0), Prediction(1.0)]) == [3, 2, 0]
    many = order_of([Prediction(float(n % 1000)) for n in range(4000)])
    assert len(many) == len(set(many)) == MOST_AT_ONCE
    assert sum(n % 1000 < 50 for n in many) >= 0.7 * MOST_AT_ONCE


# -- where nothing can be measured


def test_variants_for_a_target_that_is_not_here_are_ranked_by_its_model() -> None:
    register_predictor("nvidia", Toy(lambda v: "too large" if v["BLOCK"] == 128 else None,
                                     lambda v: v["BLOCK"] * 1e-6))
    x, y = vectors()
    result = copied.tune(x, y, target="sm_80")
    assert result.modelled
    assert result.variant == {"BLOCK": 16}
    assert [m.variant["BLOCK"] for m in result.measured] == [16, 32, 64, 128]
    assert [m.median for m in result.measured] == [None] * 4
    assert result.measured[0].predicted == 16e-6
    assert (y == 0).all()
    text = str(result)
    assert text.startswith("copied on sm_80 for N=1024: BLOCK=16, 2.00 times as fast as the untuned one by the model\n")
    assert "samples" not in text
    assert chosen("sm_80") == 16
    assert chosen() == 32
    forget()
    assert chosen("sm_80") == 16
    rows = store.default_store().rows(identity_of(copied.function, result.key, get_target("sm_80"), True))
    assert {r.status for r in rows} == {MODELLED, FAILED}


def test_what_was_measured_is_not_replaced_by_what_a_model_says() -> None:
    register_predictor("nvidia", Toy(after=lambda v: v["BLOCK"] * 1e-6))
    x, y = vectors()
    result = copied.tune(x, y, target="sm_80")
    identity = identity_of(copied.function, result.key, get_target("sm_80"), True)
    results = store.default_store()
    assert results.choice(identity) == {"BLOCK": 16}
    results.put(identity, [Row({"BLOCK": 64}, 1e-6, 0.0, 3, time=1.0)], {"BLOCK": 64})
    assert results.choice(identity) == {"BLOCK": 64}
    assert copied.tune(x, y, target="sm_80").variant == {"BLOCK": 16}
    assert results.choice(identity) == {"BLOCK": 64}
    assert {r.variant["BLOCK"]: r.status for r in results.rows(identity)} == {
        16: MODELLED, 32: MODELLED, 64: OK, 128: MODELLED}
    assert chosen("sm_80") == 64


def test_variants_that_the_model_knows_nothing_of_have_failed() -> None:
    register_predictor("nvidia", Toy(after=lambda v: None if v["BLOCK"] == 64 else "no" if v["BLOCK"] == 16 else 1e-6))
    result = copied.tune(*vectors(), target="sm_80")
    assert {m.variant["BLOCK"]: m.reason for m in result.failed} == {
        64: "the model knows nothing of it", 16: "cannot be launched, says the model: no"}
    register_predictor("nvidia", Toy(after=lambda v: 1e-6 / (v["BLOCK"] - 16)))
    result = copied.tune(*vectors(), target="sm_80")
    assert [(m.variant["BLOCK"], m.reason) for m in result.failed] == [
        (16, "the model has failed: ZeroDivisionError: float division by zero")]
    register_predictor("nvidia", Toy())
    with pytest.raises(tl.UserError, match=r"E1112(?s:.*)the model knows nothing of it"):
        copied.tune(*vectors(), target="sm_80")


def test_targets_that_the_model_does_not_know() -> None:
    register_predictor("nvidia", Toy(after=lambda v: 1e-6))
    with pytest.raises(tl.UserError, match=r"E1109.*nothing here to measure sm_75 on, and no model of it"):
        copied.tune(*vectors(), target="sm_75")


@pytest.mark.parametrize(("target", "message"), [
    ("sm_80", "E1109.*nothing here to measure sm_80 on, and no model of it"),
    pytest.param("this-gpu", "E1109.*there is no GPU here to measure on", marks=NO_GPU),
])
def test_machines_that_are_not_here(target: str, message: str) -> None:
    with pytest.raises(tl.UserError, match=message):
        copied.tune(*vectors(), target=target)


def test_guesses_go_to_neighbours_of_the_best_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the time is for a few predictions only, they are not all by chance."""
    monkeypatch.setattr(ranking, "GUESSED_FIRST", 1)
    asked: list[int] = []

    def prediction(variant: Any) -> float:
        asked.append(variant["BLOCK"])
        return float(largest(variant))

    register_predictor("cpu", Toy(prediction))
    found = guess(copied, tl.runtime.engines.get_engine("cpu"), (), {}, copied.space, {"BLOCK": 16})
    assert found["BLOCK"] == max(asked)
    assert len(asked) == len(set(asked)) == len(copied.space)  # nobody is asked about twice


def test_guesses_warn_of_nothing(recwarn: pytest.WarningsRecorder) -> None:
    """Although a parameter has many values."""
    x, y = np.ones(100, np.float32), np.zeros(100, np.float32)
    space = tl.autotune(BLOCK=[1, 2, 4, 8, 16, 32, 64, 128, 256, 512])(copied.kernel)

    class Preparing(Toy):
        def before_compiling(self, function: Any, engine: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any],
                             variants: Sequence[Mapping[str, Any]]) -> Iterator[Prediction | None]:
            for variant in variants:
                function.kernel.prepared(engine.name, args, {**kwargs, **variant})
                yield self.prediction(1.0)

    register_predictor("cpu", Preparing())
    guess(space, tl.runtime.engines.get_engine("cpu"), (x, y), {}, space.space, {"BLOCK": 32})
    assert not recwarn.list
