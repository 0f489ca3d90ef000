// Reductions of the vector unit. Sums are binary trees over neighbours; of equal extremes the first one counts.
#pragma once

#include "twin/tensor.h"
#include "twin/vector_types.h"

namespace twin {

enum class Extent : uint8_t { Repeat, Block };

struct ReduceCall {
    const char* name;
    AscendC::ReduceType type;
    Lanes lanes;
    int line;
};

// One result for each repeat, or for each block of 32 B; the stride between repeats' results is in results of a repeat.
void reduce(const ReduceCall& call, Extent extent, const Operand& dst, const Operand& src, Field<16> dst_repeat,
            Field<16> src_block, Field<16> src_repeat, AscendC::ReduceOrder order);
// One result of all repeats, by `work` as scratch memory; with an index, it follows the value.
void reduce_all(const ReduceCall& call, const Operand& dst, const Operand& src, const Operand& work,
                Field<16> src_repeat, bool with_index);

}  // namespace twin

#define TWIN_REDUCES(T, name)                                                                                         \
    static_assert(twin::one_of(twin::type_of<T>, twin::Type::f16, twin::Type::f32), name " takes half and float")

namespace AscendC {

template <typename T, bool isSetMask = true>
void WholeReduceSum(const LocalTensor<T>& dst, const LocalTensor<T>& src, int32_t mask, int64_t repeatTime,
                    twin::Field<16> dstRepStride, twin::Field<16> srcBlkStride, twin::Field<16> srcRepStride,
                    int line = __builtin_LINE()) {
    TWIN_REDUCES(T, "WholeReduceSum");
    const twin::Lanes lanes = twin::masked(static_cast<uint64_t>(mask), repeatTime, isSetMask);
    twin::reduce({"WholeReduceSum", ReduceType::SUM, lanes, line}, twin::Extent::Repeat, dst, src, dstRepStride,
                 srcBlkStride, srcRepStride, ReduceOrder::ORDER_ONLY_VALUE);
}

template <typename T, bool isSetMask = true>
void WholeReduceSum(const LocalTensor<T>& dst, const LocalTensor<T>& src, const uint64_t mask[], int64_t repeatTime,
                    twin::Field<16> dstRepStride, twin::Field<16> srcBlkStride, twin::Field<16> srcRepStride,
                    int line = __builtin_LINE()) {
    TWIN_REDUCES(T, "WholeReduceSum");
    const twin::Lanes lanes = twin::masked(mask, repeatTime, isSetMask);
    twin::reduce({"WholeReduceSum", ReduceType::SUM, lanes, line}, twin::Extent::Repeat, dst, src, dstRepStride,
                 srcBlkStride, srcRepStride, ReduceOrder::ORDER_ONLY_VALUE);
}

#define TWIN_WHOLE_REDUCE(Name, type, Mask, lanes)                                                                    \
    template <typename T, bool isSetMask = true>                                                                      \
    void Name(const LocalTensor<T>& dst, const LocalTensor<T>& src, Mask, int64_t repeatTime,                         \
              twin::Field<16> dstRepStride, twin::Field<16> srcBlkStride, twin::Field<16> srcRepStride,               \
              ReduceOrder order = ReduceOrder::ORDER_VALUE_INDEX, int line = __builtin_LINE()) {                      \
        TWIN_REDUCES(T, #Name);                                                                                       \
        twin::reduce({#Name, ReduceType::type, twin::masked(lanes, repeatTime, isSetMask), line},                     \
                     twin::Extent::Repeat, dst, src, dstRepStride, srcBlkStride, srcRepStride, order);                \
    }
TWIN_WHOLE_REDUCE(WholeReduceMax, MAX, int32_t mask, static_cast<uint64_t>(mask))
TWIN_WHOLE_REDUCE(WholeReduceMax, MAX, const uint64_t mask[], mask)
TWIN_WHOLE_REDUCE(WholeReduceMin, MIN, int32_t mask, static_cast<uint64_t>(mask))
TWIN_WHOLE_REDUCE(WholeReduceMin, MIN, const uint64_t mask[], mask)

// The number of repeats comes before the mask here.
#define TWIN_BLOCK_REDUCE(Name, type, Mask, lanes)                                                                    \
    template <typename T, bool isSetMask = true>                                                                      \
    void Name(const LocalTensor<T>& dst, const LocalTensor<T>& src, int64_t repeatTime, Mask,                         \
              twin::Field<16> dstRepStride, twin::Field<16> srcBlkStride, twin::Field<16> srcRepStride,               \
              int line = __builtin_LINE()) {                                                                          \
        TWIN_REDUCES(T, #Name);                                                                                       \
        twin::reduce({#Name, ReduceType::type, twin::masked(lanes, repeatTime, isSetMask), line},                     \
                     twin::Extent::Block, dst, src, dstRepStride, srcBlkStride, srcRepStride,                         \
                     ReduceOrder::ORDER_ONLY_VALUE);                                                                  \
    }
TWIN_BLOCK_REDUCE(BlockReduceSum, SUM, int32_t mask, static_cast<uint64_t>(mask))
TWIN_BLOCK_REDUCE(BlockReduceSum, SUM, const uint64_t mask[], mask)
TWIN_BLOCK_REDUCE(BlockReduceMax, MAX, int32_t mask, static_cast<uint64_t>(mask))
TWIN_BLOCK_REDUCE(BlockReduceMax, MAX, const uint64_t mask[], mask)
TWIN_BLOCK_REDUCE(BlockReduceMin, MIN, int32_t mask, static_cast<uint64_t>(mask))
TWIN_BLOCK_REDUCE(BlockReduceMin, MIN, const uint64_t mask[], mask)

// The newer names of the two; the template's argument is from memory.
#define TWIN_REDUCE_REPEAT(Mask, lanes)                                                                               \
    template <ReduceType type, typename T, bool isSetMask = true>                                                     \
    void ReduceRepeat(const LocalTensor<T>& dst, const LocalTensor<T>& src, Mask, int64_t repeatTime,                 \
                      twin::Field<16> dstRepStride, twin::Field<16> srcBlkStride, twin::Field<16> srcRepStride,       \
                      ReduceOrder order = ReduceOrder::ORDER_VALUE_INDEX, int line = __builtin_LINE()) {              \
        TWIN_REDUCES(T, "ReduceRepeat");                                                                              \
        twin::reduce({"ReduceRepeat", type, twin::masked(lanes, repeatTime, isSetMask), line},                        \
                     twin::Extent::Repeat, dst, src, dstRepStride, srcBlkStride, srcRepStride,                        \
                     type == ReduceType::SUM ? ReduceOrder::ORDER_ONLY_VALUE : order);                                \
    }                                                                                                                 \
    template <ReduceType type, typename T, bool isSetMask = true>                                                     \
    void ReduceDataBlock(const LocalTensor<T>& dst, const LocalTensor<T>& src, Mask, int64_t repeatTime,              \
                         twin::Field<16> dstRepStride, twin::Field<16> srcBlkStride, twin::Field<16> srcRepStride,    \
                         int line = __builtin_LINE()) {                                                               \
        TWIN_REDUCES(T, "ReduceDataBlock");                                                                           \
        twin::reduce({"ReduceDataBlock", type, twin::masked(lanes, repeatTime, isSetMask), line},                     \
                     twin::Extent::Block, dst, src, dstRepStride, srcBlkStride, srcRepStride,                         \
                     ReduceOrder::ORDER_ONLY_VALUE);                                                                  \
    }
TWIN_REDUCE_REPEAT(int32_t mask, static_cast<uint64_t>(mask))
TWIN_REDUCE_REPEAT(const uint64_t mask[], mask)

#define TWIN_REDUCE_SUM(Mask, lanes)                                                                                  \
    template <typename T>                                                                                             \
    void ReduceSum(const LocalTensor<T>& dst, const LocalTensor<T>& src, const LocalTensor<T>& sharedTmpBuffer, Mask, \
                   int32_t repeatTime, int32_t srcRepStride, int line = __builtin_LINE()) {                           \
        TWIN_REDUCES(T, "ReduceSum");                                                                                 \
        twin::reduce_all({"ReduceSum", ReduceType::SUM, twin::masked(lanes, repeatTime), line}, dst, src,             \
                         sharedTmpBuffer, srcRepStride, false);                                                       \
    }
TWIN_REDUCE_SUM(int32_t mask, static_cast<uint64_t>(mask))
TWIN_REDUCE_SUM(const uint64_t mask[], mask)

template <typename T>
void ReduceSum(const LocalTensor<T>& dst, const LocalTensor<T>& src, const LocalTensor<T>& sharedTmpBuffer,
               int32_t count, int line = __builtin_LINE()) {
    TWIN_REDUCES(T, "ReduceSum");
    twin::reduce_all({"ReduceSum", ReduceType::SUM, twin::total(count), line}, dst, src, sharedTmpBuffer, 8, false);
}

#define TWIN_REDUCE_EXTREME_MASKED(Name, type, Mask, lanes)                                                           \
    template <typename T>                                                                                             \
    void Name(const LocalTensor<T>& dst, const LocalTensor<T>& src, const LocalTensor<T>& sharedTmpBuffer, Mask,      \
              int32_t repeatTime, int32_t srcRepStride, bool calIndex = false, int line = __builtin_LINE()) {         \
        TWIN_REDUCES(T, #Name);                                                                                       \
        twin::reduce_all({#Name, ReduceType::type, twin::masked(lanes, repeatTime), line}, dst, src,                  \
                         sharedTmpBuffer, srcRepStride, calIndex);                                                    \
    }
#define TWIN_REDUCE_EXTREME(Name, type)                                                                               \
    TWIN_REDUCE_EXTREME_MASKED(Name, type, int32_t mask, static_cast<uint64_t>(mask))                                 \
    TWIN_REDUCE_EXTREME_MASKED(Name, type, const uint64_t mask[], mask)                                               \
    template <typename T>                                                                                             \
    void Name(const LocalTensor<T>& dst, const LocalTensor<T>& src, const LocalTensor<T>& sharedTmpBuffer,            \
              int32_t count, bool calIndex = false, twin::Line line = twin::Line(__builtin_LINE())) {                 \
        TWIN_REDUCES(T, #Name);                                                                                       \
        twin::reduce_all({#Name, ReduceType::type, twin::total(count), line}, dst, src, sharedTmpBuffer, 8,           \
                         calIndex);                                                                                   \
    }
TWIN_REDUCE_EXTREME(ReduceMax, MAX)
TWIN_REDUCE_EXTREME(ReduceMin, MIN)

}  // namespace AscendC
