"""What the tuner and the model choose, against measuring every variant: on a GPU. On the simulator a few variants run
once, and the tuner asks the model."""

from __future__ import annotations

import functools
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import tilus as tl
from benchmarks.device_lab import GpuLab, Lab, Results
from benchmarks.device_zoo import message
from kernels_zoo.attention import flash_attention
from kernels_zoo.gemm import matmul as products
from kernels_zoo.normalization import softmax as softmaxes
from tilus.ir.dtypes import DType
from tilus.runtime.cache import default_cache
from tilus.runtime.engines import get_engine
from tilus.tuning.arguments import random_array
from tilus.tuning.compiling import Compiler
from tilus.tuning.devices import DeviceLost
from tilus.tuning.measure import OutOfTime, Race
from tilus.tuning.ranking import many_specialisations, predict, predictor_of
from tilus.tuning.store import default_store

matmul = tl.autotune(
    BM=[64, 128, 256], BN=[64, 128, 256], BK=[32, 64], stages=[2, 3, 4], warps=[4, 8],
    where="BM * BN // warps <= 4096; BM * BN // warps >= 1024; 2 * stages * BK * (BM + BN) <= shared_per_block_optin",
)(products.matmul)
softmax = tl.autotune(BM=[1, 2, 4, 8, 16, 32, 64, 128], BN=[64, 128, 256, 512, 1024, 2048, 4096, 8192],
                      where="BM * BN <= 32768")(softmaxes.softmax)
attention = tl.autotune(
    BM=[64, 128, 256], BN=[32, 64, 128], stages=[1, 2, 3], warps=[4, 8],
    where="2 * D * (BM + 2 * stages * BN) <= shared_per_block_optin",
)(flash_attention.flash_attention_forward)

COMPILING, RACING, TUNING = 0.2, 0.35, 0.27
"""The shares of a case's time that the compilations and the measurements of all variants may take; and of what they
have taken, the share that a search gets."""
TURNS, FINAL_TURNS = 6, 12
SMALL_SPACE = 2
"""So many variants are tried in small sizes."""


@dataclass(frozen=True)
class Case:
    """A call that is to be tuned."""

    name: str
    kernel: Any
    arrays: dict[str, tuple[DType, tuple[int, ...]]]
    constants: dict[str, Any]


def cases(small: bool) -> list[Case]:
    n, rows, columns, q = (64, 8, 256, (1, 64, 1, 64)) if small else (4096, 8192, 8192, (4, 4096, 16, 64))
    attended = {**dict.fromkeys("qkvo", (tl.f16, q)), "lse": (tl.f32, (q[0], q[2], q[1]))}
    return [Case("matmul", matmul, dict.fromkeys("abc", (tl.f16, (n, n))), {}),
            Case("softmax", softmax, dict.fromkeys("xy", (tl.f32, (rows, columns))), {"fits": False}),
            Case("attention", attention, attended, {"D": 64, "causal": False})]


def search(lab: Lab, found: Results) -> None:
    """All cases, each with an equal share of the time that is left."""
    warnings.simplefilter("ignore")
    todo = cases(lab.small)
    for place, case in enumerate(todo):
        if case.name in found:
            continue
        row: dict[str, Any] = {}
        found[case.name] = row
        try:
            with many_specialisations():
                Contest(lab, case, row, found, lab.left / (len(todo) - place)).hold()
        except DeviceLost as error:
            row["error"] = str(error)
            raise
        except Exception as error:
            row["error"] = message(error)
        found.save()


class Contest:
    """One case."""

    def __init__(self, lab: Lab, case: Case, row: dict[str, Any], found: Results, seconds: float) -> None:
        self.lab, self.case, self.row, self.found, self.seconds = lab, case, row, found, seconds
        self.args = {name: lab.upload(random_array(*array, name)) for name, array in case.arrays.items()}
        self.kernel = case.kernel.kernel
        space = case.kernel.space_for(lab.target, {**case.constants}, {})
        self.variants = list(space)[:SMALL_SPACE] if lab.small else list(space)

    def hold(self) -> None:
        _from_scratch(self.case.kernel)
        started = time.perf_counter()
        working = self._compile()
        self.row.update(variants=len(self.variants), compiled=len(working))
        device = self.lab.device if isinstance(self.lab, GpuLab) else None
        if device is None:
            for number in working:
                self._run(number)
            self._ask_model(working)
            self._ask_before_compiling(working)
            result = self.case.kernel.tune(**self.args, **self.case.constants, target=self.lab.target.name, budget=5)
            self.row.update(tuned=dict(result.variant), tuned_by="the model")
            return
        every = Race(None, started + (COMPILING + RACING) * self.seconds, device)
        entered = self._race(every, working, TURNS)
        exhaustive = time.perf_counter() - started
        best = min(entered, key=every.scores(entered).__getitem__)
        self.row.update(exhaustive_seconds=exhaustive, measured=len(entered), best=self.variants[best],
                        rows=[{"variant": self.variants[n], "seconds": every.median(n), "spread": every.spread(n)}
                              for n in entered])
        self.found.save()
        said, before = self._ask_model(entered), self._ask_before_compiling(entered)
        searched, chosen = self._tune(TUNING * exhaustive)
        guess = min(said, key=said.__getitem__, default=best)
        names = {"best": best, "tuned": self._number(chosen["variant"]),
                 "untuned": self._number(chosen["untuned"]), "model": guess,
                 "before_compiling": min(before, key=before.__getitem__, default=best)}
        final = Race(None, time.perf_counter() + 0.1 * self.seconds, device)
        alike = self._race(final, list(dict.fromkeys(names.values())), FINAL_TURNS)
        scores = final.scores(alike)
        least = min(scores.values())
        self.row.update(search_seconds=searched, against_best={n: scores[i] / least for n, i in names.items()
                                                               if i in scores}, **chosen,
                        model=self.variants[guess],
                        order=spearman([every.median(n) for n in said], list(said.values())),
                        order_before_compiling=spearman([every.median(n) for n in before], list(before.values())))

    def _number(self, variant: dict[str, Any]) -> int:
        """Of a variant, which may not be among the few that are tried in small sizes."""
        if variant not in self.variants:
            self.variants.append(variant)
        return self.variants.index(variant)

    def _run(self, number: int) -> None:
        self.kernel.on(self.lab.name)(**self.args, **self.case.constants, **self.variants[number])

    def _compile(self) -> list[int]:
        """The variants that can be compiled in time."""
        calls = [functools.partial(self.kernel.prepared, self.lab.name, (),
                                   {**self.args, **self.case.constants, **v}) for v in self.variants]
        working, failed = [], {}
        for number, outcome in Compiler(self.lab.target).compile(calls, COMPILING * self.seconds):
            if outcome.reason:
                failed[str(self.variants[number])] = outcome.reason
            else:
                working.append(number)
        self.row["failed"] = failed
        return sorted(working)

    def _race(self, race: Race, numbers: Sequence[int], turns: int) -> list[int]:
        """Samples of variants in turns, as far as the time suffices; those that have run."""
        entered = []
        for number in numbers:
            if time.perf_counter() > race.deadline:
                break
            run = functools.partial(self._run, number)
            try:
                race.device.first(run)
                race.enter(number, run, None)
                entered.append(number)
            except DeviceLost:
                self.row["lost"] = self.variants[number]
                raise
            except Exception as error:
                self.row.setdefault("failed", {})[str(self.variants[number])] = message(error)
        try:
            race.turns(entered, turns)
        except OutOfTime:
            self.row["cut_short"] = True
        return entered

    def _ask_model(self, numbers: Sequence[int]) -> dict[int, float]:
        """Seconds by the model of variants that have been compiled."""
        predictor, started = predictor_of(self.lab.target), time.perf_counter()
        calls = [functools.partial(self.kernel.prepared, self.lab.name, (),
                                   {**self.args, **self.case.constants, **self.variants[n]}) for n in numbers]
        said = {}
        for place, outcome in Compiler(self.lab.target, None, predictor).compile(calls, COMPILING * self.seconds):
            if outcome.prediction is not None:
                said[numbers[place]] = outcome.prediction.seconds
        self.row.update(model_seconds=time.perf_counter() - started,
                        predicted={str(self.variants[n]): s for n, s in said.items()})
        return said

    def _ask_before_compiling(self, numbers: Sequence[int]) -> dict[int, float]:
        """Seconds by the model of variants whose code it does not know: what calls go by that nobody has tuned."""
        started = time.perf_counter()
        found = predict(self.case.kernel, get_engine(self.lab.name), (), {**self.args, **self.case.constants},
                        [self.variants[n] for n in numbers], COMPILING * self.seconds)
        said = {numbers[place]: prediction.seconds for place, prediction in found.items() if prediction.possible}
        self.row.update(before_compiling_seconds=time.perf_counter() - started,
                        predicted_before_compiling={str(self.variants[n]): s for n, s in said.items()})
        return said

    def _tune(self, budget: float) -> tuple[float, dict[str, Any]]:
        """The seconds of a search with a budget, and what it chooses."""
        _from_scratch(self.case.kernel)
        started = time.perf_counter()
        result = self.case.kernel.tune(**self.args, **self.case.constants, budget=budget)
        searched = time.perf_counter() - started
        return searched, {"variant": dict(result.variant), "untuned": dict(result.untuned),
                          "tried": len(result.measured), "ended": result.ended}


def _from_scratch(kernel: Any) -> None:
    """As if nothing had been compiled or tuned."""
    os.environ["TILUS_CACHE_DIR"] = tempfile.mkdtemp(prefix="tilus-device-")
    default_cache.cache_clear()
    default_store.cache_clear()
    kernel.forget()
    kernel.results.clear()
    kernel._choices.clear()
    kernel._absent.clear()


def spearman(first: Sequence[float], second: Sequence[float]) -> float | None:
    """The correlation of the ranks of two lists; None where there is none."""
    if len(first) < 2 or len(set(first)) < 2 or len(set(second)) < 2:
        return None
    ranks = [[sorted(values).index(v) for v in values] for values in (first, second)]
    return statistics.correlation(*ranks)


