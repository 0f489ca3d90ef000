// The machine: all cores, GM, and the run of a kernel on them.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "core.h"

namespace twin {

// An array in GM.
struct Allocation {
    uint8_t* base = nullptr;
    uint64_t bytes = 0;
    int argument = 0;
    bool written = false;
    std::unique_ptr<Shadow> shadow;
};

class Machine {
 public:
    Machine(const ChipDescription& chip, const RunDescription& run, ArrayDescription* arrays, void** arguments);
    ~Machine();
    Machine(const Machine&) = delete;
    Machine& operator=(const Machine&) = delete;

    // Run the kernel on all blocks, and write back the arrays that it wrote.
    void execute(void (*entry)(void**));
    // All that is known at the end, as JSON.
    std::string report() const;

    // One finding. `partner` is the line of what it is about besides, which keeps findings apart.
    void fault(const char* kind, Site site, const Core& core, const std::string& text, int partner = 0);

    // What follows is called on the scalar unit of the core that runs.

    Core& core() { return *current_; }
    // The type is stated: cores that it does not have end here.
    void state_type(KernelType type, int line);
    void enter_call(Core& core);
    // Give up the run; from a scalar unit this does not return.
    void stop();
    // Put an instruction into the queue of its pipe, when there is room.
    void issue(Instruction&& instruction);
    // Do what the scalar unit does itself, once it can.
    void run_here(Instruction&& instruction, Wait wait);
    // Let others run until the reason is gone.
    void suspend(Wait wait);
    void barrier_all(Site site);
    void check_reserved_flag(Site site, bool by_sync_all);
    void synchronise(bool vector_cores_only, Site site);

    // Note what an instruction touches, before its body.
    void touch(Core& core, const Instruction& instruction, const Touch& touch, uint32_t time);
    // A copy meets scalar writes that are still in a data cache.
    void check_caches(Core& core, const Instruction& instruction, const Touch& touched);
    Allocation* allocation_of(uint64_t address);

    void count(Counter counter, uint64_t amount) { counters_[static_cast<int>(counter)] += amount; }
    int64_t groups() const { return groups_; }
    int64_t vector_cores_of_block() const { return vector_of_block_; }
    bool has_cross_flags() const { return type_ != KERNEL_TYPE_AIV_ONLY && type_ != KERNEL_TYPE_AIC_ONLY; }
    // Cores of a side that run at once, which share the bandwidth of memory.
    int64_t active(Side side) const;
    // Look again which pipes of a core can step.
    void refresh(Core& core);

    const ChipDescription chip;
    const RunDescription run;
    bool dirty_lines = false;  // a scalar unit has written to GM

 private:
    friend class Scheduler;

    static void enter();
    bool probe();
    void build_cores();
    void begin_block(uint32_t group);
    void end_group(uint32_t group);
    void check_end(Core& core);
    bool can_step(Core& core, Pipe pipe);
    void step(Core& core, Pipe pipe);
    void perform(Core& core, Instruction& instruction);
    double enter_unit(Core& core, PipeState& state, const Instruction& instruction);
    void leave_unit(Core& core, PipeState& state, const Instruction& instruction);
    void perform_set(Core& core, PipeState& state, Instruction& instruction, double start);
    void perform_wait(Core& core, PipeState& state, Instruction& instruction);
    void perform_cross_set(Core& core, PipeState& state, Instruction& instruction, double start);
    void perform_cross_wait(Core& core, PipeState& state, Instruction& instruction);
    void deliver(Core& core, int id, const Arrival& arrival);
    void gather_sets(const std::vector<Core*>& from, const std::vector<Core*>& to, int mode, int id);
    void release_synchronised(bool vector_cores_only);
    SharedClock snapshot(Core& core, PipeState& state, Pipe pipe);
    void report_conflict(Core& core, const Instruction& instruction, const Touch& touch, const Conflict& conflict);
    void report_race(Core& core, const Instruction& instruction, const Touch& touched, const Conflict::Race& race);
    void report_deadlock();
    bool finished() const;

    void (*entry_)(void**) = nullptr;
    void** arguments_;
    ArrayDescription* arrays_;
    std::vector<Allocation> allocations_;
    void* arena_ = nullptr;
    uint64_t arena_bytes_ = 0;

    std::vector<std::unique_ptr<Core>> cores_;
    Core* current_ = nullptr;
    bool probing_ = false, typed_ = false;
    bool on_scalar_ = false;  // a scalar unit runs, and not the scheduler
    bool stopped_ = false;    // the run is given up
    uint64_t calls_ = 0, faults_ = 0;
    Site synchronised_, reserved_flag_;  // where SyncAll, and a cross-core flag that it uses, stand
    KernelType type_ = KERNEL_TYPE_MIX_AIC_1_2;
    int64_t cube_of_block_ = 1, vector_of_block_ = 2;
    uint32_t groups_ = 0;
    int64_t next_block_ = 0;

    std::vector<uint32_t> active_;    // cores that can step
    std::vector<int64_t> place_;      // of each core in active_, or -1
    std::vector<Core*> synchronising_[2];

    uint64_t counters_[counters] = {};
    Findings findings_;
};

// The machine that runs; kernels know it by this alone.
extern Machine* machine;

// The core whose scalar unit calls. Every call of a kernel begins here.
Core& running();

}  // namespace twin
