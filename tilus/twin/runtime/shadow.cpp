#include "shadow.h"

namespace twin {

namespace {

// The low `count` bits, 0 to 64.
uint64_t low(uint32_t count) { return count >= 64 ? ~uint64_t{0} : (uint64_t{1} << count) - 1; }

uint32_t first_of(const Bytes& bytes) {
    for (uint32_t i = 0; i < 4; ++i) {
        if (bytes.words[i] != 0) return i * 64 + static_cast<uint32_t>(__builtin_ctzll(bytes.words[i]));
    }
    return 0;
}

}  // namespace

Bytes Bytes::range(uint32_t begin, uint32_t end) {
    Bytes bytes;
    for (uint32_t i = 0; i < 4; ++i) {
        uint32_t start = i * 64;
        uint32_t from = begin > start ? begin - start : 0, to = end > start ? end - start : 0;
        if (from < 64 && to > from) bytes.words[i] = low(to) & ~low(from);
    }
    return bytes;
}

Bytes Bytes::lanes(uint32_t begin, uint32_t bits) {
    Bytes bytes;
    uint32_t word = begin / 64, shift = begin % 64;
    bytes.words[word] = static_cast<uint64_t>(bits) << shift;
    if (shift > 32 && word < 3) bytes.words[word + 1] = static_cast<uint64_t>(bits) >> (64 - shift);
    return bytes;
}

void Conflict::add(const Access& other, uint64_t byte) {
    for (const Race& race : races) {
        if (race.other.site.line == other.site.line && race.other.actor == other.actor) return;
    }
    races.push_back({other, byte});
}

Granule& Shadow::granule(uint64_t index) {
    auto& place = granules_[index];
    if (!place) {
        place = std::make_unique<Granule>();
        if (initialised_) place->initialised = Bytes::range(0, granule_bytes);
    }
    return *place;
}

void Shadow::access(uint64_t begin, uint64_t end, const uint32_t* lanes, const Access& access, const Clock& known,
                    Conflict& conflict) {
    uint64_t first = begin / granule_bytes;
    for (uint64_t index = first; index * granule_bytes < end; ++index) {
        uint64_t base = index * granule_bytes;
        uint32_t from = begin > base ? static_cast<uint32_t>(begin - base) : 0;
        uint32_t to = end < base + granule_bytes ? static_cast<uint32_t>(end - base) : granule_bytes;
        Bytes bytes = lanes == nullptr ? Bytes::range(from, to)
                                       : Bytes::lanes(from, index == first ? *lanes : *lanes >> (base - begin));
        if (bytes.any()) note(granule(index), index, bytes, access, known, conflict);
    }
}

void Shadow::note(Granule& granule, uint64_t index, const Bytes& bytes, const Access& access, const Clock& known,
                  Conflict& conflict) {
    if (!access.write && !access.carries && !conflict.uninitialised && !bytes.within(granule.initialised)) {
        Bytes missing = bytes;
        missing.remove(granule.initialised);
        conflict.uninitialised = true;
        conflict.byte = index * granule_bytes + first_of(missing);
    }
    bool& touched = access.write ? granule.written : granule.read;
    // What was written here before comes from the L2.
    if (!touched && (access.write || !granule.written)) ++(access.write ? written_ : read_);
    touched = true;
    bool merged = false;
    size_t kept = 0;
    for (size_t i = 0; i < granule.records.size(); ++i) {
        Record& record = granule.records[i];
        const Access& other = record.access;
        bool own = other.actor == access.actor;
        bool same = own && other.time == access.time && other.write == access.write;
        if (same) {
            record.bytes.add(bytes);
            merged = true;
        } else if (record.bytes.meets(bytes) && (access.write || other.write) && !(own && other.time == access.time)) {
            bool ordered = known[other.actor] >= other.time || (own && other.in_order);
            if (!ordered && !(access.atomic && other.atomic)) {
                Bytes both = record.bytes;
                for (int w = 0; w < 4; ++w) both.words[w] &= bytes.words[w];
                conflict.add(other, index * granule_bytes + first_of(both));
            }
            // Whatever meets the earlier access without order would meet this write as well.
            if (access.write && (ordered || !access.atomic)) record.bytes.remove(bytes);
        } else if (own && !access.write && !other.write) {
            // An order after this read is one after the earlier read of the same pipe.
            record.bytes.remove(bytes);
        }
        if (record.bytes.any()) {
            if (kept != i) granule.records[kept] = record;
            ++kept;
        }
    }
    granule.records.resize(kept);
    if (!merged) granule.records.push_back({bytes, access});
    if (access.write) granule.initialised.add(bytes);
}

const Access* Shadow::later_write(uint64_t begin, uint64_t end, Actor reader, const Clock& known) const {
    const Granule* granule = granules_[begin / granule_bytes].get();
    auto from = static_cast<uint32_t>(begin % granule_bytes);
    Bytes bytes = Bytes::range(from, from + static_cast<uint32_t>(end - begin));
    for (size_t i = 0; granule != nullptr && i < granule->records.size(); ++i) {
        const Record& record = granule->records[i];
        const Access& access = record.access;
        if (access.write && access.actor != reader && known[access.actor] < access.time && record.bytes.meets(bytes)) {
            return &access;
        }
    }
    return nullptr;
}

bool Shadow::initialised(uint64_t begin, uint64_t end) const {
    for (uint64_t index = begin / granule_bytes; index * granule_bytes < end; ++index) {
        uint64_t base = index * granule_bytes;
        uint32_t from = begin > base ? static_cast<uint32_t>(begin - base) : 0;
        uint32_t to = end < base + granule_bytes ? static_cast<uint32_t>(end - base) : granule_bytes;
        const Granule* granule = granules_[index].get();
        if (granule == nullptr ? !initialised_ : !Bytes::range(from, to).within(granule->initialised)) return false;
    }
    return true;
}

void Shadow::describe(uint64_t begin, uint64_t end, uint8_t* to) const {
    for (uint64_t byte = begin; byte < end; ++byte) {
        const Granule* granule = granules_[byte / granule_bytes].get();
        uint64_t bit = byte % granule_bytes;
        bool known = granule == nullptr ? initialised_ : (granule->initialised.words[bit / 64] >> bit % 64 & 1) != 0;
        to[byte - begin] = known ? 0xFF : 0;
    }
}

bool Shadow::holds(uint64_t begin, uint64_t end) const {
    for (uint64_t index = begin / granule_bytes; index * granule_bytes < end; ++index) {
        if (!granules_[index]) continue;
        uint64_t base = index * granule_bytes;
        uint32_t from = begin > base ? static_cast<uint32_t>(begin - base) : 0;
        uint32_t to = end < base + granule_bytes ? static_cast<uint32_t>(end - base) : granule_bytes;
        if (granules_[index]->initialised.meets(Bytes::range(from, to))) return true;
    }
    return false;
}

void Shadow::forget(uint64_t begin, uint64_t end) {
    for (uint64_t index = begin / granule_bytes; index * granule_bytes < end; ++index) {
        uint64_t base = index * granule_bytes;
        uint32_t from = begin > base ? static_cast<uint32_t>(begin - base) : 0;
        uint32_t to = end < base + granule_bytes ? static_cast<uint32_t>(end - base) : granule_bytes;
        granule(index).initialised.remove(Bytes::range(from, to));
    }
}

}  // namespace twin
