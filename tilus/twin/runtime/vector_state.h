// Registers of a vector core.
#pragma once

#include <cstdint>

namespace twin {

struct VectorState {
    // The lane mask, which the scalar unit sets before it issues; in counter mode, how many elements there are.
    uint64_t mask[2] = {~uint64_t{0}, ~uint64_t{0}};
    bool counter = false;
    // What Cast from int32_t to half multiplies by; set by SetDeqScale.
    float scale = 1;
    bool scaled = false;
    // Bits that comparisons leave for selections. The vector pipe writes and reads it.
    uint64_t compared[2] = {0, 0};
    bool has_compared = false;
    // How many pairs of each list the last merge took.
    uint16_t merged[4] = {0, 0, 0, 0};
};

}  // namespace twin
