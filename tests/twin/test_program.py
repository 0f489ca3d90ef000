"""Kernels through the whole twin: compiled, run on all cores in every order, checked."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest

from tilus.twin import CompilerError, TwinError, build, compiler

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


def test_type_by_the_form_of_the_function():
    source = ADD.replace("__global__ __aicore__", "__global__ __vector__").replace(
        "    KERNEL_TASK_TYPE_DEFAULT(KERNEL_TYPE_AIV_ONLY);\n", "")
    a, b, c = arrays(8, 64)
    build(source, "add", PARAMETERS).run([a, b, c, 8, 64], blocks=3)
    np.testing.assert_array_equal(c, a + b)


def test_one_array_as_two_arguments():
    a, b, _ = arrays(6, 64)
    expected = a + b
    build(ADD, "add", PARAMETERS).run([a, b, a, 6, 64], blocks=2)
    np.testing.assert_array_equal(a, expected)


def test_arguments_are_checked():
    a, b, c = arrays(4, 64)
    program = build(ADD, "add", PARAMETERS)
    with pytest.raises(ValueError, match="overlap"):
        program.run([a, b, a[1:], 3, 64], blocks=1)
    with pytest.raises(TypeError, match="takes 5 arguments, 4 are given"):
        program.run([a, b, c, 4], blocks=1)
    with pytest.raises(TypeError, match="contiguous"):
        program.run([a.T, b, c, 4, 64], blocks=1)
    with pytest.raises(ValueError, match="65536 blocks"):
        program.run([a, b, c, 4, 64], blocks=65536)
    with pytest.raises(ValueError, match="ascend310p has other cores"):
        program.run([a, b, c, 4, 64], blocks=1, chip="ascend310p")
    with pytest.raises(ValueError, match="no chip"):
        program.run([a, b, c, 4, 64], blocks=1, chip="ascend")


def test_endless_kernel():
    source = ADD.replace("row += GetBlockNum()", "row += GetBlockNum() - GetBlockNum()")
    a, b, c = arrays(4, 64)
    with pytest.raises(TwinError, match="issued 1000 instructions"):
        build(source, "add", PARAMETERS).run([a, b, c, 4, 64], blocks=2, most_instructions=1000)


def test_endless_faults():
    source = ADD.replace("row += GetBlockNum()", "row += GetBlockNum() - GetBlockNum()").replace(
        "tile * 4, tile)", "tile * 4 + 8, tile)").replace("WaitFlag<HardEvent::MTE3_MTE2>(slot);", "").replace(
        "slot = 1 - slot) {", "slot = 1 - slot) { (void)x[0].GetValue(0); continue;")
    a, b, c = arrays(4, 64)
    with pytest.raises(TwinError) as error:
        build(source, "add", PARAMETERS).run([a, b, c, 4, 64], blocks=2)
    assert sum(finding.times for finding in error.value.findings) >= 100000


def test_more_blocks_than_cores_wait_for_each_other():
    source = """#include "kernel_operator.h"
using namespace AscendC;
extern "C" __global__ __aicore__ void k() {
    KERNEL_TASK_TYPE_DEFAULT(KERNEL_TYPE_MIX_AIV_1_0);
    CrossCoreSetFlag<0, PIPE_MTE3>(0);
    CrossCoreWaitFlag(0);
}
"""
    program = build(source, "k", ())
    program.run([], blocks=48)
    with pytest.raises(TwinError, match="deadlock") as error:
        program.run([], blocks=49)
    assert error.value.findings[0].source.strip() == "CrossCoreWaitFlag(0);"


def test_all_cores_synchronise():
    source = """#include "kernel_operator.h"
using namespace AscendC;
extern "C" __global__ __aicore__ void k(GM_ADDR a, GM_ADDR out) {
    KERNEL_TASK_TYPE_DEFAULT(KERNEL_TYPE_MIX_AIV_1_0);
    TPipe pipe;
    GlobalTensor<float> x, y;
    x.SetGlobalBuffer((__gm__ float*)a);
    y.SetGlobalBuffer((__gm__ float*)out);
    TBuf<TPosition::VECCALC> buffer;
    pipe.InitBuffer(buffer, 32);
    LocalTensor<float> u = buffer.Get<float>();
    DataCopy(u, x[GetBlockIdx() * 8], 8);
    PipeBarrier<PIPE_ALL>();
    DataCopy(y[GetBlockIdx() * 8], u, 8);
    SyncAll();
    DataCopy(u, y[(GetBlockIdx() + 1) % GetBlockNum() * 8], 8);
    SyncAll();
    DataCopy(y[GetBlockIdx() * 8], u, 8);
}
"""
    given, out = np.arange(80, dtype=np.float32), np.zeros(80, np.float32)
    for order in ("random", "early", "late", "program"):
        build(source, "k", ("gm", "gm")).run([given, out], blocks=10, order=order)
        np.testing.assert_array_equal(out, np.roll(given, -8))
    with pytest.raises(TwinError, match="49 blocks are launched and 48 run at once"):
        build(source, "k", ("gm", "gm")).run([np.zeros(400, np.float32), np.zeros(400, np.float32)], blocks=49)
    reserved = source.replace("    SyncAll();\n    DataCopy(y", "    CrossCoreSetFlag<0, PIPE_MTE3>(11);\n"
                              "    CrossCoreWaitFlag(11);\n    DataCopy(y")
    with pytest.raises(TwinError, match="ids 11 to 14 belong to SyncAll"):
        build(reserved, "k", ("gm", "gm")).run([given, out], blocks=10)
    with pytest.raises(TwinError, match="race"):
        build(source.replace("    SyncAll();\n    DataCopy(u", "    DataCopy(u"), "k", ("gm", "gm")).run(
            [given, out], blocks=10)


def test_example_of_the_document(capsys: pytest.CaptureFixture[str]):
    page = (Path(__file__).parents[2] / "docs" / "twin.md").read_text()
    exec(page.split("```python\n")[1].split("\n```\n")[0], {})
    assert "cycles" in capsys.readouterr().out


def test_kept_files_are_swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(compiler, "MOST_KEPT", 4)
    for number in range(5):
        file = tmp_path / f"kernel-{number}.so"
        file.touch()
        os.utime(file, (number, number))
    compiler._sweep(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"kernel-{number}.so" for number in (2, 3, 4)]


def test_no_compiler(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setitem(sys.modules, "ziglang", None)
    with pytest.raises(CompilerError, match=r"install g\+\+ or clang\+\+"):
        compiler.find_compiler.__wrapped__()
    monkeypatch.setenv("CXX", "no-such-compiler -v")
    with pytest.raises(CompilerError, match="CXX names 'no-such-compiler'"):
        compiler.find_compiler.__wrapped__()
