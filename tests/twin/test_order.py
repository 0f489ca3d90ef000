"""Random programs of one core: findings of order are those of a relation of what happens before what."""

from __future__ import annotations

import random
import re
from typing import NamedTuple

import numpy as np
import pytest

from tests.twin.harness import Kernels
from tilus.twin import TwinError

PROGRAMS = 80
PIPES = {"AIV_ONLY": ("S", "V", "MTE2", "MTE3"), "AIC_ONLY": ("MTE2", "MTE1", "M", "FIX")}
BARRIERS = {"AIV_ONLY": ("V", "MTE2", "MTE3", "ALL"), "AIC_ONLY": ("M", "MTE2", "ALL")}
# Pipes whose instructions find the earlier ones complete.
IN_ORDER = ("S", "MTE1", "FIX")

Bytes = tuple[tuple[str, range], ...]


class Entry(NamedTuple):
    """An instruction of a pipe with the bytes that it reads and writes, or a flag, or a barrier."""

    text: str
    kind: str
    pipe: str
    other: str = ""
    number: int = 0
    reads: Bytes = ()
    writes: Bytes = ()


def of_vector_core(pipe: str, random_: random.Random) -> Entry:
    """Copies and sums of 8 to 32 of 64 floats in UB, and single ones."""
    count = random_.choice((8, 16, 32))

    def place() -> int:
        return random_.randrange((64 - count) // 8 + 1) * 8

    def of(start: int, n: int = count) -> tuple[str, range]:
        return "UB", range(4 * start, 4 * (start + n))

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


def of_cube_core(pipe: str, random_: random.Random) -> Entry:
    """Fractals: four in L1, two in each of the others; products of one fractal, which overlap each other."""

    def of(memory: str, place: int) -> tuple[str, range]:
        size = 1024 if memory == "L0C" else 512
        return memory, range(place * size, (place + 1) * size)

    a, b, c, source = random_.randrange(2), random_.randrange(2), random_.randrange(2), random_.randrange(4)
    if pipe == "MTE2":
        return Entry(f"DataCopy(l1[{source * 256}], gm<half>(a), 256);", "work", pipe, writes=(of("L1", source),))
    if pipe == "MTE1":
        memory, place = random_.choice((("L0A", a), ("L0B", b)))
        params = f"LoadData2DParams({source}, 1, 1, 0, 0, false, 0)"
        return Entry(f"LoadData({memory.lower()}[{place * 256}], l1, {params});", "work", pipe,
                     reads=(of("L1", source),), writes=(of(memory, place),))
    if pipe == "M":
        first = random_.random() < 0.5
        params = "first" if first else "next"
        return Entry(f"Mmad(l0c[{c * 256}], l0a[{a * 256}], l0b[{b * 256}], {params});", "work", pipe,
                     reads=(of("L0A", a), of("L0B", b), *(() if first else (of("L0C", c),))), writes=(of("L0C", c),))
    return Entry(f"Fixpipe<float, float, CFG_ROW_MAJOR>(gm<float>(out)[256 * n++], l0c[{c * 256}], fix);", "work",
                 pipe, reads=(of("L0C", c),))


INSTRUCTIONS = {"AIV_ONLY": of_vector_core, "AIC_ONLY": of_cube_core}
# Everything is defined, and complete, before the random part.
BEGIN = {
    "AIV_ONLY": """
    LocalTensor<float> x(TPosition::VECIN, 0, 64);
    DataCopy(x, gm<float>(a), 64);
    PipeBarrier<PIPE_ALL>();
""",
    "AIC_ONLY": """
    LocalTensor<half> l1(TPosition::A1, 0, 1024), l0a(TPosition::A2, 0, 512), l0b(TPosition::B2, 0, 512);
    LocalTensor<float> l0c(TPosition::CO1, 0, 512);
    [[maybe_unused]] MmadParams first, next;
    first.m = first.n = first.k = 16;
    next = first;
    next.cmatrixInitVal = false;
    [[maybe_unused]] FixpipeParamsV220 fix;
    fix.nSize = fix.mSize = fix.srcStride = fix.dstStride = 16;
    DataCopy(l1, gm<half>(a), 1024);
    PipeBarrier<PIPE_ALL>();
    LoadData(l0a, l1, LoadData2DParams(0, 2, 1, 0, 0, false, 0));
    LoadData(l0b, l1, LoadData2DParams(0, 2, 1, 0, 0, false, 0));
    PipeBarrier<PIPE_ALL>();
    for (uint32_t i = 0; i < 2; ++i) Mmad(l0c[i * 256], l0a, l0b, first);
    PipeBarrier<PIPE_ALL>();
""",
}


def program(seed: int, kind: str) -> list[Entry]:
    random_ = random.Random(seed)
    pipes = PIPES[kind]
    entries = [INSTRUCTIONS[kind](random_.choice(pipes), random_) for _ in range(random_.randrange(3, 9))]
    used: dict[tuple[str, str], int] = {}
    for _ in range(random_.randrange(0, 14)):
        first, second = random_.sample(pipes, 2)
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
        pipe = random_.choice(BARRIERS[kind])
        entries.insert(random_.randrange(len(entries) + 1), Entry(f"PipeBarrier<PIPE_{pipe}>();", "barrier", pipe))
    return entries


def completed(entries: list[Entry]) -> list[set[int]]:
    """For each entry, those that are certainly complete when it begins.

    What an entry knows: a wait all that its set knew, an entry what waits and barriers of its pipe knew before it, and
    what the scalar unit had waited for when it issued it; a set besides that all earlier entries of its pipe.
    """
    known: list[set[int]] = []
    pipes = {entry.pipe for entry in entries}
    of_pipe: dict[str, set[int]] = {pipe: set() for pipe in pipes}
    earlier: dict[str, set[int]] = {pipe: set() for pipe in pipes}
    scalar: set[int] = set()
    sets: dict[tuple[str, str, int], set[int]] = {}
    for number, entry in enumerate(entries):
        if entry.pipe == "ALL":
            everything = set(range(number))
            of_pipe = {pipe: set(everything) for pipe in pipes}
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
        known.append(set(of_pipe[entry.pipe]) | (earlier[entry.pipe] if entry.pipe in IN_ORDER else set()))
        earlier[entry.pipe].add(number)
    return known


def meet(first: Bytes, second: Bytes) -> bool:
    return any(memory == other and max(a.start, b.start) < min(a.stop, b.stop)
               for memory, a in first for other, b in second)


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


ENTRIES = {kind: {f"program{seed}": program(seed, kind) for seed in range(PROGRAMS)} for kind in PIPES}


@pytest.fixture(scope="module")
def kernels() -> dict[str, Kernels]:
    return {kind: Kernels({name: BEGIN[kind] + "\n".join(f"    {entry.text}" for entry in entries)
                           for name, entries in programs.items()}, kind=kind) for kind, programs in ENTRIES.items()}


@pytest.mark.parametrize("kind", PIPES)
def test_programs_of_both_kinds(kind: str):
    racing = sum(bool(races(entries)) for entries in ENTRIES[kind].values())
    assert PROGRAMS / 10 < racing < PROGRAMS * 19 / 20


@pytest.mark.sweep
@pytest.mark.parametrize("order", ["random", "early", "late", "program"])
@pytest.mark.parametrize("kind", PIPES)
def test_findings_are_races(kind: str, order: str, kernels: dict[str, Kernels]):
    lines = kernels[kind].source.splitlines()
    for name, entries in ENTRIES[kind].items():
        start = next(number for number, line in enumerate(lines) if f"void {name}(" in line)
        first = start + BEGIN[kind].count("\n") + 1
        expected, found = races(entries), set()
        try:
            kernels[kind].run(name, [np.zeros(1024, np.float16)], np.zeros(256 * 16, np.float32), order=order)
        except TwinError as error:
            for finding in error.findings:
                if finding.kind == "race" or finding.kind.startswith("missing PipeBarrier"):
                    partner = int(re.search(r"which \w+ at line (\d+)", finding.text)[1])
                    found.add((finding.line - first, partner - first))
        assert found <= expected, (name, [e.text for e in entries])
        assert bool(found) == bool(expected), (name, [e.text for e in entries])
