// Functions that the library computes by several instructions.
#include "twin/vector_math.h"

#include <cmath>
#include <cstring>

#include "vector_call.h"
#include "vector_round.h"
#include "vector_values.h"

namespace twin {

namespace {

// Least scratch memory in units of 256 B, of float and of half; cycles for 256 B of elements, an assumption from the
// instructions that such functions take.
struct Needs {
    int64_t f32, f16;
    double cycles;
};

Needs needs_of(MathOp op, bool scalar) {
    switch (op) {
        case MathOp::Tanh: return {1, 4, 20};
        case MathOp::Erf: return {3, 8, 30};
        case MathOp::Sin: case MathOp::Cos: return {3, 8, 30};
        case MathOp::Power: return {scalar ? 5 : 4, 14, 60};
        case MathOp::Log2: return {0, 2, 6};
        case MathOp::Floor: return {0, 2, 2};
        case MathOp::Ceil: case MathOp::Trunc: return {1, 2, 2};
        case MathOp::Round: return {0, 1, 2};
        case MathOp::Sigmoid: return {1, 1, 12};
        default: return {3, 3, 24};
    }
}

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

double value_of(MathOp op, double x) {
    switch (op) {
        case MathOp::Tanh: return std::tanh(x);
        case MathOp::Erf: return std::erf(x);
        case MathOp::Sin: return std::sin(x);
        case MathOp::Cos: return std::cos(x);
        case MathOp::Log2: return std::log2(x);
        case MathOp::Floor: return std::floor(x);
        case MathOp::Ceil: return std::ceil(x);
        // Ties to even: from memory.
        case MathOp::Round: return round_integer(x, Rounding::CAST_RINT);
        case MathOp::Trunc: return std::trunc(x);
        case MathOp::Sigmoid: return sigmoid(x);
        // x · sigmoid(2·sqrt(2/π)·(x + 0.044715·x³)), the form with tanh.
        default: return x * sigmoid(1.5957691216057308 * (x + 0.044715 * x * x * x));
    }
}

struct Function {
    MathOp op;
    Type type;
    int64_t count;
    Operand dst, tmp;
    uint64_t scratch;    // bytes of tmp that are lost
};

// Checks what all of them share, and says how much scratch memory is used. Less than what all elements take at once
// makes the library go round by round.
void check_scratch(VectorCall& call, Function& work, const Needs& needs, const Operand* tmp) {
    const int64_t bytes = work.count * bits_of(work.type) / 8;
    const int64_t factor = work.type == Type::f16 ? needs.f16 : needs.f32;
    const auto least = static_cast<uint64_t>(work.op == MathOp::Gelu ? 3 * work.count * 4 : factor * repeat_bytes);
    const auto most = static_cast<uint64_t>(factor * std::max(bytes, repeat_bytes));
    if (tmp == nullptr) {
        call.needs_pipe("give it a buffer");
        return;
    }
    work.tmp = *tmp;
    if (least == 0) return;
    call.in_ub(*tmp, "sharedTmpBuffer");
    if (tmp->bytes < least) {
        call.fault("scratch memory", text_of("sharedTmpBuffer has %lld bytes; %lld elements need at least %lld",
                                             static_cast<long long>(tmp->bytes), static_cast<long long>(work.count),
                                             static_cast<long long>(least)));
        return;
    }
    work.scratch = std::min(tmp->bytes, std::max(most, least));
    call.writes(*tmp, contiguous(work.scratch));
    call.disjoint(*tmp, work.scratch, work.dst, static_cast<uint64_t>(bytes), "sharedTmpBuffer and dst");
}

// Cycles and registers of a call that the library makes of many.
Iteration prepare(VectorCall& call, const Function& work, const Needs& needs) {
    const Iteration iteration = call.iterate(total(work.count), lanes_of(work.type));
    const int64_t bytes = work.count * bits_of(work.type) / 8;
    const int64_t factor = std::max<int64_t>(1, work.type == Type::f16 ? needs.f16 : needs.f32);
    const int64_t at_once = std::max<int64_t>(repeat_bytes, static_cast<int64_t>(work.scratch) / factor);
    const double rounds = work.scratch == 0 ? 1 : std::ceil(static_cast<double>(bytes) / static_cast<double>(at_once));
    if (iteration.repeats > 0) {
        const double overhead = rounds * needs.cycles * (costs::vector_start + costs::vector_latency) / 2;
        call.takes(iteration, needs.cycles + overhead / static_cast<double>(iteration.repeats));
    }
    return iteration;
}

void spoil_scratch(Core& core, const Function& work) {
    if (work.scratch == 0) return;
    std::memset(data(core, work.tmp), 0xff, work.scratch);
    core.shadow(Memory::UB).forget(work.tmp.address, work.tmp.address + work.scratch);
}

Walk in_row(VectorCall& call, const char* what, const Operand& operand, const Iteration& iteration) {
    return call.source(what, operand, iteration, 1, blocks_per_repeat);
}

// Sources may be the destination, and may not share bytes with scratch memory.
void check_source(VectorCall& call, const Function& work, const Walk& to, const Walk& from, const Operand& source,
                  const Iteration& iteration) {
    const auto bytes = static_cast<uint64_t>(work.count) * bits_of(work.type) / 8;
    call.apart(to, from, iteration, "a source");
    if (work.scratch > 0) call.disjoint(work.tmp, work.scratch, source, bytes, "sharedTmpBuffer and a source");
}

}  // namespace

void math(const MathCall& what, const Operand& dst, const Operand& src, const Operand* tmp) {
    VectorCall call(what.name, what.line);
    Function work{what.op, src.type, what.count, dst, {}, 0};
    const Needs needs = needs_of(what.op, false);
    check_scratch(call, work, needs, tmp);
    const Iteration iteration = prepare(call, work, needs);
    const Walk from = in_row(call, "src", src, iteration);
    const Walk to = call.destination(dst, iteration, 1, blocks_per_repeat);
    check_source(call, work, to, from, src, iteration);
    if (!call.sound() || iteration.repeats == 0) return;
    call.issue([=](Core& core) {
        uint8_t* ub = core.bytes(Memory::UB);
        for (int64_t r = 0; r < iteration.repeats; ++r) {
            const LaneMask& mask = iteration.at(r);
            float values[most_lanes];
            load(values, work.type, ub, from, r, mask.end());
            for (int i = 0; i < mask.end(); ++i) values[i] = static_cast<float>(value_of(work.op, values[i]));
            store(ub, work.type, to, r, mask, values);
        }
        spoil_scratch(core, work);
    });
}

void power(const MathCall& what, const Operand& dst, const Operand* base, const Operand* exponent, uint64_t scalar,
           const Operand* tmp) {
    VectorCall call(what.name, what.line);
    Function work{what.op, dst.type, what.count, dst, {}, 0};
    const Needs needs = needs_of(what.op, base == nullptr || exponent == nullptr);
    check_scratch(call, work, needs, tmp);
    const Iteration iteration = prepare(call, work, needs);
    const Walk to = call.destination(dst, iteration, 1, blocks_per_repeat);
    Walk bases, exponents;
    if (base != nullptr) {
        bases = in_row(call, "src0", *base, iteration);
        check_source(call, work, to, bases, *base, iteration);
    }
    if (exponent != nullptr) {
        exponents = in_row(call, "src1", *exponent, iteration);
        check_source(call, work, to, exponents, *exponent, iteration);
    }
    if (!call.sound() || iteration.repeats == 0) return;
    call.issue([=, site = call.site()](Core& core) {
        uint8_t* ub = core.bytes(Memory::UB);
        float x[most_lanes], y[most_lanes];
        std::fill_n(x, most_lanes, float_of(work.type, scalar));
        std::fill_n(y, most_lanes, float_of(work.type, scalar));
        for (int64_t r = 0; r < iteration.repeats; ++r) {
            const LaneMask& mask = iteration.at(r);
            if (bases.bits != 0) load(x, work.type, ub, bases, r, mask.end());
            if (exponents.bits != 0) load(y, work.type, ub, exponents, r, mask.end());
            float results[most_lanes];
            for (int i = 0; i < mask.end(); ++i)
                results[i] = static_cast<float>(std::pow(static_cast<double>(x[i]), static_cast<double>(y[i])));
            store(ub, work.type, to, r, mask, results);
        }
        spoil_scratch(core, work);
        spoil_reserved(core, site);
    });
}

}  // namespace twin
