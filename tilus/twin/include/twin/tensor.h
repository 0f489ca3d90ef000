// LocalTensor and GlobalTensor.
#pragma once

#include "twin/types.h"

namespace twin {

constexpr uint64_t unbounded = ~uint64_t{0};

uint64_t load_scalar(const Operand& tensor, uint64_t offset, uint32_t size, int line);
void store_scalar(const Operand& tensor, uint64_t offset, uint32_t size, uint64_t bits, int line);
void clean_cache(const Operand& tensor, bool entire, int line);
void check_local(Memory memory, uint64_t address, uint64_t bytes, int line);

constexpr Memory memory_of(AscendC::TPosition position) {
    using AscendC::TPosition;
    switch (position) {
        case TPosition::A1: case TPosition::B1: case TPosition::C1: case TPosition::TSCM: case TPosition::SHM:
            return Memory::L1;
        case TPosition::A2: return Memory::L0A;
        case TPosition::B2: return Memory::L0B;
        case TPosition::CO1: return Memory::L0C;
        case TPosition::C2: return Memory::BT;
        case TPosition::C2PIPE2GM: return Memory::FB;
        case TPosition::GM: case TPosition::CO2: return Memory::GM;
        default: return Memory::UB;
    }
}

// Bytes of `count` elements; 4-bit ones lie two to a byte.
constexpr uint64_t bytes_of(Type type, uint64_t count) { return (count * bits_of(type) + 7) / 8; }

}  // namespace twin

namespace AscendC {

template <typename T>
class LocalTensor {
 public:
    using PrimType = T;

    LocalTensor() = default;

    // `count` elements at byte `address` of the memory that `position` names.
    LocalTensor(TPosition position, uint32_t address, uint32_t count, int line = __builtin_LINE())
        : position_(position), address_(address), bytes_(twin::bytes_of(twin::type_of<T>, count)) {
        twin::check_local(twin::memory_of(position), address_, bytes_, line);
    }

    LocalTensor operator[](uint32_t offset) const {
        LocalTensor result = *this;
        uint64_t skipped = twin::bytes_of(twin::type_of<T>, offset);
        result.address_ += skipped;
        result.bytes_ = skipped < bytes_ ? bytes_ - skipped : 0;
        return result;
    }

    T GetValue(uint32_t index, int line = __builtin_LINE()) const {
        static_assert(twin::bits_of(twin::type_of<T>) >= 8, "GetValue: 4-bit elements have no address");
        uint64_t bits = twin::load_scalar(*this, twin::bytes_of(twin::type_of<T>, index), sizeof(T), line);
        T value;
        std::memcpy(&value, &bits, sizeof(T));
        return value;
    }

    template <typename U>
    void SetValue(uint32_t index, U value, int line = __builtin_LINE()) const {
        static_assert(twin::bits_of(twin::type_of<T>) >= 8, "SetValue: 4-bit elements have no address");
        twin::store_scalar(*this, twin::bytes_of(twin::type_of<T>, index), sizeof(T),
                           twin::bits_of_scalar(static_cast<T>(value)), line);
    }

    template <typename U>
    LocalTensor<U> ReinterpretCast() const {
        return LocalTensor<U>::at(position_, address_, bytes_);
    }

    static LocalTensor at(TPosition position, uint64_t address, uint64_t bytes) {
        LocalTensor result;
        result.position_ = position;
        result.address_ = address;
        result.bytes_ = bytes;
        return result;
    }

    uint32_t GetSize() const { return static_cast<uint32_t>(bytes_ * 8 / twin::bits_of(twin::type_of<T>)); }
    void SetSize(uint32_t count) { bytes_ = twin::bytes_of(twin::type_of<T>, count); }
    uint64_t GetPhyAddr(uint32_t offset = 0) const { return address_ + twin::bytes_of(twin::type_of<T>, offset); }
    TPosition GetPosition() const { return position_; }

    operator twin::Operand() const {
        return {address_, bytes_, twin::memory_of(position_), twin::type_of<T>};
    }

 private:
    TPosition position_ = TPosition::VECCALC;
    uint64_t address_ = 0;
    uint64_t bytes_ = 0;
};

enum class CacheMode : uint8_t { CACHE_MODE_DISABLE, CACHE_MODE_NORMAL };

template <typename T>
class GlobalTensor {
 public:
    using PrimType = T;

    void SetGlobalBuffer(__gm__ T* buffer) {
        buffer_ = buffer;
        bytes_ = twin::unbounded;
    }

    void SetGlobalBuffer(__gm__ T* buffer, uint64_t count) {
        buffer_ = buffer;
        bytes_ = twin::bytes_of(twin::type_of<T>, count);
    }

    GlobalTensor operator[](uint64_t offset) const {
        GlobalTensor result = *this;
        uint64_t skipped = twin::bytes_of(twin::type_of<T>, offset);
        result.buffer_ = reinterpret_cast<T*>(reinterpret_cast<uint8_t*>(buffer_) + skipped);
        if (bytes_ != twin::unbounded) result.bytes_ = skipped < bytes_ ? bytes_ - skipped : 0;
        return result;
    }

    T GetValue(uint64_t index, int line = __builtin_LINE()) const {
        uint64_t bits = twin::load_scalar(*this, twin::bytes_of(twin::type_of<T>, index), sizeof(T), line);
        T value;
        std::memcpy(&value, &bits, sizeof(T));
        return value;
    }

    template <typename U>
    void SetValue(uint64_t index, U value, int line = __builtin_LINE()) const {
        twin::store_scalar(*this, twin::bytes_of(twin::type_of<T>, index), sizeof(T),
                           twin::bits_of_scalar(static_cast<T>(value)), line);
    }

    void SetL2CacheHint(CacheMode) {}
    __gm__ T* GetPhyAddr(uint64_t offset = 0) const { return (*this)[offset].buffer_; }
    uint64_t GetSize() const { return bytes_ * 8 / twin::bits_of(twin::type_of<T>); }

    operator twin::Operand() const {
        return {reinterpret_cast<uint64_t>(buffer_), bytes_, twin::Memory::GM, twin::type_of<T>};
    }

 private:
    __gm__ T* buffer_ = nullptr;
    uint64_t bytes_ = 0;
};

enum class CacheLine : uint64_t { SINGLE_CACHE_LINE, ENTIRE_DATA_CACHE };
enum class DcciDst : uint64_t { CACHELINE_ALL, CACHELINE_UB, CACHELINE_OUT, CACHELINE_ATOMIC };

// The line of 64 B that the tensor begins in, or all lines: written back to GM where they were written, and dropped.
template <typename T, CacheLine line_type, DcciDst destination = DcciDst::CACHELINE_OUT>
void DataCacheCleanAndInvalid(const GlobalTensor<T>& tensor, int line = __builtin_LINE()) {
    twin::clean_cache(tensor, line_type == CacheLine::ENTIRE_DATA_CACHE, line);
}

}  // namespace AscendC
