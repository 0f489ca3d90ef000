// Functions that the library computes by several instructions, in memory that the caller gives it.
//
// Forms without that memory take it from TPipe, which a kernel of static memory does not have.
#pragma once

#include "twin/tensor.h"
#include "twin/vector_types.h"

namespace twin {

enum class MathOp : uint8_t { Tanh, Erf, Sin, Cos, Power, Log2, Floor, Ceil, Round, Trunc, Sigmoid, Gelu };

struct MathCall {
    MathOp op;
    const char* name;
    int64_t count;
    int line;
};

// Null `tmp`: the library takes it. `exponent` and scalars are those of Power; a scalar stands for the null tensor.
void math(const MathCall& call, const Operand& dst, const Operand& src, const Operand* tmp);
void power(const MathCall& call, const Operand& dst, const Operand* base, const Operand* exponent, uint64_t scalar,
           const Operand* tmp);

}  // namespace twin

namespace AscendC {

#define TWIN_MATH(Name)                                                                                               \
    template <typename T, bool isReuseSource = false>                                                                 \
    void Name(const LocalTensor<T>& dst, const LocalTensor<T>& src, const LocalTensor<uint8_t>& sharedTmpBuffer,      \
              uint32_t calCount, int line = __builtin_LINE()) {                                                       \
        static_assert(twin::one_of(twin::type_of<T>, twin::Type::f16, twin::Type::f32), #Name " takes half and float");\
        const twin::Operand tmp = sharedTmpBuffer;                                                                    \
        twin::math({twin::MathOp::Name, #Name, calCount, line}, dst, src, &tmp);                                      \
    }                                                                                                                 \
    template <typename T, bool isReuseSource = false>                                                                 \
    void Name(const LocalTensor<T>& dst, const LocalTensor<T>& src, uint32_t calCount, int line = __builtin_LINE()) { \
        static_assert(twin::one_of(twin::type_of<T>, twin::Type::f16, twin::Type::f32), #Name " takes half and float");\
        twin::math({twin::MathOp::Name, #Name, calCount, line}, dst, src, nullptr);                                   \
    }
TWIN_MATH(Tanh)
TWIN_MATH(Erf)
TWIN_MATH(Sin)
TWIN_MATH(Cos)
TWIN_MATH(Log2)
TWIN_MATH(Floor)
TWIN_MATH(Ceil)
TWIN_MATH(Round)
TWIN_MATH(Trunc)
TWIN_MATH(Sigmoid)
TWIN_MATH(Gelu)

// src0 to the power of src1, of which one may be a scalar.
template <typename T, bool isReuseSource = false>
void Power(const LocalTensor<T>& dst, const LocalTensor<T>& src0, const LocalTensor<T>& src1,
           const LocalTensor<uint8_t>& sharedTmpBuffer, uint32_t calCount, int line = __builtin_LINE()) {
    static_assert(twin::one_of(twin::type_of<T>, twin::Type::f16, twin::Type::f32), "Power takes half and float");
    const twin::Operand tmp = sharedTmpBuffer;
    const twin::Operand base = src0;
    const twin::Operand exponent = src1;
    twin::power({twin::MathOp::Power, "Power", calCount, line}, dst, &base, &exponent, 0,
                &tmp);
}

template <typename T, bool isReuseSource = false>
void Power(const LocalTensor<T>& dst, const LocalTensor<T>& src0, T src1,
           const LocalTensor<uint8_t>& sharedTmpBuffer, uint32_t calCount, int line = __builtin_LINE()) {
    static_assert(twin::one_of(twin::type_of<T>, twin::Type::f16, twin::Type::f32), "Power takes half and float");
    const twin::Operand tmp = sharedTmpBuffer;
    const twin::Operand base = src0;
    twin::power({twin::MathOp::Power, "Power", calCount, line}, dst, &base, nullptr, twin::bits_of_scalar(src1),
                &tmp);
}

template <typename T, bool isReuseSource = false>
void Power(const LocalTensor<T>& dst, T src0, const LocalTensor<T>& src1,
           const LocalTensor<uint8_t>& sharedTmpBuffer, uint32_t calCount, int line = __builtin_LINE()) {
    static_assert(twin::one_of(twin::type_of<T>, twin::Type::f16, twin::Type::f32), "Power takes half and float");
    const twin::Operand tmp = sharedTmpBuffer;
    const twin::Operand exponent = src1;
    twin::power({twin::MathOp::Power, "Power", calCount, line}, dst, nullptr, &exponent, twin::bits_of_scalar(src0),
                &tmp);
}

}  // namespace AscendC
