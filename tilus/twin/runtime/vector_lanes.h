// Which lanes an instruction of the vector unit works on, and where they are.
//
// A repeat is up to 128 lanes of 8 blocks of 32 B; an operand gives the distance between its blocks and between its
// repeats in blocks. Lanes of operands whose elements have different sizes are counted in the larger type, so that the
// smaller one fills fewer blocks of a repeat.
#pragma once

#include <cstdint>
#include <vector>

#include "region.h"

namespace twin {

constexpr int64_t block_bytes = 32;
constexpr int64_t repeat_bytes = 256;
constexpr int64_t blocks_per_repeat = 8;
constexpr int most_lanes = 128;
constexpr int64_t most_repeats = 255;

// Bit i of the 128 is lane i's.
struct LaneMask {
    uint64_t bits[2] = {0, 0};

    bool operator[](int lane) const { return bits[lane >> 6] >> (lane & 63) & 1; }
    static LaneMask first(int64_t count);
    // One more than the last active lane; 0 where none is.
    int end() const;
    // Whether the active lanes are the first ones.
    bool is_first() const;
    bool operator==(const LaneMask& other) const { return bits[0] == other.bits[0] && bits[1] == other.bits[1]; }
};

// Repeats of one instruction: all have one mask, but for the last one of a counted instruction.
struct Iteration {
    int lanes = 0;
    int64_t repeats = 0;
    LaneMask mask;
    LaneMask last;

    const LaneMask& at(int64_t repeat) const { return repeat + 1 == repeats ? last : mask; }
    static Iteration counted(int64_t count, int lanes);
    static Iteration masked(const LaneMask& mask, int64_t repeats, int lanes);
};

struct Range {
    int64_t begin;
    int64_t end;
};

// How an operand is walked: byte address of lane 0, bits of an element, distances in blocks of 32 B.
struct Walk {
    int64_t base = 0;
    int bits = 0;
    int64_t block_stride = 1;
    int64_t repeat_stride = blocks_per_repeat;

    int lanes_per_block() const { return static_cast<int>(block_bytes * 8 / bits); }
    int64_t block(int64_t repeat, int index) const {
        return base + (repeat * repeat_stride + index * block_stride) * block_bytes;
    }
    // Of the byte that holds the lane.
    int64_t address(int64_t repeat, int lane) const {
        const int per_block = lanes_per_block();
        return block(repeat, lane / per_block) + static_cast<int64_t>(lane % per_block) * bits / 8;
    }
    bool operator==(const Walk& other) const {
        return base == other.base && bits == other.bits && block_stride == other.block_stride &&
                      repeat_stride == other.repeat_stride;
    }
};

// What an instruction touches of an operand that begins at the walk's base.
std::vector<Region> regions_of(const Walk& walk, const Iteration& iteration);

// Bytes of the active lanes of each repeat, neighbours merged.
std::vector<std::vector<Range>> ranges_of(const Walk& walk, const Iteration& iteration);
// From the first to the last byte of them all.
Range hull(const Walk& walk, const Iteration& iteration);

// What is wrong with a destination and a source that share bytes.
enum class Overlap : uint8_t {
    None,
    Partial,     // shared within a repeat, and not lane by lane
    Dependence,  // a repeat reads what an earlier one writes
};
Overlap overlap_of(const Walk& destination, const Walk& source, const Iteration& iteration);
void append_range(std::vector<Range>& ranges, Range range);
// The same for operands that aren't walked by lanes: bytes written and read in each repeat.
Overlap overlap_of(const std::vector<std::vector<Range>>& written, const std::vector<std::vector<Range>>& read);

}  // namespace twin
