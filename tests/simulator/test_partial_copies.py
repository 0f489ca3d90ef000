"""``cp.async`` with a source size: so many bytes are read, from an aligned address, and the others are zeros."""

from __future__ import annotations

import numpy as np
import pytest

from tilus.diagnostics import CheckError
from tilus.simulator import launch

PTX = """
.version 8.0
.target sm_80
.address_size 64
.visible .entry k(.param .u64 x, .param .u64 y, .param .u32 n, .param .u32 shift)
{
    .reg .b64 %rd<5>;
    .reg .b32 %r<12>;
    .shared .align 16 .b8 buffer[512];
    ld.param.u64 %rd1, [x];
    ld.param.u64 %rd2, [y];
    ld.param.u32 %r5, [n];
    ld.param.u32 %r6, [shift];
    mov.u32 %r1, %tid.x;
    shl.b32 %r3, %r1, 4;
    cvt.u64.u32 %rd3, %r3;
    cvt.u64.u32 %rd4, %r6;
    add.s64 %rd1, %rd1, %rd3;
    add.s64 %rd1, %rd1, %rd4;
    add.s64 %rd2, %rd2, %rd3;
    mov.u32 %r2, buffer;
    add.s32 %r2, %r2, %r3;
    sub.s32 %r4, %r5, %r3;
    max.s32 %r4, %r4, 0;
    min.s32 %r4, %r4, 16;
    cp.async.cg.shared.global [%r2], [%rd1], 16, %r4;
    cp.async.commit_group;
    cp.async.wait_group 0;
    ld.shared.v4.b32 {%r8, %r9, %r10, %r11}, [%r2];
    st.global.v4.b32 [%rd2], {%r8, %r9, %r10, %r11};
    ret;
}
"""


def copy(x: np.ndarray, count: int, shift: int = 0) -> np.ndarray:
    y = np.full(512, 255, np.uint8)
    launch(PTX, "k", 1, 32, [x, y, count, shift])
    return y


@pytest.mark.parametrize("count", [0, 1, 15, 16, 21, 24, 100, 511, 512])
def test_values(count: int) -> None:
    """The array ends where the bytes do."""
    x = np.arange(1, count + 1, dtype=np.uint32).astype(np.uint8)
    np.testing.assert_array_equal(copy(x, count), np.concatenate([x, np.zeros(512 - count, np.uint8)]))


@pytest.mark.parametrize("count", [2, 17, 30, 97])
def test_one_byte_too_many(count: int) -> None:
    with pytest.raises(CheckError, match="E0703"):
        copy(np.zeros(count - 1, np.uint8), count)


def test_misaligned() -> None:
    """A copy of few bytes is of an address that all of them are aligned at, all the same."""
    with pytest.raises(CheckError, match="is not a multiple of"):
        copy(np.zeros(64, np.uint8), 8, shift=4)
