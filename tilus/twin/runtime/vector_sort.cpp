// Sorting of pairs of score and index.
#include "twin/vector_sort.h"

#include <algorithm>
#include <cstring>

#include "vector_call.h"
#include "vector_values.h"

namespace twin {

namespace {

constexpr int64_t pair_bytes = 8;
constexpr int sorted = 32;
constexpr int64_t longest_list = 4095;

struct Pair {
    uint8_t bytes[pair_bytes];

    float score(Type type) const {
        uint64_t bits = 0;
        std::memcpy(&bits, bytes, bits_of(type) / 8);
        return float_of(type, bits);
    }
};

Pair pair_of(const uint8_t* score, size_t size, const uint8_t* index) {
    Pair pair{};
    std::memcpy(pair.bytes, score, size);
    std::memcpy(pair.bytes + 4, index, 4);
    return pair;
}

}  // namespace

void sort32(const Operand& dst, const Operand& scores, const Operand& indices, int64_t number, int line) {
    VectorCall call("Sort32", line);
    const int64_t times = call.repeats(number);
    const size_t size = bits_of(scores.type) / 8;
    const auto count = static_cast<uint64_t>(times * sorted);
    call.in_ub(dst, "dst");
    call.in_ub(scores, "src0");
    call.in_ub(indices, "src1");
    call.reads(scores, contiguous(count * size)).reads(indices, contiguous(count * 4));
    call.writes(dst, contiguous(count * pair_bytes));
    call.disjoint(dst, count * pair_bytes, scores, count * size, "dst and src0");
    call.disjoint(dst, count * pair_bytes, indices, count * 4, "dst and src1");
    if (!call.sound()) return;
    // An assumption: nothing published says how long it takes.
    call.takes(Iteration::counted(static_cast<int64_t>(count), sorted), 16);
    call.issue([=](Core& core) {
        for (int64_t r = 0; r < times; ++r) {
            std::vector<Pair> pairs;
            for (int64_t i = r * sorted; i < (r + 1) * sorted; ++i)
                pairs.push_back(pair_of(data(core, scores) + i * static_cast<int64_t>(size), size,
                                        data(core, indices) + i * 4));
            std::stable_sort(pairs.begin(), pairs.end(), [&](const Pair& a, const Pair& b) {
                return a.score(scores.type) > b.score(scores.type);
            });
            std::memcpy(data(core, dst) + r * sorted * pair_bytes, pairs.data(), sorted * pair_bytes);
        }
    });
}

namespace {

struct Merge {
    Operand dst, lists[4];
    int64_t lengths[4];
    int count;       // of lists
    bool suspends;   // when one list is empty
    int64_t repeats, total;
};

void merge_repeat(Core& core, const Merge& work, int64_t repeat) {
    uint8_t* to = data(core, work.dst) + repeat * work.total * pair_bytes;
    int64_t taken[4] = {0, 0, 0, 0};
    const auto at = [&](int list) {
        Pair pair;
        // Lists of a further repeat follow those of the one before.
        const int64_t place = repeat * work.total + taken[list];
        std::memcpy(pair.bytes, data(core, work.lists[list]) + place * pair_bytes, pair_bytes);
        return pair;
    };
    for (int64_t i = 0; i < work.total; ++i) {
        int best = -1;
        for (int list = 0; list < work.count; ++list) {
            if (taken[list] == work.lengths[list]) continue;
            if (best < 0 || at(list).score(work.dst.type) > at(best).score(work.dst.type)) best = list;
        }
        const Pair pair = at(best);
        std::memcpy(to + i * pair_bytes, pair.bytes, pair_bytes);
        if (++taken[best] == work.lengths[best] && work.suspends) break;
    }
    for (int list = 0; list < 4; ++list) core.vector.merged[list] = static_cast<uint16_t>(taken[list]);
}

void check_merge(VectorCall& call, const Merge& work, int64_t valid) {
    if (valid != 3 && valid != 7 && valid != 15)
        call.fault("parameter", text_of("validBit is %lld: 3, 7 and 15 are two, three and four lists",
                                        static_cast<long long>(valid)));
    for (int i = 0; i < work.count; ++i)
        call.within(text_of("elementLengths[%d]", i).c_str(), work.lengths[i], 1, longest_list);
    if (work.repeats == 1) return;
    bool follow = work.count == 4 && !work.suspends;
    const auto bytes = static_cast<uint64_t>(work.lengths[0] * pair_bytes);
    for (int i = 1; i < work.count; ++i)
        follow = follow && work.lengths[i] == work.lengths[0] &&
                 work.lists[i].address == work.lists[i - 1].address + bytes;
    if (!follow)
        call.fault("parameter", "several repeats merge four lists of one length that follow each other, to the end");
}

}  // namespace

void merge_sorted(const Operand& dst, const Operand (&lists)[4], const AscendC::MrgSort4Info& info, int line) {
    VectorCall call("MrgSort", line);
    const int64_t valid = info.validBit;
    Merge work{dst, {}, {}, valid == 15 ? 4 : valid == 7 ? 3 : 2, info.ifExhaustedSuspension,
               call.repeats(info.repeatTimes), 0};
    for (int i = 0; i < work.count; ++i) {
        work.lists[i] = lists[i];
        work.lengths[i] = info.elementLengths[i];
        work.total += work.lengths[i];
    }
    check_merge(call, work, valid);
    call.in_ub(dst, "dst");
    if (!call.sound()) return;
    const auto bytes = static_cast<uint64_t>(work.total * work.repeats * pair_bytes);
    call.writes(dst, contiguous(bytes));
    for (int i = 0; i < work.count; ++i) {
        const Operand& list = lists[i];
        const auto length = static_cast<uint64_t>(work.lengths[i] * pair_bytes);
        call.in_ub(list, "a sorted list", pair_bytes);
        // Lists that follow each other are operands whose own bytes end where the next one begins.
        Operand all = list;
        if (work.repeats > 1) all.bytes = std::max(all.bytes, bytes);
        call.reads(all, strided(length, static_cast<uint64_t>(work.repeats), work.total * pair_bytes));
        call.disjoint(dst, bytes, list, length, "dst and a sorted list");
    }
    if (!call.sound()) return;
    // An assumption: a pair a cycle.
    call.takes(Iteration::counted(work.total * work.repeats, sorted), sorted);
    call.issue([=](Core& core) {
        for (int64_t r = 0; r < work.repeats; ++r) merge_repeat(core, work, r);
    });
}

void merged_counts(uint16_t (&counts)[4], int line) {
    Core& core = running();
    wait_for_vectors(core, "GetMrgSortResult", line);
    std::memcpy(counts, core.vector.merged, sizeof counts);
}

}  // namespace twin
