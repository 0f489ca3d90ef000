"""Instructions with operands of the wrong kind end in an error that names the line, or run; never in a traceback."""
# Kernels and instructions read best on lines of their own length.
# ruff: noqa: E501, PT017

from __future__ import annotations

import re

import numpy as np
import pytest

from tilus import simulator
from tilus.diagnostics import TilusError

TEMPLATE = """.version 8.8
.target sm_100a
.address_size 64
.visible .entry k(.param .u64 p)
{
  .reg .pred %p<4>; .reg .b16 %h<6>; .reg .b32 %r<10>; .reg .b64 %rd<8>; .reg .f32 %f<9>; .reg .b128 %q<2>;
  .shared .align 16 .b8 s[4096];
  ld.param.u64 %rd1, [p]; mov.u64 %rd2, s; mov.u32 %r1, s; mov.u32 %r2, 64; mov.u64 %rd3, 0; mov.u32 %r3, 0; mov.u32 %r4, 3;
  LINE
  ret;
}
"""
VECTOR4, FLOATS4 = "{%r3, %r4, %r5, %r6}", "{%f1, %f2, %f3, %f4}"
LINES = [
    "tcgen05.alloc.cta_group::1.sync.aligned.shared::cta.b32 [%r1], %r2;", "tcgen05.dealloc.cta_group::1.sync.aligned.b32 %r3, %r2;",
    f"tcgen05.ld.sync.aligned.32x32b.x4.b32 {VECTOR4}, [%r3];", f"tcgen05.st.sync.aligned.16x256b.x1.b32 [%r3], {VECTOR4};", "tcgen05.ld.sync.aligned.16x32bx2.x2.b32 {%r3, %r4}, [%r3], 2;",
    "tcgen05.cp.cta_group::1.128x256b [%r3], %rd3;", "tcgen05.shift.cta_group::1.down [%r3];", "tcgen05.commit.cta_group::1.mbarrier::arrive::one.shared::cluster.b64 [%r1];",
    "tcgen05.mma.cta_group::1.kind::f16 [%r3], %rd3, %rd3, %r4, %p1;", "tcgen05.mma.cta_group::1.kind::f16 [%r3], [%r3], %rd3, %r4, {%r3, %r3, %r3, %r3}, %p1, 3;",
    "tcgen05.mma.cta_group::1.kind::mxf4.block_scale.scale_vec::2X [%r3], %rd3, %rd3, %r4, [%r3], [%r3], %p1;", "tcgen05.mma.sp.cta_group::1.kind::i8 [%r3], %rd3, %rd3, [%r3], %r4, %p1;",
    f"mma.sp.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {FLOATS4}, {{%r3, %r4}}, {{%r5, %r6}}, {FLOATS4}, %r7, 1;",
    f"mma.sp::ordered_metadata.sync.aligned.m16n8k128.row.col.kind::mxf4.block_scale.scale_vec::2X.f32.e2m1.e2m1.f32.ue8m0 {FLOATS4}, {VECTOR4}, {VECTOR4}, {FLOATS4}, %r7, 0, %r5, {{0, 1}}, %r6, {{0, 2}};",
    f"mma.sync.aligned.m16n8k32.row.col.kind::mxf8f6f4.block_scale.f32.e4m3.e4m3.f32.ue8m0 {FLOATS4}, {VECTOR4}, {{%r5, %r6}}, {FLOATS4}, %r5, {{0, 1}}, %r6, {{0, 2}};",
    "wgmma.mma_async.sp.sync.aligned.m64n8k32.f32.f16.f16 {%f1, %f2, %f3, %f4}, %rd3, %rd3, %r3, 0, 1, 1, 1, 0, 0;", "wgmma.mma_async.sync.aligned.m64n8k16.f32.f16.f16 {%f1, %f2, %f3, %f4}, %rd3, %rd3, %p1, 1, 1, 0, 0;",
    "ldmatrix.sync.aligned.m16n16.x1.trans.shared.b8 {%r3, %r4}, [%r1];", "ldmatrix.sync.aligned.m8n16.x1.shared.b8x16.b4x16_p64 {%r3}, [%r1];", "stmatrix.sync.aligned.m16n8.x2.trans.shared.b8 [%r1], {%r3, %r4};",
    "st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.v2.b32 [%r1], {%r3, %r4}, [%r1];", "red.async.relaxed.cluster.shared::cluster.mbarrier::complete_tx::bytes.add.u32 [%r1], %r3, [%r1];",
    "cp.reduce.async.bulk.shared::cluster.shared::cta.mbarrier::complete_tx::bytes.add.u32 [%r1], [%r1], 64, [%r1];", "cp.async.bulk.global.shared::cta.bulk_group.cp_mask [%rd1], [%r1], 64, %h1;",
    "cp.async.bulk.tensor.3d.shared::cluster.global.im2col.mbarrier::complete_tx::bytes [%r1], [%rd1, {%r3, %r3, %r3}], [%r1], {%h1};", "cp.async.bulk.tensor.3d.global.shared::cta.im2col_no_offs.bulk_group [%rd1, {%r3, %r3, %r3}], [%r1];",
    "multimem.ld_reduce.relaxed.sys.global.add.u32 %r3, [%rd1];", "multimem.st.weak.global.u32 [%rd1], %r3;", "multimem.red.relaxed.gpu.global.add.u32 [%rd1], %r3;", "atom.global.cas.b128 %q0, [%rd1], %q0, %q1;",
    "vadd.u32.u32.u32 %r3, %r4.b1, %r5;", "vadd4.s32.u32.u32.add %r3.b10, %r4.b7654, %r5, %r6;", "vmad.s32.s32.s32.shr7 %r3, %r4.h1, -%r5, %r6;", "vset2.u32.u32.lt %r3, %r4, %r5.h01, %r6;",
    "fma.rn.oob.f16x2 %r3, %r4, %r5, %r6;", "call (%r3), %rd3, (%r4), T;", "mbarrier.init.shared.b64 [%r1], 1;", "mapa.shared::cluster.u32 %r3, %r1, %r4;", "lop3.b32 %r3, %r4, %r5, %r6, 3;", "cp.async.ca.shared.global [%r1], [%rd1], 16;", "barrier.cta.sync 1, 64;", "setmaxnreg.inc.sync.aligned.u32 64;",
]
WRONG = ["%r3", "%rd3", "%p1", "%h1", "%f1", "%q0", "0", "1.5", "_", "[%r1]", "[%rd1]", "[0]", "{%r3, %r4}", "{1, %p1}", "{}", "s", "[s+4]", "%r4.b1", "-%r3", "%tid.x", "%r3|%p1", "k", "0f7F800000", "0d7FF8000000000000"]


def operands(text: str) -> list[str]:
    """Cut at the commas outside of brackets."""
    return [part.strip() for part in re.findall(r"(?:\{[^}]*\}|\[[^\]]*\]|\([^)]*\)|[^,])+", text)]


def variants_of(line: str) -> list[str]:
    """The line itself, and with each operand dropped, doubled or replaced."""
    opcode, _, rest = line.rstrip(";").partition(" ")
    parts = operands(rest)
    variants = [parts, []] + [parts[:i] + parts[i + 1:] for i in range(len(parts))] + [parts[:i + 1] + parts[i:] for i in range(len(parts))]
    variants += [[*parts[:i], wrong, *parts[i + 1:]] for i in range(len(parts)) for wrong in WRONG]
    return [f"{opcode} {', '.join(variant)};" for variant in variants]


def attempt(lines: list[str]) -> None:
    for line in lines:
        text = TEMPLATE.replace("LINE", line)
        try:
            simulator.launch(text, "k", 1, 128, [np.zeros(256, "i4")], max_steps=2000, collect=True)
        except TilusError as error:
            if error.diagnostics[0].code in ("E1001", "E1002"):
                assert "line" in str(error)


@pytest.mark.parametrize("line", LINES, ids=[line.split(" ")[0] for line in LINES])
def test_some_wrong_operands(line: str) -> None:
    variants = variants_of(line)
    attempt([variants[0], *variants[LINES.index(line) % 19::19]])


@pytest.mark.slow
@pytest.mark.parametrize("line", LINES, ids=[line.split(" ")[0] for line in LINES])
def test_each_operand_replaced_dropped_or_doubled(line: str) -> None:
    attempt(variants_of(line))
