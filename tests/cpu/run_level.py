"""Runs kernels on the CPU engine at the level that ``TILUS_CPU`` says; prints what went wrong, and which code ran.

``python -m tests.cpu.run_level PART PARTS`` is a process of its own, since a process has one level.
"""

from __future__ import annotations

import hashlib
import json
import sys

import numpy as np

import tilus as tl
from kernels_zoo.checking import relative_error, run
from kernels_zoo.gemm.matmul import matmul
from tests.cpu.row_ends import wrong_ends
from tests.fuzz.harness import check
from tests.zoo.test_zoo import KERNELS, dtypes_of, module_of, size_of
from tilus.runtime.cpu.processor import host

SEEDS = range(300, 303)
LARGEST = 9_000


def zoo(part: int, parts: int) -> list[str]:
    """The kernels of one part, of those that all are dealt out to in turn, that are further from their references or
    from the interpreter than they may be."""
    wrong = []
    for name in list(KERNELS)[part::parts]:
        module = module_of(name)
        kernel, dtype = getattr(module, KERNELS[name]), dtypes_of(name)[0]
        sizes = {shape: size_of(module.case(shape, dtype)) for shape in module.SHAPES}
        shape = max((s for s, size in sizes.items() if size <= LARGEST), key=sizes.__getitem__)
        results = []
        for engine in ("cpu", "interpret"):
            case = module.case(shape, dtype)
            if run(kernel, case, engine) > case.tolerance:
                wrong.append(f"{name} on {engine}")
            results.append([np.asarray(out, np.float64) for out in case.outputs])
        for one, other in zip(*results, strict=True):
            if relative_error(one, other) > 2 * case.tolerance:
                wrong.append(f"{name} unlike the interpreter")
    return wrong


def bytes_product() -> list[str]:
    """Products of bytes, whose instructions differ most between levels."""
    rng, wrong = np.random.default_rng(0), []
    for rows in (1, 5, 33):
        a, b = rng.integers(-128, 128, (rows, 70), np.int8), rng.integers(-128, 128, (70, 65), np.int8)
        c = np.zeros((rows, 65), np.int32)
        integers.on("cpu")(a, b, c)
        if not np.array_equal(c, a.astype(np.int32) @ b):
            wrong.append(f"a product of bytes of {rows} rows")
    return wrong


@tl.jit
def integers(a: tl.i8["M", "K"], b: tl.i8["K", "N"], c: tl.i32["M", "N"]) -> None:
    i, j = tl.grid(tl.cdiv(a.shape[0], 32), tl.cdiv(b.shape[1], 64))
    acc = tl.zeros((32, 64), tl.i32)
    for k in tl.range(0, a.shape[1], 32):
        acc = tl.dot(tl.load(a, (i * 32, k), (32, 32)), tl.load(b, (k, j * 64), (32, 64)), acc)
    tl.store(c, (i * 32, j * 64), acc)


def main() -> None:
    part, parts = map(int, sys.argv[1:])
    ends = wrong_ends((1, 7, 13, 24, 35, 63))
    wrong = [*zoo(part, parts), *bytes_product(), *ends, *(str(d) for seed in SEEDS for d in check(seed, ["cpu"]))]
    code = matmul.compile("cpu", a=tl.f16, b=tl.f16, c=tl.f16).native.code
    print(json.dumps({"wrong": wrong, "processor": host().description, "code": hashlib.sha256(code).hexdigest()}))


if __name__ == "__main__":
    main()
