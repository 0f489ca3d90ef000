"""Copies between GM and UB, atomics, scalar accesses and queues, against results that follow by hand."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from tests.twin.harness import Kernels

BODIES = {}
EXPECTED = {}
f16, f32, s8, s16, s32, u32 = np.float16, np.float32, np.int8, np.int16, np.int32, np.uint32
bf16 = ml_dtypes.bfloat16


def case(name: str, body: str, arrays: list[np.ndarray], expected: np.ndarray, before: object = 0) -> None:
    BODIES[name] = body
    EXPECTED[name] = (arrays, expected, before)


def ramp(n: int, dtype: object = f32) -> np.ndarray:
    return np.arange(n).astype(dtype)


case("count", """
    LocalTensor<float> x(TPosition::VECIN, 64, 40);
    DataCopy(x, gm<float>(a)[8], 40);
    step();
    DataCopy(gm<float>(out), x, 40);
""", [ramp(48)], ramp(48)[8:])

# Three blocks of 16 numbers, 24 apart in GM and 32 in UB; numbers 16 to 31 of each 32 are those of Duplicate.
case("blocks_in", """
    LocalTensor<float> x(TPosition::VECIN, 0, 96);
    for (uint32_t i = 0; i < 96; ++i) x.SetValue(i, -1.0f);
    step();
    DataCopy(x, gm<float>(a), DataCopyParams(3, 2, 1, 2));
    step();
    DataCopy(gm<float>(out), x, 96);
""", [ramp(72)], np.stack([np.concatenate([ramp(16) + 24 * i, np.full(16, -1)]) for i in range(3)]).astype(f32))

case("blocks_out", """
    LocalTensor<half> x(TPosition::VECOUT, 0, 96);
    DataCopy(x, gm<half>(a), 96);
    step();
    DataCopyParams blocks;
    blocks.blockCount = 3;
    blocks.blockLen = 1;
    blocks.srcGap = 1;
    blocks.dstGap = 2;
    DataCopy(gm<half>(out), x, blocks);
""", [ramp(96, f16)], np.concatenate([[*(ramp(16) + 32 * i), *[5] * 32] for i in range(3)]).astype(f16), 5)

# Two rows of 5 numbers, 7 apart in GM; two numbers before and four after each, which makes 11 and a slot of 16.
rows = np.full((2, 16), 9, f16)
rows[:, :2] = rows[:, 7:11] = 2.5
rows[0, 2:7], rows[1, 2:7] = [0, 1, 2, 3, 4], [7, 8, 9, 10, 11]
case("pad_in", """
    LocalTensor<half> x(TPosition::VECIN, 0, 32);
    DataCopyPad(x, gm<half>(a), DataCopyExtParams(2, 10, 4, 0, 0), DataCopyPadExtParams<half>(true, 2, 4, half(2.5f)));
    step();
    DataCopyPad(gm<half>(out), x, DataCopyExtParams(2, 22, 0, 10, 0));
""", [ramp(14, f16)], rows, 9)

# One more slot of 32 B between the rows in UB.
case("pad_in_apart", """
    LocalTensor<int32_t> x(TPosition::VECIN, 0, 24);
    for (uint32_t i = 0; i < 24; ++i) x.SetValue(i, -1);
    step();
    DataCopyPad(x, gm<int32_t>(a), DataCopyExtParams(2, 12, 0, 1, 0), DataCopyPadExtParams<int32_t>(true, 0, 5, 77));
    step();
    DataCopy(gm<int32_t>(out), x, 24);
""", [ramp(6, s32)], np.array([0, 1, 2] + [77] * 5 + [-1] * 8 + [3, 4, 5] + [77] * 5, s32))

case("pad_value", """
    LocalTensor<float> x(TPosition::VECIN, 0, 8);
    SetPadValue(1.5f);
    DataCopyPad(x, gm<float>(a), DataCopyExtParams(1, 20, 0, 0, 0), DataCopyPadExtParams<float>(false, 0, 3, 0.0f));
    step();
    DataCopy(gm<float>(out), x, 8);
""", [ramp(5)], np.array([0, 1, 2, 3, 4, 1.5, 1.5, 1.5], f32))

# Bytes, from and to any address of GM; what lies around is left alone.
case("bytes", """
    LocalTensor<int8_t> x(TPosition::VECIN, 0, 64);
    DataCopyPad(x, gm<int8_t>(a)[3], DataCopyExtParams(1, 37, 0, 0, 0), DataCopyPadExtParams<int8_t>());
    step();
    DataCopyPad(gm<int8_t>(out)[1], x, DataCopyExtParams(1, 37, 0, 0, 0));
""", [ramp(50, s8)], np.concatenate([[-1], ramp(37) + 3, [-1, -1]]).astype(s8), -1)

# Rows of 3 numbers in slots of 32 B, to rows that are 5 apart.
case("pad_out", """
    LocalTensor<float> x(TPosition::VECOUT, 0, 32);
    DataCopy(x, gm<float>(a), 32);
    step();
    DataCopyPad(gm<float>(out), x, DataCopyExtParams(3, 12, 0, 8, 0));
""", [ramp(32)], np.array([0, 1, 2, -1, -1, 8, 9, 10, -1, -1, 16, 17, 18], f32), -1)

case("within_ub", """
    LocalTensor<int16_t> x(TPosition::VECIN, 0, 64), y(TPosition::VECOUT, 128, 64);
    DataCopy(x, gm<int16_t>(a), 64);
    step();
    DataCopy(y, x, DataCopyParams(2, 1, 1, 1));
    DataCopy(y[16], x, DataCopyParams(2, 1, 0, 1));
    step();
    DataCopy(gm<int16_t>(out), y, 64);
""", [ramp(64, s16)], np.concatenate([ramp(16), ramp(16), ramp(16) + 32, ramp(16) + 16]).astype(s16))

for call, T, dtype, one, other, combined in (
        ("Add", "float", f32, 1.5, 2.25, 3.75), ("Add", "half", f16, 2048, 1, 2048),
        ("Add", "int8_t", s8, 100, 100, -56), ("Max", "int32_t", s32, -5, 7, 7),
        ("Min", "bfloat16_t", bf16, 3, -0.5, -0.5), ("Max", "int16_t", s16, 4, -9, 4)):
    before, given, result = (np.full(32, value).astype(dtype) for value in (one, other, combined))
    case(f"atomic_{call}_{T}", f"""
    LocalTensor<{T}> x(TPosition::VECOUT, 0, 32);
    DataCopy(x, gm<{T}>(a), 32);
    step();
    SetAtomic{call}<{T}>();
    DataCopy(gm<{T}>(out), x, 32);
    {'SetAtomicNone' if call == 'Add' else 'DisableDmaAtomic'}();
    step();
    DataCopy(gm<{T}>(out)[32], x, 32);
""", [given], np.concatenate([result, given]), before[0])

# Values by the scalar unit, in the order that flags give.
case("scalars", """
    LocalTensor<int32_t> x(TPosition::VECIN, 0, 16);
    DataCopy(x, gm<int32_t>(a), 16);
    SetFlag<HardEvent::MTE2_S>(0);
    WaitFlag<HardEvent::MTE2_S>(0);
    int32_t sum = 0;
    for (uint32_t i = 0; i < 16; ++i) sum += x.GetValue(i);
    x.SetValue(0, sum);
    x(1, 5);
    SetFlag<HardEvent::S_MTE3>(0);
    WaitFlag<HardEvent::S_MTE3>(0);
    DataCopy(gm<int32_t>(out), x, 16);
""".replace("x(1, 5)", "x.SetValue(1, x.ReinterpretCast<uint32_t>().GetValue(2) + 3)"), [ramp(16, s32)],
     np.concatenate([[120, 5], ramp(16)[2:]]).astype(s32))

# GM by way of the data cache: what is written has to be cleaned, what others wrote to be dropped.
case("scalars_of_gm", """
    auto x = gm<uint32_t>(a), y = gm<uint32_t>(out);
    y.SetValue(0, x.GetValue(3) + x.GetValue(20));
    y.SetValue(17, 9u);
    DataCacheCleanAndInvalid<uint32_t, CacheLine::ENTIRE_DATA_CACHE, DcciDst::CACHELINE_OUT>(y);
    SetFlag<HardEvent::S_MTE2>(0);
    WaitFlag<HardEvent::S_MTE2>(0);
    LocalTensor<uint32_t> u(TPosition::VECIN, 0, 8);
    DataCopy(u, y, 8);
    step();
    DataCopy(y[24], u, 8);
    step();
    y.SetValue(1, y.GetValue(24) + 1);
    DataCacheCleanAndInvalid<uint32_t, CacheLine::SINGLE_CACHE_LINE>(y);
""", [ramp(24, u32)], np.array([23, 24] + [0] * 15 + [9] + [0] * 6 + [23] + [0] * 7, u32))

# Blocks in other orders than cores: more blocks than there are cores.
case("many_blocks", """
    LocalTensor<int32_t> x(TPosition::VECIN, 0, 8);
    x.SetValue(0, static_cast<int32_t>(GetBlockIdx() * 100 + GetBlockNum()));
    step();
    DataCopyPad(gm<int32_t>(out)[GetBlockIdx()], x, DataCopyExtParams(1, 4, 0, 0, 0));
""", [], (100 * ramp(130) + 130).astype(s32))

QUEUES = {"queues": """
    TPipe pipe;
    TQue<TPosition::VECIN, 1> in;
    TQue<TPosition::VECOUT, 1> results;
    TBuf<TPosition::VECCALC> ones;
    pipe.InitBuffer(in, 2, 200);
    pipe.InitBuffer(results, 2, 256);
    pipe.InitBuffer(ones, 256);
    LocalTensor<float> one = ones.Get<float>();
    for (uint32_t i = 0; i < 64; ++i) one.SetValue(i, 1.0f);
    TEventID ready = pipe.AllocEventID<HardEvent::S_V>();
    SetFlag<HardEvent::S_V>(ready);
    WaitFlag<HardEvent::S_V>(ready);
    pipe.ReleaseEventID<HardEvent::S_V>(ready);
    for (uint32_t i = 0; i < 7; ++i) {
        LocalTensor<float> x = in.AllocTensor<float>();
        DataCopy(x, gm<float>(a)[i * 48], 48);
        in.EnQue(x);
        x = in.DeQue<float>();
        LocalTensor<float> y = results.AllocTensor<float>();
        Add(y, x, one, 48);
        in.FreeTensor(x);
        results.EnQue(y);
        y = results.DeQue<float>();
        DataCopy(gm<float>(out)[i * 48], y, 48);
        results.FreeTensor(y);
    }
"""}


@pytest.fixture(scope="module")
def kernels() -> Kernels:
    return Kernels(BODIES, kind="AIV_ONLY")


@pytest.mark.parametrize("name", BODIES)
def test_copy(name: str, kernels: Kernels):
    arrays, expected, before = EXPECTED[name]
    out = np.full(expected.shape, before, expected.dtype)
    kernels.run(name, arrays, out, blocks=130 if name == "many_blocks" else 1)
    np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize("order", ["random", "early", "late", "program"])
def test_queues(order: str):
    out = np.zeros(336, f32)
    Kernels(QUEUES, kind="AIV_ONLY", static_memory=False).run("queues", [ramp(336)], out, order=order)
    np.testing.assert_array_equal(out, ramp(336) + 1)
