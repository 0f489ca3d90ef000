"""Kernels through the whole twin: compiled, run on all cores in every order, checked."""

from __future__ import annotations

import numpy as np
import pytest

from tilus.twin import TwinError, build

ADD = """
#include "kernel_operator.h"
using namespace AscendC;

// Each core adds rows of `tile` floats, two of which are in flight.
extern "C" __global__ __aicore__ void add(GM_ADDR a, GM_ADDR b, GM_ADDR c, uint32_t rows, uint32_t tile) {
    KERNEL_TASK_TYPE_DEFAULT(KERNEL_TYPE_AIV_ONLY);
    InitSocState();
    GlobalTensor<float> ga, gb, gc;
    ga.SetGlobalBuffer((__gm__ float*)a, rows * tile);
    gb.SetGlobalBuffer((__gm__ float*)b, rows * tile);
    gc.SetGlobalBuffer((__gm__ float*)c, rows * tile);
    LocalTensor<float> x[2], y[2];
    for (uint32_t i = 0; i < 2; ++i) {
        x[i] = LocalTensor<float>(TPosition::VECIN, 2 * i * tile * 4, tile);
        y[i] = LocalTensor<float>(TPosition::VECIN, (2 * i + 1) * tile * 4, tile);
        SetFlag<HardEvent::MTE3_MTE2>(i);
    }
    uint32_t slot = 0;
    for (uint32_t row = GetBlockIdx(); row < rows; row += GetBlockNum(), slot = 1 - slot) {
        WaitFlag<HardEvent::MTE3_MTE2>(slot);
        DataCopy(x[slot], ga[row * tile], tile);
        DataCopy(y[slot], gb[row * tile], tile);
        SetFlag<HardEvent::MTE2_V>(slot);
        WaitFlag<HardEvent::MTE2_V>(slot);
        Add(x[slot], x[slot], y[slot], tile);
        SetFlag<HardEvent::V_MTE3>(slot);
        WaitFlag<HardEvent::V_MTE3>(slot);
        DataCopy(gc[row * tile], x[slot], tile);
        SetFlag<HardEvent::MTE3_MTE2>(slot);
    }
    WaitFlag<HardEvent::MTE3_MTE2>(0);
    WaitFlag<HardEvent::MTE3_MTE2>(1);
    PipeBarrier<PIPE_ALL>();
}
"""
PARAMETERS = ("gm", "gm", "gm", "uint32_t", "uint32_t")


def arrays(rows: int, tile: int) -> list[np.ndarray]:
    random = np.random.default_rng(0)
    a, b = (random.standard_normal((rows, tile), np.float32) for _ in range(2))
    return [a, b, np.zeros_like(a)]


@pytest.mark.parametrize("order", ["random", "early", "late", "program"])
def test_vector_add_on_all_cores(order: str):
    a, b, c = arrays(150, 1024)
    program = build(ADD, "add", PARAMETERS)
    for seed in range(8 if order == "random" else 1):
        c[:] = 0
        report = program.run([a, b, c, 150, 1024], blocks=48, order=order, seed=seed)
        np.testing.assert_array_equal(c, a + b)
    assert report.counters["GM-UB bytes"] == 2 * a.nbytes
    assert report.counters["vector repeats"] == 150 * 16


FLAGS = ("MTE3_MTE2>(slot)", "MTE2_V>(slot)", "V_MTE3>(slot)")


@pytest.mark.parametrize("order", ["random", "early", "late", "program"])
@pytest.mark.parametrize("flag", FLAGS)
def test_each_flag_of_vector_add_is_needed(flag: str, order: str):
    lines = [line for line in ADD.splitlines() if flag not in line]
    if flag == FLAGS[0]:
        # Nothing waits between the copies any more, so nothing is set beforehand either.
        lines = [line for line in lines if "HardEvent::MTE3_MTE2" not in line]
    a, b, c = arrays(150, 256)
    with pytest.raises(TwinError) as error:
        build("\n".join(lines), "add", PARAMETERS).run([a, b, c, 150, 256], blocks=48, order=order)
    assert "race" in {finding.kind for finding in error.value.findings}


@pytest.mark.parametrize("order", ["random", "early", "late", "program"])
def test_a_missing_flag_is_named_at_its_line(order: str):
    lines = [line for line in ADD.splitlines() if "MTE2_V>(slot)" not in line]
    a, b, c = arrays(2, 256)
    with pytest.raises(TwinError) as error:
        build("\n".join(lines), "add", PARAMETERS).run([a, b, c, 2, 256], blocks=2, order=order)
    finding = next(finding for finding in error.value.findings if finding.kind == "race")
    assert finding.call == "Add"
    assert lines[finding.line - 1].strip().startswith("Add(")
    assert "SetFlag<HardEvent::MTE2_V>" in finding.text
