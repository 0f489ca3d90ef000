// What the runtime is told of a chip and a run; filled in by tilus/twin/program.py, field by field in this order.
#pragma once

#include <cstdint>

namespace twin {

struct ChipDescription {
    int64_t cube_cores, vector_cores;
    int64_t memory_bytes[8];      // by Memory; GM is 0
    // Bytes a cycle and core.
    double gm_to_ub, gm_to_l1, ub_to_gm, l0c_to_gm, l1_to_l0a, l1_to_l0b;
    // Of the L2 and an AI core, which is a cube core and two vector cores.
    double l2_read, l2_write;
};

constexpr int64_t device_stack_bytes = 32 << 10;

enum class Order : int64_t { random, early, late, program };

struct RunDescription {
    int64_t blocks;
    int64_t seed;
    int64_t order;
    int64_t strict;
    int64_t overflow;
    int64_t arrays;
    int64_t type;               // a KernelType, or -1 where the kernel states it
    int64_t most_instructions;  // after which the kernel counts as endless
};

struct ArrayDescription {
    void* data;
    int64_t bytes;
    int64_t argument;  // its index among the arguments
};

// Counters of a run, in the order of the names in tilus/twin/report.py.
enum class Counter : uint8_t {
    GmToUb, UbToGm, GmToL1, GmToL0, L1ToL0A, L1ToL0B, L1ToBias, L0cToGm, L0cToL1, VectorCalls, VectorRepeats,
    CubeFractals, CubeMacs, CrossCoreFlags, ScalarAccesses, Instructions
};
constexpr int counters = 16;

}  // namespace twin
