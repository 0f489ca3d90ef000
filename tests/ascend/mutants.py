"""Emitted kernels less one or two of their flags and barriers, on the twin: what nobody misses need not be there.

``python -m tests.ascend.mutants [KERNEL …]`` drops every line, and every pair of a set and a wait of one flag.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import tilus as tl
from kernels_zoo.attention import flash_attention
from kernels_zoo.checking import Case, relative_error
from kernels_zoo.gemm import matmul
from kernels_zoo.normalization import softmax
from tests.ascend.by_queues import apart, asking_for_queues
from tilus.runtime.ascend.engine import TwinRunner
from tilus.runtime.jit import Prepared
from tilus.twin import TwinError, build

MARK = re.compile(r"\s*(SetFlag|WaitFlag|PipeBarrier|CrossCoreSetFlag|CrossCoreWaitFlag)<([^>]*)>\((.*)\);$")
STEP = re.compile(r"\s*(?:\w+ = )?(\w+)\.(EnQue|DeQue|FreeTensor)(?:<\w+>)?\((\w*)\);$")
ORDERS = (("late", 0), ("early", 0), ("program", 0), ("random", 1), ("random", 2))
MOST_INSTRUCTIONS = 10**6
MOST_BLOCKS = 2
"""Few, so that each has more than one of the grid's."""


class Mark(NamedTuple):
    """A line that orders something: its number, the call, its template arguments and its arguments; of a step of a
    queue the queue and the tensor."""

    line: int
    call: str
    what: str
    number: str

    def __str__(self) -> str:
        return f"{self.call}<{self.what}>({self.number})"


class Subject(NamedTuple):
    """A kernel and calls of one specialisation of it; ``queues`` is how many buffers queues have that it asks for."""

    kernel: tl.JitFunction
    cases: Sequence[Callable[[], Case]]
    queues: int = 0


def products(m: int, n: int, k: int) -> Case:
    """A product of small tiles, so that a core has many."""
    case = matmul.case((m, n, k), tl.f16)
    case.constants |= {"BM": 32, "BN": 48, "BK": 32}
    return case


SUBJECTS = {
    "matmul": Subject(matmul.matmul, [lambda: products(150, 150, 100), lambda: products(70, 250, 30)]),
    "softmax": Subject(softmax.softmax, [lambda: softmax.case((11, 5000), tl.f16),
                                         lambda: softmax.case((7, 2048), tl.f16),
                                         lambda: softmax.case((7, 0), tl.f16)]),
    "attention": Subject(flash_attention.flash_attention_forward,
                         [lambda: flash_attention.case((1, 300, 300, 2, 1, 64), tl.f16, causal=True),
                          lambda: flash_attention.case((1, 130, 1300, 2, 1, 64), tl.f16, causal=True)]),
}
SUBJECTS |= {f"{name} by queues": SUBJECTS[name]._replace(kernel=apart(SUBJECTS[name].kernel), queues=2)
             for name in ("softmax", "attention")}


def marks_of(source: str) -> list[Mark]:
    """What orders something in a source, by lines; the barrier at the end is for the kernels that follow."""
    found = []
    for n, line in enumerate(source.splitlines(), 1):
        if match := MARK.match(line):
            found.append(Mark(n, *match.groups()))
        elif match := STEP.match(line):
            found.append(Mark(n, match[2], match[1], match[3]))
    return [mark for mark in found if mark.what != "PIPE_ALL"]


def pairs_of(marks: Sequence[Mark]) -> list[tuple[Mark, Mark]]:
    """Every set of a flag with every wait for it that is written alike, and every EnQue with every DeQue of its
    queue."""
    return [(a, b) for a in marks for b in marks
            if (a.call.endswith("SetFlag") and b.call == a.call.replace("Set", "Wait") and a.number == b.number
                and (a.what == b.what or a.call.startswith("CrossCore")))
            or (a.call, b.call, a.what) == ("EnQue", "DeQue", b.what)]


class MutantRunner(TwinRunner):
    """Runs kernels less the lines in ``dropped``: one program does all mutants, for which lines it leaves out are
    two more arguments."""

    dropped: Sequence[int] = ()

    def program(self, kernel: str) -> Any:
        if kernel not in self.programs:
            lines = self.compiled.ascendc.splitlines()
            for mark in marks_of(self.compiled.ascendc):
                lines[mark.line - 1] = f"if (leftOut != {mark.line} && alsoOut != {mark.line}) {lines[mark.line - 1]}"
            source = "\n".join(lines)
            end = source.index(") {", source.index(f"void {kernel}("))
            self.programs[kernel] = build(f"{source[:end]}, int64_t leftOut, int64_t alsoOut{source[end:]}\n", kernel,
                                          [*self.compiled.parameter_types(kernel), "int64_t", "int64_t"])
        return _Dropping(self.programs[kernel], (*self.dropped, 0, 0)[:2])


class _Dropping:
    def __init__(self, program: Any, dropped: Sequence[int]) -> None:
        self.whole, self.dropped = program, dropped

    def run(self, values: Sequence[Any], **options: Any) -> Any:
        blocks = min(options.pop("blocks"), MOST_BLOCKS)
        return self.whole.run([*values, *self.dropped], blocks=blocks, most_instructions=MOST_INSTRUCTIONS, **options)


class Mutants:
    """The mutants of one subject."""

    def __init__(self, subject: Subject) -> None:
        self.subject, case = subject, subject.cases[0]()
        prepared = self.prepared(case)
        with asking_for_queues(subject.queues):
            self.runner = MutantRunner(prepared.specialisation, "ascend910b", "late", 0)
        self.source: str = self.runner.compiled.ascendc
        self.marks = marks_of(self.source)

    def prepared(self, case: Case) -> Prepared:
        with asking_for_queues(self.subject.queues):
            return self.subject.kernel.prepared("ascend910b", case.arguments, case.constants)

    def is_found(self, dropped: Sequence[Mark]) -> bool:
        """Whether the twin has a finding, or gives a wrong result, in one of the orders."""
        self.runner.dropped = [mark.line for mark in dropped]
        return any(self._fails(make(), order, seed) for order, seed in ORDERS for make in self.subject.cases)

    def _fails(self, case: Case, order: str, seed: int) -> bool:
        prepared = self.prepared(case)
        self.runner.order, self.runner.seed = order, seed
        try:
            self.runner.run(prepared.call.arguments)
        except TwinError:
            return True
        return not all(relative_error(output, reference) <= case.tolerance
                       for output, reference in zip(case.outputs, case.references, strict=True))


def main(names: Sequence[str]) -> None:
    """Print what nobody misses."""
    for name in names or SUBJECTS:
        mutants = Mutants(SUBJECTS[name])
        assert not mutants.is_found(())
        for word, candidates in (("lines", [(mark,) for mark in mutants.marks]), ("pairs", pairs_of(mutants.marks))):
            missed = [c for c in candidates if not mutants.is_found(c)]  # type: ignore[attr-defined]
            print(f"{name}: {len(candidates) - len(missed)} of {len(candidates)} {word} are missed", flush=True)
            for dropped in missed:
                print("    nobody misses " + " and ".join(f"line {m.line}: {m}" for m in dropped), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
