#include "machine.h"

#include <sys/mman.h>

#include <algorithm>

#include "schedule.h"

namespace twin {

Machine* machine = nullptr;

namespace {

// Arrays lie apart, so that an index beyond one meets no other.
constexpr uint64_t gap = uint64_t{64} << 20;
constexpr uint64_t page = 4096;
// A run with so many faults says nothing new, and a kernel may make so many calls for each instruction.
constexpr uint64_t most_faults = 100000;
constexpr uint64_t calls_per_instruction = 16;

Scheduler* scheduler = nullptr;

struct BlockCores {
    int64_t cube, vector;
};

BlockCores cores_of(KernelType type) {
    switch (type) {
        case KERNEL_TYPE_AIV_ONLY: case KERNEL_TYPE_MIX_AIV_1_0: return {0, 1};
        case KERNEL_TYPE_AIC_ONLY: case KERNEL_TYPE_MIX_AIC_1_0: return {1, 0};
        case KERNEL_TYPE_MIX_AIC_1_1: return {1, 1};
        default: return {1, 2};
    }
}

}  // namespace

Machine::Machine(const ChipDescription& chip, const RunDescription& run, ArrayDescription* arrays, void** arguments)
    : chip(chip), run(run), arguments_(arguments), arrays_(arrays) {
    arena_bytes_ = gap;
    for (int64_t i = 0; i < run.arrays; ++i) arena_bytes_ += (arrays[i].bytes / page + 1) * page + gap;
    arena_ = mmap(nullptr, arena_bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (arena_ == MAP_FAILED) throw std::bad_alloc();
    uint8_t* place = static_cast<uint8_t*>(arena_) + gap;
    for (int64_t i = 0; i < run.arrays; ++i) {
        const ArrayDescription& array = arrays[i];
        uint8_t* base = place;
        for (int64_t j = 0; j < i; ++j) {
            if (arrays[j].data == array.data && arrays[j].bytes == array.bytes) base = allocations_[j].base;
        }
        Allocation allocation;
        allocation.base = base;
        allocation.bytes = array.bytes;
        allocation.argument = static_cast<int>(array.argument);
        if (base == place) {
            std::memcpy(base, array.data, array.bytes);
            allocation.shadow = std::make_unique<Shadow>(array.bytes, true);
            place += (array.bytes / page + 1) * page + gap;
        }
        *static_cast<void**>(arguments[array.argument]) = base;
        allocations_.push_back(std::move(allocation));
    }
}

Machine::~Machine() { munmap(arena_, arena_bytes_); }

Allocation* Machine::allocation_of(uint64_t address) {
    for (Allocation& allocation : allocations_) {
        auto base = reinterpret_cast<uint64_t>(allocation.base);
        // An address within half of the gap is one of a wrong index, whose array the finding names.
        if (allocation.shadow && address + gap / 2 >= base && address < base + allocation.bytes + gap / 2) {
            return &allocation;
        }
    }
    return nullptr;
}

void Machine::fault(const char* kind, Site site, const Core& core, const std::string& text, int partner) {
    findings_.add(kind, site, core.name(), text, partner);
    if (++faults_ == most_faults) stop();
}

void Machine::stop() {
    stopped_ = true;
    if (on_scalar_) suspend(Wait::Sync);
}

int64_t Machine::active(Side side) const {
    int64_t per_group = side == Side::AIC ? cube_of_block_ : vector_of_block_;
    return std::max<int64_t>(1, per_group * groups_);
}

void Machine::enter() { machine->entry_(machine->arguments_); }

// Run one core until it says what type the kernel has.
bool Machine::probe() {
    if (run.type >= 0) {
        type_ = static_cast<KernelType>(run.type);
        return true;
    }
    Core core(*this, 0, Side::AIC, 0, 0);
    current_ = &core;
    core.block = 0;
    core.wait = Wait::Nothing;
    probing_ = true;
    core.fiber.start(&Machine::enter);
    core.fiber.resume();
    probing_ = false;
    if (!typed_) {
        fault("kernel type", {"KERNEL_TASK_TYPE_DEFAULT", 0}, core,
              "the kernel does not begin with KERNEL_TASK_TYPE_DEFAULT(KERNEL_TYPE_...), which says which cores run it");
    }
    return typed_;
}

void Machine::state_type(KernelType type, int) {
    if (!probing_) return;
    type_ = type;
    typed_ = true;
    current_->fiber.suspend();
}

Core& running() {
    Core& core = machine->core();
    machine->enter_call(core);
    return core;
}

void Machine::enter_call(Core& core) {
    // A call before the type is stated: the probe ends without one.
    if (probing_) core.fiber.suspend();
    if (++calls_ / calls_per_instruction == static_cast<uint64_t>(run.most_instructions)) {
        fault("endless", {"", 0}, core, text_of("the kernel has made %llu calls", static_cast<unsigned long long>(calls_)));
        stop();
    }
    if (!core.deep && core.fiber.depth(__builtin_frame_address(0)) > device_stack_bytes) {
        core.deep = true;
        fault("stack", {"", 0}, core, "more than 32 KB of stack are in use; the device has 32 KB");
    }
}

void Machine::build_cores() {
    auto [cube, vector] = cores_of(type_);
    cube_of_block_ = cube;
    vector_of_block_ = vector;
    int64_t physical = cube > 0 ? chip.cube_cores : chip.vector_cores;
    groups_ = static_cast<uint32_t>(std::min(run.blocks, physical));
    for (uint32_t group = 0; group < groups_; ++group) {
        uint32_t index = static_cast<uint32_t>(cores_.size());
        if (cube > 0) cores_.push_back(std::make_unique<Core>(*this, index++, Side::AIC, group, 0));
        for (uint32_t sub = 0; sub < vector; ++sub) {
            cores_.push_back(std::make_unique<Core>(*this, index++, Side::AIV, group, sub));
        }
    }
    size_t actors = cores_.size() * actors_of_core;
    for (auto& core : cores_) {
        for (int p = 0; p < pipes; ++p) core->pipe(static_cast<Pipe>(p)).known = Clock(actors);
    }
    place_.assign(cores_.size(), -1);
}

void Machine::begin_block(uint32_t group) {
    int64_t block = next_block_++;
    for (auto& core : cores_) {
        if (core->group != group) continue;
        core->clear();
        core->block = block;
        core->wait = Wait::Nothing;
        core->pipe_object = PipeObject();
        core->static_memory = core->hf32 = core->fixpipe_scales_set = core->pad_value_set = false;
        core->atomic = 0;
        core->vector = VectorState();
        core->fiber.start(&Machine::enter);
        refresh(*core);
    }
}

// All cores of a group have ended: look what they left, and begin the next block.
void Machine::end_group(uint32_t group) {
    for (auto& core : cores_) {
        if (core->group == group && (core->wait != Wait::Ended || !core->drained())) return;
    }
    for (auto& core : cores_) {
        if (core->group == group) check_end(*core);
    }
    if (next_block_ < run.blocks) begin_block(group);
}

void Machine::check_end(Core& core) {
    for (int from = 0; from < pipes; ++from) {
        for (int to = 0; to < pipes; ++to) {
            for (int id = 0; id < event_ids; ++id) {
                Flag& flag = core.flag(static_cast<Pipe>(from), static_cast<Pipe>(to), id);
                if (!flag.set()) continue;
                fault("flag left set", flag.site, core,
                      text_of("HardEvent::%s_%s id %d is still set when the kernel ends, which breaks the next one: "
                              "wait for it", name_of(static_cast<Pipe>(from)), name_of(static_cast<Pipe>(to)), id));
                flag.sets.clear();
            }
        }
    }
    for (auto& [address, unit] : core.units) {
        if (unit.full) fault("flag left set", unit.site, core, "no Fixpipe with unitFlag 3 takes this tile of L0C");
    }
    core.units.clear();
    for (auto& [address, line] : core.cache.lines) {
        if (!line.dirty) continue;
        fault("data cache", line.written, core,
              "the value is still in the data cache when the kernel ends: DataCacheCleanAndInvalid has to follow");
    }
    core.cache.lines.clear();
    if (core.atomic != 0) {
        fault("atomic left set", core.atomic_site, core,
              "copies of the next kernel would combine with GM too: SetAtomicNone() before the end");
    }
    for (int id = 0; id < cross_ids; ++id) {
        for (const Arrival& arrival : core.arrivals[id]) {
            fault("flag left set", arrival.site, core,
                  text_of("cross-core flag %d is still set when the kernel ends: %s has to wait for it", id,
                          core.name().c_str()));
        }
        core.arrivals[id].clear();
    }
}

void Machine::refresh(Core& core) {
    core.ready = 0;
    for (int p = 0; p < pipes; ++p) {
        if (can_step(core, static_cast<Pipe>(p))) core.ready |= 1u << p;
    }
    int64_t& place = place_[core.index];
    if (core.ready != 0 && place < 0) {
        place = static_cast<int64_t>(active_.size());
        active_.push_back(core.index);
    } else if (core.ready == 0 && place >= 0) {
        active_[place] = active_.back();
        place_[active_.back()] = place;
        active_.pop_back();
        place = -1;
    }
}

void Machine::step(Core& core, Pipe pipe) {
    current_ = &core;
    if (pipe == Pipe::S) {
        core.wait = Wait::Nothing;
        core.burst = scheduler->burst();
        on_scalar_ = true;
        bool ended = core.fiber.resume();
        on_scalar_ = false;
        if (ended) core.wait = Wait::Ended;
    } else {
        auto& queue = core.pipe(pipe).queue;
        Instruction instruction = std::move(queue.front());
        queue.pop_front();
        perform(core, instruction);
    }
    refresh(core);
    if (core.wait == Wait::Ended && core.ready == 0) end_group(core.group);
}

bool Machine::finished() const {
    for (const auto& core : cores_) {
        if (core->wait != Wait::Ended || !core->drained()) return false;
    }
    return next_block_ >= run.blocks;
}

void Machine::execute(void (*entry)(void**)) {
    entry_ = entry;
    machine = this;
    if (probe()) {
        build_cores();
        Scheduler adversary(*this);
        scheduler = &adversary;
        for (uint32_t group = 0; group < groups_; ++group) begin_block(group);
        for (Step next = adversary.next(); next.core != nullptr && !stopped_; next = adversary.next()) {
            step(*next.core, next.pipe);
        }
        if (!stopped_ && !finished()) report_deadlock();
        scheduler = nullptr;
    }
    machine = nullptr;
    for (int64_t i = 0; i < run.arrays; ++i) {
        const Allocation& allocation = allocations_[i];
        if (allocation.written) std::memcpy(arrays_[i].data, allocation.base, allocation.bytes);
    }
}

}  // namespace twin
