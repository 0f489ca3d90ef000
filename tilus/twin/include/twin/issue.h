// What a kernel asks of the runtime besides its calls: which core it runs on, and its kind.
//
// To add a call:
//
// 1. Declare it in namespace AscendC with its real signature and a trailing `int line = __builtin_LINE()`. Assert the
//    element types (`twin::one_of`), turn the tensors into `twin::Operand`s (implicitly), the element types into
//    `twin::Type`s, scalars into bits (`twin::bits_of_scalar`), and call a function of namespace twin that is no
//    template, so that a kernel compiles quickly:
//
//        template <typename T>
//        void Add(const LocalTensor<T>& dst, const LocalTensor<T>& src0, const LocalTensor<T>& src1, int32_t count,
//                 int line = __builtin_LINE()) {
//            static_assert(twin::one_of(twin::type_of<T>, twin::Type::f16, twin::Type::f32), "Add: ...");
//            twin::add(dst, src0, src1, count, line);
//        }
//
// 2. Define that function in a file of runtime/ (runtime/call.h has `Call`). It runs on the core's scalar unit: it
//    checks, states which bytes the instruction will touch (regions of its operands, strided and under lane masks) and
//    what it costs, and hands over a body, which the scheduler runs when the pipe comes to it. Only the body may look
//    at values in memory:
//
//        void twin::add(const Operand& dst, const Operand& src0, const Operand& src1, int32_t count, int line) {
//            Call call("Add", Pipe::V, line);
//            Region region = contiguous(count * bytes);
//            call.reads(src0, region).reads(src1, region).writes(dst, region);
//            if (count < 0) call.fault("count", "...");
//            call.costs(occupancy, latency).count(Counter::VectorCalls, 1);
//            call.issue([=](Core& core) { ... core.bytes(dst.memory) + dst.address ... });
//        }
//
//    Bounds of the tensor, of its memory and of GM arrays, alignment, races, uninitialised bytes, the side of the core
//    and time follow from that description. A call with a fault is not issued.
#pragma once

#include "twin/types.h"

namespace twin {

void kernel_type(KernelType type, int line);
void init_soc_state(int line);
int64_t block_index();
int64_t block_count();
int64_t sub_block_index();
int64_t sub_block_count();
Side side();

}  // namespace twin

#define KERNEL_TASK_TYPE_DEFAULT(type) ::twin::kernel_type(type, __LINE__)
#define ASCEND_IS_AIC (::twin::side() == ::twin::Side::AIC)
#define ASCEND_IS_AIV (::twin::side() == ::twin::Side::AIV)

namespace AscendC {

inline int64_t GetBlockIdx() { return twin::block_index(); }
inline int64_t GetBlockNum() { return twin::block_count(); }
inline int64_t GetSubBlockIdx() { return twin::sub_block_index(); }
inline int64_t GetSubBlockNum() { return twin::sub_block_count(); }
inline int64_t GetTaskRatio() { return twin::sub_block_count(); }
inline void InitSocState(int line = __builtin_LINE()) { twin::init_soc_state(line); }

}  // namespace AscendC
