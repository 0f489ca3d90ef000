"""What searches and the model find, and how long they take, against measuring every variant: on the CPU engine.

    python -m benchmarks.tuning [--kernel matmul …] [--shape 512 …] [--repeat 2]
    python -m benchmarks.tuning executors|lookup

Each case begins with an empty cache. All variants are compiled and measured in turns; then a search gets a part of the
time that this took, and the model chooses before anything is compiled. What these choose, the untuned variant and the
best one of all run in a race of their own, whose shares of turns are what the columns show: 1.05 takes 5 % longer than
the best. ``order`` is Spearman's correlation of the model's figures with the measured ones, ``model`` how long the
model takes for a variant.
"""

from __future__ import annotations

import argparse
import functools
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from benchmarks.tuning_cases import MAKERS, Case, cases, matmul
from benchmarks.tuning_costs import print_executors, print_lookups
from tilus.records import record
from tilus.runtime.cache import default_cache
from tilus.runtime.engines import get_engine
from tilus.targets import get_target
from tilus.tuning.compiling import Compiler
from tilus.tuning.devices import Host
from tilus.tuning.measure import Race
from tilus.tuning.ranking import many_specialisations, predict
from tilus.tuning.store import default_store

SAMPLES, FINAL_SAMPLES = 15, 41
SHARE = 0.27
"""The share of the time of all variants that a search gets; it ends with the compilations that have begun by then."""
UNLIMITED = 1e6
BARS = {"choice": 1.05, "model": 1.20}
"""What a search's choice and the model's may take, against the best one."""


@record
class Row:
    """One case: seconds of all variants, the share that the search took, and what choices take against the best one;
    ``against_untuned`` is the search's choice against the untuned variant."""

    every: float
    share: float
    tried: float
    choice: float
    untuned: float
    model: float
    order: float
    model_ms: float

    @property
    def against_untuned(self) -> float:
        return self.choice / self.untuned


def from_scratch(kernel: Any) -> None:
    """As if nothing had been compiled or tuned."""
    os.environ["TILUS_CACHE_DIR"] = tempfile.mkdtemp(prefix="tilus-tuning-")
    default_cache.cache_clear()
    default_store.cache_clear()
    kernel.forget()
    kernel.results.clear()


def call(case: Case, variant: dict[str, Any]) -> Callable[[], None]:
    kernel, args, kwargs = case.kernel.kernel, tuple(case.args), {**case.kwargs, **variant}
    return lambda: kernel(*args, **kwargs)


def race(case: Case, variants: Sequence[dict[str, Any]], samples: int) -> Race:
    """All variants measured alike."""
    found = Race(None, float("inf"), Host())
    for number, variant in enumerate(variants):
        run = call(case, variant)
        run()
        found.enter(number, run, None)
    found.turns(range(len(variants)), samples)
    return found


def ranks(values: Sequence[float]) -> list[float]:
    order = sorted(range(len(values)), key=values.__getitem__)
    found = [0.0] * len(values)
    for rank, number in enumerate(order):
        found[number] = rank
    return found


def compare(case: Case) -> Row:
    """Everything about one case. Raises RuntimeError where a variant does not compile."""
    kernel = case.kernel
    variants = [v for v in kernel.space if all(case.kwargs.get(k, x) == x for k, x in v.items())]
    from_scratch(kernel)
    started = time.perf_counter()
    calls = [functools.partial(kernel.kernel.prepared, "cpu", tuple(case.args), {**case.kwargs, **v}) for v in variants]
    failures = [outcome.reason for _, outcome in Compiler(get_target("cpu")).compile(calls, UNLIMITED)
                if outcome.reason]
    if failures:
        raise RuntimeError(f"{len(failures)} variants do not compile: {failures[0]}")
    every = race(case, variants, SAMPLES)
    exhaustive = time.perf_counter() - started
    scores = every.scores(range(len(variants)))
    best = variants[min(scores, key=scores.__getitem__)]
    from_scratch(kernel)
    predict(kernel, get_engine("cpu"), tuple(case.args), case.kwargs, variants[:1], UNLIMITED)  # measures the machine
    started = time.perf_counter()
    result = kernel.tune(*case.args, budget=SHARE * exhaustive, **case.kwargs)
    searched = time.perf_counter() - started
    started = time.perf_counter()
    said = predict(kernel, get_engine("cpu"), tuple(case.args), case.kwargs, variants, UNLIMITED)
    asked = time.perf_counter() - started
    guess = variants[min(said, key=lambda n: said[n].seconds)]
    final = race(case, [best, dict(result.variant), dict(result.untuned), guess], FINAL_SAMPLES).scores(range(4))
    reached = min(final[0], final[1], final[3])
    order = statistics.correlation(ranks([said[n].seconds for n in range(len(variants))]),
                                   ranks([scores[n] for n in range(len(variants))]))
    return Row(exhaustive, searched / exhaustive, len(result.measured) / len(variants), final[1] / reached,
               final[2] / reached, final[3] / reached, order, 1e3 * asked / len(variants))


def best_of(rows: Sequence[Row]) -> Row:
    """Of repeated measurements of one case the least disturbed one: that of the choices that do best."""
    return min(rows, key=lambda row: max(row.choice, row.model))


def show(name: str, row: Row) -> None:
    missed = [bar for bar, limit in BARS.items() if getattr(row, bar) > limit]
    print(f"{name:34}{row.every:6.1f} s{row.share:7.0%}{row.tried:7.0%}{row.choice:8.2f}{row.against_untuned:9.2f}"
          f"{row.model:8.2f}{row.order:7.2f}{row.model_ms:8.1f} ms  {' '.join(missed)}", flush=True)


def summary(rows: Sequence[Row]) -> None:
    """Medians and the worst over all cases."""
    for text, pick in (("median", statistics.median), ("worst", max)):
        found = {n: pick([getattr(row, n) for row in rows]) for n in ("every", "share", "tried", "choice", "untuned",
                                                                      "model", "model_ms")}
        worst_order = (min if pick is max else statistics.median)([row.order for row in rows])
        against = pick([row.against_untuned for row in rows])
        print(f"{text:34}{found['every']:6.1f} s{found['share']:7.0%}{found['tried']:7.0%}{found['choice']:8.2f}"
              f"{against:9.2f}{found['model']:8.2f}{worst_order:7.2f}{found['model_ms']:8.1f} ms")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kernel", nargs="*", default=(), choices=list(MAKERS))
    parser.add_argument("--shape", nargs="*", default=(), help="parts of shapes as they are shown")
    parser.add_argument("--repeat", type=int, default=1, help="measure cases that miss a bar so often again")
    parser.add_argument("costs", nargs="?", choices=["executors", "lookup"],
                        help="print what compiling in processes or looking results up costs instead")
    options = parser.parse_args()
    if options.costs == "lookup":
        print_lookups()
        return
    if options.costs == "executors":
        print_executors(matmul, tuple(np.zeros((512, 512), np.float32) for _ in range(3)))
        return
    warnings.simplefilter("ignore")
    heads = f"{'all':>8}{'share':>7}{'tried':>7}{'choice':>8}{'/untuned':>9}{'model':>8}{'order':>7}{'a variant':>11}"
    print(f"{'':34}{heads}")
    rows = []
    with many_specialisations():
        for case in cases(options.kernel, options.shape):
            found = [compare(case)]
            while len(found) < options.repeat and any(getattr(found[-1], bar) > limit for bar, limit in BARS.items()):
                found.append(compare(case))
            rows.append(best_of(found))
            show(f"{case.name} {case.shape}", rows[-1])
    if len(rows) > 1:
        summary(rows)


if __name__ == "__main__":
    main()
