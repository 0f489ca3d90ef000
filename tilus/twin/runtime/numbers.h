// Conversions between float and the 16-bit formats, of one number and of arrays.
#pragma once

#include <cstddef>
#include <cstdint>

#include "twin/types.h"

namespace twin {

void half_to(const uint16_t* from, float* to, size_t count);
void half_of(const float* from, uint16_t* to, size_t count);
void bfloat16_to(const uint16_t* from, float* to, size_t count);
void bfloat16_of(const float* from, uint16_t* to, size_t count);

}  // namespace twin
