// Elements of operands as numbers, and numbers as elements.
#pragma once

#include <algorithm>
#include <cstdint>

#include "twin/types.h"
#include "vector_lanes.h"

namespace twin {

// Lanes of a repeat, which are counted in the largest type.
inline int lanes_of(Type a, Type b) { return static_cast<int>(repeat_bytes * 8 / std::max(bits_of(a), bits_of(b))); }
inline int lanes_of(Type type) { return lanes_of(type, type); }
// Blocks from repeat to repeat of elements that lie in a row.
inline int64_t row_stride(Type type, int lanes) { return bits_of(type) * int64_t{lanes} / 8 / block_bytes; }

inline bool is_float(Type type) { return type == Type::f16 || type == Type::bf16 || type == Type::f32; }

// `count` elements in a row, from or to float types and integer types of up to 64 bits. Integers are cut to the type.
void decode(float* to, Type type, const uint8_t* from, int count);
void decode(int64_t* to, Type type, const uint8_t* from, int count);
void encode(uint8_t* to, Type type, const float* from, int count);
void encode(uint8_t* to, Type type, const int64_t* from, int count);

// One scalar of a type, from its bits.
float float_of(Type type, uint64_t bits);
int64_t integer_of(Type type, uint64_t bits);
uint64_t bits_of_float(Type type, float value);

// The first `count` lanes of a repeat in a row: in `ub`, where they lie so, or in `buffer`.
const uint8_t* lanes_in_row(const uint8_t* ub, const Walk& walk, int64_t repeat, int count, uint8_t (&buffer)[1024]);
// The active lanes of a repeat, from elements in a row.
void store_lanes(uint8_t* ub, const Walk& walk, int64_t repeat, const LaneMask& mask, const uint8_t* row);

template <typename Number>
void load(Number* to, Type type, const uint8_t* ub, const Walk& walk, int64_t repeat, int count) {
    uint8_t buffer[1024];
    decode(to, type, lanes_in_row(ub, walk, repeat, count, buffer), count);
}

template <typename Number>
void store(uint8_t* ub, Type type, const Walk& walk, int64_t repeat, const LaneMask& mask, const Number* from) {
    uint8_t row[1024];
    encode(row, type, from, mask.end());
    store_lanes(ub, walk, repeat, mask, row);
}

}  // namespace twin
