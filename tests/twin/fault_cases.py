"""Kernels with planted faults, each beside its right twin."""

from __future__ import annotations

from typing import NamedTuple


class Fault(NamedTuple):
    """``body`` is right; with ``new`` for ``old`` it has a finding of this kind at the line that holds ``at``."""

    body: str
    old: str
    new: str
    kind: str
    at: str


VECTOR = """
    LocalTensor<float> x(TPosition::VECIN, 0, 64), y(TPosition::VECOUT, 256, 64);
    for (uint32_t i = 0; i < 3; ++i) {
        DataCopy(x, gm<float>(a)[i * 64], 64);
        SetFlag<HardEvent::MTE2_V>(0);
        WaitFlag<HardEvent::MTE2_V>(0);
        Add(y, x, x, 64);
        PipeBarrier<PIPE_V>();
        Add(y, y, x, 64);
        SetFlag<HardEvent::V_MTE3>(1);
        WaitFlag<HardEvent::V_MTE3>(1);
        DataCopy(gm<float>(out)[i * 64], y, 64);
        SetFlag<HardEvent::MTE3_MTE2>(0);
        WaitFlag<HardEvent::MTE3_MTE2>(0);
    }
"""


def both(event: str, number: int) -> str:
    return (f"        SetFlag<HardEvent::{event}>({number});\n"
            f"        WaitFlag<HardEvent::{event}>({number});\n")


SCALARS = """
    LocalTensor<int32_t> x(TPosition::VECIN, 0, 16);
    DataCopy(x, gm<int32_t>(a), 16);
    SetFlag<HardEvent::MTE2_S>(0);
    WaitFlag<HardEvent::MTE2_S>(0);
    int32_t value = x.GetValue(3);
    x.SetValue(5, value);
    SetFlag<HardEvent::S_MTE3>(0);
    WaitFlag<HardEvent::S_MTE3>(0);
    DataCopy(gm<int32_t>(out), x, 16);
"""
OVERLAP = """
    LocalTensor<half> x(TPosition::VECIN, 0, 64);
    DataCopy(x, gm<half>(a), 64);
    PipeBarrier<PIPE_MTE2>();
    DataCopy(x[48], gm<half>(b), 16);
    step();
    DataCopy(gm<half>(out), x, 64);
"""
PADDED = """
    LocalTensor<half> x(TPosition::VECIN, 0, 32);
    DataCopyPad(x, gm<half>(a), DataCopyExtParams(1, 20, 0, 0, 0), DataCopyPadExtParams<half>(true, 0, 6, half(0.0f)));
    step();
    DataCopy(gm<half>(out), x, 16);
"""
ATOMIC = """
    LocalTensor<float> x(TPosition::VECIN, 0, 16);
    DataCopy(x, gm<float>(a), 16);
    step();
    SetAtomicAdd<float>();
    DataCopy(gm<float>(out), x, 16);
    SetAtomicNone();
"""
CACHED = """
    gm<float>(out).SetValue(0, 1.0f);
    DataCacheCleanAndInvalid<float, CacheLine::SINGLE_CACHE_LINE, DcciDst::CACHELINE_OUT>(gm<float>(out));
    SetFlag<HardEvent::S_MTE2>(0);
    WaitFlag<HardEvent::S_MTE2>(0);
    LocalTensor<float> x(TPosition::VECIN, 0, 16);
    DataCopy(x, gm<float>(out), 16);
"""
STALE = """
    auto y = gm<float>(out);
    float old = y.GetValue(0);
    LocalTensor<float> x(TPosition::VECIN, 0, 16);
    DataCopy(x, gm<float>(a), 16);
    step();
    DataCopy(y, x, 16);
    step();
    DataCacheCleanAndInvalid<float, CacheLine::SINGLE_CACHE_LINE>(y);
    x.SetValue(0, y.GetValue(0) + old);
"""
VECTOR_FAULTS = {
    "no_flag_before_v": Fault(VECTOR, both("MTE2_V", 0), "", "race", "Add(y, x, x, 64)"),
    "no_flag_after_v": Fault(VECTOR, both("V_MTE3", 1), "", "race", "DataCopy(gm<float>(out)"),
    "no_reverse_flag": Fault(VECTOR, both("MTE3_MTE2", 0), "", "race", "DataCopy(x, gm<float>(a)"),
    "no_v_barrier": Fault(VECTOR, "PipeBarrier<PIPE_V>();", "", "missing PipeBarrier<PIPE_V>", "Add(y, y, x, 64)"),
    "set_is_missing": Fault(VECTOR, "SetFlag<HardEvent::V_MTE3>(1);", "", "deadlock", "WaitFlag<HardEvent::V_MTE3>"),
    "wait_is_missing": Fault(VECTOR, "WaitFlag<HardEvent::V_MTE3>(1);", "", "flag set twice",
                             "SetFlag<HardEvent::V_MTE3>"),
    "flag_left_set": Fault(SCALARS, "WaitFlag<HardEvent::S_MTE3>(0);", "", "flag left set",
                           "SetFlag<HardEvent::S_MTE3>"),
    "other_id": Fault(VECTOR, "WaitFlag<HardEvent::MTE2_V>(0)", "WaitFlag<HardEvent::MTE2_V>(1)", "deadlock",
                      "WaitFlag<HardEvent::MTE2_V>"),
    "reserved_id": Fault(SCALARS, "HardEvent::MTE2_S>(0)", "HardEvent::MTE2_S>(6)", "flag",
                         "SetFlag<HardEvent::MTE2_S>"),
    "no_such_id": Fault(SCALARS, "HardEvent::MTE2_S>(0)", "HardEvent::MTE2_S>(8)", "flag",
                        "SetFlag<HardEvent::MTE2_S>"),
    "flag_of_the_cube": Fault(SCALARS, "HardEvent::MTE2_S>(0)", "HardEvent::MTE2_MTE1>(0)", "flag",
                              "SetFlag<HardEvent::MTE2_MTE1>"),
    "scalar_read_too_early": Fault(
        SCALARS, "    SetFlag<HardEvent::MTE2_S>(0);\n    WaitFlag<HardEvent::MTE2_S>(0);\n",
                                   "", "race", "GetValue(3)"),
    "scalar_written_too_late": Fault(
        SCALARS, "    SetFlag<HardEvent::S_MTE3>(0);\n    WaitFlag<HardEvent::S_MTE3>(0);\n", "", "race",
        "DataCopy(gm<int32_t>(out)"),
    "copies_overlap": Fault(OVERLAP, "PipeBarrier<PIPE_MTE2>();", "", "missing PipeBarrier<PIPE_MTE2>",
                            "DataCopy(x[48]"),
    "beyond_ub": Fault(OVERLAP, "TPosition::VECIN, 0, 64", "TPosition::VECIN, 196256, 64", "out of bounds",
                       "LocalTensor<half> x"),
    "beyond_tensor": Fault(OVERLAP, "DataCopy(x[48], gm<half>(b), 16)", "DataCopy(x[48], gm<half>(b), 32)",
                           "out of bounds",
                           "DataCopy(x[48]"),
    "beyond_array": Fault(OVERLAP, "DataCopy(x[48], gm<half>(b), 16)", "DataCopy(x[48], gm<half>(b)[2040], 16)",
                          "out of bounds", "DataCopy(x[48]"),
    "before_array": Fault(OVERLAP, "gm<half>(b), 16)", "gm<half>(b - 32), 16)", "out of bounds", "DataCopy(x[48]"),
    "misaligned_tensor": Fault(OVERLAP, "TPosition::VECIN, 0, 64", "TPosition::VECIN, 8, 64", "alignment",
                               "LocalTensor<half> x"),
    "misaligned_slice": Fault(OVERLAP, "DataCopy(x[48]", "DataCopy(x[47]", "alignment", "DataCopy(x[47]"),
    "count_is_cut": Fault(OVERLAP, "gm<half>(b), 16)", "gm<half>(b), 15)", "count", "DataCopy(x[48]"),
    "too_many_blocks": Fault(OVERLAP, "gm<half>(b), 16)", "gm<half>(b), DataCopyParams(4096, 0, 0, 0))", "parameter",
                             "DataCopy(x[48]"),
    "field_wraps": Fault(OVERLAP, "gm<half>(b), 16)", "gm<half>(b), DataCopyParams(1, 1 + 65536, 0, 0))", "parameter",
                         "DataCopy(x[48]"),
    "never_written": Fault(OVERLAP, "TPosition::VECIN, 0, 64);\n    DataCopy(x, gm<half>(a), 64)",
                           "TPosition::VECIN, 0, 64);\n    DataCopy(x, gm<half>(a), 32)", "uninitialised",
                           "DataCopy(gm<half>(out)"),
    "padding_of_33_bytes": Fault(PADDED, "true, 0, 6", "true, 0, 17", "parameter", "DataCopyPad(x"),
    "dummies": Fault(PADDED, "true, 0, 6", "false, 0, 6", "uninitialised", "DataCopy(gm<half>(out)"),
    "slot_is_longer": Fault(PADDED, "true, 0, 6", "true, 0, 5", "uninitialised", "DataCopy(gm<half>(out)"),
    "atomic_left_on": Fault(ATOMIC, "    SetAtomicNone();\n", "", "atomic left set", "SetAtomicAdd"),
    "atomic_of_another_type": Fault(ATOMIC, "SetAtomicAdd<float>", "SetAtomicAdd<half>", "parameter",
                                    "DataCopy(gm<float>(out)"),
    "not_cleaned": Fault(CACHED, CACHED.splitlines()[2], "", "data cache", "DataCopy(x, gm<float>(out), 16)"),
    "cleaned_too_late": Fault(CACHED, "    SetFlag<HardEvent::S_MTE2>(0);\n    WaitFlag<HardEvent::S_MTE2>(0);\n", "",
                              "race", "DataCopy(x, gm<float>(out), 16)"),
    "stale_line": Fault(STALE, STALE.splitlines()[8], "", "data cache", "y.GetValue(0) + old"),
    "product_on_a_vector_core": Fault(
        OVERLAP, "    step();\n", "    step();\n    Mmad(LocalTensor<float>(TPosition::CO1, 0, 256), "
        "LocalTensor<half>(TPosition::A2, 0, 256), LocalTensor<half>(TPosition::B2, 0, 256), MmadParams());\n",
        "wrong core", "Mmad("),
    "load_into_l1": Fault(OVERLAP, "TPosition::VECIN, 0, 64", "TPosition::A1, 0, 64", "wrong core",
                          "DataCopy(x, gm<half>(a), 64)"),
    "sync_all_without_pipe": Fault(OVERLAP, "    step();\n", "    SyncAll();\n", "static memory", "SyncAll"),
    "cross_core_without_mix": Fault(OVERLAP, "    step();\n", "    step();\n    CrossCoreSetFlag<0, PIPE_MTE3>(0);\n",
                                    "cross-core flag", "CrossCoreSetFlag"),
}

CUBE = """
    LocalTensor<half> l1(TPosition::A1, 0, 1024), l0a(TPosition::A2, 0, 512), l0b(TPosition::B2, 0, 512);
    LocalTensor<float> l0c(TPosition::CO1, 0, 256);
    LocalTensor<float> bias(TPosition::C2, 0, 16);
    for (uint32_t i = 0; i < 2; ++i) {
        DataCopy(l1, gm<half>(a), 1024);
        SetFlag<HardEvent::MTE2_MTE1>(0);
        WaitFlag<HardEvent::MTE2_MTE1>(0);
        LoadData(l0a, l1, LoadData2DParams(0, 2, 1, 0, 0, false, 0));
        LoadData(l0b, l1, LoadData2DParams(2, 2, 1, 0, 0, true, 0));
        SetFlag<HardEvent::MTE1_M>(0);
        WaitFlag<HardEvent::MTE1_M>(0);
        MmadParams first;
        first.m = first.n = 16;
        first.k = 32;
        Mmad(l0c, l0a, l0b, first);
        PipeBarrier<PIPE_M>();
        MmadParams second = first;
        second.cmatrixInitVal = false;
        Mmad(l0c, l0a, l0b, second);
        SetFlag<HardEvent::M_FIX>(0);
        WaitFlag<HardEvent::M_FIX>(0);
        FixpipeParamsV220 fix;
        fix.nSize = fix.mSize = fix.srcStride = 16;
        fix.dstStride = 16;
        Fixpipe<float, float, CFG_ROW_MAJOR>(gm<float>(out), l0c, fix);
        SetFlag<HardEvent::FIX_MTE2>(0);
        WaitFlag<HardEvent::FIX_MTE2>(0);
    }
"""
NARROW = """
    LocalTensor<half> l1(TPosition::A1, 0, 512), l0a(TPosition::A2, 0, 512);
    InitConstValueParams<half> zero(1, 32, 0, half(0.0f));
    Fill(l1, zero);
    PipeBarrier<PIPE_MTE2>();
    for (uint32_t r = 0; r < 16; ++r) DataCopy(l1[r * 16], gm<half>(a)[r * 16], 16);
    step();
    LoadData(l0a, l1, LoadData2DParams(0, 2, 1, 0, 0, false, 0));
    LocalTensor<half> l0b(TPosition::B2, 0, 512);
    LoadData(l0b, l1, LoadData2DParams(0, 2, 1, 0, 0, true, 0));
    step();
    LocalTensor<float> l0c(TPosition::CO1, 0, 256);
    MmadParams product;
    product.m = product.n = 16;
    product.k = 20;
    Mmad(l0c, l0a, l0b, product);
"""
UNIT = """
    LocalTensor<half> l1(TPosition::A1, 0, 512), l0a(TPosition::A2, 0, 256), l0b(TPosition::B2, 0, 256);
    DataCopy(l1, gm<half>(a), 512);
    step();
    LoadData(l0a, l1, LoadData2DParams(0, 1, 1, 0, 0, false, 0));
    LoadData(l0b, l1, LoadData2DParams(1, 1, 1, 0, 0, false, 0));
    step();
    LocalTensor<float> l0c(TPosition::CO1, 0, 256);
    MmadParams product;
    product.m = product.n = product.k = 16;
    product.unitFlag = 3;
    Mmad(l0c, l0a, l0b, product);
    FixpipeParamsV220 fix;
    fix.nSize = fix.mSize = fix.srcStride = 16;
    fix.dstStride = 16;
    fix.unitFlag = 3;
    Fixpipe<float, float, CFG_ROW_MAJOR>(gm<float>(out), l0c, fix);
"""
CUBE_FAULTS = {
    "no_flag_before_mte1": Fault(CUBE, both("MTE2_MTE1", 0), "", "race", "LoadData(l0a"),
    "no_flag_before_m": Fault(CUBE, both("MTE1_M", 0), "", "race", "Mmad(l0c, l0a, l0b, first)"),
    "no_flag_before_fix": Fault(CUBE, both("M_FIX", 0), "", "race", "Fixpipe<"),
    "no_flag_after_fix": Fault(CUBE, both("FIX_MTE2", 0), "", "race", "Mmad(l0c, l0a, l0b, first)"),
    "no_m_barrier": Fault(CUBE, "PipeBarrier<PIPE_M>();", "", "missing PipeBarrier<PIPE_M>",
                          "Mmad(l0c, l0a, l0b, second)"),
    "stale_k_padding": Fault(NARROW, "    Fill(l1, zero);\n    PipeBarrier<PIPE_MTE2>();\n", "", "uninitialised",
                             "Mmad("),
    "misaligned_result": Fault(CUBE, "TPosition::CO1, 0, 256", "TPosition::CO1, 64, 256", "alignment",
                               "Mmad(l0c, l0a, l0b, first)"),
    "misaligned_operand": Fault(CUBE, "TPosition::A2, 0, 512", "TPosition::A2, 32, 512", "alignment",
                                "LocalTensor<half> l1"),
    "beyond_l0a": Fault(CUBE, "TPosition::A2, 0, 512", "TPosition::A2, 65024, 512", "out of bounds",
                        "LocalTensor<half> l1"),
    "no_repeats": Fault(CUBE, "LoadData2DParams(0, 2, 1", "LoadData2DParams(0, 0, 1", "parameter", "LoadData(l0a"),
    "too_many_repeats": Fault(CUBE, "LoadData2DParams(0, 2, 1", "LoadData2DParams(0, 256, 1", "parameter",
                              "LoadData(l0a"),
    "operands_in_wrong_places": Fault(CUBE, "Mmad(l0c, l0a, l0b, first)", "Mmad(l0c, l0b, l0a, first)", "parameter",
                                      "Mmad(l0c, l0b, l0a, first)"),
    "product_too_large": Fault(CUBE, "first.k = 32;", "first.k = 4096;", "parameter", "Mmad(l0c, l0a, l0b, first)"),
    "wider_than_loaded": Fault(CUBE, "first.k = 32;", "first.k = 48;", "out of bounds", "Mmad(l0c, l0a, l0b, first)"),
    "bias_is_ignored": Fault(CUBE, "Mmad(l0c, l0a, l0b, first)", "Mmad(l0c, l0a, l0b, bias, first)", "parameter",
                             "Mmad(l0c, l0a, l0b, bias, first)"),
    "no_conversion": Fault(CUBE, "Fixpipe<float, float, CFG_ROW_MAJOR>(gm<float>(out)",
                           "Fixpipe<half, float, CFG_ROW_MAJOR>(gm<half>(out)", "parameter", "Fixpipe<half"),
    "result_unwritten": Fault(CUBE, "fix.nSize = fix.mSize = fix.srcStride = 16;\n        fix.dst",
                              "fix.nSize = 16;\n        fix.mSize = fix.srcStride = 17;\n        fix.dst",
                              "out of bounds",
                              "Fixpipe<"),
    "rows_of_l1_only_nz": Fault(CUBE, "Fixpipe<float, float, CFG_ROW_MAJOR>(gm<float>(out)",
                                "fix.quantPre = F322F16;\n        Fixpipe<half, float, CFG_ROW_MAJOR>(l1", "parameter",
                                "Fixpipe<half"),
    "pitch_too_wide": Fault(CUBE, "DataCopy(l1, gm<half>(a), 1024)",
                            "DataCopy(l1, gm<half>(a), Nd2NzParams(1, 1, 16, 0, 65536, 16, 1, 0))", "parameter",
                            "DataCopy(l1, gm<half>(a)"),
    "from_ub": Fault(CUBE, "TPosition::A1, 0, 1024", "TPosition::VECIN, 0, 1024", "wrong core",
                     "DataCopy(l1, gm<half>(a)"),
    "vector_call_on_a_cube_core": Fault(
        UNIT, "    step();\n    LocalTensor<float> l0c",
        "    step();\n    LocalTensor<float> v(TPosition::VECCALC, 0, 64);\n"
        "    Add(v, v, v, 64);\n    LocalTensor<float> l0c", "wrong core", "Add(v, v, v, 64)"),
    "no_last_product": Fault(UNIT, "product.unitFlag = 3", "product.unitFlag = 2", "deadlock", "Fixpipe<"),
    "nothing_drains": Fault(UNIT, "fix.unitFlag = 3;", "fix.unitFlag = 0;", "race", "Fixpipe<"),
}

# Cube cores write a row each and tell their vector cores, which add halves of it.
MIX = """
    auto given = gm<float>(c);
    if ASCEND_IS_AIC {
        LocalTensor<half> l1(TPosition::A1, 0, 512), l0a(TPosition::A2, 0, 256), l0b(TPosition::B2, 0, 256);
        LocalTensor<float> l0c(TPosition::CO1, 0, 256);
        DataCopy(l1, gm<half>(a), 512);
        step();
        LoadData(l0a, l1, LoadData2DParams(0, 1, 1, 0, 0, false, 0));
        LoadData(l0b, l1, LoadData2DParams(1, 1, 1, 0, 0, false, 0));
        step();
        MmadParams product;
        product.m = product.n = product.k = 16;
        Mmad(l0c, l0a, l0b, product);
        step();
        FixpipeParamsV220 fix;
        fix.nSize = fix.mSize = fix.srcStride = 16;
        fix.dstStride = 16;
        for (uint32_t i = 0; i < 2; ++i) {
            if (i > 0) CrossCoreWaitFlag(1);
            Fixpipe<float, float, CFG_ROW_MAJOR>(given[GetBlockIdx() * 256], l0c, fix);
            CrossCoreSetFlag<2, PIPE_FIX>(0);
        }
        CrossCoreWaitFlag(1);
    }
    if ASCEND_IS_AIV {
        LocalTensor<float> x(TPosition::VECIN, 0, 128);
        for (uint32_t i = 0; i < 2; ++i) {
            CrossCoreWaitFlag<2>(0);
            DataCopy(x, given[GetBlockIdx() * 128], 128);
            CrossCoreSetFlag<2, PIPE_MTE2>(1);
            step();
            DataCopy(gm<float>(out)[GetBlockIdx() * 128], x, 128);
            step();
        }
    }
"""
# Vector cores exchange rows by way of GM.
EXCHANGE = """
    if ASCEND_IS_AIV {
        LocalTensor<float> x(TPosition::VECIN, 0, 16);
        uint32_t own = GetBlockIdx(), all = GetBlockNum() * 2;
        DataCopy(x, gm<float>(a)[own * 16], 16);
        step();
        DataCopy(gm<float>(c)[own * 16], x, 16);
        CrossCoreSetFlag<0, PIPE_MTE3>(3);
        CrossCoreWaitFlag(3);
        LocalTensor<float> y(TPosition::VECIN, 64, 16);
        DataCopy(y, gm<float>(c)[(own + 1) % all * 16], 16);
        step();
        DataCopy(gm<float>(out)[own * 16], y, 16);
    }
"""
MIX_FAULTS = {
    "read_before_written": Fault(MIX, "            CrossCoreWaitFlag<2>(0);\n", "", "race", "DataCopy(x, given"),
    "set_by_another_pipe": Fault(MIX, "CrossCoreSetFlag<2, PIPE_FIX>(0)", "CrossCoreSetFlag<2, PIPE_MTE1>(0)", "race",
                                 "DataCopy(x, given"),
    "written_before_read": Fault(MIX, "if (i > 0) CrossCoreWaitFlag(1);", "if (i > 2) CrossCoreWaitFlag(1);", "race",
                                 "DataCopy(x, given"),
    "free_flag_left": Fault(MIX, "        }\n        CrossCoreWaitFlag(1);\n", "        }\n", "flag left set",
                            "CrossCoreSetFlag<2, PIPE_MTE2>(1)"),
    "never_set": Fault(MIX, "            CrossCoreSetFlag<2, PIPE_MTE2>(1);\n", "", "deadlock", "CrossCoreWaitFlag(1)"),
    "one_vector_core_sets": Fault(MIX, "            CrossCoreSetFlag<2, PIPE_MTE2>(1);\n",
                                  "            if (GetSubBlockIdx() == 0) CrossCoreSetFlag<2, PIPE_MTE2>(1);\n",
                                  "deadlock", "CrossCoreWaitFlag(1)"),
    "id_wraps": Fault(MIX, "CrossCoreSetFlag<2, PIPE_FIX>(0)", "CrossCoreSetFlag<2, PIPE_FIX>(16)", "cross-core flag",
                      "CrossCoreSetFlag<2, PIPE_FIX>(16)"),
    "sixteen_sets": Fault(MIX, "            CrossCoreSetFlag<2, PIPE_FIX>(0);\n",
                          "            CrossCoreSetFlag<2, PIPE_FIX>(0);\n"
                          "            for (uint32_t j = 0; j < 8; ++j) CrossCoreSetFlag<2, PIPE_FIX>(5);\n",
                          "cross-core flag",
                          "CrossCoreSetFlag<2, PIPE_FIX>(5)"),
    "another_mode": Fault(MIX, "CrossCoreWaitFlag<2>(0)", "CrossCoreWaitFlag<1>(0)", "cross-core flag",
                          "CrossCoreWaitFlag<1>"),
    "exchange_unordered": Fault(EXCHANGE,
                                "        CrossCoreSetFlag<0, PIPE_MTE3>(3);\n        CrossCoreWaitFlag(3);\n", "",
                                "race", "DataCopy(y, gm<float>(c)"),
    "neighbours_only": Fault(EXCHANGE, "CrossCoreSetFlag<0, PIPE_MTE3>", "CrossCoreSetFlag<1, PIPE_MTE3>", "race",
                             "DataCopy(y, gm<float>(c)"),
}

QUEUE = """
    TPipe pipe;
    TQue<TPosition::VECIN, 1> queue;
    TBuf<TPosition::VECCALC> space;
    pipe.InitBuffer(queue, 2, 256);
    pipe.InitBuffer(space, 256);
    LocalTensor<float> x = queue.AllocTensor<float>();
    DataCopy(x, gm<float>(a), 64);
    queue.EnQue(x);
    x = queue.DeQue<float>();
    LocalTensor<float> y = space.Get<float>();
    Add(y, x, x, 64);
    queue.FreeTensor(x);
    x = queue.AllocTensor<float>();
    queue.FreeTensor(x);
"""
QUEUE_FAULTS = {
    "not_queued": Fault(QUEUE, "    queue.EnQue(x);\n", "", "TQue", "queue.DeQue"),
    "queued_twice": Fault(QUEUE, "    queue.EnQue(x);\n", "    queue.EnQue(x);\n    queue.EnQue(x);\n", "TQue",
                          "queue.EnQue(x)"),
    "not_freed": Fault(QUEUE, "pipe.InitBuffer(queue, 2, 256)",
                       "pipe.InitBuffer(queue, 1, 256);\n    queue.AllocTensor<float>()",
                       "TQue", "x = queue.AllocTensor"),
    "freed_twice": Fault(QUEUE, "    x = queue.AllocTensor<float>();\n    queue.FreeTensor(x);\n",
                         "    queue.FreeTensor(x);\n", "TQue", "queue.FreeTensor(x)"),
    "nine_buffers": Fault(QUEUE, "pipe.InitBuffer(queue, 2, 256)", "pipe.InitBuffer(queue, 9, 256)", "TPipe",
                          "pipe.InitBuffer(queue, 9"),
    "too_large": Fault(QUEUE, "pipe.InitBuffer(space, 256)", "pipe.InitBuffer(space, 196352)", "out of bounds",
                       "pipe.InitBuffer(space"),
    "two_pipes": Fault(QUEUE, "    TPipe pipe;\n", "    TPipe pipe, another;\n", "TPipe", "TPipe pipe, another"),
    "no_order_of_v": Fault(QUEUE, "    Add(y, x, x, 64);\n", "    Add(y, x, x, 64);\n    Add(y, y, x, 64);\n",
                           "missing PipeBarrier<PIPE_V>", "Add(y, y, x, 64)"),
}

GROUPS = {"AIV_ONLY": VECTOR_FAULTS, "AIC_ONLY": CUBE_FAULTS, "MIX_AIC_1_2": MIX_FAULTS, "MIX_AIV_1_0": QUEUE_FAULTS}
