#include "numbers.h"

#ifdef __F16C__
#include <immintrin.h>
#endif

namespace twin {

namespace {

float float_of(uint32_t bits) {
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

uint32_t bits_of_float(float value) {
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    return bits;
}

}  // namespace

float half_to(uint16_t bits) {
#ifdef __F16C__
    return _cvtsh_ss(bits);
#else
    uint32_t sign = static_cast<uint32_t>(bits & 0x8000) << 16, exponent = (bits >> 10) & 31, mantissa = bits & 1023;
    if (exponent == 31) return float_of(sign | 0x7F800000 | mantissa << 13);
    if (exponent != 0) return float_of(sign | (exponent + 112) << 23 | mantissa << 13);
    float value = static_cast<float>(mantissa) * 0x1p-24f;
    return sign ? -value : value;
#endif
}

uint16_t half_of(float value) {
#ifdef __F16C__
    return static_cast<uint16_t>(_cvtss_sh(value, _MM_FROUND_TO_NEAREST_INT));
#else
    uint32_t bits = bits_of_float(value), sign = bits >> 16 & 0x8000, magnitude = bits & 0x7FFFFFFF;
    if (magnitude > 0x7F800000) return static_cast<uint16_t>(sign | 0x7E00 | (magnitude >> 13 & 1023));
    if (magnitude >= 0x477FF000) return static_cast<uint16_t>(sign | 0x7C00);
    if (magnitude < 0x38800000) {
        // The sum rounds at the last place of subnormal halves, 2^-24.
        float sum = float_of(magnitude) + 0.5f;
        return static_cast<uint16_t>(sign | (bits_of_float(sum) - 0x3F000000));
    }
    uint32_t rounded = magnitude - 0x38000000 + 0xFFF + (magnitude >> 13 & 1);
    return static_cast<uint16_t>(sign | rounded >> 13);
#endif
}

float bfloat16_to(uint16_t bits) { return float_of(static_cast<uint32_t>(bits) << 16); }

uint16_t bfloat16_of(float value) {
    uint32_t bits = bits_of_float(value);
    if ((bits & 0x7FFFFFFF) > 0x7F800000) return static_cast<uint16_t>(bits >> 16 | 0x40);
    return static_cast<uint16_t>((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

void half_to(const uint16_t* from, float* to, size_t count) {
    size_t i = 0;
#ifdef __F16C__
    for (; i + 8 <= count; i += 8) {
        _mm256_storeu_ps(to + i, _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from + i))));
    }
#endif
    for (; i < count; ++i) to[i] = half_to(from[i]);
}

void half_of(const float* from, uint16_t* to, size_t count) {
    size_t i = 0;
#ifdef __F16C__
    for (; i + 8 <= count; i += 8) {
        _mm_storeu_si128(reinterpret_cast<__m128i*>(to + i),
                         _mm256_cvtps_ph(_mm256_loadu_ps(from + i), _MM_FROUND_TO_NEAREST_INT));
    }
#endif
    for (; i < count; ++i) to[i] = half_of(from[i]);
}

void bfloat16_to(const uint16_t* from, float* to, size_t count) {
    for (size_t i = 0; i < count; ++i) to[i] = bfloat16_to(from[i]);
}

void bfloat16_of(const float* from, uint16_t* to, size_t count) {
    for (size_t i = 0; i < count; ++i) to[i] = bfloat16_of(from[i]);
}

}  // namespace twin
