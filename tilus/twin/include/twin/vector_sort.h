// Calls of the vector unit that reorder elements: compaction, transposition, sorting.
#pragma once

#include "twin/tensor.h"
#include "twin/vector_types.h"

namespace AscendC {

// Sorted lists of pairs, which MrgSort merges.
template <typename T>
struct MrgSortSrcList {
    LocalTensor<T> src1, src2, src3, src4;
    MrgSortSrcList() = default;
    MrgSortSrcList(const LocalTensor<T>& first, const LocalTensor<T>& second, const LocalTensor<T>& third,
                   const LocalTensor<T>& fourth)
        : src1(first), src2(second), src3(third), src4(fourth) {}
};

}  // namespace AscendC

namespace twin {

// How many elements it kept.
uint64_t gather_mask(const Operand& dst, const Operand& src, const Operand* mask, uint8_t pattern, bool counts,
                     uint32_t count, const AscendC::GatherMaskParams& params, int line);
void transpose(const Operand& dst, const Operand& src, int line);
void transpose_rows(const Operand (&dst)[16], const Operand (&src)[16], const AscendC::TransDataTo5HDParams& params,
                    int line);
void sort32(const Operand& dst, const Operand& scores, const Operand& indices, int64_t repeats, int line);
void merge_sorted(const Operand& dst, const Operand (&lists)[4], const AscendC::MrgSort4Info& info, int line);
void merged_counts(uint16_t (&counts)[4], int line);

}  // namespace twin

namespace AscendC {

// Keeps the elements of a pattern, one after another: 1 even and 2 odd positions, 3–6 one position in four, 7 all.
template <typename T>
void GatherMask(const LocalTensor<T>& dst, const LocalTensor<T>& src0, uint8_t src1Pattern, bool reduceMode,
                uint32_t mask, const GatherMaskParams& params, uint64_t& rsvdCnt, int line = __builtin_LINE()) {
    static_assert(twin::bits_of(twin::type_of<T>) == 16 || twin::bits_of(twin::type_of<T>) == 32,
                  "GatherMask takes elements of 16 and 32 bits");
    rsvdCnt = twin::gather_mask(dst, src0, nullptr, src1Pattern, reduceMode, mask, params, line);
}

// Keeps the elements whose bits of src1Pattern are ones.
template <typename T, typename U>
void GatherMask(const LocalTensor<T>& dst, const LocalTensor<T>& src0, const LocalTensor<U>& src1Pattern,
                bool reduceMode, uint32_t mask, const GatherMaskParams& params, uint64_t& rsvdCnt,
                int line = __builtin_LINE()) {
    static_assert(twin::bits_of(twin::type_of<T>) == 16 || twin::bits_of(twin::type_of<T>) == 32,
                  "GatherMask takes elements of 16 and 32 bits");
    static_assert((twin::type_of<U> == twin::Type::u16 || twin::type_of<U> == twin::Type::u32) &&
                      sizeof(T) == sizeof(U),
                  "GatherMask takes a pattern of unsigned integers as wide as the elements");
    twin::Operand pattern = src1Pattern;
    rsvdCnt = twin::gather_mask(dst, src0, &pattern, 0, reduceMode, mask, params, line);
}

// One square of 16×16.
template <typename T>
void Transpose(const LocalTensor<T>& dst, const LocalTensor<T>& src, int line = __builtin_LINE()) {
    static_assert(twin::one_of(twin::type_of<T>, twin::Type::s16, twin::Type::u16, twin::Type::f16),
                  "Transpose takes elements of 16 bits");
    twin::transpose(dst, src, line);
}

// Rows of 32 B, turned: 16×16 of 16 bits, a half of 16×32 of 8 bits, 16×8 of 32 bits.
template <typename T>
void TransDataTo5HD(const LocalTensor<T> (&dstList)[16], const LocalTensor<T> (&srcList)[16],
                    const TransDataTo5HDParams& params, int line = __builtin_LINE()) {
    static_assert(twin::bits_of(twin::type_of<T>) >= 8 && twin::bits_of(twin::type_of<T>) <= 32,
                  "TransDataTo5HD takes elements of 8, 16 and 32 bits");
    twin::Operand to[16], from[16];
    for (int i = 0; i < 16; ++i) {
        to[i] = dstList[i];
        from[i] = srcList[i];
    }
    twin::transpose_rows(to, from, params, line);
}

// By addresses, as GetPhyAddr gives them.
template <typename T>
void TransDataTo5HD(const uint64_t (&dstList)[16], const uint64_t (&srcList)[16], const TransDataTo5HDParams& params,
                    int line = __builtin_LINE()) {
    LocalTensor<T> to[16], from[16];
    for (int i = 0; i < 16; ++i) {
        to[i] = LocalTensor<T>::at(TPosition::VECCALC, dstList[i], twin::unbounded - dstList[i]);
        from[i] = LocalTensor<T>::at(TPosition::VECCALC, srcList[i], twin::unbounded - srcList[i]);
    }
    TransDataTo5HD(to, from, params, line);
}

// 32 pairs a repeat of score and index, from the largest score to the smallest, 8 B each.
template <typename T>
void Sort32(const LocalTensor<T>& dst, const LocalTensor<T>& src0, const LocalTensor<uint32_t>& src1,
            int64_t repeatTime, int line = __builtin_LINE()) {
    static_assert(twin::one_of(twin::type_of<T>, twin::Type::f16, twin::Type::f32), "Sort32 takes half and float");
    twin::sort32(dst, src0, src1, repeatTime, line);
}

template <typename T>
void MrgSort(const LocalTensor<T>& dst, const MrgSortSrcList<T>& src, const MrgSort4Info& params,
             int line = __builtin_LINE()) {
    static_assert(twin::one_of(twin::type_of<T>, twin::Type::f16, twin::Type::f32), "MrgSort takes half and float");
    const twin::Operand lists[4] = {src.src1, src.src2, src.src3, src.src4};
    twin::merge_sorted(dst, lists, params, line);
}

// How many pairs of each list the last MrgSort took.
inline void GetMrgSortResult(uint16_t& mrgSortList1, uint16_t& mrgSortList2, uint16_t& mrgSortList3,
                             uint16_t& mrgSortList4, int line = __builtin_LINE()) {
    uint16_t counts[4];
    twin::merged_counts(counts, line);
    mrgSortList1 = counts[0];
    mrgSortList2 = counts[1];
    mrgSortList3 = counts[2];
    mrgSortList4 = counts[3];
}

// The form that counts by itself; its order is from memory.
template <typename T, bool isExhaustedSuspension = false>
void MrgSort(const LocalTensor<T>& dst, const MrgSortSrcList<T>& sortList, const uint16_t elementCountList[4],
             uint32_t sortedNum[4], uint16_t validBit, int64_t repeatTime, int line = __builtin_LINE()) {
    MrgSort(dst, sortList, MrgSort4Info(elementCountList, isExhaustedSuspension, validBit, repeatTime), line);
    uint16_t counts[4];
    twin::merged_counts(counts, line);
    for (int i = 0; i < 4; ++i) sortedNum[i] = counts[i];
}

}  // namespace AscendC
