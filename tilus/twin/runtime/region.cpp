#include "region.h"

namespace twin {

namespace {

// Blocks of dimension 0 that lanes leave: the first and the last one, and which bytes of them.
struct Extent {
    int64_t first, last;
};

Extent along_blocks(const Region& region) {
    int64_t length = static_cast<int64_t>(region.length);
    int64_t count = static_cast<int64_t>(region.count[0]);
    if (!region.masked) {
        int64_t end = (count - 1) * region.stride[0];
        return {end < 0 ? end : 0, (end > 0 ? end : 0) + length};
    }
    Extent extent{INT64_MAX, INT64_MIN};
    for (int64_t i = 0; i < count && i < 8; ++i) {
        uint32_t lanes = region.lanes[i];
        if (lanes == 0) continue;
        int64_t begin = i * region.stride[0] + __builtin_ctz(lanes);
        int64_t end = i * region.stride[0] + 32 - __builtin_clz(lanes);
        if (begin < extent.first) extent.first = begin;
        if (end > extent.last) extent.last = end;
    }
    return extent.first > extent.last ? Extent{0, 0} : extent;
}

int64_t reach(const Region& region, bool upwards) {
    int64_t total = 0;
    for (int d = 1; d < 3; ++d) {
        int64_t step = (static_cast<int64_t>(region.count[d]) - 1) * region.stride[d];
        if ((step > 0) == upwards) total += step;
    }
    return total;
}

}  // namespace

int64_t Region::first() const { return empty() ? offset : offset + along_blocks(*this).first + reach(*this, false); }

int64_t Region::last() const { return empty() ? offset : offset + along_blocks(*this).last + reach(*this, true); }

Region merged(Region region) {
    if (region.masked) return region;
    for (int step = 0; step < 3; ++step) {
        bool follows = region.stride[0] == static_cast<int64_t>(region.length);
        if (!follows && region.count[0] != 1) break;
        region.length *= region.count[0];
        region.count[0] = region.count[1];
        region.stride[0] = region.stride[1];
        region.count[1] = region.count[2];
        region.stride[1] = region.stride[2];
        region.count[2] = 1;
        region.stride[2] = 0;
    }
    return region;
}

}  // namespace twin
