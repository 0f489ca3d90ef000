#include "vector_lanes.h"

#include <algorithm>

namespace twin {

LaneMask LaneMask::first(int64_t count) {
    LaneMask mask;
    for (int word = 0; word < 2; ++word) {
        const int64_t in_word = std::clamp<int64_t>(count - 64 * word, 0, 64);
        mask.bits[word] = in_word == 64 ? ~0ull : (1ull << in_word) - 1;
    }
    return mask;
}

int LaneMask::end() const {
    if (bits[1]) return 128 - __builtin_clzll(bits[1]);
    return bits[0] ? 64 - __builtin_clzll(bits[0]) : 0;
}

bool LaneMask::is_first() const {
    const LaneMask all = first(end());
    return bits[0] == all.bits[0] && bits[1] == all.bits[1];
}

Iteration Iteration::counted(int64_t count, int lanes) {
    if (count <= 0) return {lanes, 0, {}, {}};
    const int64_t repeats = (count + lanes - 1) / lanes;
    return {lanes, repeats, LaneMask::first(lanes), LaneMask::first(count - (repeats - 1) * lanes)};
}

Iteration Iteration::masked(const LaneMask& mask, int64_t repeats, int lanes) {
    return {lanes, repeats, mask, mask};
}

void append_range(std::vector<Range>& ranges, Range range) {
    if (range.begin >= range.end) return;
    if (!ranges.empty() && ranges.back().end == range.begin)
        ranges.back().end = range.end;
    else
        ranges.push_back(range);
}

namespace {

void append_repeat(std::vector<Range>& ranges, const Walk& walk, const LaneMask& mask, int64_t repeat) {
    const int per_block = walk.lanes_per_block();
    const int end = mask.end();
    if (mask.is_first() && walk.block_stride == 1) {
        const int64_t begin = walk.block(repeat, 0);
        append_range(ranges, {begin, begin + (static_cast<int64_t>(end) * walk.bits + 7) / 8});
        return;
    }
    for (int lane = 0; lane < end;) {
        if (!mask[lane]) {
            ++lane;
            continue;
        }
        // Lanes in a row within a block.
        const int block_end = std::min((lane / per_block + 1) * per_block, end);
        int stop = lane;
        while (stop < block_end && mask[stop]) ++stop;
        const int64_t begin = walk.address(repeat, lane);
        const int64_t last = walk.address(repeat, stop - 1);
        append_range(ranges, {begin, last + std::max(1, walk.bits / 8)});
        lane = stop;
    }
}

// The same lanes of `count` repeats from `first` on.
Region region_of(const Walk& walk, const LaneMask& mask, int64_t first, int64_t count) {
    const int64_t step = walk.repeat_stride * block_bytes;
    const int end = mask.end();
    if (mask.is_first() && walk.block_stride == 1)
        return merged(strided((static_cast<int64_t>(end) * walk.bits + 7) / 8, count, step, first * step));
    Region region = contiguous(block_bytes, first * step);
    const int per_block = walk.lanes_per_block();
    region.count[0] = (end + per_block - 1) / per_block;
    region.stride[0] = walk.block_stride * block_bytes;
    region.count[1] = count;
    region.stride[1] = step;
    if (mask.is_first() && end % per_block == 0) return region;
    region.masked = true;
    for (int lane = 0; lane < end; ++lane) {
        if (!mask[lane]) continue;
        const int bit = lane % per_block * walk.bits;
        const uint32_t bytes = (1u << std::max(1, walk.bits / 8)) - 1;
        region.lanes[lane / per_block] |= bytes << (bit / 8);
    }
    return region;
}

Range hull(const std::vector<Range>& ranges) {
    Range all{INT64_MAX, INT64_MIN};
    for (const Range& range : ranges) all = {std::min(all.begin, range.begin), std::max(all.end, range.end)};
    return all;
}

bool apart(Range a, Range b) { return a.end <= b.begin || b.end <= a.begin; }

Range hull(const std::vector<std::vector<Range>>& repeats) {
    Range all{INT64_MAX, INT64_MIN};
    for (const auto& ranges : repeats) {
        const Range one = hull(ranges);
        all = {std::min(all.begin, one.begin), std::max(all.end, one.end)};
    }
    return all;
}

bool share(const std::vector<Range>& a, const std::vector<Range>& b) {
    for (const Range& x : a)
        for (const Range& y : b)
            if (!apart(x, y)) return true;
    return false;
}

// Marks the bytes that repeats write, and finds those that were marked before.
class Written {
 public:
    explicit Written(Range all) : begin_(all.begin), marks_(static_cast<size_t>(all.end - all.begin), false) {}

    void mark(const std::vector<Range>& ranges) {
        for (const Range& range : ranges)
            std::fill(marks_.begin() + (range.begin - begin_), marks_.begin() + (range.end - begin_), true);
    }

    bool any(const std::vector<Range>& ranges) const {
        const int64_t end = begin_ + static_cast<int64_t>(marks_.size());
        for (const Range& range : ranges) {
            const int64_t from = std::max(range.begin, begin_), to = std::min(range.end, end);
            if (from >= to) continue;
            const auto last = marks_.begin() + (to - begin_);
            if (std::find(marks_.begin() + (from - begin_), last, true) != last) return true;
        }
        return false;
    }

 private:
    int64_t begin_;
    std::vector<bool> marks_;
};

Overlap overlap_of(const std::vector<std::vector<Range>>& written, const std::vector<std::vector<Range>>& read,
                      bool lane_by_lane) {
    const Range all = hull(written);
    if (all.begin >= all.end || apart(all, hull(read))) return Overlap::None;
    Written before(all);
    for (size_t r = 0; r < read.size(); ++r) {
        if (before.any(read[r])) return Overlap::Dependence;
        if (!lane_by_lane && share(written[r], read[r])) return Overlap::Partial;
        before.mark(written[r]);
    }
    return Overlap::None;
}

}  // namespace

std::vector<Region> regions_of(const Walk& walk, const Iteration& iteration) {
    const int64_t full = static_cast<int64_t>(iteration.lanes) * walk.bits / 8;
    const int64_t n = iteration.repeats;
    if (n == 0) return {};
    if (walk.block_stride == 1 && walk.repeat_stride * block_bytes == full && iteration.mask.is_first() &&
        iteration.mask.end() == iteration.lanes && iteration.last.is_first()) {
        const int64_t lanes = (n - 1) * iteration.lanes + iteration.last.end();
        return {contiguous((lanes * walk.bits + 7) / 8)};
    }
    if (iteration.mask == iteration.last) return {region_of(walk, iteration.mask, 0, n)};
    if (n == 1) return {region_of(walk, iteration.last, 0, 1)};
    return {region_of(walk, iteration.mask, 0, n - 1), region_of(walk, iteration.last, n - 1, 1)};
}

std::vector<std::vector<Range>> ranges_of(const Walk& walk, const Iteration& iteration) {
    std::vector<std::vector<Range>> repeats(static_cast<size_t>(iteration.repeats));
    for (int64_t r = 0; r < iteration.repeats; ++r)
        append_repeat(repeats[static_cast<size_t>(r)], walk, iteration.at(r), r);
    return repeats;
}

Range hull(const Walk& walk, const Iteration& iteration) {
    Range all{INT64_MAX, INT64_MIN};
    for (const Region& region : regions_of(walk, iteration))
        all = {std::min(all.begin, walk.base + region.first()), std::max(all.end, walk.base + region.last())};
    return all;
}

Overlap overlap_of(const Walk& destination, const Walk& source, const Iteration& iteration) {
    if (iteration.repeats == 0) return Overlap::None;
    const bool same = destination == source;
    // Repeats that are apart from each other meet only their own.
    if (same && source.repeat_stride > (blocks_per_repeat - 1) * source.block_stride) return Overlap::None;
    if (!same && apart(hull(destination, iteration), hull(source, iteration))) return Overlap::None;
    const bool lane_by_lane = destination.base == source.base && destination.bits == source.bits &&
                              destination.block_stride == source.block_stride &&
                              (same || iteration.repeats == 1);
    return overlap_of(ranges_of(destination, iteration), ranges_of(source, iteration), lane_by_lane);
}

Overlap overlap_of(const std::vector<std::vector<Range>>& written, const std::vector<std::vector<Range>>& read) {
    return overlap_of(written, read, false);
}

}  // namespace twin
