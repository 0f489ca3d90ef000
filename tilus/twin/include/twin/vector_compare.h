// Masks: the lane mask of the vector unit, comparisons, selections.
#pragma once

#include "twin/tensor.h"
#include "twin/vector_types.h"

namespace twin {

// Bits of lanes 64–127 and 0–63; where `counter`, the low word is the number of elements.
void set_vector_mask(uint64_t high, uint64_t low, bool counter, int line);
void set_vector_mask_count(int64_t count, uint32_t bits, bool counter, int line);
void set_mask_counter(bool counter);
void reset_mask();
void set_compare_mask(const Operand& src, int line);
void get_compare_mask(const Operand& dst, int line);

void compare(const Operand& dst, const Operand& src0, const Operand& src1, AscendC::CMPMODE mode, const Lanes& lanes,
             const AscendC::BinaryRepeatParams& params, int line);
void compare_scalar(const Operand& dst, const Operand& src, uint64_t scalar, AscendC::CMPMODE mode, const Lanes& lanes,
                    const AscendC::UnaryRepeatParams& params, int line);
void compare_to_register(const Operand& src0, const Operand& src1, AscendC::CMPMODE mode, const Lanes& lanes,
                         const AscendC::BinaryRepeatParams& params, int line);

void select(const Operand& dst, const Operand& mask, const Operand& src0, const Operand& src1, AscendC::SELMODE mode,
            const Lanes& lanes, const AscendC::BinaryRepeatParams& params, int line);
void select_scalar(const Operand& dst, const Operand& mask, const Operand& src0, uint64_t src1, AscendC::SELMODE mode,
                   const Lanes& lanes, const AscendC::BinaryRepeatParams& params, int line);
void select_by_register(const Operand& dst, const Operand& src0, const Operand& src1, AscendC::SELMODE mode,
                        int64_t repeats, const AscendC::BinaryRepeatParams& params, int line);

template <typename T, typename U>
constexpr void compare_takes() {
    static_assert(one_of(type_of<T>, Type::f16, Type::f32, Type::s32),
                  "Compare takes half, float and, for CMPMODE::EQ, int32_t");
    static_assert(one_of(type_of<U>, Type::u8, Type::s8), "Compare writes bits to a tensor of uint8_t or int8_t");
}

template <typename T, typename U>
constexpr void select_takes() {
    static_assert(one_of(type_of<T>, Type::f16, Type::f32), "Select takes half and float");
    static_assert(one_of(type_of<U>, Type::u8, Type::u16, Type::u32, Type::u64),
                  "Select takes its mask as bits of unsigned integers");
}

}  // namespace twin

namespace AscendC {

template <typename T, MaskMode mode = MaskMode::NORMAL>
void SetVectorMask(uint64_t maskHigh, uint64_t maskLow, int line = __builtin_LINE()) {
    twin::set_vector_mask(maskHigh, maskLow, mode == MaskMode::COUNTER, line);
}

template <typename T, MaskMode mode = MaskMode::NORMAL>
void SetVectorMask(int32_t len, twin::Line line = twin::Line(__builtin_LINE())) {
    twin::set_vector_mask_count(len, twin::bits_of(twin::type_of<T>), mode == MaskMode::COUNTER, line);
}

inline void SetMaskCount() { twin::set_mask_counter(true); }
inline void SetMaskNorm() { twin::set_mask_counter(false); }
inline void ResetMask() { twin::reset_mask(); }

// 128 bits of the register that Compare without a destination writes and Select reads. From memory.
template <typename T>
void SetCmpMask(const LocalTensor<T>& src, int line = __builtin_LINE()) {
    twin::set_compare_mask(src, line);
}

template <typename T>
void GetCmpMask(const LocalTensor<T>& dst, int line = __builtin_LINE()) {
    twin::get_compare_mask(dst, line);
}

// Bit i of a little-endian mask is that of element i. All elements are compared: the lane mask is ignored.
template <typename T, typename U>
void Compare(const LocalTensor<U>& dst, const LocalTensor<T>& src0, const LocalTensor<T>& src1, CMPMODE cmpMode,
             uint32_t count, int line = __builtin_LINE()) {
    twin::compare_takes<T, U>();
    twin::compare(dst, src0, src1, cmpMode, twin::total(count), {}, line);
}

template <typename T, typename U, bool isSetMask = true>
void Compare(const LocalTensor<U>& dst, const LocalTensor<T>& src0, const LocalTensor<T>& src1, CMPMODE cmpMode,
             uint64_t mask, int64_t repeatTime, const BinaryRepeatParams& repeatParams, int line = __builtin_LINE()) {
    twin::compare_takes<T, U>();
    twin::compare(dst, src0, src1, cmpMode, twin::masked(mask, repeatTime, isSetMask), repeatParams, line);
}

template <typename T, typename U, bool isSetMask = true>
void Compare(const LocalTensor<U>& dst, const LocalTensor<T>& src0, const LocalTensor<T>& src1, CMPMODE cmpMode,
             const uint64_t mask[], int64_t repeatTime, const BinaryRepeatParams& repeatParams,
             int line = __builtin_LINE()) {
    twin::compare_takes<T, U>();
    twin::compare(dst, src0, src1, cmpMode, twin::masked(mask, repeatTime, isSetMask), repeatParams, line);
}

// One repeat, whose bits go to the register. From memory.
template <typename T, bool isSetMask = true>
void Compare(const LocalTensor<T>& src0, const LocalTensor<T>& src1, CMPMODE cmpMode, uint64_t mask,
             const BinaryRepeatParams& repeatParams, int line = __builtin_LINE()) {
    twin::compare_takes<T, uint8_t>();
    twin::compare_to_register(src0, src1, cmpMode, twin::masked(mask, 1, isSetMask), repeatParams, line);
}

template <typename T, typename U>
void Compares(const LocalTensor<U>& dst, const LocalTensor<T>& src0, T src1Scalar, CMPMODE cmpMode, uint32_t count,
              int line = __builtin_LINE()) {
    twin::compare_takes<T, U>();
    twin::compare_scalar(dst, src0, twin::bits_of_scalar(src1Scalar), cmpMode, twin::total(count), {}, line);
}

template <typename T, typename U, bool isSetMask = true>
void Compares(const LocalTensor<U>& dst, const LocalTensor<T>& src0, T src1Scalar, CMPMODE cmpMode, uint64_t mask,
              int64_t repeatTime, const UnaryRepeatParams& repeatParams, int line = __builtin_LINE()) {
    twin::compare_takes<T, U>();
    twin::compare_scalar(dst, src0, twin::bits_of_scalar(src1Scalar), cmpMode,
                         twin::masked(mask, repeatTime, isSetMask), repeatParams, line);
}

// Elements of src0 where the mask has a one, of src1 where it has a zero.
template <typename T, typename U>
void Select(const LocalTensor<T>& dst, const LocalTensor<U>& selMask, const LocalTensor<T>& src0,
            const LocalTensor<T>& src1, SELMODE selMode, uint32_t count, int line = __builtin_LINE()) {
    twin::select_takes<T, U>();
    twin::select(dst, selMask, src0, src1, selMode, twin::total(count), {}, line);
}

template <typename T, typename U>
void Select(const LocalTensor<T>& dst, const LocalTensor<U>& selMask, const LocalTensor<T>& src0,
            const LocalTensor<T>& src1, SELMODE selMode, uint64_t mask, int64_t repeatTime,
            const BinaryRepeatParams& repeatParams, int line = __builtin_LINE()) {
    twin::select_takes<T, U>();
    twin::select(dst, selMask, src0, src1, selMode, twin::masked(mask, repeatTime), repeatParams, line);
}

template <typename T, typename U>
void Select(const LocalTensor<T>& dst, const LocalTensor<U>& selMask, const LocalTensor<T>& src0,
            const LocalTensor<T>& src1, SELMODE selMode, const uint64_t mask[], int64_t repeatTime,
            const BinaryRepeatParams& repeatParams, int line = __builtin_LINE()) {
    twin::select_takes<T, U>();
    twin::select(dst, selMask, src0, src1, selMode, twin::masked(mask, repeatTime), repeatParams, line);
}

template <typename T, typename U>
void Select(const LocalTensor<T>& dst, const LocalTensor<U>& selMask, const LocalTensor<T>& src0, T src1,
            SELMODE selMode, uint32_t count, int line = __builtin_LINE()) {
    twin::select_takes<T, U>();
    twin::select_scalar(dst, selMask, src0, twin::bits_of_scalar(src1), selMode, twin::total(count), {}, line);
}

template <typename T, typename U>
void Select(const LocalTensor<T>& dst, const LocalTensor<U>& selMask, const LocalTensor<T>& src0, T src1,
            SELMODE selMode, uint64_t mask, int64_t repeatTime, const BinaryRepeatParams& repeatParams,
            int line = __builtin_LINE()) {
    twin::select_takes<T, U>();
    twin::select_scalar(dst, selMask, src0, twin::bits_of_scalar(src1), selMode, twin::masked(mask, repeatTime),
                        repeatParams, line);
}

// By the register that SetCmpMask or Compare set, and lanes as SetVectorMask set them. From memory.
template <typename T, SELMODE selMode>
void Select(const LocalTensor<T>& dst, const LocalTensor<T>& src0, const LocalTensor<T>& src1, int64_t repeatTime,
            const BinaryRepeatParams& repeatParams, int line = __builtin_LINE()) {
    twin::select_takes<T, uint8_t>();
    twin::select_by_register(dst, src0, src1, selMode, repeatTime, repeatParams, line);
}

}  // namespace AscendC
