"""The estimate of time against published figures of the 910B."""

from __future__ import annotations

import numpy as np
import pytest

from tests.twin.test_matmul import MATMUL
from tests.twin.test_matmul import PARAMETERS as MATMUL_PARAMETERS
from tests.twin.test_program import ADD
from tests.twin.test_program import PARAMETERS as ADD_PARAMETERS
from tilus.twin import build

# The products of flash attention, for `tiles` tiles of 128 rows by 256 keys of 128 numbers: S = Q K^T in halves of 128
# keys, and O' = P V. `which` chooses one of them.
STAGES = """
#include "kernel_operator.h"
using namespace AscendC;

__aicore__ inline MmadParams product(uint32_t m, uint32_t n, uint32_t k, bool first) {
    MmadParams params;
    params.m = m;
    params.n = n;
    params.k = k;
    params.cmatrixInitVal = first;
    return params;
}

__aicore__ inline FixpipeParamsV220 rows(uint32_t m, uint32_t n, uint32_t stride) {
    FixpipeParamsV220 params;
    params.mSize = params.srcStride = m;
    params.nSize = n;
    params.dstStride = stride;
    return params;
}

// K tiles are [256, 128] and go to L0B as they lie; Q stays in L0A.
__aicore__ inline void scores(GlobalTensor<half> q, GlobalTensor<half> keys, GlobalTensor<float> s, uint32_t tiles) {
    LocalTensor<half> l1q(TPosition::A1, 0, 16384), l0a(TPosition::A2, 0, 16384);
    DataCopy(l1q, q, Nd2NzParams(1, 128, 128, 0, 128, 128, 1, 0));
    SetFlag<HardEvent::MTE2_MTE1>(0);
    WaitFlag<HardEvent::MTE2_MTE1>(0);
    for (uint32_t r = 0; r < 8; ++r) LoadData(l0a[r * 2048], l1q, LoadData2DParams(r, 8, 8, 0, 0, false, 0));
    LocalTensor<half> l1[2], l0b[2];
    LocalTensor<float> l0c[2];
    for (uint32_t i = 0; i < 2; ++i) {
        l1[i] = LocalTensor<half>(TPosition::B1, 65536 + i * 65536, 32768);
        l0b[i] = LocalTensor<half>(TPosition::B2, i * 32768, 16384);
        l0c[i] = LocalTensor<float>(TPosition::CO1, i * 65536, 16384);
        SetFlag<HardEvent::MTE1_MTE2>(i);
        SetFlag<HardEvent::M_MTE1>(i);
        SetFlag<HardEvent::FIX_M>(i);
    }
    for (uint32_t tile = 0; tile < tiles; ++tile) {
        uint32_t slot = tile % 2;
        WaitFlag<HardEvent::MTE1_MTE2>(slot);
        DataCopy(l1[slot], keys[tile * 32768], Nd2NzParams(1, 256, 128, 0, 128, 256, 1, 0));
        SetFlag<HardEvent::MTE2_MTE1>(slot);
        WaitFlag<HardEvent::MTE2_MTE1>(slot);
        for (uint32_t h = 0; h < 2; ++h) {
            WaitFlag<HardEvent::M_MTE1>(h);
            for (uint32_t g = 0; g < 8; ++g) {
                LoadData(l0b[h][g * 2048], l1[slot], LoadData2DParams(h * 8 + g * 16, 8, 1, 0, 0, false, 0));
            }
            SetFlag<HardEvent::MTE1_M>(h);
            WaitFlag<HardEvent::MTE1_M>(h);
            WaitFlag<HardEvent::FIX_M>(h);
            Mmad(l0c[h], l0a, l0b[h], product(128, 128, 128, true));
            SetFlag<HardEvent::M_MTE1>(h);
            SetFlag<HardEvent::M_FIX>(h);
            WaitFlag<HardEvent::M_FIX>(h);
            Fixpipe<float, float, CFG_ROW_MAJOR>(s[tile * 32768 + h * 128], l0c[h], rows(128, 128, 256));
            SetFlag<HardEvent::FIX_M>(h);
        }
        SetFlag<HardEvent::MTE1_MTE2>(slot);
    }
    for (uint32_t i = 0; i < 2; ++i) {
        WaitFlag<HardEvent::MTE1_MTE2>(i);
        WaitFlag<HardEvent::M_MTE1>(i);
        WaitFlag<HardEvent::FIX_M>(i);
    }
}

// P tiles are [128, 256], V tiles [256, 128]; both in halves of 128 keys.
__aicore__ inline void values(GlobalTensor<half> p, GlobalTensor<half> v, GlobalTensor<float> o, uint32_t tiles) {
    LocalTensor<half> l1p[2], l1v[2], l0a[2], l0b[2];
    LocalTensor<float> l0c[2];
    for (uint32_t i = 0; i < 2; ++i) {
        l1p[i] = LocalTensor<half>(TPosition::A1, i * 65536, 32768);
        l1v[i] = LocalTensor<half>(TPosition::B1, 131072 + i * 65536, 32768);
        l0a[i] = LocalTensor<half>(TPosition::A2, i * 32768, 16384);
        l0b[i] = LocalTensor<half>(TPosition::B2, i * 32768, 16384);
        l0c[i] = LocalTensor<float>(TPosition::CO1, i * 65536, 16384);
        SetFlag<HardEvent::MTE1_MTE2>(i);
        SetFlag<HardEvent::M_MTE1>(i);
        SetFlag<HardEvent::FIX_M>(i);
    }
    // Copies are issued a tile ahead: the queue of MTE1 is full before that.
    auto fetch = [&](uint32_t tile) {
        uint32_t slot = tile % 2;
        WaitFlag<HardEvent::MTE1_MTE2>(slot);
        DataCopy(l1p[slot], p[tile * 32768], Nd2NzParams(1, 128, 256, 0, 256, 128, 1, 0));
        DataCopy(l1v[slot], v[tile * 32768], Nd2NzParams(1, 256, 128, 0, 128, 256, 1, 0));
        SetFlag<HardEvent::MTE2_MTE1>(slot);
    };
    fetch(0);
    for (uint32_t tile = 0; tile < tiles; ++tile) {
        uint32_t slot = tile % 2;
        if (tile + 1 < tiles) fetch(tile + 1);
        WaitFlag<HardEvent::MTE2_MTE1>(slot);
        WaitFlag<HardEvent::FIX_M>(slot);
        for (uint32_t h = 0; h < 2; ++h) {
            WaitFlag<HardEvent::M_MTE1>(h);
            for (uint32_t r = 0; r < 8; ++r) {
                LoadData(l0a[h][r * 2048], l1p[slot], LoadData2DParams(r + h * 64, 8, 8, 0, 0, false, 0));
                LoadData(l0b[h][r * 2048], l1v[slot], LoadData2DParams(r + h * 8, 8, 16, 0, 0, true, 0));
            }
            SetFlag<HardEvent::MTE1_M>(h);
            WaitFlag<HardEvent::MTE1_M>(h);
            Mmad(l0c[slot], l0a[h], l0b[h], product(128, 128, 128, h == 0));
            SetFlag<HardEvent::M_MTE1>(h);
        }
        SetFlag<HardEvent::MTE1_MTE2>(slot);
        SetFlag<HardEvent::M_FIX>(slot);
        WaitFlag<HardEvent::M_FIX>(slot);
        Fixpipe<float, float, CFG_ROW_MAJOR>(o[tile * 16384], l0c[slot], rows(128, 128, 128));
        SetFlag<HardEvent::FIX_M>(slot);
    }
    for (uint32_t i = 0; i < 2; ++i) {
        WaitFlag<HardEvent::MTE1_MTE2>(i);
        WaitFlag<HardEvent::M_MTE1>(i);
        WaitFlag<HardEvent::FIX_M>(i);
    }
}

extern "C" __global__ __aicore__ void stages(GM_ADDR left, GM_ADDR right, GM_ADDR result, uint32_t tiles,
                                               uint32_t which) {
    KERNEL_TASK_TYPE_DEFAULT(KERNEL_TYPE_AIC_ONLY);
    InitSocState();
    GlobalTensor<half> a, b;
    GlobalTensor<float> c;
    a.SetGlobalBuffer(reinterpret_cast<__gm__ half*>(left));
    b.SetGlobalBuffer(reinterpret_cast<__gm__ half*>(right));
    c.SetGlobalBuffer(reinterpret_cast<__gm__ float*>(result));
    if (which == 0) scores(a, b, c, tiles);
    if (which == 1) values(a, b, c, tiles);
    PipeBarrier<PIPE_ALL>();
}
"""


# The third stage on a vector core, whose share is 64 of the rows: O = O * factor + O', with tiles of O' on their way.
UPDATE = """
#include "kernel_operator.h"
using namespace AscendC;

extern "C" __global__ __aicore__ void update(GM_ADDR products, GM_ADDR factors, GM_ADDR result, uint32_t tiles) {
    KERNEL_TASK_TYPE_DEFAULT(KERNEL_TYPE_AIV_ONLY);
    InitSocState();
    GlobalTensor<float> p, f, o;
    p.SetGlobalBuffer(reinterpret_cast<__gm__ float*>(products));
    f.SetGlobalBuffer(reinterpret_cast<__gm__ float*>(factors));
    o.SetGlobalBuffer(reinterpret_cast<__gm__ float*>(result));
    LocalTensor<float> part(TPosition::VECCALC, 0, 16384), sum(TPosition::VECCALC, 65536, 8192);
    LocalTensor<float> shrink(TPosition::VECCALC, 98304, 64), wide(TPosition::VECCALC, 98560, 512);
    DataCopy(shrink, f, 64);
    Duplicate(sum, 0.0f, 8192);
    SetFlag<HardEvent::MTE2_V>(2);
    WaitFlag<HardEvent::MTE2_V>(2);
    Brcb(wide, shrink, 8, BrcbRepeatParams(1, 8));
    for (uint32_t i = 0; i < 2; ++i) SetFlag<HardEvent::V_MTE2>(i);
    for (uint32_t tile = 0; tile < tiles; ++tile) {
        uint32_t slot = tile % 2;
        WaitFlag<HardEvent::V_MTE2>(slot);
        DataCopy(part[slot * 8192], p[tile * 8192], 8192);
        SetFlag<HardEvent::MTE2_V>(slot);
        PipeBarrier<PIPE_V>();
        for (int column = 0; column < 128; column += 64) {
            Mul(sum[column], sum[column], wide, uint64_t(64), 64, BinaryRepeatParams(1, 1, 0, 16, 16, 1));
        }
        WaitFlag<HardEvent::MTE2_V>(slot);
        PipeBarrier<PIPE_V>();
        Add(sum, sum, part[slot * 8192], 8192);
        SetFlag<HardEvent::V_MTE2>(slot);
    }
    for (uint32_t i = 0; i < 2; ++i) WaitFlag<HardEvent::V_MTE2>(i);
    SetFlag<HardEvent::V_MTE3>(0);
    WaitFlag<HardEvent::V_MTE3>(0);
    DataCopy(o, sum, 8192);
    PipeBarrier<PIPE_ALL>();
}
"""


@pytest.mark.parametrize(("which", "published"), [(0, 2487), (1, 1617)])
def test_products_of_attention(which: int, published: int):
    """What one more tile takes, without the memory behind the L2, which holds the tiles of all that read them."""
    program = build(STAGES, "stages", ("gm", "gm", "gm", "uint32_t", "uint32_t"))
    random = np.random.default_rng(0)
    cycles = []
    for tiles in (4, 12):
        left_shape = (1, 128, 128) if which == 0 else (tiles, 128, 256)
        right_shape = (tiles, 256, 128)
        left, right = (random.integers(-2, 3, shape).astype(np.float16) for shape in (left_shape, right_shape))
        result = np.zeros((tiles, 128, 256 if which == 0 else 128), np.float32)
        cycles.append(program.run([left, right, result, tiles, which], blocks=1, chip="ascend910b3").pipeline_cycles)
        other = right.transpose(0, 2, 1) if which == 0 else right
        np.testing.assert_array_equal(result, left.astype(np.float32) @ other.astype(np.float32))
    assert (cycles[1] - cycles[0]) / 8 == pytest.approx(published, rel=0.25)


def test_update_of_attention():
    program = build(UPDATE, "update", ("gm", "gm", "gm", "uint32_t"))
    random = np.random.default_rng(1)
    cycles = []
    for tiles in (4, 12):
        products, factors = random.standard_normal((tiles, 64, 128), np.float32), random.random(64, np.float32)
        result, expected = np.zeros((64, 128), np.float32), np.zeros((64, 128))
        cycles.append(program.run([products, factors, result, tiles], blocks=1, chip="ascend910b3").pipeline_cycles)
        for product in products:
            expected = expected * factors[:, None] + product
        np.testing.assert_allclose(result, expected, rtol=0, atol=1e-5)
    assert (cycles[1] - cycles[0]) / 8 == pytest.approx(834, rel=0.25)


def test_matrix_product():
    """128 x 256 x 512 in half keeps the cube unit busy for 4156 cycles."""
    arrays = [np.zeros((128, 512), np.float16), np.zeros((512, 256), np.float16), np.zeros((128, 256), np.float32)]
    report = build(MATMUL, "matmul", MATMUL_PARAMETERS).run([*arrays, 128, 256, 512], blocks=1)
    assert report.busy["AIC"]["M"] == pytest.approx(4156, rel=0.02)


def test_addition_streams():
    """A sum of large arrays takes the time of memory, which the pipes of double-buffered tiles do not exceed."""
    arrays = [np.zeros((480, 8192), np.float32) for _ in range(3)]
    report = build(ADD, "add", ADD_PARAMETERS).run([*arrays, 480, 8192], blocks=48)
    assert report.bottleneck == "memory"
    assert 3 * arrays[0].nbytes / report.seconds >= 0.9 * report.chip.memory_bandwidth
    assert report.pipeline_cycles <= report.cycles


def test_estimate_does_not_depend_on_the_order():
    arrays = [np.zeros((128, 200), np.float16), np.zeros((200, 300), np.float16), np.zeros((128, 300), np.float32)]
    program = build(MATMUL, "matmul", MATMUL_PARAMETERS)
    reports = [program.run([*arrays, 128, 300, 200], blocks=2, order=order, seed=seed)
               for order in ("random", "early", "late", "program") for seed in range(3)]
    assert len({report.cycles for report in reports}) == 1
    assert len({str(report.counters) for report in reports}) == 1


def test_report_is_a_table():
    arrays = [np.zeros((2, 512), np.float32) for _ in range(3)]
    text = str(build(ADD, "add", ADD_PARAMETERS).run([*arrays, 2, 512], blocks=2))
    assert text.startswith("ascend910b1: ")
    assert "GM-UB bytes: 8,192" in text
