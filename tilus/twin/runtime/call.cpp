#include "call.h"

#include "twin/tensor.h"

namespace twin {

namespace {

bool has_pipe(Side side, Pipe pipe) {
    if (pipe == Pipe::S || pipe == Pipe::MTE2) return true;
    bool vector = pipe == Pipe::V || pipe == Pipe::MTE3;
    return vector == (side == Side::AIV);
}

bool has_memory(Side side, Memory memory) {
    return memory == Memory::GM || (memory == Memory::UB) == (side == Side::AIV);
}

const char* other_side(Side side) { return side == Side::AIC ? "vector" : "cube"; }

uint64_t alignment_of(Memory memory) {
    switch (memory) {
        case Memory::L0A: case Memory::L0B: return 512;
        case Memory::L0C: return 64;
        case Memory::BT: return 64;
        case Memory::FB: return 128;
        case Memory::GM: return 1;
        default: return 32;
    }
}

long long number(uint64_t value) { return static_cast<long long>(value); }

}  // namespace

Call::Call(const char* name, Pipe pipe, int line) : core(running()) {
    instruction_.site = {name, line};
    instruction_.pipe = pipe;
    if (!has_pipe(core.side, pipe)) {
        fault("wrong core", text_of("%s is for %s cores; here it does nothing: put it under ASCEND_IS_%s", name,
                                    other_side(core.side), core.side == Side::AIC ? "AIV" : "AIC"));
    }
}

void Call::fault(const char* kind, const std::string& text) {
    machine->fault(kind, instruction_.site, core, text);
    sound_ = false;
}

Call& Call::touches(const Operand& operand, const Region& region, bool write, bool atomic, bool carries) {
    if (region.empty()) return *this;
    if (!has_memory(core.side, operand.memory)) {
        if (sound_) fault("wrong core", text_of("%s is a memory of %s cores", name_of(operand.memory),
                                                other_side(core.side)));
        return *this;
    }
    check_bounds(operand, region);
    instruction_.touches.push_back({operand, region, write, atomic, carries});
    return *this;
}

void Call::check_bounds(const Operand& operand, const Region& region) {
    int64_t first = region.first(), last = region.last();
    const char* name = name_of(operand.memory);
    if (first < 0 || static_cast<uint64_t>(last) > operand.bytes) {
        fault("out of bounds", text_of("bytes %lld to %lld of a tensor of %lld bytes in %s", number(first),
                                       number(last), number(operand.bytes), name));
        return;
    }
    if (operand.memory == Memory::GM) {
        Allocation* allocation = machine->allocation_of(operand.address);
        if (allocation == nullptr) {
            fault("out of bounds", "a GM address that belongs to no array argument");
            return;
        }
        int64_t base = static_cast<int64_t>(operand.address - reinterpret_cast<uint64_t>(allocation->base));
        if (base + first < 0 || base + last > static_cast<int64_t>(allocation->bytes)) {
            fault("out of bounds", text_of("bytes %lld to %lld of argument %d, an array of %lld bytes",
                                           number(base + first), number(base + last), allocation->argument,
                                           number(allocation->bytes)));
        }
        return;
    }
    int64_t size = machine->chip.memory_bytes[static_cast<int>(operand.memory)];
    if (static_cast<int64_t>(operand.address) + last > size) {
        fault("out of bounds", text_of("bytes up to %lld of %s, which has %lld", number(operand.address + last), name,
                                       number(size)));
    }
}

Call& Call::reads(const Operand& operand, const Region& region) { return touches(operand, region, false, false); }
Call& Call::writes(const Operand& operand, const Region& region) { return touches(operand, region, true, false); }
Call& Call::carries(const Operand& operand, const Region& region) {
    return touches(operand, region, false, false, true);
}

Call& Call::updates(const Operand& operand, const Region& region) {
    return touches(operand, region, true, core.atomic != 0);
}

Call& Call::aligned(const Operand& operand, uint64_t bytes, const char* what) {
    if (operand.memory != Memory::GM && operand.address % bytes != 0) {
        fault("alignment", text_of("%s lies at byte %lld of %s, and has to lie at a multiple of %lld", what,
                                   number(operand.address), name_of(operand.memory), number(bytes)));
    }
    return *this;
}

Call& Call::within(const char* field, int64_t value, int64_t low, int64_t high) {
    if (value < low || value > high) {
        fault("parameter", text_of("%s is %lld, and can be %lld to %lld", field, static_cast<long long>(value),
                                   static_cast<long long>(low), static_cast<long long>(high)));
    }
    return *this;
}

Call& Call::costs(double occupancy, double latency) {
    instruction_.cost = {occupancy, latency};
    return *this;
}

Call& Call::count(Counter counter, uint64_t amount) {
    counts_.emplace_back(counter, amount);
    return *this;
}

Call& Call::in_order() {
    instruction_.in_order = true;
    return *this;
}

Call& Call::fills_unit(uint64_t address, bool last) {
    instruction_.unit = last ? UnitFlag::Completes : UnitFlag::Fills;
    instruction_.unit_address = address;
    return *this;
}

Call& Call::drains_unit(uint64_t address) {
    instruction_.unit = UnitFlag::Drains;
    instruction_.unit_address = address;
    return *this;
}

Call& Call::gathers(std::function<void(Core&, std::vector<Touch>&)> touches) {
    instruction_.gathers = std::move(touches);
    return *this;
}

void Call::issue(std::function<void(Core&)> body) {
    if (!sound_) return;
    for (auto [counter, amount] : counts_) machine->count(counter, amount);
    instruction_.body = std::move(body);
    machine->issue(std::move(instruction_));
}

void Call::run_here(std::function<void(Core&)> body) {
    if (!sound_) return;
    for (auto [counter, amount] : counts_) machine->count(counter, amount);
    instruction_.body = std::move(body);
    instruction_.in_order = true;
    machine->run_here(std::move(instruction_), Wait::Nothing);
}

void check_local(Memory memory, uint64_t address, uint64_t bytes, int line) {
    Core& core = running();
    Site site{"LocalTensor", line};
    uint64_t size = static_cast<uint64_t>(machine->chip.memory_bytes[static_cast<int>(memory)]);
    uint64_t unit = alignment_of(memory);
    if (memory == Memory::GM) {
        machine->fault("parameter", site, core, "a LocalTensor lies in a memory of the core, not in GM");
    } else if (address + bytes > size) {
        machine->fault("out of bounds", site, core,
                       text_of("bytes %lld to %lld of %s, which has %lld", number(address), number(address + bytes),
                               name_of(memory), number(size)));
    } else if (address % unit != 0) {
        machine->fault("alignment", site, core,
                       text_of("byte %lld of %s is no multiple of %lld", number(address), name_of(memory),
                               number(unit)));
    }
}

}  // namespace twin
