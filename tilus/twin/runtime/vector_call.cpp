#include "vector_call.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

namespace twin {

namespace {

constexpr int64_t groups = 16;  // of banks of UB, each of which serves one row of 32 B a cycle

long long number(int64_t value) { return static_cast<long long>(value); }

// Cycles in which the banks give, or take, the blocks of one repeat: blocks of different rows in one group wait for
// each other.
int64_t bank_cycles(const std::vector<Walk>& walks, int64_t repeat, int lanes) {
    std::vector<int64_t> rows;
    for (const Walk& walk : walks) {
        const int blocks = (lanes + walk.lanes_per_block() - 1) / walk.lanes_per_block();
        for (int i = 0; i < blocks; ++i) rows.push_back(walk.block(repeat, i) / block_bytes);
    }
    std::sort(rows.begin(), rows.end());
    rows.erase(std::unique(rows.begin(), rows.end()), rows.end());
    int64_t served[groups] = {}, most = 1;
    for (int64_t row : rows) most = std::max(most, ++served[row % groups]);
    return most;
}

}  // namespace

VectorCall::VectorCall(const char* name, int line) : Call(name, Pipe::V, line), site_{name, line} {}

Iteration VectorCall::iterate(const Lanes& lanes, int lanes_per_repeat) {
    VectorState& registers = state();
    if (lanes.kind == Lanes::Kind::Total && lanes.sets) {
        if (lanes.count < 0) fault("count", text_of("a count of %lld", number(lanes.count)));
        registers.counter = false;
        registers.mask[0] = registers.mask[1] = ~uint64_t{0};
        return Iteration::counted(lanes.count, lanes_per_repeat);
    }
    const int64_t times = repeats(lanes.repeats);
    if (lanes.sets && !set_mask(lanes, lanes_per_repeat)) return {};
    if (registers.counter) return Iteration::counted(static_cast<int64_t>(registers.mask[0]), lanes_per_repeat);
    // Lanes beyond those of the type are off, as when the register was made for a smaller one.
    const LaneMask all = LaneMask::first(lanes_per_repeat);
    const LaneMask mask{{registers.mask[0] & all.bits[0], registers.mask[1] & all.bits[1]}};
    if (mask.end() == 0) fault("mask", "no lane is active");
    return Iteration::masked(mask, times, lanes_per_repeat);
}

// A count of lanes or bits into the mask register; in counter mode the count is that of all elements.
bool VectorCall::set_mask(const Lanes& lanes, int lanes_per_repeat) {
    VectorState& registers = state();
    LaneMask mask{{lanes.bits[0], lanes.bits[1]}};
    if (lanes.kind == Lanes::Kind::First) {
        if (lanes.count < 1 || (lanes.count > lanes_per_repeat && !registers.counter)) {
            fault("mask", text_of("a mask of %lld lanes: a repeat has 1 to %d of this type", number(lanes.count),
                                  lanes_per_repeat));
            return false;
        }
        mask = registers.counter ? LaneMask{{static_cast<uint64_t>(lanes.count), 0}} : LaneMask::first(lanes.count);
    }
    if (!registers.counter && mask.end() > lanes_per_repeat) {
        fault("mask", text_of("bits of lanes that a repeat of %d lanes does not have", lanes_per_repeat));
        return false;
    }
    registers.mask[0] = mask.bits[0];
    registers.mask[1] = mask.bits[1];
    return true;
}

int64_t VectorCall::repeats(int64_t times) {
    if (times < 1 || times > most_repeats) {
        fault("repeat", text_of("%lld repeats: an instruction has 1 to 255, and the field of 8 bits wraps: split it",
                                number(times)));
        return 0;
    }
    return times;
}

void VectorCall::in_ub(const Operand& operand, const char* what, uint64_t unit) {
    if (operand.memory != Memory::UB) {
        fault("memory", text_of("%s lies in %s: the vector unit works on UB", what, name_of(operand.memory)));
        return;
    }
    aligned(operand, unit, what);
}

Walk VectorCall::source(const char* what, const Operand& operand, const Iteration& iteration, int64_t block_stride,
                        int64_t repeat_stride, int64_t most_stride) {
    const Walk walk{static_cast<int64_t>(operand.address), static_cast<int>(bits_of(operand.type)), block_stride,
                    repeat_stride};
    in_ub(operand, what);
    within((std::string(what) + "'s block stride").c_str(), block_stride, 0, most_stride);
    within((std::string(what) + "'s repeat stride").c_str(), repeat_stride, 0, most_stride);
    if (sound()) {
        for (const Region& region : regions_of(walk, iteration)) reads(operand, region);
    }
    return walk;
}

Walk VectorCall::destination(const Operand& operand, const Iteration& iteration, int64_t block_stride,
                             int64_t repeat_stride, int64_t most_stride) {
    const Walk walk{static_cast<int64_t>(operand.address), static_cast<int>(bits_of(operand.type)), block_stride,
                    repeat_stride};
    in_ub(operand, "dst");
    if (block_stride == 0) fault("parameter", "dst's block stride is 0, which is undefined: 1 to 255");
    within("dst's block stride", block_stride, 0, most_stride);
    within("dst's repeat stride", repeat_stride, 0, most_stride);
    if (sound()) {
        for (const Region& region : regions_of(walk, iteration)) writes(operand, region);
    }
    return walk;
}

void VectorCall::report(Overlap overlap, const char* what) {
    if (overlap == Overlap::Partial) {
        fault("overlap", text_of("dst shares bytes with %s within a repeat: only operands that are the same lane by "
                                 "lane may", what));
    } else if (overlap == Overlap::Dependence) {
        fault("overlap", text_of("a repeat reads in %s what an earlier repeat writes to dst, and does not wait for it",
                                 what));
    }
}

void VectorCall::written_once(const Walk& destination, const Iteration& iteration) {
    if (sound() && overlap_of(destination, destination, iteration) != Overlap::None)
        fault("overlap", "a repeat writes to dst where an earlier one does, and nothing says which is the last");
}

void VectorCall::apart(const Walk& destination, const Walk& source, const Iteration& iteration, const char* what) {
    if (sound()) report(overlap_of(destination, source, iteration), what);
}

void VectorCall::apart(const std::vector<std::vector<Range>>& written, const std::vector<std::vector<Range>>& read,
                       const char* what) {
    if (sound()) report(overlap_of(written, read), what);
}

void VectorCall::disjoint(const Operand& a, uint64_t a_bytes, const Operand& b, uint64_t b_bytes, const char* what) {
    if (a.memory == b.memory && a.address < b.address + b_bytes && b.address < a.address + a_bytes)
        fault("overlap", text_of("%s share bytes", what));
}

void VectorCall::needs_pipe(const char* instead) {
    if (!core.pipe_object) {
        fault("static memory", text_of("%s takes events or memory of TPipe, which a kernel of static memory does not "
                                       "have: %s", site_.call, instead));
    }
}

void VectorCall::takes(const Iteration& iteration, double cycles, const std::vector<Walk>& reads,
                       const std::vector<Walk>& writes) {
    const int64_t repeats = iteration.repeats;
    count(Counter::VectorCalls, 1).count(Counter::VectorRepeats, static_cast<uint64_t>(repeats));
    // Banks of the first repeats stand for those of all.
    const int64_t seen = std::min<int64_t>(repeats, groups);
    double total = 0;
    for (int64_t repeat = 0; repeat < seen; ++repeat) {
        const int lanes = iteration.at(repeat).end();
        const int64_t banks = std::max(bank_cycles(reads, repeat, lanes), bank_cycles(writes, repeat, lanes));
        total += std::max(cycles, static_cast<double>(banks));
    }
    const double each = seen > 0 ? total / static_cast<double>(seen) : 0;
    costs(costs::vector_start + each * static_cast<double>(repeats), costs::vector_latency);
}

void check_overflow(Core& core, Site site, Type type, float value) {
    if (machine->run.overflow && type == Type::f16 && std::fabs(value) >= 65520.0f)
        machine->fault("overflow", site, core,
                       text_of("a result of half is infinite: %g before it is rounded", static_cast<double>(value)));
}

void spoil_reserved(Core& core, Site site) {
    Shadow& shadow = core.shadow(Memory::UB);
    const auto end = static_cast<uint64_t>(core.machine.chip.memory_bytes[static_cast<int>(Memory::UB)]);
    if (end <= reserved_begin) return;
    if (shadow.holds(reserved_begin, end))
        machine->fault("reserved memory", site, core,
                       text_of("%s overwrites bytes %lld to %lld of UB, the library's own, where the kernel has data",
                               site.call, number(reserved_begin), number(static_cast<int64_t>(end))));
    std::memset(core.bytes(Memory::UB) + reserved_begin, 0xff, end - reserved_begin);
    shadow.forget(reserved_begin, end);
}

void wait_for_vectors(Core& core, const char* name, int line) {
    // The id that the library keeps for itself.
    constexpr int id = 7;
    Instruction set;
    set.site = {name, line};
    set.kind = Kind::SetFlag;
    set.pipe = Pipe::V;
    set.other = Pipe::S;
    set.id = id;
    Instruction wait = set;
    wait.kind = Kind::WaitFlag;
    wait.pipe = Pipe::S;
    wait.other = Pipe::V;
    core.machine.issue(std::move(set));
    core.machine.run_here(std::move(wait), Wait::Flag);
}

}  // namespace twin
