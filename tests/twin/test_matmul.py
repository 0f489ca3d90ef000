"""A matrix product with everything in flight twice: right in every order, and each of its flags is needed."""

from __future__ import annotations

import numpy as np
import pytest

from tilus.twin import Program, Report, TwinError, build

MATMUL = """
#include "kernel_operator.h"
using namespace AscendC;

// C[M, N] = A[M, K] B[K, N] in half; blocks take tiles of TM x TN in turn, K in steps of TK, which are in flight twice.
constexpr uint32_t TM = 128, TN = 256, TK = 64;

__aicore__ inline uint32_t least(uint32_t a, uint32_t b) { return a < b ? a : b; }
__aicore__ inline uint32_t up(uint32_t a) { return (a + 15) / 16 * 16; }

extern "C" __global__ __aicore__ void matmul(GM_ADDR a, GM_ADDR b, GM_ADDR c, uint32_t M, uint32_t N, uint32_t K) {
    KERNEL_TASK_TYPE_DEFAULT(KERNEL_TYPE_AIC_ONLY);
    InitSocState();
    GlobalTensor<half> ga, gb;
    GlobalTensor<float> gc;
    ga.SetGlobalBuffer((__gm__ half*)a, M * K);
    gb.SetGlobalBuffer((__gm__ half*)b, K * N);
    gc.SetGlobalBuffer((__gm__ float*)c, M * N);
    LocalTensor<half> l1a[2], l1b[2], l0a[2], l0b[2];
    for (uint32_t i = 0; i < 2; ++i) {
        l1a[i] = LocalTensor<half>(TPosition::A1, i * TM * TK * 2, TM * TK);
        l1b[i] = LocalTensor<half>(TPosition::B1, 2 * TM * TK * 2 + i * TN * TK * 2, TN * TK);
        l0a[i] = LocalTensor<half>(TPosition::A2, i * TM * TK * 2, TM * TK);
        l0b[i] = LocalTensor<half>(TPosition::B2, i * TN * TK * 2, TN * TK);
        SetFlag<HardEvent::MTE1_MTE2>(i);
        SetFlag<HardEvent::M_MTE1>(i);
    }
    LocalTensor<float> l0c(TPosition::CO1, 0, TM * TN);
    SetFlag<HardEvent::FIX_M>(0);
    uint32_t rows = (M + TM - 1) / TM, columns = (N + TN - 1) / TN, slot = 0;
    for (uint32_t tile = GetBlockIdx(); tile < rows * columns; tile += GetBlockNum()) {
        uint32_t i = tile / columns * TM, j = tile % columns * TN;
        uint32_t m = least(TM, M - i), n = least(TN, N - j);
        WaitFlag<HardEvent::FIX_M>(0);
        for (uint32_t p = 0; p < K; p += TK, slot = 1 - slot) {
            uint32_t k = least(TK, K - p);
            WaitFlag<HardEvent::MTE1_MTE2>(slot);
            if (k % 16 != 0) {
                InitConstValueParams<half> zero;
                zero.repeatTimes = 1;
                zero.blockNum = up(n) * up(k) / 16;
                zero.initValue = half(0.0f);
                Fill(l1b[slot], zero);
                PipeBarrier<PIPE_MTE2>();
            }
            Nd2NzParams pa(1, m, k, 0, K, up(m), 1, 0);
            DataCopy(l1a[slot], ga[i * K + p], pa);
            Nd2NzParams pb(1, k, n, 0, N, up(k), 1, 0);
            DataCopy(l1b[slot], gb[p * N + j], pb);
            SetFlag<HardEvent::MTE2_MTE1>(slot);
            WaitFlag<HardEvent::MTE2_MTE1>(slot);
            WaitFlag<HardEvent::M_MTE1>(slot);
            for (uint32_t r = 0; r < up(m) / 16; ++r) {
                LoadData2DParams load;
                load.startIndex = r;
                load.repeatTimes = up(k) / 16;
                load.srcStride = up(m) / 16;
                LoadData(l0a[slot][r * up(k) * 16], l1a[slot], load);
            }
            for (uint32_t r = 0; r < up(k) / 16; ++r) {
                LoadData2DParams load;
                load.startIndex = r;
                load.repeatTimes = up(n) / 16;
                load.srcStride = up(k) / 16;
                load.ifTranspose = true;
                LoadData(l0b[slot][r * up(n) * 16], l1b[slot], load);
            }
            SetFlag<HardEvent::MTE1_MTE2>(slot);
            SetFlag<HardEvent::MTE1_M>(slot);
            WaitFlag<HardEvent::MTE1_M>(slot);
            MmadParams product;
            product.m = m;
            product.n = n;
            product.k = k;
            product.cmatrixInitVal = p == 0;
            Mmad(l0c, l0a[slot], l0b[slot], product);
            if (up(m) / 16 * (up(n) / 16) < 10) PipeBarrier<PIPE_M>();
            SetFlag<HardEvent::M_MTE1>(slot);
        }
        SetFlag<HardEvent::M_FIX>(0);
        WaitFlag<HardEvent::M_FIX>(0);
        FixpipeParamsV220 out;
        out.nSize = n;
        out.mSize = m;
        out.srcStride = up(m);
        out.dstStride = N;
        Fixpipe<float, float, CFG_ROW_MAJOR>(gc[i * N + j], l0c, out);
        SetFlag<HardEvent::FIX_M>(0);
    }
    for (uint32_t i = 0; i < 2; ++i) {
        WaitFlag<HardEvent::MTE1_MTE2>(i);
        WaitFlag<HardEvent::M_MTE1>(i);
    }
    WaitFlag<HardEvent::FIX_M>(0);
    PipeBarrier<PIPE_ALL>();
}
"""
PARAMETERS = ("gm", "gm", "gm", "uint32_t", "uint32_t", "uint32_t")


def run(program: Program, m: int, n: int, k: int, **options: object) -> Report:
    random = np.random.default_rng(m + n + k)
    a, b = (random.integers(-3, 4, shape).astype(np.float16) for shape in ((m, k), (k, n)))
    c = np.zeros((m, n), np.float32)
    report = program.run([a, b, c, m, n, k], blocks=min(24, -(-m // 128) * -(-n // 256)), **options)
    np.testing.assert_array_equal(c, a.astype(np.float32) @ b.astype(np.float32))
    return report


@pytest.mark.sweep
@pytest.mark.parametrize("order", ["random", "early", "late", "program"])
@pytest.mark.parametrize("shape", [(128, 256, 64), (300, 520, 192), (70, 33, 70), (17, 300, 129), (16, 16, 200)])
def test_matmul(shape: tuple[int, int, int], order: str):
    run(build(MATMUL, "matmul", PARAMETERS), *shape, order=order)


def test_counters():
    report = run(build(MATMUL, "matmul", PARAMETERS), 512, 512, 512)
    assert report.counters["cube MACs"] == 512**3
    assert report.counters["cube fractals"] == 32**3
    assert report.counters["GM-L1 bytes"] == 2 * 512 * 512 * (512 // 256 + 512 // 128)
    assert report.counters["L0C-GM bytes"] == 4 * 512 * 512


LINES = [number for number, line in enumerate(MATMUL.splitlines())
         if any(call in line for call in ("SetFlag", "WaitFlag", "PipeBarrier<PIPE_M"))]


@pytest.mark.sweep(keep=12)
@pytest.mark.parametrize("number", LINES)
def test_each_flag_and_barrier_is_needed(number: int):
    lines = MATMUL.splitlines()
    lines[number] = ""
    program = build("\n".join(lines), "matmul", PARAMETERS)
    # Several tiles in turn on one core, K with a tail, and products of few fractals.
    for shape in ((300, 20, 200), (40, 300, 200)):
        try:
            a, b = np.zeros((shape[0], shape[2]), np.float16), np.zeros((shape[2], shape[1]), np.float16)
            program.run([a, b, np.zeros(shape[:2], np.float32), *shape], blocks=1)
        except TwinError:
            return
    pytest.fail(f"without line {number} nothing is found: {MATMUL.splitlines()[number]}")
