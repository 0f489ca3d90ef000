"""The cost model beside what others have measured. Nothing is run, and nothing is fitted to a kernel or a shape.

    python -m benchmarks.model [micro] [low-precision] [sgemm] [attention]

What a board's record has besides its data sheet (the share of the memory's peak that streams reach, seconds from one
kernel to the next) is taken from every other row, and the errors of the other half are printed beside those of all.
"""

from __future__ import annotations

import argparse
import functools
import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.model_published import (
    Row,
    ada_runs,
    attention_backward,
    attention_forward,
    attention_operations,
    low_precision,
    rows_of,
    whole_models,
)
from tilus.diagnostics import ResourceError
from tilus.model.boards import BOARDS, Board
from tilus.model.energy import features_of, fit_power
from tilus.model.kernel import KernelModel

console = Console(width=150)
FORWARD_PEAK = 230.0
"""TFLOP/s of FlashAttention-2's forward pass on an A100, as published."""


def mape(rows: Sequence[Row]) -> float:
    """The mean of the relative errors."""
    return float(np.mean([abs(row.modelled / row.measured - 1) for row in rows]))


def spearman(rows: Sequence[Row]) -> float:
    """The correlation of the ranks."""
    ranks = [np.argsort(np.argsort([getattr(row, side) for row in rows])) for side in ("measured", "modelled")]
    return float(np.corrcoef(*ranks)[0, 1])


def show(title: str, rows: Sequence[Row]) -> None:
    table = Table("group", "kernel", "measured ms", "model ms", "model / measured", "limited by (model)", title=title)
    for row in rows:
        table.add_row(row.group, row.name, f"{row.measured * 1e3:.4g}", f"{row.modelled * 1e3:.4g}",
                      f"{row.modelled / row.measured:.2f}", row.bottleneck)
    console.print(table)


def errors(title: str, rows: Sequence[Row], bars: str) -> None:
    held_back = rows[1::2]
    console.print(f"[bold]{title}[/]: Spearman {spearman(rows):.3f}, MAPE {mape(rows):.1%}; held back half: Spearman "
                  f"{spearman(held_back):.3f}, MAPE {mape(held_back):.1%} ({bars})")


def micro() -> None:
    from benchmarks.model_micro import rows

    table = Table("instruction", "target", "measured", "model", "why they differ",
                  title="cycles of single instructions")
    for name, target, measured, modelled, why in rows():
        same = math.isclose(measured, modelled, rel_tol=0.02)
        table.add_row(name, target, f"{measured:g}", f"{modelled:.2f}", "" if same else why or "unexplained")
    console.print(table)


def low_precision_products() -> None:
    board = BOARDS["L40S"]
    started = time.perf_counter()
    rows = list(low_precision(board))
    show(f"products on an {board.name}", rows)
    for system in ("tilus", "torch"):
        errors(f"{board.name}, {system}", [row for row in rows if row.group == system], "Spearman ≥ 0.9, MAPE ≤ 20 %")
    few = [row for row in rows if " 2048x" not in row.name and " 4096x" not in row.name]
    errors(f"{board.name}, up to 16 rows", few, "")
    for name in ("L40S", "H100 SXM"):
        models = list(whole_models(BOARDS[name]))
        show(f"products of whole models on an {name}, beside the time of the models", models)
        errors(f"{name}, whole models", models, "products alone, so that the model is below")
    console.print(f"{len(rows)} kernels in {time.perf_counter() - started:.0f} s")


def textbook_product() -> None:
    board = BOARDS["RTX 4070"]
    runs = list(ada_runs(board))
    rows = [row for row, _, _ in runs]
    show(f"the textbook SGEMM on an {board.name}", rows)
    errors(f"{board.name}, SGEMM", rows, "MAPE ≤ 20 %")
    console.print(f"the least MAPE of one throughput for each tile, fitted to these rows: {scatter(rows):.1%}; sizes "
                  "of equal work differ by up to 2 ×")
    power(runs)


def scatter(rows: Sequence[Row]) -> float:
    """What is left where each tile's throughput is fitted: how much the measurements scatter."""
    by_tile: dict[str, list[Row]] = {}
    for row in rows:
        by_tile.setdefault(row.group, []).append(row)
    total = 0.0
    for group in by_tile.values():
        work = [float(np.prod([int(n) for n in row.name.split("x")])) for row in group]
        rates = [w / row.measured for w, row in zip(work, group, strict=True)]
        total += min(sum(abs(w / rate / row.measured - 1) for w, row in zip(work, group, strict=True))
                     for rate in rates)
    return total / len(rows)


def power(runs: Sequence[tuple[Row, KernelModel, float]]) -> None:
    """Watts, each size predicted from the others."""
    known = [(row, features_of(model), watts) for row, model, watts in runs if not math.isnan(watts)]
    idle = min(float(row["watts"]) for row in rows_of("ada_matmul") if row["watts"])
    found = []
    for size in dict.fromkeys(row.name for row, _, _ in known):
        others = [item for item in known if item[0].name != size]
        features, seconds, watts = zip(*((f, row.measured, w) for row, f, w in others), strict=True)
        model = fit_power(features, seconds, watts, idle)
        found += [Row("power", f"{row.group}, {row.name}", measured, model.watts(own, row.measured))
                  for row, own, measured in known if row.name == size]
    table = Table("run", "watts", "model", title="power, each size left out in turn")
    for row in found:
        table.add_row(row.name, f"{row.measured:.1f}", f"{row.modelled:.1f}")
    console.print(table)
    console.print(f"[bold]power[/]: MAPE {mape(found):.1%} (≤ 10 %)")


def attention() -> None:
    """Forward, and forward and backward beside what the paper's authors measured; operations of the backward pass count
    as 2.5 times the forward's, as theirs do, though two kernels compute the scores twice."""
    board = BOARDS["A100"]
    table = Table("D", "causal", "batch", "length", "forward", "with backward", "published", "error", "limited by",
                  title=f"FlashAttention-2, TFLOP/s, {board.name} (model)")
    best, rows = 0.0, []
    for line in rows_of("flash_attention_2"):
        head_dim = int(line["head_dim"])
        shape: dict[str, Any] = {"causal": line["causal"] == "1", "head_dim": head_dim, "batch": int(line["batch"]),
                                 "length": int(line["sequence"])}
        work = attention_operations(**shape)
        forward = quickest(attention_forward, FORWARD_TILES, board, shape)
        keys, queries = (quickest(functools.partial(attention_backward, part=part), tiles[head_dim], board, shape)
                         for part, tiles in (("keys", KEYS_TILES), ("queries", QUERIES_TILES)))
        delta = attention_backward(board=board, part="delta", **shape)
        seconds = sum(model.seconds for model in (forward, delta, keys, queries))
        row = Row("attention", "", 3.5 * work / (float(line["teraflops"]) * 1e12), seconds)
        rows.append(row)
        best = max(best, work / forward.seconds * 1e-12)
        slowest = max((keys, queries), key=lambda model: model.seconds)
        table.add_row(line["head_dim"], str(shape["causal"]), line["batch"], line["sequence"],
                      f"{work / forward.seconds * 1e-12:.0f}", f"{3.5 * work / seconds * 1e-12:.0f}",
                      line["teraflops"], f"{row.modelled / row.measured - 1:+.0%}", slowest.bottleneck)
    console.print(table)
    console.print(f"[bold]forward peak[/]: {best:.0f} TFLOP/s by the model, {FORWARD_PEAK:.0f} published: "
                  f"{best / FORWARD_PEAK - 1:+.1%} (10 %)")
    console.print(f"[bold]forward and backward[/]: MAPE {mape(rows):.1%} (≤ 15 %)")


FORWARD_TILES = [{"BM": 128, "BN": bn, "warps": warps} for bn in (32, 64, 128) for warps in (4, 8)]
KEYS_TILES = {64: [{"BM": 64, "BN": 64, "warps": 4}, {"BM": 32, "BN": 128, "warps": 4}],
              128: [{"BM": 64, "BN": 128, "warps": 8}, {"BM": 32, "BN": 64, "warps": 4}]}
QUERIES_TILES = {64: [{"BM": 128, "BN": 32, "warps": 4}, {"BM": 64, "BN": 128, "warps": 4}],
                 128: [{"BM": 128, "BN": 64, "warps": 8}, {"BM": 64, "BN": 32, "warps": 4}]}
"""Of the kernels of the backward pass, by head dimension."""


def quickest(model: Callable[..., KernelModel], tiles: Sequence[dict[str, int]], board: Board,
             shape: dict[str, Any]) -> KernelModel:
    """The best of some tiles by the model, as the paper's authors have tuned theirs."""
    found = []
    for tile in tiles:
        try:
            found.append(model(board=board, constants=tile, **shape))
        except ResourceError:  # tiles that do not fit
            continue
    return min(found, key=lambda kernel: kernel.seconds)


SECTIONS = {"micro": micro, "low-precision": low_precision_products, "sgemm": textbook_product, "attention": attention}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=", ".join(SECTIONS))
    asked = parser.parse_args().sections or list(SECTIONS)
    if unknown := [name for name in asked if name not in SECTIONS]:
        parser.error(f"there is no section {unknown[0]!r}; sections: {', '.join(SECTIONS)}")
    for name in asked:
        SECTIONS[name]()


if __name__ == "__main__":
    main()
