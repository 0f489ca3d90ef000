// Copies between GM and UB.

#include "twin/copy.h"

#include "call.h"
#include "transfer.h"
#include "vector_lanes.h"

namespace twin {

namespace {

constexpr uint64_t block = 32;
constexpr int64_t most_blocks = 4095;

bool inwards(const Operand& src) { return src.memory == Memory::GM; }

// Blocks of `length` bytes; strides from start to start on both sides.
struct Blocks {
    uint64_t count, length;
    int64_t src_stride, dst_stride;
};

Pipe pipe_of(const Operand& dst, const Operand& src) {
    if (inwards(src)) return Pipe::MTE2;
    if (dst.memory == Memory::GM) return Pipe::MTE3;
    if (dst.memory == Memory::UB) return Pipe::V;
    return dst.memory == Memory::BT ? Pipe::MTE1 : Pipe::FIX;
}

// Units of blocks and gaps; those of the bias table and the fixpipe buffer from memory.
uint64_t unit_of(const Operand& dst) {
    return dst.memory == Memory::BT ? 64 : dst.memory == Memory::FB ? 128 : block;
}

Counter counter_of(const Operand& dst, const Operand& src) {
    if (!inwards(src)) return Counter::UbToGm;
    return dst.memory == Memory::UB ? Counter::GmToUb : Counter::GmToL1;
}

void check_places(Call& call, const Operand& dst, const Operand& src) {
    bool in_gm = dst.memory == Memory::GM || src.memory == Memory::GM;
    const Operand& local = inwards(src) ? dst : src;
    bool possible = in_gm ? local.memory == Memory::UB || (local.memory == Memory::L1 && inwards(src))
                          : (dst.memory == Memory::UB && src.memory == Memory::UB) ||
                                ((dst.memory == Memory::BT || dst.memory == Memory::FB) && src.memory == Memory::L1);
    if (!possible) {
        call.fault("parameter", text_of("there is no copy from %s to %s", name_of(src.memory), name_of(dst.memory)));
    }
    if (call.core.atomic != atomic_none && dst.memory == Memory::GM && call.core.atomic_type != dst.type) {
        call.fault("parameter", text_of("atomics are on for %s, and this copies %s", name_of(call.core.atomic_type),
                                        name_of(dst.type)));
    }
}

// Blocks of a copy within UB, which may not come from where other blocks go to.
void check_apart(Call& call, const Operand& dst, const Operand& src, const Blocks& blocks) {
    auto ranges = [&](const Operand& operand, int64_t stride) {
        std::vector<std::vector<Range>> all(1);
        for (uint64_t i = 0; i < blocks.count; ++i) {
            int64_t begin = static_cast<int64_t>(operand.address + i * static_cast<uint64_t>(stride));
            append_range(all[0], {begin, begin + static_cast<int64_t>(blocks.length)});
        }
        return all;
    };
    if (overlap_of(ranges(dst, blocks.dst_stride), ranges(src, blocks.src_stride)) != Overlap::None) {
        call.fault("overlap", "the destination shares bytes with the source");
    }
}

void issue_local(Call& call, const Operand& dst, const Operand& src, const Blocks& blocks) {
    call.aligned(dst, unit_of(dst), "the destination").aligned(src, block, "the source");
    call.reads(src, strided(blocks.length, blocks.count, blocks.src_stride));
    call.writes(dst, strided(blocks.length, blocks.count, blocks.dst_stride));
    double repeats = static_cast<double>(blocks.count * blocks.length) / 256;
    if (dst.memory == Memory::UB) {
        check_apart(call, dst, src, blocks);
        call.costs(costs::vector_start + repeats, costs::vector_latency);
        call.count(Counter::VectorCalls, 1);
    } else {
        call.costs(costs::load_start + repeats, costs::load_latency).in_order();
        call.count(Counter::L1ToBias, blocks.count * blocks.length);
    }
    call.issue([=](Core& core) {
        for (uint64_t i = 0; i < blocks.count; ++i) {
            std::memmove(data(core, dst) + static_cast<int64_t>(i) * blocks.dst_stride,
                         data(core, src) + static_cast<int64_t>(i) * blocks.src_stride, blocks.length);
        }
    });
}

void issue_copy(Call& call, const Operand& dst, const Operand& src, const Blocks& blocks) {
    check_places(call, dst, src);
    if (dst.memory != Memory::GM && !inwards(src)) {
        issue_local(call, dst, src, blocks);
        return;
    }
    call.aligned(inwards(src) ? dst : src, block, inwards(src) ? "the destination" : "the source");
    call.reads(src, strided(blocks.length, blocks.count, blocks.src_stride));
    Region written = strided(blocks.length, blocks.count, blocks.dst_stride);
    if (inwards(src)) call.writes(dst, written); else call.updates(dst, written);
    uint64_t bytes = blocks.count * blocks.length;
    call.costs(costs::gm_copy(machine->chip, dst, src, blocks.count, blocks.length),
               inwards(src) ? costs::gm_latency : costs::gm_write_latency);
    call.count(counter_of(dst, src), bytes);
    int atomic = inwards(src) ? 0 : call.core.atomic;
    Type type = dst.type;
    call.issue([=](Core& core) {
        uint8_t* to = data(core, dst);
        const uint8_t* from = data(core, src);
        for (uint64_t i = 0; i < blocks.count; ++i) {
            transfer(to + static_cast<int64_t>(i) * blocks.dst_stride, from + static_cast<int64_t>(i) * blocks.src_stride,
                     blocks.length, type, atomic);
        }
    });
}

}  // namespace

void copy_count(const Operand& dst, const Operand& src, uint64_t count, int line) {
    Call call("DataCopy", pipe_of(dst, src), line);
    uint64_t bytes = count * bits_of(src.type) / 8;
    if (bytes % unit_of(dst) != 0) {
        call.fault("count", text_of("%llu bytes are no multiple of %llu, and what is beyond would not be copied%s",
                                    static_cast<unsigned long long>(bytes),
                                    static_cast<unsigned long long>(unit_of(dst)),
                                    unit_of(dst) == block ? ": use DataCopyPad" : ""));
    }
    issue_copy(call, dst, src, {1, bytes, 0, 0});
}

void copy_blocks(const Operand& dst, const Operand& src, const AscendC::DataCopyParams& blocks, int line) {
    Call call("DataCopy", pipe_of(dst, src), line);
    call.within("blockCount", blocks.blockCount, 1, most_blocks);
    call.within("blockLen", blocks.blockLen, 0, 65535);
    call.within("srcGap", blocks.srcGap, 0, 65535).within("dstGap", blocks.dstGap, 0, 65535);
    if (!call.sound()) return;
    auto unit = static_cast<int64_t>(unit_of(dst)), length = blocks.blockLen * unit;
    issue_copy(call, dst, src,
               {static_cast<uint64_t>(blocks.blockCount), static_cast<uint64_t>(length),
                length + blocks.srcGap * static_cast<int64_t>(block), length + blocks.dstGap * unit});
}

void copy_local(const Operand& dst, const Operand& src, const AscendC::DataCopyParams& blocks, int line) {
    copy_blocks(dst, src, blocks, line);
}

namespace {

void check_pad(Call& call, const AscendC::DataCopyExtParams& blocks) {
    call.within("blockCount", blocks.blockCount, 1, most_blocks).within("blockLen", blocks.blockLen, 0, 2097151);
    call.within("srcStride", blocks.srcStride, 0, UINT32_MAX).within("dstStride", blocks.dstStride, 0, UINT32_MAX);
}

}  // namespace

void copy_pad_in(const Operand& dst, const Operand& src, const AscendC::DataCopyExtParams& blocks,
                 const Padding& padding, int line) {
    Call call("DataCopyPad", Pipe::MTE2, line);
    check_pad(call, blocks);
    int64_t size = bits_of(src.type) / 8, most = static_cast<int64_t>(block) / (size ? size : 1);
    call.within("leftPadding", padding.left, 0, most).within("rightPadding", padding.right, 0, most);
    if (size == 8 && padding.on && padding.value != 0) {
        call.fault("parameter", "the padding value of 64-bit elements can be 0 only");
    }
    if (!call.sound()) return;
    uint64_t count = blocks.blockCount, length = blocks.blockLen;
    uint64_t left = padding.left * size, right = padding.right * size;
    uint64_t slot = round_up(left + length + right, block);
    int64_t src_stride = static_cast<int64_t>(length) + blocks.srcStride;
    int64_t dst_stride = static_cast<int64_t>(slot) + blocks.dstStride * static_cast<int64_t>(block);
    call.aligned(dst, block, "the destination");
    call.reads(src, strided(length, count, src_stride));
    call.writes(dst, strided(slot, count, dst_stride));
    call.costs(costs::gm_copy(machine->chip, dst, src, count, length), costs::gm_latency);
    call.count(Counter::GmToUb, count * length);
    uint64_t value = padding.on ? padding.value : call.core.pad_value;
    // Without a value, and behind the right padding, the bytes of the slot are not defined.
    bool defined = padding.on || call.core.pad_value_set;
    call.issue([=](Core& core) {
        uint8_t* to = data(core, dst);
        const uint8_t* from = data(core, src);
        for (uint64_t i = 0; i < count; ++i, to += dst_stride, from += src_stride) {
            std::memset(to, 0xFF, slot);
            if (defined) {
                for (uint64_t b = 0; b < left; b += size) std::memcpy(to + b, &value, size);
                for (uint64_t b = left + length; b < left + length + right; b += size) std::memcpy(to + b, &value, size);
            }
            std::memcpy(to + left, from, length);
            uint64_t begin = dst.address + i * dst_stride;
            Shadow& shadow = core.shadow(dst.memory);
            uint64_t known_end = left + length + (defined ? right : 0);
            if (!defined && left > 0) shadow.forget(begin, begin + left);
            if (known_end < slot) shadow.forget(begin + known_end, begin + slot);
        }
    });
}

void copy_pad_out(const Operand& dst, const Operand& src, const AscendC::DataCopyExtParams& blocks, int line) {
    Call call("DataCopyPad", Pipe::MTE3, line);
    check_pad(call, blocks);
    if (!call.sound()) return;
    uint64_t length = blocks.blockLen;
    int64_t src_stride = static_cast<int64_t>(round_up(length, block)) + blocks.srcStride * static_cast<int64_t>(block);
    issue_copy(call, dst, src,
               {static_cast<uint64_t>(blocks.blockCount), length, src_stride,
                static_cast<int64_t>(length) + blocks.dstStride});
}

void set_pad_value(Type, uint64_t bits) {
    Core& core = running();
    core.pad_value = bits;
    core.pad_value_set = true;
}

void set_atomic(Atomic atomic, Type type, int line) {
    Core& core = running();
    core.atomic = atomic;
    core.atomic_type = type;
    core.atomic_site = {"SetAtomic", line};
}

}  // namespace twin
