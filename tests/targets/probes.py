"""One smallest use of each feature in PTX, for asking ptxas which architectures accept it.

The bodies may use the registers %r0-%r31 (b32), %rd0-%rd7 (b64), %h0-%h7 (b16), %f0-%f15 (f32), %d0-%d15 (f64), %p0-%p3
and the shared array ``smem``.
"""

from __future__ import annotations

from tilus.targets import Feature

F = Feature


def registers(prefix: str, count: int, start: int = 0) -> str:
    """``{%r0, %r1, ...}``, the form of a PTX vector operand."""
    return "{" + ", ".join(f"%{prefix}{start + i}" for i in range(count)) + "}"


def mma(shape: str, types: str, d: str, a: str, b: str, *, kind: str = "") -> str:
    return f"mma.sync.aligned.{shape}.row.col{kind}.{types} {d}, {a}, {b}, {d};"


_R2, _R4, _R8 = registers("r", 2), registers("r", 4), registers("r", 8)
_A1, _A2, _A4 = registers("r", 1, 8), registers("r", 2, 8), registers("r", 4, 8)
_B1, _B2 = registers("r", 1, 16), registers("r", 2, 16)
_F2, _F4, _F8 = registers("f", 2), registers("f", 4), registers("f", 8)
_D2, _D4 = registers("d", 2), registers("d", 4)
_SCALES = "%r20, {0, 0}, %r21, {0, 0}"

PROBES: dict[Feature, str] = {
    F.MMA_M8N8K4_F16: mma("m8n8k4", "f32.f16.f16.f32", _F8, _A2, _B2),
    F.MMA_M16N8K8_F16: mma("m16n8k8", "f32.f16.f16.f32", _F4, _A2, _B1),
    F.MMA_M16N8K16_F16: mma("m16n8k16", "f32.f16.f16.f32", _F4, _A4, _B2),
    F.MMA_BF16: mma("m16n8k16", "f32.bf16.bf16.f32", _F4, _A4, _B2),
    F.MMA_TF32: mma("m16n8k8", "f32.tf32.tf32.f32", _F4, _A4, _B2),
    F.MMA_M8N8K4_F64: mma("m8n8k4", "f64.f64.f64.f64", _D2, "{%d4}", "{%d8}"),
    F.MMA_M16N8K4_F64: mma("m16n8k4", "f64.f64.f64.f64", _D4, "{%d4, %d5}", "{%d8}"),
    F.MMA_M8N8K16_S8: mma("m8n8k16", "s32.s8.s8.s32", _R2, _A1, _B1),
    F.MMA_M16N8K32_S8: mma("m16n8k32", "s32.s8.s8.s32", _R4, _A4, _B2),
    F.MMA_M8N8K32_S4: mma("m8n8k32", "s32.s4.s4.s32", _R2, _A1, _B1),
    F.MMA_M16N8K64_S4: mma("m16n8k64", "s32.s4.s4.s32", _R4, _A4, _B2),
    F.MMA_FP8: mma("m16n8k32", "f32.e4m3.e4m3.f32", _F4, _A4, _B2),
    F.MMA_F8F6F4: mma("m16n8k32", "f32.e3m2.e2m1.f32", _F4, _A4, _B2, kind=".kind::f8f6f4"),
    F.MMA_BLOCK_SCALE:
        f"mma.sync.aligned.m16n8k32.row.col.kind::mxf8f6f4.block_scale.scale_vec::1X.f32.e4m3.e4m3.f32.ue8m0 "
        f"{_F4}, {_A4}, {_B2}, {_F4}, {_SCALES};",
    F.MMA_NVF4:
        f"mma.sync.aligned.m16n8k64.row.col.kind::mxf4nvf4.block_scale.scale_vec::4X.f32.e2m1.e2m1.f32.ue4m3 "
        f"{_F4}, {_A4}, {_B2}, {_F4}, {_SCALES};",
    F.MMA_SPARSE: f"mma.sp.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {_F4}, {_A2}, {_B2}, {_F4}, %r20, 0x0;",
    F.WGMMA: "wgmma.fence.sync.aligned; wgmma.commit_group.sync.aligned; wgmma.wait_group.sync.aligned 0;",
    F.TCGEN05: "tcgen05.alloc.cta_group::1.sync.aligned.shared::cta.b32 [smem], 32;",
    F.LDMATRIX: f"ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {_R4}, [smem];",
    F.LDMATRIX_B8: f"ldmatrix.sync.aligned.m16n16.x1.trans.shared.b8 {_R2}, [smem];",
    F.STMATRIX: f"stmatrix.sync.aligned.m8n8.x4.shared.b16 [smem], {_R4};",
    F.STMATRIX_B8: f"stmatrix.sync.aligned.m16n8.x2.trans.shared.b8 [smem], {_R2};",
    F.MOVMATRIX: "movmatrix.sync.aligned.m8n8.trans.b16 %r0, %r1;",
    F.CP_ASYNC: "cp.async.cg.shared.global [smem], [%rd0], 16; cp.async.commit_group; cp.async.wait_group 0;",
    F.MBARRIER: "mbarrier.init.shared.b64 [smem], 1; mbarrier.arrive.shared.b64 %rd1, [smem];",
    F.MBARRIER_TRY_WAIT: "mbarrier.try_wait.parity.shared.b64 %p0, [smem], 0;",
    F.BULK_COPY:
        "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [smem], [%rd0], 128, [smem+1024];",
    F.TMA:
        "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes "
        "[smem], [%rd0, {%r0, %r1}], [smem+1024];",
    F.CLUSTER: "barrier.cluster.arrive.aligned; barrier.cluster.wait.aligned; mapa.shared::cluster.u32 %r0, %r1, 0;",
    F.CLUSTER_LAUNCH_CONTROL:
        "clusterlaunchcontrol.try_cancel.async.shared::cta.mbarrier::complete_tx::bytes.b128 [smem], [smem+1024];",
    F.SETMAXNREG: "setmaxnreg.inc.sync.aligned.u32 128;",
    F.ELECT: "elect.sync %r0|%p0, 0xffffffff;",
    F.GRID_DEPENDENCY: "griddepcontrol.wait;",
    F.REDUX: "redux.sync.add.s32 %r0, %r1, 0xffffffff;",
    F.REDUX_F32: "redux.sync.max.f32 %f0, %f1, 0xffffffff;",
    F.BF16_FMA: "fma.rn.bf16x2 %r0, %r1, %r2, %r3; max.bf16x2 %r0, %r1, %r2;",
    F.BF16_ADD: "add.rn.bf16x2 %r0, %r1, %r2; mul.rn.bf16x2 %r0, %r1, %r2;",
    F.F16_MINMAX: "max.f16x2 %r0, %r1, %r2;",
    F.TANH: "tanh.approx.f32 %f0, %f1; tanh.approx.f16x2 %r0, %r1;",
    F.TANH_BF16: "tanh.approx.bf16x2 %r0, %r1;",
    F.EX2_F16: "ex2.approx.f16x2 %r0, %r1;",
    F.EX2_BF16: "ex2.approx.ftz.bf16x2 %r0, %r1;",
    F.F32X2: "fma.rn.f32x2 %rd0, %rd1, %rd2, %rd3;",
    F.MINMAX3: "max.f32 %f0, %f1, %f2, %f3;",
    F.ATOM_BF16: "atom.global.add.noftz.bf16 %h0, [%rd0], %h1;",
    F.ATOM_VECTOR: f"red.global.add.v4.f32 [%rd0], {_F4};",
    F.ATOM_B128: ".reg .b128 q<3>; atom.global.exch.b128 q0, [%rd0], q1;",
    F.CVT_BF16: "cvt.rn.bf16.f32 %h0, %f0; cvt.rn.bf16x2.f32 %r0, %f0, %f1;",
    F.CVT_FROM_BF16: "cvt.rn.f16.bf16 %h0, %h1;",
    F.CVT_TF32: "cvt.rna.tf32.f32 %r0, %f0;",
    F.CVT_TF32_RN: "cvt.rn.tf32.f32 %r0, %f0;",
    F.CVT_FP8: "cvt.rn.satfinite.e4m3x2.f32 %h0, %f0, %f1; cvt.rn.f16x2.e5m2x2 %r0, %h1;",
    F.CVT_FP6: "cvt.rn.satfinite.e3m2x2.f32 %h0, %f0, %f1;",
    F.CVT_FP4: ".reg .b8 b; cvt.rn.satfinite.e2m1x2.f32 b, %f0, %f1;",
    F.CVT_UE8M0: "cvt.rp.satfinite.ue8m0x2.f32 %h0, %f0, %f1;",
    F.CVT_STOCHASTIC: "cvt.rs.f16x2.f32 %r0, %f0, %f1, %r1;",
    F.LD_256: f"ld.global.v8.b32 {_R8}, [%rd0];",
    F.CACHE_HINT: "createpolicy.fractional.L2::evict_first.b64 %rd1; "
                  "ld.global.L2::cache_hint.b32 %r0, [%rd0], %rd1;",
    F.PREFETCH_SIZE: "ld.global.L2::128B.b32 %r0, [%rd0];",
}


def probe_ptx(feature: Feature, arch: str, ptx_version: str) -> str:
    return f""".version {ptx_version}
.target {arch}
.address_size 64
.visible .entry probe(.param .u64 p)
{{
.reg .pred %p<4>; .reg .b16 %h<8>; .reg .b32 %r<32>; .reg .b64 %rd<8>; .reg .f32 %f<16>; .reg .f64 %d<16>;
.shared .align 128 .b8 smem[2048];
ld.param.u64 %rd0, [p];
{PROBES[feature]}
ret;
}}
"""
