"""The search of the best variant of a call: compile, check, measure in rounds that halve the field.

Variants that cannot be compiled or run, or whose results are not those of the untuned kernel, are dropped with their
reasons; all but the untuned one run for the first time in a child of the process (``trial.py``). On a GPU they run in
this one, and a variant after which nothing works there ends the search. Variants that the model of the target says
cannot be launched are dropped before they are compiled. The others run in turns
(:class:`~tilus.tuning.measure.Race`); after each round the better half stays, and the untuned one always does. Where
not all variants are compiled within half of the time, those that are race; then the neighbours of the best one race
with it, until none is better, and then others, as long as there is time. Variants are taken in the order of a model's
predictions, and every fourth one by chance, so that a wrong model does not hide the best one.
"""

from __future__ import annotations

import contextlib
import functools
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from typing import TYPE_CHECKING, Any

from tilus.diagnostics import Span, UserError
from tilus.model.prediction import Prediction
from tilus.runtime.arrays import CUDA, ArrayArgument
from tilus.runtime.cache import key_of
from tilus.runtime.engines import Engine
from tilus.runtime.filelock import key_lock
from tilus.runtime.fuse import FusedFunction
from tilus.runtime.jit import Prepared
from tilus.tuning.compiling import Compiler, reason_of
from tilus.tuning.config import shown
from tilus.tuning.devices import Device, DeviceLost, Host
from tilus.tuning.journal import Journal
from tilus.tuning.measure import SHORTEST_SAMPLE, OutOfTime, Race, Written, default_tolerance
from tilus.tuning.progress import Progress
from tilus.tuning.ranking import (
    MOST_AT_ONCE,
    MOST_PREDICTED,
    PREDICTING,
    many_specialisations,
    order_of,
    predict,
    predictor_of,
    refusal,
)
from tilus.tuning.result import Measured, measured_of
from tilus.tuning.space import Space, Variant, variant_key
from tilus.tuning.trial import Ended, TooLong, tried

if TYPE_CHECKING:
    from tilus.tuning.autotune import AutotunedFunction
    from tilus.tuning.guided import Proposals

COMPILING = 0.5
"""The share of the time left that compilations may take."""
HOPELESS, SLOW = 2.5, 0.02
"""A variant whose first run takes this many times as long as the best one's, and at least so many seconds, is not
measured further. First runs that take less are repeated."""
WITHIN = 1.5
"""Variants that take more than this many times as long as the best one leave the race at once."""
ROUND, ROUND_SECONDS, MOST_TURNS = 24, 0.3, 12
"""Samples of a round; it has more where they take less than so many seconds together, but at most so many of each."""
FINALISTS = 3
"""How many variants the last round is among, besides the untuned one."""
FIRST, PROPOSED, PROPOSED_TO_MODEL = 32, 16, 64
"""So many variants a search by proposals begins with, and so many are proposed at a time; where there is a model, the
best ones of so many."""
MOST_AGAIN = 8
"""So many of the variants that earlier searches have measured are measured again, where they are near the best one."""
MORE_RUNS = 2
"""A variant whose first run is hopelessly slow runs so often again, since a busy machine may have been the cause."""
ENDLESS, ENDLESS_TIMES = 1.0, 20.0
"""A first run that takes so many seconds, and so many times as long as the best variant, is ended."""
LONGEST_WAIT = 600.0
"""Seconds to wait for other processes that measure; then it goes on beside them."""
UNLIMITED = 1e6
"""Seconds."""


class Search:
    """One search.

    Args:
        args, kwargs: the call; parameters of the space that it gives are kept.
        space: the variants for that call.
        untuned: the variant that the call has without a search, which is one of the space.
        arrays: those of the call.
        seconds: the budget.
        reset: the arrays that are set to zero before each run.
        tolerance: how far floats may differ; None for the default.
        journal: takes what is found while the search goes on.
        earlier: what is known of variants already. The best ones are measured again, the others are not.
        proposals: what leads the search through a large space; None for one that tries all or some by chance.
    """

    def __init__(self, function: AutotunedFunction, engine: Engine, args: tuple[Any, ...], kwargs: Mapping[str, Any],
                 space: Space, untuned: Variant, arrays: Sequence[ArrayArgument], *, seconds: float,
                 executor: Executor | None, reset: Iterable[str], tolerance: float | None, span: Span | None,
                 journal: Journal, earlier: Sequence[Measured], proposals: Proposals | None) -> None:
        self.function, self.engine, self.span, self.journal = function, engine, span, journal
        self.args, self.kwargs, self.given = args, dict(kwargs), set(kwargs)
        self.space, self.untuned = space, untuned
        self.started = time.perf_counter()
        self.deadline, self.seconds = self.started + seconds, seconds
        self.reset, self.tolerance = tuple(reset), tolerance
        self.predictor = predictor_of(engine.target)
        self.compiler = Compiler(engine.target, executor)
        self.variants: list[Variant] = []
        self.predicted: dict[Any, Prediction | None] = {}
        self.failed: dict[int, str] = {}
        self.checked: list[int] = []
        self.ended = ""
        self.reference: int | None = None
        self.winner: int | None = None
        self.device = device_for(engine, arrays)
        self.race = Race(None, self.deadline, self.device)
        self.lost = False
        self.proposals = proposals
        self._told = 0
        self._seed = 0
        self.again, self.earlier = _sorted_out([m for m in earlier if m.variant != untuned])
        self._known: set[Any] = {variant_key(m.variant) for m in (*self.again, *self.earlier)}
        self._new: list[int] = []
        self._prepared: dict[int, Prepared] = {}
        self._written: Written | None = None

    # -- what has been found

    @property
    def left(self) -> int:
        """How many variants have not been tried."""
        return max(0, len(self.space) - len(self.checked) - len(self.failed) - len(self.earlier))

    def results(self) -> list[Measured]:
        """All variants that are known, the best first."""
        best = self.best()
        found = [*map(self._measured, (*self.checked, *self.failed)), *self.earlier]
        return sorted(found, key=lambda m: (bool(m.reason), m.variant != best, m.median or 0.0))

    def _measured(self, number: int) -> Measured:
        """What is known of a variant."""
        variant, race = self.variants[number], self.race
        if number in self.failed:
            return Measured(variant, None, reason=self.failed[number])
        return measured_of(variant, self.predicted.get(variant_key(variant)), race.median(number), race.spread(number),
                           len(race.samples[number]))

    def _note(self, numbers: Iterable[int]) -> None:
        """Store what is known of variants, now and then."""
        for number in numbers:
            self.journal.note(self._measured(number))
        self.journal.flush()

    def best(self) -> Variant | None:
        """The best variant so far."""
        number = self._best()
        return None if number is None else self.variants[number]

    def gain(self) -> float | None:
        """How many times as fast as the untuned variant the best one was, in the turns of both."""
        best = self._best()
        if best is None or self.reference is None:
            return None
        scores = self.race.scores([best, self.reference])
        return scores[self.reference] / scores[best]

    def _best(self) -> int | None:
        """Its number: by the last round, else by the first runs."""
        if self.winner is not None:
            return self.winner
        return min(self.checked, key=self.race.median, default=None)

    # -- the search

    def run(self) -> None:
        """Search until nothing better is found, the budget is used up, or the user interrupts."""
        kernel = self.function.kernel
        if isinstance(kernel, FusedFunction) and "out" not in self.kwargs:
            self._allocate(kernel)
        try:
            with Progress(self.function.__name__, lambda: self.deadline - time.perf_counter()) as self.progress:
                try:
                    self._search()
                except OutOfTime:
                    self.ended = "the budget was used up"
                except DeviceLost as lost:
                    self._lose(str(lost))
                except KeyboardInterrupt:
                    if self._best() is None:
                        raise
                    self.ended = "interrupted"
        finally:
            if self._written is not None and not self.lost:
                self._written.restore()
            self.journal.flush(force=True)

    def _lose(self, reason: str) -> None:
        """The device does not work any more, because of the variant that ran last."""
        number, self.lost = self.race.running, True
        assert number is not None
        self.failed[number] = reason
        self.checked = [n for n in self.checked if n != number]
        self.winner = None if self.winner == number else self.winner
        self.reference = None if self.reference == number else self.reference
        self.ended = (f"after {shown(self.variants[number])} nothing runs on the device in this process any more, and "
                      "the arrays are lost")

    def _search(self) -> None:
        if self.predictor is not None:
            self._predict([self.untuned], PREDICTING * self.seconds)
        self._admit([self.untuned], self.started + UNLIMITED)
        with self._alone():
            self._check_all()
        survivors: list[int] = []
        moved = False
        while True:
            now, best = time.perf_counter(), self._best()
            if now > self.deadline and self.left:
                raise OutOfTime
            until = now + COMPILING * (self.deadline - now)
            more = self._proposed(moved) if self.proposals is not None else self._next(moved)
            known = len(self._known)
            finalists, self.again = [dict(m.variant) for m in self.again], []
            self._admit([*finalists, *self._ranked(more, PREDICTING * (self.deadline - now))], until)
            tried = len(self._known) - known + len(finalists)
            with self._alone():
                new = self._check_all()
                if new:
                    survivors = self._race([*new, *survivors])
            if not new and not tried and not moved:
                return
            moved = self._best() != best

    def _next(self, moved: bool) -> list[Variant]:
        """What is tried next: the neighbours of the best variant where that is another one than before, else others."""
        best = self._best()
        return list(self.space.neighbours(self.variants[best])) if moved and best is not None else self._field()

    def _proposed(self, moved: bool) -> list[Variant]:
        """What is tried next in a large space: neighbours of the best variant where that is another one than before,
        and proposals by what is known; at first some of those that the model prefers, or of all."""
        assert self.proposals is not None
        told, self._told = self._told, len(self.variants)
        for number in range(told, self._told):
            if number in self.failed or number in self.race.samples:
                seconds = None if number in self.failed else self.race.median(number)
                self.proposals.tell(self.variants[number], seconds)
        if not told:
            for known in (*self.again, *self.earlier):
                self.proposals.tell(dict(known.variant), known.median)
            return self._ranked(self._field(), PREDICTING * (self.deadline - time.perf_counter()))[:FIRST]
        best = self._best()
        near = self.space.neighbours(self.variants[best]) if moved and best is not None else ()
        wanted = PROPOSED if self.predictor is None else PROPOSED_TO_MODEL
        new = self._ranked(self.proposals.propose(wanted, self._known),
                           PREDICTING * (self.deadline - time.perf_counter()))
        return [*near, *new[:PROPOSED]]

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """No other search measures on the device meanwhile. Waiting for that does not count."""
        started = time.perf_counter()
        with key_lock(lock_of(self.device), LONGEST_WAIT):
            waited = time.perf_counter() - started
            self.deadline += waited
            self.race.deadline += waited
            yield

    def _field(self) -> list[Variant]:
        """Variants in random order, all of a small space: where the time is short, those that are compiled in it are a
        fair sample."""
        self._seed += 1
        most = MOST_AT_ONCE if self.predictor is None else MOST_PREDICTED
        return self.space.sample(min(most, len(self.space)), self._seed)

    def _ranked(self, variants: list[Variant], seconds: float) -> list[Variant]:
        """Those of some variants that are to be compiled, in their order; those that cannot be launched have failed."""
        new = list({key: v for v in variants if (key := variant_key(v)) not in self._known}.values())
        if self.predictor is None:
            return new
        self._predict(new, seconds)
        predictions = [self.predicted[variant_key(variant)] for variant in new]
        for variant, prediction in zip(new, predictions, strict=True):
            if prediction is not None and not prediction.possible:
                self._known.add(variant_key(variant))
                self.failed[len(self.variants)] = refusal(prediction)
                self.variants.append(variant)
        return [new[n] for n in order_of(predictions)]

    def _predict(self, variants: list[Variant], seconds: float) -> None:
        """What the model says of variants that it has not been asked about."""
        new = [v for v in variants if variant_key(v) not in self.predicted]
        self.progress.stage("predicting", len(new))
        found = predict(self.function, self.engine, self.args, self.kwargs, new, seconds)
        self.predicted.update((variant_key(variant), found.get(number)) for number, variant in enumerate(new))

    def _allocate(self, fused: FusedFunction) -> None:
        """Outputs that all variants of a fused function write."""
        self.kwargs["out"] = fused.allocate(self.engine.name, self.args, {**self.kwargs, **self.untuned})

    def _admit(self, variants: Sequence[Variant], until: float) -> None:
        """Compile variants that are new, as far as the time suffices."""
        self._new = []
        first = len(self.variants)
        self.variants += variants
        self.progress.stage("compiling", len(variants))
        calls = [functools.partial(self._prepare, first + place) for place in range(len(variants))]
        with many_specialisations():
            for place, outcome in self.compiler.compile(calls, until - time.perf_counter()):
                self._known.add(variant_key(variants[place]))
                if outcome.reason:
                    self.failed[first + place] = outcome.reason
                    self._note([first + place])
                else:
                    self._new.append(first + place)
                self.progress.step()

    def _prepare(self, number: int) -> Prepared:
        """The call with a variant. Raises UserError."""
        kwargs = {**self.kwargs, **self.variants[number]}
        found = self._prepared[number] = self.function.kernel.prepared(self.engine.name, self.args, kwargs)
        return found

    def _check_all(self) -> list[int]:
        """Run what has been compiled once, and compare results; those that are right, and not hopelessly slow."""
        self.progress.stage("checking", len(self._new))
        found = []
        for number in self._new:
            if time.perf_counter() > self.deadline and self.reference is not None:
                raise OutOfTime
            try:
                self._check(number)
                found.append(number)
            except _Wrong as wrong:
                self.failed[number] = str(wrong)
            self._note([number])
            self.progress.step()
            best = self._best()
            if best is not None:
                self.progress.best(shown(self.variants[best]), self.race.median(best))
        fastest = min(map(self.race.median, self.checked), default=0.0)
        return [n for n in found if self.race.median(n) < max(SLOW, HOPELESS * fastest)]

    def _check(self, number: int) -> None:
        """Run a variant for the first time. Raises _Wrong."""
        prepared, call = self._prepared[number], self._call(number)
        try:
            prepared.compile()
        except Exception as error:
            raise _Wrong(reason_of(error)) from error
        if self._written is None:
            self._written = self._memory(prepared)
            self.race.before = self._written.clear if self.reset else None
        self.race.running = number
        if not self.device.children:
            reason, seconds = self._run_twice(call)
        elif self.reference is None:
            reason, seconds = self._first_run(call)
        else:
            reason, seconds = self._tried(call)
        if reason:
            raise _Wrong(reason)
        fastest = min(map(self.race.median, self.checked), default=seconds)
        self.checked.append(number)
        if self.reference is None:
            self.reference = number
            first = seconds if seconds >= SLOW else None
        elif seconds < max(SLOW, HOPELESS * fastest):
            if self.device.children:
                self._written.clear()
                call()  # the first one in this process does more than later ones
            first = None
        else:
            first = seconds
        self.race.enter(number, call, first)

    def _first_run(self, call: Callable[[], Any]) -> tuple[str, float]:
        """Why a variant does not work, or "", and the seconds that a call takes."""
        assert self._written is not None
        assert self.tolerance is not None
        self._written.prepare()
        try:
            seconds = self.device.first(call)
        except DeviceLost:
            raise
        except Exception as error:
            return reason_of(error), 0.0
        if self._written.expected is None:
            self._written.expect()
        return self._written.difference(self.tolerance), seconds

    def _run_twice(self, call: Callable[[], Any]) -> tuple[str, float]:
        """As :meth:`_first_run`, in this process; what is timed is the second run, since the first one loads code."""
        reason, _ = self._first_run(call)
        return reason, 0.0 if reason else self.device.sample(call, 1, self.race.before)

    def _tried(self, call: Callable[[], Any]) -> tuple[str, float]:
        """As :meth:`_first_run`, in a child of the process. Raises OutOfTime."""
        fastest = min(map(self.race.median, self.checked), default=0.0)
        longest, left = max(ENDLESS, ENDLESS_TIMES * fastest), self.deadline - time.perf_counter()
        hopeless = max(SLOW, HOPELESS * fastest)

        def runs() -> tuple[str, float]:
            reason, seconds = self._first_run(call)
            for _ in range(MORE_RUNS):
                if reason or not hopeless <= seconds < ENDLESS / 4:
                    break
                seconds = min(seconds, self._first_run(call)[1])
            return reason, seconds

        try:
            return tried(runs, min(longest, max(left, SLOW)))
        except Ended as error:
            return str(error), 0.0
        except TooLong:
            if left < longest:
                raise OutOfTime from None
            return f"it takes more than {longest:.3g} s, and the best one {fastest:.3g} s", 0.0

    def _memory(self, prepared: Prepared) -> Written:
        arrays = {name: array for name, _, array in prepared.call.arrays}
        written = prepared.written()
        for name in self.reset:
            if name not in written:
                what = "does not write" if name in arrays else "has no array"
                raise UserError.at("E1110", f"reset names {name!r}, but {self.function.__name__} {what} {name!r}",
                                   self.span, help=f"it writes {', '.join(written) or 'no array'}")
        if self.tolerance is None:
            self.tolerance = default_tolerance(arrays.values())
        return Written(written, self.reset, self.device)

    def _call(self, number: int) -> Callable[[], Any]:
        run, args = self.function.kernel.on(self.engine.name), self.args
        kwargs = {**self.kwargs, **self.variants[number]}
        return lambda: run(*args, **kwargs)

    def _race(self, numbers: list[int]) -> list[int]:
        """Rounds of about ROUND samples until few are left, and the untuned one. Gives those."""
        alive = list(dict.fromkeys(numbers))
        if self.reference is not None and self.reference not in alive:
            alive.append(self.reference)
        last = not alive
        while not last:
            last = len(alive) <= FINALISTS + 1
            turn = sum(max(self.race.median(n), SHORTEST_SAMPLE) for n in alive)
            turns = min(MOST_TURNS, max(1, ROUND // len(alive), int(ROUND_SECONDS / turn)))
            self.progress.stage(f"{len(alive)} variants left", turns)
            for _ in range(turns):
                self.race.turns(alive, 1)
                self.progress.step()
            self._note(alive)
            scores = self.race.scores(alive)
            order = sorted(alive, key=scores.__getitem__)
            self.winner = order[0]
            self.progress.best(shown(self.variants[self.winner]), self.race.median(self.winner))
            near = [n for n in order if scores[n] <= WITHIN * scores[self.winner]]
            kept = near[:max(FINALISTS, len(order) // 2)]
            alive = kept + [n for n in (self.reference,) if n is not None and n not in kept]
        return alive


def _sorted_out(earlier: Sequence[Measured]) -> tuple[list[Measured], list[Measured]]:
    """Those known variants that may be the best, and the others."""
    working = sorted((m for m in earlier if m.median is not None), key=lambda m: m.median or 0.0)
    again = [m for m in working if (m.median or 0.0) <= WITHIN * (working[0].median or 0.0)][:MOST_AGAIN]
    return again, [m for m in earlier if m not in again]


def device_for(engine: Engine, arrays: Sequence[ArrayArgument]) -> Device:
    """What calls on some arrays are timed on."""
    if engine.kind != CUDA:
        return Host(engine.target.name)
    from tilus.tuning.gpu import Gpu

    return Gpu(arrays)


def lock_of(device: Device) -> str:
    """The lock on what variants are measured on, whatever caches the processes have."""
    return os.path.join(tempfile.gettempdir(), f"tilus-measuring-{os.getuid()}-{key_of([device.name])}.lock")


class _Wrong(Exception):
    """Why a variant does not work."""


__all__ = ["Search", "lock_of"]
