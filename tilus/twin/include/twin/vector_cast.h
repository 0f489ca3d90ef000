// Conversions of the vector unit.
#pragma once

#include "twin/tensor.h"
#include "twin/vector_types.h"

namespace twin {

// Whether the vector unit converts one type to the other.
constexpr bool casts(Type from, Type to) {
    switch (from) {
        case Type::s4: case Type::s8: case Type::u8: return to == Type::f16;
        case Type::f16:
            return one_of(to, Type::s4, Type::s8, Type::u8, Type::s16, Type::s32, Type::f32);
        case Type::s16: return one_of(to, Type::f16, Type::f32);
        case Type::bf16: return one_of(to, Type::s32, Type::f32);
        case Type::s32: return one_of(to, Type::s16, Type::f16, Type::f32, Type::s64);
        case Type::f32:
            return one_of(to, Type::s16, Type::s32, Type::s64, Type::f16, Type::bf16, Type::f32);
        case Type::s64: return one_of(to, Type::s32, Type::f32);
        default: return false;
    }
}

void cast(const Operand& dst, const Operand& src, AscendC::RoundMode mode, const Lanes& lanes,
          const AscendC::UnaryRepeatParams& params, int line);
void set_dequantisation_scale(half scale);

template <typename T, typename U>
constexpr void cast_takes() {
    static_assert(casts(type_of<U>, type_of<T>),
                  "Cast does not convert these types: 4 and 8 bits go by half, int32_t to half by SetDeqScale, "
                  "bfloat16_t to half by float");
}

}  // namespace twin

namespace AscendC {

template <typename T, typename U>
void Cast(const LocalTensor<T>& dst, const LocalTensor<U>& src, RoundMode roundMode, uint32_t count,
          int line = __builtin_LINE()) {
    twin::cast_takes<T, U>();
    twin::cast(dst, src, roundMode, twin::total(count), {}, line);
}

// Repeats have the lanes of the larger type: half to int32_t in a row has dstRepStride 8 and srcRepStride 4.
template <typename T, typename U, bool isSetMask = true>
void Cast(const LocalTensor<T>& dst, const LocalTensor<U>& src, RoundMode roundMode, uint64_t mask, int64_t repeatTime,
          const UnaryRepeatParams& repeatParams, int line = __builtin_LINE()) {
    twin::cast_takes<T, U>();
    twin::cast(dst, src, roundMode, twin::masked(mask, repeatTime, isSetMask), repeatParams, line);
}

template <typename T, typename U, bool isSetMask = true>
void Cast(const LocalTensor<T>& dst, const LocalTensor<U>& src, RoundMode roundMode, const uint64_t mask[],
          int64_t repeatTime, const UnaryRepeatParams& repeatParams, int line = __builtin_LINE()) {
    twin::cast_takes<T, U>();
    twin::cast(dst, src, roundMode, twin::masked(mask, repeatTime, isSetMask), repeatParams, line);
}

// What Cast from int32_t to half multiplies by.
inline void SetDeqScale(half scale) { twin::set_dequantisation_scale(scale); }

}  // namespace AscendC
