// Calls of the vector unit.

#include "twin/vector.h"

#include "call.h"
#include "numbers.h"

namespace twin {

namespace {

template <typename T>
void add_all(uint8_t* to, const uint8_t* first, const uint8_t* second, int32_t count) {
    for (int32_t i = 0; i < count; ++i) {
        T a, b;
        std::memcpy(&a, first + i * sizeof(T), sizeof(T));
        std::memcpy(&b, second + i * sizeof(T), sizeof(T));
        a = static_cast<T>(a + b);
        std::memcpy(to + i * sizeof(T), &a, sizeof(T));
    }
}

}  // namespace

void add(const Operand& dst, const Operand& src0, const Operand& src1, int32_t count, int line) {
    Call call("Add", Pipe::V, line);
    uint64_t bytes = static_cast<uint64_t>(count) * bits_of(dst.type) / 8;
    call.aligned(dst, 32, "dst").aligned(src0, 32, "src0").aligned(src1, 32, "src1");
    call.reads(src0, contiguous(bytes)).reads(src1, contiguous(bytes)).writes(dst, contiguous(bytes));
    uint64_t repeats = (bytes + 255) / 256;
    call.costs(costs::vector_start + static_cast<double>(repeats), costs::vector_latency);
    call.count(Counter::VectorCalls, 1).count(Counter::VectorRepeats, repeats);
    call.issue([=](Core& core) {
        uint8_t* to = data(core, dst);
        const uint8_t *first = data(core, src0), *second = data(core, src1);
        switch (dst.type) {
            case Type::s16: return add_all<int16_t>(to, first, second, count);
            case Type::s32: return add_all<int32_t>(to, first, second, count);
            case Type::f16: return add_all<half>(to, first, second, count);
            default: return add_all<float>(to, first, second, count);
        }
    });
}

}  // namespace twin
