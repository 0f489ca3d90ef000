"""Large spaces: proposals are variants, lead to good ones, and are new."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tilus as tl
from tilus.runtime.cache import default_cache
from tilus.tuning import guided, search, store
from tilus.tuning.guided import Proposals, proposals_for
from tilus.tuning.space import GridSpace, ListSpace, variant_key

pytest.importorskip("optuna")


@pytest.fixture(autouse=True)
def own_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TILUS_CACHE_DIR", str(tmp_path))
    for cached in (store.default_store, default_cache):
        cached.cache_clear()
    yield
    for cached in (store.default_store, default_cache):
        cached.cache_clear()


def space(where: str = "") -> GridSpace:
    return GridSpace.of({"a": range(64), "b": range(0, 640, 10), "c": range(1, 33), "mode": ["x", "y"]},
                        [where] if where else [])


def cost(variant: dict[str, Any]) -> float:
    """Of a smooth valley, with one mode better than the other."""
    return 1e-3 * (1 + (variant["a"] - 40) ** 2 + (variant["b"] / 10 - 7) ** 2 + (variant["c"] - 20) ** 2
                   + 50 * (variant["mode"] == "x"))


def best_after(proposals: Proposals, evaluations: int) -> float:
    known: set[Any] = set()
    best = float("inf")
    for variant in proposals.space.sample(32, 1):
        known.add(variant_key(variant))
        proposals.tell(variant, cost(variant))
    while len(known) < evaluations:
        for variant in proposals.propose(16, known):
            assert variant in proposals.space
            assert variant_key(variant) not in known
            known.add(variant_key(variant))
            best = min(best, cost(variant))
            proposals.tell(variant, cost(variant))
    return best


@pytest.mark.sweep(keep=2)
@pytest.mark.parametrize("where", ["", "a + c <= 58; (a + b) % 2 == 0"])
def test_proposals_lead_to_better_variants_than_chance(where: str) -> None:
    found = space(where)
    by_chance = min(map(cost, found.sample(256, 3)))
    assert best_after(Proposals(found), 256) < 0.5 * by_chance


def test_variants_that_do_not_work_are_avoided() -> None:
    found = space()
    proposals, known = Proposals(found), set[Any]()
    for variant in found.sample(64, 1):
        known.add(variant_key(variant))
        proposals.tell(variant, None if variant["a"] > 10 else 1.0)
    proposed = proposals.propose(64, known)
    assert sum(v["a"] <= 10 for v in proposed) > len(proposed) / 2


def test_where_proposals_lead(monkeypatch: pytest.MonkeyPatch) -> None:
    small, configs = GridSpace.of({"a": range(4)}), ListSpace.of([{"a": 1}, {"a": 2}])
    assert proposals_for(space(), "halving", None) is None
    assert proposals_for(small, "guided", None) is not None
    assert proposals_for(configs, "halving", None) is None
    monkeypatch.setattr(guided, "is_installed", lambda: False)
    assert proposals_for(space(), "halving", None) is None
    for strategy, of, message in (("guided", space(), r"E1110(?s:.*)pip install 'tilus\[search\]'"),
                                  ("guided", configs, "E1110.*the space is a list"),
                                  ("random", small, "E1110.*there is no strategy 'random'")):
        with pytest.raises(tl.UserError, match=message):
            proposals_for(of, strategy, None)


def test_a_guided_search(monkeypatch: pytest.MonkeyPatch) -> None:
    @tl.autotune(BLOCK=list(range(8, 264, 8)), ROUNDS=list(range(1, 65)), where="BLOCK * ROUNDS <= 8192")
    @tl.jit
    def copied(x: tl.f32["N"], y: tl.f32["N"], BLOCK: int = 64, ROUNDS: int = 32) -> None:
        i = tl.grid(tl.cdiv(x.shape[0], BLOCK)) * BLOCK
        work = tl.load(x, i, BLOCK)
        for _ in tl.range(ROUNDS * 8):
            work = tl.sin(work)
        tl.store(y, i, tl.load(x, i, BLOCK) + work * 0)

    proposed: list[Any] = []
    propose = Proposals.propose

    def told(self: Proposals, count: int, known: set[Any]) -> list[Any]:
        if len(proposed) > 8:
            raise KeyboardInterrupt  # which ends the search with what is known
        found = propose(self, count, known)
        proposed.extend(found)
        return found

    monkeypatch.setattr(Proposals, "propose", told)
    monkeypatch.setattr(search, "FIRST", 8)
    x, y = np.ones(20_000, np.float32), np.zeros(20_000, np.float32)
    result = copied.tune(x, y, budget=60, strategy="guided")
    assert result.ended == "interrupted"
    assert sum(m.variant in proposed for m in result.measured) == len(proposed)
    assert len(result.measured) > 25
    assert len({str(m.variant) for m in result.measured}) == len(result.measured)
    assert result.variant["ROUNDS"] < 16
    assert "optuna" in sys.modules
