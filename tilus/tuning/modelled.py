"""The search where nothing can be measured: variants are compiled for a target, and ranked by its model."""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping
from concurrent.futures import Executor
from typing import TYPE_CHECKING, Any

from tilus.model.prediction import Prediction
from tilus.runtime.engines import Engine
from tilus.runtime.fuse import FusedFunction
from tilus.runtime.jit import Prepared
from tilus.tuning.compiling import Compiler
from tilus.tuning.config import shown
from tilus.tuning.progress import Progress
from tilus.tuning.ranking import (
    MOST_PREDICTED,
    PREDICTING,
    Predictor,
    many_specialisations,
    order_of,
    predict,
    refusal,
)
from tilus.tuning.result import Measured, measured_of
from tilus.tuning.search import UNLIMITED
from tilus.tuning.space import Space, Variant

if TYPE_CHECKING:
    from tilus.tuning.autotune import AutotunedFunction

NO_PREDICTION = "the model knows nothing of it"


class ModelledSearch:
    """One search. ``engine`` is what the call is bound for, ``predictor`` the model of its target; the others are as of
    :class:`~tilus.tuning.search.Search`."""

    def __init__(self, function: AutotunedFunction, engine: Engine, predictor: Predictor, args: tuple[Any, ...],
                 kwargs: Mapping[str, Any], space: Space, untuned: Variant, *, seconds: float,
                 executor: Executor | None) -> None:
        self.function, self.engine, self.args, self.kwargs = function, engine, args, dict(kwargs)
        self.space, self.untuned = space, untuned
        self.deadline, self.seconds = time.perf_counter() + seconds, seconds
        if isinstance(function.kernel, FusedFunction) and "out" not in self.kwargs:
            self.kwargs["out"] = function.kernel.allocate(engine.name, args, {**kwargs, **untuned})
        self.compiler = Compiler(engine.target, executor, predictor)
        self.found: list[tuple[Variant, Prediction]] = []
        self.failed: list[Measured] = []
        self.ended = ""

    @property
    def left(self) -> int:
        """How many variants have not been tried."""
        return max(0, len(self.space) - len(self.found) - len(self.failed))

    def results(self) -> list[Measured]:
        """All variants that were tried, the best first."""
        ranked = sorted(self.found, key=lambda item: item[1].seconds)
        return [*(measured_of(variant, prediction) for variant, prediction in ranked), *self.failed]

    def best(self) -> Variant | None:
        """The variant that the model prefers."""
        return min(self.found, key=lambda item: item[1].seconds, default=(None,))[0]

    def _progress(self) -> Progress:
        return Progress(f"{self.function.__name__} by the model", lambda: self.deadline - time.perf_counter())

    def gain(self) -> float | None:
        """Nothing was measured."""
        return None

    def run(self) -> None:
        """Compile variants, the untuned one first, until the budget is used up or the user interrupts."""
        with self._progress() as progress, many_specialisations():
            try:
                self._try([self.untuned], UNLIMITED, progress)
                self._try(self._ordered(), self.deadline - time.perf_counter(), progress)
                if self.left:
                    self.ended = "the budget was used up"
            except KeyboardInterrupt:
                if not self.found:
                    raise
                self.ended = "interrupted"

    def _try(self, variants: list[Variant], seconds: float, progress: Progress) -> None:
        progress.stage("compiling", len(variants))
        calls = [functools.partial(self._prepare, variant) for variant in variants]
        for number, outcome in self.compiler.compile(calls, seconds):
            variant, prediction = variants[number], outcome.prediction
            if outcome.reason or prediction is None:
                trouble = f"the model has failed: {outcome.trouble}" if outcome.trouble else NO_PREDICTION
                self.failed.append(Measured(variant, None, reason=outcome.reason or trouble))
            elif not prediction.possible:
                self.failed.append(Measured(variant, None, reason=refusal(prediction)))
            else:
                self.found.append((variant, prediction))
                best, by_model = min(self.found, key=lambda item: item[1].seconds)
                progress.best(shown(best), by_model.seconds)
            progress.step()

    def _prepare(self, variant: Variant) -> Prepared:
        """The call with a variant. Raises UserError."""
        return self.function.kernel.prepared(self.engine.name, self.args, {**self.kwargs, **variant})

    def _ordered(self) -> list[Variant]:
        """The other variants, as far as they may be launched, in the order of what the model says before it has seen
        their code."""
        drawn = [v for v in self.space.sample(min(MOST_PREDICTED, len(self.space))) if v != self.untuned]
        found = predict(self.function, self.engine, self.args, self.kwargs, drawn, PREDICTING * self.seconds)
        self.failed += [Measured(drawn[n], None, reason=refusal(p)) for n, p in found.items() if not p.possible]
        return [drawn[n] for n in order_of([found.get(number) for number in range(len(drawn))])]


__all__ = ["ModelledSearch"]
