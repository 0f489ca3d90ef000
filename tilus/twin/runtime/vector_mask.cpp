// The lane mask, and the register of compared bits.
#include <cstring>

#include "twin/vector_compare.h"
#include "vector_call.h"

namespace twin {

void set_vector_mask(uint64_t high, uint64_t low, bool counter, int line) {
    VectorCall call("SetVectorMask", line);
    if (counter != call.state().counter)
        call.fault("mask", counter ? "a count of elements needs SetMaskCount() before"
                                   : "bits of lanes need SetMaskNorm() before");
    if (!counter && high == 0 && low == 0) call.fault("mask", "no lane is active");
    if (!call.sound()) return;
    call.state().mask[0] = low;
    call.state().mask[1] = high;
}

void set_vector_mask_count(int64_t count, uint32_t bits, bool counter, int line) {
    if (counter) {
        set_vector_mask(0, static_cast<uint64_t>(count), true, line);
        return;
    }
    const int64_t lanes = repeat_bytes * 8 / bits;
    if (count < 1 || count > lanes) {
        VectorCall("SetVectorMask", line)
            .fault("mask", text_of("a mask of %lld lanes: a repeat has 1 to %lld of this type",
                                   static_cast<long long>(count), static_cast<long long>(lanes)));
        return;
    }
    const LaneMask mask = LaneMask::first(count);
    set_vector_mask(mask.bits[1], mask.bits[0], false, line);
}

void set_mask_counter(bool counter) { running().vector.counter = counter; }

void reset_mask() {
    VectorState& state = running().vector;
    state.mask[0] = state.mask[1] = ~uint64_t{0};
}

void set_compare_mask(const Operand& src, int line) {
    VectorCall call("SetCmpMask", line);
    call.in_ub(src, "src", 16);
    call.reads(src, contiguous(16)).costs(costs::vector_start, costs::vector_latency);
    call.issue([=](Core& core) {
        std::memcpy(core.vector.compared, data(core, src), 16);
        core.vector.has_compared = true;
    });
}

void get_compare_mask(const Operand& dst, int line) {
    VectorCall call("GetCmpMask", line);
    call.in_ub(dst, "dst", 16);
    call.writes(dst, contiguous(16)).costs(costs::vector_start, costs::vector_latency);
    call.issue([=](Core& core) { std::memcpy(data(core, dst), core.vector.compared, 16); });
}

}  // namespace twin
