"""A search from the call to the stored result, and results that are found again."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from tilus.diagnostics import Span, UserError
from tilus.runtime.arrays import CUDA, HOST, ArrayArgument
from tilus.runtime.engines import Engine, default_engine, get_engine
from tilus.targets import get_target
from tilus.tuning.config import shown
from tilus.tuning.identity import identity_of
from tilus.tuning.journal import Journal
from tilus.tuning.keys import TuningKey, key_of
from tilus.tuning.ranking import Predictor, modelled_engine, predictor_of
from tilus.tuning.result import Measured, TuningResult
from tilus.tuning.store import MODELLED, OK, default_store

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from tilus.tuning.autotune import AutotunedFunction
    from tilus.tuning.modelled import ModelledSearch
    from tilus.tuning.search import Search

BUDGET = 60.0
"""Seconds of a search where nobody says."""
THIS_GPU = "this-gpu"
"""The target that is a GPU of this machine."""


def tune(function: AutotunedFunction, args: tuple[Any, ...], kwargs: dict[str, Any], *, budget: float,
         executor: Executor | str | None, engine: Engine, predictor: Predictor | None, reset: str | Iterable[str],
         tolerance: float | None, fresh: bool, strategy: str, span: Span | None) -> TuningResult:
    """Search the best variant for a call, and store what is found: by measuring it on an engine, or by asking a
    predictor. See :meth:`AutotunedFunction.tune`."""
    if isinstance(budget, bool) or not isinstance(budget, (int, float)) or not budget > 0:
        raise UserError.at("E1110", f"budget is {budget!r}, not a number of seconds", span, help="write budget=60")
    if predictor is None:
        _check_engine(engine, span)
    task = _Task(function, engine, args, kwargs, predictor is not None, span)
    from tilus.tuning.executors import opened
    from tilus.tuning.guided import proposals_for
    from tilus.tuning.modelled import ModelledSearch
    from tilus.tuning.search import Search

    search: Search | ModelledSearch
    with opened(executor, span) as compiling:
        if predictor is None:
            search = Search(function, engine, args, kwargs, task.space, task.untuned, task.arrays,
                            seconds=float(budget), executor=compiling,
                            reset=(reset,) if isinstance(reset, str) else reset, tolerance=tolerance, span=span,
                            journal=task.journal,
                            earlier=() if fresh else task.journal.earlier(task.space),
                            proposals=proposals_for(task.space, strategy, span))
        else:
            search = ModelledSearch(function, engine, predictor, args, kwargs, task.space, task.untuned,
                                    seconds=float(budget), executor=compiling)
        search.run()
    return task.finished(search)


def _check_engine(engine: Engine, span: Span | None) -> None:
    """Raise UserError (E1109) where an engine is not measured on."""
    if not engine.timed:
        raise UserError.at("E1109", f"the time of the engine {engine.name!r} does not tell how fast a kernel is", span,
                           help="tune on 'cpu'")
    if not _is_usual(engine):
        raise UserError.at("E1109", f"results are for the usual route to a target, which {engine.name!r} is not", span,
                           help=f"tune on {default_engine(engine.kind)!r}")


def _is_usual(engine: Engine) -> bool:
    """Whether it is the engine of its arrays, which results are for."""
    return bool(get_engine(default_engine(engine.kind)).route == engine.route)


class _Task:
    """What a search is for.

    Attributes:
        key: of the call.
        fixed: the parameters of the space that the call gives.
        space: the variants for the call.
        untuned: the one that it has without a search, by the kernel's defaults.
        modelled: whether a model is asked, since nothing can be measured.
        arrays: those of the call.
        journal: what is stored.

    Raises:
        UserError: E1104, no variant is left; E1109, the arrays are not where variants run; what the kernel says of the
            call.
    """

    def __init__(self, function: AutotunedFunction, engine: Engine, args: tuple[Any, ...], kwargs: dict[str, Any],
                 modelled: bool, span: Span | None) -> None:
        self.function, self.engine, self.span, self.started = function, engine, span, time.perf_counter()
        self.modelled = modelled
        arguments = dict(zip(function.signature.names, args, strict=False)) | kwargs
        arguments.pop("out", None) if "out" not in function.signature.names else None
        arrays = function.facts.arrays(arguments)
        self.key = key_of(function._name, engine.target, function.facts, function.key, arguments, arrays,
                          function.space.names)
        self.fixed = {name: value for name, value in arguments.items() if name in function.space.names}
        self.space = function.space_for(engine.target, function.facts.numbers(arguments, arrays), self.fixed)
        self.untuned = function.default(self.space)
        open_ = {name: value for name, value in self.untuned.items() if name not in arguments}
        self._check_arrays(arrays.values())
        prepared = function.kernel.prepared(engine.name, args, {**kwargs, **open_})
        self.arrays = [array for _, _, array in prepared.call.arrays]
        self.journal = Journal(default_store(), identity_of(function.function, self.key, engine.target, modelled),
                               self.fixed, MODELLED if modelled else OK)

    def _check_arrays(self, arrays: Iterable[ArrayArgument]) -> None:
        """Raise UserError (E1109) where they are not of the kind that variants run on."""
        wrong = next((array for array in arrays if array.kind != self.engine.kind), None)
        if wrong is None:
            return
        where = {HOST: "in host memory", CUDA: "on a GPU"}
        asked = "the model takes arrays" if self.modelled else "variants are measured on arrays"
        raise UserError.at("E1109", f"{self.function.__name__} is given arrays {where[wrong.kind]}, and {asked} "
                                    f"{where[self.engine.kind]}", self.span,
                           help="pass CuPy arrays or torch tensors of a GPU" if self.engine.kind == CUDA else
                                "pass NumPy arrays")

    def finished(self, search: Search | ModelledSearch) -> TuningResult:
        """The result, stored and used from now on. Raises UserError (E1112) where nothing works."""
        measured, variant = search.results(), search.best()
        if variant is None:
            raise self._nothing_works(measured)
        stored = self.journal.finish(measured, variant)
        if self.modelled and stored:
            self.function.look_again(self.key)  # what has been measured stays the choice
        else:
            self.function.adopt(self.key, variant)
        return TuningResult(self.function.__name__, self.key, variant, self.untuned, measured, search.left,
                            time.perf_counter() - self.started, search.ended, stored, self.modelled,
                            search.gain())

    def _nothing_works(self, measured: list[Measured]) -> UserError:
        notes = [f"{shown(m.variant)}: {m.reason}" for m in measured[:12]]
        more = [f"… and {len(measured) - 12} more"] if len(measured) > 12 else []
        return UserError.at("E1112", f"no variant of {self.function.__name__!r} works for these arguments", self.span,
                            notes=[*notes, *more])


def machine_for(target: str | None, chosen: str | None, kind: str,
                span: Span | None) -> tuple[Engine, Predictor | None]:
    """The engine to measure on: of a name, or the one that is chosen, or that of arrays of a kind. For a target that
    nothing here is measured on, the engine that calls are bound for, and the model of the target.

    Raises:
        UserError: E1109, there is no model of the target; E0501, there is no such target.
    """
    if target is None:
        return get_engine(chosen or default_engine(kind)), None
    if target == THIS_GPU:
        check_gpu(span)
        return get_engine(default_engine(CUDA)), None
    if target in ("cpu", "interpret", "python", "cuda") or ":" in target:
        return get_engine(target), None
    found = get_target(target, span)
    engine, predictor = modelled_engine(found), predictor_of(found)
    if engine is None or predictor is None:
        raise UserError.at("E1109", f"there is nothing here to measure {found} on, and no model of it", span,
                           help="tune on 'cpu'")
    return engine, predictor


def check_gpu(span: Span | None) -> None:
    """Raise UserError (E1109) where there is no GPU."""
    try:
        import cupy

        if cupy.cuda.runtime.getDeviceCount():
            return
        reason = "the driver finds none"
    except ImportError:
        reason = "CuPy is not installed"
    except Exception as error:  # of the driver
        reason = str(error)
    raise UserError.at("E1109", f"there is no GPU here to measure on: {reason}", span,
                       help="tune on 'cpu', or name a target for what its model says: 'sm_80'")


def tune_if_asked(function: AutotunedFunction, engine_name: str, args: tuple[Any, ...], kwargs: dict[str, Any],
                  kinds: set[str], key: TuningKey, span: Span | None) -> None:
    """Search for a call that has no result, where its engine can be measured."""
    engine = get_engine(engine_name)
    if engine.timed and _is_usual(engine) and kinds <= {engine.kind} and function.lookup(key) is None:
        tune(function, args, kwargs, budget=BUDGET, executor=None, engine=engine, predictor=None, reset=(),
             tolerance=None, fresh=False, strategy="halving", span=span)


__all__ = ["BUDGET", "THIS_GPU", "check_gpu", "machine_for", "tune", "tune_if_asked"]
