// Comparisons and selections.
#include "twin/vector_compare.h"

#include <cstring>

#include "vector_call.h"
#include "vector_values.h"

namespace twin {

namespace {

using AscendC::CMPMODE;
using AscendC::SELMODE;

template <typename Number>
bool holds(CMPMODE mode, Number a, Number b) {
    switch (mode) {
        case CMPMODE::LT: return a < b;
        case CMPMODE::GT: return a > b;
        case CMPMODE::EQ: return a == b;
        case CMPMODE::LE: return a <= b;
        case CMPMODE::GE: return a >= b;
        default: return a != b;
    }
}

// Sources of a comparison; a scalar stands for the second one where that has no bits.
struct Comparison {
    CMPMODE mode;
    Type type;
    Iteration iteration;
    Walk a, b;
    uint64_t scalar;
};

// Bits of the active lanes of one repeat.
LaneMask compare_repeat(const uint8_t* ub, const Comparison& work, int64_t repeat) {
    const LaneMask& mask = work.iteration.at(repeat);
    const int count = mask.end();
    LaneMask bits;
    auto compare = [&](auto* a, auto* b, auto scalar) {
        load(a, work.type, ub, work.a, repeat, count);
        if (work.b.bits != 0)
            load(b, work.type, ub, work.b, repeat, count);
        else
            std::fill_n(b, count, scalar);
        for (int i = 0; i < count; ++i)
            if (mask[i] && holds(work.mode, a[i], b[i])) bits.bits[i / 64] |= uint64_t{1} << (i % 64);
    };
    if (is_float(work.type)) {
        float a[most_lanes], b[most_lanes];
        compare(a, b, float_of(work.type, work.scalar));
    } else {
        int64_t a[most_lanes], b[most_lanes];
        compare(a, b, integer_of(work.type, work.scalar));
    }
    return bits;
}

void check_mode(VectorCall& call, CMPMODE mode, Type type) {
    if (type == Type::s32 && mode != CMPMODE::EQ)
        call.fault("parameter", "int32_t compares by CMPMODE::EQ alone: take Max or Sub before it, or cast to float");
}

// Lanes of a comparison into UB: whole repeats, whatever the mask.
Iteration whole_repeats(VectorCall& call, const Lanes& lanes, Type type) {
    const int per_repeat = lanes_of(type);
    const Iteration iteration = call.iterate(lanes, per_repeat);
    if (lanes.kind == Lanes::Kind::Total && lanes.count % per_repeat != 0)
        call.fault("count", text_of("%lld elements: Compare works on multiples of 256 B, which are %d elements",
                                    static_cast<long long>(lanes.count), per_repeat));
    return Iteration::masked(LaneMask::first(per_repeat), iteration.repeats, per_repeat);
}

// Bits go to dst one repeat after another.
void compare_to(VectorCall& call, const Operand& dst, const Comparison& work) {
    const int64_t bytes = work.iteration.lanes / 8;
    call.in_ub(dst, "dst");
    call.writes(dst, contiguous(static_cast<uint64_t>(bytes * work.iteration.repeats)));
    std::vector<std::vector<Range>> written;
    for (int64_t r = 0; r < work.iteration.repeats; ++r) {
        const int64_t begin = static_cast<int64_t>(dst.address) + r * bytes;
        written.push_back({{begin, begin + bytes}});
    }
    call.apart(written, ranges_of(work.a, work.iteration), "src0");
    if (work.b.bits != 0) call.apart(written, ranges_of(work.b, work.iteration), "src1");
    if (!call.sound() || work.iteration.repeats == 0) return;
    std::vector<Walk> reads{work.a};
    if (work.b.bits != 0) reads.push_back(work.b);
    call.takes(work.iteration, 1, reads);
    call.issue([=](Core& core) {
        for (int64_t r = 0; r < work.iteration.repeats; ++r) {
            const LaneMask bits = compare_repeat(core.bytes(Memory::UB), work, r);
            std::memcpy(data(core, dst) + r * bytes, bits.bits, static_cast<size_t>(bytes));
        }
    });
}

}  // namespace

void compare(const Operand& dst, const Operand& src0, const Operand& src1, CMPMODE mode, const Lanes& lanes,
             const AscendC::BinaryRepeatParams& params, int line) {
    VectorCall call("Compare", line);
    check_mode(call, mode, src0.type);
    Comparison work{mode, src0.type, whole_repeats(call, lanes, src0.type), {}, {}, 0};
    work.a = call.source("src0", src0, work.iteration, params.src0BlkStride, params.src0RepStride);
    work.b = call.source("src1", src1, work.iteration, params.src1BlkStride, params.src1RepStride);
    compare_to(call, dst, work);
}

void compare_scalar(const Operand& dst, const Operand& src, uint64_t scalar, CMPMODE mode, const Lanes& lanes,
                    const AscendC::UnaryRepeatParams& params, int line) {
    VectorCall call("Compares", line);
    check_mode(call, mode, src.type);
    Comparison work{mode, src.type, whole_repeats(call, lanes, src.type), {}, {}, scalar};
    work.a = call.source("src0", src, work.iteration, params.srcBlkStride, params.srcRepStride);
    compare_to(call, dst, work);
}

void compare_to_register(const Operand& src0, const Operand& src1, CMPMODE mode, const Lanes& lanes,
                         const AscendC::BinaryRepeatParams& params, int line) {
    VectorCall call("Compare", line);
    check_mode(call, mode, src0.type);
    Comparison work{mode, src0.type, call.iterate(lanes, lanes_of(src0.type)), {}, {}, 0};
    work.a = call.source("src0", src0, work.iteration, params.src0BlkStride, params.src0RepStride);
    work.b = call.source("src1", src1, work.iteration, params.src1BlkStride, params.src1RepStride);
    if (!call.sound()) return;
    call.takes(work.iteration, 1, {work.a, work.b});
    call.issue([=](Core& core) {
        const LaneMask bits = compare_repeat(core.bytes(Memory::UB), work, 0);
        std::memcpy(core.vector.compared, bits.bits, sizeof bits.bits);
        core.vector.has_compared = true;
    });
}

namespace {

// A selection; the mask is the register where it has no bytes, and a scalar the second source where that has no bits.
struct Selection {
    bool one_mask;  // every repeat takes the first bits
    Type type;
    Iteration iteration;
    Walk dst, a, b;
    Operand mask;
    uint64_t scalar;
};

LaneMask mask_of(Core& core, const Selection& work, int64_t repeat) {
    LaneMask bits;
    if (work.mask.bytes == 0) {
        std::memcpy(bits.bits, core.vector.compared, sizeof bits.bits);
        return bits;
    }
    const int64_t lanes = work.iteration.lanes, active = work.iteration.at(repeat).end();
    const int64_t begin = work.one_mask ? 0 : repeat * lanes / 8;
    std::memcpy(bits.bits, data(core, work.mask) + begin, static_cast<size_t>((active + 7) / 8));
    return bits;
}

void execute(Core& core, const Selection& work) {
    uint8_t* ub = core.bytes(Memory::UB);
    for (int64_t r = 0; r < work.iteration.repeats; ++r) {
        const LaneMask& active = work.iteration.at(r);
        const LaneMask chosen = mask_of(core, work, r);
        int64_t a[most_lanes], b[most_lanes];
        load(a, work.type, ub, work.a, r, active.end());
        if (work.b.bits != 0)
            load(b, work.type, ub, work.b, r, active.end());
        else
            std::fill_n(b, most_lanes, integer_of(work.type, work.scalar));
        for (int i = 0; i < active.end(); ++i) a[i] = chosen[i] ? a[i] : b[i];
        store(ub, work.type, work.dst, r, active, a);
    }
}

Selection begin(VectorCall& call, const Operand& dst, const Operand& src0, const Iteration& iteration,
                const AscendC::BinaryRepeatParams& params) {
    call.needs_pipe("compute with numbers instead, or And and Or bit masks");
    Selection work{false, dst.type, iteration, {}, {}, {}, {}, 0};
    work.a = call.source("src0", src0, iteration, params.src0BlkStride, params.src0RepStride);
    work.dst = call.destination(dst, iteration, params.dstBlkStride, params.dstRepStride);
    call.apart(work.dst, work.a, iteration, "src0");
    call.written_once(work.dst, iteration);
    return work;
}

void second_source(VectorCall& call, Selection& work, const Operand& src1, const AscendC::BinaryRepeatParams& params) {
    work.b = call.source("src1", src1, work.iteration, params.src1BlkStride, params.src1RepStride);
    call.apart(work.dst, work.b, work.iteration, "src1");
}

// Bits of a mask in UB, which also lets the library use its own memory.
void mask_from(VectorCall& call, Selection& work, const Operand& mask, SELMODE mode) {
    work.mask = mask;
    work.one_mask = mode == SELMODE::VSEL_CMPMASK_SPR;
    const Iteration& it = work.iteration;
    const int64_t lanes = work.one_mask ? it.lanes : (it.repeats - 1) * it.lanes + it.last.end();
    call.in_ub(mask, "selMask");
    if (it.repeats > 0) call.reads(mask, contiguous(static_cast<uint64_t>((lanes + 7) / 8)));
}

void issue(VectorCall& call, const Selection& work) {
    if (!call.sound() || work.iteration.repeats == 0) return;
    std::vector<Walk> reads{work.a};
    if (work.b.bits != 0) reads.push_back(work.b);
    call.takes(work.iteration, 1, reads, {work.dst});
    call.issue([work, site = call.site()](Core& core) {
        execute(core, work);
        if (work.mask.bytes != 0) spoil_reserved(core, site);
    });
}

}  // namespace

void select(const Operand& dst, const Operand& mask, const Operand& src0, const Operand& src1, SELMODE mode,
            const Lanes& lanes, const AscendC::BinaryRepeatParams& params, int line) {
    VectorCall call("Select", line);
    if (mode == SELMODE::VSEL_TENSOR_SCALAR_MODE)
        call.fault("parameter", "VSEL_TENSOR_SCALAR_MODE selects between a tensor and a scalar; src1 is a tensor");
    Selection work = begin(call, dst, src0, call.iterate(lanes, lanes_of(dst.type)), params);
    second_source(call, work, src1, params);
    mask_from(call, work, mask, mode);
    issue(call, work);
}

void select_scalar(const Operand& dst, const Operand& mask, const Operand& src0, uint64_t src1, SELMODE mode,
                   const Lanes& lanes, const AscendC::BinaryRepeatParams& params, int line) {
    VectorCall call("Select", line);
    if (mode != SELMODE::VSEL_TENSOR_SCALAR_MODE)
        call.fault("parameter", "src1 is a scalar: that is VSEL_TENSOR_SCALAR_MODE");
    Selection work = begin(call, dst, src0, call.iterate(lanes, lanes_of(dst.type)), params);
    work.scalar = src1;
    mask_from(call, work, mask, mode);
    issue(call, work);
}

void select_by_register(const Operand& dst, const Operand& src0, const Operand& src1, SELMODE mode, int64_t repeats,
                        const AscendC::BinaryRepeatParams& params, int line) {
    VectorCall call("Select", line);
    if (mode != SELMODE::VSEL_CMPMASK_SPR) call.fault("parameter", "the register's bits are VSEL_CMPMASK_SPR");
    const Lanes lanes{Lanes::Kind::Bits, 0, {0, 0}, repeats, false};
    Selection work = begin(call, dst, src0, call.iterate(lanes, lanes_of(dst.type)), params);
    second_source(call, work, src1, params);
    work.mask.bytes = 0;
    if (!call.sound() || work.iteration.repeats == 0) return;
    call.takes(work.iteration, 1, {work.a, work.b}, {work.dst});
    call.issue([work, site = call.site()](Core& core) {
        if (!core.vector.has_compared)
            machine->fault("uninitialised", site, core, "reads the register of compared bits, which nothing has set");
        execute(core, work);
    });
}

}  // namespace twin
