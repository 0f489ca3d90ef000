// TPipe, TQue and TBuf: on-chip memory and flags that the library hands out.
#pragma once

#include "twin/flags.h"
#include "twin/tensor.h"

namespace twin {

void pipe_begin(int line);
void pipe_end(int line);
void pipe_reset(int line);
// Memory for `count` buffers of `bytes`, one after another: the address of the first.
uint64_t pipe_allocate(AscendC::TPosition position, int64_t count, uint64_t bytes, bool queue, int line);
int event_allocate(AscendC::HardEvent event, int line);
void event_release(AscendC::HardEvent event, int id, int line);
int event_fetch(AscendC::HardEvent event, int line);
// A reverse flag that the end of the TPipe has to wait for, unless a queue does before.
void event_pending(AscendC::HardEvent event, int id, bool pending);
void queue_fault(const char* call, const char* text, int line);
void set_event(AscendC::HardEvent event, int id, int line);
void wait_event(AscendC::HardEvent event, int id, int line);

constexpr uint64_t buffer_unit = 32;

// The flag that tells that a buffer is full, and the one that it is free again; both are none in UB's working space.
struct QueueEvents {
    bool any;
    AscendC::HardEvent full, free;
};

constexpr QueueEvents events_of(AscendC::TPosition source, AscendC::TPosition destination) {
    using AscendC::HardEvent;
    using AscendC::TPosition;
    if (source == TPosition::VECIN && destination == TPosition::VECOUT) {
        return {true, HardEvent::MTE2_MTE3, HardEvent::MTE3_MTE2};
    }
    switch (source) {
        case TPosition::VECIN: return {true, HardEvent::MTE2_V, HardEvent::V_MTE2};
        case TPosition::VECOUT: return {true, HardEvent::V_MTE3, HardEvent::MTE3_V};
        case TPosition::A1: case TPosition::B1: case TPosition::C1:
            return {true, HardEvent::MTE2_MTE1, HardEvent::MTE1_MTE2};
        case TPosition::A2: case TPosition::B2: case TPosition::C2:
            return {true, HardEvent::MTE1_M, HardEvent::M_MTE1};
        case TPosition::CO1: return {true, HardEvent::M_FIX, HardEvent::FIX_M};
        default: return {false, HardEvent::MTE2_V, HardEvent::V_MTE2};
    }
}

}  // namespace twin

namespace AscendC {

// Buffers between two positions, handed on in order: AllocTensor, EnQue, DeQue, FreeTensor.
template <TPosition source, TPosition destination, int32_t depth>
class TQueBind {
 public:
    static constexpr TPosition position = source;
    static constexpr int most = 16;

    template <typename T>
    LocalTensor<T> AllocTensor(int line = __builtin_LINE()) {
        for (int i = 0; i < count_; ++i) {
            Buffer& buffer = buffers_[(next_ + i) % count_];
            if (buffer.state != State::Free) continue;
            next_ = (next_ + i + 1) % count_;
            if (buffer.freed) {
                twin::wait_event(events.free, buffer.free_event, line);
                twin::event_pending(events.free, buffer.free_event, false);
                buffer.freed = false;
            }
            buffer.state = State::Allocated;
            return LocalTensor<T>::at(source, buffer.address, bytes_);
        }
        twin::queue_fault("AllocTensor", "no buffer of the queue is free: FreeTensor one, or give InitBuffer more", line);
        return LocalTensor<T>::at(source, buffers_[0].address, bytes_);
    }

    template <typename T>
    bool EnQue(const LocalTensor<T>& tensor, int line = __builtin_LINE()) {
        Buffer* buffer = find(tensor.GetPhyAddr());
        if (buffer == nullptr || buffer->state != State::Allocated) {
            twin::queue_fault("EnQue", "the tensor is none that AllocTensor of this queue gave", line);
            return false;
        }
        if (length_ == (depth > 0 ? depth : 1)) {
            twin::queue_fault("EnQue", "more tensors are in the queue than its depth: DeQue first", line);
            return false;
        }
        buffer->state = State::Queued;
        if (events.any) twin::set_event(events.full, buffer->full_event, line);
        order_[(first_ + length_++) % most] = static_cast<int8_t>(buffer - buffers_);
        return true;
    }

    template <typename T>
    LocalTensor<T> DeQue(int line = __builtin_LINE()) {
        if (length_ == 0) {
            twin::queue_fault("DeQue", "nothing is in the queue: EnQue comes first", line);
            return LocalTensor<T>::at(source, buffers_[0].address, bytes_);
        }
        Buffer& buffer = buffers_[order_[first_]];
        first_ = (first_ + 1) % most;
        --length_;
        if (events.any) twin::wait_event(events.full, buffer.full_event, line);
        buffer.state = State::Allocated;
        return LocalTensor<T>::at(source, buffer.address, bytes_);
    }

    template <typename T>
    void FreeTensor(const LocalTensor<T>& tensor, int line = __builtin_LINE()) {
        Buffer* buffer = find(tensor.GetPhyAddr());
        if (buffer == nullptr || buffer->state != State::Allocated) {
            twin::queue_fault("FreeTensor", "the tensor is none that this queue gave, or is in the queue", line);
            return;
        }
        if (events.any) {
            twin::set_event(events.free, buffer->free_event, line);
            twin::event_pending(events.free, buffer->free_event, true);
            buffer->freed = true;
        }
        buffer->state = State::Free;
    }

    bool HasTensorInQue() const { return length_ > 0; }
    int32_t GetTensorCountInQue() const { return length_; }

    // Every buffer has event ids of its own, so that no flag is set while an earlier set of it may be unseen.
    void init(uint64_t address, int count, uint64_t bytes, int line) {
        count_ = count < most ? count : most;
        bytes_ = bytes;
        for (int i = 0; i < count_; ++i) {
            buffers_[i].address = address + static_cast<uint64_t>(i) * bytes;
            if (!events.any) continue;
            buffers_[i].full_event = twin::event_allocate(events.full, line);
            buffers_[i].free_event = twin::event_allocate(events.free, line);
        }
    }

 private:
    static constexpr twin::QueueEvents events = twin::events_of(source, destination);
    enum class State : uint8_t { Free, Allocated, Queued };
    struct Buffer {
        uint64_t address;
        State state;
        bool freed;
        int full_event, free_event;
    };

    Buffer* find(uint64_t address) {
        for (int i = 0; i < count_; ++i) {
            if (buffers_[i].address == address) return &buffers_[i];
        }
        return nullptr;
    }

    Buffer buffers_[most] = {};
    int count_ = 0, next_ = 0, first_ = 0, length_ = 0;
    int8_t order_[most] = {};
    uint64_t bytes_ = 0;
};

template <TPosition position, int32_t depth, auto mask = 0>
using TQue = TQueBind<position, position, depth>;

// Memory without flags.
template <TPosition position = TPosition::LCM>
class TBuf {
 public:
    template <typename T>
    LocalTensor<T> Get() const {
        return LocalTensor<T>::at(position, address_, bytes_);
    }

    template <typename T>
    LocalTensor<T> Get(uint32_t count) const {
        return LocalTensor<T>::at(position, address_, twin::bytes_of(twin::type_of<T>, count));
    }

    template <typename T>
    LocalTensor<T> GetWithOffset(uint32_t count, uint32_t offset) const {
        return LocalTensor<T>::at(position, address_ + offset, twin::bytes_of(twin::type_of<T>, count));
    }

    void init(uint64_t address, uint64_t bytes) {
        address_ = address;
        bytes_ = bytes;
    }

 private:
    uint64_t address_ = 0, bytes_ = 0;
};

// Hands out on-chip memory and event ids; one at a time.
class TPipe {
 public:
    TPipe(int line = __builtin_LINE()) : line_(line) { twin::pipe_begin(line); }
    ~TPipe() {
        if (alive_) twin::pipe_end(line_);
    }
    TPipe(const TPipe&) = delete;
    TPipe& operator=(const TPipe&) = delete;

    void Destroy(int line = __builtin_LINE()) {
        if (alive_) twin::pipe_end(line);
        alive_ = false;
    }

    void Reset(int line = __builtin_LINE()) { twin::pipe_reset(line); }

    template <TPosition source, TPosition destination, int32_t depth>
    bool InitBuffer(TQueBind<source, destination, depth>& queue, uint8_t count, uint32_t bytes,
                    int line = __builtin_LINE()) {
        uint64_t rounded = (bytes + twin::buffer_unit - 1) / twin::buffer_unit * twin::buffer_unit;
        queue.init(twin::pipe_allocate(source, count, rounded, true, line), count, rounded, line);
        return true;
    }

    template <TPosition position>
    bool InitBuffer(TBuf<position>& buffer, uint32_t bytes, int line = __builtin_LINE()) {
        uint64_t rounded = (bytes + twin::buffer_unit - 1) / twin::buffer_unit * twin::buffer_unit;
        buffer.init(twin::pipe_allocate(position, 1, rounded, false, line), rounded);
        return true;
    }

    template <HardEvent event>
    TEventID AllocEventID(int line = __builtin_LINE()) {
        return static_cast<TEventID>(twin::event_allocate(event, line));
    }

    template <HardEvent event>
    void ReleaseEventID(TEventID id, int line = __builtin_LINE()) {
        twin::event_release(event, id, line);
    }

    template <HardEvent event>
    TEventID FetchEventID(int line = __builtin_LINE()) {
        return static_cast<TEventID>(twin::event_fetch(event, line));
    }

    TEventID FetchEventID(HardEvent event, int line = __builtin_LINE()) {
        return static_cast<TEventID>(twin::event_fetch(event, line));
    }

 private:
    int line_;
    bool alive_ = true;
};

}  // namespace AscendC
