"""Calls of the cube core against index formulas of the layouts, each shown by products with the identity."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from tests.twin.harness import Kernels, groups, nz, zn, zz

PRELUDE = """
constexpr uint32_t spare = 262144;  // of L1: what the helpers use

template <typename T> struct Sum { using type = float; };
template <> struct Sum<int8_t> { using type = int32_t; };
template <> struct Sum<int4b_t> { using type = int32_t; };

// `bytes` of GM as they are, in L1 and from there in L0.
template <typename T>
__aicore__ inline LocalTensor<T> l1_image(GM_ADDR from, uint32_t count, uint32_t address = 0) {
    LocalTensor<T> l1(TPosition::A1, address, count);
    DataCopy(l1, gm<T>(from), count);
    step();
    return l1;
}

template <typename T>
__aicore__ inline LocalTensor<T> l0_image(TPosition position, GM_ADDR from, uint32_t count, uint32_t address = 0) {
    LocalTensor<T> l1 = l1_image<T>(from, count, spare);
    LocalTensor<T> l0(position, address, count);
    LoadData2DParams load;
    load.repeatTimes = count * twin::bits_of(twin::type_of<T>) / 8 / 512;
    load.srcStride = 1;
    LoadData(l0, l1, load);
    step();
    return l0;
}

template <typename C>
__aicore__ inline void show(GM_ADDR out, LocalTensor<C> l0c, uint32_t m, uint32_t n, uint32_t rows) {
    step();
    FixpipeParamsV220 fix;
    fix.nSize = n;
    fix.mSize = m;
    fix.srcStride = rows;
    fix.dstStride = n;
    Fixpipe<C, C, CFG_ROW_MAJOR>(gm<C>(out), l0c, fix);
    step();
}

template <typename T>
__aicore__ inline void multiply(GM_ADDR out, LocalTensor<T> l0a, LocalTensor<T> l0b, uint32_t m, uint32_t n, uint32_t k,
                                bool align = false) {
    using C = typename Sum<T>::type;
    LocalTensor<C> l0c(TPosition::CO1, 0, (m + 15) / 16 * 16 * ((n + 15) / 16 * 16));
    MmadParams product;
    product.m = m;
    product.n = n;
    product.k = k;
    product.kDirectionAlign = align;
    Mmad(l0c, l0a, l0b, product);
    show(out, l0c, m, n, (m + 15) / 16 * 16);
}

// A left operand [m, k] in L0A, by the identity whose image is at `identity`; and a right one [k, n] in L0B.
template <typename T>
__aicore__ inline void show_left(GM_ADDR out, LocalTensor<T> l0a, GM_ADDR identity, uint32_t m, uint32_t k) {
    step();
    uint32_t columns = (k + 15) / 16 * 16;
    multiply(out, l0a, l0_image<T>(TPosition::B2, identity, k * columns), m, columns, k);
}

template <typename T>
__aicore__ inline void show_right(GM_ADDR out, LocalTensor<T> l0b, GM_ADDR identity, uint32_t n, uint32_t k) {
    step();
    multiply(out, l0_image<T>(TPosition::A2, identity, k * k), l0b, k, n, k);
}
"""

BODIES = {}
# By the name of a kernel: its arrays, and what it has to write.
EXPECTED = {}


def case(name: str, body: str, arrays: list[np.ndarray], expected: np.ndarray) -> None:
    BODIES[name] = body
    EXPECTED[name] = (arrays, expected)


def numbers(shape: tuple[int, ...], dtype: object, low: int = -8, high: int = 9) -> np.ndarray:
    """Small integers, whose products are exact in every type."""
    return np.random.default_rng(sum(shape)).integers(low, high, shape).astype(dtype)


def sums(matrix: np.ndarray) -> np.ndarray:
    return matrix.astype(np.int32 if matrix.dtype == np.int8 else np.float32)


f16, f32, s8 = np.float16, np.float32, np.int8
bf16 = ml_dtypes.bfloat16
C_TYPES = {np.dtype(f16): "half", np.dtype(bf16): "bfloat16_t", np.dtype(f32): "float", np.dtype(s8): "int8_t"}


def c_type(dtype: object) -> str:
    return C_TYPES[np.dtype(dtype)]


# GM to L1.

for dtype in (f16, bf16, f32, s8):
    # 24 x 40 within a matrix of 48 columns; columns beyond 40 come out as zeros up to 32 B.
    x, width = numbers((24, 48), dtype), -(-40 // groups(dtype)) * groups(dtype)
    columns = -(-width // 16) * 16
    padded = np.zeros((24, 64), dtype)
    padded[:, :40] = x[:, :40]
    T = c_type(dtype)
    case(f"nd2nz_{T}", f"""
    LocalTensor<{T}> l1(TPosition::A1, 0, 32 * {width});
    Nd2NzParams nd(1, 24, 40, 0, 48, 32, 1, 0);
    DataCopy(l1, gm<{T}>(a), nd);
    step();
    LocalTensor<{T}> l0a(TPosition::A2, 0, 32 * {width});
    for (uint32_t r = 0; r < 2; ++r) {{
        LoadData2DParams load;
        load.startIndex = r;
        load.repeatTimes = {width} / {groups(dtype)};
        load.srcStride = 2;
        LoadData(l0a[r * 16 * {width}], l1, load);
    }}
    show_left(out, l0a, b, 24, {width});
""", [x, zn(np.eye(width, columns, dtype=dtype))], sums(padded[:, :columns]))

# Two matrices of 16 x 16, 20 rows apart in GM and 768 elements in L1.
x = numbers((36, 16), f16)
case("nd2nz_two", """
    LocalTensor<half> l1(TPosition::A1, 0, 1024);
    Nd2NzParams nd(2, 16, 16, 20 * 16, 16, 16, 1, 768);
    DataCopy(l1, gm<half>(a), nd);
    step();
    LocalTensor<half> l0a(TPosition::A2, 0, 512);
    LoadData2DParams load;
    load.repeatTimes = 2;
    load.srcStride = 3;
    LoadData(l0a, l1, load);
    show_left(out, l0a, b, 32, 16);
""", [x, zn(np.eye(16, dtype=f16))], sums(np.concatenate([x[:16], x[20:36]])))

# Rows two groups apart: row 0 and 1 of GM become rows 0 and 2 of the fractal.
x = numbers((8, 16), f16)
spread = np.zeros((16, 16), f16)
spread[::2] = x
case("nd2nz_rows_apart", """
    LocalTensor<half> l1(TPosition::A1, 0, 256);
    InitConstValueParams<half> zero(1, 16, 0, half(0.0f));
    Fill(l1, zero);
    PipeBarrier<PIPE_MTE2>();
    Nd2NzParams nd(1, 8, 16, 0, 16, 16, 2, 0);
    DataCopy(l1, gm<half>(a), nd);
    step();
    LocalTensor<half> l0a(TPosition::A2, 0, 256);
    LoadData2DParams load;
    load.repeatTimes = 1;
    LoadData(l0a, l1, load);
    show_left(out, l0a, b, 16, 16);
""", [x, zn(np.eye(16, dtype=f16))], sums(spread))

# A row of K/16 blocks, each to its own block of columns.
x = numbers((4, 64), f16)
case("rows_by_blocks", """
    LocalTensor<half> l1(TPosition::A1, 0, 16 * 64);
    for (uint32_t r = 0; r < 4; ++r) DataCopy(l1[r * 16], gm<half>(a)[r * 64], DataCopyParams(4, 1, 0, 15));
    step();
    LocalTensor<half> l0a(TPosition::A2, 0, 16 * 64);
    LoadData2DParams load;
    load.repeatTimes = 4;
    load.srcStride = 1;
    LoadData(l0a, l1, load);
    show_left(out, l0a, b, 4, 64);
""", [x, zn(np.eye(64, dtype=f16))], sums(x))

# L1 to L0.

# Fractals 1, 4 and 7 of L1 (a stride of three) to fractals 0, 2 and 4 of L0A (a gap of one), which are k-blocks 0 and 2
# of two row blocks: what lies between is zero.
x = numbers((8, 16, 16), f16)
placed = np.zeros((3, 2, 16, 16), f16)
placed[:, 0] = x[[1, 4, 7]]
case("load_2d_strides", """
    auto l1 = l1_image<half>(a, 8 * 256);
    LocalTensor<half> l0a(TPosition::A2, 0, 6 * 256);
    Fill(l0a, InitConstValueParams<half>(1, 6, 0, half(0.0f)));
    LoadData2DParams load;
    load.startIndex = 1;
    load.repeatTimes = 3;
    load.srcStride = 3;
    load.dstGap = 1;
    LoadData(l0a, l1, load);
    show_left(out, l0a, b, 48, 32);
""", [x, zn(np.eye(32, dtype=f16))], sums(placed.transpose(0, 2, 1, 3).reshape(48, 32)))

# The constructor has another order than the fields: start, repeat, stride, stream, gap, transposition, mode.
x = numbers((16, 32), f16)
case("load_2d_constructor", """
    auto l1 = l1_image<half>(a, 512);
    LocalTensor<half> l0a(TPosition::A2, 0, 512);
    LoadData(l0a, l1, LoadData2DParams(0, 2, 1, 0, 0, false, 0));
    show_left(out, l0a, b, 16, 32);
""", [nz(x), zn(np.eye(32, dtype=f16))], sums(x))

x = numbers((32, 48), f16)
case("load_2d_right", """
    auto l1 = l1_image<half>(a, 32 * 48);
    LocalTensor<half> l0b(TPosition::B2, 0, 32 * 48);
    for (uint32_t r = 0; r < 2; ++r) {
        LoadData2DParams load;
        load.startIndex = r;
        load.repeatTimes = 3;
        load.srcStride = 2;
        load.ifTranspose = true;
        LoadData(l0b[r * 3 * 256], l1, load);
    }
    show_right(out, l0b, b, 48, 32);
""", [nz(x), zz(np.eye(32, dtype=f16))], sums(x))

# A right operand that is stored [N, K]: a block of K is N/16 fractals as they are.
for dtype in (f16, f32, s8):
    x, T, c0 = numbers((48, 2 * groups(dtype)), dtype), c_type(dtype), groups(dtype)
    eye = np.zeros((-(-2 * c0 // 16) * 16, 2 * c0), dtype)
    np.fill_diagonal(eye, 1)
    case(f"load_2d_right_by_rows_{T}", f"""
    auto l1 = l1_image<{T}>(a, 48 * {2 * c0});
    LocalTensor<{T}> l0b(TPosition::B2, 0, 48 * {2 * c0});
    LoadData(l0b, l1, LoadData2DParams(0, 6, 1, 0, 0, false, 0));
    step();
    multiply(out, l0_image<{T}>(TPosition::A2, b, {eye.size}), l0b, {2 * c0}, 48, {2 * c0});
""", [nz(x), zz(eye)], sums(x.T[:2 * c0]))

x = numbers((16, 32), f16)
case("load_2d_from_gm", """
    LocalTensor<half> l0a(TPosition::A2, 0, 512);
    LoadData(l0a, gm<half>(a), LoadData2DParams(0, 2, 1, 0, 0, false, 0));
    show_left(out, l0a, b, 16, 32);
""", [nz(x), zn(np.eye(32, dtype=f16))], sums(x))

# Squares of 32 x 32: K = 64 rows, N = 64 columns; each gives two fractals beside each other along N.
x = numbers((64, 64), s8)
case("transposed_int8_t", """
    auto l1 = l1_image<int8_t>(a, 4096);
    LocalTensor<int8_t> l0b(TPosition::B2, 0, 4096);
    for (uint32_t r = 0; r < 2; ++r) {
        LoadData2dTransposeParams load;
        load.startIndex = r;
        load.repeatTimes = 2;
        load.srcStride = 2;
        load.dstGap = 1;
        load.dstFracGap = 0;
        LoadDataWithTranspose(l0b[r * 2048], l1, load);
    }
    show_right(out, l0b, b, 64, 64);
""", [nz(x), zz(np.eye(64, dtype=s8))], sums(x))

x = numbers((32, 32), f16)
case("transposed_half", """
    auto l1 = l1_image<half>(a, 1024);
    LocalTensor<half> l0b(TPosition::B2, 0, 1024);
    for (uint32_t r = 0; r < 2; ++r) {
        LoadDataWithTranspose(l0b[r * 512], l1, LoadData2dTransposeParams(r, 2, 2, 0, 0));
    }
    show_right(out, l0b, b, 32, 32);
""", [nz(x), zz(np.eye(32, dtype=f16))], sums(x))

# K = 16 rows and N = 32 columns of float: a square is two blocks of 8 columns; its fractals are the two halves of K,
# which lie N/16 fractals apart.
x = numbers((16, 32), f32)
case("transposed_float", """
    auto l1 = l1_image<float>(a, 512);
    LocalTensor<float> l0b(TPosition::B2, 0, 512);
    LoadDataWithTranspose(l0b, l1, LoadData2dTransposeParams(0, 2, 1, 0, 1));
    show_right(out, l0b, b, 32, 16);
""", [nz(x), zz(np.eye(16, dtype=f32))], x)

# 64 x 64 numbers of four bits, two to a byte.
x = numbers((64, 64), s8, -8, 8)
packed = (x[:, ::2] & 15 | x[:, 1::2] << 4).astype(s8)
eye4 = (np.eye(64, dtype=s8)[:, ::2] | np.eye(64, dtype=s8)[:, 1::2] << 4).astype(s8)
case("transposed_int4b_t", """
    auto l1 = l1_image<int4b_t>(a, 4096);
    LocalTensor<int4b_t> l0b(TPosition::B2, 0, 4096);
    LoadDataWithTranspose(l0b, l1, LoadData2dTransposeParams(0, 1, 1, 0, 0));
    show_right(out, l0b, b, 64, 64);
""", [packed, zz(eye4)], sums(x))

# Points 16 to 31 and channels from 16 on of an image of 48 points with 48 channels.
x = numbers((48, 48), f16)
case("load_3d_left", """
    auto l1 = l1_image<half>(a, 48 * 48);
    LocalTensor<half> l0a(TPosition::A2, 0, 32 * 32);
    LoadData3DParamsV2<half> load;
    load.l1H = 1;
    load.l1W = 48;
    load.channelSize = 48;
    load.kExtension = 32;
    load.mExtension = 32;
    load.kStartPt = 16;
    load.mStartPt = 16;
    LoadData(l0a, l1, load);
    show_left(out, l0a, b, 32, 32);
""", [nz(x), zn(np.eye(32, dtype=f16))], sums(x[16:, 16:]))

for dtype in (f16, f32):
    # K points with M channels become a left operand [M, K]; K points with N channels a right one [K, N].
    x, T = numbers((32, 48), dtype), c_type(dtype)
    case(f"load_3d_left_transposed_{T}", f"""
    auto l1 = l1_image<{T}>(a, 32 * 48);
    LocalTensor<{T}> l0a(TPosition::A2, 0, 32 * 48);
    LoadData3DParamsV2<{T}> load;
    load.l1H = 1;
    load.l1W = 32;
    load.channelSize = load.kExtension = 48;
    load.mExtension = 32;
    load.enTranspose = true;
    LoadData(l0a, l1, load);
    show_left(out, l0a, b, 48, 32);
""", [nz(x), zn(np.eye(32, dtype=dtype))], sums(x.T))
    case(f"load_3d_right_{T}", f"""
    auto l1 = l1_image<{T}>(a, 32 * 48);
    LocalTensor<{T}> l0b(TPosition::B2, 0, 32 * 48);
    LoadData3DParamsV2<{T}> load;
    load.l1H = 1;
    load.l1W = 32;
    load.channelSize = load.kExtension = 48;
    load.mExtension = 32;
    LoadData(l0b, l1, load);
    show_right(out, l0b, b, 48, 32);
""", [nz(x), zz(np.eye(32, dtype=dtype))], sums(x))

# Fractals 0 and 2 of three are 2.5, the one between them 1.
filled = np.full((16, 48), 2.5, f32)
filled[:, 16:32] = 1
case("fill_l0a", """
    LocalTensor<half> l0a(TPosition::A2, 0, 768);
    Fill(l0a, InitConstValueParams<half>(1, 3, 0, half(1.0f)));
    InitConstValue(l0a, InitConstValueParams<half>(2, 1, 1, half(2.5f)));
    show_left(out, l0a, b, 16, 48);
""", [zz(np.zeros((16, 16), f16)), zn(np.eye(48, dtype=f16))], filled)

# Products.

for dtype in (f16, bf16, f32, s8):
    for m, n, k in ((16, 16, 64), (40, 24, 32), (17, 33, 64)):
        left, right, T = numbers((48, k), dtype), numbers((k, 48), dtype), c_type(dtype)
        up_m, up_n = -(-m // 16) * 16, -(-n // 16) * 16
        case(f"mmad_{T}_{m}_{n}_{k}", f"""
    auto l0a = l0_image<{T}>(TPosition::A2, a, {up_m * k});
    auto l0b = l0_image<{T}>(TPosition::B2, b, {up_n * k});
    multiply(out, l0a, l0b, {m}, {n}, {k});
""", [zz(left[:up_m]), zn(right[:, :up_n])], sums(left[:m]) @ sums(right[:, :n]))

# One row is contiguous in L0A.
row, right = numbers((1, 64), f16), numbers((64, 32), f16)
case("mmad_vector", """
    auto l0a = l0_image<half>(TPosition::A2, a, 256);
    auto l0b = l0_image<half>(TPosition::B2, b, 64 * 32);
    multiply(out, l0a, l0b, 1, 32, 64);
""", [np.concatenate([row.ravel(), np.zeros(192, f16)]), zn(right)], sums(row) @ sums(right))

left, right = numbers((32, 32), f16), numbers((32, 32), f16)
case("mmad_accumulates", """
    auto l0a = l0_image<half>(TPosition::A2, a, 1024);
    auto l0b = l0_image<half>(TPosition::B2, b, 1024);
    LocalTensor<float> l0c(TPosition::CO1, 0, 1024);
    for (uint32_t i = 0; i < 3; ++i) {
        MmadParams product;
        product.m = product.n = product.k = 32;
        product.cmatrixInitVal = i == 0;
        Mmad(l0c, l0a, l0b, product);
        PipeBarrier<PIPE_M>();
    }
    show(out, l0c, 32, 32, 32);
""", [zz(left), zn(right)], 3 * (sums(left) @ sums(right)))

for dtype, total, B in ((f16, f32, "float"), (s8, np.int32, "int32_t")):
    left, right, bias, T = numbers((16, 32), dtype), numbers((32, 32), dtype), numbers((32,), total), c_type(dtype)
    case(f"mmad_bias_{T}", f"""
    auto l0a = l0_image<{T}>(TPosition::A2, a, 512);
    auto l0b = l0_image<{T}>(TPosition::B2, b, 1024);
    LocalTensor<{B}> l1(TPosition::C1, 0, 32);
    DataCopy(l1, gm<{B}>(c), 32);
    step();
    LocalTensor<{B}> row(TPosition::C2, 64, 32);
    DataCopy(row, l1, DataCopyParams(1, 2, 0, 0));
    step();
    LocalTensor<{B}> l0c(TPosition::CO1, 0, 512);
    MmadParams product;
    product.m = 16;
    product.n = product.k = 32;
    product.cmatrixInitVal = false;
    Mmad(l0c, l0a, l0b, row, product);
    show(out, l0c, 16, 32, 16);
""", [zz(left), zn(right), bias], sums(left) @ sums(right) + bias)

# K = 8 lies as 16 where kDirectionAlign says so: the second groups are not looked at.
left, right = numbers((16, 16), f32), numbers((16, 16), f32)
case("mmad_direction_align", """
    auto l0a = l0_image<float>(TPosition::A2, a, 256);
    auto l0b = l0_image<float>(TPosition::B2, b, 256);
    multiply(out, l0a, l0b, 16, 16, 8, true);
""", [zz(left), zn(right)], left[:, :8] @ right[:8])

# 1 + 2^-12 lies half between two numbers with eleven bits behind the point, and goes to the even one.
left = np.full((16, 16), 1 + 2.0**-12, f32)
left[0] = 1 + 3 * 2.0**-12
hf32 = np.ones((16, 16), f32)
hf32[0] = 1 + 2.0**-10
case("mmad_hf32", """
    SetHF32Mode(HF32Mode::ENABLE);
    auto l0a = l0_image<float>(TPosition::A2, a, 256);
    show_left(out, l0a, b, 16, 16);
    SetHF32Mode(HF32Mode::DISABLE);
""", [zz(left), zn(np.eye(16, dtype=f32))], hf32)


@pytest.fixture(scope="module")
def kernels() -> Kernels:
    return Kernels(BODIES, kind="AIC_ONLY", prelude=PRELUDE)


@pytest.mark.parametrize("name", BODIES)
def test_call(name: str, kernels: Kernels):
    arrays, expected = EXPECTED[name]
    out = np.zeros(expected.shape, expected.dtype)
    kernels.run(name, arrays, out)
    np.testing.assert_array_equal(out, expected)
