"""Arrays of packed elements: how they are made, taken and refused, and what kernels do with them."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

import tilus as tl
from tests.guard_pages import last_bytes
from tests.lowering.exact_codes import CODEBOOKS, FLOATS, inputs
from tilus.interp.numbers import cast, held_as
from tilus.ir.dtypes import from_numpy

ENGINES = ("python", "interpret", "cpu", "simulate:sm_80:ptx", "simulate:sm_80:cuda")
TYPES = [tl.u1, tl.u2, tl.u3, tl.u4, tl.u5, tl.u7, tl.i3, tl.i4, tl.f6e3m2, tl.f4e2m1, tl.nf4,
         tl.float(exponent=5, mantissa=6), tl.integer(23), tl.float(exponent=2, mantissa=5)]


def codes_of(array: tl.PackedArray) -> np.ndarray:
    """One code an element, bit by bit."""
    elements = array.argument.array
    bits = np.unpackbits(elements.bytes, bitorder="little")
    first = elements.positions * array.dtype.bits
    return sum(bits[first + k].astype(np.uint64) << np.uint64(k) for k in range(array.dtype.bits))


def some(dtype: tl.DType, shape: tuple[int, ...], seed: int = 0, strides: Any = None) -> tl.PackedArray:
    """An array with any bits, in itself and in what is left of its last byte."""
    strides = strides or [int(np.prod(shape[d + 1:])) for d in range(len(shape))]
    last = 1 + sum((n - 1) * s for n, s in zip(shape, strides, strict=True))
    memory = np.random.default_rng(seed).integers(0, 256, -(-last * dtype.bits // 8)).astype(np.uint8)
    return tl.packed(memory, dtype, shape, strides)


def numbers_of(codes: np.ndarray, dtype: tl.DType) -> np.ndarray:
    return cast(codes.astype(held_as(dtype)), dtype, tl.f32)


def bytes_with(array: tl.PackedArray, codes: np.ndarray) -> np.ndarray:
    """The memory of an array once its elements have these codes, bit by bit."""
    bits = np.unpackbits(array.base, bitorder="little")
    first = array.argument.array.positions * array.dtype.bits
    for k in range(array.dtype.bits):
        bits[first + k] = codes >> np.uint64(k) & np.uint64(1)
    return np.packbits(bits, bitorder="little")


@tl.jit
def dequantise(w: Any["M", "N"], scale: tl.f32["M"], y: tl.f32["M", "N"]):
    i, j = tl.grid(tl.cdiv(w.shape[0], 4), tl.cdiv(w.shape[1], 32))
    x = tl.load(w, (i * 4, j * 32), (4, 32)).to(tl.f32)
    tl.store(y, (i * 4, j * 32), x * tl.load(scale, i * 4, 4)[:, None])


@pytest.mark.sweep
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_load(dtype: tl.DType, engine: str) -> None:
    kernel = typed(dequantise, w=dtype["M", "N"])
    for shape, strides in (((7, 67), None), ((8, 64), None), ((9, 33), (1, 9)), ((5, 40), (81, 2))):
        w, scale = some(dtype, shape, 1, strides), np.arange(shape[0], dtype=np.float32)
        y = np.full(shape, -1, np.float32)
        kernel.on(engine)(w, scale, y)
        np.testing.assert_array_equal(y, numbers_of(codes_of(w), dtype) * scale[:, None])


@tl.jit
def quantise(x: tl.f32["M", "N"], w: Any["M", "N"], low: tl.i32, high: tl.i32, dtype: tl.DType):
    """The columns from low to high, and not those whose number plus that of the row divides by 5."""
    i, j = tl.grid(tl.cdiv(w.shape[0], 4), tl.cdiv(w.shape[1], 32))
    a, b = w[:, low:high], x[:, low:high]
    at = (i * 4, j * 32)
    mask = (tl.iota((4, 32), 0) + tl.iota((4, 32), 1)) % 5 != 0
    tl.store(a, at, tl.load(b, at, (4, 32)).to(dtype), mask=mask)


def typed(kernel: tl.JitFunction, **annotations: Any) -> tl.JitFunction:
    """The kernel with other annotations."""
    import types

    function = types.FunctionType(kernel.function.__code__, kernel.function.__globals__, kernel.function.__name__,
                                  kernel.function.__defaults__, kernel.function.__closure__)
    function.__annotations__ = {**kernel.function.__annotations__, **annotations}
    return tl.jit(function)


@pytest.mark.sweep
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_store(dtype: tl.DType, engine: str) -> None:
    """Elements beside those that are stored keep their bits."""
    kernel = typed(quantise, w=dtype["M", "N"])
    for shape, strides, low, high in (((7, 67), None, 3, 62), ((8, 64), None, 0, 64), ((9, 43), (1, 9), 5, 38)):
        w = some(dtype, shape, 2, strides)
        x = (np.random.default_rng(3).standard_normal(shape) * 4).astype(np.float32)
        before = codes_of(w)
        i, j = np.indices(shape)
        stored = (j >= low) & (j < high) & ((i % 4 + (j - low) % 32) % 5 != 0)
        codes = cast(x, tl.f32, dtype)
        expected = bytes_with(w, np.where(stored, codes.view(f"u{codes.itemsize}"), before))
        kernel.on(engine)(x, w, low, high, dtype=dtype)
        np.testing.assert_array_equal(w.base, expected)


@tl.jit
def move(source: Any["M", "N"], target: Any["N", "M"]):
    i, j = tl.grid(tl.cdiv(source.shape[0], 8), tl.cdiv(source.shape[1], 32))
    tl.store(target.T, (i * 8, j * 32), tl.load(source, (i * 8, j * 32), (8, 32)))


@tl.jit
def shuffle(source: Any["N"], index: tl.i32["N"], target: Any["N"], back: Any["N"]):
    i = tl.grid(tl.cdiv(index.shape[0], 32)) * 32
    at = tl.load(index, i, 32, other=-1)
    x = tl.gather(source, (at,))
    tl.scatter(target, (at,), x)
    tl.store(back, i, x)


@tl.jit
def by_shared(source: Any["N"], target: Any["N"], single: Any["N"], dtype: tl.DType):
    tl.block(warps=1)
    n = tl.grid(tl.cdiv(source.shape[0], 96))
    s = tl.shared((3, 32), dtype)
    tl.store(s, (0, 0), tl.load(source, n * 96, 96).reshape(3, 32))
    tl.sync()
    tl.store(target, n * 96, tl.load(s, (0, 0), (3, 32)).reshape(96))
    single[n] = source[n + 1]


@pytest.mark.sweep(keep=10)
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_copies(dtype: tl.DType, engine: str) -> None:
    source, target = some(dtype, (13, 51), 4), some(dtype, (51, 13), 5)
    typed(move, source=dtype["M", "N"], target=dtype["N", "M"]).on(engine)(source, target)
    np.testing.assert_array_equal(codes_of(target), codes_of(source).T)

    index = np.random.default_rng(6).permutation(75).astype(np.int32)
    a, b, c = (some(dtype, (75,), n) for n in range(3))
    one = dtype["N"]
    typed(shuffle, source=one, target=one, back=one).on(engine)(a, index, b, c)
    np.testing.assert_array_equal(codes_of(b), codes_of(a))
    np.testing.assert_array_equal(codes_of(c), codes_of(a)[index])

    a, b, c = (some(dtype, (200,), n) for n in range(7, 10))
    before = codes_of(c)
    typed(by_shared, source=one, target=one, single=one).on(engine)(a, b, c, dtype=dtype)
    np.testing.assert_array_equal(codes_of(b), codes_of(a))
    np.testing.assert_array_equal(codes_of(c), np.r_[codes_of(a)[1:4], before[3:]])


@pytest.mark.parametrize("dtype", [tl.u3, tl.nf4, tl.f6e3m2], ids=str)
def test_blocks_that_share_bytes(dtype: tl.DType) -> None:
    """Blocks on several cores store neighbours in one byte."""
    @tl.jit
    def kernel(x: tl.f32["N"], w: dtype["N"]):
        i = tl.grid(x.shape[0]) * 1
        w[i] = x[i].to(dtype)

    x = np.random.default_rng(0).standard_normal(20_001).astype(np.float32) * 3
    w = some(dtype, x.shape)
    kernel.on("cpu")(x, w)
    np.testing.assert_array_equal(w.base[:-1], tl.pack(x, dtype).base[:-1])


# Numbers to packed elements and back.


@pytest.mark.parametrize("engine", ENGINES)
def test_take_from_outside(engine: str) -> None:
    """An element that is not there is 0, whatever the code of 0 is."""
    @tl.jit
    def taken(x: tl.nf4["N"], i: tl.i32["N"], y: tl.f32["N"]):
        tl.grid(1)
        tl.store(y, 0, tl.take(tl.load(x, 0, (8,)), tl.load(i, 0, (8,)), axis=0).to(tl.f32))

    x, y = tl.pack(np.linspace(-1, 1, 8).astype("f"), tl.nf4), np.full(8, 9, "f")
    i = np.array([0, -1, 7, 8, 3, 100, 1, 2], np.int32)
    taken.on(engine)(x, i, y)
    assert np.array_equal(y, np.where((i >= 0) & (i < 8), tl.unpack(x)[i % 8], np.float32(0)))


@pytest.mark.sweep
@pytest.mark.parametrize("engine", [e for e in ENGINES if e != "python"])
@pytest.mark.parametrize("dtype", [tl.nf4, tl.ternary], ids=str)
def test_products_in_fused_functions(dtype: tl.DType, engine: str) -> None:
    """What is beyond the array along the sum counts as 0, whatever the code of 0 is."""
    @tl.fuse
    def gram(x):
        return x.to(tl.f32) @ x.to(tl.f32).T

    for shape in ((5, 1), (7, 3), (4, 33)):
        x = tl.pack(np.random.default_rng(0).integers(-1, 2, shape).astype("f"), dtype)
        wanted = tl.unpack(x).astype("d") @ tl.unpack(x).astype("d").T
        assert np.abs(np.asarray(gram.on(engine)(x)) - wanted).max() <= 1e-5 * np.abs(wanted).max()


@pytest.mark.parametrize("dtype", [*TYPES, *FLOATS[::9], *CODEBOOKS, tl.integer(9), tl.integer(45), tl.i8, tl.f8e4m3fn,
                                   tl.bool, tl.f16], ids=str)
def test_pack(dtype: tl.DType) -> None:
    with np.errstate(all="ignore"):
        for x in (inputs(dtype, 5000) if not (dtype.is_int or dtype.is_bool or dtype.is_arithmetic)
                  else inputs(tl.f6e3m2, 5000), np.arange(1 << 16, dtype=np.uint16).view(np.float16),
                  np.arange(-200, 200), np.arange(256, dtype=np.uint8), np.arange(9) % 2 == 0,
                  np.arange(1 << 16, dtype=np.uint16).view(ml_dtypes.bfloat16), np.linspace(-3, 3, 77)):
            packed = tl.pack(x, dtype)
            expected = cast(x, from_numpy(x.dtype), dtype)
            bits = dtype.packed_bits
            raw = expected.view(f"u{expected.itemsize}").astype(np.uint64)
            every = (raw[:, None] >> np.arange(bits, dtype=np.uint64) & np.uint64(1)).astype(np.uint8)
            np.testing.assert_array_equal(packed.base, np.packbits(every.reshape(-1), bitorder="little"))
            np.testing.assert_array_equal(tl.unpack(packed), cast(expected, dtype, tl.f32))
            np.testing.assert_array_equal(tl.unpack(packed, np.int32), cast(expected, dtype, tl.i32))


def test_axes() -> None:
    x = np.arange(3 * 5 * 7).reshape(3, 5, 7) % 8
    for axis in range(-3, 3):
        packed = tl.pack(x, tl.u3, axis)
        assert packed.strides[axis] == 1
        assert packed.nbytes == -(-3 * 105 // 8)
        np.testing.assert_array_equal(tl.unpack(packed, np.int64), x)
    np.testing.assert_array_equal(tl.unpack(tl.packed(tl.pack(x, tl.u3).base, tl.u3, (5, 7), (14, 2))),
                                  x.reshape(-1)[:: 2][:35].reshape(5, 7))
    assert tl.pack(np.float32(2), tl.u3).shape == ()
    assert tl.unpack(tl.pack(np.zeros((0, 3)), tl.u3)).shape == (0, 3)


def test_torch() -> None:
    torch = pytest.importorskip("torch")
    x = torch.arange(24, dtype=torch.float32).reshape(4, 6).t()
    packed = tl.pack(x, tl.u5)
    assert isinstance(packed.base, torch.Tensor)
    np.testing.assert_array_equal(tl.unpack(packed), x.numpy())
    np.testing.assert_array_equal(tl.unpack(tl.packed(torch.arange(8, dtype=torch.int32), tl.u8, 32), np.uint8)[::4],
                                  np.arange(8))

    @tl.jit
    def kernel(w: tl.f4e2m1["M", "N"], y: tl.f32["M", "N"]):
        tl.grid(1)
        tl.store(y, (0, 0), tl.load(w, (0, 0), (2, 16)).to(tl.f32))

    codes = torch.randint(0, 256, (2, 8), dtype=torch.uint8)
    y = torch.zeros(2, 16)
    for engine in ENGINES:
        kernel.on(engine)(codes.view(torch.float4_e2m1fn_x2), y)
        np.testing.assert_array_equal(y.numpy(), tl.unpack(tl.packed(codes, tl.f4e2m1, (2, 16))))
    with pytest.raises(tl.UserError, match="side by side"):
        kernel.on("cpu")(codes.view(torch.float4_e2m1fn_x2).t(), y)


def test_bytes_of_many_kinds() -> None:
    raw = np.arange(6, dtype=np.uint8)
    for given in (raw, raw.tobytes(), bytearray(raw), memoryview(raw), raw.view(np.int16), raw.reshape(2, 3)):
        found = tl.unpack(tl.packed(given, tl.u4, (3, 4)), np.uint8)
        assert found.tolist() == [[0, 0, 1, 0], [2, 0, 3, 0], [4, 0, 5, 0]]
    assert repr(tl.packed(raw, tl.u4, (3, 4))) == "<packed u4[3, 4], 6 bytes of ndarray>"
    assert repr(tl.packed(raw, tl.u4, (2, 3), (1, 2))) == "<packed u4[2, 3], strides (1, 2), 3 bytes of ndarray>"
    assert repr(tl.packed(raw, tl.codebook("two", [1, 2]), 48)) == "<packed two[48], 6 bytes of ndarray>"
    ready = tl.packed(raw, tl.f16, 3)  # of whole bytes: as the array of that type
    np.testing.assert_array_equal(tl.unpack(ready), raw.view(np.float16).astype(np.float32))


@pytest.mark.parametrize(("make", "error", "message"), [
    (lambda: tl.packed(np.zeros(5, np.uint8), tl.u4, (3, 4)), ValueError, r"u4\[3, 4\] takes 6 bytes .* not 5"),
    (lambda: tl.packed(np.zeros(7, np.uint8), tl.u4, (3, 4)), ValueError, "takes 6 bytes"),
    (lambda: tl.packed(np.zeros(6, np.uint8), tl.u4, (3, 4), (5, 1)), ValueError, "takes 7 bytes"),
    (lambda: tl.packed(np.zeros(6, np.uint8), tl.u4, (3, 4), (1,)), ValueError, "2 extents, but 1 strides"),
    (lambda: tl.packed(np.zeros(6, np.uint8), tl.u4, (3, -4)), ValueError, "not negative"),
    (lambda: tl.packed(np.zeros((6, 2), np.uint8)[:, 0], tl.u4, (3, 4)), TypeError, "contiguous"),
    (lambda: tl.packed([1, 2], tl.u4, 4), TypeError, "not in list"),
    (lambda: tl.packed(tl.packed(b"a", tl.u4, 2), tl.u4, 2), TypeError, "packed already"),
    (lambda: tl.pack(np.zeros(3), tl.u4, 1), ValueError, "axis 1"),
    (lambda: tl.pack(np.zeros(3, complex), tl.u4), TypeError, "no tilus element type"),
    (lambda: tl.unpack(np.zeros(3)), TypeError, "packed array"),
])
def test_errors(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()


@tl.jit
def first(w: tl.u4["N"], y: tl.f32["N"]):
    i = tl.grid(1)
    tl.store(y, i, tl.load(w, i, 32).to(tl.f32))


@pytest.mark.parametrize(("w", "message"), [
    (np.zeros(32, ml_dtypes.uint4), r"tl\.pack\(w, tl\.u4\)"),
    (np.zeros(32, np.uint8), r"tl\.packed\(w, tl\.u4, shape\)"),
    (tl.packed(bytes(16), tl.i4, 32), "'w' holds i4, but the parameter is u4"),
    (tl.packed(bytes(16), tl.u4, (1, 32)), "rank 2"),
], ids=["one_to_a_byte", "bytes", "type", "rank"])
def test_arguments_that_do_not_fit(w: Any, message: str) -> None:
    with pytest.raises(tl.UserError) as error:
        first.on("cpu")(w, np.zeros(32, np.float32))
    import re

    assert re.search(message, str(error.value))


@pytest.mark.parametrize("engine", ENGINES)
def test_arrays_that_are_read_only_or_overlap(engine: str) -> None:
    @tl.jit
    def kernel(a: tl.u4["N"], b: tl.u4["N"]):
        i = tl.grid(1)
        tl.store(b, i, tl.load(a, i, 32))

    memory = np.zeros(32, np.uint8)
    with pytest.raises(tl.UserError, match="read-only"):
        kernel.on(engine)(tl.packed(memory[:16], tl.u4, 32), tl.packed(bytes(16), tl.u4, 32))
    with pytest.raises(tl.UserError, match="overlaps"):
        kernel.on(engine)(tl.packed(memory[:16], tl.u4, 32), tl.packed(memory[8:24], tl.u4, 32))
    kernel.on(engine)(tl.packed(memory[:16], tl.u4, 32), tl.packed(memory[16:], tl.u4, 32))


# Runs of neighbours on the CPU, by vectors of bytes.


@tl.jit
def to_wide(w: Any["M", "N"], y: Any["M", "N"], width: int, wide: tl.DType):
    i, j = tl.grid(w.shape[0], tl.cdiv(w.shape[1], width))
    tl.store(y, (i, j * width), tl.load(w, (i, j * width), (1, width)).to(wide))


@tl.jit
def to_narrow(y: Any["M", "N"], w: Any["M", "N"], width: int, dtype: tl.DType):
    i, j = tl.grid(w.shape[0], tl.cdiv(w.shape[1], width))
    a = w[:, 3:]
    tl.store(a, (i, j * width), tl.load(y[:, 3:], (i, j * width), (1, width)).to(dtype))


WIDTHS = [tl.integer(n, signed=s) for n, s in (
    (1, True), (2, False), (3, True), (4, False), (5, True), (6, False), (7, True), (9, False), (11, True), (17, True),
    (24, False), (28, True), (29, False), (31, True), (47, False), (50, True), (53, True), (57, False), (63, True))]


@pytest.mark.sweep(keep=10)
@pytest.mark.parametrize("dtype", WIDTHS, ids=str)
@pytest.mark.parametrize(("shape", "width"), [((9, 161), 64), ((8, 33), 256), ((9, 24), 8), ((3, 4), 16), ((5, 40), 4)],
                         ids=str)
def test_runs(dtype: tl.DType, shape: tuple[int, int], width: int) -> None:
    """Rows that begin at every bit of a byte, and end within a vector; each element and no other is moved."""
    wide = tl.i64 if dtype.bits > 32 else tl.i32
    load = typed(to_wide, w=dtype["M", "N"], y=wide["M", "N"]).on("cpu")
    store = typed(to_narrow, w=dtype["M", "N"], y=wide["M", "N"]).on("cpu")
    w = some(dtype, shape, 1)
    codes = codes_of(w)
    y = np.zeros(shape, wide.numpy)
    load(w, y, width=width, wide=wide)
    np.testing.assert_array_equal(y, cast(codes.astype(held_as(dtype)), dtype, wide))
    v = some(dtype, shape, 2)
    moved = codes_of(v)
    moved[:, 3:] = codes[:, 3:]
    expected = bytes_with(v, moved)
    store(y, v, width=width, dtype=dtype)
    np.testing.assert_array_equal(v.base, expected)


def test_nothing_is_read_past_the_end() -> None:
    with last_bytes() as memory:
        for dtype in (tl.u1, tl.u3, tl.u4, tl.i7, tl.integer(12)):
            load = typed(to_wide, w=dtype["M", "N"], y=tl.i32["M", "N"]).on("cpu")
            for n in (1, 2, 5, 8, 31, 32, 33, 64, 100):
                raw = memory(-(-3 * n * dtype.bits // 8))
                raw[:] = np.random.default_rng(n).integers(0, 256, raw.size)
                w = tl.packed(raw, dtype, (3, n))
                y = np.zeros((3, n), np.int32)
                load(w, y, width=32, wide=tl.i32)
                np.testing.assert_array_equal(y, tl.unpack(w, np.int32))


@pytest.mark.parametrize("vector_bytes", [16, 32])
@pytest.mark.parametrize("dtype", [tl.u1, tl.i3, tl.nf4, tl.f6e3m2, tl.integer(12)], ids=str)
def test_narrower_registers(dtype: tl.DType, vector_bytes: int, monkeypatch: Any, tmp_path: Any) -> None:
    """The code for processors with shorter vectors."""
    from tilus.lowering.cpu.values import Machine
    from tilus.runtime.cpu import kernel as compiled

    monkeypatch.setenv("TILUS_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(compiled, "machine", lambda: Machine(vector_bytes=vector_bytes))
    w, v = some(dtype, (7, 83), 1), some(dtype, (7, 83), 2)
    y = np.zeros(w.shape, np.float32)
    typed(to_wide, w=dtype["M", "N"], y=tl.f32["M", "N"]).on("cpu")(w, y, width=64, wide=tl.f32)
    np.testing.assert_array_equal(y, numbers_of(codes_of(w), dtype))
    moved = codes_of(v)
    moved[:, 3:] = codes_of(w)[:, 3:]
    if dtype.is_codebook or dtype.is_int:
        expected = bytes_with(v, moved)
        typed(to_narrow, w=dtype["M", "N"], y=tl.f32["M", "N"]).on("cpu")(y, v, width=64, dtype=dtype)
        np.testing.assert_array_equal(v.base, expected)


def test_repeated_calls_see_the_array_at_hand() -> None:
    """They go by a plan, whose key has what a specialisation and its checks depend on."""
    @tl.jit
    def copied(x: tl.u4["N"], y: tl.u4["N"]) -> None:
        i = tl.grid(tl.cdiv(x.shape[0], 32)) * 32
        tl.store(y, i, tl.load(x, i, 32))

    for n in (64, 64, 40, 64):
        for start in (0, 3):
            x, y = tl.pack((np.arange(n) + start) % 16, tl.u4), tl.pack(np.zeros(n), tl.u4)
            copied(x, y)
            np.testing.assert_array_equal(tl.unpack(y), (np.arange(n) + start) % 16)
    frozen = np.zeros(32, np.uint8)
    frozen.flags.writeable = False
    with pytest.raises(tl.UserError, match="E0303"):
        copied(x, tl.packed(frozen, tl.u4, 64))
    with pytest.raises(tl.UserError, match="E0603"):
        copied(x, x)
