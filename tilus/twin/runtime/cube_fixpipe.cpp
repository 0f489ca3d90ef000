// Results of products on their way from L0C to GM and L1.

#include <algorithm>
#include <cmath>

#include "cube.h"
#include "numbers.h"
#include "transfer.h"

namespace twin {

namespace {

bool is_columnwise(QuantMode_t mode) { return mode == VDEQF16 || mode == VQF322B8_PRE || mode == VREQ8; }

// Whether a conversion is one from this type to that.
bool converts(QuantMode_t mode, Type from, Type to) {
    bool byte = to == Type::s8 || to == Type::u8;
    switch (mode) {
        case NoQuant: return from == to;
        case F322F16: return from == Type::f32 && to == Type::f16;
        case F322BF16: return from == Type::f32 && to == Type::bf16;
        case DEQF16: case VDEQF16: return from == Type::s32 && to == Type::f16;
        case QF322B8_PRE: case VQF322B8_PRE: return from == Type::f32 && byte;
        default: return from == Type::s32 && byte;
    }
}

const char* name_of_mode(QuantMode_t mode) {
    static const char* const names[] = {"NoQuant", "F322F16",      "F322BF16", "DEQF16", "VDEQF16", "QF322B8_PRE",
                                        "VQF322B8_PRE", "REQ8", "VREQ8"};
    return names[mode];
}

// A scale in the low 32 bits; an offset of nine bits at 37; whether the result is signed at 46.
struct Scale {
    float factor;
    int offset;
    bool is_signed;

    explicit Scale(uint64_t bits) {
        auto low = static_cast<uint32_t>(bits);
        std::memcpy(&factor, &low, sizeof factor);
        offset = static_cast<int>(bits >> 37 & 511);
        if (offset >= 256) offset -= 512;
        is_signed = (bits >> 46 & 1) != 0;
    }
};

struct Conversion {
    QuantMode_t mode;
    bool relu;
    Type from, to;

    // One element; `to` gets as many bytes as its type has.
    void apply(const uint8_t* source, uint8_t* target, uint64_t scale_bits) const {
        if (mode == NoQuant) {
            std::memcpy(target, source, 4);
            if (relu && (target[3] & 0x80)) std::memset(target, 0, 4);
            return;
        }
        // Every int32 is a double, so that products with the scale round once.
        double value = 0;
        if (from == Type::f32) {
            float number;
            std::memcpy(&number, source, sizeof number);
            value = number;
        } else {
            int32_t number;
            std::memcpy(&number, source, sizeof number);
            value = number;
        }
        if (relu && value < 0) value = 0;
        if (mode == F322F16 || mode == F322BF16) {
            auto number = static_cast<float>(value);
            uint16_t bits = mode == F322F16 ? half_of(number) : bfloat16_of(number);
            std::memcpy(target, &bits, sizeof bits);
            return;
        }
        Scale scale(scale_bits);
        auto scaled = static_cast<float>(value * scale.factor);
        if (mode == DEQF16 || mode == VDEQF16) {
            uint16_t bits = half_of(scaled);
            std::memcpy(target, &bits, sizeof bits);
            return;
        }
        float rounded = std::nearbyint(scaled) + static_cast<float>(scale.offset);
        bool is_signed = to == Type::s8;
        float low = is_signed ? -128.0f : 0.0f, high = is_signed ? 127.0f : 255.0f;
        auto number = static_cast<int>(std::min(std::max(rounded, low), high));
        *target = static_cast<uint8_t>(number);
    }
};

struct Tile {
    uint64_t n, m, matrices;
    int64_t src_stride, src_matrix;  // bytes between blocks of 16 columns, and between matrices
    bool row_major;
    int64_t dst_stride, dst_matrix;  // bytes between rows, or between blocks of columns; between matrices
    uint64_t width;                  // columns of a block of an Nz destination
    uint64_t size;                   // bytes of a result

    int64_t source(uint64_t matrix, uint64_t i, uint64_t j) const {
        return static_cast<int64_t>(matrix) * src_matrix + static_cast<int64_t>(j / 16) * src_stride +
               static_cast<int64_t>((i * 16 + j % 16) * 4);
    }

    int64_t target(uint64_t matrix, uint64_t i, uint64_t j) const {
        int64_t base = static_cast<int64_t>(matrix) * dst_matrix;
        if (row_major) return base + static_cast<int64_t>(i) * dst_stride + static_cast<int64_t>(j * size);
        return base + static_cast<int64_t>(j / width) * dst_stride +
               static_cast<int64_t>((i * width + j % width) * size);
    }

    // Columns that are next to each other on both sides, from column j on.
    uint64_t run(uint64_t j) const {
        uint64_t unit = row_major ? 16 : std::min<uint64_t>(16, width);
        return std::min(n - j, unit - j % unit);
    }
};

void touch_tile(Call& call, const Operand& dst, const Operand& src, const Tile& t) {
    for (uint64_t matrix = 0; matrix < t.matrices; ++matrix) {
        for (uint64_t j = 0; j < t.n; j += 16) {
            call.reads(src, strided(std::min<uint64_t>(16, t.n - j) * 4, t.m, 64, t.source(matrix, 0, j)));
        }
        uint64_t step = t.row_major ? t.n : t.width;
        for (uint64_t j = 0; j < t.n; j += step) {
            int64_t stride = t.row_major ? t.dst_stride : static_cast<int64_t>(t.width * t.size);
            Region region = strided(std::min(step, t.n - j) * t.size, t.m, stride, t.target(matrix, 0, j));
            if (dst.memory == Memory::GM) call.updates(dst, region); else call.writes(dst, region);
        }
    }
}

void check(Call& call, const Operand& dst, const Operand& src, const Operand* scales, bool row_major,
           const AscendC::FixpipeParamsV220& p) {
    call.within("nSize", p.nSize, 1, 4095).within("mSize", p.mSize, 1, row_major ? 8192 : 65535);
    call.within("srcStride", p.srcStride, 0, 65535).within("ndNum", p.ndNum, 1, 65535);
    call.within("dstStride", p.dstStride, 0, UINT32_MAX).within("unitFlag", p.unitFlag, 0, 3);
    call.within("srcNdStride", p.srcNdStride, 0, 65535).within("dstNdStride", p.dstNdStride, 0, 65535);
    call.aligned(src, 64, "the source");
    if (src.memory != Memory::L0C) call.fault("parameter", "the source lies in L0C (CO1)");
    bool to_l1 = dst.memory == Memory::L1;
    if (dst.memory != Memory::GM && !to_l1) call.fault("parameter", "the destination lies in GM or L1");
    if (!converts(p.quantPre, src.type, dst.type)) {
        call.fault("parameter", text_of("quantPre %s does not convert %s to %s", name_of_mode(p.quantPre),
                                        name_of(src.type), name_of(dst.type)));
    }
    if (to_l1 && row_major) call.fault("parameter", "L1 takes Nz only (CFG_NZ)");
    if (to_l1 && p.quantPre == NoQuant) call.fault("parameter", "results go to L1 converted to 16 or 8 bits");
    if (to_l1) call.aligned(dst, group_bytes, "the destination");
    if (p.unitFlag == 1 || p.unitFlag == 2) call.fault("parameter", "unitFlag of Fixpipe is 0 or 3");
    if (is_columnwise(p.quantPre) && scales == nullptr && !call.core.fixpipe_scales_set) {
        call.fault("parameter", text_of("%s needs scales of columns: a LocalTensor<uint64_t>, or SetFixPipeConfig",
                                        name_of_mode(p.quantPre)));
    }
    if (scales != nullptr && !is_columnwise(p.quantPre)) {
        call.fault("parameter", text_of("%s takes no scales of columns", name_of_mode(p.quantPre)));
    }
    bool byte = p.quantPre == QF322B8_PRE || p.quantPre == REQ8;
    if (byte && (p.deqScalar >> 46 & 1) != (dst.type == Type::s8)) {
        call.fault("parameter", "bit 46 of deqScalar says whether the result is signed, and does not fit its type");
    }
    if (p.isChannelSplit && (row_major || dst.type != Type::f32)) {
        call.fault("parameter", "isChannelSplit is for float in Nz");
    }
    if (!row_major && p.nSize % 16 != 0) call.fault("parameter", "nSize is a multiple of 16 in Nz");
}

}  // namespace

void fixpipe(const Operand& dst, const Operand& src, const Operand* scales, bool row_major,
             const AscendC::FixpipeParamsV220& p, int line) {
    Call call("Fixpipe", Pipe::FIX, line);
    check(call, dst, src, scales, row_major, p);
    if (!call.sound()) return;
    Tile t{};
    t.n = p.nSize;
    t.m = p.mSize;
    t.matrices = row_major ? static_cast<uint64_t>(p.ndNum) : 1;
    t.size = bits_of(dst.type) / 8;
    t.row_major = row_major;
    t.width = t.size == 1 ? 32 : p.isChannelSplit ? 8 : 16;
    t.src_stride = p.srcStride * 64;
    // Units of fractals of L0C, and elements (from memory).
    t.src_matrix = p.srcNdStride * 1024;
    t.dst_matrix = p.dstNdStride * static_cast<int64_t>(t.size);
    t.dst_stride = row_major ? p.dstStride * static_cast<int64_t>(t.size) : p.dstStride * static_cast<int64_t>(group_bytes);
    touch_tile(call, dst, src, t);
    bool columnwise = is_columnwise(p.quantPre);
    Operand columns = scales != nullptr ? *scales : columnwise ? call.core.fixpipe_scales : Operand{};
    if (columnwise) {
        if (columns.memory != Memory::L1 && columns.memory != Memory::FB) {
            call.fault("parameter", "scales of columns lie in L1 or the fixpipe buffer");
        }
        call.aligned(columns, columns.memory == Memory::FB ? 128 : group_bytes, "the scales");
        call.reads(columns, contiguous(t.n * 8));
    }
    if (p.unitFlag == 3) call.drains_unit(src.address);
    uint64_t bytes = t.matrices * t.m * t.n * t.size;
    call.in_order();
    call.costs(costs::fixpipe(machine->chip, bytes, t.m * t.n * t.matrices), costs::fixpipe_latency);
    call.count(dst.memory == Memory::GM ? Counter::L0cToGm : Counter::L0cToL1, bytes);
    Conversion conversion{p.quantPre, p.reluEn, src.type, dst.type};
    uint64_t scalar = p.deqScalar;
    int atomic = dst.memory == Memory::GM ? call.core.atomic : 0;
    bool overflow = machine->run.overflow != 0 && dst.type == Type::f16;
    call.issue([=](Core& core) {
        uint8_t* to = data(core, dst);
        const uint8_t* from = data(core, src);
        const uint8_t* factors = columnwise ? data(core, columns) : nullptr;
        uint8_t row[64];
        bool infinite = false;
        for (uint64_t matrix = 0; matrix < t.matrices; ++matrix) {
            for (uint64_t i = 0; i < t.m; ++i) {
                for (uint64_t j = 0; j < t.n;) {
                    uint64_t count = t.run(j);
                    const uint8_t* source = from + t.source(matrix, i, j);
                    for (uint64_t e = 0; e < count; ++e) {
                        uint64_t scale = scalar;
                        if (factors != nullptr) std::memcpy(&scale, factors + (j + e) * 8, 8);
                        conversion.apply(source + e * 4, row + e * t.size, scale);
                        infinite |= overflow && (row[e * 2 + 1] & 0x7F) == 0x7C && row[e * 2] == 0;
                    }
                    transfer(to + t.target(matrix, i, j), row, count * t.size, dst.type, atomic);
                    j += count;
                }
            }
        }
        if (infinite) machine->fault("overflow", {"Fixpipe", line}, core, "a result is beyond the largest half");
    });
}

void set_fixpipe_scales(const Operand& scales) {
    Core& core = running();
    core.fixpipe_scales = scales;
    core.fixpipe_scales_set = true;
}

}  // namespace twin
