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
    Call& when(std::function<bool(Core&)> ready);

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
    Call& touches(const Operand& operand, const Region& region, bool write, bool atomic);
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

}  // namespace twin
