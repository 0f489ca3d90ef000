"""Fused functions over short dimensions against PyTorch eager on the CPU: ratios of times, above 1 where tilus wins.

Run ``python -m benchmarks.short_axes [--threads N]`` in an environment that has torch (2.13 was used). About 800,000
elements each; tilus and torch by turns in one process, the best of several calls.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import tilus as tl
from kernels_zoo.fused.images import average, channels_last, instance_norm, relu

IMAGES = ((32, 512, 7, 7), (32, 64, 14, 28), (4, 64, 56, 56), (1, 4, 196, 1024))
ROWS = (3, 7, 28, 56, 100)
ROUNDS = 15


@tl.fuse
def batch_norm(x, scale, shift):
    return tl.relu(x * scale[:, None, None] + shift[:, None, None])


@tl.fuse
def channels_first(x):
    return x.transpose(0, 3, 1, 2)


@tl.fuse
def softmax(x):
    e = tl.exp(x - tl.max(x, axis=-1, keepdims=True))
    return e / tl.sum(e, axis=-1, keepdims=True)


@tl.fuse
def layer_norm(x, weight, bias):
    d = x - tl.mean(x, axis=-1, keepdims=True)
    return d * tl.rsqrt(tl.mean(d * d, axis=-1, keepdims=True) + 1e-5) * weight + bias


@tl.fuse
def row_sum(x):
    return tl.sum(x, axis=1)


@tl.fuse
def column_sum(x):
    return tl.sum(x, axis=0)


@tl.fuse
def add(x, y):
    return x + y


Case = tuple[str, Callable[..., Any], Callable[..., Any], list[Any]]


def cases(dtype: Any) -> Iterator[Case]:
    """What is computed, by tilus and by torch, and the arrays."""
    from torch.nn import functional

    def normal(*shape: int) -> Any:
        return np.random.default_rng(0).standard_normal(shape).astype(dtype)

    for n, c, h, w in IMAGES:
        x, s = normal(n, c, h, w), normal(c)
        yield "relu", relu, lambda x: x.relu(), [x]
        yield ("batch norm, relu", batch_norm,
               lambda x, s, b: (x * s[:, None, None] + b[:, None, None]).relu(), [x, s, s])
        yield "global average", average, lambda x: x.mean((2, 3)), [x]
        yield "instance norm", instance_norm, functional.instance_norm, [x]
        yield "NCHW to NHWC", channels_last, lambda x: x.permute(0, 2, 3, 1).contiguous(), [x]
        yield "NHWC to NCHW", channels_first, lambda x: x.permute(0, 3, 1, 2).contiguous(), [normal(n, h, w, c)]
    for columns in ROWS:
        x, w = normal(800_000 // columns, columns), normal(columns)
        yield "softmax", softmax, lambda x: x.softmax(-1), [x]
        yield "layer norm", layer_norm, lambda x, w, b: functional.layer_norm(x, w.shape, w, b), [x, w, w]
        yield "row sum", row_sum, lambda x: x.sum(1), [x]
        yield "column sum", column_sum, lambda x: x.sum(0), [x]
        yield "add a row", add, lambda x, y: x + y, [x, w]


def by_turns(first: Callable[[], Any], second: Callable[[], Any]) -> tuple[float, float]:
    """The least time of a call of each, in milliseconds."""
    best = [float("inf")] * 2
    for number in range(ROUNDS + 2):
        for place, run in enumerate((first, second)):
            start = time.perf_counter()
            run()
            if number >= 2:
                best[place] = min(best[place], time.perf_counter() - start)
    return 1e3 * best[0], 1e3 * best[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    threads = parser.parse_args().threads
    os.environ["OMP_NUM_THREADS"] = str(threads)
    import torch

    from tilus.runtime.cpu import set_num_threads

    torch.set_num_threads(threads)
    set_num_threads(threads)
    ratios = []
    for dtype in (np.float32, np.float16):
        for name, ours, theirs, arrays in cases(dtype):
            tensors = [torch.from_numpy(a) for a in arrays]
            mine, other = by_turns(lambda f=ours, a=arrays: f(*a), lambda f=theirs, t=tensors: f(*t))
            ratios.append(other / mine)
            shape = "x".join(map(str, arrays[0].shape))
            print(f"{name:17} {np.dtype(dtype).name:8} {shape:16} {mine:8.3f} ms, torch {other:8.3f} ms: "
                  f"{ratios[-1]:5.2f}", flush=True)
    low = sum(r < 0.8 for r in ratios)
    print(f"geometric mean {np.exp(np.mean(np.log(ratios))):.2f}, least {min(ratios):.2f}, "
          f"{low} of {len(ratios)} below 0.8")


if __name__ == "__main__":
    main()
