"""Tensor copies that gather four rows of a matrix, or scatter to them."""
# Instructions read best on lines of their own length.
# ruff: noqa: E501

from __future__ import annotations

import numpy as np
import pytest

from tilus import simulator

PTX = """.version 8.6\n.target sm_100a\n.address_size 64
.visible .entry k(.param .align 64 .b8 map[128], .param .u64 rows, .param .u64 out, .param .u32 column) {{
  .reg .b32 %r<12>; .reg .b64 %rd<6>; .reg .pred %p; .shared .align 1024 .b8 tile[4096]; .shared .align 8 .b64 bar;
  mov.b64 %rd1, map; cvta.param.u64 %rd1, %rd1; ld.param.u64 %rd2, [rows]; ld.param.u64 %rd3, [out]; ld.param.u32 %r5, [column];
  ld.global.v4.u32 {{%r1, %r2, %r3, %r4}}, [%rd2]; mov.u32 %r6, 0; mov.u32 %r7, tile;
  {body}
  ret; }}"""
LOAD = """mbarrier.init.shared::cta.b64 [bar], 1; fence.proxy.async.shared::cta; mbarrier.arrive.expect_tx.shared::cta.b64 _, [bar], {room};
  cp.async.bulk.tensor.2d.shared::cta.global.tile::gather4.mbarrier::complete_tx::bytes [tile], [%rd1, {{%r5, %r1, %r2, %r3, %r4}}], [bar];
  W: mbarrier.try_wait.parity.shared::cta.b64 %p, [bar], 0; @!%p bra W;
  L: add.u32 %r8, %r7, %r6; ld.shared.b32 %r9, [%r8]; cvt.u64.u32 %rd4, %r6; add.u64 %rd4, %rd4, %rd3; st.global.b32 [%rd4], %r9;
  add.u32 %r6, %r6, 4; setp.lt.u32 %p, %r6, {room}; @%p bra L;"""
STORE = """L: add.u32 %r8, %r7, %r6; cvt.u64.u32 %rd4, %r6; add.u64 %rd4, %rd4, %rd3; ld.global.b32 %r9, [%rd4]; st.shared.b32 [%r8], %r9;
  add.u32 %r6, %r6, 4; setp.lt.u32 %p, %r6, {room}; @%p bra L; fence.proxy.async.shared::cta;
  {verb}.tile::scatter4.bulk_group [%rd1, {{%r5, %r1, %r2, %r3, %r4}}], [tile]; cp.async.bulk.commit_group; cp.async.bulk.wait_group 0;"""
PLACES = [([0, 1, 2, 3], 0), ([7, 2, 9, 2], 16), ([19, 0, 5, 20], 32), ([-1, 4, 3, 1 << 30], -8)]


def turned(data: np.ndarray, swizzle: int) -> np.ndarray:
    """Bytes of shared memory in the order of the tiles."""
    place = np.arange(data.size)
    return data[place ^ (place >> 7 & max(0, swizzle // 16 - 1)) << 4] if swizzle else data


@pytest.mark.parametrize("swizzle", [0, 64, 128])
@pytest.mark.parametrize(("rows", "column"), PLACES)
def test_gathered_rows(rows: list[int], column: int, swizzle: int) -> None:
    """Rows and columns outside of the matrix are zeros; the swizzle is that of four rows below each other."""
    x = np.arange(20 * 64, dtype="i4").reshape(20, 64)
    room = 4 * 16 * 4
    out = np.zeros(room, "u1")
    body = LOAD.format(room=room)
    simulator.launch(PTX.format(body=body), "k", 1, 1, [simulator.TensorMap(x, (1, 16), swizzle=swizzle), np.array(rows, "i4"), out, column])
    wanted = np.array([[x[r, c] if 0 <= r < 20 and 0 <= c < 64 else 0 for c in range(column, column + 16)] for r in rows], "i4")
    np.testing.assert_array_equal(turned(out, swizzle).view("i4").reshape(4, 16), wanted)


@pytest.mark.parametrize(("rows", "column"), [([0, 1, 2, 3], 0), ([19, 0, 5, 20], 32), ([1 << 30, 4, 3, 17], 56)])
@pytest.mark.parametrize("verb", ["cp.async.bulk.tensor.2d.global.shared::cta", "cp.reduce.async.bulk.tensor.2d.global.shared::cta.add"])
def test_scattered_rows(rows: list[int], column: int, verb: str) -> None:
    x, data = np.arange(20 * 64, dtype="i4").reshape(20, 64), np.arange(64, dtype="i4") + 5000
    wanted = x.copy()
    for i, r in enumerate(rows):
        for j in range(16):
            if 0 <= r < 20 and 0 <= column + j < 64:
                wanted[r, column + j] = data[16 * i + j] + (wanted[r, column + j] if "reduce" in verb else 0)
    body = STORE.format(room=256, verb=verb)
    simulator.launch(PTX.format(body=body), "k", 1, 1, [simulator.TensorMap(x, (1, 16)), np.array(rows, "i4"), data, column])
    np.testing.assert_array_equal(x, wanted)


@pytest.mark.parametrize(("body", "rows", "column", "told"), [
    (LOAD, [0, 1, 2, 3], 2, "column 2 does not begin at a multiple of 16 bytes"), (STORE, [0, 1, 2, 3], 6, "column 6 does not begin"),
    (STORE, [0, -1, 2, 3], 0, "-1 is no row or column to store to"), (STORE, [0, 1, 2, 3], -4, "-4 is no row or column"),
])
def test_what_the_hardware_refuses(body: str, rows: list[int], column: int, told: str) -> None:
    text = body.format(room=256, verb="cp.async.bulk.tensor.2d.global.shared::cta")
    args = [simulator.TensorMap(np.zeros((20, 64), "i4"), (1, 16)), np.array(rows, "i4"), np.zeros(64, "i4"), column]
    report = simulator.launch(PTX.format(body=text), "k", 1, 1, args, collect=True, max_steps=1 << 12)
    assert any(told in fault.message for fault in report.errors if fault.check == "value"), report.fault_lines()


def test_boxes_of_several_rows_are_told() -> None:
    x = np.zeros((20, 64), "i4")
    for made in (simulator.TensorMap(x, (2, 16)), simulator.TensorMap(x.reshape(5, 4, 64), (1, 1, 16))):
        report = simulator.launch(PTX.format(body=LOAD.format(room=256)), "k", 1, 1, [made, np.zeros(4, "i4"), np.zeros(256, "u1"), 0],
                                  collect=True, max_steps=1 << 12)
        assert any("a box of one row" in fault.message for fault in report.errors), report.fault_lines()
