"""What the quantised products of the zoo compile to: instructions for each tensor-core instruction of the main loop.

    python -m benchmarks.quantized [--target sm_80] [--types u4 nf4 ...]

Weights are prepacked, with groups of 128 and f16 scales; unsigned integers have the zero point in the middle. Tiles are
128 × 128 and 16 × 128. Nothing is run: the cubins are disassembled. Peers' figures for u4, read the same way: 3.5
(TileLang, without scales), 4.4 (NVIDIA's tilus) and 5.3 (Triton) in large tiles; with 16 rows 13.2 (tilus) and 16.3
(Triton).
"""

from __future__ import annotations

import argparse
import warnings
from typing import Any

from rich.console import Console
from rich.table import Table

import tilus as tl
from benchmarks.gpu_code import main_loop
from kernels_zoo.quantized import matmul as zoo
from tilus.ir.dtypes import parse_dtype

TYPES = ("u1", "i2", "u2", "u3", "i4", "u4", "u5", "u6", "u7", "u8", "i8", "f3e1m1", "f4e2m1", "f5e2m2", "f6e3m2",
         "f7e3m3", "f8e4m3fn", "f8e5m2", "nf4", "ternary")
MARKS = {"128": 3.0, "16": 9.5}
"""For u4; others may take 1.6 times what it takes."""
ROUTES = ("ptx", "cuda")


def compiled(wtype: tl.DType, rows: str, target: str, route: str) -> Any:
    zero = float(1 << wtype.bits - 1) if wtype.kind == "uint" else 0.0
    constants: dict[str, Any] = {"wtype": wtype, "zero": zero, "zeros": None, "bias": None, "BM": 128}
    constants |= zoo.tile_of(wtype)
    kernel = zoo.quantized_matmul
    if rows == "16":
        kernel, constants["BK"], constants["BM"] = zoo.quantized_matmul_split_k, 128, 16
    return kernel.compile(target, via=route, prepacked=("w",), **constants)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--target", default="sm_80")
    parser.add_argument("--types", nargs="+", default=TYPES)
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # spills are in the table
    table = Table("weights", "rows", "route", "instructions / HMMA", "× u4", "registers", "spilled bytes", "mark")
    of_u4: dict[tuple[str, str], float] = {}
    for name in dict.fromkeys(("u4", *options.types)):
        for rows in MARKS:
            for route in ROUTES:
                found = compiled(parse_dtype(name), rows, options.target, route)
                loop = main_loop(found.sass())
                figure = loop.total / loop.matrix
                ratio = figure / of_u4.setdefault((rows, route), figure)
                holds = figure <= MARKS[rows] if name == "u4" else ratio <= 1.6
                table.add_row(name, rows, route, f"{figure:.2f}", f"{ratio:.2f}", str(found.metadata["registers"]),
                              str(found.metadata["spill_stores"]), "holds" if holds else "missed")
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
