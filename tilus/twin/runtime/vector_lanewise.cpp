#include "vector_lanewise.h"

#include <cmath>

#include "vector_values.h"

namespace twin {

namespace {

using P = LaneParameters;

// Denormal operands and results of division, roots, exponentials and logarithms are zero.
float flush(float value, const P& p) {
    const float least = p.half ? 0x1p-14f : 0x1p-126f;
    return std::fabs(value) < least ? std::copysign(0.0f, value) : value;
}

// NaN where either is.
float larger(float a, float b) { return a > b || std::isnan(a) ? a : b; }
float smaller(float a, float b) { return a < b || std::isnan(a) ? a : b; }
float positive(float a) { return a > 0.0f || std::isnan(a) ? a : 0.0f; }

// The hardware's estimates miss 1e-3 of half and 1e-4 of float: the result by as much, the same for the same argument.
float inaccurate(float exact, float argument, const P& p) {
    if (exact == 0.0f || !std::isfinite(exact)) return exact;
    const double worst = p.half ? 1e-3 : 1e-4;
    const uint32_t hash = static_cast<uint32_t>(bits_of_float(Type::f32, argument)) * 2654435761u;
    const double part = 0.75 + 0.25 * ((hash >> 8) & 0xff) / 255.0;
    return static_cast<float>(exact * (1.0 + (hash >> 31 ? worst : -worst) * part));
}

float scalar_of(const P& p) { return static_cast<float>(p.scalar); }

// Sources a and b and the old value of the destination.
float add(float a, float b, float, const P&) { return a + b; }
float subtract(float a, float b, float, const P&) { return a - b; }
float multiply(float a, float b, float, const P&) { return a * b; }
float divide(float a, float b, float, const P& p) { return flush(flush(a, p) / flush(b, p), p); }
float maximum(float a, float b, float, const P&) { return larger(a, b); }
float minimum(float a, float b, float, const P&) { return smaller(a, b); }
float add_relu(float a, float b, float, const P&) { return positive(a + b); }
float subtract_relu(float a, float b, float, const P&) { return positive(a - b); }
float multiply_add(float a, float b, float d, const P&) { return std::fma(a, b, d); }
float fused_multiply_add(float a, float b, float d, const P&) { return std::fma(a, d, b); }
float axpy(float a, float, float d, const P& p) { return std::fma(a, scalar_of(p), d); }
float adds(float a, float, float, const P& p) { return a + scalar_of(p); }
float muls(float a, float, float, const P& p) { return a * scalar_of(p); }
float maxs(float a, float, float, const P& p) { return larger(a, scalar_of(p)); }
float mins(float a, float, float, const P& p) { return smaller(a, scalar_of(p)); }
float leaky_relu(float a, float, float, const P& p) { return a < 0.0f ? a * scalar_of(p) : a; }
float exponential(float a, float, float, const P& p) { return flush(std::exp(flush(a, p)), p); }
float logarithm(float a, float, float, const P& p) { return flush(std::log(flush(a, p)), p); }
float root(float a, float, float, const P& p) { return flush(std::sqrt(flush(a, p)), p); }
float absolute(float a, float, float, const P&) { return std::fabs(a); }
float relu(float a, float, float, const P&) { return positive(a); }
float reciprocal(float a, float, float, const P& p) { return inaccurate(flush(1.0f / flush(a, p), p), a, p); }
float reciprocal_root(float a, float, float, const P& p) {
    return inaccurate(flush(1.0f / std::sqrt(flush(a, p)), p), a, p);
}

int64_t int_add(int64_t a, int64_t b, const P&) { return a + b; }
int64_t int_subtract(int64_t a, int64_t b, const P&) { return a - b; }
int64_t int_multiply(int64_t a, int64_t b, const P&) { return a * b; }
int64_t int_maximum(int64_t a, int64_t b, const P&) { return a > b ? a : b; }
int64_t int_minimum(int64_t a, int64_t b, const P&) { return a < b ? a : b; }
int64_t int_add_relu(int64_t a, int64_t b, const P&) { return a + b > 0 ? a + b : 0; }
int64_t int_subtract_relu(int64_t a, int64_t b, const P&) { return a > b ? a - b : 0; }
int64_t int_relu(int64_t a, int64_t, const P&) { return a > 0 ? a : 0; }
int64_t bit_and(int64_t a, int64_t b, const P&) { return a & b; }
int64_t bit_or(int64_t a, int64_t b, const P&) { return a | b; }
int64_t bit_not(int64_t a, int64_t, const P&) { return ~a; }
int64_t int_adds(int64_t a, int64_t, const P& p) { return a + p.integer; }
int64_t int_muls(int64_t a, int64_t, const P& p) { return a * p.integer; }
int64_t int_maxs(int64_t a, int64_t, const P& p) { return a > p.integer ? a : p.integer; }
int64_t int_mins(int64_t a, int64_t, const P& p) { return a < p.integer ? a : p.integer; }
int64_t shift_left(int64_t a, int64_t, const P& p) {
    return static_cast<int64_t>(static_cast<uint64_t>(a) << p.integer);
}
int64_t shift_right(int64_t a, int64_t, const P& p) {
    return p.round_shift && p.integer > 0 ? (a + (int64_t{1} << (p.integer - 1))) >> p.integer : a >> p.integer;
}

template <float (*f)(float, float, float, const P&)>
void all(FloatLanes& lanes, int count, const P& p) {
    for (int i = 0; i < count; ++i) lanes.d[i] = f(lanes.a[i], lanes.b[i], lanes.d[i], p);
}

template <int64_t (*f)(int64_t, int64_t, const P&)>
void all(IntLanes& lanes, int count, const P& p) {
    for (int i = 0; i < count; ++i) lanes.d[i] = f(lanes.a[i], lanes.b[i], p);
}

}  // namespace

bool accumulates(VectorOp op) {
    return op == VectorOp::MulAddDst || op == VectorOp::FusedMulAdd || op == VectorOp::Axpy;
}

FloatKernel float_kernel(VectorOp op) {
    switch (op) {
        case VectorOp::Add: return all<add>;
        case VectorOp::Sub: return all<subtract>;
        case VectorOp::Mul: return all<multiply>;
        case VectorOp::Div: return all<divide>;
        case VectorOp::Max: return all<maximum>;
        case VectorOp::Min: return all<minimum>;
        case VectorOp::AddRelu: return all<add_relu>;
        case VectorOp::SubRelu: return all<subtract_relu>;
        case VectorOp::MulAddDst: return all<multiply_add>;
        case VectorOp::FusedMulAdd: return all<fused_multiply_add>;
        case VectorOp::Axpy: return all<axpy>;
        case VectorOp::Adds: return all<adds>;
        case VectorOp::Muls: return all<muls>;
        case VectorOp::Maxs: return all<maxs>;
        case VectorOp::Mins: return all<mins>;
        case VectorOp::LeakyRelu: return all<leaky_relu>;
        case VectorOp::Exp: return all<exponential>;
        case VectorOp::Ln: return all<logarithm>;
        case VectorOp::Sqrt: return all<root>;
        case VectorOp::Reciprocal: return all<reciprocal>;
        case VectorOp::Rsqrt: return all<reciprocal_root>;
        case VectorOp::Abs: return all<absolute>;
        case VectorOp::Relu: return all<relu>;
        default: return nullptr;
    }
}

IntKernel int_kernel(VectorOp op) {
    switch (op) {
        case VectorOp::Add: return all<int_add>;
        case VectorOp::Sub: return all<int_subtract>;
        case VectorOp::Mul: return all<int_multiply>;
        case VectorOp::Max: return all<int_maximum>;
        case VectorOp::Min: return all<int_minimum>;
        case VectorOp::AddRelu: return all<int_add_relu>;
        case VectorOp::SubRelu: return all<int_subtract_relu>;
        case VectorOp::Relu: return all<int_relu>;
        case VectorOp::And: return all<bit_and>;
        case VectorOp::Or: return all<bit_or>;
        case VectorOp::Not: return all<bit_not>;
        case VectorOp::Adds: return all<int_adds>;
        case VectorOp::Muls: return all<int_muls>;
        case VectorOp::Maxs: return all<int_maxs>;
        case VectorOp::Mins: return all<int_mins>;
        case VectorOp::ShiftLeft: return all<shift_left>;
        case VectorOp::ShiftRight: return all<shift_right>;
        default: return nullptr;
    }
}

}  // namespace twin
