#include "costs.h"

#include <algorithm>

#include "machine.h"

namespace twin::costs {

namespace {

// Vector cores of one AI core that a launch keeps busy.
double neighbours(const ChipDescription& chip) {
    return machine->active(Side::AIV) > chip.cube_cores ? 2 : 1;
}

double rate_of(const ChipDescription& chip, const Operand& dst, const Operand& src) {
    if (src.memory == Memory::UB) return std::min(chip.ub_to_gm, chip.l2_write / neighbours(chip));
    if (dst.memory == Memory::UB) return std::min(chip.gm_to_ub, chip.l2_read / neighbours(chip));
    return src.memory == Memory::GM ? chip.gm_to_l1 : chip.l0c_to_gm;
}

}  // namespace

double gm_copy(const ChipDescription& chip, const Operand& dst, const Operand& src, uint64_t count, uint64_t length) {
    uint64_t gm = src.memory == Memory::GM ? src.address : dst.address;
    double work = static_cast<double>(count * std::max(length, burst_floor)) / rate_of(chip, dst, src);
    return copy_start + (gm % 512 != 0 ? work * (1 + unaligned_cost) : work);
}

double fixpipe(const ChipDescription& chip, uint64_t bytes, uint64_t elements) {
    // L0C gives at most 64 numbers a cycle.
    return fixpipe_start + std::max(static_cast<double>(bytes) / chip.l0c_to_gm, static_cast<double>(elements) / 64);
}

}  // namespace twin::costs
