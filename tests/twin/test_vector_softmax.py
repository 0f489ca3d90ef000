"""A softmax of a tile as kernels write it: its numbers, and its time against the published one."""

from __future__ import annotations

import numpy as np
import pytest

from tests.twin.vector_cases import Case, Kernel, given, result, scratch

ROWS, COLUMNS = 64, 256
RANDOM = np.random.default_rng(0)
SCORES = RANDOM.standard_normal((ROWS, COLUMNS), np.float32)
# One repeat has 64 columns, which are 8 blocks; a row has 32 blocks.
CODE = """const auto barrier = [] { PipeBarrier<PIPE_V>(); };
Muls(s, s, 0.5f, 16384); barrier();
BlockReduceMax(part, s, 255, 64, 1, 1, 8);
BlockReduceMax(part[2040], s[16320], 1, 64, 1, 1, 8); barrier();
WholeReduceMax(top, part, 32, 64, 1, 1, 4, ReduceOrder::ORDER_ONLY_VALUE); barrier();
Max(top, top, old, 64); barrier();
Sub(old, old, top, 64);
Brcb(wide, top, 8, BrcbRepeatParams(1, 8)); barrier();
for (int i = 0; i < 256; i += 64) {
    Sub(s[i], s[i], wide, uint64_t(64), 64, BinaryRepeatParams(1, 1, 0, 32, 32, 1));
}
Exp(old, old, 64); barrier();
Exp(s, s, 16384); barrier();
Cast(p, s, RoundMode::CAST_RINT, 16384);
BlockReduceSum(part, s, 255, 64, 1, 1, 8);
BlockReduceSum(part[2040], s[16320], 1, 64, 1, 1, 8); barrier();
WholeReduceSum(sum, part, 32, 64, 1, 1, 4);"""
EXPONENT = 0.5 * SCORES - np.maximum(0.5 * SCORES.max(1), 0.25)[:, None]
CASE = Case("softmax", CODE, {
    "s": given(SCORES), "old": given([0.25] * ROWS), "part": scratch(2048), "wide": scratch(512), "top": scratch(ROWS),
    "p": result(np.exp(EXPONENT), np.float16, before=0), "sum": result(np.exp(EXPONENT.astype(np.float64)).sum(1))})
KERNEL = Kernel([CASE])


@pytest.mark.parametrize("order", ["random", "early", "late", "program"])
def test_softmax(order: str):
    after, report = KERNEL.run("softmax", order=order)
    np.testing.assert_allclose(after["p"], CASE.tensors["p"].after, rtol=1e-3)
    np.testing.assert_allclose(after["sum"], CASE.tensors["sum"].after, rtol=1e-6)
    # Published for 64 rows of 256 columns: 2489 cycles.
    assert abs(report.busy["AIV"]["V"] / 2489 - 1) < 0.25


def test_every_barrier_is_needed():
    parts = CODE.split(" barrier();")
    pieces = [Case(f"without barrier {i}", " barrier();".join([*parts[:i], parts[i] + parts[i + 1], *parts[i + 2:]]),
                   CASE.tensors) for i in range(len(parts) - 1)]
    kernel = Kernel(pieces)
    for piece in pieces:
        assert {finding.kind for finding in kernel.findings(piece.name)} == {"missing PipeBarrier<PIPE_V>"}, piece.name
