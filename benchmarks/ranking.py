"""What the model prefers among variants for a GPU, and whether it puts planted mistakes behind their clean twins.

    python -m benchmarks.ranking [matmul] [attention] [planted] [before] [--target sm_80]

Known sins are counted in the machine code: spilled bytes, passes of shared memory beyond the least, and the part of the
last wave that is empty. The tenth that the model likes best is compared with all others. ``before`` compares what is
known before compiling (``ranking_before.py``). Nothing is run.
"""

from __future__ import annotations

import argparse
import itertools
import time
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

import tilus as tl
from benchmarks.ranking_before import compare
from kernels_zoo.attention.flash_attention import flash_attention_forward
from kernels_zoo.gemm.matmul import matmul
from tilus.diagnostics import TilusError
from tilus.model.gpu import board_for, model_call
from tilus.model.profile import LaunchProfile
from tilus.targets import get_target

console = Console(width=140)


@dataclass(frozen=True)
class Variant:
    """A variant with the model's time and its sins."""

    name: str
    seconds: float
    spilled: int
    conflicts: float
    empty: float


def matmul_variants() -> Iterator[dict[str, Any]]:
    for bm, bn, bk, stages, warps in itertools.product((32, 64, 128, 256), (32, 64, 128, 256), (16, 32, 64), (2, 3, 4),
                                                       (4, 8)):
        if 2 * stages * bk * (bm + bn) <= 163 * 1024 and bm * bn // warps <= 8192 and bm * bn // warps >= 256:
            yield {"BM": bm, "BN": bn, "BK": bk, "stages": stages, "warps": warps}


def attention_variants(causal: bool) -> Iterator[dict[str, Any]]:
    for bm, bn, stages, warps in itertools.product((32, 64, 128), (32, 64, 96, 128), (1, 2, 3, 4), (4, 8)):
        if bm // warps >= 8:
            yield {"BM": bm, "BN": bn, "stages": stages, "warps": warps, "causal": causal, "D": 64}


def variant_of(name: str, kernel: Any, constants: Mapping[str, Any], arguments: Mapping[str, Any],
               target: str) -> Variant:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        compiled = kernel.compile(target, **constants)
    launches = model_call(compiled, arguments, board_for(get_target(target)))
    spilled = compiled.metadata["spill_stores"] + compiled.metadata["spill_loads"]
    return Variant(name, sum(launch.model.seconds for launch in launches), spilled,
                   max(map(conflicts, launches)), max(map(empty, launches)))


def conflicts(launch: LaunchProfile) -> float:
    """Passes of shared memory for each that is needed, less one."""
    done = needed = 0.0
    for number, access in launch.sample.accesses.items():
        times = launch.model.executed.get(number, 0.0) * access.requests
        done += times * access.wavefronts
        needed += times * access.least_wavefronts
    return done / needed - 1 if needed else 0.0


def empty(launch: LaunchProfile) -> float:
    """The share of the machine's time in waves that has no block."""
    waves = launch.model.waves
    return 1 - waves / np.ceil(waves) if waves else 0.0


def rank(title: str, variants: list[Variant], seconds: float) -> None:
    ordered = sorted(variants, key=lambda v: v.seconds)
    best, others = ordered[:max(1, len(ordered) // 10)], ordered[max(1, len(ordered) // 10):]
    table = Table("", "variants", "spilled bytes", "with spills", "conflicts", "empty waves",
                  title=f"{title}: {len(variants)} variants, {seconds:.0f} s")
    for name, group in (("best tenth by the model", best), ("others", others)):
        table.add_row(name, str(len(group)), f"{np.mean([v.spilled for v in group]):.1f}",
                      f"{np.mean([v.spilled > 0 for v in group]):.0%}",
                      f"{np.mean([v.conflicts for v in group]):.1%}", f"{np.mean([v.empty for v in group]):.1%}")
    console.print(table)
    console.print("best: " + "; ".join(f"{v.name} {v.seconds * 1e6:.0f} µs" for v in ordered[:3]))


def sweep(title: str, kernel: Any, spaces: Iterator[dict[str, Any]], arguments: Mapping[str, Any], target: str) -> None:
    started, found = time.perf_counter(), []
    for constants in spaces:
        name = ", ".join(f"{k}={v}" for k, v in constants.items())
        try:
            found.append(variant_of(name, kernel, constants, arguments, target))
        except TilusError as error:
            console.print(f"[dim]{name}: {error.diagnostics[0].message}[/]")
    rank(title, found, time.perf_counter() - started)


# -- planted mistakes


@tl.jit
def product(a: tl.f16["M", "Ka"], b: tl.f16["K", "Nb"], c: tl.f16["M", "N"], BM: int = 128, BN: int = 128, BK: int = 64,
            stages: int = 3, warps: int = 4, registers: int = 0, plain: bool = False, shift: int = 0) -> None:
    """A product with its ring by hand, so that mistakes can be made: few ``registers``, ``plain`` layouts in shared
    memory, operands that begin ``shift`` elements beyond an aligned address."""
    M, N = c.shape
    K = b.shape[0]
    tl.block(warps=warps, max_registers=registers or None)
    i, j = tl.grid(tl.cdiv(M, BM), tl.cdiv(N, BN))
    layout_a = tl.layouts.row_major(stages, BM, BK) if plain else None
    layout_b = tl.layouts.row_major(stages, BK, BN) if plain else None
    sa, sb = tl.shared((stages, BM, BK), a.dtype, layout_a), tl.shared((stages, BK, BN), b.dtype, layout_b)
    x, y = a[:, shift:], b[:, shift:]

    def fetch(tile: int | tl.Tile) -> None:
        tl.copy_async(sa[tile % stages], x, (i * BM, tile * BK))
        tl.copy_async(sb[tile % stages], y, (tile * BK, j * BN))
        tl.commit()

    for early in tl.static_range(stages - 1):
        fetch(early)
    acc = tl.zeros((BM, BN), tl.f32)
    for tile in tl.range(tl.cdiv(K, BK)):
        if stages > 1:
            tl.wait(stages - 2)
            tl.sync()
            fetch(tile + stages - 1)
        else:
            tl.sync()
            fetch(tile)
            tl.wait(0)
            tl.sync()
        acc = tl.dot(tl.load(sa[tile % stages]), tl.load(sb[tile % stages]), acc)
    tl.wait(0)
    tl.store(c, (i * BM, j * BN), acc.to(c.dtype))


TWINS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "spills": ({}, {"registers": 96}),
    "8-way conflicts": ({}, {"plain": True}),
    "32-bit copies": ({}, {"shift": 2}),
    "one stage": ({}, {"stages": 1}),
}
"""What the clean twin and the one with the mistake are compiled with."""
BASES = (
    {"BM": 128, "BN": 128, "warps": 4}, {"BM": 128, "BN": 64, "warps": 4}, {"BM": 64, "BN": 64, "warps": 2},
    {"BM": 128, "BN": 128, "warps": 8}, {"BM": 64, "BN": 128, "BK": 32, "warps": 4},
)


def twins(mistake: str, base: Mapping[str, Any], shape: tuple[int, int, int], target: str) -> tuple[Variant, Variant]:
    """The clean variant and the one with the mistake."""
    m, n, k = shape
    arguments = {"a": (m, k + 16), "b": (k, n + 16), "c": (m, n)}
    found = []
    for extra in TWINS[mistake]:
        found.append(variant_of(mistake, product, {**base, **extra}, arguments, target))
    return found[0], found[1]


def planted(target: str) -> None:
    table = Table("mistake", "variant", "clean µs", "with it µs", "ratio", "spilled", "conflicts",
                  title=f"planted mistakes, {target} (model)")
    wrong = 0
    for mistake, base in itertools.product(TWINS, BASES):
        clean, bad = twins(mistake, base, (2048, 2048, 2048), target)
        wrong += bad.seconds <= clean.seconds
        table.add_row(mistake, str(base), f"{clean.seconds * 1e6:.1f}", f"{bad.seconds * 1e6:.1f}",
                      f"{bad.seconds / clean.seconds:.2f}", str(bad.spilled), f"{bad.conflicts:.1f}")
    console.print(table)
    console.print(f"{wrong} mistakes are not behind their clean twins")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", default=["matmul", "attention", "planted"])
    parser.add_argument("--target", default="sm_80")
    options = parser.parse_args()
    if "planted" in options.parts:
        planted(options.target)
    if "before" in options.parts:
        compare(options.target, console)
    if "matmul" in options.parts:
        sweep("matmul 4096×4096×4096", matmul, matmul_variants(), dict.fromkeys("abc", (4096, 4096)), options.target)
    if "attention" in options.parts:
        shape = (4, 4096, 16, 64)
        for causal in (False, True):
            sweep(f"attention, 4 × 16 heads of 64, length 4096{', causal' * causal}", flash_attention_forward,
                  attention_variants(causal), {**dict.fromkeys("qkvo", shape), "lse": (4, 16, 4096)}, options.target)


if __name__ == "__main__":
    main()
