"""Random programs of one vector core: findings of order are those of a graph of what happens before what."""

from __future__ import annotations

import random
import re
from typing import NamedTuple

import numpy as np
import pytest

from tests.twin.harness import Kernels
from tilus.twin import TwinError

PIPES = ("S", "V", "MTE2", "MTE3")
PROGRAMS = 120


class Entry(NamedTuple):
    """An instruction of a pipe with the bytes of UB that it reads and writes, or a flag, or a barrier."""

    text: str
    kind: str
    pipe: str
    other: str = ""
    number: int = 0
    reads: tuple[range, ...] = ()
    writes: tuple[range, ...] = ()


def instruction(pipe: str, random_: random.Random) -> Entry:
    """Registers are floats of UB; copies and sums take 8 to 32 of 64."""
    count = random_.choice((8, 16, 32))

    def place() -> int:
        return random_.randrange((64 - count) // 8 + 1) * 8

    def of(start: int, n: int = count) -> range:
        return range(4 * start, 4 * (start + n))

    a, b, c = place(), place(), place()
    if pipe == "V":
        # Sums that overlap partly within one call are wrong by themselves.
        b, c = (a if abs(x - a) < count else x for x in (b, c))
        return Entry(f"Add(x[{a}], x[{b}], x[{c}], {count});", "work", pipe, reads=(of(b), of(c)), writes=(of(a),))
    if pipe == "MTE2":
        return Entry(f"DataCopy(x[{a}], gm<float>(a), {count});", "work", pipe, writes=(of(a),))
    if pipe == "MTE3":
        return Entry(f"DataCopy(gm<float>(out)[64 * n++], x[{a}], {count});", "work", pipe, reads=(of(a),))
    if random_.random() < 0.5:
        return Entry(f"n += x.GetValue({a}) > 1e30f;", "work", pipe, reads=(of(a, 1),))
    return Entry(f"x.SetValue({a}, 1.0f);", "work", pipe, writes=(of(a, 1),))


def program(seed: int) -> list[Entry]:
    random_ = random.Random(seed)
    entries = [instruction(random_.choice(PIPES), random_) for _ in range(random_.randrange(3, 9))]
    used: dict[tuple[str, str], int] = {}
    for _ in range(random_.randrange(0, 14)):
        first, second = random_.sample(PIPES, 2)
        number = used.get((first, second), 0)
        if number == 6:
            continue
        used[first, second] = number + 1
        early = random_.randrange(len(entries) + 1)
        late = random_.randrange(early, min(len(entries), early + 3) + 1)
        event = f"Flag<HardEvent::{first}_{second}>({number});"
        entries.insert(late, Entry("Wait" + event, "wait", second, first, number))
        entries.insert(early, Entry("Set" + event, "set", first, second, number))
    for _ in range(random_.randrange(3)):
        pipe = random_.choice(("V", "MTE2", "MTE3", "ALL"))
        entries.insert(random_.randrange(len(entries) + 1), Entry(f"PipeBarrier<PIPE_{pipe}>();", "barrier", pipe))
    # All of the tensor is defined before.
    begin = [Entry("DataCopy(x, gm<float>(a), 64);", "work", "MTE2", writes=(range(256),)),
             Entry("PipeBarrier<PIPE_ALL>();", "barrier", "ALL")]
    return begin + entries


def completed(entries: list[Entry]) -> list[set[int]]:
    """For each entry, those that are certainly complete when it begins.

    What an entry knows: a wait all that its set knew, an entry what waits and barriers of its pipe knew before it, and
    what the scalar unit had waited for when it issued it; a set besides that all earlier entries of its pipe.
    """
    known: list[set[int]] = []
    of_pipe: dict[str, set[int]] = {pipe: set() for pipe in PIPES}
    earlier: dict[str, set[int]] = {pipe: set() for pipe in PIPES}
    scalar: set[int] = set()
    sets: dict[tuple[str, str, int], set[int]] = {}
    for number, entry in enumerate(entries):
        if entry.pipe == "ALL":
            everything = set(range(number))
            of_pipe = {pipe: set(everything) for pipe in PIPES}
            scalar = set(everything)
            known.append(everything)
            continue
        of_pipe[entry.pipe] |= scalar
        if entry.kind == "set":
            sets[entry.pipe, entry.other, entry.number] = of_pipe[entry.pipe] | earlier[entry.pipe]
        elif entry.kind == "wait":
            of_pipe[entry.pipe] |= sets[entry.other, entry.pipe, entry.number]
            if entry.pipe == "S":
                scalar |= of_pipe["S"]
        elif entry.kind == "barrier":
            of_pipe[entry.pipe] |= earlier[entry.pipe]
        known.append(set(of_pipe[entry.pipe]) | (earlier["S"] if entry.pipe == "S" else set()))
        earlier[entry.pipe].add(number)
    return known


def meet(first: tuple[range, ...], second: tuple[range, ...]) -> bool:
    return any(max(a.start, b.start) < min(a.stop, b.stop) for a in first for b in second)


def races(entries: list[Entry]) -> set[tuple[int, int]]:
    """Pairs of entries, later one first, that share bytes, of which one writes, without order."""
    known = completed(entries)
    found = set()
    for late, one in enumerate(entries):
        for early, other in enumerate(entries[:late]):
            conflict = meet(one.writes, other.reads + other.writes) or meet(one.reads, other.writes)
            if conflict and early not in known[late]:
                found.add((late, early))
    return found


ENTRIES = {f"program{seed}": program(seed) for seed in range(PROGRAMS)}


@pytest.fixture(scope="module")
def kernels() -> Kernels:
    return Kernels({name: "    LocalTensor<float> x(TPosition::VECIN, 0, 64);\n" + "\n".join(
        f"    {entry.text}" for entry in entries) for name, entries in ENTRIES.items()}, kind="AIV_ONLY")


def test_programs_of_both_kinds():
    racing = sum(bool(races(entries)) for entries in ENTRIES.values())
    assert PROGRAMS / 5 < racing < PROGRAMS * 19 / 20


@pytest.mark.parametrize("order", ["random", "early", "late", "program"])
def test_findings_are_races(order: str, kernels: Kernels):
    lines = kernels.source.splitlines()
    for name, entries in ENTRIES.items():
        first = next(number for number, line in enumerate(lines) if f"void {name}(" in line) + 3
        expected, found = races(entries), set()
        try:
            kernels.run(name, [np.zeros(64, np.float32)], np.zeros(64 * 16, np.float32), order=order)
        except TwinError as error:
            for finding in error.findings:
                if finding.kind == "race" or finding.kind.startswith("missing PipeBarrier"):
                    partner = int(re.search(r"which \w+ at line (\d+)", finding.text)[1])
                    found.add((finding.line - first, partner - first))
        assert found <= expected, (name, [e.text for e in entries])
        assert bool(found) == bool(expected), (name, [e.text for e in entries])
