"""Flags and barriers that are emitted are needed, and what is needed is found: emitted kernels less one or two of them
fail on the twin."""

from __future__ import annotations

import pytest

from tests.ascend.mutants import SUBJECTS, Mutants, marks_of, pairs_of

LEAST_FOUND = 0.98
SAMPLED = 12


@pytest.mark.sweep(keep=2)
@pytest.mark.parametrize("name", [
    pytest.param(name, marks=pytest.mark.slow if name == "attention by queues" else ()) for name in SUBJECTS])
def test_sample(name: str) -> None:
    """Some sets and waits of each kernel, alone and in pairs."""
    mutants = Mutants(SUBJECTS[name])
    assert not mutants.is_found(())
    flags = [mark for mark in mutants.marks if mark.call != "PipeBarrier"]
    pairs = pairs_of(mutants.marks)
    assert all(mutants.is_found((mark,)) for mark in flags[::max(1, len(flags) // SAMPLED)])
    sampled = pairs[::max(1, len(pairs) // SAMPLED)]
    assert sum(map(mutants.is_found, sampled)) >= len(sampled) - 1


@pytest.mark.slow
def test_all() -> None:
    found = all_ = 0
    for subject in SUBJECTS.values():
        mutants = Mutants(subject)
        candidates = [*((mark,) for mark in mutants.marks), *pairs_of(mutants.marks)]
        found += sum(mutants.is_found(dropped) for dropped in candidates)
        all_ += len(candidates)
    assert found >= LEAST_FOUND * all_, f"{found} of {all_}"


def test_marks() -> None:
    source = "SetFlag<HardEvent::V_MTE2>(2 + turn);\nx = 1;\n  PipeBarrier<PIPE_V>();\n  PipeBarrier<PIPE_ALL>();"
    assert [(mark.line, str(mark)) for mark in marks_of(source)] == [
        (1, "SetFlag<HardEvent::V_MTE2>(2 + turn)"), (3, "PipeBarrier<PIPE_V>()")]
