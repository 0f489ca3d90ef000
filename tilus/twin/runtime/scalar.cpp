// Scalar accesses to tensors.

#include "call.h"
#include "twin/tensor.h"

namespace twin {

uint64_t load_scalar(const Operand& tensor, uint64_t offset, uint32_t size, int line) {
    Call call("GetValue", Pipe::S, line);
    call.reads(tensor, contiguous(size, static_cast<int64_t>(offset))).costs(costs::scalar_access, 0);
    call.count(Counter::ScalarAccesses, 1);
    uint64_t bits = 0;
    call.run_here([&](Core& core) { std::memcpy(&bits, data(core, tensor) + offset, size); });
    return bits;
}

void store_scalar(const Operand& tensor, uint64_t offset, uint32_t size, uint64_t bits, int line) {
    Call call("SetValue", Pipe::S, line);
    call.writes(tensor, contiguous(size, static_cast<int64_t>(offset))).costs(costs::scalar_access, 0);
    call.count(Counter::ScalarAccesses, 1);
    call.run_here([&](Core& core) { std::memcpy(data(core, tensor) + offset, &bits, size); });
}

}  // namespace twin
