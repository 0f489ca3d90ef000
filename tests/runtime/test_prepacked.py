"""Weights in the order in which a kernel reads them: formats, the order in memory, files, and what is refused."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

import tilus as tl
from tilus.ir.prepacked import format_for, parse_format
from tilus.layouts import local, parse_layout, spatial

ROUTES = ["simulate:sm_80:ptx", "simulate:sm_80:cuda"]
ENGINES = ["python", "interpret", *ROUTES]
TYPES = [tl.u1, tl.i2, tl.u3, tl.u4, tl.i4, tl.u5, tl.i6, tl.u7, tl.u8, tl.float(1, 1), tl.float(2, 1), tl.float(3, 2),
         tl.float(4, 3, "fn"), tl.nf4, tl.ternary, tl.codebook("odd", [3.0, -1.5, 0.25], 5)]
TABLE = tl.codebook("without_zero", [1.0, 2.0, -3.0, 4.0])


@tl.jit
def product(wtype: tl.DType, x: tl.f16["M", "K"], w: wtype["K", "N"], y: tl.f32["M", "N"], BM: int = 16, BN: int = 64,
            BK: int = 64, stages: int = 2) -> None:
    M, K = x.shape
    _, N = y.shape
    i, j = tl.grid(tl.cdiv(M, BM), tl.cdiv(N, BN))
    acc = tl.zeros((BM, BN), tl.f32)
    for k in tl.range(0, K, BK, stages=stages):
        acc = tl.dot(tl.load(x, (i * BM, k), (BM, BK)), tl.load(w, (k, j * BN), (BK, BN)).to(tl.f16), acc)
    tl.store(y, (i * BM, j * BN), acc)


@tl.jit
def copied(wtype: tl.DType, w: wtype["E", "K", "N"], y: tl.f32["K", "N"], e: tl.i32, BK: int = 16,
           BN: int = 64) -> None:
    """No product asks for a layout here, and the first dimension is indexed away."""
    _, K, N = w.shape
    i, j = tl.grid(tl.cdiv(K, BK), tl.cdiv(N, BN))
    tl.store(y, (i * BK, j * BN), tl.load(w[e, :, :], (i * BK, j * BN), (BK, BN)).to(tl.f32))


def weights(dtype: tl.DType, *shape: int) -> tuple[tl.PackedArray, np.ndarray]:
    """Random codes and the numbers that they stand for."""
    rng = np.random.default_rng(dtype.bits)
    size = -(-int(np.prod(shape)) * dtype.bits // 8)
    packed = tl.packed(rng.integers(0, 256, size, np.uint8), dtype, shape)
    return packed, tl.unpack(packed).astype(np.float64)


@pytest.mark.sweep
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_product(dtype: tl.DType, engine: str) -> None:
    m, k, n = 7, 192, 120
    packed, numbers = weights(dtype, k, n)
    array = tl.prepack(packed, for_=product, target="sm_80", wtype=dtype)
    x = np.random.default_rng(0).standard_normal((m, k)).astype(np.float16)
    y = np.zeros((m, n), np.float32)
    product.on(engine)(dtype, x, array, y)
    expected = x.astype(np.float64) @ numbers.astype(np.float16).astype(np.float64)
    finite = np.isfinite(expected)
    assert np.linalg.norm((y - expected)[finite]) <= 1e-5 * np.linalg.norm(expected[finite])


@pytest.mark.parametrize("engine", ["interpret", *ROUTES])
@pytest.mark.parametrize("dtype", [tl.u3, tl.u4, tl.nf4, TABLE, tl.u8], ids=str)
def test_without_a_product(dtype: tl.DType, engine: str) -> None:
    packed, numbers = weights(dtype, 3, 20, 72)
    array = tl.prepack(packed, for_=copied, target="sm_80", wtype=dtype)
    y = np.zeros((20, 72), np.float32)
    copied.on(engine)(dtype, array, y, 2)
    np.testing.assert_array_equal(y, numbers[2])


@pytest.mark.parametrize("stages", [1, 2, 4])
@pytest.mark.parametrize("target", ["sm_70", "sm_75", "sm_90a", "sm_120a"])
def test_targets(target: str, stages: int) -> None:
    packed, numbers = weights(tl.u4, 256, 128)
    constants: dict[str, Any] = {"wtype": tl.u4, "stages": stages}
    array = tl.prepack(packed, for_=product, target=target, **constants)
    x = np.random.default_rng(0).standard_normal((33, 256)).astype(np.float16)
    y = np.zeros((33, 128), np.float32)
    product.on(f"simulate:{target}")(tl.u4, x, array, y, stages=stages)
    expected = x.astype(np.float64) @ numbers
    assert np.linalg.norm(y - expected) <= 1e-5 * np.linalg.norm(expected)


@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_back(dtype: tl.DType) -> None:
    packed, numbers = weights(dtype, 2, 100, 72)
    array = tl.prepack(packed, for_=copied, target="sm_80", wtype=dtype)
    back = tl.unprepack(array)
    assert back.shape == (2, 100, 72)
    assert back.dtype is dtype
    np.testing.assert_array_equal(tl.unpack(back), numbers)


def test_order_in_memory() -> None:
    """Against the description, element by element: pieces of 2 bytes, groups of four in the order 2, 0, 3, 1."""
    dtype, layout = tl.u4, spatial(2, 4).local(2, 4)
    format = parse_format(str(format_for(dtype, layout)).replace('"piece": 4', '"piece": 2')
                          .replace('"order": []', '"order": [2, 0, 3, 1]'))
    assert (format.piece, format.order) == (2, (2, 0, 3, 1))
    packed, _ = weights(dtype, 8, 32)
    codes = tl.unpack(packed).astype(np.uint8)
    from tilus.runtime.prepacking import prepacked_bytes

    memory = prepacked_bytes(packed.argument, format)
    for tile in range(2 * 2):
        rows, columns = tile % 2 * 4, tile // 2 * 16
        for thread in range(8):
            for n in range(8):
                row, column = layout.index(thread, n)
                place = n // 4 * 4 + format.order[n % 4]
                byte = place // 2
                at = tile * 32 + byte // 2 * 16 + thread * 2 + byte % 2
                assert memory[at] >> place % 2 * 4 & 15 == codes[rows + row, columns + column]


def test_format_as_text() -> None:
    format = format_for(tl.nf4, parse_layout("spatial(8, 4).local(1, 8)"), (1, 0, 3, 2))  # type: ignore[arg-type]
    assert parse_format(str(format)) == format
    assert format.flip == 7


@pytest.mark.parametrize("engine", ["cpu", *ROUTES])
def test_a_kernel_may_ask(engine: str) -> None:
    @tl.jit
    def asks(w: tl.u8["K", "N"], y: tl.i32["K", "N"]) -> None:
        tl.grid(1)
        x = tl.load(w, (0, 0), (16, 32)).to(tl.i32)
        tl.store(y, (0, 0), x + 1000 if w.prepacked else x)

    w, y = np.arange(16 * 32, dtype=np.uint8).reshape(16, 32), np.zeros((16, 32), np.int32)
    asks.on(engine)(w, y)
    np.testing.assert_array_equal(y, w)
    target = engine.split(":")[1] if ":" in engine else engine
    asks.on(engine)(tl.prepack(w, for_=asks, target=target), y)
    np.testing.assert_array_equal(y, w + np.int32(1000))


def test_of_quantised_numbers() -> None:
    q = tl.quantize(np.random.default_rng(0).standard_normal((64, 64), np.float32), tl.u4)
    array = tl.prepack(q, for_=product, target="sm_80", wtype=tl.u4)
    np.testing.assert_array_equal(tl.unpack(tl.unprepack(array)), tl.unpack(q.values))


def test_files() -> None:
    packed, _ = weights(tl.u3, 100, 72)
    array = tl.prepack(packed, for_=product, target="sm_80", wtype=tl.u3)
    file = io.BytesIO()
    np.savez(file, w=array.bytes, header=array.header)
    file.seek(0)
    read = np.load(file)
    again = tl.prepacked(read["w"], str(read["header"]))
    assert (again.format, again.shape) == (array.format, array.shape)
    np.testing.assert_array_equal(again.bytes, array.bytes)


@pytest.mark.sweep(keep=11)
@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("bits", range(1, 9))
def test_tiles_of_whole_pieces(bits: int, route: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the least tile of 128 bits a thread all copies and loads of weights have 128 bits, without bank conflicts."""
    reports: list[Any] = []
    monkeypatch.setattr("tilus.runtime.nvidia.engines._Simulated.tell", lambda self, report: reports.append(report))
    dtype = tl.integer(bits, signed=False)
    tile = tl.layouts.tile_for(tl.mma((16, 64, 16), tl.f16, warps=(1, 4)).b, bits)
    constants = {"BK": tile.shape[0], "BN": tile.shape[1]}
    packed, numbers = weights(dtype, 2 * tile.shape[0], 2 * tile.shape[1])
    array = tl.prepack(packed, for_=product, target="sm_80", wtype=dtype, **constants)
    assert array.format.layout == tile
    x = np.random.default_rng(0).standard_normal((16, packed.shape[0])).astype(np.float16)
    y = np.zeros((16, packed.shape[1]), np.float32)
    product.on(route)(dtype, x, array, y, **constants)
    assert np.linalg.norm(y - x.astype(np.float64) @ numbers) <= 1e-5 * np.linalg.norm(y)
    (report,) = reports
    assert not report.faults
    loads = [site for site in report.sites if site.opcode.startswith("ld.shared") and site.requests]
    assert sum(site.bytes for site in loads) == array.nbytes + y.nbytes, "y goes through shared memory to be stored"
    assert all(".v4." in site.opcode and not site.excess for site in loads)
    copies = [site for site in report.sites if site.opcode.startswith("cp.async") and site.space == "global"]
    assert sum(site.bytes for site in copies) == array.nbytes + y.shape[1] // tile.shape[1] * x.nbytes
    assert all(site.bytes == 16 * 32 * site.requests and not site.excess for site in copies)


def test_safetensors(tmp_path: Path) -> None:
    """The header goes into the metadata, where texts are."""
    packed, _ = weights(tl.u3, 100, 72)
    array = tl.prepack(packed, for_=product, target="sm_80", wtype=tl.u3)
    file = tmp_path / "w.safetensors"
    save_file({"w": array.bytes}, file, {"w.header": array.header})
    with safe_open(file, "numpy") as found:
        again = tl.prepacked(found.get_tensor("w"), found.metadata()["w.header"])
    assert (again.header, again.bytes.tobytes()) == (array.header, array.bytes.tobytes())
    np.testing.assert_array_equal(tl.unpack(tl.unprepack(again)), tl.unpack(packed))


def test_for_a_format() -> None:
    """That of another array, of its text, or of a compiled kernel."""
    packed, _ = weights(tl.u4, 128, 64)
    array = tl.prepack(packed, for_=product, target="sm_80", wtype=tl.u4)
    compiled = product.compile("sm_80", prepacked=("w",), wtype=tl.u4)
    assert product.compile("sm_80", wtype=tl.u4).formats == {}
    for format in (array.format, str(array.format), compiled.formats["w"]):
        again = tl.prepack(packed, format=format)
        assert (again.header, again.bytes.tobytes()) == (array.header, array.bytes.tobytes())
    for given, message in (({"format": "{}"}, "is not the format"), ({}, "takes either the kernel"),
                           ({"format": array.format, "layout": FRAGMENT}, "takes either the kernel")):
        with pytest.raises(tl.UserError, match=f"E060[14].*{message}"):
            tl.prepack(packed, **given)
    with pytest.raises(tl.UserError, match="the format is one of u4, and the weights are u3"):
        tl.prepack(weights(tl.u3, 128, 64)[0], format=array.format)


FRAGMENT = tl.mma((16, 64, 64), tl.f16, warps=(1, 4)).b


@tl.jit
def by_hand(wtype: tl.DType, bytes_: tl.Layout, x: tl.f16["M", 64], w: tl.u8["T", "B"], y: tl.f32["M", 64]) -> None:
    i = tl.grid(tl.cdiv(x.shape[0], 16))
    raw = tl.load(w[0, :], 0, bytes_.shape[0], layout=bytes_)
    b = tl.view(raw, dtype=wtype, layout=FRAGMENT, from_layout=bytes_)
    y_ = tl.dot(tl.load(x, (i * 16, 0), (16, 64)), b.to(tl.f16), tl.zeros((16, 64), tl.f32))
    tl.store(y, (i * 16, 0), y_)


@pytest.mark.parametrize("engine", ["interpret", *ROUTES])
def test_layout_of_a_view(engine: str) -> None:
    packed, numbers = weights(tl.u5, 64, 64)
    array = tl.prepack(packed, layout=FRAGMENT)
    x = np.random.default_rng(0).standard_normal((16, 64)).astype(np.float16)
    y = np.zeros((16, 64), np.float32)
    by_hand.on(engine)(tl.u5, array.format.bytes, x, array.bytes.reshape(1, -1), y)
    expected = x.astype(np.float64) @ numbers
    assert np.linalg.norm(y - expected) <= 1e-5 * np.linalg.norm(expected)


def test_of_another_kernel() -> None:
    packed, _ = weights(tl.u4, 64, 128)
    array = tl.prepack(packed, for_=product, target="sm_80", wtype=tl.u4, BN=128)
    x, y = np.zeros((4, 64), np.float16), np.zeros((4, 128), np.float32)
    with pytest.raises(tl.UserError, match=r"E0305.*'w' is prepacked for another kernel: .*×128.*reads.*×64"):
        product.on("simulate:sm_80")(tl.u4, x, array, y)


@tl.jit
def named_elsewhere(x: tl.f32["K", "N"], w: tl.u4["E", "K", "N"], c: tl.u4["E", 16, 32], y: tl.f32["K", "N"]) -> None:
    """The whole extents are those of another array, which have the same names, and constants."""
    tl.grid(1)
    for e in range(w.shape[0]):
        part = tl.load(w[e, :, :], (0, 0), (16, 32)).to(tl.f32) + tl.load(c[e, :, :], (0, 0), (16, 32)).to(tl.f32)
        tl.store(y, (0, 0), tl.load(y, (0, 0), (16, 32)) + part)


@pytest.mark.parametrize("engine", ENGINES)
def test_windows_of_whole_matrices(engine: str) -> None:
    packed, numbers = weights(tl.u4, 3, 16, 32)
    arrays = [tl.prepack(packed, for_=named_elsewhere, parameter=name, target="sm_80") for name in ("w", "c")]
    y = np.zeros((16, 32), np.float32)
    named_elsewhere.on(engine)(np.zeros_like(y), *arrays, y)
    np.testing.assert_array_equal(y, 2 * numbers.sum(0))


@tl.jit
def anywhere(w: tl.u4["K", "N"], y: tl.f32["K", "N"], at: tl.i32) -> None:
    tl.grid(1)
    tl.store(y, (0, 0), tl.load(w, (at, 0), (8, 32)).to(tl.f32))


@tl.jit
def two_shapes(w: tl.u4["K", "N"], y: tl.f32["K", "N"]) -> None:
    tl.grid(1)
    tl.store(y, (0, 0), tl.load(w, (0, 0), (8, 32)).to(tl.f32))
    tl.store(y, (0, 0), tl.load(w, (0, 0), (16, 32)).to(tl.f32))


@tl.jit
def masked(w: tl.u4["K", "N"], y: tl.f32["K", "N"]) -> None:
    tl.grid(1)
    mask = (tl.arange(0, 32) < 3)[None, :]
    tl.store(y, (0, 0), tl.load(w, (0, 0), (8, 32), mask=mask).to(tl.f32))


@tl.jit
def cut(w: tl.u4["K", "N"], y: tl.f32["K", "N"]) -> None:
    tl.grid(1)
    tl.store(y, (0, 0), tl.load(w[:, 32:], (0, 0), (8, 32)).to(tl.f32))


@pytest.mark.parametrize(("kernel", "message"), [
    (anywhere, "does not certainly begin at a multiple of 8 rows"),
    (two_shapes, "read in tiles of .8, 32. and of .16, 32."),
    (masked, "its loads have no mask="),
    (cut, "rows and columns are not cut"),
])
@pytest.mark.parametrize("target", ["sm_80", "cpu"])
def test_what_a_kernel_may_not_do(kernel: Any, message: str, target: str) -> None:
    packed, _ = weights(tl.u4, 64, 64)
    with pytest.raises(tl.UserError, match=f"E0305.*{message}"):
        tl.prepack(packed, for_=kernel, target=target)


@tl.jit
def with_zeros(w: tl.u4["K", "N"], y: tl.f32["K", "N"], zeros: tl.u4["K", "N"] | None = None) -> None:
    tl.grid(1)
    y_ = tl.load(w, (0, 0), (16, 32)).to(tl.f32)
    if zeros is not None:
        y_ = y_ - tl.load(zeros, (0, 0), (16, 32)).to(tl.f32)
    tl.store(y, (0, 0), y_)


@tl.jit
def of_two(w: tl.u4["K", "N"], v: tl.u4["K", "N"] | None, y: tl.f32["K", "N"]) -> None:
    tl.grid(1)
    tl.store(y, (0, 0), tl.load(w, (0, 0), (16, 32)).to(tl.f32))


def test_absent_parameters_are_not_meant() -> None:
    packed, _ = weights(tl.u4, 16, 32)
    with pytest.raises(tl.UserError, match="several of u4: w, v"):
        tl.prepack(packed, for_=of_two, target="sm_80")
    assert tl.prepack(packed, for_=of_two, target="sm_80", v=None).format.tile[1] == 32
    found = tl.prepack(packed, for_=with_zeros, target="sm_80")
    assert found.header == tl.prepack(packed, for_=with_zeros, target="sm_80", parameter="w", zeros=None).header


def test_mistakes() -> None:
    packed, _ = weights(tl.u4, 64, 64)
    with pytest.raises(tl.UserError, match="has no parameter 'v'"):
        tl.prepack(packed, for_=product, parameter="v", target="sm_80", wtype=tl.u4)
    with pytest.raises(tl.UserError, match="none of u4"):
        tl.prepack(packed, for_=product, target="sm_80", wtype=tl.u3)
    array = tl.prepack(packed, for_=product, target="sm_80", wtype=tl.u4)
    with pytest.raises(tl.UserError, match="prepacked already"):
        tl.prepack(array, for_=product, target="sm_80", wtype=tl.u4)
    with pytest.raises(ValueError, match="takes 2048 bytes, not 2047"):
        tl.prepacked(array.bytes[1:], array.header)
    with pytest.raises(ValueError, match="not the header of a prepacked array"):
        tl.prepacked(array.bytes, "{}")
    with pytest.raises(tl.UserError, match="fill no whole bytes"):
        tl.prepack(packed, layout=spatial(8, 8) * local(1, 1))


@pytest.mark.parametrize("BK", [64, 128, 256])
def test_one_array_for_all_depths(BK: int) -> None:
    """A kernel that loads more rows at once reads the same memory, also where the last tile reaches beyond it."""
    packed, numbers = weights(tl.u4, 330, 64)
    array = tl.prepack(packed, for_=product, target="sm_80", wtype=tl.u4, BK=64)
    x = np.random.default_rng(0).standard_normal((7, 330)).astype(np.float16)
    y = np.zeros((7, 64), np.float32)
    product.on("simulate:sm_80")(tl.u4, x, array, y, BK=BK)
    expected = x.astype(np.float64) @ numbers
    assert np.linalg.norm(y - expected) <= 1e-5 * np.linalg.norm(expected)
