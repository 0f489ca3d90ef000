// Lane-wise calls: checks, and what they do when their turn comes.
#include "twin/vector_arithmetic.h"

#include <cmath>

#include "vector_call.h"
#include "vector_lanewise.h"
#include "vector_values.h"

namespace twin {

namespace {

// Everything that the instruction needs to know when it executes. Operands that it lacks have no bits.
struct Lanewise {
    VectorOp op;
    Iteration iteration;
    Type type;         // of the destination
    Type source_type;  // of the sources, which are walked by their own strides
    Walk dst, a, b;
    LaneParameters parameters;
    Site site;
};

// Cycles of a repeat. Exponentials of float are fitted to the published time of a softmax of 64×256, and those of half
// take as long for an element; that the others with a table take as long as them is an assumption.
double cycles_of(VectorOp op, Type type) {
    switch (op) {
        case VectorOp::Exp: case VectorOp::Ln: return type == Type::f16 ? 8 : 4;
        case VectorOp::Div: case VectorOp::Sqrt: case VectorOp::Rsqrt: case VectorOp::Reciprocal: return 4;
        default: return 1;
    }
}

void check_results(Core& core, const Lanewise& work, const FloatLanes& lanes, const LaneMask& mask) {
    if (!machine->run.overflow) return;
    for (int lane = 0; lane < mask.end(); ++lane) {
        const bool finite = std::isfinite(lanes.a[lane]) && (work.b.bits == 0 || std::isfinite(lanes.b[lane]));
        if (mask[lane] && finite) check_overflow(core, work.site, work.type, lanes.d[lane]);
    }
}

template <typename LanesOfKind, typename Kernel>
void execute(Core& core, const Lanewise& work, Kernel kernel) {
    uint8_t* ub = core.bytes(Memory::UB);
    LanesOfKind lanes;
    for (int64_t r = 0; r < work.iteration.repeats; ++r) {
        const LaneMask& mask = work.iteration.at(r);
        const int count = mask.end();
        load(lanes.a, work.source_type, ub, work.a, r, count);
        if (work.b.bits != 0) load(lanes.b, work.source_type, ub, work.b, r, count);
        if (accumulates(work.op)) load(lanes.d, work.type, ub, work.dst, r, count);
        kernel(lanes, count, work.parameters);
        if constexpr (std::is_same_v<LanesOfKind, FloatLanes>) check_results(core, work, lanes, mask);
        store(ub, work.type, work.dst, r, mask, lanes.d);
    }
}

void issue(VectorCall& call, Lanewise work) {
    if (!call.sound() || work.iteration.repeats == 0) return;
    std::vector<Walk> reads{work.a};
    if (work.b.bits != 0) reads.push_back(work.b);
    call.takes(work.iteration, cycles_of(work.op, work.type), reads, {work.dst});
    work.site = call.site();
    call.issue([work = std::move(work)](Core& core) {
        if (is_float(work.type))
            execute<FloatLanes>(core, work, float_kernel(work.op));
        else
            execute<IntLanes>(core, work, int_kernel(work.op));
    });
}

// Walks of a destination and one source, checked.
Lanewise begin(VectorCall& call, const LanewiseCall& what, const Operand& dst, const Operand& src,
               const char* src_name, int64_t dst_block, int64_t dst_repeat, int64_t src_block, int64_t src_repeat) {
    Lanewise work;
    work.op = what.op;
    work.type = dst.type;
    work.source_type = src.type;
    work.iteration = call.iterate(what.lanes, lanes_of(dst.type, src.type));
    work.parameters.half = dst.type == Type::f16;
    work.a = call.source(src_name, src, work.iteration, src_block, src_repeat);
    work.dst = call.destination(dst, work.iteration, dst_block, dst_repeat);
    if (accumulates(what.op)) {
        call.source("dst", dst, work.iteration, dst_block, dst_repeat);
    }
    return work;
}

// Additions and the like into an operand that all repeats share are done one after the other.
bool chains(VectorOp op) {
    return op == VectorOp::Add || op == VectorOp::Sub || op == VectorOp::Mul || op == VectorOp::Max ||
           op == VectorOp::Min;
}

}  // namespace

void binary(const LanewiseCall& what, const Operand& dst, const Operand& src0, const Operand& src1,
            const AscendC::BinaryRepeatParams& params) {
    VectorCall call(what.name, what.line);
    Lanewise work = begin(call, what, dst, src0, "src0", params.dstBlkStride, params.dstRepStride,
                          params.src0BlkStride, params.src0RepStride);
    work.b = call.source("src1", src1, work.iteration, params.src1BlkStride, params.src1RepStride);
    call.apart(work.dst, work.a, work.iteration, "src0");
    const bool chained = chains(what.op) && work.dst == work.b && work.b.repeat_stride == 0;
    if (!chained) {
        call.apart(work.dst, work.b, work.iteration, "src1");
        call.written_once(work.dst, work.iteration);
    }
    issue(call, std::move(work));
}

void unary(const LanewiseCall& what, const Operand& dst, const Operand& src,
           const AscendC::UnaryRepeatParams& params) {
    VectorCall call(what.name, what.line);
    Lanewise work = begin(call, what, dst, src, "src", params.dstBlkStride, params.dstRepStride, params.srcBlkStride,
                          params.srcRepStride);
    call.apart(work.dst, work.a, work.iteration, "src");
    call.written_once(work.dst, work.iteration);
    issue(call, std::move(work));
}

void with_scalar(const LanewiseCall& what, const Operand& dst, const Operand& src, uint64_t scalar,
                 const AscendC::UnaryRepeatParams& params, bool rounds) {
    VectorCall call(what.name, what.line);
    auto strides = params;
    const int lanes = lanes_of(dst.type, src.type);
    if (what.lanes.kind == Lanes::Kind::Total) strides.srcRepStride = row_stride(src.type, lanes);
    Lanewise work = begin(call, what, dst, src, "src", strides.dstBlkStride, strides.dstRepStride,
                          strides.srcBlkStride, strides.srcRepStride);
    call.apart(work.dst, work.a, work.iteration, "src");
    call.written_once(work.dst, work.iteration);
    if (is_float(src.type))
        work.parameters.scalar = float_of(src.type, scalar);
    else
        work.parameters.integer = integer_of(src.type, scalar);
    work.parameters.round_shift = rounds;
    if (what.op == VectorOp::ShiftLeft || what.op == VectorOp::ShiftRight)
        call.within("scalarValue", work.parameters.integer, 0, bits_of(src.type));
    issue(call, std::move(work));
}

}  // namespace twin
