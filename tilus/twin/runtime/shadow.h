// What the twin knows of each byte of a memory: whether it was ever written, and the accesses that later ones may race.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "clock.h"
#include "findings.h"

namespace twin {

constexpr uint64_t granule_bytes = 256;

// A set of bytes of a granule.
struct Bytes {
    uint64_t words[4] = {0, 0, 0, 0};

    static Bytes range(uint32_t begin, uint32_t end);
    // Up to 32 bytes from `begin` on, by their bits.
    static Bytes lanes(uint32_t begin, uint32_t bits);

    bool any() const { return (words[0] | words[1] | words[2] | words[3]) != 0; }
    bool meets(const Bytes& o) const {
        return ((words[0] & o.words[0]) | (words[1] & o.words[1]) | (words[2] & o.words[2]) |
                (words[3] & o.words[3])) != 0;
    }
    bool within(const Bytes& o) const {
        return ((words[0] & ~o.words[0]) | (words[1] & ~o.words[1]) | (words[2] & ~o.words[2]) |
                (words[3] & ~o.words[3])) == 0;
    }
    void add(const Bytes& o) {
        for (int i = 0; i < 4; ++i) words[i] |= o.words[i];
    }
    void remove(const Bytes& o) {
        for (int i = 0; i < 4; ++i) words[i] &= ~o.words[i];
    }
};

// One access: who, when, and how it may meet others.
struct Access {
    Site site;
    Actor actor = 0;
    uint32_t time = 0;
    uint64_t sequence = 0;    // when it was issued
    bool write = false;
    bool atomic = false;      // atomic writes may meet each other
    bool carries = false;     // moves bytes on without looking whether they are initialised
    bool in_order = false;    // the same pipe completes it before what it issues later
};

struct Record {
    Bytes bytes;
    Access access;
};

struct Granule {
    Bytes initialised;
    bool read = false, written = false;
    std::vector<Record> records;
};

// What an access found: earlier ones that it races, and bytes that were never written.
struct Conflict {
    struct Race {
        Access other;
        uint64_t byte;
    };
    std::vector<Race> races;  // with different sites
    bool uninitialised = false;
    uint64_t byte = 0;        // the first one of those, from the start of the memory

    void add(const Access& other, uint64_t byte);
};

class Shadow {
 public:
    explicit Shadow(uint64_t bytes, bool initialised)
        : granules_((bytes + granule_bytes - 1) / granule_bytes), initialised_(initialised) {}

    // Note an access to bytes [begin, end), under lanes (of at most 32 bytes) where that is not null.
    void access(uint64_t begin, uint64_t end, const uint32_t* lanes, const Access& access, const Clock& known,
                Conflict& conflict);

    // A write by another than `reader` to these bytes that is not within `known`.
    const Access* later_write(uint64_t begin, uint64_t end, Actor reader, const Clock& known) const;

    bool initialised(uint64_t begin, uint64_t end) const;
    // 0xFF for each byte that is initialised, 0 for others.
    void describe(uint64_t begin, uint64_t end, uint8_t* to) const;
    // Whether any of the bytes was ever written.
    bool holds(uint64_t begin, uint64_t end) const;

    // Bytes that hold nothing of meaning from now on.
    void forget(uint64_t begin, uint64_t end);

    // Nothing was ever accessed; calls `visit(begin)` for each granule that was.
    template <typename Visit>
    void clear(Visit visit) {
        for (uint64_t index = 0; index < granules_.size(); ++index) {
            if (!granules_[index]) continue;
            granules_[index]->records.clear();
            granules_[index]->initialised = Bytes();
            visit(index * granule_bytes);
        }
    }

    // Granules that were read before anything was written to them, and those that were written to.
    uint64_t granules_read() const { return read_; }
    uint64_t granules_written() const { return written_; }

 private:
    Granule& granule(uint64_t index);
    void note(Granule& granule, uint64_t index, const Bytes& bytes, const Access& access, const Clock& known,
              Conflict& conflict);

    std::vector<std::unique_ptr<Granule>> granules_;
    bool initialised_;
    uint64_t read_ = 0, written_ = 0;
};

}  // namespace twin
