"""What models say of variants: for the order of a search, and for calls that nobody has tuned.

A back end's predictor is looked up by the back end's name, and imported when it is asked for.
"""

from __future__ import annotations

import importlib
import math
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from tilus.backends import backend_of
from tilus.diagnostics import Diagnostic, Severity, TilusWarning, warn
from tilus.model.prediction import CompiledCall, Prediction
from tilus.runtime.engines import Engine, get_engine
from tilus.targets import Target
from tilus.tuning.space import Space, Variant

GUESSING = 0.3
"""Seconds that the first call of a key may spend on predictions."""
GUESSED_FIRST = 6
"""How many variants are drawn before neighbours of the best one are asked about."""
MOST_GUESSED = 256
"""Of so many variants the best one is guessed; larger spaces are sampled."""

MOST_PREDICTED, PREDICTING = 4096, 0.25
"""A search asks about so many variants at once, and spends at most this share of its time on that."""
MOST_AT_ONCE = 256
"""How many variants are compiled and measured at once; larger spaces are sampled."""
BY_CHANCE = 4
"""One in so many variants is taken by chance, so that a wrong model does not hide the best one."""


class Predictor(Protocol):
    """A model of a back end's targets."""

    def supports(self, target: Target) -> bool:
        """Whether it knows anything of a target."""

    def before_compiling(self, function: Any, engine: Engine, args: tuple[Any, ...], kwargs: Mapping[str, Any],
                         variants: Sequence[Variant]) -> Iterable[Prediction | None]:
        """What is known of variants of a call that are not compiled, in their order; None where nothing is, also for
        those that the compiler refuses. It is read as far as the time suffices, so that a generator saves work.

        Args:
            function: the autotuned function; ``function.kernel.prepared(engine.name, args, {**kwargs, **variant})``
                gives what a call runs.
            engine: what the call is bound for; ``engine.target`` is the machine.
            args, kwargs: the call, without the parameters that are chosen.
        """

    def compiled(self, call: CompiledCall) -> Prediction | None:
        """What is known of a compiled variant of a call; None where nothing is. Where variants are compiled by other
        processes it is called there, so that predictors have to be picklable."""


_OWN: dict[str, str] = {"cpu": "tilus.model.cpu.predictor", "nvidia": "tilus.model.gpu"}
"""The modules of our own, each with a ``PREDICTOR``, by the name of the back end."""
_known: dict[str, Predictor] = {}


def register_predictor(backend: str, predictor: Predictor | None) -> None:
    """Take a predictor for a back end from now on; None takes it out again."""
    if predictor is None:
        _known.pop(backend, None)
    else:
        _known[backend] = predictor


def predictor_of(target: Target) -> Predictor | None:
    """The model of a target; None where there is none."""
    name = target.backend
    if name not in _known and name in _OWN:
        _known[name] = importlib.import_module(_OWN[name]).PREDICTOR
    found = _known.get(name)
    return found if found is not None and found.supports(target) else None


def modelled_engine(target: Target) -> Engine | None:
    """The engine for which calls with host arrays are bound where only a model can tell their time; None where the back
    end has none."""
    name = backend_of(target).binding
    return None if name is None else get_engine(name(target))


def predict(function: Any, engine: Engine, args: tuple[Any, ...], kwargs: Mapping[str, Any],
            variants: Sequence[Variant], seconds: float) -> dict[int, Prediction]:
    """What the model of the engine's target says of variants before they are compiled, by their numbers: of the first
    ones, as far as the time suffices."""
    predictor, found = predictor_of(engine.target), {}
    if predictor is None or not variants:
        return {}
    try:
        predictions = predictor.before_compiling(function, engine, args, kwargs, variants)
        deadline = time.perf_counter() + seconds  # what a predictor does once for all is not counted
        with many_specialisations():
            for number, prediction in enumerate(predictions):
                if prediction is not None:
                    found[number] = prediction
                if time.perf_counter() > deadline:
                    break
    except Exception as error:
        warn_of(engine.target, error)
    return found


@contextmanager
def many_specialisations() -> Iterator[None]:
    """Nobody is warned that a parameter has had many values."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"(?s).*W0605", TilusWarning)
        yield


def warn_of(target: Target, error: Exception) -> None:
    """A model that fails is no reason that calls and searches do."""
    warn(Diagnostic("W1114", f"the model of {target.name} has failed ({type(error).__name__}: {error}); variants are "
                             "taken without it", severity=Severity.WARNING))


def guess(function: Any, engine: Engine, args: tuple[Any, ...], kwargs: Mapping[str, Any], space: Space,
          usual: Variant) -> Variant:
    """The variant that the model takes for the fastest one; the usual one where it knows of none. Models take long for
    large kernels, so that not all variants are asked about: some by chance, then the neighbours of the best one until
    none is better, then others, as long as there is time."""
    drawn = space.sample(min(MOST_GUESSED, len(space)))
    asked: list[Variant] = []
    seconds: dict[int, float] = {}

    def ask(variants: Iterable[Variant], left: float) -> None:
        if left < 0:
            return
        new = [variant for variant in variants if variant not in asked]
        found = predict(function, engine, args, kwargs, new, left)
        seconds.update({len(asked) + n: p.seconds for n, p in found.items() if p.possible})
        asked.extend(new[: 1 + max(found, default=len(new))])

    def best() -> int | None:
        return min(seconds, key=seconds.__getitem__, default=None)

    ask([usual], GUESSING)
    deadline = time.perf_counter() + GUESSING
    ask(drawn[:GUESSED_FIRST], deadline - time.perf_counter())
    chosen, known = best(), None
    while chosen is not None and chosen != known:
        known = chosen
        ask(space.neighbours(asked[known]), deadline - time.perf_counter())
        chosen = best()
    ask(drawn, deadline - time.perf_counter())
    chosen = best()
    return usual if chosen is None else asked[chosen]


def order_of(predictions: Sequence[Prediction | None]) -> list[int]:
    """In which order variants, which are in random order, are tried, by their numbers: the fastest ones first, and
    every so-manieth one by chance. Without those that cannot be launched, and not more than are tried at once."""
    possible = [n for n, prediction in enumerate(predictions) if prediction is None or prediction.possible]
    seconds = {n: math.inf if (p := predictions[n]) is None else p.seconds for n in possible}
    ranked, by_chance = iter(sorted(possible, key=seconds.__getitem__)), iter(possible)
    found: dict[int, None] = {}
    while len(found) < min(len(possible), MOST_AT_ONCE):
        source = by_chance if len(found) % BY_CHANCE == BY_CHANCE - 1 else ranked
        found[next(n for n in source if n not in found)] = None
    return list(found)


def refusal(prediction: Prediction) -> str:
    """Why a variant is not tried."""
    return f"cannot be launched, says the model: {prediction.bottleneck}"


__all__ = [
    "MOST_AT_ONCE", "MOST_PREDICTED", "PREDICTING", "Predictor", "guess", "many_specialisations", "modelled_engine",
    "order_of", "predict", "predictor_of", "refusal", "register_predictor", "warn_of",
]
