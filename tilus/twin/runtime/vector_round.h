// Rounding of numbers to the element types of vectors, exact in every mode.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>

#include "twin/vector_types.h"

namespace twin {

using Rounding = AscendC::RoundMode;

// A binary floating-point format of 16 bits: bits of the fraction and the least exponent of a normal number.
struct Format16 {
    int fraction;
    int least_exponent;
    int bias;
};
constexpr Format16 half_format{10, -14, 15};
constexpr Format16 bfloat16_format{7, -126, 127};

// The integer that `value` becomes; a value that is an integer is itself in all modes.
inline double round_integer(double value, Rounding mode) {
    switch (mode) {
        case Rounding::CAST_FLOOR: return std::floor(value);
        case Rounding::CAST_CEIL: return std::ceil(value);
        case Rounding::CAST_ROUND: return std::round(value);
        case Rounding::CAST_TRUNC: return std::trunc(value);
        case Rounding::CAST_ODD: {
            const double whole = std::trunc(value);
            if (whole == value || std::fmod(whole, 2.0) != 0.0) return whole;
            return whole + std::copysign(1.0, value);
        }
        default: return std::nearbyint(value);
    }
}

// True where a result beyond the largest number becomes infinite, false where it becomes the largest number.
inline bool overflows_to_infinity(bool negative, Rounding mode) {
    switch (mode) {
        case Rounding::CAST_FLOOR: return negative;
        case Rounding::CAST_CEIL: return !negative;
        case Rounding::CAST_TRUNC:
        case Rounding::CAST_ODD: return false;
        default: return true;
    }
}

inline uint16_t encode16(float value, const Format16& format, Rounding mode) {
    const uint16_t sign = std::signbit(value) ? 0x8000 : 0;
    const uint16_t infinity = static_cast<uint16_t>((2 * format.bias + 1) << format.fraction);
    if (std::isnan(value)) return static_cast<uint16_t>(sign | infinity | (1 << (format.fraction - 1)));
    if (std::isinf(value)) return sign | infinity;
    if (value == 0.0f) return sign;
    int exponent = std::ilogb(value);
    if (exponent < format.least_exponent) exponent = format.least_exponent;
    // Scaled so that the last place counts one: the result's digits are an integer.
    const double digits = round_integer(std::ldexp(static_cast<double>(value), format.fraction - exponent), mode);
    const auto whole = static_cast<uint32_t>(std::fabs(digits));
    // The leading digit and a carry out of the fraction add to the exponent by themselves, from denormal numbers too.
    const uint32_t encoded = whole + (static_cast<uint32_t>(exponent + format.bias - 1) << format.fraction);
    if (encoded >= infinity) return sign | (overflows_to_infinity(sign != 0, mode) ? infinity : infinity - 1);
    return static_cast<uint16_t>(sign | encoded);
}

// Integers saturate; NaN becomes zero.
template <typename Int>
Int round_saturating(double value, Rounding mode) {
    if (std::isnan(value)) return 0;
    const double rounded = round_integer(value, mode);
    // The largest int64 is no double: its successor is, and all from there saturate.
    if (rounded >= std::ldexp(1.0, std::numeric_limits<Int>::digits)) return std::numeric_limits<Int>::max();
    if (rounded < static_cast<double>(std::numeric_limits<Int>::min())) return std::numeric_limits<Int>::min();
    return static_cast<Int>(rounded);
}

// An integer that has more digits than a float's 24 rounds by its mode, never twice.
inline float round_to_float(int64_t value, Rounding mode) {
    if (value == 0) return 0.0f;
    const bool negative = value < 0;
    const uint64_t magnitude = negative ? 0 - static_cast<uint64_t>(value) : static_cast<uint64_t>(value);
    const int extra = 64 - __builtin_clzll(magnitude) - 24;
    if (extra <= 0) return static_cast<float>(value);
    // Digits dropped far below the last place matter only as "some": one sticky digit stands for them.
    const int keep = extra > 26 ? extra - 26 : 0;
    uint64_t head = magnitude >> keep;
    if (head << keep != magnitude) head |= 1;
    const double scaled = std::ldexp(static_cast<double>(head), keep - extra);
    const double rounded = round_integer(negative ? -scaled : scaled, mode);
    return static_cast<float>(std::ldexp(rounded, extra));
}

}  // namespace twin
