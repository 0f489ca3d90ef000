// Fills, copies and broadcasts within UB.
#include "twin/vector_fill.h"

#include <cstring>

#include "vector_call.h"
#include "vector_values.h"

namespace twin {

void duplicate(const Operand& dst, uint64_t scalar, const Lanes& lanes, Field<16> block_stride, Field<8> repeat_stride,
               int line) {
    VectorCall call("Duplicate", line);
    const Iteration iteration = call.iterate(lanes, lanes_of(dst.type));
    const Walk walk = call.destination(dst, iteration, block_stride, repeat_stride, UINT16_MAX);
    call.within("dstRepStride", repeat_stride, 0, UINT8_MAX);
    call.written_once(walk, iteration);
    if (!call.sound() || iteration.repeats == 0) return;
    call.takes(iteration, 1, {}, {walk});
    const int64_t value = integer_of(dst.type, scalar);
    call.issue([=, type = dst.type](Core& core) {
        int64_t values[most_lanes];
        std::fill_n(values, most_lanes, value);
        for (int64_t r = 0; r < iteration.repeats; ++r)
            store(core.bytes(Memory::UB), type, walk, r, iteration.at(r), values);
    });
}

void copy_lanes(const Operand& dst, const Operand& src, const Lanes& lanes, const AscendC::CopyRepeatParams& params,
                int line) {
    VectorCall call("Copy", line);
    const Iteration iteration = call.iterate(lanes, lanes_of(dst.type));
    const Walk from = call.source("src", src, iteration, params.srcStride, params.srcRepeatSize, UINT16_MAX);
    const Walk to = call.destination(dst, iteration, params.dstStride, params.dstRepeatSize, UINT16_MAX);
    call.apart(to, from, iteration, "src");
    call.written_once(to, iteration);
    if (!call.sound() || iteration.repeats == 0) return;
    call.takes(iteration, 1, {from}, {to});
    call.issue([=](Core& core) {
        uint8_t* ub = core.bytes(Memory::UB);
        uint8_t row[1024];
        for (int64_t r = 0; r < iteration.repeats; ++r) {
            const LaneMask& mask = iteration.at(r);
            store_lanes(ub, to, r, mask, lanes_in_row(ub, from, r, mask.end(), row));
        }
    });
}

namespace {

// A repeat reads so many bytes of the source, one repeat after another, and writes the walk's blocks.
void check_groups(VectorCall& call, const Walk& dst, const Iteration& iteration, const Operand& src, int64_t bytes,
                  const char* what) {
    std::vector<std::vector<Range>> read;
    for (int64_t r = 0; r < iteration.repeats; ++r) {
        const int64_t begin = static_cast<int64_t>(src.address) + r * bytes;
        read.push_back({{begin, begin + bytes}});
    }
    call.apart(ranges_of(dst, iteration), read, what);
}

}  // namespace

void brcb(const Operand& dst, const Operand& src, int64_t times, const AscendC::BrcbRepeatParams& params, int line) {
    VectorCall call("Brcb", line);
    const int lanes = lanes_of(dst.type);
    const Iteration iteration = Iteration::masked(LaneMask::first(lanes), call.repeats(times), lanes);
    const Walk walk = call.destination(dst, iteration, params.dstBlkStride, params.dstRepStride, UINT16_MAX);
    call.in_ub(src, "src");
    const size_t size = bits_of(src.type) / 8, group = blocks_per_repeat * size;
    call.reads(src, contiguous(static_cast<uint64_t>(iteration.repeats) * group));
    check_groups(call, walk, iteration, src, static_cast<int64_t>(group), "src");
    call.written_once(walk, iteration);
    if (!call.sound()) return;
    call.takes(iteration, 1, {}, {walk});
    call.issue([=, base = src.address](Core& core) {
        uint8_t* ub = core.bytes(Memory::UB);
        for (int64_t r = 0; r < iteration.repeats; ++r) {
            uint8_t values[blocks_per_repeat * 4];
            std::memcpy(values, ub + base + static_cast<size_t>(r) * group, group);
            for (int b = 0; b < blocks_per_repeat; ++b) {
                uint8_t* block = ub + walk.block(r, b);
                for (size_t i = 0; i < block_bytes; i += size)
                    std::memcpy(block + i, values + static_cast<size_t>(b) * size, size);
            }
        }
    });
}

void progression(const char* name, const Operand& dst, uint64_t first, uint64_t step, const Lanes& lanes,
                 Field<16> block_stride, Field<8> repeat_stride, int line) {
    VectorCall call(name, line);
    call.needs_pipe("set the first block by SetValue, then add to what is there by Adds");
    const Iteration iteration = call.iterate(lanes, lanes_of(dst.type));
    const Walk walk = call.destination(dst, iteration, block_stride, repeat_stride, UINT16_MAX);
    call.within("dstRepStride", repeat_stride, 0, UINT8_MAX);
    call.written_once(walk, iteration);
    if (!call.sound() || iteration.repeats == 0) return;
    call.takes(iteration, 1, {}, {walk});
    call.issue([=, type = dst.type](Core& core) {
        float values[most_lanes];
        int64_t integers[most_lanes];
        for (int64_t r = 0; r < iteration.repeats; ++r) {
            for (int i = 0; i < iteration.lanes; ++i) {
                const int64_t place = r * iteration.lanes + i;
                if (is_float(type))
                    values[i] = float_of(type, first) + static_cast<float>(place) * float_of(type, step);
                else
                    integers[i] = integer_of(type, first) + place * integer_of(type, step);
            }
            uint8_t* ub = core.bytes(Memory::UB);
            if (is_float(type))
                store(ub, type, walk, r, iteration.at(r), values);
            else
                store(ub, type, walk, r, iteration.at(r), integers);
        }
    });
}

}  // namespace twin
