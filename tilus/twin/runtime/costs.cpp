#include "costs.h"

#include <algorithm>

#include "machine.h"

namespace twin::costs {

double gm_copy(const ChipDescription& chip, const Operand& dst, const Operand& src, uint64_t count, uint64_t length) {
    double rate = src.memory == Memory::GM ? (dst.memory == Memory::UB ? chip.gm_to_ub : chip.gm_to_l1)
                                           : (src.memory == Memory::UB ? chip.ub_to_gm : chip.l0c_to_gm);
    uint64_t gm = src.memory == Memory::GM ? src.address : dst.address;
    uint64_t moved = std::max<uint64_t>(length, burst_floor);
    double work = static_cast<double>(count * moved) / rate;
    if (gm % 512 != 0) work *= gm % 32 != 0 ? 1.0 + unaligned_cost * 1.5 : 1.0 + unaligned_cost;
    return copy_start + work;
}

double fixpipe(const ChipDescription& chip, uint64_t bytes, uint64_t elements) {
    // L0C gives at most 64 numbers a cycle.
    return fixpipe_start + std::max(static_cast<double>(bytes) / chip.l0c_to_gm, static_cast<double>(elements) / 64);
}

}  // namespace twin::costs
