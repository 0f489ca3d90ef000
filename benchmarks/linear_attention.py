"""Linear attention in SASS, by both routes, beside Triton's kernels of the package flash-linear-attention.

    python -m benchmarks.linear_attention [--peer PYTHON]

PYTHON is that of an environment of its own, made by

    python -m venv fla && fla/bin/pip install torch numpy packaging einops triton
    fla/bin/pip install --no-deps flash-linear-attention fla-core

Nothing is run: cubins of sm_80 (bf16) are disassembled. What is counted is what a chunk of tokens takes: an iteration
of the loop along the sequence, or the whole of a kernel whose blocks have a chunk each, with the loops within as often
as they are run. The number is that of instructions per tensor-core instruction. Both have the same rate on sm_80 where
operands are bf16 (16×8×16) and tf32 (16×8×8), in which some of the peer's are.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

import tilus as tl
from benchmarks.gpu_code import MATRIX, instructions, labels, opcode
from kernels_zoo.linear_attention.gated_linear_attention import gla_gated_outputs, gla_outputs, gla_scores
from kernels_zoo.linear_attention.lightning import lightning_attention
from kernels_zoo.linear_attention.scalar_gated_attention import chunk_for, scalar_gated_outputs
from tilus.runtime.toolchains.binutils import disassemble

COLUMNS = ("kernel", "route", "registers", "spilled bytes", "instructions", "per HMMA", "peer", "spills", "per HMMA",
           "ratio")
Span = tuple[int, int]


@dataclass(frozen=True)
class Part:
    """A kernel of the peer. ``trips`` are the iterations of its loops, in order; ``walks`` where the last one with
    tensor-core instructions goes along the sequence. ``times`` is how often a chunk takes it."""

    name: str
    trips: tuple[float, ...] = ()
    walks: bool = False
    times: float = 1


@dataclass(frozen=True)
class Row:
    """One of the zoo's kernels, the iterations of the loops within its loop along the sequence (or along blocks), and
    the peer's kernels that do the same."""

    name: str
    kernel: Any
    constants: dict[str, Any]
    arrays: str
    peers: tuple[Part, ...]
    trips: tuple[float, ...] = ()


def loop_spans(sass: str) -> list[Span]:
    """First and last address of each loop, in order."""
    where, found = labels(sass), set()
    for address, text in instructions(sass):
        match = re.search(r"BRA.*?(\.L_x_\d+)", text)
        start = where.get(match[1]) if match else None
        if start is not None and start < address:
            found.add((start, address))
    return sorted(found)


def executed(sass: str, trips: tuple[float, ...], walks: bool) -> tuple[float, float]:
    """Instructions, and tensor-core instructions among them, of a chunk. ``trips`` are for the loops within the one
    along the sequence, or for all loops."""
    code, spans = instructions(sass), loop_spans(sass)
    if walks:
        def matrix(span: Span) -> int:
            return sum(opcode(t) in MATRIX for a, t in code if span[0] <= a <= span[1])

        most = max(map(matrix, spans))
        region = min((s for s in spans if matrix(s) == most), key=lambda s: (s[0], -s[1]))
        spans = [s for s in spans if s != region and region[0] <= s[0] and s[1] <= region[1]]
        code = [(a, t) for a, t in code if region[0] <= a <= region[1]]
    assert len(trips) == len(spans), f"{len(spans)} loops, iterations of {len(trips)}"
    total = matrices = 0.0
    for address, text in code:
        times = 1.0
        for span, count in zip(spans, trips, strict=True):
            times *= count if span[0] <= address <= span[1] else 1
        total += times
        matrices += times * (opcode(text) in MATRIX)
    return total, matrices


def spills(sass: str) -> int:
    """Stores to local memory."""
    return sum(opcode(t) == "STL" for _, t in instructions(sass))


def rows(d: int) -> list[Row]:
    """For heads of ``d`` channels."""
    both, blocks = {"D": d, "E": d}, d // 64
    scalar = {**both, "C": chunk_for(d, 16), "scale": d**-0.5}
    exact = {**scalar, "C": chunk_for(d, 16, exact=True), "o": tl.f32}
    inner = (blocks,) if blocks > 1 else ()
    dqk = Part("head_dqk", inner), Part("token_dqk", inner)
    found = [
        Row("lightning", lightning_attention, both, "q k v o", (Part("fused_head", walks=True),)),
        Row("lightning reversed", lightning_attention, {**both, "reverse": True}, "q k v o",
            (Part("fused_head_backward", walks=True),)),
        Row("lightning reversed", lightning_attention, {**both, "reverse": True}, "q k v o", (dqk[0],)),
        Row("scalar gates", scalar_gated_outputs, scalar, "q k v o", (Part("fused_token", walks=True),)),
        Row("scalar gates, exact", scalar_gated_outputs, exact, "q k v",
            (Part("fused_token_backward", walks=True),)),
        Row("scalar gates, exact", scalar_gated_outputs, exact, "q k v", (dqk[1],)),
        Row("gla scores", gla_scores, {"D": d}, "q k blocks a", (Part("gla_scores", inner),)),
        Row("gla outputs", gla_outputs, both, "queries keys a v o", (Part("gla_outputs", inner),)),
        Row("gla outputs", gla_outputs, both, "queries keys a v o", (Part("gla_states", walks=True),)),
        Row("gla outputs, backward", gla_outputs, both, "queries keys a v o", (Part("gla_dv", (d / 32,)),)),
        Row("gla gated outputs", gla_gated_outputs, both, "q k v", (
            Part("gla_dqk_intra", (1.5, 16, 1.5, 16), times=4 * blocks),
            Part("gla_dqk_inter", (d / 32,), times=d / 32)), trips=(4,)),
    ]
    if d == 128:  # whole rows of keys, of which the peer has room for with chunks of 32 tokens
        found.insert(1, Row("lightning", lightning_attention, both, "q k v o",
                            (Part("fused_head_32", walks=True),)))
        found.insert(5, Row("scalar gates", scalar_gated_outputs, scalar, "q k v o",
                            (Part("fused_token_32", walks=True),)))
    return found


def of_peer(folder: Path, parts: tuple[Part, ...], d: int) -> tuple[int, float]:
    """Spills of the peer's kernels, and instructions per tensor-core instruction of all together."""
    total = matrices = 0.0
    spilled = 0
    for part in parts:
        sass = disassemble((folder / f"{part.name}_d{d}.cubin").read_bytes())
        here, products = executed(sass, part.trips, part.walks)
        total, matrices = total + part.times * here, matrices + part.times * products
        spilled += spills(sass)
    return spilled, total / matrices


def compile_peer(python: str, folder: str) -> bool:
    """Whether the peer's kernels were compiled."""
    if subprocess.run([python, "-c", "import fla.ops, triton"], check=False, capture_output=True).returncode:
        print(f"{python} has no flash-linear-attention: see the text of this module; without it only the zoo's kernels "
              "are shown", file=sys.stderr)
        return False
    script = str(Path(__file__).with_name("triton_linear_attention.py"))
    subprocess.run([python, script, folder], check=True, stderr=subprocess.DEVNULL)
    return True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", help="the Python of an environment with flash-linear-attention, to compare with")
    options = parser.parse_args()
    table = Table(title="linear attention on sm_80, bf16: a chunk")
    for column in COLUMNS:
        table.add_column(column)
    with tempfile.TemporaryDirectory() as folder:
        has_peer = options.peer is not None and compile_peer(options.peer, folder)
        for d in (64, 128):
            for row in rows(d):
                peer = of_peer(Path(folder), row.peers, d) if has_peer else None
                for via in ("cuda", "ptx"):
                    arrays = dict.fromkeys(row.arrays.split(), tl.bf16)
                    compiled = row.kernel.compile(target="sm_80", via=via, **{**arrays, **row.constants})
                    total, matrices = executed(disassemble(compiled.cubin), row.trips, walks=True)
                    names = " + ".join(part.name for part in row.peers)
                    found = [f"{row.name} d{d}", via, compiled.metadata["registers"], compiled.metadata["spill_stores"],
                             f"{total:.0f}", f"{total / matrices:.2f}"]
                    found += [names, peer[0], f"{peer[1]:.2f}", f"{total / matrices / peer[1]:.2f}"] if peer else []
                    table.add_row(*map(str, found))
    Console(width=150).print(table)


if __name__ == "__main__":
    main()
