// Lane-wise calls of the vector unit: two sources, one source, one source and a scalar.
//
// Level 0 takes a mask (the count of the first lanes or 128 bits), a number of repeats and strides; level 2 the number
// of elements, which lie in a row.
#pragma once

#include "twin/tensor.h"
#include "twin/vector_types.h"

namespace twin {

// `name` lives as long as the program.
struct LanewiseCall {
    VectorOp op;
    const char* name;
    Lanes lanes;
    int line;
};

void binary(const LanewiseCall& call, const Operand& dst, const Operand& src0, const Operand& src1,
            const AscendC::BinaryRepeatParams& params);
void unary(const LanewiseCall& call, const Operand& dst, const Operand& src, const AscendC::UnaryRepeatParams& params);
// `scalar` has the source's type; `rounds` is that of right shifts.
void with_scalar(const LanewiseCall& call, const Operand& dst, const Operand& src, uint64_t scalar,
                 const AscendC::UnaryRepeatParams& params, bool rounds = false);

template <typename T, typename U>
constexpr void axpy_takes() {
    constexpr Type to = type_of<T>, from = type_of<U>;
    static_assert((from == Type::f16 && (to == Type::f16 || to == Type::f32)) || (from == Type::f32 && to == Type::f32),
                  "Axpy takes half and float, and adds half to float");
}

}  // namespace twin

// A call's element types, by the names that follow its text.
#define TWIN_TAKES(T, text, ...)                                                                                      \
    {                                                                                                                 \
        using twin::Type;                                                                                             \
        static_assert(twin::one_of(twin::type_of<T>, __VA_ARGS__), text);                                             \
    }

#define TWIN_BINARY_MASKED(Name, Mask, text, ...)                                                                     \
    template <typename T, bool isSetMask = true>                                                                      \
    void Name(const LocalTensor<T>& dst, const LocalTensor<T>& src0, const LocalTensor<T>& src1, Mask,                \
              int64_t repeatTime, const BinaryRepeatParams& repeatParams, int line = __builtin_LINE()) {              \
        TWIN_TAKES(T, text, __VA_ARGS__)                                                                              \
        twin::binary({twin::VectorOp::Name, #Name, twin::masked(mask, repeatTime, isSetMask), line}, dst, src0,       \
                     src1, repeatParams);                                                                             \
    }

#define TWIN_BINARY(Name, text, ...)                                                                                  \
    TWIN_BINARY_MASKED(Name, uint64_t mask, text, __VA_ARGS__)                                                        \
    TWIN_BINARY_MASKED(Name, const uint64_t mask[], text, __VA_ARGS__)                                                \
    template <typename T>                                                                                             \
    void Name(const LocalTensor<T>& dst, const LocalTensor<T>& src0, const LocalTensor<T>& src1, int32_t count,       \
              int line = __builtin_LINE()) {                                                                          \
        TWIN_TAKES(T, text, __VA_ARGS__)                                                                              \
        twin::binary({twin::VectorOp::Name, #Name, twin::total(count), line}, dst, src0, src1, {});                   \
    }

#define TWIN_UNARY_MASKED(Name, Mask, text, ...)                                                                      \
    template <typename T, bool isSetMask = true>                                                                      \
    void Name(const LocalTensor<T>& dst, const LocalTensor<T>& src, Mask, int64_t repeatTime,                         \
              const UnaryRepeatParams& repeatParams, int line = __builtin_LINE()) {                                   \
        TWIN_TAKES(T, text, __VA_ARGS__)                                                                              \
        twin::unary({twin::VectorOp::Name, #Name, twin::masked(mask, repeatTime, isSetMask), line}, dst, src,         \
                    repeatParams);                                                                                    \
    }

#define TWIN_UNARY(Name, text, ...)                                                                                   \
    TWIN_UNARY_MASKED(Name, uint64_t mask, text, __VA_ARGS__)                                                         \
    TWIN_UNARY_MASKED(Name, const uint64_t mask[], text, __VA_ARGS__)                                                 \
    template <typename T>                                                                                             \
    void Name(const LocalTensor<T>& dst, const LocalTensor<T>& src, int32_t count, int line = __builtin_LINE()) {     \
        TWIN_TAKES(T, text, __VA_ARGS__)                                                                              \
        twin::unary({twin::VectorOp::Name, #Name, twin::total(count), line}, dst, src, {});                           \
    }

#define TWIN_SCALAR_MASKED(Name, Mask, text, ...)                                                                     \
    template <typename T, bool isSetMask = true>                                                                      \
    void Name(const LocalTensor<T>& dst, const LocalTensor<T>& src, T scalarValue, Mask, int64_t repeatTime,          \
              const UnaryRepeatParams& repeatParams, int line = __builtin_LINE()) {                                   \
        TWIN_TAKES(T, text, __VA_ARGS__)                                                                              \
        twin::with_scalar({twin::VectorOp::Name, #Name, twin::masked(mask, repeatTime, isSetMask), line}, dst, src,   \
                          twin::bits_of_scalar(scalarValue), repeatParams);                                           \
    }

// That level 2 of calls with a scalar has isSetMask, and that of the others has not, is from memory.
#define TWIN_SCALAR(Name, text, ...)                                                                                  \
    TWIN_SCALAR_MASKED(Name, uint64_t mask, text, __VA_ARGS__)                                                        \
    TWIN_SCALAR_MASKED(Name, const uint64_t mask[], text, __VA_ARGS__)                                                \
    template <typename T, bool isSetMask = true>                                                                      \
    void Name(const LocalTensor<T>& dst, const LocalTensor<T>& src, T scalarValue, int32_t count,                     \
              int line = __builtin_LINE()) {                                                                          \
        TWIN_TAKES(T, text, __VA_ARGS__)                                                                              \
        twin::with_scalar({twin::VectorOp::Name, #Name, twin::total(count, isSetMask), line}, dst, src,               \
                          twin::bits_of_scalar(scalarValue), {});                                                     \
    }

namespace AscendC {

TWIN_BINARY(Add, "Add takes int16_t, half, int32_t and float", Type::s16, Type::f16, Type::s32, Type::f32)
TWIN_BINARY(Sub, "Sub takes int16_t, half, int32_t and float", Type::s16, Type::f16, Type::s32, Type::f32)
TWIN_BINARY(Mul, "Mul takes int16_t, half, int32_t and float", Type::s16, Type::f16, Type::s32, Type::f32)
TWIN_BINARY(Max, "Max takes int16_t, half, int32_t and float", Type::s16, Type::f16, Type::s32, Type::f32)
TWIN_BINARY(Min, "Min takes int16_t, half, int32_t and float", Type::s16, Type::f16, Type::s32, Type::f32)
TWIN_BINARY(Div, "Div takes half and float", Type::f16, Type::f32)
TWIN_BINARY(MulAddDst, "MulAddDst takes half and float", Type::f16, Type::f32)
TWIN_BINARY(FusedMulAdd, "FusedMulAdd takes half and float", Type::f16, Type::f32)
TWIN_BINARY(And, "And takes int16_t and uint16_t: 32-bit data are twice as many of these", Type::s16, Type::u16)
TWIN_BINARY(Or, "Or takes int16_t and uint16_t: 32-bit data are twice as many of these", Type::s16, Type::u16)
TWIN_BINARY(AddRelu, "AddRelu takes int16_t, half and float", Type::s16, Type::f16, Type::f32)
TWIN_BINARY(SubRelu, "SubRelu takes int16_t, half and float", Type::s16, Type::f16, Type::f32)
TWIN_SCALAR(Adds, "Adds takes int16_t, half, int32_t and float", Type::s16, Type::f16, Type::s32, Type::f32)
TWIN_SCALAR(Muls, "Muls takes int16_t, half, int32_t and float", Type::s16, Type::f16, Type::s32, Type::f32)
TWIN_SCALAR(Maxs, "Maxs takes int16_t, half, int32_t and float", Type::s16, Type::f16, Type::s32, Type::f32)
TWIN_SCALAR(Mins, "Mins takes int16_t, half, int32_t and float", Type::s16, Type::f16, Type::s32, Type::f32)
TWIN_SCALAR(LeakyRelu, "LeakyRelu takes half and float", Type::f16, Type::f32)
TWIN_UNARY(Exp, "Exp takes half and float", Type::f16, Type::f32)
TWIN_UNARY(Ln, "Ln takes half and float", Type::f16, Type::f32)
TWIN_UNARY(Abs, "Abs takes half and float", Type::f16, Type::f32)
TWIN_UNARY(Reciprocal, "Reciprocal takes half and float", Type::f16, Type::f32)
TWIN_UNARY(Sqrt, "Sqrt takes half and float", Type::f16, Type::f32)
TWIN_UNARY(Rsqrt, "Rsqrt takes half and float", Type::f16, Type::f32)
TWIN_UNARY(Relu, "Relu takes half, float and int32_t", Type::f16, Type::f32, Type::s32)
TWIN_UNARY(Not, "Not takes int16_t and uint16_t: 32-bit data are twice as many of these", Type::s16, Type::u16)

#define TWIN_SHIFT_MASKED(Name, Mask)                                                                                 \
    template <typename T, bool isSetMask = true>                                                                      \
    void Name(const LocalTensor<T>& dst, const LocalTensor<T>& src, T scalarValue, Mask, int64_t repeatTime,          \
              const UnaryRepeatParams& repeatParams, bool roundEn = false, int line = __builtin_LINE()) {             \
        TWIN_TAKES(T, #Name " takes int16_t, uint16_t, int32_t and uint32_t", Type::s16, Type::u16, Type::s32,        \
                   Type::u32)                                                                                         \
        twin::with_scalar({twin::VectorOp::Name, #Name, twin::masked(mask, repeatTime, isSetMask), line}, dst, src,   \
                          twin::bits_of_scalar(scalarValue), repeatParams, roundEn);                                  \
    }

#define TWIN_SHIFT(Name)                                                                                              \
    TWIN_SHIFT_MASKED(Name, uint64_t mask)                                                                            \
    TWIN_SHIFT_MASKED(Name, const uint64_t mask[])                                                                    \
    template <typename T, bool isSetMask = true>                                                                      \
    void Name(const LocalTensor<T>& dst, const LocalTensor<T>& src, T scalarValue, int32_t count,                     \
              int line = __builtin_LINE()) {                                                                          \
        TWIN_TAKES(T, #Name " takes int16_t, uint16_t, int32_t and uint32_t", Type::s16, Type::u16, Type::s32,        \
                   Type::u32)                                                                                         \
        twin::with_scalar({twin::VectorOp::Name, #Name, twin::total(count, isSetMask), line}, dst, src,               \
                          twin::bits_of_scalar(scalarValue), {});                                                     \
    }

// `roundEn` of right shifts, which rounds half up, is from memory; left shifts ignore it.
TWIN_SHIFT(ShiftLeft)
TWIN_SHIFT(ShiftRight)

#define TWIN_AXPY_MASKED(Mask)                                                                                        \
    template <typename T, typename U, bool isSetMask = true>                                                          \
    void Axpy(const LocalTensor<T>& dst, const LocalTensor<U>& src, U scalarValue, Mask, int64_t repeatTime,          \
              const UnaryRepeatParams& repeatParams, int line = __builtin_LINE()) {                                   \
        twin::axpy_takes<T, U>();                                                                                     \
        twin::with_scalar({twin::VectorOp::Axpy, "Axpy", twin::masked(mask, repeatTime, isSetMask), line}, dst, src,  \
                          twin::bits_of_scalar(scalarValue), repeatParams);                                           \
    }

TWIN_AXPY_MASKED(uint64_t mask)
TWIN_AXPY_MASKED(const uint64_t mask[])

template <typename T, typename U>
void Axpy(const LocalTensor<T>& dst, const LocalTensor<U>& src, U scalarValue, int32_t count,
          int line = __builtin_LINE()) {
    twin::axpy_takes<T, U>();
    twin::with_scalar({twin::VectorOp::Axpy, "Axpy", twin::total(count), line}, dst, src,
                      twin::bits_of_scalar(scalarValue), {});
}

}  // namespace AscendC
