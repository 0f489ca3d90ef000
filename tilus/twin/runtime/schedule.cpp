#include "schedule.h"

namespace twin {

namespace {

enum Character { uniform, pipe_last, pipe_first, slow_core, characters };

constexpr uint32_t scalar_bit = 1u << static_cast<int>(Pipe::S);

}  // namespace

Scheduler::Scheduler(Machine& machine)
    : machine_(machine), random_(static_cast<uint64_t>(machine.run.seed)),
      order_(static_cast<Order>(machine.run.order)), character_(static_cast<int>(machine.run.seed % characters)),
      favourite_(static_cast<Pipe>(random_.below(pipes))),
      slow_core_(static_cast<uint32_t>(random_.below(machine.cores_.size()))) {}

int Scheduler::burst() {
    switch (order_) {
        case Order::random: return static_cast<int>(1 + random_.below(8));
        case Order::program: return 1;
        default: return 1 << 20;
    }
}

Step Scheduler::next() {
    if (machine_.active_.empty()) return {};
    switch (order_) {
        case Order::early:
            for (uint32_t index : machine_.active_) {
                if (machine_.cores_[index]->ready & scalar_bit) return {machine_.cores_[index].get(), Pipe::S};
            }
            return at_random();
        case Order::late: return demanded();
        case Order::program: return in_program_order();
        default: return at_random();
    }
}

Core& Scheduler::any_core() {
    const auto& active = machine_.active_;
    uint32_t index = active[random_.below(active.size())];
    if (character_ == slow_core && index == slow_core_ && active.size() > 1) index = active[random_.below(active.size())];
    return *machine_.cores_[index];
}

Pipe Scheduler::any_pipe(uint32_t mask) {
    int skip = static_cast<int>(random_.below(static_cast<unsigned>(__builtin_popcount(mask))));
    for (; skip > 0; --skip) mask &= mask - 1;
    return static_cast<Pipe>(__builtin_ctz(mask));
}

Step Scheduler::at_random() {
    Core& core = any_core();
    uint32_t mask = core.ready, favourite = 1u << static_cast<int>(favourite_);
    if (character_ == pipe_first && (mask & favourite)) mask = favourite;
    if (character_ == pipe_last && (mask & ~favourite)) mask &= ~favourite;
    return {&core, any_pipe(mask)};
}

// A pipe steps only when the scalar unit, or a pipe that it waits for, waits for it.
Step Scheduler::demanded() {
    for (uint32_t index : machine_.active_) {
        if (machine_.cores_[index]->ready & scalar_bit) return {machine_.cores_[index].get(), Pipe::S};
    }
    Core& core = any_core();
    Pipe wanted = Pipe::S;
    if (core.wait == Wait::Flag) wanted = core.waiting.other;
    if (core.wait == Wait::Queue) wanted = core.waiting.pipe;
    for (int hops = 0; hops < pipes && wanted != Pipe::S; ++hops) {
        if (core.ready & (1u << static_cast<int>(wanted))) return {&core, wanted};
        const auto& queue = core.pipe(wanted).queue;
        if (queue.empty() || queue.front().kind != Kind::WaitFlag) break;
        wanted = queue.front().other;
    }
    return {&core, any_pipe(core.ready)};
}

Step Scheduler::in_program_order() {
    uint32_t first = machine_.active_[0];
    for (uint32_t index : machine_.active_) first = index < first ? index : first;
    Core& core = *machine_.cores_[first];
    uint32_t others = core.ready & ~scalar_bit;
    return {&core, others ? static_cast<Pipe>(__builtin_ctz(others)) : Pipe::S};
}

}  // namespace twin
