// What the cube core's calls have in common: fractals and layouts.
#pragma once

#include "call.h"
#include "twin/cube.h"

namespace twin {

constexpr uint64_t fractal_bytes = 512;
constexpr uint64_t fractal_rows = 16;
constexpr uint64_t group_bytes = 32;  // of a fractal's row

// Elements in 32 B.
constexpr uint64_t group_of(Type type) { return group_bytes * 8 / bits_of(type); }

// Element `index` of 4-bit elements from a byte on, or a whole one, moved without looking at what it is.
inline void move_element(uint8_t* to, uint64_t to_index, const uint8_t* from, uint64_t from_index, uint32_t bits) {
    if (bits == 4) {
        uint8_t value = from[from_index / 2] >> (from_index % 2 * 4) & 15;
        uint8_t& target = to[to_index / 2];
        target = static_cast<uint8_t>(to_index % 2 ? (target & 15) | value << 4 : (target & 0xF0) | value);
        return;
    }
    std::memcpy(to + to_index * bits / 8, from + from_index * bits / 8, bits / 8);
}

}  // namespace twin
