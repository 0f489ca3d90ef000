"""The figures of a kernel: instructions of its machine code, what its PTX does on the simulator, compile time."""

from __future__ import annotations

import math
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

import tilus as tl
from benchmarks.gpu_code.cases import Work
from benchmarks.gpu_code.sass import busiest_loop, instructions, opcode, work_of
from tilus.runtime.compile import compile_specialisation
from tilus.runtime.nvidia import engines
from tilus.runtime.specialise import Specialisation
from tilus.runtime.toolchains.binutils import disassemble
from tilus.simulator import Report

SPILLS = ("LDL", "STL")


@dataclass(frozen=True)
class Figures:
    """Of one way to compile a kernel.

    Attributes:
        sass: instructions of a unit of work, or of the whole kernel.
        dyn: warp instructions of PTX that the launch executes.
        work: those but for moves, of which ptxas keeps few.
        sectors: of 32 bytes of global memory.
        wavefronts: of shared memory.
        spills: instructions that move registers to or from local memory.
        seconds: of the processor, for the compilation.
    """

    sass: float
    dyn: int
    work: int
    sectors: int
    wavefronts: int
    spills: int
    registers: int
    seconds: float


def counted(sass: str, unit: int, warps: int) -> tuple[float, int]:
    """Instructions of a unit of work of so many products by a block, and instructions on local memory."""
    code = [text for _, text in instructions(sass)]
    spills = sum(n for op, n in Counter(map(opcode, code)).items() if op in SPILLS)
    loop = busiest_loop(sass) if unit else []
    done = work_of(loop) * warps
    return (len(loop) * unit / done if done else float(len(code))), spills


def simulated(reports: Sequence[Report]) -> tuple[int, int, int, int]:
    """Instructions, those but for moves, sectors and wavefronts of launches."""
    everything = sum(r.total_instructions for r in reports)
    moves = sum(r.instructions.get("move", 0) for r in reports)
    return (everything, everything - moves, sum(r.global_sectors for r in reports),
            sum(r.shared_wavefronts for r in reports))


def padding(reports: Sequence[Report], total: int) -> float:
    """How many products matrix instructions of a launch compute for each that is asked for; 1 where that is not
    said."""
    done = 0
    for report in reports:
        for line, count in report.lines.items():
            shape = re.search(r"\bmma\.\S*\.m(\d+)n(\d+)k(\d+)", report.source[line - 1])
            done += count * math.prod(map(int, shape.groups())) if shape else 0
    return max(1.0, done / total) if total else 1.0


@contextmanager
def launches() -> Iterator[list[tuple[Specialisation, list[Any]]]]:
    """What is simulated meanwhile: each specialisation with the reports of its kernels."""
    found: list[tuple[Specialisation, list[Any]]] = []
    run = engines._Simulated.run

    def noted(self: Any, arguments: Sequence[Any]) -> None:
        run(self, arguments)
        found.append((self.specialisation, list(self.reports)))

    engines._Simulated.run = noted  # type: ignore[method-assign]
    try:
        yield found
    finally:
        engines._Simulated.run = run  # type: ignore[method-assign]


def ours(work: Work, target: str, route: str) -> tuple[Figures, list[Any]]:
    """The figures of our kernel by a route, and what it has written."""
    with launches() as found:
        given = work.kernel.on(f"simulate:{target}:{route}")(*work.arguments, **work.constants)
    sass, spills, registers, seconds = 0.0, 0, 0, 0.0
    for specialisation, _ in found:
        begun = sum(os.times()[:4])
        compiled = compile_specialisation(specialisation, target, route)
        seconds += sum(os.times()[:4]) - begun
        part, more = counted(disassemble(compiled.cubin), work.unit, work.warps)
        sass, spills = sass + part, spills + more
        registers = max(registers, compiled.metadata["registers"])
    results = [np.array(o) for o in work.outputs]
    if isinstance(work.kernel, tl.FusedFunction):
        results = [np.asarray(a) for a in (given if isinstance(given, tuple) else (given,))]
    reports = [r for _, some in found for r in some]
    dyn, less, sectors, wavefronts = simulated(reports)
    sass *= padding(reports, work.total)
    return Figures(sass, dyn, less, sectors, wavefronts, spills, registers, seconds), results


__all__ = ["Figures", "counted", "launches", "ours", "padding", "simulated"]
