"""The targets: instruction sets after the PTX ISA, limits after the CUDA programming guide's table of capabilities."""

from __future__ import annotations

from tilus.targets.features import Feature
from tilus.targets.target import Target

F = Feature
KIB = 1024

_SM_70 = frozenset({F.MMA_M8N8K4_F16})
_SM_75 = _SM_70 | {
    F.MMA_M16N8K8_F16, F.MMA_M8N8K16_S8, F.MMA_M8N8K32_S4, F.LDMATRIX, F.MOVMATRIX, F.TANH, F.EX2_F16, F.PREFETCH_SIZE,
}
_SM_80 = _SM_75 | {
    F.MMA_M16N8K16_F16, F.MMA_BF16, F.MMA_TF32, F.MMA_M8N8K4_F64, F.MMA_M16N8K32_S8, F.MMA_M16N8K64_S4, F.MMA_SPARSE,
    F.CP_ASYNC, F.MBARRIER, F.REDUX, F.BF16_FMA, F.F16_MINMAX, F.CVT_BF16, F.CVT_TF32, F.CACHE_HINT,
}
_SM_89 = _SM_80 | {F.MMA_FP8, F.CVT_FP8}
_SM_90 = _SM_89 | {
    F.MMA_M16N8K4_F64, F.STMATRIX, F.MBARRIER_TRY_WAIT, F.BULK_COPY, F.TMA, F.CLUSTER, F.ELECT, F.GRID_DEPENDENCY,
    F.BF16_ADD, F.TANH_BF16, F.EX2_BF16, F.ATOM_BF16, F.ATOM_VECTOR, F.ATOM_B128, F.CVT_FROM_BF16, F.CVT_TF32_RN,
}
_SM_90A = _SM_90 | {F.WGMMA, F.SETMAXNREG}
_SM_100 = _SM_90 | {F.CLUSTER_LAUNCH_CONTROL, F.F32X2, F.MINMAX3, F.LD_256}
# What both families of Blackwell have beyond the portable set, under their architecture-specific names only.
_BLACKWELL_SPECIFIC = frozenset({
    F.LDMATRIX_B8, F.STMATRIX_B8, F.SETMAXNREG, F.CVT_FP6, F.CVT_FP4, F.CVT_UE8M0,
})
_SM_100A = _SM_100 | _BLACKWELL_SPECIFIC | {F.TCGEN05, F.REDUX_F32, F.CVT_STOCHASTIC}
_SM_120A = _SM_100 | _BLACKWELL_SPECIFIC | {F.MMA_F8F6F4, F.MMA_BLOCK_SCALE, F.MMA_NVF4}


_F64_EMULATED = frozenset({F.MMA_M8N8K4_F64, F.MMA_M16N8K4_F64})
_FP8_EMULATED = frozenset({F.MMA_FP8})


def _cuda(name: str, arch: int, *, ptx: tuple[int, int], threads: int, blocks: int, shared: int, optin: int,
          board: str, sms: int, features: frozenset[Feature], cluster: int = 1,
          emulated: frozenset[Feature] = frozenset()) -> Target:
    return Target(
        name=name, backend="nvidia", arch=arch, ptx_version=ptx, toolkit=13 if arch >= 75 else 12,
        max_threads_per_sm=threads, max_blocks_per_sm=blocks, shared_per_sm=shared * KIB,
        shared_per_block_optin=optin * KIB, shared_reserved=KIB if arch >= 80 else 0, max_cluster_size=cluster,
        board=board, sm_count=sms, features=features, emulated=emulated,
    )


_ALL = (
    Target(name="cpu", backend="cpu", warp_size=1, registers_per_sm=0, max_registers_per_thread=0,
           shared_per_block=0, shared_per_block_optin=0, named_barriers=0),
    _cuda("sm_70", 70, ptx=(6, 4), threads=2048, blocks=32, shared=96, optin=96, board="V100", sms=80,
          features=_SM_70),
    _cuda("sm_75", 75, ptx=(7, 8), threads=1024, blocks=16, shared=64, optin=64, board="T4", sms=40,
          features=_SM_75),
    _cuda("sm_80", 80, ptx=(7, 8), threads=2048, blocks=32, shared=164, optin=163, board="A100", sms=108,
          features=_SM_80),
    _cuda("sm_86", 86, ptx=(7, 8), threads=1536, blocks=16, shared=100, optin=99, board="RTX A6000", sms=84,
          features=_SM_80),
    _cuda("sm_89", 89, ptx=(8, 4), threads=1536, blocks=24, shared=100, optin=99, board="L40S", sms=142,
          features=_SM_89),
    *(_cuda(name, 90, ptx=(8, 4), threads=2048, blocks=32, shared=228, optin=227, board="H100 SXM", sms=132,
            features=features, cluster=8, emulated=_FP8_EMULATED)
      for name, features in (("sm_90", _SM_90), ("sm_90a", _SM_90A))),
    *(_cuda(name, 100, ptx=(8, 8), threads=2048, blocks=32, shared=228, optin=227, board="B200", sms=148,
            features=features, cluster=8, emulated=_FP8_EMULATED)
      for name, features in (("sm_100", _SM_100), ("sm_100a", _SM_100A))),
    *(_cuda(name, 120, ptx=(8, 8), threads=1536, blocks=24, shared=100, optin=99, board="RTX 5090", sms=170,
            features=features, cluster=8, emulated=_F64_EMULATED)
      for name, features in (("sm_120", _SM_100), ("sm_120a", _SM_120A))),
    Target("ascend910b", "ascend", board="ascend910b1", sm_count=24),
)

TARGETS: dict[str, Target] = {target.name: target for target in _ALL}
