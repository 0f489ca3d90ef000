// Products of the cube unit.

#include <algorithm>

#include "cube.h"
#include "numbers.h"

namespace twin {

namespace {

// Accumulations of fewer fractals than these need a barrier before the next product of the same result.
constexpr uint64_t overlapping_fractals = 10;

struct Product {
    uint64_t m, n, k;
    uint64_t lanes;    // along K that take part
    uint64_t groups;   // of 32 B along K
    Type type;

    uint64_t row_blocks() const { return (m + 15) / 16; }
    uint64_t column_blocks() const { return (n + 15) / 16; }
    bool vector() const { return m == 1; }
};

// HF32 has eleven bits of mantissa behind the point (from memory); the operands round to nearest even.
float to_hf32(float value) {
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    if ((bits & 0x7F800000) == 0x7F800000) return value;
    bits = (bits + 0x7FF + (bits >> 12 & 1)) & ~0xFFFu;
    std::memcpy(&value, &bits, sizeof bits);
    return value;
}

// Elements of L0 in a row of the fractal, as numbers of the type that products sum in.
template <typename T>
void widen(const uint8_t* from, T* to, uint64_t count, Type type, bool hf32) {
    if constexpr (std::is_same_v<T, float>) {
        if (type == Type::f16) return half_to(reinterpret_cast<const uint16_t*>(from), to, count);
        if (type == Type::bf16) return bfloat16_to(reinterpret_cast<const uint16_t*>(from), to, count);
        std::memcpy(to, from, count * sizeof(float));
        if (hf32) for (uint64_t i = 0; i < count; ++i) to[i] = to_hf32(to[i]);
    } else if (type == Type::s8) {
        for (uint64_t i = 0; i < count; ++i) to[i] = static_cast<int8_t>(from[i]);
    } else {
        for (uint64_t i = 0; i < count; ++i) {
            int nibble = from[i / 2] >> (i % 2 * 4) & 15;
            to[i] = nibble < 8 ? nibble : nibble - 16;
        }
    }
}

// Sums wrap, and so do those of the hardware's 32-bit accumulators.
inline float multiply_add(float c, float a, float b) { return c + a * b; }
inline int32_t multiply_add(int32_t c, int32_t a, int32_t b) {
    return static_cast<int32_t>(static_cast<uint32_t>(c) + static_cast<uint32_t>(a) * static_cast<uint32_t>(b));
}

template <typename T>
std::vector<T> left_operand(const uint8_t* from, const Product& p, bool hf32) {
    uint64_t group = group_of(p.type);
    std::vector<T> a(p.m * p.groups * group);
    for (uint64_t i = 0; i < p.m; ++i) {
        for (uint64_t g = 0; g < p.groups; ++g) {
            // A single row is contiguous.
            uint64_t place = p.vector() ? g * group_bytes
                                        : (i / 16 * p.groups + g) * fractal_bytes + i % 16 * group_bytes;
            widen(from + place, &a[(i * p.groups + g) * group], group, p.type, hf32);
        }
    }
    return a;
}

// Rows of K, so that sums run along them.
template <typename T>
std::vector<T> right_operand(const uint8_t* from, const Product& p, bool hf32) {
    uint64_t group = group_of(p.type), width = p.column_blocks() * 16;
    std::vector<T> b(p.groups * group * width);
    T column[64];
    for (uint64_t g = 0; g < p.groups; ++g) {
        for (uint64_t j = 0; j < p.n; ++j) {
            uint64_t place = (g * p.column_blocks() + j / 16) * fractal_bytes + j % 16 * group_bytes;
            widen(from + place, column, group, p.type, hf32);
            for (uint64_t e = 0; e < group; ++e) b[(g * group + e) * width + j] = column[e];
        }
    }
    return b;
}

// Add four rows of the right operand, each times a number of the left one, one after another.
template <typename T>
void add_four_rows(T* __restrict sums, const T* __restrict left, const T* __restrict rows, uint64_t width) {
    const T *second = rows + width, *third = second + width, *fourth = third + width;
    for (uint64_t j = 0; j < width; ++j) {
        T sum = multiply_add(sums[j], left[0], rows[j]);
        sum = multiply_add(sum, left[1], second[j]);
        sum = multiply_add(sum, left[2], third[j]);
        sums[j] = multiply_add(sum, left[3], fourth[j]);
    }
}

template <typename T>
void add_row(T* __restrict sums, T left, const T* __restrict row, uint64_t width) {
    for (uint64_t j = 0; j < width; ++j) sums[j] = multiply_add(sums[j], left, row[j]);
}

template <typename T>
void multiply(T* c, const uint8_t* a_bytes, const uint8_t* b_bytes, const T* bias, bool accumulate, const Product& p,
              bool hf32) {
    std::vector<T> a = left_operand<T>(a_bytes, p, hf32), b = right_operand<T>(b_bytes, p, hf32);
    uint64_t depth = p.groups * group_of(p.type), width = p.column_blocks() * 16, rows = p.row_blocks() * 16;
    std::vector<T> sums(width);
    for (uint64_t i = 0; i < p.m; ++i) {
        for (uint64_t j = 0; j < width; ++j) {
            sums[j] = accumulate ? c[(j / 16 * rows + i) * 16 + j % 16] : bias != nullptr && j < p.n ? bias[j] : T{0};
        }
        const T* left = &a[i * depth];
        uint64_t k = 0;
        for (; k + 4 <= p.lanes; k += 4) add_four_rows(sums.data(), left + k, &b[k * width], width);
        for (; k < p.lanes; ++k) add_row(sums.data(), left[k], &b[k * width], width);
        for (uint64_t j = 0; j < p.n; ++j) c[(j / 16 * rows + i) * 16 + j % 16] = sums[j];
    }
}

// The bytes of the left operand that count: rows beyond m are not looked at.
void read_left(Call& call, const Operand& a, const Product& p, uint64_t last_bytes) {
    if (p.vector()) {
        call.reads(a, contiguous((p.groups - 1) * group_bytes + last_bytes));
        return;
    }
    for (uint64_t block = 0; block < p.row_blocks(); ++block) {
        uint64_t rows = std::min<uint64_t>(16, p.m - block * 16), base = block * p.groups * fractal_bytes;
        uint64_t whole = last_bytes == group_bytes ? p.groups : p.groups - 1;
        call.reads(a, strided(rows * group_bytes, whole, fractal_bytes, static_cast<int64_t>(base)));
        if (whole < p.groups) {
            call.reads(a, strided(last_bytes, rows, group_bytes, static_cast<int64_t>(base + whole * fractal_bytes)));
        }
    }
}

void read_right(Call& call, const Operand& b, const Product& p, uint64_t last_bytes) {
    uint64_t whole = last_bytes == group_bytes ? p.groups : p.groups - 1;
    auto stride = static_cast<int64_t>(p.column_blocks() * fractal_bytes);
    call.reads(b, strided(p.n * group_bytes, whole, stride));
    if (whole < p.groups) call.reads(b, strided(last_bytes, p.n, group_bytes, static_cast<int64_t>(whole) * stride));
}

// What lies in the last fractals beyond m and n is written, and is nothing to rely on.
void forget_padding(Core& core, const Operand& c, const Product& p) {
    Shadow& shadow = core.shadow(Memory::L0C);
    uint64_t rows = p.row_blocks() * 16, tail = p.n % 16, block = rows * 64;
    for (uint64_t b = 0; b < p.column_blocks() && p.m < rows; ++b) {
        shadow.forget(c.address + b * block + p.m * 64, c.address + (b + 1) * block);
    }
    uint64_t last = c.address + (p.column_blocks() - 1) * block;
    for (uint64_t i = 0; i < p.m && tail != 0; ++i) shadow.forget(last + i * 64 + tail * 4, last + (i + 1) * 64);
}

void check(Call& call, const Operand& c, const Operand& a, const Operand& b, const Operand* bias,
           const AscendC::MmadParams& params) {
    call.within("m", params.m, 0, 4095).within("n", params.n, 0, 4095).within("k", params.k, 0, 4095);
    call.within("unitFlag", params.unitFlag, 0, 3);
    call.aligned(c, 1024, "the result").aligned(a, fractal_bytes, "the left operand");
    call.aligned(b, fractal_bytes, "the right operand");
    if (c.memory != Memory::L0C) call.fault("parameter", "the result lies in L0C (CO1)");
    if (a.memory != Memory::L0A) call.fault("parameter", "the left operand lies in L0A (A2)");
    if (b.memory != Memory::L0B) call.fault("parameter", "the right operand lies in L0B (B2)");
    if (params.unitFlag == 1) call.fault("parameter", "unitFlag is 0, 2 or, for a tile's last product, 3");
    if (params.kDirectionAlign && a.type != Type::f32) call.fault("parameter", "kDirectionAlign is for float only");
    if (bias != nullptr && bias->memory != Memory::BT) call.fault("parameter", "the bias lies in the bias table (C2)");
    if (bias != nullptr && params.cmatrixInitVal) {
        call.fault("parameter", "the bias is not added where cmatrixInitVal is true, its default");
    }
    if (bias == nullptr && !params.cmatrixInitVal && params.cmatrixSource) {
        call.fault("parameter", "cmatrixSource takes a bias, and there is none");
    }
}

}  // namespace

void mmad(const Operand& c, const Operand& a, const Operand& b, const Operand* bias, const AscendC::MmadParams& params,
          int line) {
    Call call("Mmad", Pipe::M, line);
    check(call, c, a, b, bias, params);
    if (!call.sound() || params.m == 0 || params.n == 0 || params.k == 0) return;
    uint64_t k = params.k, group = group_of(a.type), unit = params.kDirectionAlign ? 16 : group;
    Product p{static_cast<uint64_t>(params.m), static_cast<uint64_t>(params.n), k, 0, round_up(k, unit) / group, a.type};
    bool strict = machine->run.strict != 0;
    uint64_t used = (k + group - 1) / group;
    p.lanes = strict ? used * group : k;
    Product read = p;
    // Groups that kDirectionAlign adds lie in memory, and nothing reads them.
    uint64_t last_bytes = strict || k % group == 0 ? group_bytes : k % group * bits_of(a.type) / 8;
    if (used == p.groups) {
        read_left(call, a, read, last_bytes);
        read_right(call, b, read, last_bytes);
    } else {
        for (uint64_t block = 0; block < p.row_blocks(); ++block) {
            uint64_t rows = std::min<uint64_t>(16, p.m - block * 16);
            call.reads(a, strided(rows * group_bytes, used, fractal_bytes,
                                  static_cast<int64_t>(block * p.groups * fractal_bytes)));
        }
        call.reads(b, strided(p.n * group_bytes, used, static_cast<int64_t>(p.column_blocks() * fractal_bytes)));
    }
    bool accumulate = !params.cmatrixInitVal && bias == nullptr;
    uint64_t rows = p.row_blocks() * 16, fractals = p.row_blocks() * p.column_blocks();
    if (accumulate) {
        for (uint64_t j = 0; j < p.column_blocks(); ++j) {
            uint64_t columns = std::min<uint64_t>(16, p.n - j * 16);
            call.reads(c, strided(columns * 4, p.m, 64, static_cast<int64_t>(j * rows * 64)));
        }
    }
    if (bias != nullptr) call.reads(*bias, contiguous(p.n * 4));
    call.writes(c, contiguous(fractals * 1024));
    if (fractals >= overlapping_fractals) call.in_order();
    if (params.unitFlag != 0) call.fills_unit(c.address, params.unitFlag == 3);
    bool hf32 = call.core.hf32 && a.type == Type::f32;
    double steps = static_cast<double>(fractals * ((k + group - 1) / group));
    call.costs(costs::product_start + steps * (a.type == Type::f32 && !hf32 ? 2 : 1), costs::product_latency);
    call.count(Counter::CubeFractals, fractals * ((k + group - 1) / group)).count(Counter::CubeMacs, p.m * p.n * k);
    Operand row = bias != nullptr ? *bias : Operand{};
    bool with_bias = bias != nullptr;
    call.issue([=](Core& core) {
        uint8_t* to = data(core, c);
        const uint8_t* addend = with_bias ? data(core, row) : nullptr;
        if (c.type == Type::f32) {
            multiply(reinterpret_cast<float*>(to), data(core, a), data(core, b), reinterpret_cast<const float*>(addend),
                     accumulate, p, hf32);
        } else {
            multiply(reinterpret_cast<int32_t*>(to), data(core, a), data(core, b),
                     reinterpret_cast<const int32_t*>(addend), accumulate, p, false);
        }
        forget_padding(core, c, p);
    });
}

void set_hf32(bool on) { running().hf32 = on; }

}  // namespace twin
