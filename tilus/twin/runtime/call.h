// A call while it is checked and issued; twin/issue.h shows how to write one.
#pragma once

#include <functional>
#include <string>
#include <utility>

#include "costs.h"
#include "machine.h"

namespace twin {

class Call {
 public:
    // Begins on the scalar unit of the running core. Pipes that the core's side lacks are a fault.
    Call(const char* name, Pipe pipe, int line);

    // Bytes that the instruction reads or writes when it executes. Faults: beyond the tensor, the memory, or the GM
    // array; a memory of another side.
    Call& reads(const Operand& operand, const Region& region);
    Call& writes(const Operand& operand, const Region& region);
    // A read of a move that may move what is not initialised; `carry` says of the destination what was not.
    Call& carries(const Operand& operand, const Region& region);
    // A write that adds, or takes the larger or smaller, where SetAtomic... is on.
    Call& updates(const Operand& operand, const Region& region);

    // The address of an on-chip operand, a multiple of so many bytes.
    Call& aligned(const Operand& operand, uint64_t bytes, const char* what);
    // A field of a parameter struct, within limits (which are those of its bits, or narrower).
    Call& within(const char* field, int64_t value, int64_t low, int64_t high);

    // Cycles that the pipe is busy, and those after that until results are there.
    Call& costs(double occupancy, double latency);
    Call& count(Counter counter, uint64_t amount);
    // The pipe completes this before whatever it issues later.
    Call& in_order();
    // A product that fills the tile at this address of L0C under a unit flag, and whether it is the tile's last one; or
    // the Fixpipe that drains it.
    Call& fills_unit(uint64_t address, bool last);
    Call& drains_unit(uint64_t address);
    // Bytes that the instruction reads besides, known when it executes; those within their tensor are for the caller to
    // find.
    Call& gathers(std::function<void(Core&, std::vector<Touch>&)> touches);

    // A finding at this call, which will then not be issued.
    void fault(const char* kind, const std::string& text);
    // Whether there was none up to now.
    bool sound() const { return sound_; }

    // Put it into the queue of its pipe; without effect after a fault.
    void issue(std::function<void(Core&)> body);
    // For what the scalar unit does at once.
    void run_here(std::function<void(Core&)> body);

    Core& core;

 private:
    Call& touches(const Operand& operand, const Region& region, bool write, bool atomic, bool carries = false);
    void check_bounds(const Operand& operand, const Region& region);

    Instruction instruction_;
    bool sound_ = true;
    std::vector<std::pair<Counter, uint64_t>> counts_;
};

// The bytes of an operand; GM addresses are pointers.
inline uint8_t* data(Core& core, const Operand& operand) {
    if (operand.memory == Memory::GM) return reinterpret_cast<uint8_t*>(operand.address);
    return core.bytes(operand.memory) + operand.address;
}

inline uint64_t round_up(uint64_t value, uint64_t unit) { return (value + unit - 1) / unit * unit; }

// A move between memories of the core: `move(to, from)` is called with the operands' bytes, and once more with bytes that
// say which ones are initialised, where some are not.
template <typename Move>
void carry(Core& core, const Operand& dst, const Region& written, const Operand& src, const Region& read, Move move) {
    move(data(core, dst), data(core, src));
    if (src.memory == Memory::GM) return;
    auto first = static_cast<uint64_t>(read.first()), last = static_cast<uint64_t>(read.last());
    if (core.shadow(src.memory).initialised(src.address + first, src.address + last)) return;
    std::vector<uint8_t> from(last), to(static_cast<size_t>(written.last()));
    core.shadow(src.memory).describe(src.address + first, src.address + last, from.data() + first);
    move(to.data(), from.data());
    Shadow& shadow = core.shadow(dst.memory);
    for_each_block(written, [&](int64_t begin, int64_t end, const uint32_t*) {
        for (int64_t byte = begin; byte < end; ++byte) {
            if (to[byte] != 0xFF) shadow.forget(dst.address + byte, dst.address + byte + 1);
        }
    });
}

}  // namespace twin
