"""Which variants of a large space to try next: proposals of a tree-structured Parzen estimator (Bergstra et al.,
"Algorithms for Hyper-Parameter Optimization", NeurIPS 2011), by Optuna.

Parameters are the places of their values, ordered where the values are numbers. Proposals that the constraints exclude
become the nearest variant of a sample of the space.
"""

from __future__ import annotations

import importlib.util
import math
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tilus.diagnostics import Span, UserError
from tilus.lang.constants import constant_key
from tilus.tuning.space import GridSpace, Space, Variant, variant_key

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

POOL = 4096
"""Among so many variants the nearest one is looked for."""
WORST = 2.0
"""What does not work counts as so many times as slow as the slowest variant."""


def is_installed() -> bool:
    return importlib.util.find_spec("optuna") is not None


def proposals_for(space: Space, strategy: str, span: Span | None) -> Proposals | None:
    """Proposals where a search goes by them: ``"guided"``, not ``"halving"``.

    Raises:
        UserError: E1110, there is no such strategy, Optuna is not installed, or the space is a list.
    """
    if strategy not in ("guided", "halving"):
        raise UserError.at("E1110", f"there is no strategy {strategy!r}", span, help="write 'halving' or 'guided'")
    if strategy == "halving":
        return None
    if not isinstance(space, GridSpace):
        raise UserError.at("E1110", "the strategy 'guided' goes by values of parameters, and the space is a list of "
                                    "configurations", span, help="leave `strategy` out")
    if not is_installed():
        raise UserError.at("E1110", "the strategy 'guided' needs Optuna, which is not installed", span,
                           help="pip install 'tilus[search]'")
    return Proposals(space)


class Proposals:
    """Proposals for a space, by the times of variants so far."""

    def __init__(self, space: GridSpace, seed: int = 0) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.space = space
        self._places = {name: {constant_key(value): place for place, value in enumerate(values)}
                        for name, values in space.parameters.items()}
        self._distributions = {name: _distribution(values) for name, values in space.parameters.items()}
        self._pool = space.sample(min(POOL, len(space)), seed)
        self._rows = np.array([self._row(variant) for variant in self._pool])
        self._slowest = 0.0
        with warnings.catch_warnings():  # of what is experimental
            warnings.simplefilter("ignore")
            sampler = optuna.samplers.TPESampler(seed=seed, multivariate=True, constant_liar=True, n_startup_trials=1)
        self._study = optuna.create_study(sampler=sampler)

    def tell(self, variant: Variant, seconds: float | None) -> None:
        """Take the time of a variant, None for one that does not work."""
        import optuna

        if seconds is not None:
            self._slowest = max(self._slowest, seconds)
        # Of the logarithm, so that what is far from good does not count more than what is nearly so.
        value = math.log(max(WORST * self._slowest if seconds is None else seconds, 1e-9))
        params = dict(zip(self._places, self._row(variant), strict=True))
        self._study.add_trial(optuna.trial.create_trial(params=params, distributions=self._distributions, value=value))

    def propose(self, count: int, known: set[Any]) -> list[Variant]:
        """Variants to try, as many or fewer, none of which is known by its ``variant_key``."""
        import optuna

        trials = [self._study.ask(self._distributions) for _ in range(count)]
        found: dict[Any, Variant] = {}
        for trial in trials:
            variant = self._feasible(trial.params, known | set(found))
            if variant is not None:
                found[variant_key(variant)] = variant
            self._study.tell(trial, state=optuna.trial.TrialState.FAIL)
        return list(found.values())

    def _row(self, variant: Mapping[str, Any]) -> list[int]:
        return [places[constant_key(variant[name])] for name, places in self._places.items()]

    def _feasible(self, places: Mapping[str, int], known: set[Any]) -> Variant | None:
        """The variant at some places, or the nearest one of the pool that is new."""
        variant = {name: values[places[name]] for name, values in self.space.parameters.items()}
        if variant in self.space and variant_key(variant) not in known:
            return variant
        distances = np.abs(self._rows - [places[name] for name in self._places]).sum(axis=1)
        nearest = (self._pool[n] for n in np.argsort(distances, kind="stable"))
        return next((v for v in nearest if variant_key(v) not in known), None)


def _distribution(values: Sequence[Any]) -> BaseDistribution:
    from optuna.distributions import CategoricalDistribution, IntDistribution

    if all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values):
        return IntDistribution(0, len(values) - 1)
    return CategoricalDistribution(range(len(values)))


__all__ = ["Proposals", "proposals_for"]
