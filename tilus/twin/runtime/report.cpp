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
std::string place_of(const Operand& operand, const Allocation* allocation, uint64_t byte) {
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
    const Operand& operand = touched.operand;
    std::string place = place_of(operand, operand.memory == Memory::GM ? allocation_of(operand.address) : nullptr,
                                 conflict.byte);
    if (conflict.uninitialised) {
        fault("uninitialised", instruction.site, core, "reads " + place + ", which nothing has written");
    }
    if (!conflict.race) return;
    // Of two accesses by one core the one that was issued later has to be ordered, whichever came first here.
    Party own{instruction.site, instruction.pipe, touched.write, &core};
    Party other{conflict.other.site, static_cast<Pipe>(conflict.other.actor % actors_of_core), conflict.other.write,
                cores_[conflict.other.actor / actors_of_core].get()};
    if (other.core == &core && conflict.other.sequence > instruction.sequence) std::swap(own, other);
    const char *own_name = name_of(own.pipe), *other_name = name_of(other.pipe);
    std::string met = text_of("%s %s, which %s at line %d %s", verb(own.write), place.c_str(), other.site.call,
                              other.site.line, verb(other.write));
    if (other.core != &core) {
        fault("race", own.site, core,
              met + text_of(" on %s: a cross-core flag has to be set by its pipe %s and waited for here",
                            other.core->name().c_str(), other_name), other.site.line);
    } else if (other.pipe == own.pipe) {
        fault("missing PipeBarrier", own.site, core,
              met + text_of(": PipeBarrier<PIPE_%s>() has to stand between them", own_name), other.site.line);
    } else {
        fault("race", own.site, core,
              met + text_of(" on pipe %s: SetFlag<HardEvent::%s_%s> after it and WaitFlag before this have to order "
                            "them", other_name, other_name, own_name), other.site.line);
    }
}

void Machine::report_deadlock() {
    std::string text = "nothing can go on:";
    Core* first = nullptr;
    Site site;
    int shown = 0;
    for (auto& core : cores_) {
        bool stuck = core->wait != Wait::Ended || !core->drained();
        if (!stuck || ++shown > 6) continue;
        text += "\n  " + core->name() + ": ";
        static const char* const reasons[] = {"runs", "waits for a flag", "waits for a place in the queue of",
                                              "waits until all pipes are empty", "waits for a cross-core flag",
                                              "waits for all cores", "has ended"};
        text += std::string("S ") + reasons[static_cast<int>(core->wait)];
        if (core->wait == Wait::Flag) {
            text += text_of(" (%s_S id %d)", name_of(core->waiting.other), core->waiting.id);
        }
        if (core->wait == Wait::Queue) text += std::string(" ") + name_of(core->waiting.pipe);
        if (core->wait == Wait::Cross) text += text_of(" (id %d)", core->waiting.id);
        if (core->wait != Wait::Ended) text += text_of(" at line %d", core->waiting.site.line);
        Site own = core->wait == Wait::Ended ? Site{} : core->waiting.site;
        for (int p = 1; p < pipes; ++p) {
            const auto& queue = core->pipe(static_cast<Pipe>(p)).queue;
            if (queue.empty()) continue;
            const Instruction& head = queue.front();
            text += text_of("; %s: %s at line %d", name_of(head.pipe), head.site.call, head.site.line);
            if (head.kind == Kind::WaitFlag) text += text_of(" (%s_%s id %d)", name_of(head.other), name_of(head.pipe), head.id);
            if (head.kind == Kind::CrossWait) text += text_of(" (id %d)", head.id);
            if (core->wait == Wait::Ended || core->wait == Wait::Queue || core->wait == Wait::Drain) own = head.site;
        }
        if (first == nullptr) {
            first = core.get();
            site = own;
        }
    }
    if (shown > 6) text += text_of("\n  and %d more cores", shown - 6);
    if (first != nullptr) fault("deadlock", site, *first, text);
}

std::string Machine::report() const {
    std::string text = "{\"findings\":[";
    for (const Finding& finding : findings_.all()) text += (text.back() == '[' ? "" : ",") + json(finding);
    text += "],\"counters\":[";
    for (int c = 0; c < counters; ++c) text += (c ? "," : "") + std::to_string(counters_[c]);
    double end = 0, busy[2][pipes] = {};
    for (const auto& core : cores_) {
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
    text += text_of("],\"end\":%.1f,\"gm_read\":%llu,\"gm_written\":%llu}", end,
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
