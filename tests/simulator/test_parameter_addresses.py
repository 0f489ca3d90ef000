"""Addresses of a device function's parameters, which compilers take where they choose between parameters."""

from __future__ import annotations

import numpy as np
import pytest

from tilus import simulator

TEXT = """.version 7.8
.target sm_80
.address_size 64
.func (.param .b32 r) chosen(.param .b32 a, .param .b32 b, .param .b32 n) {
  .reg .pred %p<3>; .reg .b32 %v<6>; .reg .b64 %d<4>;
  ld.param.b32 %v1, [n];
  setp.eq.s32 %p1, %v1, 0;
  mov.b64 %d1, a;
  mov.b64 %d2, b;
  selp.b64 %d3, %d1, %d2, %p1;
  ld.param.b32 %v2, [%d3];
  CALL
  st.param.b32 [r], %v2;
  ret;
}
.visible .entry k(.param .u64 out) {
  .reg .b32 %v<6>; .reg .b64 %d<4>;
  ld.param.u64 %d1, [out];
  mov.u32 %v1, %tid.x;
  mul.wide.u32 %d2, %v1, 4;
  add.s64 %d1, %d1, %d2;
  and.b32 %v2, %v1, 1;
  add.s32 %v3, %v1, 100;
  add.s32 %v4, %v1, 200;
  { .param .b32 x; .param .b32 y; .param .b32 z; .param .b32 q;
    st.param.b32 [x], %v3; st.param.b32 [y], %v4; st.param.b32 [z], %v2;
    call (q), chosen, (x, y, z);
    ld.param.b32 %v5, [q]; }
  st.global.b32 [%d1], %v5;
  ret;
}
"""
RECURSIVE = """setp.lt.s32 %p2, %v1, 2;
  @%p2 bra END;
  { .param .b32 x; .param .b32 y; .param .b32 z; .param .b32 q;
    st.param.b32 [x], %v2; st.param.b32 [y], %v2; st.param.b32 [z], 0;
    call (q), chosen, (x, y, z);
    ld.param.b32 %v2, [q]; }
END:"""


@pytest.mark.parametrize("call", ["", RECURSIVE], ids=["inlined", "recursive"])
def test_one_of_two(call: str) -> None:
    out, t = np.zeros(64, "i4"), np.arange(64)
    simulator.launch(TEXT.replace("CALL", call), "k", 1, 64, [out])
    np.testing.assert_array_equal(out, np.where(t % 2 == 0, t + 100, t + 200))
