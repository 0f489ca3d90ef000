// Transpositions of squares and of lists of rows.
#include <cstring>

#include "twin/vector_sort.h"
#include "vector_call.h"
#include "vector_values.h"

namespace twin {

namespace {

constexpr int side = 16;

// An element of `size` bytes.
struct Place {
    int row;
    int64_t offset;
};

// Where the element in column `column` of source row `row` goes.
Place destination_of(uint32_t size, int row, int column, bool high_half) {
    // Rows of 32 B take 8 elements of 4 B: a column of 16 fills two.
    if (size == 4) return {2 * column + row / 8, row % 8 * 4};
    if (size == 1) return {column, row + (high_half ? side : 0)};
    return {column, row * 2};
}

}  // namespace

void transpose(const Operand& dst, const Operand& src, int line) {
    VectorCall call("Transpose", line);
    constexpr uint64_t bytes = side * side * 2;
    call.in_ub(dst, "dst");
    call.in_ub(src, "src");
    call.reads(src, contiguous(bytes)).writes(dst, contiguous(bytes));
    call.disjoint(dst, bytes, src, bytes, "dst and src");
    if (!call.sound()) return;
    call.takes(Iteration::counted(bytes, repeat_bytes), 8);
    call.issue([=](Core& core) {
        for (int i = 0; i < side; ++i)
            for (int j = 0; j < side; ++j)
                std::memcpy(data(core, dst) + (j * side + i) * 2, data(core, src) + (i * side + j) * 2, 2);
    });
}

void transpose_rows(const Operand (&dst)[16], const Operand (&src)[16], const AscendC::TransDataTo5HDParams& params,
                    int line) {
    VectorCall call("TransDataTo5HD", line);
    const uint32_t size = bits_of(src[0].type) / 8;
    const int64_t times = call.repeats(params.repeatTimes);
    call.within("dstRepStride", params.dstRepStride, 0, times == 1 ? 0 : UINT16_MAX);
    call.within("srcRepStride", params.srcRepStride, 0, times == 1 ? 0 : UINT16_MAX);
    if ((params.dstHighHalf || params.srcHighHalf) && size != 1)
        call.fault("parameter", "halves of rows are for elements of 8 bits");
    const int64_t from_step = params.srcRepStride * block_bytes, to_step = params.dstRepStride * block_bytes;
    const uint64_t length = size == 1 ? side : block_bytes;
    const int64_t from = params.srcHighHalf ? side : 0, to = params.dstHighHalf ? side : 0;
    const int columns = size == 4 ? 8 : side;
    for (int i = 0; i < side; ++i) {
        call.in_ub(src[i], "a row of srcList");
        call.in_ub(dst[i], "a row of dstList");
        call.reads(src[i], strided(length, static_cast<uint64_t>(times), from_step, from));
        call.writes(dst[i], strided(length, static_cast<uint64_t>(times), to_step, to));
        for (int j = 0; j < side && call.sound(); ++j)
            call.disjoint(dst[i], block_bytes, src[j], block_bytes, "rows of dstList and srcList");
    }
    if (!call.sound()) return;
    call.takes(Iteration::counted(times * side * block_bytes, repeat_bytes), 8);
    std::vector<Operand> rows(dst, dst + side);
    rows.insert(rows.end(), src, src + side);
    call.issue([=, high = params.dstHighHalf](Core& core) {
        for (int64_t r = 0; r < times; ++r) {
            uint8_t square[side][block_bytes];
            for (int i = 0; i < side; ++i)
                std::memcpy(square[i], data(core, rows[side + i]) + r * from_step + from, length);
            for (int i = 0; i < side; ++i) {
                for (int j = 0; j < columns; ++j) {
                    const Place place = destination_of(size, i, j, high);
                    std::memcpy(data(core, rows[place.row]) + r * to_step + place.offset, square[i] + j * size, size);
                }
            }
        }
    });
}

}  // namespace twin
