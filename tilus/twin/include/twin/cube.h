// Calls of the cube core: L1 and L0, products, and results on their way out.
#pragma once

#include "twin/copy.h"
#include "twin/tensor.h"

namespace AscendC {

// Row-major matrices in GM become Nz in L1. Strides of the source are in elements, dstNzC0Stride and dstNzNStride in
// units of 32 B, dstNzMatrixStride in elements.
struct Nd2NzParams {
    twin::Field<16> ndNum = 0, nValue = 0, dValue = 0, srcNdMatrixStride = 0, srcDValue = 0, dstNzC0Stride = 0,
                    dstNzNStride = 0, dstNzMatrixStride = 0;
    Nd2NzParams() = default;
    Nd2NzParams(twin::Field<16> count, twin::Field<16> n, twin::Field<16> d, twin::Field<16> matrix, twin::Field<16> row,
                twin::Field<16> c0Stride, twin::Field<16> nStride, twin::Field<16> dstMatrix)
        : ndNum(count), nValue(n), dValue(d), srcNdMatrixStride(matrix), srcDValue(row), dstNzC0Stride(c0Stride),
          dstNzNStride(nStride), dstNzMatrixStride(dstMatrix) {}
};

// Fractals of 512 B: `srcStride` from start to start, `dstGap` from end to start. Fields and constructor differ in order.
struct LoadData2DParams {
    twin::Field<16> startIndex = 0, dstGap = 0, srcStride = 0;
    bool ifTranspose = false;
    twin::Field<8> repeatTimes = 0, sid = 0, addrMode = 0;
    LoadData2DParams() = default;
    LoadData2DParams(twin::Field<16> start, twin::Field<8> repeat, twin::Field<16> stride, twin::Field<8> stream,
                     twin::Field<16> gap, bool transpose, twin::Field<8> mode)
        : startIndex(start), dstGap(gap), srcStride(stride), ifTranspose(transpose), repeatTimes(repeat), sid(stream),
          addrMode(mode) {}
};

// Squares that are transposed: startIndex and srcStride count squares. dstGap lies between the first fractals of two
// squares, dstFracGap between the fractals of one, both from end to start in units of 512 B.
struct LoadData2dTransposeParams {
    twin::Field<16> startIndex = 0;
    twin::Field<8> repeatTimes = 0;
    twin::Field<16> srcStride = 0, dstGap = 0, dstFracGap = 0;
    twin::Field<8> addrMode = 0;
    LoadData2dTransposeParams() = default;
    LoadData2dTransposeParams(twin::Field<16> start, twin::Field<8> repeat, twin::Field<16> stride, twin::Field<16> gap,
                              twin::Field<16> fractalGap, twin::Field<8> mode = 0)
        : startIndex(start), repeatTimes(repeat), srcStride(stride), dstGap(gap), dstFracGap(fractalGap), addrMode(mode) {}
};

// An image of l1H x l1W points with channelSize channels, in blocks of 32 B of channels, seen as a matrix of points by
// channels. The twin has windows of 1 x 1 without padding.
template <typename T>
struct LoadData3DParamsV2 {
    twin::Field<8> padList[4] = {0, 0, 0, 0};
    twin::Field<16> l1H = 0, l1W = 0, channelSize = 0, kExtension = 0, mExtension = 0, kStartPt = 0, mStartPt = 0;
    twin::Field<8> strideW = 1, strideH = 1, filterW = 1, filterH = 1, dilationFilterW = 1, dilationFilterH = 1;
    bool enTranspose = false, enSmallK = false;
    T padValue{};
    bool filterSizeW = false, filterSizeH = false, fMatrixCtrl = false;
};

template <typename T>
struct InitConstValueParams {
    twin::Field<16> repeatTimes = 0, blockNum = 0, dstGap = 0;
    T initValue{};
    InitConstValueParams() = default;
    InitConstValueParams(twin::Field<16> repeat, twin::Field<16> blocks, twin::Field<16> gap, T value)
        : repeatTimes(repeat), blockNum(blocks), dstGap(gap), initValue(value) {}
};

// m, n and k of a product; set fields by name, since constructors differ between releases.
struct MmadParams {
    twin::Field<16> m = 0, n = 0, k = 0;
    bool isBias = false;
    twin::Field<8> fmOffset = 0;
    bool enSsparse = false, enWinogradA = false, enWinogradB = false;
    twin::Field<8> unitFlag = 0;
    bool kDirectionAlign = false, cmatrixSource = false, cmatrixInitVal = true;
};

enum class CO2Layout : uint8_t { NZ, ROW_MAJOR };
struct FixpipeConfig {
    CO2Layout format;
};
inline constexpr FixpipeConfig CFG_NZ{CO2Layout::NZ};
inline constexpr FixpipeConfig CFG_ROW_MAJOR{CO2Layout::ROW_MAJOR};

}  // namespace AscendC

// Conversions of Fixpipe; V... have a scale for each column.
enum QuantMode_t : uint8_t {
    NoQuant, F322F16, F322BF16, DEQF16, VDEQF16, QF322B8_PRE, VQF322B8_PRE, REQ8, VREQ8
};

namespace AscendC {

// srcStride is in units of 16 elements, dstStride in elements (ROW_MAJOR) or units of 32 B (NZ).
struct FixpipeParamsV220 {
    twin::Field<16> nSize = 0, mSize = 0, srcStride = 0;
    twin::Field<32> dstStride = 0;
    QuantMode_t quantPre = NoQuant;
    uint64_t deqScalar = 0;
    twin::Field<16> ndNum = 1, srcNdStride = 0, dstNdStride = 0;
    bool reluEn = false;
    twin::Field<8> unitFlag = 0;
    bool isChannelSplit = false;
};

enum class HF32Mode : bool { DISABLE = false, ENABLE = true };

}  // namespace AscendC

namespace twin {

struct Image {
    int64_t height, width, channels, k, m, k_start, m_start;
    bool transpose;
    bool plain;  // windows of one point, no padding
};

void copy_nd2nz(const Operand& dst, const Operand& src, const AscendC::Nd2NzParams& params, int line);
void load_2d(const Operand& dst, const Operand& src, const AscendC::LoadData2DParams& params, int line);
void load_transposed(const Operand& dst, const Operand& src, const AscendC::LoadData2dTransposeParams& params, int line);
void load_3d(const Operand& dst, const Operand& src, const Image& image, int line);
void fill(const Operand& dst, Field<16> repeat, Field<16> blocks, Field<16> gap, uint64_t value, int line);
void mmad(const Operand& c, const Operand& a, const Operand& b, const Operand* bias, const AscendC::MmadParams& params,
          int line);
void fixpipe(const Operand& dst, const Operand& src, const Operand* scales, bool row_major,
             const AscendC::FixpipeParamsV220& params, int line);
void set_fixpipe_scales(const Operand& scales);
void set_hf32(bool on);

// Types of a product: operands of one type, and the type that it sums in.
constexpr bool is_product(Type c, Type a, Type b) {
    if (a != b) return false;
    if (one_of(a, Type::f16, Type::bf16, Type::f32)) return c == Type::f32;
    return one_of(a, Type::s8, Type::s4) && c == Type::s32;
}

}  // namespace twin

namespace AscendC {

template <typename T>
void DataCopy(const LocalTensor<T>& dst, const GlobalTensor<T>& src, const Nd2NzParams& params,
              int line = __builtin_LINE()) {
    twin::copy_nd2nz(dst, src, params, line);
}

template <typename T>
void LoadData(const LocalTensor<T>& dst, const LocalTensor<T>& src, const LoadData2DParams& params,
              int line = __builtin_LINE()) {
    twin::load_2d(dst, src, params, line);
}

template <typename T>
void LoadData(const LocalTensor<T>& dst, const GlobalTensor<T>& src, const LoadData2DParams& params,
              int line = __builtin_LINE()) {
    twin::load_2d(dst, src, params, line);
}

template <typename T>
void LoadData(const LocalTensor<T>& dst, const LocalTensor<T>& src, const LoadData3DParamsV2<T>& params,
              int line = __builtin_LINE()) {
    bool plain = params.strideW == 1 && params.strideH == 1 && params.filterW == 1 && params.filterH == 1 &&
                 params.dilationFilterW == 1 && params.dilationFilterH == 1 && !params.filterSizeW && !params.filterSizeH;
    for (const auto& pad : params.padList) plain = plain && pad == 0;
    twin::load_3d(dst, src, {params.l1H, params.l1W, params.channelSize, params.kExtension, params.mExtension,
                             params.kStartPt, params.mStartPt, params.enTranspose, plain}, line);
}

template <typename T>
void LoadDataWithTranspose(const LocalTensor<T>& dst, const LocalTensor<T>& src, const LoadData2dTransposeParams& params,
                           int line = __builtin_LINE()) {
    static_assert(twin::bits_of(twin::type_of<T>) <= 32, "LoadDataWithTranspose takes elements of 4 to 32 bits");
    twin::load_transposed(dst, src, params, line);
}

template <typename T>
void Fill(const LocalTensor<T>& dst, const InitConstValueParams<T>& params, int line = __builtin_LINE()) {
    static_assert(twin::bits_of(twin::type_of<T>) == 16 || twin::bits_of(twin::type_of<T>) == 32,
                  "Fill takes elements of 16 and 32 bits");
    twin::fill(dst, params.repeatTimes, params.blockNum, params.dstGap, twin::bits_of_scalar(params.initValue), line);
}

template <typename T>
void InitConstValue(const LocalTensor<T>& dst, const InitConstValueParams<T>& params, int line = __builtin_LINE()) {
    Fill(dst, params, line);
}

template <typename C, typename A, typename B>
void Mmad(const LocalTensor<C>& c, const LocalTensor<A>& a, const LocalTensor<B>& b, const MmadParams& params,
          int line = __builtin_LINE()) {
    static_assert(twin::is_product(twin::type_of<C>, twin::type_of<A>, twin::type_of<B>),
                  "Mmad multiplies two half, bfloat16_t or float to float, two int8_t or int4b_t to int32_t");
    twin::mmad(c, a, b, nullptr, params, line);
}

template <typename C, typename A, typename B, typename V>
void Mmad(const LocalTensor<C>& c, const LocalTensor<A>& a, const LocalTensor<B>& b, const LocalTensor<V>& bias,
          const MmadParams& params, int line = __builtin_LINE()) {
    static_assert(twin::is_product(twin::type_of<C>, twin::type_of<A>, twin::type_of<B>),
                  "Mmad multiplies two half, bfloat16_t or float to float, two int8_t or int4b_t to int32_t");
    static_assert(twin::type_of<C> == twin::type_of<V>, "Mmad: the bias has the type of the result");
    twin::Operand row = bias;
    twin::mmad(c, a, b, &row, params, line);
}

template <typename T, typename U, const FixpipeConfig& config = CFG_ROW_MAJOR>
void Fixpipe(const GlobalTensor<T>& dst, const LocalTensor<U>& src, const FixpipeParamsV220& params,
             int line = __builtin_LINE()) {
    twin::fixpipe(dst, src, nullptr, config.format == CO2Layout::ROW_MAJOR, params, line);
}

template <typename T, typename U, const FixpipeConfig& config = CFG_ROW_MAJOR>
void Fixpipe(const GlobalTensor<T>& dst, const LocalTensor<U>& src, const LocalTensor<uint64_t>& scales,
             const FixpipeParamsV220& params, int line = __builtin_LINE()) {
    twin::Operand columns = scales;
    twin::fixpipe(dst, src, &columns, config.format == CO2Layout::ROW_MAJOR, params, line);
}

template <typename T, typename U, const FixpipeConfig& config = CFG_NZ>
void Fixpipe(const LocalTensor<T>& dst, const LocalTensor<U>& src, const FixpipeParamsV220& params,
             int line = __builtin_LINE()) {
    twin::fixpipe(dst, src, nullptr, config.format == CO2Layout::ROW_MAJOR, params, line);
}

template <typename T, typename U, const FixpipeConfig& config = CFG_NZ>
void Fixpipe(const LocalTensor<T>& dst, const LocalTensor<U>& src, const LocalTensor<uint64_t>& scales,
             const FixpipeParamsV220& params, int line = __builtin_LINE()) {
    twin::Operand columns = scales;
    twin::fixpipe(dst, src, &columns, config.format == CO2Layout::ROW_MAJOR, params, line);
}

// Scales of V... conversions, in the fixpipe buffer.
inline void SetFixPipeConfig(const LocalTensor<uint64_t>& scales, bool = false) { twin::set_fixpipe_scales(scales); }

// Products of float round their operands to HF32.
inline void SetHF32Mode(HF32Mode mode) { twin::set_hf32(mode == HF32Mode::ENABLE); }
inline void SetHF32Mode(bool on) { twin::set_hf32(on); }

}  // namespace AscendC
