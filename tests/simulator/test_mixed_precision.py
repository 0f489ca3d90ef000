"""Additions and multiply-adds of 16-bit factors with f32, as Blackwell has them."""

import numpy as np
import pytest

from tilus import simulator

PTX = """
.version 8.6
.target sm_100a
.address_size 64
.visible .entry mixed(.param .u64 x, .param .u64 y, .param .u64 z)
{{
  .reg .b16 %h<3>; .reg .f32 %f<4>; .reg .b32 %r<2>; .reg .b64 %rd<6>;
  ld.param.u64 %rd1, [x]; ld.param.u64 %rd2, [y]; ld.param.u64 %rd3, [z];
  mov.u32 %r1, %tid.x;
  mul.wide.u32 %rd4, %r1, 2; add.u64 %rd1, %rd1, %rd4;
  mul.wide.u32 %rd5, %r1, 4; add.u64 %rd2, %rd2, %rd5; add.u64 %rd3, %rd3, %rd5;
  ld.global.b16 %h1, [%rd1]; ld.global.f32 %f1, [%rd2];
  {instruction}
  st.global.f32 [%rd3], %f2;
  ret;
}}
"""


@pytest.mark.parametrize(("instruction", "expected"), [
    ("add.rn.f32.f16 %f2, %h1, %f1;", lambda x, y: x + y),
    ("sub.rn.f32.f16 %f2, %h1, %f1;", lambda x, y: x - y),
    ("fma.rn.f32.f16 %f2, %h1, %h1, %f1;", lambda x, y: (x.astype(np.float64) ** 2 + y).astype(np.float32)),
])
def test_f16_with_f32(instruction, expected):
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal(64).astype(np.float16), rng.standard_normal(64).astype(np.float32)
    z = np.zeros(64, np.float32)
    simulator.launch(PTX.format(instruction=instruction), "mixed", (1, 1, 1), (64, 1, 1), [x, y, z])
    np.testing.assert_array_equal(z, expected(x.astype(np.float32), y))
