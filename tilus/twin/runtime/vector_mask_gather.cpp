// GatherMask: elements whose bits are ones, one after another.
#include <cstring>

#include "twin/vector_sort.h"
#include "vector_call.h"
#include "vector_values.h"

namespace twin {

namespace {

struct Compaction {
    Operand dst, src, mask;  // the mask has no bytes where a pattern stands for it
    int pattern;
    Iteration iteration;     // of one repeat's elements, which may be more than 256 B
    Walk walk;               // of one repeat
    int64_t repeats, src_step, mask_step;  // bytes between repeats

    int64_t size() const { return bits_of(src.type) / 8; }

    bool keeps(Core& core, int64_t repeat, int64_t index) const {
        switch (pattern) {
            case 0: {
                const uint8_t* bits = data(core, mask) + repeat * mask_step;
                return bits[index / 8] >> (index % 8) & 1;
            }
            case 1: case 2: return index % 2 == pattern - 1;
            case 7: return true;
            default: return index % 4 == pattern - 3;
        }
    }

    // Calls `visit(place)` with the offset from the source of each kept element.
    template <typename Visit>
    void for_each_kept(Core& core, Visit visit) const {
        const int lanes = iteration.lanes;
        for (int64_t r = 0; r < repeats; ++r)
            for (int64_t piece = 0; piece < iteration.repeats; ++piece)
                for (int lane = 0; lane < iteration.at(piece).end(); ++lane)
                    if (keeps(core, r, piece * lanes + lane))
                        visit(r * src_step + walk.address(piece, lane) - walk.base);
    }

    // From the start of the source to the end of what the repeats read.
    int64_t last_byte() const {
        return (repeats - 1) * src_step + walk.address(iteration.repeats - 1, iteration.last.end() - 1) - walk.base +
               size();
    }

    int64_t elements() const { return (iteration.repeats - 1) * iteration.lanes + iteration.last.end(); }
};

// How many elements the pattern keeps in all.
int64_t kept_by_pattern(const Compaction& work) {
    const int64_t n = work.elements();
    if (work.pattern == 7) return n * work.repeats;
    const int64_t period = work.pattern <= 2 ? 2 : 4, first = work.pattern <= 2 ? work.pattern - 1 : work.pattern - 3;
    return (n + period - 1 - first) / period * work.repeats;
}

// Bits in UB say which elements are read, and how many are written.
void touch_kept(Core& core, const Compaction& work, Site site, std::vector<Touch>& touches) {
    const auto size = static_cast<uint64_t>(work.size());
    uint64_t kept = 0;
    work.for_each_kept(core, [&](int64_t place) {
        touches.push_back({work.src, contiguous(size, place), false, false});
        ++kept;
    });
    if (kept * size > work.dst.bytes)
        machine->fault("out of bounds", site, core,
                       text_of("%lld elements are kept, which dst, a tensor of %lld bytes, does not hold",
                               static_cast<long long>(kept), static_cast<long long>(work.dst.bytes)));
    else
        touches.push_back({work.dst, contiguous(kept * size), true, false});
}

}  // namespace

uint64_t gather_mask(const Operand& dst, const Operand& src, const Operand* mask, uint8_t pattern, bool counts,
                     uint32_t count, const AscendC::GatherMaskParams& params, int line) {
    VectorCall call("GatherMask", line);
    const int lanes = lanes_of(src.type);
    if (mask == nullptr) call.within("src1Pattern", pattern, 1, 7);
    if (counts) call.within("mask", count, 1, INT32_MAX);
    call.within("src0BlockStride", params.src0BlockStride, 0, UINT8_MAX);
    call.within("src0RepeatStride", params.src0RepeatStride, 0, UINT16_MAX);
    call.within("src1RepeatStride", params.src1RepeatStride, 0, UINT8_MAX);
    Compaction work{dst, src, {}, mask == nullptr ? pattern : 0, Iteration::counted(counts ? count : lanes, lanes), {},
                    call.repeats(params.repeatTimes), params.src0RepeatStride * block_bytes,
                    params.src1RepeatStride * block_bytes};
    call.in_ub(dst, "dst");
    call.in_ub(src, "src0");
    work.walk = {static_cast<int64_t>(src.address), static_cast<int>(bits_of(src.type)), params.src0BlockStride,
                 blocks_per_repeat * params.src0BlockStride};
    if (mask != nullptr) {
        work.mask = *mask;
        call.in_ub(*mask, "src1Pattern");
        call.reads(*mask, strided(static_cast<uint64_t>(work.elements() + 7) / 8,
                                  static_cast<uint64_t>(work.repeats), work.mask_step));
    }
    // The library sets the mask by itself.
    call.state().counter = false;
    call.state().mask[0] = call.state().mask[1] = ~uint64_t{0};
    if (!call.sound()) return 0;
    const int64_t all = work.elements() * work.repeats, most = mask == nullptr ? kept_by_pattern(work) : all;
    const auto extent = static_cast<uint64_t>(work.last_byte());
    if (extent > src.bytes)
        call.fault("out of bounds", text_of("the repeats read %lld bytes of src0, a tensor of %lld",
                                            static_cast<long long>(extent), static_cast<long long>(src.bytes)));
    call.disjoint(dst, static_cast<uint64_t>(most * work.size()), src, extent, "dst and src0");
    call.gathers([work, site = call.site()](Core& core, std::vector<Touch>& touches) {
        touch_kept(core, work, site, touches);
    });
    call.takes(Iteration::counted(all, lanes), 1);
    auto kept = std::make_shared<uint64_t>(0);
    call.issue([=](Core& core) {
        work.for_each_kept(core, [&](int64_t place) {
            const int64_t to = static_cast<int64_t>((*kept)++) * work.size();
            if (static_cast<uint64_t>(to + work.size()) <= work.dst.bytes)
                std::memcpy(data(core, work.dst) + to, data(core, work.src) + place, static_cast<size_t>(work.size()));
        });
    });
    wait_for_vectors(call.core, "GatherMask", line);
    return *kept;
}

}  // namespace twin
