// One core: its memories, the queues and clocks of its pipes, its flags, and its scalar unit, which is a fiber.
#pragma once

#include <array>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "chip.h"
#include "clock.h"
#include "fiber.h"
#include "findings.h"
#include "region.h"
#include "shadow.h"
#include "vector_state.h"
#include "twin/types.h"

namespace twin {

class Core;
class Machine;

constexpr size_t queue_depth = 32;
constexpr int event_ids = 8;
constexpr int cross_ids = 16;
constexpr int cross_modes = 3;

const char* name_of(Memory memory);
const char* name_of(Pipe pipe);
const char* name_of(Type type);

// Bytes of an operand that an instruction reads or writes.
struct Touch {
    Operand operand;
    Region region;
    bool write = false;
    bool atomic = false;
    bool carries = false;  // what is not initialised is moved on as such
};

// Cycles that an instruction keeps its pipe busy, and those from then on until its results are there.
struct Cost {
    double occupancy = 0, latency = 0;
};

enum class Kind : uint8_t { Work, SetFlag, WaitFlag, Barrier, CrossSet, CrossWait };

// How products hand a tile of L0C to Fixpipe without a flag.
enum class UnitFlag : uint8_t { None, Fills, Completes, Drains };

// An entry of a pipe's queue; `other`, `id` and `mode` are those of flags.
struct Instruction {
    Site site;
    Pipe pipe = Pipe::S;
    Kind kind = Kind::Work;
    Pipe other = Pipe::S;
    int id = 0, mode = 0;
    bool in_order = false;             // later ones of this pipe find it complete
    UnitFlag unit = UnitFlag::None;
    uint64_t unit_address = 0;
    std::vector<Touch> touches;
    // Bytes that it reads besides, where only values in memory tell which.
    std::function<void(Core&, std::vector<Touch>&)> gathers;
    std::function<void(Core&)> body;
    Cost cost;
    SharedClock scalar;                // what the scalar unit knew when it issued this
    double issued = 0;                 // cycles
    uint64_t sequence = 0;             // among those of its core
};

// A flag between two pipes of a core: the sets that nobody has waited for, of which there may be one.
struct Flag {
    struct Set {
        SharedClock clock;
        double time;
    };
    std::deque<Set> sets;
    Site site;              // where it was set last
    uint32_t consumed = 0;  // the second pipe's time at the last wait

    bool set() const { return !sets.empty(); }
};

struct PipeState {
    std::deque<Instruction> queue;
    Clock known;
    uint32_t time = 0;         // entries begun
    double free = 0, end = 0;  // cycles: when it may begin the next entry; when all are done
    double busy = 0;
    std::vector<std::pair<double, double>> worked;  // from when to when, in order; what touches is one
    SharedClock scalar;        // what was last joined of the scalar unit's clock
    // When the last entries began, so that the scalar unit knows when a place in the queue was free.
    std::array<double, queue_depth> starts{};
    uint64_t pushed = 0, started = 0;
};

// A tile of L0C that products with a unit flag fill, and Fixpipe drains.
struct Unit {
    bool full = false;
    SharedClock filled, drained;
    double time = 0;
    Site site;
};

// The data cache of a scalar unit, through which it sees GM.
struct CacheLines {
    static constexpr uint64_t line_bytes = 64;
    struct Line {
        uint8_t bytes[line_bytes];
        bool dirty = false;
        Site written;   // where it was written last
        Clock known;    // of the scalar unit when the line was filled
    };
    std::map<uint64_t, Line> lines;  // by address
};

// A set of a cross-core flag.
struct Arrival {
    SharedClock clock;
    double time = 0;
    Site site;
    Pipe pipe = Pipe::S;
    int mode = 0;
};

// What a TPipe has handed out.
struct PipeObject {
    bool alive = false;
    int total = 0;
    int buffers[32] = {};      // of queues, by position
    uint64_t used[memories] = {};
    uint8_t taken[256] = {};   // event ids, by event
    std::vector<std::pair<int, int>> pending;  // events and ids that its end waits for

    explicit operator bool() const { return alive; }
};

// Why a scalar unit is not running.
enum class Wait : uint8_t { Nothing, Flag, Queue, Drain, Cross, Sync, Ended };

class Core {
 public:
    Core(Machine& machine, uint32_t index, Side side, uint32_t group, uint32_t sub);

    // The memory's storage, which begins undefined.
    uint8_t* bytes(Memory memory);
    Shadow& shadow(Memory memory);
    // All on-chip memory becomes undefined.
    void clear();
    std::string name() const;
    PipeState& pipe(Pipe pipe) { return pipe_states_[static_cast<int>(pipe)]; }
    Flag& flag(Pipe from, Pipe to, int id) {
        return flags_[(static_cast<int>(from) * pipes + static_cast<int>(to)) * event_ids + id];
    }
    Actor actor(Pipe pipe) const { return actor_of(index, pipe); }
    std::deque<Arrival>& sets(int mode, int id) { return sets_[mode * cross_ids + id]; }
    bool drained() const;

    Machine& machine;
    const uint32_t index;
    const Side side;
    const uint32_t group, sub;  // the physical core, and which vector core of it
    int64_t block = -1;

    Fiber fiber;
    Wait wait = Wait::Ended;
    Instruction waiting;        // what the scalar unit waits for
    uint32_t ready = 0;         // bit per pipe: its next step is possible
    std::deque<Arrival> arrivals[cross_ids];

    CacheLines cache;
    std::map<uint64_t, Unit> units;  // by address in L0C

    bool static_memory = false;
    PipeObject pipe_object;
    bool deep = false;          // its stack was once too large
    uint64_t pad_value = 0;
    bool pad_value_set = false;
    int atomic = 0;
    Type atomic_type = Type::f32;
    Site atomic_site;           // where it was set
    bool hf32 = false;
    bool fixpipe_scales_set = false;
    Operand fixpipe_scales{};
    VectorState vector;
    SharedClock snapshot;       // the scalar unit's clock, while it does not change
    uint64_t sequence = 0;      // instructions issued
    int burst = 0;              // instructions that it may still issue before others have their turn

 private:
    PipeState pipe_states_[pipes];
    Flag flags_[pipes * pipes * event_ids];
    std::deque<Arrival> sets_[cross_modes * cross_ids];  // until every core of the flag has set it
    std::unique_ptr<uint8_t[]> memory_[memories];
    std::unique_ptr<Shadow> shadow_[memories];
};

}  // namespace twin
