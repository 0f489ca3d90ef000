"""A search from the call to the stored result, and results that are found again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from tilus.diagnostics import Span, UserError
from tilus.runtime.arrays import CUDA, HOST
from tilus.runtime.engines import Engine, default_engine, get_engine
from tilus.targets import Target, get_target
from tilus.tuning.config import shown
from tilus.tuning.identity import encoded, identity_of
from tilus.tuning.keys import TuningKey, key_of
from tilus.tuning.result import Measured, TuningResult
from tilus.tuning.space import Variant
from tilus.tuning.store import FAILED, OK, Row, default_store

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from tilus.tuning.autotune import AutotunedFunction

BUDGET = 60.0
"""Seconds of a search where nobody says."""


def tune(function: AutotunedFunction, args: tuple[Any, ...], kwargs: dict[str, Any], *, budget: float,
         executor: Executor | None, engine: Engine, reset: str | Iterable[str], tolerance: float | None,
         span: Span | None) -> TuningResult:
    """Search the best variant for a call, and store what is found. See :meth:`AutotunedFunction.tune`."""
    import time

    from tilus.tuning.search import Search, check_host

    if isinstance(budget, bool) or not isinstance(budget, (int, float)) or not budget > 0:
        raise UserError.at("E1110", f"budget is {budget!r}, not a number of seconds", span, help="write budget=60")
    if executor is not None and not hasattr(executor, "submit"):
        raise UserError.at("E1110", f"executor is {executor!r}, which has no `submit`", span,
                           help="pass an executor of concurrent.futures, or leave it out")
    if not engine.timed:
        raise UserError.at("E1109", f"the time of the engine {engine.name!r} does not tell how fast a kernel is", span,
                           help="tune on 'cpu'")
    arguments = dict(zip(function.signature.names, args, strict=False)) | kwargs
    arguments.pop("out", None) if "out" not in function.signature.names else None
    arrays = function.facts.arrays(arguments)
    target = engine.target
    key = key_of(function._name, target, function.facts, function.key, arguments, arrays, function.space.names)
    fixed = {name: value for name, value in arguments.items() if name in function.space.names}
    space = function.space_for(target, function.facts.numbers(arguments, arrays), fixed)
    untuned = function.default(space)
    open_ = {name: value for name, value in untuned.items() if name not in arguments}
    check_host(function.kernel.prepared(engine.name, args, {**kwargs, **open_}), function.__name__, span)
    started = time.perf_counter()
    search = Search(function, engine, args, kwargs, space, untuned, seconds=float(budget), executor=executor,
                    reset=(reset,) if isinstance(reset, str) else reset, tolerance=tolerance, span=span)
    search.run()
    measured, best = search.results(), search.best()
    if best is None:
        raise _nothing_works(function, measured, span)
    variant = search.variants[best]
    stored = _store(function, key, target, measured, variant, fixed)
    function.adopt(key, variant)
    return TuningResult(function.__name__, key, variant, untuned, measured, search.left,
                        time.perf_counter() - started, search.ended, stored)


def engine_for(target: str | None, chosen: str | None, span: Span | None) -> Engine:
    """The engine to measure on: of a name, else that of a target's name which runs here; else the one that is chosen,
    or the host's.

    Raises:
        UserError: E1109, nothing here runs code for the target; E0501, there is no such target.
    """
    if target is None:
        return get_engine(chosen or default_engine(HOST))
    if target in ("cpu", "interpret", "python", "cuda") or ":" in target:
        return get_engine(target)
    raise UserError.at("E1109", f"there is nothing here to measure {get_target(target, span)} on", span,
                       help="tune on 'cpu'")


def tune_if_asked(function: AutotunedFunction, engine_name: str, args: tuple[Any, ...], kwargs: dict[str, Any],
                  kinds: set[str], key: TuningKey, span: Span | None) -> None:
    """Search for a call that has no result, where its engine can be measured."""
    engine = get_engine(engine_name)
    if engine.timed and CUDA not in kinds and function.lookup(key) is None:
        tune(function, args, kwargs, budget=BUDGET, executor=None,
             engine=engine, reset=(), tolerance=None, span=span)


def _store(function: AutotunedFunction, key: TuningKey, target: Target, measured: list[Measured], variant: Variant,
           fixed: Mapping[str, Any]) -> bool:
    """Store results; parameters that the call fixes are in the key."""
    def open_values(found: Mapping[str, Any]) -> dict[str, Any]:
        return {name: encoded(value) for name, value in found.items() if name not in fixed}

    rows = [Row(open_values(m.variant), m.median, m.spread, m.count, m.predicted, status=FAILED if m.reason else OK,
                reason=m.reason) for m in measured]
    return default_store().put(identity_of(function.function, key, target), rows, open_values(variant))


def _nothing_works(function: AutotunedFunction, measured: list[Measured], span: Span | None) -> UserError:
    notes = [f"{shown(m.variant)}: {m.reason}" for m in measured[:12]]
    more = [f"… and {len(measured) - 12} more"] if len(measured) > 12 else []
    return UserError.at("E1112", f"no variant of {function.__name__!r} works for these arguments", span,
                        notes=[*notes, *more])


__all__ = ["BUDGET", "engine_for", "tune", "tune_if_asked"]
