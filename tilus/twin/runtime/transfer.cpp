#include "transfer.h"

#include <algorithm>

#include "numbers.h"

namespace twin {

namespace {

template <typename T>
T combine(T old, T value, int atomic) {
    if (atomic == atomic_max) return std::max(old, value);
    if (atomic == atomic_min) return std::min(old, value);
    return static_cast<T>(old + value);
}

template <typename T>
void combine_all(uint8_t* to, const uint8_t* from, size_t bytes, int atomic) {
    for (size_t b = 0; b + sizeof(T) <= bytes; b += sizeof(T)) {
        T old, value;
        std::memcpy(&old, to + b, sizeof old);
        std::memcpy(&value, from + b, sizeof value);
        value = combine(old, value, atomic);
        std::memcpy(to + b, &value, sizeof value);
    }
}

template <float (*widen)(uint16_t), uint16_t (*narrow)(float)>
void combine_halves(uint8_t* to, const uint8_t* from, size_t bytes, int atomic) {
    for (size_t b = 0; b + 2 <= bytes; b += 2) {
        uint16_t old, value;
        std::memcpy(&old, to + b, sizeof old);
        std::memcpy(&value, from + b, sizeof value);
        value = narrow(combine(widen(old), widen(value), atomic));
        std::memcpy(to + b, &value, sizeof value);
    }
}

}  // namespace

void transfer(uint8_t* to, const uint8_t* from, size_t bytes, Type type, int atomic) {
    if (atomic == atomic_none) {
        std::memcpy(to, from, bytes);
        return;
    }
    switch (type) {
        case Type::s8: return combine_all<int8_t>(to, from, bytes, atomic);
        case Type::s16: return combine_all<int16_t>(to, from, bytes, atomic);
        case Type::s32: return combine_all<int32_t>(to, from, bytes, atomic);
        case Type::f32: return combine_all<float>(to, from, bytes, atomic);
        case Type::f16: return combine_halves<half_to, half_of>(to, from, bytes, atomic);
        default: return combine_halves<bfloat16_to, bfloat16_of>(to, from, bytes, atomic);
    }
}

}  // namespace twin
