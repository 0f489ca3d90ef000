// Scalar accesses to tensors: at once in on-chip memory, in GM by way of the core's data cache.

#include "call.h"
#include "twin/tensor.h"

namespace twin {

namespace {

constexpr uint64_t line_bytes = CacheLines::line_bytes;

// The line that holds an address, filled from GM where the cache lacks it. Lines end where their array does.
CacheLines::Line& cached_line(Core& core, uint64_t address) {
    uint64_t base = address / line_bytes * line_bytes;
    auto [place, fresh] = core.cache.lines.try_emplace(base);
    CacheLines::Line& line = place->second;
    if (fresh) {
        std::memcpy(line.bytes, reinterpret_cast<const void*>(base), line_bytes);
        line.known = core.pipe(Pipe::S).known;
    }
    return line;
}

// Calls `visit(line, offset in it, offset in the value, bytes)` for the lines of a value.
template <typename Visit>
void for_each_line(Core& core, uint64_t address, uint32_t size, Visit visit) {
    for (uint32_t done = 0; done < size;) {
        uint64_t offset = (address + done) % line_bytes;
        auto bytes = static_cast<uint32_t>(line_bytes - offset < size - done ? line_bytes - offset : size - done);
        visit(cached_line(core, address + done), offset, done, bytes);
        done += bytes;
    }
}

// What others have written since a line came into the cache is not seen.
void check_stale(Core& core, const CacheLines::Line& line, uint64_t address, uint32_t size, Site site) {
    Allocation* allocation = machine->allocation_of(address);
    uint64_t begin = address - reinterpret_cast<uint64_t>(allocation->base);
    const Access* other = allocation->shadow->later_write(begin, begin + size, core.actor(Pipe::S), line.known);
    if (other == nullptr) return;
    machine->fault("data cache", site, core,
                   text_of("reads what was in the data cache before %s at line %d wrote it: "
                           "DataCacheCleanAndInvalid has to drop the line first", other->site.call, other->site.line),
                   other->site.line);
}

}  // namespace

uint64_t load_scalar(const Operand& tensor, uint64_t offset, uint32_t size, int line) {
    Call call("GetValue", Pipe::S, line);
    call.reads(tensor, contiguous(size, static_cast<int64_t>(offset))).costs(costs::scalar_access, 0);
    call.count(Counter::ScalarAccesses, 1);
    uint64_t bits = 0;
    call.run_here([&](Core& core) {
        auto* to = reinterpret_cast<uint8_t*>(&bits);
        if (tensor.memory != Memory::GM) {
            std::memcpy(to, data(core, tensor) + offset, size);
            return;
        }
        uint64_t address = tensor.address + offset;
        for_each_line(core, address, size, [&](const CacheLines::Line& cached, uint64_t begin, uint32_t done, uint32_t n) {
            check_stale(core, cached, address + done, n, {"GetValue", line});
            std::memcpy(to + done, cached.bytes + begin, n);
        });
    });
    return bits;
}

void store_scalar(const Operand& tensor, uint64_t offset, uint32_t size, uint64_t bits, int line) {
    Call call("SetValue", Pipe::S, line);
    call.writes(tensor, contiguous(size, static_cast<int64_t>(offset))).costs(costs::scalar_access, 0);
    call.count(Counter::ScalarAccesses, 1);
    call.run_here([&](Core& core) {
        const auto* from = reinterpret_cast<const uint8_t*>(&bits);
        if (tensor.memory != Memory::GM) {
            std::memcpy(data(core, tensor) + offset, from, size);
            return;
        }
        for_each_line(core, tensor.address + offset, size,
                      [&](CacheLines::Line& cached, uint64_t begin, uint32_t done, uint32_t n) {
            std::memcpy(cached.bytes + begin, from + done, n);
            cached.dirty = true;
            cached.written = {"SetValue", line};
        });
        machine->dirty_lines = true;
    });
}

// The line of an address leaves the cache, and GM gets all of it where it was written to.
void clean_cache(const Operand& tensor, bool entire, int line) {
    Call call("DataCacheCleanAndInvalid", Pipe::S, line);
    call.costs(costs::scalar_access, 0);
    if (!call.sound()) return;
    Core& core = call.core;
    uint64_t own = tensor.address / line_bytes * line_bytes;
    for (auto place = core.cache.lines.begin(); place != core.cache.lines.end();) {
        if (!entire && place->first != own) {
            ++place;
            continue;
        }
        if (place->second.dirty) {
            uint64_t base = place->first;
            const Allocation* allocation = machine->allocation_of(base);
            uint64_t end = reinterpret_cast<uint64_t>(allocation->base) + allocation->bytes;
            uint64_t bytes = base + line_bytes <= end ? line_bytes : end - base;
            Operand whole{base, bytes, Memory::GM, Type::u8};
            Call write("DataCacheCleanAndInvalid", Pipe::S, line);
            write.writes(whole, contiguous(bytes));
            write.run_here([&](Core&) {
                std::memcpy(reinterpret_cast<void*>(base), place->second.bytes, bytes);
            });
        }
        place = core.cache.lines.erase(place);
    }
}

void Machine::check_caches(Core& core, const Instruction& instruction, const Touch& touched) {
    auto first = static_cast<int64_t>(touched.operand.address) + touched.region.first();
    auto last = static_cast<int64_t>(touched.operand.address) + touched.region.last();
    for (auto& other : cores_) {
        auto& lines = other->cache.lines;
        for (auto place = lines.lower_bound(static_cast<uint64_t>(first) / line_bytes * line_bytes);
             place != lines.end() && place->first < static_cast<uint64_t>(last); ++place) {
            if (!place->second.dirty) continue;
            fault("data cache", instruction.site, core,
                  text_of("%s what %s at line %d wrote and the data cache of %s still has: DataCacheCleanAndInvalid "
                          "has to come before", touched.write ? "writes" : "reads", place->second.written.call,
                          place->second.written.line, other->name().c_str()), place->second.written.line);
            return;
        }
    }
}

}  // namespace twin
