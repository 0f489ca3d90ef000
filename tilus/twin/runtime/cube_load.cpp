// Loads of matrices into L1, L0A and L0B.

#include "cube.h"

namespace twin {

using namespace AscendC;

void copy_nd2nz(const Operand& dst, const Operand& src, const Nd2NzParams& p, int line) {
    Call call("DataCopy", Pipe::MTE2, line);
    call.within("ndNum", p.ndNum, 0, 4095).within("nValue", p.nValue, 0, 16384).within("dValue", p.dValue, 0, 65535);
    call.within("srcDValue", p.srcDValue, 1, 65535).within("dstNzC0Stride", p.dstNzC0Stride, 1, 16384);
    call.within("dstNzNStride", p.dstNzNStride, 1, 16384).within("srcNdMatrixStride", p.srcNdMatrixStride, 0, 65535);
    call.within("dstNzMatrixStride", p.dstNzMatrixStride, p.ndNum > 1 ? 1 : 0, 65535);
    if (dst.memory != Memory::L1) call.fault("parameter", "the destination of an Nz matrix lies in L1");
    if (bits_of(dst.type) == 64 || dst.type == Type::s4) call.fault("parameter", "elements have 8, 16 or 32 bits");
    if (!call.sound()) return;
    int64_t size = bits_of(src.type) / 8, group = static_cast<int64_t>(group_of(src.type));
    int64_t groups = (p.dValue + group - 1) / group;
    Region from, to;
    from.length = p.dValue * size;
    from.count[0] = p.nValue;
    from.stride[0] = p.srcDValue * size;
    from.count[1] = p.ndNum;
    from.stride[1] = p.srcNdMatrixStride * size;
    to.length = group_bytes;
    to.count[0] = p.nValue;
    to.stride[0] = p.dstNzNStride * static_cast<int64_t>(group_bytes);
    to.count[1] = groups;
    to.stride[1] = p.dstNzC0Stride * static_cast<int64_t>(group_bytes);
    to.count[2] = p.ndNum;
    to.stride[2] = p.dstNzMatrixStride * size;
    call.aligned(dst, group_bytes, "the destination").reads(src, from).writes(dst, to);
    call.costs(costs::gm_copy(machine->chip, dst, src, from.count[0] * from.count[1], from.length), costs::gm_latency);
    call.count(Counter::GmToL1, from.bytes());
    call.issue([=](Core& core) {
        uint8_t* target = data(core, dst);
        const uint8_t* source = data(core, src);
        for (int64_t matrix = 0; matrix < p.ndNum; ++matrix) {
            for (int64_t n = 0; n < p.nValue; ++n) {
                const uint8_t* row = source + matrix * from.stride[1] + n * from.stride[0];
                uint8_t* place = target + matrix * to.stride[2] + n * to.stride[0];
                for (int64_t g = 0; g < groups; ++g, place += to.stride[1]) {
                    int64_t left = (p.dValue - g * group) * size;
                    if (left >= static_cast<int64_t>(group_bytes)) {
                        std::memcpy(place, row + g * static_cast<int64_t>(group_bytes), group_bytes);
                    } else {
                        std::memcpy(place, row + g * static_cast<int64_t>(group_bytes), left);
                        std::memset(place + left, 0, group_bytes - left);
                    }
                }
            }
        }
    });
}

namespace {

// Loads into L0 and where they come from: the pipe, the counter and the cost.
struct Load {
    Pipe pipe;
    Counter counter;
    double rate;
};

Load load_of(const Operand& dst, const Operand& src) {
    const ChipDescription& chip = machine->chip;
    if (src.memory == Memory::GM) return {Pipe::MTE2, Counter::GmToL0, chip.gm_to_l1};
    if (dst.memory == Memory::L0A) return {Pipe::MTE1, Counter::L1ToL0A, chip.l1_to_l0a};
    return {Pipe::MTE1, Counter::L1ToL0B, chip.l1_to_l0b};
}

void check_load(Call& call, const Operand& dst, const Operand& src) {
    if (dst.memory != Memory::L0A && dst.memory != Memory::L0B) {
        call.fault("parameter", text_of("the destination lies in L0A or L0B, not in %s", name_of(dst.memory)));
    }
    if (src.memory != Memory::L1 && src.memory != Memory::GM) {
        call.fault("parameter", text_of("the source lies in L1, not in %s", name_of(src.memory)));
    }
    call.aligned(dst, fractal_bytes, "the destination").aligned(src, group_bytes, "the source");
}

void charge(Call& call, const Load& load, uint64_t bytes) {
    if (load.pipe == Pipe::MTE1) call.in_order();
    call.costs(costs::load_start + static_cast<double>(bytes) / load.rate,
               load.pipe == Pipe::MTE2 ? costs::gm_latency : costs::load_latency);
    call.count(load.counter, bytes);
}

// Rows and columns of a square tile change places.
void transpose(uint8_t* to, const uint8_t* from, uint64_t side, uint32_t bits) {
    for (uint64_t r = 0; r < side; ++r) {
        for (uint64_t c = 0; c < side; ++c) move_element(to, c * side + r, from, r * side + c, bits);
    }
}

}  // namespace

void load_2d(const Operand& dst, const Operand& src, const LoadData2DParams& p, int line) {
    Load load = load_of(dst, src);
    Call call("LoadData", load.pipe, line);
    check_load(call, dst, src);
    call.within("repeatTimes", p.repeatTimes, 1, 255).within("startIndex", p.startIndex, 0, 65535);
    call.within("srcStride", p.srcStride, 0, 65535).within("dstGap", p.dstGap, 0, 65535).within("sid", p.sid, 0, 0);
    call.within("addrMode", p.addrMode, 0, 0);
    if (p.ifTranspose && bits_of(dst.type) != 16) {
        call.fault("parameter", "ifTranspose is for 16-bit elements; LoadDataWithTranspose takes others");
    }
    if (!call.sound()) return;
    auto unit = static_cast<int64_t>(fractal_bytes);
    uint64_t repeat = p.repeatTimes;
    int64_t src_stride = p.srcStride * unit, dst_stride = (1 + p.dstGap) * unit, start = p.startIndex * unit;
    Region read = strided(fractal_bytes, repeat, src_stride, start), written = strided(fractal_bytes, repeat, dst_stride);
    call.carries(src, read).writes(dst, written);
    charge(call, load, repeat * fractal_bytes);
    bool turned = p.ifTranspose;
    auto move = [=](uint8_t* to, const uint8_t* from) {
        from += start;
        for (uint64_t i = 0; i < repeat; ++i, to += dst_stride, from += src_stride) {
            if (turned) {
                transpose(to, from, fractal_rows, 16);
            } else {
                std::memcpy(to, from, fractal_bytes);
            }
        }
    };
    call.issue([=](Core& core) { carry(core, dst, written, src, read, move); });
}

// A square holds as many fractals as its side has 16 rows, or (32-bit elements) two beside each other.
void load_transposed(const Operand& dst, const Operand& src, const LoadData2dTransposeParams& p, int line) {
    Load load = load_of(dst, src);
    Call call("LoadDataWithTranspose", load.pipe, line);
    check_load(call, dst, src);
    uint32_t bits = bits_of(src.type);
    uint64_t side = bits == 32 ? fractal_rows : group_of(src.type), fractals = bits == 32 ? 2 : side / fractal_rows;
    call.within("repeatTimes", p.repeatTimes, 1, 255).within("startIndex", p.startIndex, 0, 65535);
    call.within("srcStride", p.srcStride, 0, 65535).within("dstGap", p.dstGap, 0, 65535);
    call.within("dstFracGap", p.dstFracGap, 0, 65535).within("addrMode", p.addrMode, 0, 0);
    if (src.type == Type::s4 && dst.memory != Memory::L0B) call.fault("parameter", "4-bit elements go to L0B only");
    if (src.memory != Memory::L1) call.fault("parameter", "the source lies in L1");
    if (!call.sound()) return;
    uint64_t square = fractals * fractal_bytes, repeat = p.repeatTimes;
    auto unit = static_cast<int64_t>(fractal_bytes);
    int64_t start = p.startIndex * static_cast<int64_t>(square), src_stride = p.srcStride * static_cast<int64_t>(square);
    int64_t dst_stride = (1 + p.dstGap) * unit, fractal_stride = (1 + p.dstFracGap) * unit;
    Region read = strided(square, repeat, src_stride, start);
    Region written = strided(fractal_bytes, fractals, fractal_stride);
    written.count[1] = repeat;
    written.stride[1] = dst_stride;
    call.carries(src, read).writes(dst, written);
    charge(call, load, repeat * square);
    uint64_t group = group_of(src.type);
    auto move = [=](uint8_t* target, const uint8_t* source) {
        for (uint64_t i = 0; i < repeat; ++i) {
            uint8_t* to = target + static_cast<int64_t>(i) * dst_stride;
            const uint8_t* from = source + start + static_cast<int64_t>(i) * src_stride;
            for (uint64_t r = 0; r < side; ++r) {
                for (uint64_t c = 0; c < side; ++c) {
                    // (r, c) of the square: below each other, or, with 32 bits, beside each other.
                    uint64_t place = bits == 32 ? (c / group) * fractal_rows * group + r * group + c % group : r * side + c;
                    uint64_t fractal = bits == 32 ? r / group : c / fractal_rows;
                    uint64_t within = bits == 32 ? c * group + r % group : (c % fractal_rows) * group + r;
                    move_element(to + static_cast<int64_t>(fractal) * fractal_stride, within, from, place, bits);
                }
            }
        }
    };
    call.issue([=](Core& core) { carry(core, dst, written, src, read, move); });
}

void load_3d(const Operand& dst, const Operand& src, const Image& image, int line) {
    Load load = load_of(dst, src);
    Call call("LoadData", load.pipe, line);
    check_load(call, dst, src);
    uint32_t bits = bits_of(src.type);
    auto group = static_cast<int64_t>(group_of(src.type));
    bool turned = image.transpose || dst.memory == Memory::L0B;
    if (!image.plain) call.fault("parameter", "windows other than one point without padding are not modelled");
    if (turned && bits < 16) call.fault("parameter", "elements of 8 bits and less are not transposed by this call");
    call.within("l1H", image.height, 1, 32767).within("l1W", image.width, 1, 32767);
    call.within("channelSize", image.channels, 1, 65535).within("kExtension", image.k, 1, 65535);
    call.within("mExtension", image.m, 1, 65535);
    if (image.channels % group || image.k % group || image.k_start % group) {
        call.fault("parameter", text_of("channelSize, kExtension and kStartPt are multiples of %lld",
                                        static_cast<long long>(group)));
    }
    if (image.m % 16 || image.m_start % 16) call.fault("parameter", "mExtension and mStartPt are multiples of 16");
    int64_t points = image.height * image.width;
    call.within("mStartPt + mExtension", image.m_start + image.m, 1, points);
    call.within("kStartPt + kExtension", image.k_start + image.k, 1, image.channels);
    if (turned && image.k % 16) call.fault("parameter", "kExtension is a multiple of 16 where it is transposed");
    if (!call.sound()) return;
    auto unit = static_cast<int64_t>(group_bytes);
    int64_t first = (image.k_start / group * points + image.m_start) * unit;
    int64_t bytes = image.m * image.k * bits / 8;
    Region read = strided(image.m * unit, image.k / group, points * unit, first), written = contiguous(bytes);
    call.carries(src, read).writes(dst, written);
    charge(call, load, bytes);
    bool to_b = dst.memory == Memory::L0B;
    auto move = [=](uint8_t* to, const uint8_t* from) {
        from += first;
        for (int64_t m = 0; m < image.m; ++m) {
            for (int64_t k = 0; k < image.k; ++k) {
                int64_t place = (k / group * points + m) * group + k % group;
                // L0A has rows of the left operand in fractals row by row; L0B columns of the right one.
                int64_t row = turned ? k : m, column = turned ? m : k;
                int64_t groups = (turned ? image.m : image.k) / group, blocks = (turned ? image.k : image.m) / 16;
                int64_t fractal = to_b ? column / group * blocks + row / 16 : row / 16 * groups + column / group;
                move_element(to, fractal * 16 * group + row % 16 * group + column % group, from, place, bits);
            }
        }
    };
    call.issue([=](Core& core) { carry(core, dst, written, src, read, move); });
}

void fill(const Operand& dst, Field<16> repeat, Field<16> blocks, Field<16> gap, uint64_t value, int line) {
    bool in_l1 = dst.memory == Memory::L1;
    Call call("Fill", in_l1 ? Pipe::MTE2 : Pipe::MTE1, line);
    if (!in_l1 && dst.memory != Memory::L0A && dst.memory != Memory::L0B) {
        call.fault("parameter", text_of("Fill writes L1, L0A and L0B, not %s", name_of(dst.memory)));
    }
    call.within("repeatTimes", repeat, 0, 32767).within("blockNum", blocks, 0, 32767).within("dstGap", gap, 0, 32767);
    if (!call.sound()) return;
    uint64_t unit = in_l1 ? group_bytes : fractal_bytes;
    uint64_t length = static_cast<uint64_t>(blocks) * unit, count = static_cast<uint64_t>(repeat);
    int64_t stride = (blocks + gap) * static_cast<int64_t>(unit);
    call.aligned(dst, unit, "the destination").writes(dst, strided(length, count, stride));
    if (!in_l1) call.in_order();
    call.costs(costs::load_start + static_cast<double>(length * count) / machine->chip.l1_to_l0a, costs::load_latency);
    uint64_t size = bits_of(dst.type) / 8;
    call.issue([=](Core& core) {
        uint8_t* to = data(core, dst);
        for (uint64_t i = 0; i < count; ++i, to += stride) {
            for (uint64_t b = 0; b < length; b += size) std::memcpy(to + b, &value, size);
        }
    });
}

}  // namespace twin
