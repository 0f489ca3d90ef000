"""Kernels for Ascend on the twin: estimates beside the chip's peaks and what others have published, and how long
compiling and the twin take here.

    python -m benchmarks.ascend [add matmul attention time] [--size 4096] [--sequence 4096] [--heads 6]

The figures are those of a model of the 910B1 (docs/twin.md), not measurements. It leaves out conflicts of cores on one
512 B range, the instruction cache and the time of a launch: read ratios with that in mind. `published/ascend.csv` has
the figures of others, on boards of the same family.
"""

from __future__ import annotations

import argparse
import csv
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table

import tilus as tl
from kernels_zoo.attention.flash_attention import flash_attention_forward
from kernels_zoo.elementwise.vector_add import vector_add
from kernels_zoo.gemm.matmul import matmul
from tilus.twin import CHIPS, Report

ENGINE = "ascend910b:program"
CHIP = CHIPS["ascend910b1"]
PUBLISHED = Path(__file__).parent / "published" / "ascend.csv"
COMPILE_MOST = 0.3
TILES = {"BM": 128, "BN": 256, "BK": 128}
COMPILE = """\
import time
import tilus
from kernels_zoo.gemm.matmul import matmul
start = time.perf_counter()
matmul.compile("ascend910b", BM=128, BN=256, BK=128).ascendc
print(time.perf_counter() - start)
"""


class Row(NamedTuple):
    """A figure, its unit, and what it is compared with: the name and value of a peak or a bound."""

    what: str
    figure: float
    unit: str
    against: str = ""
    bound: float = 0.0

    @property
    def share(self) -> str:
        if not self.bound:
            return ""
        return f"{100 * self.figure / self.bound:.0f} % of {self.bound:,.0f} {self.unit} ({self.against})"


def estimate(kernel: tl.JitFunction, arguments: Sequence[Any], constants: dict[str, Any]) -> tuple[Report, float]:
    """The twin's report of a call, and the seconds that the twin took after compilation."""
    prepared = kernel.prepared(ENGINE, tuple(arguments), constants)
    runner = prepared.engine.make(prepared.specialisation)
    for name in runner.compiled.metadata["kernels"]:
        runner.program(name)
    start = time.perf_counter()
    runner.run(prepared.call.arguments)
    return runner.reports[0], time.perf_counter() - start


def numbers(shape: tuple[int, ...], dtype: Any = np.float16) -> Any:
    return np.random.default_rng(0).standard_normal(shape, np.float32).astype(dtype)


def shares(report: Report) -> Iterator[Row]:
    """How busy the busiest pipe of each kind of core is, that of the core where it works longest, and how busy a core
    is: how long some pipe of it works."""
    for side, pipes in report.busy.items():
        pipe, cycles = max(pipes.items(), key=lambda item: item[1])
        if cycles:
            yield Row(f"  {side}: {pipe} works", 100 * cycles / report.cycles, "%")
            yield Row(f"  {side}: some pipe works", 100 * report.worked[side] / report.cycles, "%")


def add(options: argparse.Namespace) -> Iterator[Row]:
    count = 1 << 24
    x, y, z = numbers((count,), np.float32), numbers((count,), np.float32), np.empty(count, np.float32)
    report, _ = estimate(vector_add, (x, y, z), {})
    yield Row("vector add, f32, 2^24", 12 * count / report.seconds / 1e9, "GB/s", "memory",
              CHIP.memory_bandwidth / 1e9)
    yield from shares(report)


def product(options: argparse.Namespace) -> Iterator[Row]:
    n = options.size
    report, _ = estimate(matmul, (numbers((n, n)), numbers((n, n)), np.empty((n, n), np.float16)), TILES)
    yield Row(f"matmul, f16, {n}³", 2 * n**3 / report.seconds / 1e12, "TFLOP/s", "matrix cores", CHIP.cube_peak / 1e12)
    yield from shares(report)


def attention(options: argparse.Namespace) -> Iterator[Row]:
    rows, heads, d = options.sequence, options.heads, 128
    q, k, v, o = (numbers((1, rows, heads, d)) for _ in range(4))
    report, _ = estimate(flash_attention_forward, (q, k, v, o, np.empty((1, heads, rows), np.float32)),
                         {"D": d, "causal": True})
    operations = 2 * rows**2 * d * heads  # half of those without a mask
    yield Row(f"attention, causal, f16, S = {rows}, D = {d}, {heads} heads", operations / report.seconds / 1e12,
              "TFLOP/s", "matrix cores", CHIP.cube_peak / 1e12)
    yield from shares(report)


def times(options: argparse.Namespace) -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as folder:
        _compile_seconds(folder)  # leaves bytecode, as pip does when it installs
        least = min(_compile_seconds(folder) for _ in range(3))
    yield Row("matmul to Ascend C, first in a process", 1e3 * least, "ms", "bound", 1e3 * COMPILE_MOST)
    n = 512
    arguments = (numbers((n, n)), numbers((n, n)), np.empty((n, n), np.float16))
    yield Row(f"the twin: matmul {n}³", min(estimate(matmul, arguments, TILES)[1] for _ in range(3)), "s")


def _compile_seconds(bytecode: str) -> float:
    """Of a new process with an empty cache."""
    with tempfile.TemporaryDirectory() as cache:
        environment = {**os.environ, "TILUS_CACHE_DIR": cache, "PYTHONPYCACHEPREFIX": bytecode,
                       "PYTHONPATH": os.getcwd()}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        done = subprocess.run([sys.executable, "-c", COMPILE], env=environment, capture_output=True, text=True,
                              check=True)
    return float(done.stdout)


PARTS: dict[str, Callable[[argparse.Namespace], Iterator[Row]]] = {
    "add": add, "matmul": product, "attention": attention, "time": times}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; all by default")
    parser.add_argument("--size", type=int, default=4096, help="of the square product")
    parser.add_argument("--sequence", type=int, default=4096)
    parser.add_argument("--heads", type=int, default=6)
    options = parser.parse_args()
    console = Console()
    table = Table("what", "figure", "of", title=f"Estimates of a model of the {CHIP.name}, not measurements",
                  title_justify="left")
    for part in options.parts or PARTS:
        for row in PARTS[part](options):
            table.add_row(row.what, f"{row.figure:,.4g} {row.unit}", row.share)
    console.print(table)
    with open(PUBLISHED, newline="") as file:
        rows = list(csv.DictReader(file))
    others = Table("what", "system", "board", "figure", title="Published by others, measured", title_justify="left")
    for row in rows:
        others.add_row(row["what"], row["system"], row["board"], f"{row['figure']} {row['unit']}")
    console.print(others)


if __name__ == "__main__":
    main()
