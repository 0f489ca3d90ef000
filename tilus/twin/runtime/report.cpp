// What a run has found and measured, as JSON, and the texts of findings about order.

#include <algorithm>
#include <cmath>

#include "machine.h"

namespace twin {

namespace {

std::string quoted(const std::string& text) {
    std::string result = "\"";
    for (char c : text) {
        if (c == '"' || c == '\\') result += '\\';
        if (c == '\n') {
            result += "\\n";
        } else {
            result += c;
        }
    }
    return result + '"';
}

std::string json(const Finding& finding) {
    return "{\"kind\":" + quoted(finding.kind) + ",\"call\":" + quoted(finding.call) +
           ",\"line\":" + std::to_string(finding.line) + ",\"core\":" + quoted(finding.core) +
           ",\"text\":" + quoted(finding.text) + ",\"count\":" + std::to_string(finding.count) + "}";
}

// GM is a pointer to the user, so bytes of it are those of an argument.
std::string place_of(const Operand& operand, uint64_t byte) {
    const Allocation* allocation = operand.memory == Memory::GM ? machine->allocation_of(operand.address) : nullptr;
    if (allocation != nullptr) {
        return text_of("byte %lld of argument %d", static_cast<long long>(byte), allocation->argument);
    }
    return text_of("byte %lld of %s", static_cast<long long>(byte), name_of(operand.memory));
}

// One of two accesses that meet.
struct Party {
    Site site;
    Pipe pipe;
    bool write;
    const Core* core;
};

const char* verb(bool write) { return write ? "writes" : "reads"; }

}  // namespace

void Machine::report_conflict(Core& core, const Instruction& instruction, const Touch& touched,
                              const Conflict& conflict) {
    if (conflict.uninitialised) {
        fault("uninitialised", instruction.site, core,
              "reads " + place_of(touched.operand, conflict.byte) + ", which nothing has written");
    }
    for (const Conflict::Race& race : conflict.races) report_race(core, instruction, touched, race);
}

void Machine::report_race(Core& core, const Instruction& instruction, const Touch& touched,
                          const Conflict::Race& race) {
    Party own{instruction.site, instruction.pipe, touched.write, &core};
    Party other{race.other.site, static_cast<Pipe>(race.other.actor % actors_of_core), race.other.write,
                cores_[race.other.actor / actors_of_core].get()};
    bool near = other.core == &core;
    // Of two accesses by one core the one that was issued later has to be ordered, whichever came first here; of those
    // by two cores the finding is at the one that reads.
    bool swapped = near ? race.other.sequence > instruction.sequence
                        : own.write && (!other.write || other.site.line > own.site.line);
    if (swapped) std::swap(own, other);
    const char *own_name = name_of(own.pipe), *other_name = name_of(other.pipe);
    std::string met = text_of("%s %s, which %s at line %d %s", verb(own.write),
                              place_of(touched.operand, race.byte).c_str(), other.site.call, other.site.line,
                              verb(other.write));
    if (!near) {
        fault("race", own.site, *own.core,
              met + text_of(" on %s, and no cross-core flag orders the two: the first one's has to be set by pipe %s or "
                            "%s after it and waited for before the other", other.core->name().c_str(), other_name,
                            own_name), other.site.line);
    } else if (other.pipe == own.pipe) {
        std::string barrier = text_of("PipeBarrier<PIPE_%s>", own_name);
        fault(("missing " + barrier).c_str(), own.site, core, met + ": " + barrier + "() has to stand between them",
              other.site.line);
    } else {
        fault("race", own.site, core,
              met + text_of(" on pipe %s: SetFlag<HardEvent::%s_%s> after it and WaitFlag before this have to order "
                            "them", other_name, other_name, own_name), other.site.line);
    }
}

namespace {

// A wait for a flag that nothing in a queue will set: what a deadlock comes from.
bool is_hopeless(Core& core, const Instruction& wait) {
    if (wait.kind == Kind::CrossWait) return true;
    if (wait.kind != Kind::WaitFlag) return wait.unit != UnitFlag::None;
    for (const Instruction& other : core.pipe(wait.other).queue) {
        if (other.kind == Kind::SetFlag && other.other == wait.pipe && other.id == wait.id) return false;
    }
    return true;
}

std::string detail_of(const Instruction& head) {
    if (head.kind == Kind::WaitFlag) return text_of(" (%s_%s id %d)", name_of(head.other), name_of(head.pipe), head.id);
    if (head.kind == Kind::CrossWait) return text_of(" (id %d)", head.id);
    if (head.unit != UnitFlag::None) return " (unit flag)";
    return "";
}

// What the scalar unit of a core does; for what it waits.
std::string state_of(const Core& core) {
    std::string line = text_of(" at line %d", core.waiting.site.line);
    switch (core.wait) {
        case Wait::Nothing: return "S runs";
        case Wait::Flag: case Wait::Cross: return "S: " + std::string(core.waiting.site.call) + line + detail_of(core.waiting);
        case Wait::Queue: return std::string("S waits for a place in the queue of ") + name_of(core.waiting.pipe) + line;
        case Wait::Drain: return "S waits until all pipes are empty" + line;
        case Wait::Sync: return "S waits for all cores" + line;
        default: return "S has ended";
    }
}

constexpr int cores_shown = 6;

}  // namespace

void Machine::report_deadlock() {
    std::string text = "nothing can go on:";
    const Core* where = nullptr;
    Site site;
    bool certain = false;
    auto consider = [&](Core& core, const Instruction& wait) {
        bool hopeless = is_hopeless(core, wait);
        if (where != nullptr && (certain || !hopeless)) return;
        where = &core;
        site = wait.site;
        certain = hopeless;
    };
    int shown = 0;
    for (auto& core : cores_) {
        if (core->wait == Wait::Ended && core->drained()) continue;
        bool visible = ++shown <= cores_shown;
        if (visible) text += "\n  " + core->name() + ": " + state_of(*core);
        if (core->wait == Wait::Flag || core->wait == Wait::Cross) consider(*core, core->waiting);
        for (int p = 1; p < pipes; ++p) {
            const auto& queue = core->pipe(static_cast<Pipe>(p)).queue;
            if (queue.empty()) continue;
            const Instruction& head = queue.front();
            if (visible) {
                text += text_of("; %s: %s at line %d", name_of(head.pipe), head.site.call, head.site.line) + detail_of(head);
            }
            consider(*core, head);
        }
        if (where == nullptr) {
            where = core.get();
            site = core->waiting.site;
        }
    }
    if (shown > cores_shown) text += text_of("\n  and %d more cores", shown - cores_shown);
    if (where != nullptr) fault("deadlock", site, *where, text);
}

// Cycles in which some pipe of a core works.
static double cycles_worked(Core& core) {
    std::vector<std::pair<double, double>> all;
    for (int p = 0; p < pipes; ++p) {
        const auto& mine = core.pipe(static_cast<Pipe>(p)).worked;
        all.insert(all.end(), mine.begin(), mine.end());
    }
    std::sort(all.begin(), all.end());
    double total = 0, end = 0;
    for (auto [first, last] : all) {
        total += std::max(0.0, last - std::max(first, end));
        end = std::max(end, last);
    }
    return total;
}

std::string Machine::report() const {
    std::string text = "{\"findings\":[";
    for (const Finding& finding : findings_.all()) text += (text.back() == '[' ? "" : ",") + json(finding);
    text += "],\"counters\":[";
    for (int c = 0; c < counters; ++c) text += (c ? "," : "") + std::to_string(counters_[c]);
    double end = 0, busy[2][pipes] = {}, worked[2] = {};
    for (const auto& core : cores_) {
        double& longest = worked[static_cast<int>(core->side)];
        longest = std::max(longest, cycles_worked(*core));
        for (int p = 0; p < pipes; ++p) {
            const PipeState& state = core->pipe(static_cast<Pipe>(p));
            end = std::max({end, state.end, state.free});
            double& most = busy[static_cast<int>(core->side)][p];
            most = std::max(most, state.busy);
        }
    }
    uint64_t read = 0, written = 0;
    for (const Allocation& allocation : allocations_) {
        if (!allocation.shadow) continue;
        read += allocation.shadow->granules_read();
        written += allocation.shadow->granules_written();
    }
    for (int s = 0; s < 2; ++s) {
        text += s ? "],\"busy_aiv\":[" : "],\"busy_aic\":[";
        for (int p = 0; p < pipes; ++p) text += (p ? "," : "") + std::to_string(busy[s][p]);
    }
    int64_t ai_cores = cube_of_block_ > 0 ? groups_ : std::min<int64_t>(groups_, chip.cube_cores);
    text += text_of("],\"worked\":[%.1f,%.1f]", worked[0], worked[1]);
    text += text_of(",\"ai_cores\":%lld,\"end\":%.1f,\"gm_read\":%llu,\"gm_written\":%llu}",
                    static_cast<long long>(ai_cores), end,
                    static_cast<unsigned long long>(read * granule_bytes),
                    static_cast<unsigned long long>(written * granule_bytes));
    return text;
}

}  // namespace twin

extern "C" {

// Run a kernel; the result is JSON, valid until the next run.
const char* twin_run(const twin::ChipDescription* chip, const twin::RunDescription* run, twin::ArrayDescription* arrays,
                     void** arguments, void (*entry)(void**)) {
    static std::string result;
    twin::Machine machine(*chip, *run, arrays, arguments);
    machine.execute(entry);
    result = machine.report();
    return result.c_str();
}

}
