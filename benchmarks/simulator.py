"""Times of the PTX simulator: parsing, a tensor-core matmul, attention, and how time grows with the grid.

Run ``python -m benchmarks.simulator``; it prints one line for each figure with its limit.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tilus import simulator
from tilus.runtime.toolchains.nvrtc import cuda_to_ptx
from tilus.simulator.parser import parse
from tilus.targets import get_target

KERNELS = Path(__file__).parent / "simulator_kernels.cu"


def seconds(function: Callable[[], object], repeat: int = 3) -> float:
    """The best of some runs."""
    best = float("inf")
    for _ in range(repeat):
        start = time.perf_counter()
        function()
        best = min(best, time.perf_counter() - start)
    return best


def show(name: str, value: float, limit: float | None = None) -> None:
    bound = f"   limit {limit:.2f} s" if limit is not None else ""
    print(f"{name:<52} {value:8.3f} s{bound}")


def parsing(ptx: str) -> None:
    lines = [
        line for line in ptx.split("\n") if line.startswith("\t") and line.rstrip().endswith(";") and "bra" not in line
    ]
    end = ptx.rindex("ret;")
    text = ptx[:end] + "\n".join((lines * (3000 // len(lines) + 1))[:3000]) + "\n" + ptx[end:]
    show(f"parse {text.count(chr(10))} lines of PTX", seconds(lambda: parse(text)), 0.3)


def matmul(module: simulator.Module) -> None:
    n = 512
    random = np.random.default_rng(0)
    a, b = random.standard_normal((n, n)).astype("f2"), random.standard_normal((n, n)).astype("f2")
    c = np.zeros((n, n), "f4")
    module.program("gemm")
    for on, limit in ((False, 1.5), (True, 5.0)):
        def run(on: bool = on) -> None:
            module.launch("gemm", (4, 4), 128, [a, b, c, n, n, n], checks=on, counters=on)

        show(f"fp16 matmul 512^3, 128x128x32, checks {'on' if on else 'off'}", seconds(run), limit)
        assert np.abs(c - a.astype("f4") @ b.astype("f4")).max() < 1e-3
    for blocks in (1, 2, 4):
        tall = np.zeros((128 * blocks * 4, n), "f2")
        out = np.zeros((128 * blocks * 4, n), "f4")
        show(f"fp16 matmul, {16 * blocks} blocks", seconds(
            lambda tall=tall, out=out, blocks=blocks: module.launch(
                "gemm", (4, 4 * blocks), 128, [tall, b, out, 512 * blocks, n, n], checks=False, counters=False), 1))


def attention(module: simulator.Module) -> None:
    heads, length, width = 4, 512, 64
    random = np.random.default_rng(1)
    q, k, v = (random.standard_normal((heads, length, width)).astype("f2") for _ in range(3))
    out = np.zeros((heads, length, width), "f4")
    module.program("attention")
    for on, limit in ((False, 3.0), (True, 10.0)):
        def run(on: bool = on) -> None:
            module.launch("attention", (length // 64, heads), 128, [q, k, v, out, length], checks=on, counters=on)

        show(f"flash attention 1x4x512x64, checks {'on' if on else 'off'}", seconds(run), limit)
    scores = np.einsum("hid,hjd->hij", q.astype("f4"), k.astype("f4")) / 8
    weights = np.exp(scores - scores.max(axis=2, keepdims=True))
    wanted = np.einsum("hij,hjd->hid", weights / weights.sum(axis=2, keepdims=True), v.astype("f4"))
    assert np.abs(out - wanted).max() < 1e-2


def main() -> None:
    ptx = cuda_to_ptx(KERNELS.read_text(encoding="utf-8"), get_target("sm_80"))
    parsing(ptx)
    module = simulator.load(ptx)
    matmul(module)
    attention(module)


if __name__ == "__main__":
    main()
