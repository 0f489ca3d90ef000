// What kernels call for flags, barriers and their place, and how instructions get into queues.

#include "twin/issue.h"

#include <algorithm>

#include "call.h"
#include "costs.h"
#include "twin/flags.h"

namespace twin {

void Machine::suspend(Wait wait) {
    Core& core = *current_;
    core.wait = wait;
    core.fiber.suspend();
}

void Machine::issue(Instruction&& instruction) {
    Core& core = *current_;
    PipeState& scalar = core.pipe(Pipe::S);
    PipeState& state = core.pipe(instruction.pipe);
    if (state.queue.size() >= queue_depth) {
        core.waiting.pipe = instruction.pipe;
        core.waiting.site = instruction.site;
        suspend(Wait::Queue);
    }
    count(Counter::Instructions, 1);
    if (counters_[static_cast<int>(Counter::Instructions)] > static_cast<uint64_t>(run.most_instructions)) {
        fault("endless", instruction.site, core,
              text_of("the kernel has issued %lld instructions", static_cast<long long>(run.most_instructions)));
        stop();
    }
    scalar.free += costs::issue;
    scalar.busy += costs::issue;
    if (state.pushed >= queue_depth) scalar.free = std::max(scalar.free, state.starts[state.pushed % queue_depth]);
    ++state.pushed;
    instruction.issued = scalar.free;
    instruction.sequence = ++core.sequence;
    if (!core.snapshot) core.snapshot = std::make_shared<Clock>(scalar.known);
    instruction.scalar = core.snapshot;
    state.queue.push_back(std::move(instruction));
    refresh(core);
    if (--core.burst <= 0) suspend(Wait::Nothing);
}

void Machine::run_here(Instruction&& instruction, Wait wait) {
    Core& core = *current_;
    core.waiting = std::move(instruction);
    core.wait = wait;
    if (!can_step(core, Pipe::S)) core.fiber.suspend();
    core.wait = Wait::Nothing;
    // Instructions that wait for a place may be suspended meanwhile, so this one is taken out.
    Instruction own = std::move(core.waiting);
    core.waiting = Instruction();
    own.issued = core.pipe(Pipe::S).free;
    own.sequence = ++core.sequence;
    perform(core, own);
    refresh(core);
}

void Machine::barrier_all(Site site) {
    Core& core = *current_;
    core.waiting.site = site;
    if (!core.drained()) suspend(Wait::Drain);
    Clock all(cores_.size() * actors_of_core);
    double end = 0;
    for (int p = 0; p < pipes; ++p) {
        PipeState& state = core.pipe(static_cast<Pipe>(p));
        all.join(*snapshot(core, state, static_cast<Pipe>(p)));
        end = std::max({end, state.end, state.free});
    }
    for (int p = 0; p < pipes; ++p) {
        PipeState& state = core.pipe(static_cast<Pipe>(p));
        state.known = all;
        state.free = end;
    }
    core.snapshot = nullptr;
}

void Machine::synchronise(bool vector_cores_only, Site site) {
    barrier_all(site);
    Core& core = *current_;
    core.waiting.site = site;
    synchronising_[vector_cores_only].push_back(&core);
    size_t expected = 0;
    for (auto& other : cores_) expected += !vector_cores_only || other->side == Side::AIV;
    if (synchronising_[vector_cores_only].size() < expected) {
        suspend(Wait::Sync);
    } else {
        release_synchronised(vector_cores_only);
    }
}

// SyncAll sets cross-core flags of its own.
void Machine::check_reserved_flag(Site site, bool by_sync_all) {
    (by_sync_all ? synchronised_ : reserved_flag_) = site;
    if (synchronised_.line == 0 || reserved_flag_.line == 0) return;
    fault("cross-core flag", reserved_flag_, *current_,
          text_of("ids 11 to 14 belong to SyncAll, which stands at line %d", synchronised_.line));
}

void Machine::release_synchronised(bool vector_cores_only) {
    auto together = std::move(synchronising_[vector_cores_only]);
    synchronising_[vector_cores_only].clear();
    Clock all(cores_.size() * actors_of_core);
    double end = 0;
    for (Core* core : together) {
        PipeState& state = core->pipe(Pipe::S);
        all.join(*snapshot(*core, state, Pipe::S));
        end = std::max(end, state.free);
    }
    for (Core* core : together) {
        for (int p = 0; p < pipes; ++p) {
            core->pipe(static_cast<Pipe>(p)).known.join(all);
            core->pipe(static_cast<Pipe>(p)).free = end + costs::cross_core;
        }
        core->snapshot = nullptr;
        if (core != current_) core->wait = Wait::Nothing;
        refresh(*core);
    }
}

namespace {

Instruction flag_instruction(const char* call, Kind kind, Pipe pipe, Pipe other, int id, int mode, int line) {
    Instruction instruction;
    instruction.site = {call, line};
    instruction.kind = kind;
    instruction.pipe = pipe;
    instruction.other = other;
    instruction.id = id;
    instruction.mode = mode;
    return instruction;
}

// Whether a core of this side has both pipes and a flag from one to the other.
bool has_flag(Side side, Pipe from, Pipe to) {
    auto is = [=](Pipe a, Pipe b) { return from == a && to == b; };
    if (side == Side::AIV) {
        auto own = [](Pipe p) { return p == Pipe::S || p == Pipe::V || p == Pipe::MTE2 || p == Pipe::MTE3; };
        return own(from) && own(to);
    }
    if (from == Pipe::V || to == Pipe::V || from == Pipe::MTE3 || to == Pipe::MTE3) return false;
    if (from == Pipe::S || to == Pipe::S) {
        return is(Pipe::S, Pipe::MTE2) || is(Pipe::MTE2, Pipe::S) || is(Pipe::M, Pipe::S) || is(Pipe::FIX, Pipe::S);
    }
    return true;
}

bool check_flag(const char* call, Core& core, Pipe from, Pipe to, int id, int line) {
    if (!has_flag(core.side, from, to)) {
        machine->fault("flag", {call, line}, core,
                       text_of("a %s core has no flags from %s to %s", core.side == Side::AIC ? "cube" : "vector",
                               name_of(from), name_of(to)));
        return false;
    }
    int limit = core.static_memory ? 6 : event_ids;
    if (id < 0 || id >= limit) {
        machine->fault("flag", {call, line}, core,
                       text_of("event id %d: there are ids 0 to %d%s", id, limit - 1,
                               core.static_memory ? " (6 and 7 are reserved)" : ""));
        return id >= 0 && id < event_ids;
    }
    return true;
}

}  // namespace

void set_flag(Pipe from, Pipe to, int id, int line) {
    Core& core = running();
    if (!check_flag("SetFlag", core, from, to, id, line)) return;
    Instruction instruction = flag_instruction("SetFlag", Kind::SetFlag, from, to, id, 0, line);
    if (from == Pipe::S) {
        machine->run_here(std::move(instruction), Wait::Flag);
    } else {
        machine->issue(std::move(instruction));
    }
}

void wait_flag(Pipe from, Pipe to, int id, int line) {
    Core& core = running();
    if (!check_flag("WaitFlag", core, from, to, id, line)) return;
    Instruction instruction = flag_instruction("WaitFlag", Kind::WaitFlag, to, from, id, 0, line);
    if (to == Pipe::S) {
        machine->run_here(std::move(instruction), Wait::Flag);
    } else {
        machine->issue(std::move(instruction));
    }
}

void pipe_barrier(pipe_t pipe, int line) {
    Core& core = running();
    if (pipe == PIPE_ALL) {
        machine->barrier_all({"PipeBarrier", line});
        return;
    }
    auto own = static_cast<Pipe>(pipe);
    bool cube_pipe = own == Pipe::M || own == Pipe::MTE1 || own == Pipe::FIX;
    bool vector_pipe = own == Pipe::V || own == Pipe::MTE3;
    if (core.side == Side::AIC ? vector_pipe : cube_pipe) {
        machine->fault("wrong core", {"PipeBarrier", line}, core,
                       text_of("a %s core has no pipe %s", core.side == Side::AIC ? "cube" : "vector", name_of(own)));
        return;
    }
    machine->issue(flag_instruction("PipeBarrier", Kind::Barrier, own, own, 0, 0, line));
}

namespace {

bool check_cross(const char* call, Core& core, int id, int line) {
    if (!machine->has_cross_flags()) {
        machine->fault("cross-core flag", {call, line}, core,
                       "kernels of type AIC_ONLY and AIV_ONLY have no cross-core flags: take a MIX type");
        return false;
    }
    if (id >= cross_ids) {
        machine->fault("cross-core flag", {call, line}, core,
                       text_of("flag id %d: there are ids 0 to 15, and larger ones wrap", id));
        return false;
    }
    if (id >= 11 && id <= 14) machine->check_reserved_flag({call, line}, false);
    return true;
}

}  // namespace

void cross_core_set(int mode, pipe_t pipe, int id, int line) {
    Core& core = running();
    if (!check_cross("CrossCoreSetFlag", core, id, line)) return;
    auto own = static_cast<Pipe>(pipe);
    Instruction instruction = flag_instruction("CrossCoreSetFlag", Kind::CrossSet, own, own, id, mode, line);
    if (own == Pipe::S) {
        machine->run_here(std::move(instruction), Wait::Flag);
    } else {
        machine->issue(std::move(instruction));
    }
}

void cross_core_wait(int mode, pipe_t pipe, int id, int line) {
    Core& core = running();
    if (!check_cross("CrossCoreWaitFlag", core, id, line)) return;
    auto own = static_cast<Pipe>(pipe);
    Instruction instruction = flag_instruction("CrossCoreWaitFlag", Kind::CrossWait, own, own, id, mode, line);
    if (own == Pipe::S) {
        machine->run_here(std::move(instruction), Wait::Cross);
    } else {
        machine->issue(std::move(instruction));
    }
}

void sync_all(bool vector_cores_only, int line) {
    Core& core = running();
    if (core.static_memory && !core.pipe_object) {
        machine->fault("static memory", {"SyncAll", line}, core, "SyncAll needs a TPipe: use cross-core flags");
    }
    if (machine->run.blocks > machine->groups()) {
        machine->fault("cross-core flag", {"SyncAll", line}, core,
                       text_of("%lld blocks are launched and %lld run at once: SyncAll waits for those that have not begun",
                               static_cast<long long>(machine->run.blocks), static_cast<long long>(machine->groups())));
        return;
    }
    machine->check_reserved_flag({"SyncAll", line}, true);
    if (vector_cores_only && core.side == Side::AIC) return;
    machine->synchronise(vector_cores_only, {"SyncAll", line});
}

void kernel_type(KernelType type, int line) { machine->state_type(type, line); }
void init_soc_state(int) { running().static_memory = true; }
int64_t block_index() {
    Core& core = running();
    return core.side == Side::AIC ? core.block : core.block * machine->vector_cores_of_block() + core.sub;
}
int64_t block_count() {
    running();
    return machine->run.blocks;
}
int64_t sub_block_index() { return running().sub; }
int64_t sub_block_count() {
    running();
    return std::max<int64_t>(1, machine->vector_cores_of_block());
}
Side side() { return running().side; }

}  // namespace twin
