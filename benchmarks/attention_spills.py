"""What attention's kernels spill with the tiles that they choose, and how long they take to compile.

    python -m benchmarks.attention_spills [--targets sm_80,sm_90a] [--routes ptx,cuda] [--dims 64,128] [--types f16]
                                          [--kernels forward,keys,queries,decoding]

The forward pass, both kernels of the backward pass and decoding, for head dimensions that are powers of two and such as
are not, with and without a causal mask, by both routes. A line for each kernel that spills or takes more than two
seconds of the processor, and at the end how many there are. Nothing takes a GPU.
"""

from __future__ import annotations

import argparse
import itertools
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import tilus as tl
from kernels_zoo.attention.decoding import attention_split
from kernels_zoo.attention.flash_attention import flash_attention_forward
from kernels_zoo.attention.flash_attention_backward import (
    BOTH_SUMS,
    attention_backward_keys,
    attention_backward_queries,
)
from tilus.ir.dtypes import parse_dtype

TARGETS = ("sm_75", "sm_80", "sm_86", "sm_89", "sm_90a", "sm_100a", "sm_120a")
ROUTES = ("ptx", "cuda")
HEAD_DIMENSIONS = (32, 40, 64, 80, 96, 128, 192, 256)
TYPES = ("f16", "bf16")
SLOWEST = 2.0
"""Seconds that a kernel may take to compile."""


def calls(kernel: str, head_dim: int, dtype: tl.DType) -> Iterator[tuple[Any, dict[str, Any]]]:
    """The kernels of a name, each with the types of its arguments and its constants, but for the mask."""
    if kernel == "forward":
        yield flash_attention_forward, dict.fromkeys("qkvo", dtype)
    elif kernel == "decoding":
        yield attention_split, dict.fromkeys("qkv", dtype)
    elif kernel == "queries":
        yield attention_backward_queries, dict.fromkeys(("q", "k", "v", "do", "dq"), dtype)
    else:
        given = {**dict.fromkeys(("q", "k", "v", "do", "dk", "dv"), dtype), "group": 1}
        for left_out in ({},) if head_dim <= BOTH_SUMS else ({"dk": None}, {"dv": None}):
            yield attention_backward_keys, {**given, **left_out}


KERNELS = ("forward", "keys", "queries", "decoding")


@dataclass(frozen=True)
class Found:
    """Of one compilation: bytes that a thread spills, registers, seconds of the processor."""

    stored: int
    loaded: int
    registers: int
    seconds: float


def compiled(kernel: Any, target: str, route: str, **constants: Any) -> Found:
    begun = sum(os.times()[:4])
    metadata = kernel.compile(target, route, **constants).metadata
    return Found(metadata["spill_stores"], metadata["spill_loads"], metadata["registers"],
                 sum(os.times()[:4]) - begun)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.attention_spills", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, values in (("targets", TARGETS), ("routes", ROUTES), ("dims", HEAD_DIMENSIONS), ("types", TYPES),
                         ("kernels", KERNELS)):
        parser.add_argument(f"--{name}", type=lambda text: text.split(","), default=list(map(str, values)))
    options = parser.parse_args()
    begun, count, spilling, slow = time.perf_counter(), 0, 0, 0
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TILUS_CACHE_DIR"] = folder  # compilations are timed
        for target, name, dim, dtype, causal, route in itertools.product(
                options.targets, options.kernels, map(int, options.dims), options.types, (False, True), options.routes):
            for kernel, constants in calls(name, dim, parse_dtype(dtype)):
                found = compiled(kernel, target, route, D=dim, causal=causal, **constants)
                spills = bool(found.stored or found.loaded)
                count, spilling, slow = count + 1, spilling + spills, slow + (found.seconds > SLOWEST)
                if spills or found.seconds > SLOWEST:
                    part = "".join(f" without {n}" for n, given in constants.items() if given is None)
                    print(f"{target:8} {name:9}{part} d{dim:<4} {dtype:5} {'causal' if causal else '':7} {route:5} "
                          f"{found.stored:5} bytes stored {found.loaded:5} loaded {found.registers:4} registers "
                          f"{found.seconds:6.1f} s", flush=True)
    print(f"{count} kernels, {spilling} spill, {slow} take more than {SLOWEST:.0f} s; "
          f"{time.perf_counter() - begun:.0f} s")


if __name__ == "__main__":
    main()
