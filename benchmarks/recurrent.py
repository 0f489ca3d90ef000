"""Recurrent layers on the CPU engine against PyTorch: microseconds a step, and ratios, above 1 where ours take less.

Run ``python -m benchmarks.recurrent [--threads 1 2] [--steps 1024] [--batch 16] [--shapes 768x1 ...]
[--types f32 bf16] [--cells LSTM GRU sLSTM]``. Shapes are FlashRNN's (D, heads), 768 elements in all. The peer of one
head is ``nn.LSTM`` or ``nn.GRU`` with inputs of one element, whose projection takes next to nothing, as ours are given
Wx; that of several is a loop over steps, with a batched product and PyTorch's gates (a tenth of the steps of it are
measured). The sLSTM is compared with our LSTM. ``both`` is forward and backward, with gradients of everything.

Each number of threads has a process. All are run by turns and least times count; on one thread they are those of the
process, which other work on the machine hardly lengthens.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

Run = Callable[[], Any]
SHAPES = ("16x48", "32x24", "64x12", "128x6", "256x3", "768x1")
BARS = {"forward": 1.3, "both": 1.2}


def least(runs: dict[str, Run], repeats: int, clock: Callable[[], float]) -> dict[str, float]:
    """Seconds of each, by turns, after one to warm up."""
    best = dict.fromkeys(runs, float("inf"))
    for repeat in range(repeats + 1):
        for name, run in runs.items():
            start = clock()
            run()
            if repeat:
                best[name] = min(best[name], clock() - start)
    return best


def ours(cell: Any, shape: tuple[int, int, int, int], dtype: Any) -> dict[str, Run]:
    import numpy as np

    from kernels_zoo.rnn.recurrent import rnn, rnn_backward
    from kernels_zoo.rnn.reference import operands

    wx, r, bias, _ = operands(cell, shape, dtype)
    dh = np.ones((*shape[:2], *shape[2:]), wx.dtype)

    def both() -> None:
        _, _, tape = rnn(cell, wx, r, bias, tape=True, engine="cpu")
        assert tape is not None
        rnn_backward(cell, wx, r, tape, dh, engine="cpu")

    return {"forward": lambda: rnn(cell, wx, r, bias, engine="cpu"), "both": both}


def module(name: str, shape: tuple[int, int, int, int], dtype: Any) -> dict[str, Run]:
    """``nn.LSTM`` or ``nn.GRU``."""
    import torch

    kind = torch.float32 if dtype.name == "f32" else torch.bfloat16
    batch, steps, _, d = shape
    layer = getattr(torch.nn, name)(1, d, batch_first=True).to(kind)
    x, dh = torch.randn(batch, steps, 1).to(kind), torch.ones(batch, steps, d, dtype=kind)

    def forward() -> None:
        with torch.no_grad():
            layer(x)

    def both() -> None:
        layer.zero_grad()
        layer(x)[0].backward(dh)

    return {"forward": forward, "both": both}


def loop(name: str, shape: tuple[int, int, int, int], dtype: Any) -> dict[str, Run]:
    """A product for all heads at once, and the gates, step by step."""
    import torch

    kind = torch.float32 if dtype.name == "f32" else torch.bfloat16
    batch, steps, heads, d = shape
    gates, inputs = (4, 4) if name == "LSTM" else (3, 3)
    wx = torch.randn(heads, steps, batch, inputs * d).to(kind).requires_grad_()
    r = (torch.randn(heads, d, gates * d) / d**0.5).to(kind).requires_grad_()

    def run() -> Any:
        h = c = torch.zeros(heads, batch, d, dtype=kind)
        out = []
        for t in range(steps):
            if name == "LSTM":
                i, f, z, o = (torch.baddbmm(wx[:, t], h, r)).chunk(4, 2)
                c = f.sigmoid() * c + i.sigmoid() * z.tanh()
                h = o.sigmoid() * c.tanh()
            else:
                (rx, zx, nx), (rh, zh, nh) = wx[:, t].chunk(3, 2), torch.bmm(h, r).chunk(3, 2)
                z = (zx + zh).sigmoid()
                h = z * h + (1 - z) * (nx + (rx + rh).sigmoid() * nh).tanh()
            out.append(h)
        return torch.stack(out, 1)

    def forward() -> None:
        with torch.no_grad():
            run()

    def both() -> None:
        wx.grad = r.grad = None
        run().sum().backward()

    return {"forward": forward, "both": both}


def worker(options: argparse.Namespace, threads: int) -> None:
    import torch

    import tilus as tl
    from kernels_zoo.rnn.cells import CELLS

    tl.set_num_threads(threads)
    torch.set_num_threads(threads)
    clock = time.process_time if threads == 1 else time.perf_counter
    cells = {cell.name: cell for cell in CELLS}
    for text in options.shapes:
        d, heads = map(int, text.split("x"))
        shape = options.batch, options.steps, heads, d
        few = options.batch, max(1, options.steps // 10), heads, d
        for kind in options.types:
            dtype, lstm = getattr(tl, kind), ours(cells["LSTM"], shape, getattr(tl, kind))
            for name in options.cells:
                peer, length = lstm, options.steps
                if name in ("LSTM", "GRU"):
                    peer = module(name, shape, dtype) if heads == 1 else loop(name, few, dtype)
                    length = options.steps if heads == 1 else few[1]
                mine = ours(cells[name], shape, dtype)
                for what, bar in BARS.items():
                    best = least({"ours": mine[what], "peer": peer[what]}, options.repeats, clock)
                    step, other = best["ours"] / options.steps, best["peer"] / length
                    least_ratio = bar if peer is not lstm else 1 / 1.3
                    verdict = "" if other / step >= least_ratio else f", below {least_ratio:.2f}"
                    print(f"{threads} threads  D={d:<4} heads={heads:<3} {kind:4} {name:5} {what:8} {1e6 * step:8.1f} "
                          f"us, {'our LSTM' if peer is lstm else 'PyTorch'} {1e6 * other:8.1f} us: "
                          f"{other / step:6.2f}{verdict}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--steps", type=int, default=1024)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--shapes", nargs="+", default=SHAPES)
    parser.add_argument("--types", nargs="+", default=["f32", "bf16"])
    parser.add_argument("--cells", nargs="+", default=["LSTM", "GRU", "sLSTM"])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--worker", action="store_true")
    options = parser.parse_args()
    if options.worker:
        worker(options, options.threads[0])
        return
    for threads in options.threads:
        arguments = [str(a) for name in ("shapes", "types", "cells") for a in (f"--{name}", *getattr(options, name))]
        for name in ("steps", "batch", "repeats"):
            arguments += [f"--{name}", str(getattr(options, name))]
        command = [sys.executable, "-m", "benchmarks.recurrent", "--worker", "--threads", str(threads)]
        subprocess.run([*command, *arguments], env={**os.environ, "OMP_NUM_THREADS": str(threads)},
                       check=True)


if __name__ == "__main__":
    main()
