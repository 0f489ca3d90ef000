// Copies between GM and UB.
#pragma once

#include "twin/tensor.h"

namespace AscendC {

// Blocks of `blockLen` units of 32 B; gaps lie between the end of a block and the start of the next one.
struct DataCopyParams {
    twin::Field<16> blockCount = 1, blockLen = 0, srcGap = 0, dstGap = 0;
    DataCopyParams() = default;
    DataCopyParams(twin::Field<16> count, twin::Field<16> length, twin::Field<16> source, twin::Field<16> destination)
        : blockCount(count), blockLen(length), srcGap(source), dstGap(destination) {}
};

// Blocks of `blockLen` bytes; gaps in GM are in bytes, those in UB in units of 32 B.
struct DataCopyExtParams {
    twin::Field<16> blockCount = 1;
    twin::Field<32> blockLen = 0, srcStride = 0, dstStride = 0, rsv = 0;
    DataCopyExtParams() = default;
    DataCopyExtParams(twin::Field<16> count, twin::Field<32> length, twin::Field<32> source,
                      twin::Field<32> destination, twin::Field<32> reserved)
        : blockCount(count), blockLen(length), srcStride(source), dstStride(destination), rsv(reserved) {}
};

// Elements before and after each block in UB, which get `paddingValue` where `isPad`.
template <typename T>
struct DataCopyPadExtParams {
    bool isPad = false;
    twin::Field<8> leftPadding = 0, rightPadding = 0;
    T paddingValue{};
    DataCopyPadExtParams() = default;
    DataCopyPadExtParams(bool pad, twin::Field<8> left, twin::Field<8> right, T value)
        : isPad(pad), leftPadding(left), rightPadding(right), paddingValue(value) {}
};

}  // namespace AscendC

namespace twin {

struct Padding {
    bool on;
    int64_t left, right;  // elements
    uint64_t value;        // bits
};

void copy_blocks(const Operand& dst, const Operand& src, const AscendC::DataCopyParams& blocks, int line);
void copy_count(const Operand& dst, const Operand& src, uint64_t count, int line);
void copy_pad_in(const Operand& dst, const Operand& src, const AscendC::DataCopyExtParams& blocks,
                 const Padding& padding, int line);
void copy_pad_out(const Operand& dst, const Operand& src, const AscendC::DataCopyExtParams& blocks, int line);
void copy_local(const Operand& dst, const Operand& src, const AscendC::DataCopyParams& blocks, int line);
void set_pad_value(Type type, uint64_t bits);

enum Atomic { atomic_none, atomic_add, atomic_max, atomic_min };
void set_atomic(Atomic atomic, Type type, int line);
constexpr bool is_atomic(Type type) {
    return one_of(type, Type::s8, Type::s16, Type::s32, Type::f16, Type::bf16, Type::f32);
}

}  // namespace twin

namespace AscendC {

template <typename T>
void DataCopy(const LocalTensor<T>& dst, const GlobalTensor<T>& src, uint32_t count, int line = __builtin_LINE()) {
    twin::copy_count(dst, src, count, line);
}

template <typename T>
void DataCopy(const GlobalTensor<T>& dst, const LocalTensor<T>& src, uint32_t count, int line = __builtin_LINE()) {
    twin::copy_count(dst, src, count, line);
}

template <typename T>
void DataCopy(const LocalTensor<T>& dst, const GlobalTensor<T>& src, const DataCopyParams& blocks,
              int line = __builtin_LINE()) {
    twin::copy_blocks(dst, src, blocks, line);
}

template <typename T>
void DataCopy(const GlobalTensor<T>& dst, const LocalTensor<T>& src, const DataCopyParams& blocks,
              int line = __builtin_LINE()) {
    twin::copy_blocks(dst, src, blocks, line);
}

// Within UB, from L1 to the bias table (units of 64 B) and to the fixpipe buffer (units of 128 B).
template <typename T>
void DataCopy(const LocalTensor<T>& dst, const LocalTensor<T>& src, const DataCopyParams& blocks,
              int line = __builtin_LINE()) {
    twin::copy_local(dst, src, blocks, line);
}

template <typename T>
void DataCopy(const LocalTensor<T>& dst, const LocalTensor<T>& src, uint32_t count, int line = __builtin_LINE()) {
    twin::copy_count(dst, src, count, line);
}

template <typename T>
void DataCopyPad(const LocalTensor<T>& dst, const GlobalTensor<T>& src, const DataCopyExtParams& blocks,
                 const DataCopyPadExtParams<T>& padding, int line = __builtin_LINE()) {
    twin::copy_pad_in(dst, src, blocks, {padding.isPad, padding.leftPadding, padding.rightPadding,
                                         twin::bits_of_scalar(padding.paddingValue)}, line);
}

template <typename T>
void DataCopyPad(const GlobalTensor<T>& dst, const LocalTensor<T>& src, const DataCopyExtParams& blocks,
                 int line = __builtin_LINE()) {
    twin::copy_pad_out(dst, src, blocks, line);
}

// The value that DataCopyPad pads with where its parameters do not.
template <typename T>
void SetPadValue(T value) {
    twin::set_pad_value(twin::type_of<T>, twin::bits_of_scalar(value));
}

// Copies to GM combine with what is there from now on.
template <typename T>
void SetAtomicAdd(int line = __builtin_LINE()) {
    static_assert(twin::is_atomic(twin::type_of<T>), "SetAtomicAdd takes int8_t, int16_t, int32_t, half, bfloat16_t, float");
    twin::set_atomic(twin::atomic_add, twin::type_of<T>, line);
}

template <typename T>
void SetAtomicMax(int line = __builtin_LINE()) {
    static_assert(twin::is_atomic(twin::type_of<T>), "SetAtomicMax takes int8_t, int16_t, int32_t, half, bfloat16_t, float");
    twin::set_atomic(twin::atomic_max, twin::type_of<T>, line);
}

template <typename T>
void SetAtomicMin(int line = __builtin_LINE()) {
    static_assert(twin::is_atomic(twin::type_of<T>), "SetAtomicMin takes int8_t, int16_t, int32_t, half, bfloat16_t, float");
    twin::set_atomic(twin::atomic_min, twin::type_of<T>, line);
}

inline void SetAtomicNone(int line = __builtin_LINE()) { twin::set_atomic(twin::atomic_none, twin::Type::f32, line); }
inline void DisableDmaAtomic(int line = __builtin_LINE()) { SetAtomicNone(line); }

}  // namespace AscendC
