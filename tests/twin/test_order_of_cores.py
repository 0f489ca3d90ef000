"""Random programs of a cube core and its two vector cores that share an array in GM: races are those of a relation."""

from __future__ import annotations

import random
import re
from typing import NamedTuple

import numpy as np
import pytest

from tests.twin.harness import Kernels
from tilus.twin import TwinError

PROGRAMS = 60
CUBE, FIRST, SECOND = 0, 1, 2
PIPES = {CUBE: ("MTE2", "FIX"), FIRST: ("MTE2", "MTE3"), SECOND: ("MTE2", "MTE3")}


class Entry(NamedTuple):
    """A copy with the elements of GM that it reads or writes, or a set of or wait for a cross-core flag."""

    text: str
    kind: str
    core: int
    pipe: str
    number: int = 0
    elements: range = range(0)
    write: bool = False


def copy(core: int, random_: random.Random) -> Entry:
    pipe = random_.choice(PIPES[core])
    start = random_.randrange(7) * 64
    if pipe == "FIX":
        # Sixteen rows of 16 numbers, of which one is written.
        text = f"Fixpipe<float, float, CFG_ROW_MAJOR>(gm<float>(c)[{start}], l0c, fix);"
        return Entry(text, "copy", core, pipe, elements=range(start, start + 16), write=True)
    count = random_.choice((16, 64))
    elements = range(start, start + count)
    local = "l1" if core == CUBE else "x"
    if pipe == "MTE2":
        # Places of its own for each copy: what is asked for is the order of GM.
        text = f"DataCopy({local}[64 * n++], gm<float>(c)[{start}], {count});"
        return Entry(text, "copy", core, pipe, elements=elements)
    text = f"DataCopy(gm<float>(c)[{start}], x[4032], {count});"
    return Entry(text, "copy", core, pipe, elements=elements, write=True)


def program(seed: int) -> list[Entry]:
    """Rounds of copies; between two of them all cores meet at a flag, or two do, in an order that cannot lock."""
    random_ = random.Random(seed)
    entries = []
    for number in range(random_.randrange(2, 5)):
        for core in PIPES:
            entries += [copy(core, random_) for _ in range(random_.randrange(2))]
        mode = random_.choice((1, 2, 3, 4))
        # Mode 1 joins the vector cores. Mode 2 goes from the cube core to both (2), back (3), or both ways (4).
        sets = {1: (FIRST, SECOND), 2: (CUBE,), 3: (FIRST, SECOND), 4: (FIRST, SECOND, CUBE)}[mode]
        waits = {1: (FIRST, SECOND), 2: (FIRST, SECOND), 3: (CUBE,), 4: (FIRST, SECOND, CUBE)}[mode]
        real = 1 if mode == 1 else 2
        for core in sets:
            pipe = random_.choice(PIPES[core])
            entries.append(Entry(f"CrossCoreSetFlag<{real}, PIPE_{pipe}>({number});", "set", core, pipe, number))
        for core in waits:
            pipe = random_.choice(("S", *PIPES[core]))
            entries.append(Entry(f"CrossCoreWaitFlag<{real}, PIPE_{pipe}>({number});", "wait", core, pipe, number))
    for core in PIPES:
        entries += [copy(core, random_) for _ in range(random_.randrange(2))]
    return entries


def races(entries: list[Entry]) -> set[tuple[int, int]]:
    """Pairs of copies that share elements, of which one writes, and neither of which is complete before the other."""
    of_pipe: dict[tuple[int, str], set[int]] = {(core, pipe): set() for core in PIPES for pipe in ("S", *PIPES[core])}
    earlier: dict[tuple[int, str], set[int]] = {key: set() for key in of_pipe}
    sets: dict[tuple[int, bool], set[int]] = {}
    known: list[set[int]] = []
    for number, entry in enumerate(entries):
        key = (entry.core, entry.pipe)
        of_pipe[key] |= of_pipe[entry.core, "S"]
        if entry.kind == "set":
            # One side's sets are one, which knows what all of its cores know.
            of_side = sets.setdefault((entry.number, entry.core == CUBE), set())
            of_side |= of_pipe[key] | earlier[key]
        elif entry.kind == "wait":
            own = entry.core == CUBE
            among_vectors = entry.text.startswith("CrossCoreWaitFlag<1")
            of_pipe[key] |= sets[entry.number, own if among_vectors else not own]
        known.append(of_pipe[key] | (earlier[key] if entry.pipe == "FIX" else set()))
        earlier[key].add(number)
    found = set()
    for late, one in enumerate(entries):
        for early, other in enumerate(entries[:late]):
            shared = max(one.elements.start, other.elements.start) < min(one.elements.stop, other.elements.stop)
            if shared and (one.write or other.write) and early not in known[late]:
                found.add((early, late))
    return found


CORES = {CUBE: "if ASCEND_IS_AIC {", FIRST: "if (ASCEND_IS_AIV && GetSubBlockIdx() == 0) {",
         SECOND: "if (ASCEND_IS_AIV && GetSubBlockIdx() == 1) {"}
BEGIN = """    LocalTensor<float> x(TPosition::VECIN, 0, 4096), l1(TPosition::A1, 0, 4096), l0c(TPosition::CO1, 0, 256);
    FixpipeParamsV220 fix;
    fix.nSize = fix.srcStride = fix.dstStride = 16;
    fix.mSize = 1;
    if ASCEND_IS_AIV {
        DataCopy(x[4032], gm<float>(a), 64);
        step();
    }
    if ASCEND_IS_AIC {
        LocalTensor<half> left(TPosition::A2, 0, 256), right(TPosition::B2, 0, 256);
        Fill(left, InitConstValueParams<half>(1, 1, 0, half(1.0f)));
        Fill(right, InitConstValueParams<half>(1, 1, 0, half(1.0f)));
        step();
        MmadParams product;
        product.m = product.n = product.k = 16;
        Mmad(l0c, left, right, product);
        step();
    }
"""


def source_of(entries: list[Entry]) -> tuple[str, dict[int, int]]:
    """The body of a kernel, and the number of the entry on each of its lines."""
    lines, numbers = BEGIN.splitlines(), {}
    for core, condition in CORES.items():
        lines.append(f"    {condition}")
        for number, entry in enumerate(entries):
            if entry.core == core:
                numbers[len(lines)] = number
                lines.append(f"        {entry.text}")
        lines.append("    }")
    return "\n".join(lines), numbers


ENTRIES = {f"program{seed}": program(seed) for seed in range(PROGRAMS)}


@pytest.fixture(scope="module")
def kernels() -> Kernels:
    return Kernels({name: source_of(entries)[0] for name, entries in ENTRIES.items()}, kind="MIX_AIC_1_2")


def test_programs_of_both_kinds():
    racing = sum(bool(races(entries)) for entries in ENTRIES.values())
    assert PROGRAMS / 10 < racing < PROGRAMS * 19 / 20


@pytest.mark.parametrize("order", ["random", "early", "late", "program"])
def test_findings_are_races(order: str, kernels: Kernels):
    lines = kernels.source.splitlines()
    for name, entries in ENTRIES.items():
        start = next(number for number, line in enumerate(lines) if f"void {name}(" in line) + 2
        numbers = source_of(entries)[1]
        expected, found, findings = races(entries), set(), ()
        try:
            kernels.run(name, [np.zeros(64, np.float32)] * 2 + [np.zeros(512, np.float32)], np.zeros(1), order=order)
        except TwinError as error:
            findings = error.findings
        for finding in findings:
            assert finding.kind.split("<")[0] in ("race", "missing PipeBarrier"), (name, str(finding))
            partner = int(re.search(r"which \w+ at line (\d+)", finding.text)[1])
            found.add(tuple(sorted((numbers[finding.line - start], numbers[partner - start]))))
        assert found <= expected, (name, [(e.core, e.text) for e in entries])
        assert bool(found) == bool(expected), (name, [(e.core, e.text) for e in entries])
