// Gathers: elements or blocks of UB at offsets that UB holds.
#include <cstring>

#include "twin/vector_fill.h"
#include "vector_call.h"
#include "vector_values.h"

namespace twin {

namespace {

// Where elements of `size` bytes come from, relative to a source that was given.
struct Sources {
    Operand operand;
    uint32_t base;
    uint32_t size;
    Site site;

    // False, with a finding, where an offset is not one of the source.
    bool holds(Core& core, uint32_t offset) const {
        const uint64_t begin = uint64_t{base} + offset;
        const bool inside = begin + size <= operand.bytes && operand.address + begin + size <= usable(core);
        if (begin % size == 0 && inside) return true;
        machine->fault(inside ? "alignment" : "out of bounds", site, core,
                       text_of("the offset %lld: %s %d bytes of a source of %lld", static_cast<long long>(begin),
                               inside ? "no multiple of the" : "beyond, for", static_cast<int>(size),
                               static_cast<long long>(operand.bytes)));
        return false;
    }

    static uint64_t usable(Core& core) {
        return static_cast<uint64_t>(core.machine.chip.memory_bytes[static_cast<int>(Memory::UB)]);
    }
};

uint32_t offset_at(const uint8_t* ub, const Walk& offsets, int64_t repeat, int lane) {
    uint32_t offset;
    std::memcpy(&offset, ub + offsets.address(repeat, lane), sizeof offset);
    return offset;
}

// Calls `visit(repeat, lane, offset)` for every active lane of the offsets' walk.
template <typename Visit>
void for_each_offset(Core& core, const Walk& offsets, const Iteration& iteration, Visit visit) {
    const uint8_t* ub = core.bytes(Memory::UB);
    for (int64_t r = 0; r < iteration.repeats; ++r) {
        const LaneMask& mask = iteration.at(r);
        for (int lane = 0; lane < mask.end(); ++lane)
            if (mask[lane]) visit(r, lane, offset_at(ub, offsets, r, lane));
    }
}

// What the source gives is known when the offsets are.
void read_by_offsets(VectorCall& call, const Sources& sources, const Walk& offsets, const Iteration& iteration) {
    call.gathers([=](Core& core, std::vector<Touch>& touches) {
        for_each_offset(core, offsets, iteration, [&](int64_t, int, uint32_t offset) {
            if (!sources.holds(core, offset)) return;
            const Region region = contiguous(sources.size, int64_t{sources.base} + offset);
            touches.push_back({sources.operand, region, false, false});
        });
    });
}

}  // namespace

void gather(const Operand& dst, const Operand& src, const Operand& offsets, uint32_t base, const Lanes& lanes,
            Field<16> repeat_stride, int line) {
    VectorCall call("Gather", line);
    const int per_repeat = lanes_of(dst.type);
    const Iteration iteration = call.iterate(lanes, per_repeat);
    const Walk to = call.destination(dst, iteration, 1, repeat_stride, UINT16_MAX);
    const Walk by = call.source("srcOffset", offsets, iteration, 1, row_stride(Type::u32, per_repeat));
    call.in_ub(src, "src");
    call.apart(to, by, iteration, "srcOffset");
    call.written_once(to, iteration);
    if (!call.sound() || iteration.repeats == 0) return;
    // Elements of a repeat come from one block after another: an assumption.
    call.takes(iteration, 8, {by}, {to});
    const Sources sources{src, base, bits_of(src.type) / 8, call.site()};
    read_by_offsets(call, sources, by, iteration);
    call.issue([=](Core& core) {
        uint8_t* ub = core.bytes(Memory::UB);
        for_each_offset(core, by, iteration, [&](int64_t r, int lane, uint32_t offset) {
            const uint64_t from = src.address + base + offset;
            if (from + sources.size <= Sources::usable(core))
                std::memcpy(ub + to.address(r, lane), ub + from, sources.size);
        });
    });
}

void gather_blocks(const Operand& dst, const Operand& src, const Operand& offsets, int64_t times,
                   const AscendC::GatherRepeatParams& params, int line) {
    VectorCall call("Gatherb", line);
    const int lanes = lanes_of(dst.type);
    const Iteration iteration = Iteration::masked(LaneMask::first(lanes), call.repeats(times), lanes);
    const Iteration blocks{blocks_per_repeat, iteration.repeats, LaneMask::first(blocks_per_repeat),
                           LaneMask::first(blocks_per_repeat)};
    const Walk to = call.destination(dst, iteration, params.dstBlkStride, params.dstRepStride, UINT16_MAX);
    const Walk by = call.source("offset", offsets, blocks, 1, 1);
    call.in_ub(src, "src0");
    call.written_once(to, iteration);
    if (!call.sound()) return;
    call.takes(iteration, 1, {}, {to});
    const Sources sources{src, 0, static_cast<uint32_t>(block_bytes), call.site()};
    read_by_offsets(call, sources, by, blocks);
    call.issue([=](Core& core) {
        uint8_t* ub = core.bytes(Memory::UB);
        for_each_offset(core, by, blocks, [&](int64_t r, int block, uint32_t offset) {
            const uint64_t from = src.address + offset;
            if (from + sources.size <= Sources::usable(core))
                std::memmove(ub + to.block(r, block), ub + from, sources.size);
        });
    });
}

}  // namespace twin
