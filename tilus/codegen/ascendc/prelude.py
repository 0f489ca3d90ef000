"""The functions that emitted kernels call and the library does not have; each is printed where it is used."""

from __future__ import annotations

HEAD = '#include "kernel_operator.h"\n\nusing namespace AscendC;\n'

FUNCTIONS = {
    "Least": """\
template <typename T>
__aicore__ inline T Least(T x, T y) { return y < x ? y : x; }
""",
    "Greatest": """\
template <typename T>
__aicore__ inline T Greatest(T x, T y) { return x < y ? y : x; }
""",
    "FloorDiv": """\
// Toward minus infinity; 0 for a divisor of 0.
__aicore__ inline int64_t FloorDiv(int64_t x, int64_t y) {
    if (y == 0) { return 0; }
    return x / y - (x % y != 0 && (x < 0) != (y < 0) ? 1 : 0);
}
""",
    "FloorMod": """\
// What is left of a floor division: of the divisor's sign; x for a divisor of 0.
__aicore__ inline int64_t FloorMod(int64_t x, int64_t y) {
    if (y == 0) { return x; }
    int64_t rest = x % y;
    return rest != 0 && (rest < 0) != (y < 0) ? rest + y : rest;
}
""",
    "FillLanes": """\
// A number in those elements of a repeat whose bits are set.
template <typename T>
__aicore__ inline void FillLanes(const LocalTensor<T>& to, T number, uint64_t lanes) {
    uint64_t mask[2] = {lanes, 0};
    Duplicate(to, number, mask, 1, 1, 8);
}
""",
    "FillMatrix": """\
// Zeros in so many blocks (of 32 bytes in L1, of 512 in L0).
template <typename T>
__aicore__ inline void FillMatrix(const LocalTensor<T>& to, uint16_t blocks) {
    InitConstValueParams<T> parameters;
    parameters.repeatTimes = 1;
    parameters.blockNum = blocks;
    parameters.dstGap = 0;
    parameters.initValue = static_cast<T>(0);
    Fill(to, parameters);
}
""",
    "CopyMatrix": """\
// Rows of a matrix into fractals of `height` rows, columns of fractals first.
template <typename T>
__aicore__ inline void CopyMatrix(const LocalTensor<T>& to, const GlobalTensor<T>& from, int64_t rows, int64_t columns,
                                  int64_t pitch, uint16_t height) {
    if (rows <= 0 || columns <= 0) { return; }
    Nd2NzParams parameters;
    parameters.ndNum = 1;
    parameters.nValue = static_cast<uint16_t>(rows);
    parameters.dValue = static_cast<uint16_t>(columns);
    parameters.srcNdMatrixStride = 0;
    parameters.srcDValue = static_cast<uint16_t>(pitch);
    parameters.dstNzC0Stride = height;
    parameters.dstNzNStride = 1;
    parameters.dstNzMatrixStride = 1;
    if (pitch <= 65535) {
        DataCopy(to, from, parameters);
        return;
    }
    parameters.nValue = 1;
    parameters.srcDValue = static_cast<uint16_t>(columns);
    for (int64_t row = 0; row < rows; ++row) {
        DataCopy(to[row * (32 / sizeof(T))], from[row * pitch], parameters);
    }
}
""",
    "LoadFractals": """\
// Fractals from L1 to L0, one after the other: the `start`-th, and each `stride` further.
template <typename T>
__aicore__ inline void LoadFractals(const LocalTensor<T>& to, const LocalTensor<T>& from, int64_t start, uint8_t count,
                                    uint16_t stride, bool transposed) {
    LoadData2DParams parameters;
    parameters.startIndex = static_cast<uint16_t>(start);
    parameters.repeatTimes = count;
    parameters.srcStride = stride;
    parameters.sid = 0;
    parameters.dstGap = 0;
    parameters.ifTranspose = transposed;
    parameters.addrMode = 0;
    LoadData(to, from, parameters);
}
""",
    "EvenWords": """\
// The words at even places of `count`: the lower halves of numbers of 32 bits.
__aicore__ inline void EvenWords(const LocalTensor<uint16_t>& to, const LocalTensor<uint16_t>& from, uint32_t count) {
    uint64_t kept = 0;
    GatherMask(to, from, static_cast<uint8_t>(1), true, count, GatherMaskParams(1, 1, 8, 0), kept);
}
""",
    "TurnSquares": """\
// Squares of 32 by 32 bytes from L1 to L0, transposed: the `start`-th, and each `stride` further.
template <typename T>
__aicore__ inline void TurnSquares(const LocalTensor<T>& to, const LocalTensor<T>& from, int64_t start, uint8_t count,
                                   uint16_t stride, uint16_t gap, uint16_t innerGap) {
    LoadData2dTransposeParams parameters;
    parameters.startIndex = static_cast<uint16_t>(start);
    parameters.repeatTimes = count;
    parameters.srcStride = stride;
    parameters.dstGap = gap;
    parameters.dstFracGap = innerGap;
    LoadDataWithTranspose(to, from, parameters);
}
""",
    "TurnMatrix": """\
// `count` rows, from `start` on, of a matrix in L1 (`height` by `width`) to L0, transposed, up to `columns`.
template <typename T>
__aicore__ inline void TurnMatrix(const LocalTensor<T>& to, const LocalTensor<T>& from, uint16_t height,
                                  uint16_t width, int64_t start, uint16_t count, uint16_t columns) {
    LoadData3DParamsV2<T> parameters;
    parameters.l1H = 1;
    parameters.l1W = height;
    parameters.channelSize = width;
    parameters.kExtension = columns;
    parameters.mExtension = count;
    parameters.kStartPt = 0;
    parameters.mStartPt = static_cast<uint16_t>(start);
    parameters.enTranspose = true;
    LoadData(to, from, parameters);
}
""",
    "Multiply": """\
// to = a * b, or to += a * b.
template <typename C, typename A>
__aicore__ inline void Multiply(const LocalTensor<C>& to, const LocalTensor<A>& a, const LocalTensor<A>& b, uint16_t m,
                                uint16_t n, uint16_t k, bool first) {
    MmadParams parameters;
    parameters.m = m;
    parameters.n = n;
    parameters.k = k;
    parameters.cmatrixInitVal = first;
    Mmad(to, a, b, parameters);
}
""",
    "StoreSums": """\
// Sums, of tiles of `height` rows, to rows of a matrix in global memory, rounded to its type.
template <typename T, typename C>
__aicore__ inline void StoreSums(const GlobalTensor<T>& to, const LocalTensor<C>& from, int64_t rows, int64_t columns,
                                 int64_t pitch, uint16_t height, QuantMode_t rounding) {
    if (rows <= 0 || columns <= 0) { return; }
    FixpipeParamsV220 parameters;
    parameters.nSize = static_cast<uint16_t>(columns);
    parameters.mSize = static_cast<uint16_t>(rows);
    parameters.srcStride = height;
    parameters.dstStride = static_cast<uint32_t>(pitch);
    parameters.ndNum = 1;
    parameters.quantPre = rounding;
    Fixpipe<T, C, CFG_ROW_MAJOR>(to, from, parameters);
}
""",
    "TurnBlocks": """\
// Transpose a block of each of 16 rows; `places` says where the 16 resulting blocks go.
template <typename T>
__aicore__ inline void TurnBlocks(const LocalTensor<T>& to, const LocalTensor<T>& from, uint32_t pitch,
                                  const uint32_t (&places)[16]) {
    LocalTensor<T> results[16];
    LocalTensor<T> rows[16];
    for (uint32_t n = 0; n < 16; ++n) {
        rows[n] = from[n * pitch];
        results[n] = to[places[n]];
    }
    TransDataTo5HD<T>(results, rows, TransDataTo5HDParams(false, false, 1, 0, 0));
}
""",
}


def prelude(text: str) -> str:
    """The functions that a kernel's text calls."""
    return "".join(f"\n{body}" for name, body in FUNCTIONS.items() if f"{name}(" in text or f"{name}<" in text)
