#include "core.h"

#include "machine.h"

namespace twin {

const char* name_of(Memory memory) {
    static const char* const names[] = {"GM", "UB", "L1", "L0A", "L0B", "L0C", "the bias table", "the fixpipe buffer"};
    return names[static_cast<int>(memory)];
}

const char* name_of(Pipe pipe) {
    static const char* const names[] = {"S", "V", "M", "MTE1", "MTE2", "MTE3", "FIX"};
    return names[static_cast<int>(pipe)];
}

const char* name_of(Type type) {
    static const char* const names[] = {"int4b_t",    "int8_t",  "uint8_t",  "int16_t", "uint16_t", "half",
                                        "bfloat16_t", "int32_t", "uint32_t", "float",   "int64_t",  "uint64_t"};
    return names[static_cast<int>(type)];
}

Core::Core(Machine& machine, uint32_t index, Side side, uint32_t group, uint32_t sub)
    : machine(machine), index(index), side(side), group(group), sub(sub) {}

uint8_t* Core::bytes(Memory memory) {
    auto& place = memory_[static_cast<int>(memory)];
    if (!place) {
        auto size = static_cast<size_t>(machine.chip.memory_bytes[static_cast<int>(memory)]);
        place.reset(new uint8_t[size]);
        // NaN in every floating type.
        std::memset(place.get(), 0xFF, size);
    }
    return place.get();
}

Shadow& Core::shadow(Memory memory) {
    auto& place = shadow_[static_cast<int>(memory)];
    if (!place) place = std::make_unique<Shadow>(machine.chip.memory_bytes[static_cast<int>(memory)], false);
    return *place;
}

void Core::clear() {
    for (int m = 0; m < memories; ++m) {
        if (!shadow_[m]) continue;
        auto size = static_cast<uint64_t>(machine.chip.memory_bytes[m]);
        uint8_t* bytes = this->bytes(static_cast<Memory>(m));
        shadow_[m]->clear([&](uint64_t begin) {
            std::memset(bytes + begin, 0xFF, size - begin < granule_bytes ? size - begin : granule_bytes);
        });
    }
}

std::string Core::name() const {
    if (side == Side::AIC) return text_of("AIC %lld", static_cast<long long>(block));
    return text_of("AIV %lld", static_cast<long long>(block * machine.vector_cores_of_block() + sub));
}

bool Core::drained() const {
    for (const PipeState& state : pipe_states_) {
        if (!state.queue.empty()) return false;
    }
    return true;
}

}  // namespace twin
