// Flags between the pipes of a core, between cores, and barriers.
#pragma once

#include "twin/types.h"

namespace twin {

void set_flag(Pipe from, Pipe to, int id, int line);
void wait_flag(Pipe from, Pipe to, int id, int line);
void pipe_barrier(pipe_t pipe, int line);
void cross_core_set(int mode, pipe_t pipe, int id, int line);
void cross_core_wait(int mode, pipe_t pipe, int id, int line);
void sync_all(bool vector_cores_only, int line);

constexpr Pipe first_pipe(AscendC::HardEvent event) { return static_cast<Pipe>(static_cast<int>(event) >> 4); }
constexpr Pipe second_pipe(AscendC::HardEvent event) { return static_cast<Pipe>(static_cast<int>(event) & 15); }

}  // namespace twin

namespace AscendC {

template <HardEvent event>
void SetFlag(int32_t id, int line = __builtin_LINE()) {
    twin::set_flag(twin::first_pipe(event), twin::second_pipe(event), id, line);
}

template <HardEvent event>
void WaitFlag(int32_t id, int line = __builtin_LINE()) {
    twin::wait_flag(twin::first_pipe(event), twin::second_pipe(event), id, line);
}

template <pipe_t pipe>
void PipeBarrier(int line = __builtin_LINE()) {
    static_assert(pipe != PIPE_S, "PipeBarrier: the scalar unit runs in order and has no barrier");
    twin::pipe_barrier(pipe, line);
}

// Mode 0: all cores of this side; 1: both vector cores of a block; 2: the cube core and the vector cores of a block.
template <uint8_t mode, pipe_t pipe>
void CrossCoreSetFlag(uint16_t id, int line = __builtin_LINE()) {
    static_assert(mode <= 2, "CrossCoreSetFlag: this chip has modes 0, 1 and 2");
    static_assert(pipe != PIPE_ALL, "CrossCoreSetFlag: one pipe sets the flag");
    twin::cross_core_set(mode, pipe, id, line);
}

template <uint8_t mode = 0, pipe_t pipe = PIPE_S>
void CrossCoreWaitFlag(uint16_t id, int line = __builtin_LINE()) {
    static_assert(mode <= 2, "CrossCoreWaitFlag: this chip has modes 0, 1 and 2");
    static_assert(pipe != PIPE_ALL, "CrossCoreWaitFlag: one pipe waits");
    twin::cross_core_wait(mode, pipe, id, line);
}

template <bool vectorCoresOnly = true>
void SyncAll(int line = __builtin_LINE()) {
    twin::sync_all(vectorCoresOnly, line);
}

}  // namespace AscendC
