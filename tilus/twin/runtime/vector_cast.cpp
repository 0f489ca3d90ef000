// Conversions between element types.
#include "twin/vector_cast.h"

#include <cmath>

#include "numbers.h"
#include "vector_call.h"
#include "vector_round.h"
#include "vector_values.h"

namespace twin {

namespace {

struct Conversion {
    Type to, from;
    Rounding mode;
    Iteration iteration;
    Walk dst, src;
    float scale;  // of int32_t to half
    Site site;
};

int64_t round_to(Type type, double value, Rounding mode) {
    switch (type) {
        case Type::s4: return std::min<int64_t>(7, std::max<int64_t>(-8, round_saturating<int8_t>(value, mode)));
        case Type::s8: return round_saturating<int8_t>(value, mode);
        case Type::u8: return round_saturating<uint8_t>(value, mode);
        case Type::s16: return round_saturating<int16_t>(value, mode);
        case Type::s32: return round_saturating<int32_t>(value, mode);
        default: return round_saturating<int64_t>(value, mode);
    }
}

// A float, as bits of a float type.
int64_t round_to_bits(Type type, float value, Rounding mode) {
    if (type == Type::f16) return encode16(value, half_format, mode);
    if (type == Type::bf16) return encode16(value, bfloat16_format, mode);
    return static_cast<int64_t>(bits_of_float(type, value));
}

int64_t saturate(Type type, int64_t value) {
    if (type == Type::s16) return std::min<int64_t>(INT16_MAX, std::max<int64_t>(INT16_MIN, value));
    if (type == Type::s32) return std::min<int64_t>(INT32_MAX, std::max<int64_t>(INT32_MIN, value));
    return value;
}

int64_t convert(const Conversion& work, float value) {
    if (!is_float(work.to)) return round_to(work.to, value, work.mode);
    if (work.to == Type::f32 && work.from == Type::f32)
        return round_to_bits(work.to, static_cast<float>(round_integer(value, work.mode)), work.mode);
    return round_to_bits(work.to, value, work.mode);
}

int64_t convert(const Conversion& work, int64_t value) {
    if (!is_float(work.to)) return saturate(work.to, value);
    if (work.from == Type::s32 && work.to == Type::f16)
        return half_of(static_cast<float>(static_cast<double>(value) * static_cast<double>(work.scale)));
    return round_to_bits(work.to, round_to_float(value, work.mode), work.mode);
}

template <typename Number>
void execute(Core& core, const Conversion& work) {
    uint8_t* ub = core.bytes(Memory::UB);
    Number from[most_lanes];
    int64_t to[most_lanes];
    for (int64_t r = 0; r < work.iteration.repeats; ++r) {
        const LaneMask& mask = work.iteration.at(r);
        load(from, work.from, ub, work.src, r, mask.end());
        for (int i = 0; i < mask.end(); ++i) {
            if (!mask[i]) continue;
            to[i] = convert(work, from[i]);
            if (work.to == Type::f16 && std::isfinite(from[i]) && (to[i] & 0x7fff) == 0x7c00)
                check_overflow(core, work.site, work.to, static_cast<float>(from[i]));
        }
        store(ub, work.to, work.dst, r, mask, to);
    }
}

// Between float types, to nearest even or exact: what is frequent.
bool is_plain(const Conversion& work) {
    return is_float(work.from) && is_float(work.to) && work.from != work.to && !machine->run.overflow &&
           (work.mode == Rounding::CAST_NONE || work.mode == Rounding::CAST_RINT);
}

void execute_plain(Core& core, const Conversion& work) {
    uint8_t* ub = core.bytes(Memory::UB);
    float values[most_lanes];
    for (int64_t r = 0; r < work.iteration.repeats; ++r) {
        const LaneMask& mask = work.iteration.at(r);
        load(values, work.from, ub, work.src, r, mask.end());
        store(ub, work.to, work.dst, r, mask, values);
    }
}

// Every value of `from` is one of `to`.
bool is_exact(Type from, Type to) {
    if (from == to) return false;
    if (to == Type::s64) return from == Type::s32;
    if (to == Type::f32) return bits_of(from) == 16;
    return to == Type::f16 && bits_of(from) <= 8;
}

bool saturates(Type from, Type to) { return !is_float(from) && !is_float(to); }

void check_mode(VectorCall& call, Type from, Type to, Rounding mode) {
    if (mode == Rounding::CAST_ODD && !(from == Type::f32 && to == Type::f16))
        call.fault("parameter", "CAST_ODD is for float to half alone");
    // From memory, as are saturation and scaling without a mode.
    else if (mode != Rounding::CAST_NONE && is_exact(from, to))
        call.fault("parameter", "the conversion is exact: its round mode is CAST_NONE");
    else if (mode != Rounding::CAST_NONE && (saturates(from, to) || (from == Type::s32 && to == Type::f16)))
        call.fault("parameter", "the conversion does not round by a mode: it takes CAST_NONE");
}

}  // namespace

void cast(const Operand& dst, const Operand& src, AscendC::RoundMode mode, const Lanes& lanes,
          const AscendC::UnaryRepeatParams& params, int line) {
    VectorCall call("Cast", line);
    const int per_repeat = lanes_of(dst.type, src.type);
    check_mode(call, src.type, dst.type, mode);
    Conversion work{dst.type, src.type, mode, call.iterate(lanes, per_repeat), {}, {}, call.state().scale, call.site()};
    auto strides = params;
    if (lanes.kind == Lanes::Kind::Total) {
        strides.dstRepStride = row_stride(dst.type, per_repeat);
        strides.srcRepStride = row_stride(src.type, per_repeat);
    }
    work.src = call.source("src", src, work.iteration, strides.srcBlkStride, strides.srcRepStride);
    work.dst = call.destination(dst, work.iteration, strides.dstBlkStride, strides.dstRepStride);
    call.apart(work.dst, work.src, work.iteration, "src");
    call.written_once(work.dst, work.iteration);
    if (src.type == Type::s32 && dst.type == Type::f16 && !call.state().scaled)
        call.fault("parameter", "int32_t to half multiplies by a scale that SetDeqScale has to set before");
    if (!call.sound() || work.iteration.repeats == 0) return;
    call.takes(work.iteration, 1, {work.src}, {work.dst});
    call.issue([work](Core& core) {
        if (is_plain(work))
            execute_plain(core, work);
        else if (is_float(work.from))
            execute<float>(core, work);
        else
            execute<int64_t>(core, work);
    });
}

void set_dequantisation_scale(half scale) {
    VectorState& state = running().vector;
    state.scale = static_cast<float>(scale);
    state.scaled = true;
}

}  // namespace twin
