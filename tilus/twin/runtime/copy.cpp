// Copies between GM and UB.

#include "twin/copy.h"

#include "call.h"
#include "transfer.h"

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

// The pipe of a copy between GM and a memory on chip.
Pipe pipe_of(const Operand& dst, const Operand& src) { return inwards(src) || dst.memory != Memory::GM ? Pipe::MTE2 : Pipe::MTE3; }

void issue_copy(Call& call, const Operand& dst, const Operand& src, const Blocks& blocks) {
    call.aligned(inwards(src) ? dst : src, block, inwards(src) ? "the destination" : "the source");
    call.reads(src, strided(blocks.length, blocks.count, blocks.src_stride));
    Region written = strided(blocks.length, blocks.count, blocks.dst_stride);
    if (inwards(src)) call.writes(dst, written); else call.updates(dst, written);
    uint64_t bytes = blocks.count * blocks.length;
    call.costs(costs::gm_copy(machine->chip, dst, src, blocks.count, blocks.length),
               inwards(src) ? costs::gm_latency : costs::gm_write_latency);
    call.count(!inwards(src) ? Counter::UbToGm : dst.memory == Memory::UB ? Counter::GmToUb : Counter::GmToL1, bytes);
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
    if (bytes % block != 0) {
        call.fault("count", text_of("%llu bytes are no multiple of 32, and what is beyond would not be copied: use "
                                    "DataCopyPad", static_cast<unsigned long long>(bytes)));
    }
    issue_copy(call, dst, src, {1, bytes, 0, 0});
}

void copy_blocks(const Operand& dst, const Operand& src, const AscendC::DataCopyParams& blocks, int line) {
    Call call("DataCopy", pipe_of(dst, src), line);
    call.within("blockCount", blocks.blockCount, 1, most_blocks);
    call.within("blockLen", blocks.blockLen, 0, 65535);
    call.within("srcGap", blocks.srcGap, 0, 65535).within("dstGap", blocks.dstGap, 0, 65535);
    if (!call.sound()) return;
    uint64_t length = static_cast<uint64_t>(blocks.blockLen) * block;
    auto stride = [=](int64_t gap) { return static_cast<int64_t>(length) + gap * static_cast<int64_t>(block); };
    issue_copy(call, dst, src,
               {static_cast<uint64_t>(blocks.blockCount), length, stride(blocks.srcGap), stride(blocks.dstGap)});
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

}  // namespace twin
