// What each lane-wise instruction computes on lanes that were loaded into arrays.
#pragma once

#include <cstdint>

#include "vector_lanes.h"
#include "twin/vector_types.h"

namespace twin {

// Lanes of float types are computed as floats and rounded once to their type, integers as 64 bits and cut to theirs.
struct FloatLanes {
    float d[most_lanes];  // the destination: its old values where the instruction accumulates
    float a[most_lanes];
    float b[most_lanes];
};

struct IntLanes {
    int64_t d[most_lanes];
    int64_t a[most_lanes];
    int64_t b[most_lanes];
};

struct LaneParameters {
    double scalar = 0;      // of float types
    int64_t integer = 0;    // of integer types
    bool round_shift = false;
    bool half = false;      // results and operands that are denormal are those of f16
};

using FloatKernel = void (*)(FloatLanes&, int count, const LaneParameters&);
using IntKernel = void (*)(IntLanes&, int count, const LaneParameters&);

// Null where the type has no such instruction.
FloatKernel float_kernel(VectorOp op);
IntKernel int_kernel(VectorOp op);
// True where the old values of the destination are an operand.
bool accumulates(VectorOp op);

}  // namespace twin
