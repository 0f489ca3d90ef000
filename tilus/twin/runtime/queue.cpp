// TPipe's part of a core: on-chip memory and event ids.

#include "twin/queue.h"

#include <algorithm>

#include "call.h"

namespace twin {

using AscendC::HardEvent;
using AscendC::TPosition;

namespace {

constexpr int most_buffers = 64;
constexpr int preset_events = 3;

uint8_t& taken(Core& core, HardEvent event) { return core.pipe_object.taken[static_cast<int>(event)]; }

void fault(const char* kind, const char* call, Core& core, const std::string& text, int line) {
    machine->fault(kind, {call, line}, core, text);
}

}  // namespace

void pipe_begin(int line) {
    Core& core = running();
    if (core.pipe_object.alive) fault("TPipe", "TPipe", core, "there is a TPipe already: one at a time", line);
    core.pipe_object = PipeObject();
    core.pipe_object.alive = true;
    if (core.side == Side::AIC) {
        for (int id = 0; id < preset_events; ++id) {
            taken(core, HardEvent::M_MTE1) |= 1 << id;
            set_event(HardEvent::M_MTE1, id, line);
        }
    }
}

void pipe_end(int line) {
    Core& core = running();
    if (core.side == Side::AIC) {
        for (int id = 0; id < preset_events; ++id) wait_event(HardEvent::M_MTE1, id, line);
    }
    auto pending = std::move(core.pipe_object.pending);
    for (auto [event, id] : pending) wait_event(static_cast<HardEvent>(event), id, line);
    machine->barrier_all({"TPipe", line});
    core.pipe_object = PipeObject();
}

void pipe_reset(int line) {
    Core& core = running();
    pipe_end(line);
    core.pipe_object.alive = true;
}

uint64_t pipe_allocate(TPosition position, int64_t count, uint64_t bytes, bool queue, int line) {
    Core& core = running();
    PipeObject& object = core.pipe_object;
    Memory memory = memory_of(position);
    if (!object.alive) fault("TPipe", "InitBuffer", core, "there is no TPipe", line);
    int& of_position = object.buffers[static_cast<int>(position)];
    if (queue) {
        of_position += static_cast<int>(count);
        if (count < 1 || of_position > event_ids) {
            fault("TPipe", "InitBuffer", core,
                  text_of("%d buffers of queues at one position, which has %d event ids", of_position, event_ids), line);
        }
    }
    object.total += static_cast<int>(count);
    if (object.total > most_buffers) {
        fault("TPipe", "InitBuffer", core, text_of("%d buffers; a TPipe has up to %d", object.total, most_buffers), line);
    }
    uint64_t address = object.used[static_cast<int>(memory)];
    uint64_t end = address + static_cast<uint64_t>(count) * bytes;
    auto size = static_cast<uint64_t>(machine->chip.memory_bytes[static_cast<int>(memory)]);
    if (end > size) {
        fault("out of bounds", "InitBuffer", core,
              text_of("buffers up to byte %llu of %s, which has %llu", static_cast<unsigned long long>(end),
                      name_of(memory), static_cast<unsigned long long>(size)), line);
    }
    object.used[static_cast<int>(memory)] = end;
    return address;
}

int event_allocate(HardEvent event, int line) {
    Core& core = running();
    uint8_t& ids = taken(core, event);
    for (int id = 0; id < event_ids; ++id) {
        if (ids & 1 << id) continue;
        ids = static_cast<uint8_t>(ids | 1 << id);
        return id;
    }
    fault("TPipe", "AllocEventID", core, text_of("all %d event ids are in use: ReleaseEventID", event_ids), line);
    return event_ids - 1;
}

void event_release(HardEvent event, int id, int line) {
    Core& core = running();
    if (id < 0 || id >= event_ids || !(taken(core, event) & 1 << id)) {
        fault("TPipe", "ReleaseEventID", core, text_of("event id %d is not in use", id), line);
        return;
    }
    taken(core, event) = static_cast<uint8_t>(taken(core, event) & ~(1 << id));
}

int event_fetch(HardEvent event, int) {
    uint8_t ids = taken(running(), event);
    for (int id = 0; id < event_ids; ++id) {
        if (!(ids & 1 << id)) return id;
    }
    return 0;
}

void event_pending(HardEvent event, int id, bool pending) {
    auto& all = running().pipe_object.pending;
    std::pair<int, int> one{static_cast<int>(event), id};
    if (pending) {
        all.push_back(one);
    } else {
        all.erase(std::remove(all.begin(), all.end(), one), all.end());
    }
}

void queue_fault(const char* call, const char* text, int line) { fault("TQue", call, running(), text, line); }
void set_event(HardEvent event, int id, int line) { set_flag(first_pipe(event), second_pipe(event), id, line); }
void wait_event(HardEvent event, int id, int line) { wait_flag(first_pipe(event), second_pipe(event), id, line); }

}  // namespace twin
