"""A matrix product in Triton, of row-major f16 matrices with a sum in f32; blocks run in groups of rows of tiles."""

from typing import Any

import triton
import triton.language as tl


@triton.jit
def product(a: Any, b: Any, c: Any, m: Any, n: Any, k: Any, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
            GROUP: tl.constexpr) -> None:
    block = tl.program_id(0)
    columns = tl.cdiv(n, BN)
    first = block // (GROUP * columns) * GROUP
    height = min(tl.cdiv(m, BM) - first, GROUP)
    i = (first + block % (GROUP * columns) % height) * BM + tl.arange(0, BM)
    j = block % (GROUP * columns) // height * BN + tl.arange(0, BN)
    acc = tl.zeros((BM, BN), dtype=tl.float32)
    for start in range(0, k, BK):
        at = start + tl.arange(0, BK)
        x = tl.load(a + i[:, None] * k + at[None, :], mask=(i[:, None] < m) & (at[None, :] < k), other=0.0)
        y = tl.load(b + at[:, None] * n + j[None, :], mask=(at[:, None] < k) & (j[None, :] < n), other=0.0)
        acc = tl.dot(x, y, acc)
    tl.store(c + i[:, None] * n + j[None, :], acc.to(tl.float16), mask=(i[:, None] < m) & (j[None, :] < n))
