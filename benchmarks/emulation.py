"""How long it takes to find out what kernels execute and touch, at real extents.

    python -m benchmarks.emulation [--target sm_90a]

Prints, for each kernel of the zoo, the milliseconds of ``tilus.model.sample.take_sample`` (the least of three, of this
process' time), instructions of the kernel, blocks of the grid, and bytes by array over those of the array: asked of L2,
read from DRAM, written.
"""

from __future__ import annotations

import argparse
import importlib
import time
from typing import Any

from tests.zoo.test_zoo import KERNELS
from tilus.model.boards import board_of
from tilus.model.launch import launches_of
from tilus.model.sample import take_sample
from tilus.model.sass import parse_sass
from tilus.runtime.toolchains.binutils import disassemble
from tilus.targets import get_target

N = 4096
HEADS = dict.fromkeys("qkvo", (1, 8192, 32, 64)) | {"lse": (1, 32, 8192)}
SQUARE = {"a": (N, N), "b": (N, N), "c": (N, N)}
CODES = {"w": (8192, 57344), "scales": (64, 57344)}

CASES: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("elementwise.vector_add", dict.fromkeys("xyz", (1 << 26,)), {}),
    ("data_movement.transpose", {"x": (N, N), "y": (N, N)}, {}),
    ("reduction.row_sum", {"x": (N, N), "y": (N,)}, {}),
    ("normalization.softmax", {"x": (N, N), "y": (N, N)}, {}),
    ("gemm.matmul", SQUARE, {}),
    ("gemm.matmul", {"a": (4001, 4003), "b": (4003, 4005), "c": (4001, 4005)}, {}),
    ("gemm.matmul_explicit", SQUARE, {}),
    ("gemm.matmul_split_k", {"a": (64, N), "b": (N, N), "c": (64, N), "splits": 4}, {}),
    ("attention.flash_attention", HEADS, {}),
    ("attention.flash_attention", HEADS, {"causal": True}),
    ("quantized.matmul", {"x": (16, 8192), **CODES, "y": (16, 57344), "zeros": (64, 57344), "bias": (57344,),
                          "alpha": 1.0}, {}),
    ("quantized.matmul", {"x": (N, 8192), **CODES, "y": (N, 57344), "zeros": (64, 57344), "bias": (57344,),
                          "alpha": 1.0}, {}),
    ("quantized.matmul_int8", {"x": (16, 8192), "row_scales": (16,), **CODES, "y": (16, 57344)}, {}),
]


def measure(name: str, arguments: dict[str, Any], constants: dict[str, Any], target_name: str) -> None:
    kernel = getattr(importlib.import_module(f"kernels_zoo.{name}"), KERNELS[name])
    compiled, target = kernel.compile(target_name, **constants), get_target(target_name)
    board = board_of(target_name)
    assert board is not None
    for code, launch in launches_of(compiled, arguments):
        program = parse_sass(disassemble(code.cubin, ("-c", "-hex")))[launch.program]
        facts = code.launches[launch.program]
        resident = target.resident_blocks(facts.threads, facts.registers, facts.dynamic_shared_bytes)
        times = []
        for _ in range(3):
            start = time.process_time()
            sample = take_sample(program, launch, target, wave_blocks=resident * board.sm_count, l2_bytes=board.l2)
            times.append(time.process_time() - start)
        size = f"{len(program.instructions):6} instructions {launch.blocks:7} blocks"
        print(f"{name:<28} {min(times) * 1e3:6.0f} ms {size}  ",
              "  ".join(f"{a.name} " + "/".join(
                  f"{kind.get(a.name, 0.0) / a.bytes:.3g}" for kind in (
                      sample.traffic.requested_bytes, sample.traffic.dram_bytes, sample.traffic.written_bytes))
                  for a in launch.arrays))
        for text in sample.assumed:
            print(f"    {text}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", default="sm_80")
    target = parser.parse_args().target
    for name, arguments, constants in CASES:
        measure(name, arguments, constants, target)


if __name__ == "__main__":
    main()
