// Which bytes of an operand an instruction touches.
#pragma once

#include <cstdint>

namespace twin {

// Blocks of `length` bytes that begin at `offset` from the operand's address, repeated along up to three dimensions
// (innermost first) at strides in bytes. `lanes` restricts blocks of at most 32 B along dimension 0, of at most eight:
// bit i of lanes[b] is byte i of block b.
struct Region {
    int64_t offset = 0;
    uint64_t length = 0;
    uint64_t count[3] = {1, 1, 1};
    int64_t stride[3] = {0, 0, 0};
    bool masked = false;
    uint32_t lanes[8] = {};

    bool empty() const { return length == 0 || count[0] == 0 || count[1] == 0 || count[2] == 0; }

    uint64_t bytes() const { return length * count[0] * count[1] * count[2]; }

    // The first byte and the one after the last, relative to the operand; lanes that are off at the ends do not count.
    int64_t first() const;
    int64_t last() const;
};

inline Region contiguous(uint64_t bytes, int64_t offset = 0) {
    Region region;
    region.offset = offset;
    region.length = bytes;
    return region;
}

inline Region strided(uint64_t length, uint64_t count, int64_t stride, int64_t offset = 0) {
    Region region = contiguous(length, offset);
    region.count[0] = count;
    region.stride[0] = stride;
    return region;
}

// A region of fewer dimensions or longer blocks that has the same bytes, where blocks follow each other.
Region merged(Region region);

// Calls `visit(begin, end, lanes)` for every block, begin relative to the operand; lanes is null where all bytes count.
template <typename Visit>
void for_each_block(const Region& region, Visit visit) {
    for (uint64_t k = 0; k < region.count[2]; ++k) {
        for (uint64_t j = 0; j < region.count[1]; ++j) {
            int64_t base = region.offset + static_cast<int64_t>(k) * region.stride[2] +
                           static_cast<int64_t>(j) * region.stride[1];
            for (uint64_t i = 0; i < region.count[0]; ++i) {
                int64_t begin = base + static_cast<int64_t>(i) * region.stride[0];
                visit(begin, begin + static_cast<int64_t>(region.length), region.masked ? &region.lanes[i] : nullptr);
            }
        }
    }
}

}  // namespace twin
