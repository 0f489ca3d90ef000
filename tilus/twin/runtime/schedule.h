// Which core and pipe steps next: an adversary that is free as far as flags leave it.
#pragma once

#include "machine.h"

namespace twin {

// xorshift64*.
class Random {
 public:
    explicit Random(uint64_t seed) : state_(seed * 0x9E3779B97F4A7C15u + 0x2545F4914F6CDD1Du) {}

    uint64_t below(uint64_t bound) {
        state_ ^= state_ >> 12;
        state_ ^= state_ << 25;
        state_ ^= state_ >> 27;
        return (state_ * 0x2545F4914F6CDD1Du >> 32) % bound;
    }

 private:
    uint64_t state_;
};

struct Step {
    Core* core = nullptr;
    Pipe pipe = Pipe::S;
};

class Scheduler {
 public:
    explicit Scheduler(Machine& machine);

    // A step that is possible; no core where there is none.
    Step next();
    // How many instructions a scalar unit may issue in a row.
    int burst();

 private:
    Step at_random();
    Step demanded();
    Step in_program_order();
    Core& any_core();
    Pipe any_pipe(uint32_t mask);

    Machine& machine_;
    Random random_;
    Order order_;
    int character_;        // of random orders: which rule besides chance
    Pipe favourite_;       // the pipe that is always first, or last
    uint32_t slow_core_;
};

}  // namespace twin
