"""What an NVIDIA architecture's instruction set has beyond the common base, named after the PTX ISA."""

from __future__ import annotations

import enum


class Feature(enum.Enum):
    """An instruction or form of it that some architectures lack; the value is its description.

    The common base (sm_70) has shuffles, votes, match, f16 arithmetic, dp4a, nanosleep, and atomics on f16 and on 32-
    and 64-bit types.
    """

    MMA_M8N8K4_F16 = "mma.sync m8n8k4 on f16 (quad pairs; full speed on sm_70 only)"
    MMA_M16N8K8_F16 = "mma.sync m16n8k8 on f16"
    MMA_M16N8K16_F16 = "mma.sync m16n8k16 on f16"
    MMA_BF16 = "mma.sync m16n8k8 and m16n8k16 on bf16"
    MMA_TF32 = "mma.sync m16n8k4 and m16n8k8 on tf32"
    MMA_M8N8K4_F64 = "mma.sync m8n8k4 on f64"
    MMA_M16N8K4_F64 = "mma.sync m16n8k4, k8 and k16 on f64"
    MMA_M8N8K16_S8 = "mma.sync m8n8k16 on s8 and u8"
    MMA_M16N8K32_S8 = "mma.sync m16n8k16 and m16n8k32 on s8 and u8"
    MMA_M8N8K32_S4 = "mma.sync m8n8k32 on s4 and u4"
    MMA_M16N8K64_S4 = "mma.sync m16n8k32 and m16n8k64 on s4 and u4"
    MMA_FP8 = "mma.sync m16n8k32 on e4m3 and e5m2"
    MMA_F8F6F4 = "mma.sync kind::f8f6f4"
    MMA_BLOCK_SCALE = "mma.sync kind::mxf8f6f4 with block scales"
    MMA_NVF4 = "mma.sync kind::mxf4nvf4 with block scales"
    MMA_SPARSE = "mma.sp.sync, 2:4 structured sparsity"
    WGMMA = "wgmma.mma_async"
    TCGEN05 = "tcgen05 with tensor memory"
    LDMATRIX = "ldmatrix m8n8 of b16"
    LDMATRIX_B8 = "ldmatrix m16n16 of b8, transposing"
    STMATRIX = "stmatrix m8n8 of b16"
    STMATRIX_B8 = "stmatrix m16n8 of b8, transposing"
    MOVMATRIX = "movmatrix"
    CP_ASYNC = "cp.async of 4, 8 or 16 bytes and its groups"
    MBARRIER = "mbarrier objects in shared memory"
    MBARRIER_TRY_WAIT = "mbarrier.try_wait and transaction counts"
    BULK_COPY = "cp.async.bulk"
    TMA = "cp.async.bulk.tensor with tensor maps"
    CLUSTER = "thread block clusters and distributed shared memory"
    CLUSTER_LAUNCH_CONTROL = "clusterlaunchcontrol"
    SETMAXNREG = "setmaxnreg"
    ELECT = "elect.sync"
    GRID_DEPENDENCY = "griddepcontrol"
    REDUX = "redux.sync on 32-bit integers"
    REDUX_F32 = "redux.sync min and max on f32"
    BF16_FMA = "fma, min and max on bf16"
    BF16_ADD = "add, sub and mul on bf16"
    F16_MINMAX = "min and max on f16"
    TANH = "tanh.approx on f32 and f16"
    TANH_BF16 = "tanh.approx on bf16"
    EX2_F16 = "ex2.approx on f16"
    EX2_BF16 = "ex2.approx on bf16"
    F32X2 = "add, mul and fma on pairs of f32"
    MINMAX3 = "min and max of three f32"
    ATOM_BF16 = "atom.add on bf16"
    ATOM_VECTOR = "atom and red on vectors of floats"
    ATOM_B128 = "atom.cas and exch on 128 bits"
    CVT_BF16 = "cvt from f32 to bf16, one or two at a time"
    CVT_FROM_BF16 = "cvt from bf16 to the other types"
    CVT_TF32 = "cvt.rna to tf32"
    CVT_TF32_RN = "cvt.rn and cvt.rz to tf32"
    CVT_FP8 = "cvt between e4m3, e5m2 and f16, f32"
    CVT_FP6 = "cvt between e3m2, e2m3 and f32"
    CVT_FP4 = "cvt between e2m1 and f32"
    CVT_UE8M0 = "cvt between ue8m0 and f32, bf16"
    CVT_STOCHASTIC = "cvt.rs, stochastic rounding"
    LD_256 = "global loads and stores of 256 bits"
    CACHE_HINT = "createpolicy and L2 cache hints"
    PREFETCH_SIZE = "L2 prefetch size on loads"


NAMED_INSTRUCTIONS = {"copy_async": Feature.CP_ASYNC}
"""Operations of the language that stand for an instruction, and what a target needs for them."""
