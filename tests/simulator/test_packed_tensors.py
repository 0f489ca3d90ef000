"""Tensor maps of elements of 4 and 6 bits, with and without gaps in shared memory, and of 8-bit floats."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest

from tilus import simulator
from tilus.diagnostics import UserError

RNG = np.random.default_rng(0)


def ptx(bytes_told: int, room: int, at: tuple[int, int], store: bool = False, reduce: bool = False) -> str:
    """One thread copies a tile to shared memory, which goes to ``out`` word by word; or a tile of zeros back."""
    copy = f"""
      mbarrier.init.shared::cta.b64 [bar], 1; fence.proxy.async.shared::cta;
      mbarrier.arrive.expect_tx.shared::cta.b64 _, [bar], {bytes_told};
      cp.async.bulk.tensor.2d.shared::cta.global.tile.mbarrier::complete_tx::bytes [tile],
        [%rd1, {{{at[0]}, {at[1]}}}], [bar];
      WAIT: mbarrier.try_wait.parity.shared::cta.b64 %p, [bar], 0; @!%p bra WAIT;
      LOOP: add.u32 %r3, %r2, %r1; ld.shared.b32 %r4, [%r3]; cvt.u64.u32 %rd3, %r1; add.u64 %rd3, %rd3, %rd2;
      st.global.b32 [%rd3], %r4; add.u32 %r1, %r1, 4; setp.lt.u32 %p, %r1, {room}; @%p bra LOOP;"""
    if store:
        verb = "cp.reduce.async.bulk.tensor.2d.global.shared::cta.add" if reduce else \
            "cp.async.bulk.tensor.2d.global.shared::cta"
        copy = f"""
      mov.u32 %r4, 0xFFFFFFFF;
      LOOP: add.u32 %r3, %r2, %r1; st.shared.b32 [%r3], %r4; add.u32 %r1, %r1, 4; setp.lt.u32 %p, %r1, {room};
      @%p bra LOOP; fence.proxy.async.shared::cta;
      {verb}.tile.bulk_group [%rd1, {{{at[0]}, {at[1]}}}], [tile];
      cp.async.bulk.commit_group; cp.async.bulk.wait_group 0;"""
    return f""".version 8.7\n.target sm_100a\n.address_size 64
    .visible .entry k(.param .align 64 .b8 map[128], .param .u64 out) {{
      .reg .b32 %r<6>; .reg .b64 %rd<4>; .reg .pred %p;
      .shared .align 1024 .b8 tile[{room}]; .shared .align 8 .b64 bar;
      mov.b64 %rd1, map; cvta.param.u64 %rd1, %rd1; ld.param.u64 %rd2, [out]; mov.u32 %r1, 0; mov.u32 %r2, tile;
      {copy}
      ret; }}"""


def bits_of(data: npt.NDArray[np.uint8], bits: int) -> npt.NDArray[np.uint8]:
    """Elements (rows, n) of packed bytes (rows, m), lowest bits first."""
    each = np.unpackbits(data, axis=1, bitorder="little").reshape(len(data), -1, bits)
    return np.packbits(each, axis=2, bitorder="little")[..., 0]


# type, bits, bytes in shared memory of 16 elements, elements of a row of the box, swizzle
KINDS = [("b4x16", 4, 8, 64, 0), ("b4x16", 4, 8, 128, 64), ("b4x16", 4, 8, 256, 128), ("b4x16_p64", 4, 16, 128, 0),
         ("b4x16_p64", 4, 16, 128, 128), ("b6x16_p32", 6, 16, 128, 0), ("b6x16_p32", 6, 16, 128, 128)]


@pytest.mark.parametrize(("kind", "bits", "taken", "width", "swizzle"), KINDS)
@pytest.mark.parametrize("at", [(0, 0), (128, 4), (128, -3), (384, 2), (-128, 20)])
def test_loads(kind: str, bits: int, taken: int, width: int, swizzle: int, at: tuple[int, int]) -> None:
    """Rows outside of the tensor, and columns, are zero; the mbarrier is told the bytes without the gaps."""
    rows, columns, height = 20, 512, 8
    x = RNG.integers(0, 256, (rows, columns * bits // 8)).astype(np.uint8)
    made = simulator.TensorMap(x, (height, width), swizzle=swizzle, packed=kind)
    room = height * width * taken // 16
    out = np.zeros(room, np.uint8)
    simulator.launch(ptx(height * width * bits // 8, room, at), "k", 1, 1, [made, out])
    place = np.arange(room)
    if swizzle:
        place = place ^ (place >> 7 & (swizzle // 16 - 1)) << 4
    lines = out[place].reshape(height, width // 16, taken)[:, :, :2 * bits].reshape(height, -1)
    around = np.zeros((height, width), np.uint8)
    elements = bits_of(x, bits)
    for i in range(height):
        for j in range(width):
            if 0 <= at[1] + i < rows and 0 <= at[0] + j < columns:
                around[i, j] = elements[at[1] + i, at[0] + j]
    np.testing.assert_array_equal(bits_of(lines, bits), around)


@pytest.mark.parametrize(("kind", "bits", "taken", "width"), [("b4x16", 4, 8, 64), ("b6x16_p32", 6, 16, 128)])
def test_stores(kind: str, bits: int, taken: int, width: int) -> None:
    """Gaps are not stored, and neither is what lies outside."""
    x = np.zeros((6, 256 * bits // 8), np.uint8)
    made = simulator.TensorMap(x, (4, width), packed=kind)
    simulator.launch(ptx(0, 4 * width * taken // 16, (128, 4), store=True), "k", 1, 1, [made, np.zeros(4, "u1")])
    wanted = np.zeros((6, 256), np.uint8)
    wanted[4:, 128:128 + width] = (1 << bits) - 1
    np.testing.assert_array_equal(bits_of(x, bits), wanted)


@pytest.mark.parametrize(("kind", "at", "store", "reduce", "told"), [
    ("b4x16_p64", (0, 0), True, False, "can only be loaded"), ("b4x16", (0, 0), True, True, "takes no reductions"),
    ("b6x16_p32", (0, 0), True, True, "takes no reductions"), ("b4x16", (3, 0), False, False, "a multiple of 2"),
    ("b4x16_p64", (8, 0), False, False, "a multiple of 16"), ("b6x16_p32", (4, 0), False, False, "a multiple of 16"),
])
def test_what_packed_tensors_cannot(kind: str, at: tuple[int, int], store: bool, reduce: bool, told: str) -> None:
    x = np.zeros((4, 192), np.uint8)
    made = simulator.TensorMap(x, (2, 128), packed=kind)
    report = simulator.launch(ptx(0, 4096, at, store, reduce), "k", 1, 1, [made, np.zeros(4096, "u1")], collect=True,
                              max_steps=1 << 15)
    assert any(told in fault.message for fault in report.errors if fault.check == "value"), report.fault_lines()


def test_maps_that_are_impossible() -> None:
    wide = np.zeros((4, 192), np.uint8)
    for array, box, swizzle, kind, told in (
        (wide, (2, 64), 0, "b4x16_p64", "boxes of 128"), (wide, (2, 128), 64, "b4x16_p64", "more than its swizzle"),
        (np.zeros((4, 80), np.uint8), (2, 128), 0, "b6x16_p32", "multiple of that"),
        (wide, (2, 16), 0, "b4x16", "multiple of 16 bytes"), (wide, (2, 128), 0, "b2x16", "packed elements are"),
        (np.zeros((4, 96), np.uint16), (2, 128), 0, "b4x16", "array of bytes"),
        (np.zeros((4, 112), np.uint8)[:, :64], (2, 128), 0, "b4x16_p64", "multiples of 32 bytes"),
    ):
        with pytest.raises(UserError, match=told):
            simulator.TensorMap(array, box, swizzle=swizzle, packed=kind)
    with pytest.raises(UserError, match="no elements of type complex128"):
        simulator.TensorMap(np.zeros((4, 16), np.complex128), (2, 16))


@pytest.mark.parametrize("dtype", [ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2, np.int8, np.bool_])
def test_arrays_of_bytes_of_any_meaning(dtype: type) -> None:
    x = RNG.integers(0, 2, (16, 64)).astype(np.uint8).view(dtype)
    out = np.zeros(256, np.uint8)
    simulator.launch(ptx(256, 256, (32, 4)), "k", 1, 1, [simulator.TensorMap(x, (8, 32)), out])
    np.testing.assert_array_equal(out.reshape(8, 32), x.view(np.uint8)[4:12, 32:])
