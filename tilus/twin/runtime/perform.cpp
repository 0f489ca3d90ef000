// What happens when an entry of a queue, or something that the scalar unit does itself, has its turn.

#include <algorithm>

#include "costs.h"
#include "machine.h"

namespace twin {

SharedClock Machine::snapshot(Core& core, PipeState& state, Pipe pipe) {
    auto clock = std::make_shared<Clock>(state.known);
    (*clock)[core.actor(pipe)] = state.time;
    return clock;
}

bool Machine::can_step(Core& core, Pipe pipe) {
    const Instruction* next = nullptr;
    if (pipe == Pipe::S) {
        switch (core.wait) {
            case Wait::Nothing: return true;
            case Wait::Queue: return core.pipe(core.waiting.pipe).queue.size() < queue_depth;
            case Wait::Drain: return core.drained();
            case Wait::Sync: case Wait::Ended: return false;
            case Wait::Flag: case Wait::Cross: next = &core.waiting;
        }
    } else {
        if (core.pipe(pipe).queue.empty()) return false;
        next = &core.pipe(pipe).queue.front();
    }
    if (next->kind == Kind::WaitFlag) return core.flag(next->other, pipe, next->id).set();
    if (next->kind == Kind::CrossWait) return !core.arrivals[next->id].empty();
    if (next->unit == UnitFlag::None) return true;
    return core.units[next->unit_address].full == (next->unit == UnitFlag::Drains);
}

void Machine::perform(Core& core, Instruction& instruction) {
    PipeState& state = core.pipe(instruction.pipe);
    if (instruction.scalar && instruction.scalar != state.scalar) {
        state.known.join(*instruction.scalar);
        state.scalar = instruction.scalar;
    }
    ++state.time;
    double start = std::max(state.free, instruction.issued);
    switch (instruction.kind) {
        case Kind::Work: {
            uint32_t time = state.time;
            if (instruction.unit != UnitFlag::None) start = std::max(start, enter_unit(core, state, instruction));
            for (const Touch& touched : instruction.touches) {
                if (!touched.write) touch(core, instruction, touched, time);
            }
            if (instruction.gathers) {
                std::vector<Touch> gathered;
                instruction.gathers(core, gathered);
                for (const Touch& touched : gathered) touch(core, instruction, touched, time);
            }
            for (const Touch& touched : instruction.touches) {
                if (touched.write) touch(core, instruction, touched, time);
            }
            if (instruction.body) instruction.body(core);
            state.free = start + instruction.cost.occupancy;
            state.end = std::max(state.end, state.free + instruction.cost.latency);
            state.busy += instruction.cost.occupancy;
            if (state.worked.empty() || state.worked.back().second < start) state.worked.emplace_back(start, start);
            state.worked.back().second = state.free;
            if (instruction.unit != UnitFlag::None) leave_unit(core, state, instruction);
            break;
        }
        case Kind::Barrier:
            state.known[core.actor(instruction.pipe)] = state.time;
            state.free = std::max(start, state.end);
            break;
        case Kind::SetFlag: perform_set(core, state, instruction, start); break;
        case Kind::WaitFlag: perform_wait(core, state, instruction); break;
        case Kind::CrossSet: perform_cross_set(core, state, instruction, start); break;
        case Kind::CrossWait: perform_cross_wait(core, state, instruction); break;
    }
    state.starts[state.started++ % queue_depth] = start;
}

double Machine::enter_unit(Core& core, PipeState& state, const Instruction& instruction) {
    Unit& unit = core.units[instruction.unit_address];
    const SharedClock& before = instruction.unit == UnitFlag::Drains ? unit.filled : unit.drained;
    if (before) state.known.join(*before);
    return unit.time;
}

void Machine::leave_unit(Core& core, PipeState& state, const Instruction& instruction) {
    Unit& unit = core.units[instruction.unit_address];
    if (instruction.unit == UnitFlag::Fills) return;
    bool drains = instruction.unit == UnitFlag::Drains;
    unit.full = !drains;
    (drains ? unit.drained : unit.filled) = snapshot(core, state, instruction.pipe);
    unit.time = state.end;
    unit.site = instruction.site;
}

void Machine::perform_set(Core& core, PipeState& state, Instruction& instruction, double start) {
    Flag& flag = core.flag(instruction.pipe, instruction.other, instruction.id);
    bool consumed = instruction.other == Pipe::S || state.known[core.actor(instruction.other)] >= flag.consumed;
    if (flag.set() || !consumed) {
        const char* from = name_of(instruction.pipe);
        const char* to = name_of(instruction.other);
        fault("flag set twice", instruction.site, core,
              text_of("HardEvent::%s_%s id %d is set again while %s may not yet have waited for the set at line %d: "
                      "let %s wait for a flag of %s first, or take another id",
                      from, to, instruction.id, to, flag.site.line, from, to), flag.site.line);
    }
    flag.sets.push_back({snapshot(core, state, instruction.pipe), std::max(state.end, start)});
    flag.site = instruction.site;
}

void Machine::perform_wait(Core& core, PipeState& state, Instruction& instruction) {
    Flag& flag = core.flag(instruction.other, instruction.pipe, instruction.id);
    flag.consumed = state.time;
    state.known.join(*flag.sets.front().clock);
    state.free = std::max({state.free, instruction.issued, flag.sets.front().time});
    flag.sets.pop_front();
    if (instruction.pipe == Pipe::S) core.snapshot = nullptr;
}

void Machine::perform_cross_set(Core& core, PipeState& state, Instruction& instruction, double start) {
    int mode = instruction.mode, id = instruction.id;
    count(Counter::CrossCoreFlags, 1);
    Arrival arrival{snapshot(core, state, instruction.pipe), std::max(state.end, start) + costs::cross_core,
                    instruction.site, instruction.pipe, mode};
    std::vector<Core*> others;
    for (auto& other : cores_) {
        if (other->group == core.group && other->side != core.side) others.push_back(other.get());
    }
    if (mode == 2 && core.side == Side::AIC) {
        for (Core* other : others) deliver(*other, id, arrival);
        return;
    }
    core.sets(mode, id).push_back(arrival);
    std::vector<Core*> from;
    for (auto& other : cores_) {
        if (other->side == core.side && (mode == 0 || other->group == core.group)) from.push_back(other.get());
    }
    gather_sets(from, mode == 2 ? others : from, mode, id);
}

// Once all cores have set the flag, all that wait for it get one.
void Machine::gather_sets(const std::vector<Core*>& from, const std::vector<Core*>& to, int mode, int id) {
    for (Core* core : from) {
        if (core->sets(mode, id).empty()) return;
    }
    Arrival all = from[0]->sets(mode, id).front();
    auto clock = std::make_shared<Clock>(*all.clock);
    for (Core* core : from) {
        const Arrival& one = core->sets(mode, id).front();
        clock->join(*one.clock);
        all.time = std::max(all.time, one.time);
        core->sets(mode, id).pop_front();
    }
    all.clock = clock;
    for (Core* core : to) deliver(*core, id, all);
}

void Machine::deliver(Core& core, int id, const Arrival& arrival) {
    auto& arrivals = core.arrivals[id];
    if (arrivals.size() == 15) {
        fault("cross-core flag", arrival.site, core,
              text_of("flag %d is set for the 16th time before %s has waited for one; its counter holds 15", id,
                      core.name().c_str()));
    }
    if (!arrivals.empty() && arrivals.back().mode != arrival.mode) {
        fault("cross-core flag", arrival.site, core,
              text_of("flag %d is set in mode %d here and in mode %d at line %d: one id has one counter", id,
                      arrival.mode, arrivals.back().mode, arrivals.back().site.line), arrivals.back().site.line);
    }
    arrivals.push_back(arrival);
    refresh(core);
}

void Machine::perform_cross_wait(Core& core, PipeState& state, Instruction& instruction) {
    auto& arrivals = core.arrivals[instruction.id];
    Arrival arrival = arrivals.front();
    arrivals.pop_front();
    if (instruction.mode != 0 && instruction.mode != arrival.mode) {
        fault("cross-core flag", instruction.site, core,
              text_of("flag %d is waited for in mode %d, and line %d sets it in mode %d", instruction.id,
                      instruction.mode, arrival.site.line, arrival.mode), arrival.site.line);
    }
    auto clock = std::make_shared<Clock>(*arrival.clock);
    // Sets by different pipes may have arrived in any order.
    for (const Arrival& other : arrivals) {
        if (other.pipe != arrival.pipe) clock->meet(*other.clock);
    }
    state.known.join(*clock);
    state.free = std::max({state.free, instruction.issued, arrival.time});
    if (instruction.pipe == Pipe::S) core.snapshot = nullptr;
}

void Machine::touch(Core& core, const Instruction& instruction, const Touch& touched, uint32_t time) {
    const Operand& operand = touched.operand;
    Access access{instruction.site, core.actor(instruction.pipe), time, instruction.sequence, touched.write, touched.atomic,
                  touched.carries, instruction.in_order};
    uint64_t base = operand.address;
    Shadow* shadow = nullptr;
    if (operand.memory == Memory::GM) {
        Allocation* allocation = allocation_of(operand.address);
        if (allocation == nullptr) return;
        base -= reinterpret_cast<uint64_t>(allocation->base);
        shadow = allocation->shadow.get();
        allocation->written |= touched.write;
        if (dirty_lines && instruction.pipe != Pipe::S) check_caches(core, instruction, touched);
    } else {
        shadow = &core.shadow(operand.memory);
    }
    const Clock& known = core.pipe(instruction.pipe).known;
    Conflict conflict;
    for_each_block(merged(touched.region), [&](int64_t begin, int64_t end, const uint32_t* lanes) {
        shadow->access(base + static_cast<uint64_t>(begin), base + static_cast<uint64_t>(end), lanes, access, known,
                       conflict);
    });
    if (!conflict.races.empty() || conflict.uninitialised) report_conflict(core, instruction, touched, conflict);
}

}  // namespace twin
