// Which core and pipe steps next: an adversary that is free as far as flags leave it.
#pragma once

#include <random>

#include "machine.h"

namespace twin {

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
    std::mt19937_64 random_;
    Order order_;
    int character_;        // of random orders: which rule besides chance
    Pipe favourite_;       // the pipe that is always first, or last
    uint32_t slow_core_;
};

}  // namespace twin
