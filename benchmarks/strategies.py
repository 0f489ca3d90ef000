"""Strategies for large spaces: proposals of Optuna (``strategy="guided"``) against chance and neighbours ("halving").

    python -m benchmarks.strategies [EVALUATIONS]         the time of a variant is what the CPU's model says
    python -m benchmarks.strategies --measured SECONDS    searches with that budget, and a race of what they choose

Columns are how many times as long what chance and neighbours find takes as what proposals find, seed by seed: above 1,
proposals are better. The model has no noise and needs no compilation, so that many variants can be looked at; searches
look at some dozens in a minute on two cores.
"""

from __future__ import annotations

import argparse
import functools
import math
import os
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

import tilus as tl
from benchmarks import tuning_cases
from tilus.runtime.cache import default_cache
from tilus.runtime.engines import get_engine
from tilus.targets import get_target
from tilus.tuning.guided import Proposals
from tilus.tuning.measure import Race
from tilus.tuning.ranking import many_specialisations, predictor_of
from tilus.tuning.space import variant_key
from tilus.tuning.store import default_store

SEEDS, EVALUATIONS, FIRST, PROPOSED, TURNS = 3, 200, 32, 16, 31


matmul = tl.autotune(BM=range(1, 65), BN=range(8, 257, 8), BK=range(8, 513, 8),
                     where="BM * BN <= 8192; BK * BN <= 65536")(tuning_cases.matmul.kernel)


@tl.autotune(BM=range(1, 65), BN=range(8, 4097, 8), ROWS=[1, 2, 4, 8], where="BM * BN <= 65536")
@tl.jit
def softmax(x: tl.f32["M", "N"], y: tl.f32["M", "N"], BM: int = 4, BN: int = 256, ROWS: int = 1) -> None:
    """Of each row; a block does ROWS tiles of BM rows."""
    M, N = x.shape
    first = tl.grid(tl.cdiv(M, BM * ROWS)) * BM * ROWS
    for r in tl.range(ROWS):
        i = first + r * BM
        most, total = tl.full((BM, 1), -3e38, tl.f32), tl.zeros((BM, 1), tl.f32)
        for j in tl.range(0, N, BN):
            tile = tl.load(x, (i, j), (BM, BN), other=-3e38)
            now = tl.maximum(most, tl.max(tile, axis=1, keepdims=True))
            total = total * tl.exp(most - now) + tl.sum(tl.exp(tile - now), axis=1, keepdims=True)
            most = now
        for j in tl.range(0, N, BN):
            tl.store(y, (i, j), tl.exp(tl.load(x, (i, j), (BM, BN)) - most) / total)


def cases() -> Iterator[tuple[str, Any, list[Any]]]:
    rng = np.random.default_rng(0)
    for m, n, k in ((512, 512, 512), (96, 1000, 700), (1024, 128, 512)):
        yield f"matmul {m}x{n}x{k}", matmul, [rng.standard_normal(s, np.float32) for s in ((m, k), (k, n), (m, n))]
    for m, n in ((500, 1500), (4096, 64), (30, 20000)):
        yield f"softmax {m}x{n}", softmax, [rng.standard_normal((m, n), np.float32) for _ in range(2)]


class Looked:
    """Variants and what the model says of them, up to a number."""

    def __init__(self, kernel: Any, args: Sequence[Any], most: int) -> None:
        self.kernel, self.args, self.most = kernel, tuple(args), most
        self.seconds: dict[Any, float] = {}
        self.variants: dict[Any, Any] = {}

    @property
    def done(self) -> bool:
        return len(self.seconds) >= self.most

    def look(self, variants: Sequence[Any]) -> list[Any]:
        """At new ones; gives those."""
        new = {variant_key(v): v for v in variants if variant_key(v) not in self.seconds}
        keys = list(new)[:self.most - len(self.seconds)]
        predictor = predictor_of(get_target("cpu"))
        assert predictor is not None
        found = predictor.before_compiling(self.kernel, get_engine("cpu"), self.args, {}, [new[k] for k in keys])
        for key, prediction in zip(keys, found, strict=True):
            self.seconds[key] = math.inf if prediction is None else prediction.seconds
            self.variants[key] = new[key]
        return [new[k] for k in keys]

    def best(self) -> tuple[float, Any]:
        key = min(self.seconds, key=self.seconds.__getitem__)
        return self.seconds[key], self.variants[key]


def by_chance(looked: Looked, seed: int) -> float:
    """Half of all by chance, then neighbours of the best until none is better, then others, as searches do."""
    space = looked.kernel.space
    looked.look(space.sample(looked.most // 2, seed))
    moved = True
    while not looked.done:
        before, variant = looked.best()
        left = looked.most - len(looked.seconds)
        looked.look(list(space.neighbours(variant)) if moved else
                    space.sample(left // 2 + 1, seed + 1000 + len(looked.seconds)))
        moved = looked.best()[0] < before
    return looked.best()[0]


def by_proposals(looked: Looked, seed: int) -> float:
    space = looked.kernel.space
    proposals, new, moved = Proposals(space, seed), looked.look(space.sample(FIRST, seed)), True
    while not looked.done:
        for variant in new:
            seconds = looked.seconds[variant_key(variant)]
            proposals.tell(variant, seconds if math.isfinite(seconds) else None)
        before, best = looked.best()
        near = list(space.neighbours(best)) if moved else []
        new = looked.look([*near, *proposals.propose(PROPOSED, set(looked.seconds))])
        moved = looked.best()[0] < before
    return looked.best()[0]


def measured(kernel: Any, args: Sequence[Any], budget: float) -> float:
    found = []
    for strategy in ("halving", "guided"):
        os.environ["TILUS_CACHE_DIR"] = tempfile.mkdtemp(prefix="tilus-strategies-")
        default_cache.cache_clear()
        default_store.cache_clear()
        kernel.forget()
        found.append(dict(kernel.tune(*args, budget=budget, strategy=strategy).variant))
    race = Race(None, math.inf, get_engine("cpu").measuring)
    with many_specialisations():
        for number, variant in enumerate(found):
            run = functools.partial(kernel.kernel, *args, **variant)
            run()
            race.enter(number, run, None)
        race.turns(range(2), TURNS)
    scores = race.scores(range(2))
    return scores[0] / scores[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("evaluations", nargs="?", type=int, default=EVALUATIONS)
    parser.add_argument("--measured", type=float, metavar="SECONDS")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    for name, kernel, args in cases():
        ratios = []
        for seed in range(SEEDS):
            if options.measured:
                ratios.append(measured(kernel, args, options.measured))
            else:
                chance = by_chance(Looked(kernel, args, options.evaluations), seed)
                ratios.append(chance / by_proposals(Looked(kernel, args, options.evaluations), seed))
        print(f"{name:24}{len(kernel.space):8} variants" + "".join(f"{ratio:8.2f}" for ratio in ratios), flush=True)


if __name__ == "__main__":
    main()
