// Reductions of repeats, of blocks, and of all.
#include "twin/vector_reduce.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "vector_call.h"
#include "vector_values.h"

namespace twin {

namespace {

using AscendC::ReduceOrder;
using AscendC::ReduceType;

// A value and where it was; no lane at all where `place` is negative.
struct Extreme {
    float value;
    int64_t place;
};

// Additions of f16 round to it.
float rounded(Type type, float value) {
    return type == Type::f16 ? float_of(Type::f16, bits_of_float(Type::f16, value)) : value;
}

// Neighbours are added, then their sums, and so on; `count` is a power of two.
float sum_of(Type type, float* values, int count) {
    for (; count > 1; count /= 2)
        for (int i = 0; i < count / 2; ++i) values[i] = rounded(type, values[2 * i] + values[2 * i + 1]);
    return values[0];
}

bool better(ReduceType type, float a, float b) {
    if (std::isnan(b)) return false;
    return std::isnan(a) || (type == ReduceType::MAX ? a > b : a < b);
}

Extreme extreme_of(ReduceType type, const float* values, const LaneMask& mask, int begin, int end) {
    Extreme best{0, -1};
    for (int i = begin; i < end; ++i)
        if (mask[i] && (best.place < 0 || better(type, values[i], best.value))) best = {values[i], i};
    return best;
}

// The result of lanes [begin, end): inactive ones count nothing.
Extreme reduce_lanes(ReduceType type, Type element, const float* values, const LaneMask& mask, int begin, int end) {
    if (type != ReduceType::SUM) return extreme_of(type, values, mask, begin, end);
    float taken[most_lanes];
    int64_t some = -1;
    for (int i = begin; i < end; ++i) {
        taken[i - begin] = mask[i] ? values[i] : 0.0f;
        if (mask[i]) some = 0;
    }
    return {some < 0 ? 0 : sum_of(element, taken, end - begin), some};
}

void check_sum(Core& core, Site site, Type type, const float* values, const LaneMask& mask, float sum) {
    if (!machine->run.overflow) return;
    for (int i = 0; i < mask.end(); ++i)
        if (mask[i] && !std::isfinite(values[i])) return;
    check_overflow(core, site, type, sum);
}

// How a result lies in memory: a value, an index, or both.
struct Result {
    ReduceOrder order;
    Type type;

    int64_t element() const { return bits_of(type) / 8; }
    int64_t bytes() const {
        if (order == ReduceOrder::ORDER_ONLY_INDEX) return 4;
        return order == ReduceOrder::ORDER_ONLY_VALUE ? element() : 2 * element();
    }

    void write(uint8_t* to, const Extreme& extreme) const {
        const auto size = static_cast<size_t>(element());
        const uint64_t value = bits_of_float(type, extreme.value);
        const auto index = static_cast<uint64_t>(extreme.place);
        switch (order) {
            case ReduceOrder::ORDER_ONLY_VALUE: std::memcpy(to, &value, size); break;
            case ReduceOrder::ORDER_ONLY_INDEX: std::memcpy(to, &index, 4); break;
            case ReduceOrder::ORDER_VALUE_INDEX:
                std::memcpy(to, &value, size);
                std::memcpy(to + size, &index, size);
                break;
            case ReduceOrder::ORDER_INDEX_VALUE:
                std::memcpy(to, &index, size);
                std::memcpy(to + size, &value, size);
                break;
        }
    }
};

struct Reduction {
    ReduceType type;
    Type element;
    Iteration iteration;
    Walk src;
    Operand dst;
    int64_t step;       // bytes between the results of repeats
    int parts;          // results of a repeat
    Result result;
    Site site;
};

// Bits of the parts that have an active lane, as bytes of their results.
uint32_t written_bytes(const Reduction& work, const LaneMask& mask) {
    const int lanes = work.iteration.lanes / work.parts;
    const auto size = static_cast<uint32_t>(work.result.bytes());
    uint32_t bytes = 0;
    for (int part = 0; part < work.parts; ++part)
        for (int i = 0; i < lanes; ++i)
            if (mask[part * lanes + i]) bytes |= ((1u << size) - 1) << (static_cast<uint32_t>(part) * size);
    return bytes;
}

Region results_of(const Reduction& work, const LaneMask& mask, int64_t first, int64_t count) {
    Region region = contiguous(static_cast<uint64_t>(work.parts * work.result.bytes()), first * work.step);
    region.count[1] = static_cast<uint64_t>(count);
    region.stride[1] = work.step;
    region.masked = true;
    region.lanes[0] = written_bytes(work, mask);
    return region;
}

void write_results(VectorCall& call, const Reduction& work) {
    const Iteration& it = work.iteration;
    if (it.repeats == 0) return;
    if (it.repeats > 1) call.writes(work.dst, results_of(work, it.mask, 0, it.repeats - 1));
    call.writes(work.dst, results_of(work, it.last, it.repeats - 1, 1));
    std::vector<std::vector<Range>> written;
    const int64_t size = work.parts * work.result.bytes();
    for (int64_t r = 0; r < it.repeats; ++r) {
        const int64_t begin = static_cast<int64_t>(work.dst.address) + r * work.step;
        written.push_back({{begin, begin + size}});
    }
    call.apart(written, ranges_of(work.src, it), "src");
}

void execute(Core& core, const Reduction& work) {
    const int lanes = work.iteration.lanes / work.parts;
    for (int64_t r = 0; r < work.iteration.repeats; ++r) {
        const LaneMask& mask = work.iteration.at(r);
        float values[most_lanes];
        load(values, work.element, core.bytes(Memory::UB), work.src, r, mask.end());
        for (int part = 0; part < work.parts; ++part) {
            Extreme extreme = reduce_lanes(work.type, work.element, values, mask, part * lanes, (part + 1) * lanes);
            if (extreme.place < 0) continue;
            if (work.type == ReduceType::SUM) check_sum(core, work.site, work.element, values, mask, extreme.value);
            work.result.write(data(core, work.dst) + r * work.step + part * work.result.bytes(), extreme);
        }
    }
}

// Cycles of a repeat. Reductions of half are slower than those of float: by how much is an assumption.
double cycles_of(Type type) { return type == Type::f16 ? 4 : 1; }

}  // namespace

void reduce(const ReduceCall& what, Extent extent, const Operand& dst, const Operand& src, Field<16> dst_repeat,
            Field<16> src_block, Field<16> src_repeat, ReduceOrder order) {
    VectorCall call(what.name, what.line);
    const Iteration iteration = call.iterate(what.lanes, lanes_of(src.type));
    const int parts = extent == Extent::Block ? blocks_per_repeat : 1;
    const Result result{order, src.type};
    Reduction work{what.type, src.type, iteration, {}, dst, dst_repeat * parts * result.bytes(), parts, result,
                   call.site()};
    work.src = call.source("src", src, iteration, src_block, src_repeat, UINT16_MAX);
    call.within("dstRepStride", dst_repeat, iteration.repeats > 1, UINT16_MAX);
    // A repeat's results lie at a multiple of their size; half's of 2 B, float's of 4 B for one a repeat. From memory.
    call.in_ub(dst, "dst", static_cast<uint64_t>(extent == Extent::Block ? parts * result.bytes() : result.element()));
    write_results(call, work);
    if (!call.sound() || iteration.repeats == 0) return;
    call.takes(iteration, cycles_of(src.type), {work.src});
    call.issue([work](Core& core) { execute(core, work); });
}

namespace {

// Elements of scratch memory: the results of repeats in whole blocks, and with an index those of two further rounds.
// That there are always three rounds is from memory.
int64_t work_elements(ReduceType type, Type element, int64_t repeats, bool with_index) {
    const int64_t block = block_bytes * 8 / bits_of(element), lanes = lanes_of(element);
    const auto up = [](int64_t value, int64_t unit) { return (value + unit - 1) / unit * unit; };
    if (type == ReduceType::SUM) return up(repeats, block);
    const int64_t first = up(2 * repeats, block);
    if (!with_index) return first;
    const int64_t second = up(2 * (up(first, lanes) / lanes), block);
    return first + second + up(2 * (up(second, lanes) / lanes), block);
}

struct Whole {
    ReduceType type;
    Type element;
    Iteration iteration;
    Walk src;
    bool with_index;
    Site site;
};

Extreme reduce_whole(Core& core, const Whole& work) {
    std::vector<float> sums;
    Extreme best{0, -1};
    for (int64_t r = 0; r < work.iteration.repeats; ++r) {
        const LaneMask& mask = work.iteration.at(r);
        float values[most_lanes];
        load(values, work.element, core.bytes(Memory::UB), work.src, r, mask.end());
        const Extreme one = reduce_lanes(work.type, work.element, values, mask, 0, work.iteration.lanes);
        if (work.type == ReduceType::SUM) {
            check_sum(core, work.site, work.element, values, mask, one.value);
            sums.push_back(one.value);
        } else if (best.place < 0 || better(work.type, one.value, best.value)) {
            best = {one.value, r * work.iteration.lanes + one.place};
        }
    }
    if (work.type != ReduceType::SUM) return best;
    size_t size = 1;
    while (size < sums.size()) size *= 2;
    const bool finite = std::all_of(sums.begin(), sums.end(), [](float sum) { return std::isfinite(sum); });
    sums.resize(size, 0.0f);
    const float sum = sum_of(work.element, sums.data(), static_cast<int>(size));
    if (finite) check_overflow(core, work.site, work.element, sum);
    return {sum, 0};
}

// Bytes of scratch memory that are lost.
uint64_t check_scratch(VectorCall& call, const Whole& whole, const Operand& work, const Operand& src) {
    const int64_t repeats = whole.iteration.repeats;
    const auto needed = static_cast<uint64_t>(work_elements(whole.type, src.type, repeats, whole.with_index)) *
                        bits_of(src.type) / 8;
    call.in_ub(work, "sharedTmpBuffer");
    if (work.bytes < needed) {
        call.fault("scratch memory", text_of("sharedTmpBuffer has %lld bytes, and %lld repeats need %lld",
                                             static_cast<long long>(work.bytes), static_cast<long long>(repeats),
                                             static_cast<long long>(needed)));
        return needed;
    }
    const auto extent = static_cast<uint64_t>(hull(whole.src, whole.iteration).end) - src.address;
    call.disjoint(work, needed, src, extent, "sharedTmpBuffer and src");
    call.writes(work, contiguous(needed));
    return needed;
}

}  // namespace

void reduce_all(const ReduceCall& what, const Operand& dst, const Operand& src, const Operand& work,
                Field<16> src_repeat, bool with_index) {
    VectorCall call(what.name, what.line);
    const bool counts = what.lanes.kind == Lanes::Kind::Total;
    if (counts) call.needs_pipe("take the form with a mask and repeats, WholeReduce or BlockReduce");
    const Iteration iteration = call.iterate(what.lanes, lanes_of(src.type));
    if (with_index && src_repeat != blocks_per_repeat && iteration.repeats > 1)
        call.fault("parameter", "an index is that of a row of elements: srcRepStride is 8");
    Whole whole{what.type, src.type, iteration, {}, with_index, call.site()};
    whole.src = call.source("src", src, iteration, 1, src_repeat, UINT16_MAX);
    const Result result{with_index ? ReduceOrder::ORDER_VALUE_INDEX : ReduceOrder::ORDER_ONLY_VALUE, src.type};
    call.in_ub(dst, "dst", static_cast<uint64_t>(result.element()));
    if (iteration.repeats == 0 || !call.sound()) return;
    const uint64_t needed = check_scratch(call, whole, work, src);
    call.disjoint(work, needed, dst, static_cast<uint64_t>(result.bytes()), "sharedTmpBuffer and dst");
    call.writes(dst, contiguous(static_cast<uint64_t>(result.bytes())));
    // A reduction of repeats, one of its results, and so on, each of which waits for the one before.
    const double rounds = 1 + std::ceil(std::log2(static_cast<double>(iteration.repeats) + 1) / 6);
    const double extra = rounds * (costs::vector_start + costs::vector_latency);
    call.takes(iteration, cycles_of(src.type) + extra / static_cast<double>(iteration.repeats), {whole.src});
    call.issue([=](Core& core) {
        const Extreme extreme = reduce_whole(core, whole);
        core.shadow(Memory::UB).forget(work.address, work.address + needed);
        std::memset(data(core, work), 0xff, needed);
        result.write(data(core, dst), extreme);
    });
    if (counts) wait_for_vectors(call.core, what.name, what.line);
}

}  // namespace twin
