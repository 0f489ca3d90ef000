#include "fiber.h"

#include <sys/mman.h>

#include <new>

namespace twin {

namespace {

// Frames of the machine that runs the twin are larger than those of the device, whose limit is checked apart.
constexpr size_t stack_bytes = 512 << 10;
constexpr size_t guard_bytes = 64 << 10;

}  // namespace

Fiber::~Fiber() {
    if (stack_ != nullptr) munmap(stack_, guard_bytes + stack_bytes);
}

void Fiber::start(void (*function)()) {
    if (stack_ == nullptr) {
        void* memory = mmap(nullptr, guard_bytes + stack_bytes, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (memory == MAP_FAILED) throw std::bad_alloc();
        mprotect(memory, guard_bytes, PROT_NONE);
        stack_ = static_cast<uint8_t*>(memory);
    }
    function_ = function;
    ended_ = false;
    getcontext(&inside_);
    inside_.uc_stack.ss_sp = stack_ + guard_bytes;
    inside_.uc_stack.ss_size = stack_bytes;
    inside_.uc_link = &outside_;
    auto self = reinterpret_cast<uintptr_t>(this);
    makecontext(&inside_, reinterpret_cast<void (*)()>(&Fiber::enter), 2, static_cast<unsigned>(self >> 32),
                static_cast<unsigned>(self));
}

void Fiber::enter(unsigned high, unsigned low) {
    auto* self = reinterpret_cast<Fiber*>((static_cast<uintptr_t>(high) << 32) | low);
    self->function_();
    self->ended_ = true;
}

bool Fiber::resume() {
    swapcontext(&outside_, &inside_);
    return ended_;
}

void Fiber::suspend() { swapcontext(&inside_, &outside_); }

size_t Fiber::depth(const void* address) const {
    return static_cast<size_t>(stack_ + guard_bytes + stack_bytes - static_cast<const uint8_t*>(address));
}

}  // namespace twin
