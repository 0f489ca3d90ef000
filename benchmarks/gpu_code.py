"""What the main loops of the zoo's kernels look like in SASS, by both routes: instructions per tile, registers, spills.

    python -m benchmarks.gpu_code [--target sm_80] [--cubins DIR] [--peer PYTHON]

Nothing is run: the cubins are disassembled. The loop of a kernel is the innermost one with the most tensor-core
instructions. Peers' figures for the same tiles, read the same way, are printed beside (see PEERS).
"""

from __future__ import annotations

import argparse
import re
import subprocess
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

import tilus as tl
from kernels_zoo.attention.flash_attention import flash_attention_forward
from kernels_zoo.attention.flash_attention_backward import attention_backward_keys, attention_backward_queries
from kernels_zoo.elementwise.vector_add import vector_add
from kernels_zoo.gemm.matmul import matmul
from kernels_zoo.normalization.layer_norm import layer_norm
from kernels_zoo.normalization.softmax import softmax
from tilus.runtime.toolchains.binutils import disassemble

INTEGER = frozenset({
    "IMAD", "IADD3", "LOP3", "IADD", "SHF", "LEA", "ISETP", "PRMT", "VIADD", "IMNMX", "VIADDMNMX", "VIMNMX", "SEL",
    "LOP", "SHL", "SHR", "PLOP3", "POPC", "BREV", "IABS", "I2FP", "SGXT", "BMSK", "IDP", "VABSDIFF", "R2P",
})
"""Integer instructions outside of the uniform datapath."""
MATRIX = frozenset({"HMMA", "IMMA", "DMMA", "HGMMA", "QMMA"})
PEERS = {"matmul": "122 (INT/MMA 0.43), static shapes", "attention d64": "616, static or dynamic length",
         "attention d128": "511", "backward": "with --peer"}
"""The best of Triton, TileLang, CuTe DSL, cuTile and NVIDIA's tilus on sm_80, measured in November 2026."""


COLUMNS = (
    "kernel", "route", "registers", "spilled bytes", "instructions", "INT/MMA", "LDSM", "SHFL", "BAR", "best peer",
)


@dataclass(frozen=True)
class Loop:
    """One loop of a kernel: its instructions by opcode, modifiers dropped, without NOPs."""

    opcodes: Counter[str]

    @property
    def total(self) -> int:
        return sum(self.opcodes.values())

    @property
    def matrix(self) -> int:
        return sum(n for op, n in self.opcodes.items() if op in MATRIX)

    @property
    def integer(self) -> int:
        return sum(n for op, n in self.opcodes.items() if op in INTEGER)


def instructions(sass: str) -> list[tuple[int, str]]:
    """Address and text of every instruction of a disassembly, NOPs left out."""
    found = []
    for line in sass.splitlines():
        match = re.match(r"\s*/\*([0-9a-f]{4,})\*/\s+(.*?)\s*;", line)
        if match and not match[2].startswith("NOP"):
            found.append((int(match[1], 16), match[2]))
    return found


def opcode(text: str) -> str:
    words = text.split()
    return words[1 if words[0].startswith("@") else 0].split(".")[0]


def labels(sass: str) -> dict[str, int]:
    """The address that each label stands before."""
    found: dict[str, int] = {}
    waiting: list[str] = []
    for line in sass.splitlines():
        label = re.match(r"\s*(\.L_x_\d+):", line)
        if label:
            waiting.append(label[1])
        address = re.match(r"\s*/\*([0-9a-f]{4,})\*/", line)
        if address and waiting:
            found.update(dict.fromkeys(waiting, int(address[1], 16)))
            waiting.clear()
    return found


def innermost_loops(sass: str) -> list[list[str]]:
    """The instructions of each loop of a disassembly, from the target of a backward branch to the branch, that holds no
    other loop."""
    code, where = instructions(sass), labels(sass)
    found = []
    for address, text in code:
        match = re.search(r"BRA.*?(\.L_x_\d+)", text)
        start = where.get(match[1]) if match else None
        if start is not None and start < address:
            found.append((start, address))
    inner = [(start, end) for start, end in found
             if not any(start <= first and last < end for first, last in found)]
    return [[t for a, t in code if start <= a <= end] for start, end in inner]


def loop_instructions(sass: str) -> list[str]:
    """The smallest of the innermost loops that hold the most tensor-core instructions; empty where none holds any."""
    found = [(sum(opcode(t) in MATRIX for t in loop), loop) for loop in innermost_loops(sass)]
    found = [(matrix, loop) for matrix, loop in found if matrix]
    return min(found, key=lambda f: (-f[0], len(f[1])))[1] if found else []


def main_loop(sass: str) -> Loop | None:
    """:func:`loop_instructions`, counted."""
    found = loop_instructions(sass)
    return Loop(Counter(map(opcode, found))) if found else None


CASES: list[tuple[str, Any, dict[str, Any], int]] = [
    ("matmul 128×128×32, 3 stages", matmul, {"stages": 3}, 64),
    ("matmul 128×128×32, 4 stages", matmul, {"stages": 4}, 64),
    ("attention d64, 128×64", flash_attention_forward, {}, 128),
    ("attention d64, 128×64, causal", flash_attention_forward, {"causal": True}, 128),
    ("attention d128, 128×64, 8 warps", flash_attention_forward, {"D": 128, "BM": 128, "warps": 8}, 128),
    ("attention d128, 128×64, 8 warps, causal", flash_attention_forward,
     {"D": 128, "BM": 128, "warps": 8, "causal": True}, 128),
    *(("backward keys " + name, attention_backward_keys, constants, 128) for name, constants in (
        ("d64, 64×64", {}), ("d64, 64×64, causal", {"causal": True}), ("d128, 32×128", {"D": 128}),
        ("d128, 32×128, causal", {"D": 128, "causal": True, "group": 1}))),
    *(("backward queries " + name, attention_backward_queries, constants, 96) for name, constants in (
        ("d64, 128×32", {}), ("d64, 128×32, causal", {"causal": True}), ("d128, 128×64", {"D": 128}),
        ("d128, 128×64, causal", {"D": 128, "causal": True}))),
]
"""Name, kernel, constants, and the tensor-core instructions of one tile."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", default="sm_80")
    parser.add_argument("--cubins", type=Path, help="keep the cubins in this folder")
    parser.add_argument("--peer", help="the Python of an environment with Triton, to compare with")
    options = parser.parse_args()
    table = Table(title=f"main loops on {options.target}, per tile")
    for column in COLUMNS:
        table.add_column(column)
    for name, kernel, constants, per_tile in CASES:
        for via in ("cuda", "ptx"):
            compiled = kernel.compile(target=options.target, via=via, **constants)
            if options.cubins:
                options.cubins.mkdir(parents=True, exist_ok=True)
                (options.cubins / f"{kernel.__name__}_{via}_{len(table.rows)}.cubin").write_bytes(compiled.cubin)
            loop = main_loop(disassemble(compiled.cubin))
            if loop is None:
                table.add_row(name, via, "no loop with tensor-core instructions")
                continue
            tiles = loop.matrix / per_tile
            row = [f"{loop.total / tiles:.1f}", f"{loop.integer / loop.matrix:.2f}"]
            row += [f"{loop.opcodes[op] / tiles:.1f}" for op in ("LDSM", "SHFL", "BAR")]
            table.add_row(name, via, str(compiled.metadata["registers"]), str(compiled.metadata["spill_stores"]), *row,
                          next(peer for start, peer in PEERS.items() if name.startswith(start)))
    Console(width=150).print(table)
    print_row_wise(options.peer)
    if options.peer:
        print_backward(options.peer)


def print_backward(peer: str) -> None:
    """Instructions per tensor-core instruction of attention's backward pass on sm_80, with the peer's tiles."""
    table = Table(title="attention's backward pass on sm_80, f16, the peer's tiles: instructions per HMMA")
    for column in ("kernel", "route", "registers", "spilled bytes", "instructions", "per HMMA", "Triton", "ratio"):
        table.add_column(column)
    rows: list[tuple[str, int, Any, dict[str, int]]] = [
        ("keys", 64, attention_backward_keys, {"BM": 64, "BN": 64, "warps": 4}),
        ("keys", 128, attention_backward_keys, {"BM": 64, "BN": 128, "warps": 8}),
        ("queries", 64, attention_backward_queries, {"BM": 64, "BN": 64, "warps": 4}),
        ("queries", 128, attention_backward_queries, {"BM": 128, "BN": 64, "warps": 8}),
    ]
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([peer, str(Path(__file__).with_name("triton_attention_backward.py")), folder], check=True,
                       stderr=subprocess.DEVNULL)
        for part, head_dim, kernel, tile in rows:
            peers = main_loop(disassemble((Path(folder) / f"{part}_d{head_dim}.cubin").read_bytes()))
            assert peers is not None
            theirs = peers.total / peers.matrix
            for via in ("cuda", "ptx"):
                compiled = kernel.compile(target="sm_80", via=via, D=head_dim, **tile)
                loop = main_loop(disassemble(compiled.cubin))
                assert loop is not None
                ours = loop.total / loop.matrix
                table.add_row(f"{part} d{head_dim}", via, str(compiled.metadata["registers"]),
                              str(compiled.metadata["spill_stores"]), str(loop.total), f"{ours:.2f}", f"{theirs:.2f}",
                              f"{ours / theirs:.2f}")
    Console(width=150).print(table)


def counted(sass: str) -> tuple[int, int, int]:
    """Instructions, and loads and stores of 128 bits and of fewer, of a whole kernel."""
    code = [t for _, t in instructions(sass)]
    memory = [t for t in code if opcode(t) in ("LDG", "STG")]
    wide = sum(".128" in t for t in memory)
    return len(code), wide, len(memory) - wide


def print_row_wise(peer: str | None) -> None:
    """Row-wise kernels on sm_80, four warps, tiles of one row and 1024 columns: ``fits`` reads rows once."""
    flat = Table(title="row-wise kernels on sm_80, whole kernel, 4 warps, tiles of 1×1024")
    for column in ("kernel", "type", "route", "registers", "instructions", "128-bit accesses", "others", "Triton",
                   "ratio"):
        flat.add_column(column)
    rows: list[tuple[str, Any, tuple[str, ...], dict[str, Any]]] = [
        ("vector_add", vector_add, ("x", "y", "z"), {}),
        ("softmax_fits", softmax, ("x", "y"), {"fits": True}),
        ("softmax", softmax, ("x", "y"), {}),
        ("layer_norm_fits", layer_norm, ("x", "weight", "bias", "y"), {"fits": True}),
        ("layer_norm", layer_norm, ("x", "weight", "bias", "y"), {}),
    ]
    with tempfile.TemporaryDirectory() as folder:
        if peer:
            subprocess.run([peer, str(Path(__file__).with_name("triton_row_wise.py")), folder], check=True,
                           stderr=subprocess.DEVNULL)
        for name, kernel, arrays, constants in rows:
            for dtype in (tl.f32, tl.f16):
                cubin = Path(folder) / f"{name}_{dtype}.cubin"
                theirs = counted(disassemble(cubin.read_bytes()))[0] if peer else None
                for via in ("cuda", "ptx"):
                    compiled = kernel.compile(target="sm_80", via=via, **constants, **dict.fromkeys(arrays, dtype))
                    ours, wide, others = counted(disassemble(compiled.cubin))
                    flat.add_row(name, str(dtype), via, str(compiled.metadata["registers"]), str(ours), str(wide),
                                 str(others), str(theirs or "-"), f"{ours / theirs:.2f}" if theirs else "-")
    Console(width=150).print(flat)


if __name__ == "__main__":
    main()
