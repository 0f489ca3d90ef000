// Vector clocks: how many entries of each pipe of each core are known to be complete.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "twin/types.h"

namespace twin {

// A pipe of a core, as an index into clocks.
using Actor = uint32_t;
constexpr uint32_t actors_of_core = 8;  // a power of two above the number of pipes

constexpr Actor actor_of(uint32_t core, Pipe pipe) { return core * actors_of_core + static_cast<uint32_t>(pipe); }

class Clock {
 public:
    explicit Clock(size_t size = 0) : times_(size) {}

    uint32_t operator[](Actor actor) const { return times_[actor]; }
    uint32_t& operator[](Actor actor) { return times_[actor]; }

    void join(const Clock& other) {
        for (size_t i = 0; i < times_.size(); ++i) times_[i] = other.times_[i] > times_[i] ? other.times_[i] : times_[i];
    }

    // What both know: all that is certain when either may have happened.
    void meet(const Clock& other) {
        for (size_t i = 0; i < times_.size(); ++i) times_[i] = other.times_[i] < times_[i] ? other.times_[i] : times_[i];
    }

 private:
    std::vector<uint32_t> times_;
};

using SharedClock = std::shared_ptr<const Clock>;

}  // namespace twin
