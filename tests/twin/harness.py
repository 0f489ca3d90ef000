"""Many small kernels in one source, so that a file of tests compiles once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from tilus.twin import Program, Report, build

PRELUDE = """
#include "kernel_operator.h"
using namespace AscendC;

template <typename T>
__aicore__ inline GlobalTensor<T> gm(GM_ADDR address) {
    GlobalTensor<T> tensor;
    tensor.SetGlobalBuffer(reinterpret_cast<__gm__ T*>(address));
    return tensor;
}

// Everything before is done before anything after.
__aicore__ inline void step() { PipeBarrier<PIPE_ALL>(); }
"""


class Kernels:
    """Bodies by name, which see GM_ADDR ``a``, ``b``, ``c`` and ``out`` and uint32_t ``n``."""

    def __init__(self, bodies: Mapping[str, str], *, kind: str, prelude: str = "",
                 static_memory: bool = True) -> None:
        self.names = list(bodies)
        text = PRELUDE + prelude
        for name, body in bodies.items():
            text += ("__aicore__ inline void " + name + "([[maybe_unused]] GM_ADDR a, [[maybe_unused]] GM_ADDR b, "
                     "[[maybe_unused]] GM_ADDR c, [[maybe_unused]] GM_ADDR out, [[maybe_unused]] uint32_t n) {\n"
                     + body.strip("\n") + "\n}\n")
        text += ("extern \"C\" __global__ __aicore__ void all(GM_ADDR a, GM_ADDR b, GM_ADDR c, GM_ADDR out, "
                 "uint32_t n, uint32_t which) {\n" + f"    KERNEL_TASK_TYPE_DEFAULT(KERNEL_TYPE_{kind});\n")
        if static_memory:
            text += "    InitSocState();\n"
        for index, name in enumerate(bodies):
            text += f"    if (which == {index}) {name}(a, b, c, out, n);\n"
        self.source = text + "}\n"
        self.program: Program | None = None

    def run(self, name: str, arrays: Sequence[np.ndarray], out: np.ndarray, *, n: int = 0, blocks: int = 1,
            **options: object) -> Report:
        if self.program is None:
            self.program = build(self.source, "all", ("gm", "gm", "gm", "gm", "uint32_t", "uint32_t"))
        padded = [*arrays, *(np.zeros(1, np.uint8) for _ in range(3 - len(arrays)))]
        return self.program.run([*padded, out, n, self.names.index(name)], blocks=blocks, **options)


def groups(dtype: np.dtype) -> int:
    """Elements in 32 B."""
    return 32 // np.dtype(dtype).itemsize


def nz(matrix: np.ndarray) -> np.ndarray:
    """Blocks of 32 B of columns, each with all rows."""
    m, k = matrix.shape
    c0 = groups(matrix.dtype)
    return np.ascontiguousarray(matrix.reshape(m, k // c0, c0).transpose(1, 0, 2)).ravel()


def zz(matrix: np.ndarray) -> np.ndarray:
    """Fractals of 16 rows by 32 B, row by row."""
    m, k = matrix.shape
    c0 = groups(matrix.dtype)
    return np.ascontiguousarray(matrix.reshape(m // 16, 16, k // c0, c0).transpose(0, 2, 1, 3)).ravel()


def zn(matrix: np.ndarray) -> np.ndarray:
    """A right operand: fractals of 32 B along K by 16 columns, row by row, K innermost."""
    k, n = matrix.shape
    c0 = groups(matrix.dtype)
    return np.ascontiguousarray(matrix.reshape(k // c0, c0, n // 16, 16).transpose(0, 2, 3, 1)).ravel()
