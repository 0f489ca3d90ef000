"""Random tile programs: engines agree to the bit on integers and exact floats, within derived bounds on the rest."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.fuzz.generator import generate
from tests.fuzz.harness import check

CHUNK = 25


@pytest.mark.parametrize("chunk", range(12))
def test_interpreter_and_cpu_agree(chunk: int) -> None:
    found = [d for seed in range(CHUNK * chunk, CHUNK * (chunk + 1)) for d in check(seed, ["cpu"])]
    assert not found, "\n\n".join(map(str, found))


@pytest.mark.parametrize("chunk", range(2))
def test_interpreter_and_python_agree(chunk: int) -> None:
    found = [d for seed in range(CHUNK * chunk, CHUNK * (chunk + 1)) for d in check(seed, ["python"])]
    assert not found, "\n\n".join(map(str, found))


def test_seeds_are_reproducible() -> None:
    for seed in range(50):
        assert generate(seed).source == generate(seed).source


def test_the_programs_are_varied(capsys: pytest.CaptureFixture[str]) -> None:
    counts: Counter[str] = Counter()
    exact = total = 0
    for seed in range(500):
        program = generate(seed)
        counts.update(program.counts)
        exact += sum(o.error == 0.0 for o in program.outputs)
        total += len(program.outputs)
    with capsys.disabled():
        print("\nfuzzer, 500 programs: " + ", ".join(f"{name} {n}" for name, n in counts.most_common()))
    for name in ("mask", "other", "dot f16", "dot f32", "dot i8", "reduce argmax", "loop break", "loop while", "if",
                 "map", "gather", "cast", "where", "array strided", "shape insert", "shape take", "rank 3"):
        assert counts[name] >= 3, name
    assert 0.3 < exact / total < 0.95


def test_every_mutant_still_applies() -> None:
    from tests.fuzz.mutants import MUTANTS, applies

    assert len(MUTANTS) >= 20
    assert [m.name for m in MUTANTS if not applies(m)] == []


@pytest.mark.slow
def test_mutants_are_found() -> None:
    from tests.fuzz.mutants import MUTANTS, is_found

    found = [m.name for m in MUTANTS if is_found(m, 300)]
    assert len(found) >= 0.9 * len(MUTANTS)
