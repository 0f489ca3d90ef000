// A call of the vector unit while it is checked: lanes, strides, overlaps, what the library takes besides, cost.
#pragma once

#include <vector>

#include "call.h"
#include "twin/vector_types.h"
#include "vector_lanes.h"

namespace twin {

class VectorCall : public Call {
 public:
    VectorCall(const char* name, int line);

    // Lanes of a call whose repeats have so many, checked, with the mask register as it will be afterwards.
    Iteration iterate(const Lanes& lanes, int lanes_per_repeat);

    // An operand that is walked by lanes; its place and strides are checked.
    Walk source(const char* what, const Operand& operand, const Iteration& iteration, int64_t block_stride,
                int64_t repeat_stride, int64_t most_stride = 255);
    Walk destination(const Operand& operand, const Iteration& iteration, int64_t block_stride, int64_t repeat_stride,
                     int64_t most_stride = 255);
    // Repeats may not write the same bytes; those of `destination` are not checked for it.
    void written_once(const Walk& destination, const Iteration& iteration);
    // A destination and a source may be the same, and no repeat may need what an earlier one writes.
    void apart(const Walk& destination, const Walk& source, const Iteration& iteration, const char* what);
    void apart(const std::vector<std::vector<Range>>& written, const std::vector<std::vector<Range>>& read,
               const char* what);
    // Operands that may not share a byte.
    void disjoint(const Operand& a, uint64_t a_bytes, const Operand& b, uint64_t b_bytes, const char* what);

    // A tensor in UB at a multiple of `unit` bytes.
    void in_ub(const Operand& operand, const char* what, uint64_t unit = block_bytes);
    // The number of repeats of an instruction, which has 8 bits.
    int64_t repeats(int64_t number);
    // The call needs events or memory that the library takes from TPipe.
    void needs_pipe(const char* instead);
    // Repeats of `cycles` each, or of as many as the banks of UB need.
    void takes(const Iteration& iteration, double cycles, const std::vector<Walk>& reads = {},
               const std::vector<Walk>& writes = {});
    VectorState& state() { return core.vector; }
    Site site() const { return site_; }

 private:
    bool set_mask(const Lanes& lanes, int lanes_per_repeat);
    void report(Overlap overlap, const char* what);

    Site site_;
};

// A result of half that is infinite, where that is a finding: `value` before it was rounded, of finite operands.
void check_overflow(Core& core, Site site, Type type, float value);

// Lets the scalar unit wait for all that the vector pipe was given, as the library does before it returns a scalar.
void wait_for_vectors(Core& core, const char* name, int line);

// The library's own memory near the end of UB, which some calls fill with what is nobody else's.
constexpr uint64_t reserved_begin = 184 << 10;
// What is there is lost; a finding where it was the kernel's.
void spoil_reserved(Core& core, Site site);

}  // namespace twin
