"""The CPU engine against NumPy (OpenBLAS) and PyTorch: the best peer's time over ours, above 1 where tilus is faster.

Run ``python -m benchmarks.cpu --all [--threads 1 2] [--level avx2] [--only TEXT]`` in an environment that has torch
(2.13 was used); without torch only NumPy's times are compared. Ours and the peers are each in a process of their own,
since two libraries with threads disturb each other in one; they measure a line by turns, and least times count.
``--level`` forces a level of vector instructions, on the peers as far as they can be told. Without ``--all`` a few
lines are measured.
"""

from __future__ import annotations

import argparse
import importlib
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

FEW = ("matmul f32 1024x1024x1024", "matmul f32 1x4096x4096", "vector add 16.8 M", "softmax f32 4096x4096",
       "layer norm 4096x4096", "attention 1x1024x1024x8x8x64", "attention 1x1024x1024x8x8x64, causal",
       "LSTM step B=16 D=256")
LIMITS = {"avx2": {"OPENBLAS_CORETYPE": "Haswell", "ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2",
                   "MKL_ENABLE_INSTRUCTIONS": "AVX2",
                   "NPY_DISABLE_CPU_FEATURES": "AVX512F,AVX512CD,AVX512_SKX,AVX512_CLX,AVX512_CNL,AVX512_ICL,"
                                               "AVX512_SPR"}}
"""How peers are kept from instructions beyond a level."""
LEAST_SECONDS = 0.15
BATCH_SECONDS = 2e-4


def least_time(run: Callable[[], Any], seconds: float = LEAST_SECONDS) -> float:
    """The least time of a call, in seconds; short ones are measured several at a time."""
    start = time.perf_counter()
    run()
    once = time.perf_counter() - start
    start = time.perf_counter()
    run()
    once = min(once, time.perf_counter() - start)
    count = max(1, int(BATCH_SECONDS / max(once, 1e-9)))
    best, end, turns = math.inf, time.perf_counter() + seconds, 0
    while turns < 3 or time.perf_counter() < end:
        start = time.perf_counter()
        for _ in range(count):
            run()
        best = min(best, (time.perf_counter() - start) / count)
        turns += 1
    return best


def serve(side: str, threads: int, lines: str) -> None:
    """Measure what is asked for by lines of standard input: the number of a line of this module, and of a peer."""
    from tilus.runtime.cpu import set_num_threads

    if side == "peers":
        try:
            import torch

            torch.set_num_threads(threads)
        except ImportError:
            pass
    set_num_threads(threads)
    found = importlib.import_module(lines).LINES
    made: tuple[str, Callable[[], Any]] | None = None
    for text in sys.stdin:
        number, peer = json.loads(text)
        if made is None or made[0] != text:
            line = found[number]
            made = None  # the arrays of the last one go first
            made = (text, (line.peers[peer] if peer else line.ours)())
        print(json.dumps(least_time(made[1])), flush=True)


class Side:
    """A process that measures lines of a module."""

    def __init__(self, side: str, threads: int, level: str = "", lines: str = "benchmarks.cpu_lines") -> None:
        environment = {k: v for k, v in os.environ.items() if k not in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")}
        environment["OPENBLAS_NUM_THREADS"] = environment["OMP_NUM_THREADS"] = str(threads)
        if level and side == "ours":
            environment["TILUS_CPU"] = level
        elif level:
            environment.update(LIMITS.get(level, {}))
        command = [sys.executable, "-W", "ignore", "-m", "benchmarks.cpu", "--serve", side, "--lines", lines,
                   "--threads", str(threads)]
        self.process = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        text=True)

    def measure(self, number: int, peer: str = "") -> float:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(json.dumps([number, peer]), file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline()
        if not answer:
            raise SystemExit(f"the process that measures line {number} has ended")
        return float(json.loads(answer))

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def compare(ours: Side, peers: Side, number: int, names: list[str], rounds: int) -> tuple[float, str, float]:
    """Our least time, the name of the best peer, and its least time."""
    mine, best = math.inf, dict.fromkeys(names, math.inf)
    for _ in range(rounds):
        mine = min(mine, ours.measure(number))
        for name in names:
            best[name] = min(best[name], peers.measure(number, name))
    name = min(best, key=best.__getitem__)
    return mine, name, best[name]


def run(options: argparse.Namespace) -> None:
    from importlib.util import find_spec

    from benchmarks.cpu_lines import LINES

    wanted = [n for n, line in enumerate(LINES) if (options.all or options.only or line.name in FEW)
              and (not options.only or options.only in line.name)]
    missing = set() if find_spec("torch") else {"torch"}
    singles: dict[int, float] = {}
    for threads in options.threads:
        ours, peers = Side("ours", threads, options.level), Side("peers", threads, options.level)
        ratios = []
        print(f"{'':46}{'threads':>8}{'tilus ms':>10}{'peer ms':>10}  {'peer':6}{'ratio':>6}{'bar':>6}{'scaling':>9}")
        for number in wanted:
            line = LINES[number]
            names = [name for name in line.peers if name not in missing]
            if not names:
                continue
            mine, name, other = compare(ours, peers, number, names, options.rounds)
            ratio, bar = other / mine, line.bar if options.level != "avx2" else min(line.bar, 0.8)
            ratios.append(ratio)
            singles.setdefault(number, mine) if threads == 1 else None
            scaling = f"{singles[number] / mine:9.2f}" if threads > 1 and number in singles else ""
            print(f"{line.name:46}{threads:8}{1e3 * mine:10.4f}{1e3 * other:10.4f}  {name:6}{ratio:6.2f}{bar:6.2f}"
                  f"{scaling}{'  *' if ratio < bar else ''}", flush=True)
        mean = math.exp(sum(map(math.log, ratios)) / len(ratios)) if ratios else math.nan
        print(f"{len(ratios)} lines, {threads} threads: geometric mean {mean:.2f}, least {min(ratios, default=0):.2f}")
        ours.close()
        peers.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--all", action="store_true", help="every line")
    parser.add_argument("--only", help="lines whose names have this text")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--level", default="", help="a level of TILUS_CPU, as avx2")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    parser.add_argument("--lines", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve, options.threads[0], options.lines)
    else:
        run(options)


if __name__ == "__main__":
    main()
