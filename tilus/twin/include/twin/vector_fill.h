// Calls of the vector unit that move elements: fills, copies, broadcasts, gathers.
#pragma once

#include "twin/tensor.h"
#include "twin/vector_types.h"

namespace twin {

void duplicate(const Operand& dst, uint64_t scalar, const Lanes& lanes, Field<16> block_stride, Field<8> repeat_stride,
               int line);
void copy_lanes(const Operand& dst, const Operand& src, const Lanes& lanes, const AscendC::CopyRepeatParams& params,
                int line);
void brcb(const Operand& dst, const Operand& src, int64_t repeats, const AscendC::BrcbRepeatParams& params, int line);
void gather(const Operand& dst, const Operand& src, const Operand& offsets, uint32_t base, const Lanes& lanes,
            Field<16> repeat_stride, int line);
void gather_blocks(const Operand& dst, const Operand& src, const Operand& offsets, int64_t repeats,
                   const AscendC::GatherRepeatParams& params, int line);
// first + i · step; `first` and `step` are the bits of elements of dst.
void progression(const char* name, const Operand& dst, uint64_t first, uint64_t step, const Lanes& lanes,
                 Field<16> block_stride, Field<8> repeat_stride, int line);

template <typename T>
constexpr bool is_b16_or_b32 = bits_of(type_of<T>) == 16 || bits_of(type_of<T>) == 32;

template <typename T>
constexpr bool is_counted = one_of(type_of<T>, Type::s16, Type::f16, Type::s32, Type::f32);

}  // namespace twin

#define TWIN_B16_B32(T, name) \
    static_assert(twin::is_b16_or_b32<T>, name " takes elements of 16 and 32 bits: reinterpret those of 8")

namespace AscendC {

template <typename T, bool isSetMask = true>
void Duplicate(const LocalTensor<T>& dst, T scalarValue, uint64_t mask, int64_t repeatTime,
               twin::Field<16> dstBlkStride, twin::Field<8> dstRepStride, int line = __builtin_LINE()) {
    TWIN_B16_B32(T, "Duplicate");
    twin::duplicate(dst, twin::bits_of_scalar(scalarValue), twin::masked(mask, repeatTime, isSetMask), dstBlkStride,
                    dstRepStride, line);
}

template <typename T, bool isSetMask = true>
void Duplicate(const LocalTensor<T>& dst, T scalarValue, const uint64_t mask[], int64_t repeatTime,
               twin::Field<16> dstBlkStride, twin::Field<8> dstRepStride, int line = __builtin_LINE()) {
    TWIN_B16_B32(T, "Duplicate");
    twin::duplicate(dst, twin::bits_of_scalar(scalarValue), twin::masked(mask, repeatTime, isSetMask), dstBlkStride,
                    dstRepStride, line);
}

template <typename T>
void Duplicate(const LocalTensor<T>& dst, T scalarValue, int32_t count, int line = __builtin_LINE()) {
    TWIN_B16_B32(T, "Duplicate");
    twin::duplicate(dst, twin::bits_of_scalar(scalarValue), twin::total(count), 1, 8, line);
}

template <typename T, bool isSetMask = true>
void Copy(const LocalTensor<T>& dst, const LocalTensor<T>& src, uint64_t mask, int64_t repeatTime,
          const CopyRepeatParams& repeatParams, int line = __builtin_LINE()) {
    TWIN_B16_B32(T, "Copy");
    twin::copy_lanes(dst, src, twin::masked(mask, repeatTime, isSetMask), repeatParams, line);
}

template <typename T, bool isSetMask = true>
void Copy(const LocalTensor<T>& dst, const LocalTensor<T>& src, const uint64_t mask[], int64_t repeatTime,
          const CopyRepeatParams& repeatParams, int line = __builtin_LINE()) {
    TWIN_B16_B32(T, "Copy");
    twin::copy_lanes(dst, src, twin::masked(mask, repeatTime, isSetMask), repeatParams, line);
}

// Each of 8 elements a repeat fills a block of 32 B.
template <typename T>
void Brcb(const LocalTensor<T>& dst, const LocalTensor<T>& src, int64_t repeatTime,
          const BrcbRepeatParams& repeatParams, int line = __builtin_LINE()) {
    TWIN_B16_B32(T, "Brcb");
    twin::brcb(dst, src, repeatTime, repeatParams, line);
}

// Offsets are in bytes from `srcBaseAddr` bytes after the start of `src`.
template <typename T>
void Gather(const LocalTensor<T>& dst, const LocalTensor<T>& src, const LocalTensor<uint32_t>& srcOffset,
            uint32_t srcBaseAddr, uint32_t count, int line = __builtin_LINE()) {
    TWIN_B16_B32(T, "Gather");
    twin::gather(dst, src, srcOffset, srcBaseAddr, twin::total(count), 8, line);
}

template <typename T>
void Gather(const LocalTensor<T>& dst, const LocalTensor<T>& src, const LocalTensor<uint32_t>& srcOffset,
            uint32_t srcBaseAddr, uint64_t mask, int64_t repeatTime, twin::Field<16> dstRepStride,
            int line = __builtin_LINE()) {
    TWIN_B16_B32(T, "Gather");
    twin::gather(dst, src, srcOffset, srcBaseAddr, twin::masked(mask, repeatTime), dstRepStride, line);
}

template <typename T>
void Gather(const LocalTensor<T>& dst, const LocalTensor<T>& src, const LocalTensor<uint32_t>& srcOffset,
            uint32_t srcBaseAddr, const uint64_t mask[], int64_t repeatTime, twin::Field<16> dstRepStride,
            int line = __builtin_LINE()) {
    TWIN_B16_B32(T, "Gather");
    twin::gather(dst, src, srcOffset, srcBaseAddr, twin::masked(mask, repeatTime), dstRepStride, line);
}

// Eight blocks of 32 B a repeat, at offsets in bytes from the start of `src0`.
template <typename T>
void Gatherb(const LocalTensor<T>& dst, const LocalTensor<T>& src0, const LocalTensor<uint32_t>& offset,
             int64_t repeatTime, const GatherRepeatParams& repeatParams, int line = __builtin_LINE()) {
    TWIN_B16_B32(T, "Gatherb");
    twin::gather_blocks(dst, src0, offset, repeatTime, repeatParams, line);
}

template <typename T>
void CreateVecIndex(const LocalTensor<T>& dst, T firstValue, uint32_t count, int line = __builtin_LINE()) {
    static_assert(twin::is_counted<T>, "CreateVecIndex takes int16_t, half, int32_t and float");
    twin::progression("CreateVecIndex", dst, twin::bits_of_scalar(firstValue), twin::bits_of_scalar(T(1)),
                      twin::total(count), 1, 8, line);
}

template <typename T>
void CreateVecIndex(const LocalTensor<T>& dst, T firstValue, uint64_t mask, int64_t repeatTime,
                    twin::Field<16> dstBlkStride, twin::Field<8> dstRepStride, int line = __builtin_LINE()) {
    static_assert(twin::is_counted<T>, "CreateVecIndex takes int16_t, half, int32_t and float");
    twin::progression("CreateVecIndex", dst, twin::bits_of_scalar(firstValue), twin::bits_of_scalar(T(1)),
                      twin::masked(mask, repeatTime), dstBlkStride, dstRepStride, line);
}

template <typename T>
void ArithProgression(const LocalTensor<T>& dst, T firstValue, T diffValue, int32_t count,
                      int line = __builtin_LINE()) {
    static_assert(twin::is_counted<T>, "ArithProgression takes int16_t, half, int32_t and float");
    twin::progression("ArithProgression", dst, twin::bits_of_scalar(firstValue), twin::bits_of_scalar(diffValue),
                      twin::total(count), 1, 8, line);
}

}  // namespace AscendC
