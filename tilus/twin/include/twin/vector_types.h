// Parameters and enumerations of the vector calls, and what all of them hand to the runtime.
#pragma once

#include "twin/types.h"

namespace AscendC {

enum class RoundMode : uint8_t { CAST_NONE, CAST_RINT, CAST_FLOOR, CAST_CEIL, CAST_ROUND, CAST_TRUNC, CAST_ODD };
enum class CMPMODE : uint8_t { LT, GT, EQ, LE, GE, NE };
enum class SELMODE : uint8_t { VSEL_CMPMASK_SPR, VSEL_TENSOR_SCALAR_MODE, VSEL_TENSOR_TENSOR_MODE };
enum class MaskMode : uint8_t { NORMAL, COUNTER };
enum class ReduceOrder : uint8_t { ORDER_VALUE_INDEX, ORDER_INDEX_VALUE, ORDER_ONLY_VALUE, ORDER_ONLY_INDEX };
enum class ReduceType : uint8_t { SUM, MAX, MIN };  // names from memory

// Distances between the 8 blocks of a repeat and between repeats, in blocks of 32 B.
struct BinaryRepeatParams {
    twin::Field<8> dstBlkStride = 1, src0BlkStride = 1, src1BlkStride = 1;
    twin::Field<8> dstRepStride = 8, src0RepStride = 8, src1RepStride = 8;
    BinaryRepeatParams() = default;
    BinaryRepeatParams(twin::Field<8> dstBlk, twin::Field<8> src0Blk, twin::Field<8> src1Blk, twin::Field<8> dstRep,
                       twin::Field<8> src0Rep, twin::Field<8> src1Rep)
        : dstBlkStride(dstBlk), src0BlkStride(src0Blk), src1BlkStride(src1Blk), dstRepStride(dstRep),
          src0RepStride(src0Rep), src1RepStride(src1Rep) {}
};

struct UnaryRepeatParams {
    twin::Field<8> dstBlkStride = 1, srcBlkStride = 1, dstRepStride = 8, srcRepStride = 8;
    UnaryRepeatParams() = default;
    UnaryRepeatParams(twin::Field<8> dstBlk, twin::Field<8> srcBlk, twin::Field<8> dstRep, twin::Field<8> srcRep)
        : dstBlkStride(dstBlk), srcBlkStride(srcBlk), dstRepStride(dstRep), srcRepStride(srcRep) {}
};

struct CopyRepeatParams {
    twin::Field<16> dstStride = 1, srcStride = 1, dstRepeatSize = 8, srcRepeatSize = 8;
    CopyRepeatParams() = default;
    CopyRepeatParams(twin::Field<16> dst, twin::Field<16> src, twin::Field<16> dstRep, twin::Field<16> srcRep)
        : dstStride(dst), srcStride(src), dstRepeatSize(dstRep), srcRepeatSize(srcRep) {}
};

struct BrcbRepeatParams {
    twin::Field<16> dstBlkStride = 1, dstRepStride = 8;
    BrcbRepeatParams() = default;
    BrcbRepeatParams(twin::Field<16> dstBlk, twin::Field<16> dstRep) : dstBlkStride(dstBlk), dstRepStride(dstRep) {}
};

struct GatherRepeatParams {
    twin::Field<16> dstBlkStride = 1, dstRepStride = 8;
    GatherRepeatParams() = default;
    GatherRepeatParams(twin::Field<16> dstBlk, twin::Field<16> dstRep) : dstBlkStride(dstBlk), dstRepStride(dstRep) {}
};

// Field order from memory: set fields by name.
struct GatherMaskParams {
    twin::Field<8> src0BlockStride = 1;
    twin::Field<16> repeatTimes = 0, src0RepeatStride = 0;
    twin::Field<8> src1RepeatStride = 0;
    GatherMaskParams() = default;
    GatherMaskParams(twin::Field<8> src0Block, twin::Field<16> repeats, twin::Field<16> src0Rep,
                     twin::Field<8> src1Rep)
        : src0BlockStride(src0Block), repeatTimes(repeats), src0RepeatStride(src0Rep), src1RepeatStride(src1Rep) {}
};

// Halves are those of rows of 32 elements of 8 bits; strides between repeats in blocks of 32 B.
struct TransDataTo5HDParams {
    bool dstHighHalf = false, srcHighHalf = false;
    twin::Field<8> repeatTimes = 1;
    twin::Field<16> dstRepStride = 0, srcRepStride = 0;
    TransDataTo5HDParams() = default;
    TransDataTo5HDParams(bool dstHigh, bool srcHigh, twin::Field<8> repeats, twin::Field<16> dstRep,
                         twin::Field<16> srcRep)
        : dstHighHalf(dstHigh), srcHighHalf(srcHigh), repeatTimes(repeats), dstRepStride(dstRep),
          srcRepStride(srcRep) {}
};

// Lengths of the lists in pairs; `validBit` has bit i set where list i takes part.
struct MrgSort4Info {
    twin::Field<16> elementLengths[4];
    bool ifExhaustedSuspension = false;
    twin::Field<16> validBit = 0;
    twin::Field<8> repeatTimes = 1;
    MrgSort4Info() = default;
    MrgSort4Info(const uint16_t lengths[4], bool suspends, twin::Field<16> valid, twin::Field<8> repeats)
        : elementLengths{lengths[0], lengths[1], lengths[2], lengths[3]}, ifExhaustedSuspension(suspends),
          validBit(valid), repeatTimes(repeats) {}
};

}  // namespace AscendC

namespace twin {

// A line of the source, where another trailing integer could be taken for it.
struct Line {
    int number;
    explicit constexpr Line(int number) : number(number) {}
    constexpr operator int() const { return number; }
};

// Instructions that compute each lane from the same lane of their sources.
enum class VectorOp : uint8_t {
    Add, Sub, Mul, Div, Max, Min, And, Or, AddRelu, SubRelu, MulAddDst, FusedMulAdd,
    Adds, Muls, Maxs, Mins, LeakyRelu, ShiftLeft, ShiftRight, Axpy,
    Exp, Ln, Abs, Reciprocal, Sqrt, Rsqrt, Relu, Not,
};

// Which lanes a call works on: the first `count` of all (level 2), or in each repeat the first `count` or those of
// `bits` (level 0). `sets` is false where the mask is left as SetVectorMask made it.
struct Lanes {
    enum class Kind : uint8_t { Total, First, Bits } kind;
    int64_t count;
    uint64_t bits[2];
    int64_t repeats;
    bool sets;
};

inline Lanes total(int64_t count, bool sets = true) { return {Lanes::Kind::Total, count, {0, 0}, 1, sets}; }

inline Lanes masked(uint64_t count, int64_t repeats, bool sets = true) {
    return {Lanes::Kind::First, static_cast<int64_t>(count), {0, 0}, repeats, sets};
}

inline Lanes masked(const uint64_t* bits, int64_t repeats, bool sets = true) {
    return {Lanes::Kind::Bits, 0, {bits[0], bits[1]}, repeats, sets};
}

}  // namespace twin

