// Fibers: the scalar units of cores, which run the kernel function until they have to wait.
#pragma once

#include <ucontext.h>

#include <cstddef>
#include <cstdint>

namespace twin {

class Fiber {
 public:
    Fiber() = default;
    Fiber(const Fiber&) = delete;
    Fiber& operator=(const Fiber&) = delete;
    ~Fiber();

    // Begin `function` anew at the next `resume`.
    void start(void (*function)());
    // From outside: run until it suspends or ends. Whether it has ended.
    bool resume();
    // From inside: back to whoever resumed it.
    void suspend();
    // Bytes of stack between the fiber's start and `address`.
    size_t depth(const void* address) const;

 private:
    static void enter(unsigned high, unsigned low);

    ucontext_t inside_, outside_;
    void (*function_)() = nullptr;
    uint8_t* stack_ = nullptr;
    bool ended_ = true;
};

}  // namespace twin
