// Calls of the vector unit.
#pragma once

#include "twin/tensor.h"

namespace twin {

void add(const Operand& dst, const Operand& src0, const Operand& src1, int32_t count, int line);

}  // namespace twin

namespace AscendC {

template <typename T>
void Add(const LocalTensor<T>& dst, const LocalTensor<T>& src0, const LocalTensor<T>& src1, int32_t count,
         int line = __builtin_LINE()) {
    static_assert(twin::one_of(twin::type_of<T>, twin::Type::s16, twin::Type::f16, twin::Type::s32, twin::Type::f32),
                  "Add takes int16_t, half, int32_t and float");
    twin::add(dst, src0, src1, count, line);
}

}  // namespace AscendC
