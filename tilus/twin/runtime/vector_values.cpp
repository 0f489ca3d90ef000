#include "vector_values.h"

#include <algorithm>
#include <cstring>

#include "numbers.h"

namespace twin {

namespace {

template <typename T>
T element(const uint8_t* from, int index) {
    T value;
    std::memcpy(&value, from + static_cast<size_t>(index) * sizeof(T), sizeof(T));
    return value;
}

template <typename T>
void widen(int64_t* to, const uint8_t* from, int count) {
    for (int i = 0; i < count; ++i) to[i] = static_cast<int64_t>(element<T>(from, i));
}

template <typename T>
void cut(uint8_t* to, const int64_t* from, int count) {
    for (int i = 0; i < count; ++i) {
        const auto value = static_cast<T>(from[i]);
        std::memcpy(to + static_cast<size_t>(i) * sizeof(T), &value, sizeof(T));
    }
}

}  // namespace

void decode(float* to, Type type, const uint8_t* from, int count) {
    switch (type) {
        case Type::f16: half_to(reinterpret_cast<const uint16_t*>(from), to, static_cast<size_t>(count)); break;
        case Type::bf16: bfloat16_to(reinterpret_cast<const uint16_t*>(from), to, static_cast<size_t>(count)); break;
        default: std::memcpy(to, from, static_cast<size_t>(count) * sizeof(float));
    }
}

void encode(uint8_t* to, Type type, const float* from, int count) {
    switch (type) {
        case Type::f16: half_of(from, reinterpret_cast<uint16_t*>(to), static_cast<size_t>(count)); break;
        case Type::bf16: bfloat16_of(from, reinterpret_cast<uint16_t*>(to), static_cast<size_t>(count)); break;
        default: std::memcpy(to, from, static_cast<size_t>(count) * sizeof(float));
    }
}

void decode(int64_t* to, Type type, const uint8_t* from, int count) {
    switch (type) {
        case Type::s4:
            // Two to a byte, the first one in the low bits.
            for (int i = 0; i < count; ++i) to[i] = (((from[i / 2] >> (i % 2 * 4)) & 15) ^ 8) - 8;
            break;
        case Type::s8: widen<int8_t>(to, from, count); break;
        case Type::u8: widen<uint8_t>(to, from, count); break;
        case Type::s16: widen<int16_t>(to, from, count); break;
        case Type::u16: case Type::f16: case Type::bf16: widen<uint16_t>(to, from, count); break;
        case Type::s32: widen<int32_t>(to, from, count); break;
        case Type::u32: case Type::f32: widen<uint32_t>(to, from, count); break;
        case Type::s64: case Type::u64: widen<int64_t>(to, from, count); break;
    }
}

void encode(uint8_t* to, Type type, const int64_t* from, int count) {
    switch (bits_of(type)) {
        case 4:
            for (int i = 0; i < count; i += 2) {
                const int64_t second = i + 1 < count ? from[i + 1] : 0;
                to[i / 2] = static_cast<uint8_t>((from[i] & 15) | (second & 15) << 4);
            }
            break;
        case 8: cut<uint8_t>(to, from, count); break;
        case 16: cut<uint16_t>(to, from, count); break;
        case 32: cut<uint32_t>(to, from, count); break;
        default: cut<uint64_t>(to, from, count);
    }
}

float float_of(Type type, uint64_t bits) {
    float value;
    decode(&value, type, reinterpret_cast<const uint8_t*>(&bits), 1);
    return value;
}

int64_t integer_of(Type type, uint64_t bits) {
    int64_t value;
    decode(&value, type, reinterpret_cast<const uint8_t*>(&bits), 1);
    return value;
}

uint64_t bits_of_float(Type type, float value) {
    uint64_t bits = 0;
    encode(reinterpret_cast<uint8_t*>(&bits), type, &value, 1);
    return bits;
}

const uint8_t* lanes_in_row(const uint8_t* ub, const Walk& walk, int64_t repeat, int count, uint8_t (&buffer)[1024]) {
    if (walk.block_stride == 1) return ub + walk.block(repeat, 0);
    const int64_t bytes = (static_cast<int64_t>(count) * walk.bits + 7) / 8;
    for (int64_t begin = 0; begin < bytes; begin += block_bytes) {
        const auto block = static_cast<int>(begin / block_bytes);
        std::memcpy(buffer + begin, ub + walk.block(repeat, block),
                    static_cast<size_t>(std::min(block_bytes, bytes - begin)));
    }
    return buffer;
}

namespace {

// Elements of 4 bits share bytes.
void store_nibble(uint8_t* ub, const Walk& walk, int64_t repeat, int lane, const uint8_t* row) {
    uint8_t& byte = ub[walk.address(repeat, lane)];
    const int shift = lane % 2 * 4;
    byte = static_cast<uint8_t>((byte & ~(15 << shift)) | (row[lane / 2] & (15 << shift)));
}

}  // namespace

void store_lanes(uint8_t* ub, const Walk& walk, int64_t repeat, const LaneMask& mask, const uint8_t* row) {
    const int end = mask.end();
    const int64_t bytes = static_cast<int64_t>(end) * walk.bits / 8;
    if (mask.is_first() && bytes * 8 == static_cast<int64_t>(end) * walk.bits) {
        if (walk.block_stride == 1) {
            std::memcpy(ub + walk.block(repeat, 0), row, static_cast<size_t>(bytes));
            return;
        }
        for (int64_t begin = 0; begin < bytes; begin += block_bytes)
            std::memcpy(ub + walk.block(repeat, static_cast<int>(begin / block_bytes)), row + begin,
                        static_cast<size_t>(std::min(block_bytes, bytes - begin)));
        return;
    }
    const auto size = static_cast<size_t>(walk.bits / 8);
    for (int lane = 0; lane < end; ++lane) {
        if (!mask[lane]) continue;
        if (walk.bits == 4)
            store_nibble(ub, walk, repeat, lane, row);
        else
            std::memcpy(ub + walk.address(repeat, lane), row + static_cast<size_t>(lane) * size, size);
    }
}

}  // namespace twin
