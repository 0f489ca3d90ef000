// Types and enumerations of Ascend C, and those that kernels and the runtime share.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

#define __aicore__
#define __global__
#define __gm__
#define __ubuf__
#define __vector__
#define __cube__
#define __mix__(...)

using GM_ADDR = uint8_t*;

namespace twin {

// The order is that of the runtime's tables of names.
enum class Memory : uint8_t { GM, UB, L1, L0A, L0B, L0C, BT, FB };
constexpr int memories = 8;

enum class Pipe : uint8_t { S, V, M, MTE1, MTE2, MTE3, FIX };
constexpr int pipes = 7;

enum class Side : uint8_t { AIC, AIV };

enum class Type : uint8_t { s4, s8, u8, s16, u16, f16, bf16, s32, u32, f32, s64, u64 };

uint16_t half_of(float value);
float half_to(uint16_t bits);
uint16_t bfloat16_of(float value);
float bfloat16_to(uint16_t bits);

}  // namespace twin

// IEEE binary16: every operation rounds to nearest even. No constructor for double: constants need a suffix or a cast.
struct half {
    uint16_t bits;
    half() = default;
    half(float value) : bits(twin::half_of(value)) {}
    half(double value) : half(static_cast<float>(value)) {}
    half(int value) : half(static_cast<float>(value)) {}
    operator float() const { return twin::half_to(bits); }
};

struct bfloat16_t {
    uint16_t bits;
    bfloat16_t() = default;
    explicit bfloat16_t(float value) : bits(twin::bfloat16_of(value)) {}
    explicit operator float() const { return twin::bfloat16_to(bits); }
};

// A pair of 4-bit integers; tensors of it count single elements, two to a byte, the first one in the low bits.
struct int4b_t {
    uint8_t bits;
};

enum pipe_t : uint8_t { PIPE_S, PIPE_V, PIPE_M, PIPE_MTE1, PIPE_MTE2, PIPE_MTE3, PIPE_FIX, PIPE_ALL };

enum KernelType : uint8_t {
    KERNEL_TYPE_AIV_ONLY,
    KERNEL_TYPE_AIC_ONLY,
    KERNEL_TYPE_MIX_AIV_1_0,
    KERNEL_TYPE_MIX_AIC_1_0,
    KERNEL_TYPE_MIX_AIC_1_1,
    KERNEL_TYPE_MIX_AIC_1_2,
};

namespace AscendC {

enum class TPosition : uint8_t {
    GM, A1, A2, B1, B2, C1, C2, CO1, CO2, VECIN, VECOUT, VECCALC, LCM, SPM, SHM, TSCM, C2PIPE2GM
};
using QuePosition = TPosition;

// The first pipe in the high four bits, the second in the low ones. What is absent here does not exist.
#define TWIN_EVENT(A, B) A##_##B = (static_cast<int>(::twin::Pipe::A) << 4) | static_cast<int>(::twin::Pipe::B)
enum class HardEvent : uint8_t {
    TWIN_EVENT(MTE2, MTE1), TWIN_EVENT(MTE1, MTE2), TWIN_EVENT(MTE1, M), TWIN_EVENT(M, MTE1), TWIN_EVENT(M, FIX),
    TWIN_EVENT(FIX, M), TWIN_EVENT(FIX, MTE1), TWIN_EVENT(MTE1, FIX), TWIN_EVENT(FIX, MTE2), TWIN_EVENT(MTE2, FIX),
    TWIN_EVENT(MTE2, M), TWIN_EVENT(M, MTE2), TWIN_EVENT(S, MTE2), TWIN_EVENT(MTE2, S), TWIN_EVENT(M, S),
    TWIN_EVENT(FIX, S), TWIN_EVENT(S, V), TWIN_EVENT(V, S), TWIN_EVENT(S, MTE3), TWIN_EVENT(MTE3, S),
    TWIN_EVENT(V, MTE2), TWIN_EVENT(MTE2, V), TWIN_EVENT(V, MTE3), TWIN_EVENT(MTE3, V), TWIN_EVENT(MTE2, MTE3),
    TWIN_EVENT(MTE3, MTE2),
};
#undef TWIN_EVENT

using TEventID = int8_t;
constexpr TEventID EVENT_ID0 = 0, EVENT_ID1 = 1, EVENT_ID2 = 2, EVENT_ID3 = 3;
constexpr TEventID EVENT_ID4 = 4, EVENT_ID5 = 5, EVENT_ID6 = 6, EVENT_ID7 = 7;

}  // namespace AscendC

namespace twin {

template <typename T>
struct TypeOf {
    static_assert(sizeof(T) == 0, "tensors have elements of int4b_t, 8, 16, 32 or 64-bit integers, half, bfloat16_t or float");
};
#define TWIN_TYPE(T, name) \
    template <> struct TypeOf<T> { static constexpr Type value = Type::name; }
TWIN_TYPE(int4b_t, s4);
TWIN_TYPE(int8_t, s8);
TWIN_TYPE(uint8_t, u8);
TWIN_TYPE(int16_t, s16);
TWIN_TYPE(uint16_t, u16);
TWIN_TYPE(half, f16);
TWIN_TYPE(bfloat16_t, bf16);
TWIN_TYPE(int32_t, s32);
TWIN_TYPE(uint32_t, u32);
TWIN_TYPE(float, f32);
TWIN_TYPE(int64_t, s64);
TWIN_TYPE(uint64_t, u64);
#undef TWIN_TYPE

template <typename T>
constexpr Type type_of = TypeOf<T>::value;

constexpr uint32_t bits_of(Type type) {
    return type == Type::s4                                               ? 4
           : type == Type::s8 || type == Type::u8                         ? 8
           : type <= Type::bf16                                           ? 16
           : type == Type::s32 || type == Type::u32 || type == Type::f32 ? 32
                                                                          : 64;
}

// Whether `type` is one of `types`: what calls assert of their element types.
template <typename... Types>
constexpr bool one_of(Type type, Types... types) {
    return (... || (type == types));
}

// The bits of a scalar, as a runtime call takes them.
template <typename T>
uint64_t bits_of_scalar(T value) {
    uint64_t bits = 0;
    std::memcpy(&bits, &value, sizeof(T));
    return bits;
}

// A field of so many bits of a parameter struct. It keeps the number that it was given, so that one which does not fit is
// found instead of wrapping.
template <int bits>
struct Field {
    int64_t value = 0;
    constexpr Field() = default;
    template <typename I, typename = std::enable_if_t<std::is_integral_v<I> || std::is_enum_v<I>>>
    constexpr Field(I number) : value(static_cast<int64_t>(number)) {}
    template <int other>
    constexpr Field(Field<other> field) : value(field.value) {}
    constexpr operator int64_t() const { return value; }
    constexpr bool fits() const { return value >= 0 && value < (int64_t{1} << bits); }
};

// A typed range of bytes in a memory: what a tensor is to the runtime. GM addresses are pointers.
struct Operand {
    uint64_t address;
    uint64_t bytes;  // of the tensor; for GM whose size was not set, all that there is
    Memory memory;
    Type type;
};

}  // namespace twin
