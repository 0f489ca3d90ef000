"""Programs by their seeds, run in this process or another, which imports this module."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from tests.fuzz.emitted import digest
from tests.fuzz.generator import generate
from tests.fuzz.harness import Disagreement, check_program


@dataclass
class Outcome:
    """Of one program: where engines disagree, what it is made of, whether it ran (its code is not the known one)."""

    found: list[Disagreement]
    counts: Counter[str]
    ran: bool


def examine(seeds: range, engines: list[str], known: Mapping[str, str]) -> list[Outcome]:
    """Run the programs of ``seeds``, but for those whose code is known."""
    outcomes = []
    for seed in seeds:
        program = generate(seed)
        ran = not known or known.get(str(seed)) != digest(program, engines[0])
        outcomes.append(Outcome(check_program(program, engines) if ran else [], program.counts, ran))
    return outcomes
