"""mma.sp: products with a structured sparse A, half of whose elements are stored and placed by metadata.

Every four metadata bits hold two indices. They place two stored elements in a chunk of four, two stored pairs in a
chunk of eight (4-bit types), or, as 0b0100 or 0b1110, one tf32 element in a chunk of two. The metadata of a row are

- halves of words for 16- and 32-bit types: bits 0-15 for row ``g``, 16-31 for row ``g + 8``, 16 bits of each further
  thread for the next columns;
- whole words for narrower types: thread 0 for row ``g``, thread 1 for row ``g + 8``, threads 2 and 3 for the second
  half of the columns.

``g`` is lane // 4; the selector names the first thread of the four that contributes.
"""
# NumPy types the results of most functions as Any.
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tilus.simulator import fragments
from tilus.simulator.isa import instr
from tilus.simulator.machine import Array, Binder, Const, Group, Op, Run
from tilus.simulator.ops_matrix import whole_warps
from tilus.simulator.ops_mma import Accumulator, bind_rows, bits_of, of_lanes, parse_shape
from tilus.simulator.ops_mma_scaled import Scales

_NARROW = "e4m3|e5m2|e3m2|e2m3|e2m1"


def unpack_codes(words: Array, halves: bool, selector: int, codes: int) -> Array:
    """Metadata codes (warps, 16, codes) from the words of each warp, (warps, 32)."""
    quads = words.reshape(-1, 8, 4)
    threads = 16 * codes * 4 // (8 * 32)
    chosen = quads[:, :, selector * threads:(selector + 1) * threads]
    shifts = np.arange(8, dtype=np.uint32) * np.uint32(4)
    nibbles = (chosen[..., None] >> shifts) & np.uint32(15)
    if halves:
        split = nibbles.reshape(-1, 8, threads, 2, 4)
        return split.transpose(0, 3, 1, 2, 4).reshape(-1, 16, codes)
    split = nibbles.reshape(-1, 8, threads // 2, 2, 8)
    return split.transpose(0, 3, 1, 2, 4).reshape(-1, 16, codes)


def expand(stored: Array, codes: Array, kind: str, pairs: bool) -> Array:
    """The dense matrix (warps, rows, k) of stored elements (warps, rows, k / 2) and codes."""
    shape = codes.shape
    if kind == "tf32":
        dense = np.zeros((*shape, 2), stored.dtype)
        chosen = (codes == 0b1110).astype(np.int64)
        np.put_along_axis(dense, chosen[..., None], stored[..., None], axis=-1)
        return dense.reshape(*shape[:-1], -1)
    width = 2 if pairs else 1
    parts = stored.reshape(*shape, 2, width)
    dense = np.zeros((*shape, 4, width), stored.dtype)
    where = np.stack([codes & 3, codes >> 2], axis=-1).astype(np.int64)[..., None]
    np.put_along_axis(dense, np.broadcast_to(where, parts.shape), parts, axis=-2)
    return dense.reshape(*shape[:-1], -1)


def invalid(codes: Array, kind: str, ordered: bool) -> Array:
    """Which codes have no meaning: equal indices, or descending ones where they must be ordered."""
    if kind == "tf32":
        return (codes != 0b0100) & (codes != 0b1110)
    first, second = codes & 3, codes >> 2
    return first >= second if ordered else first == second


@dataclass
class Metadata:
    """The metadata operands of one instruction."""

    b: Binder
    op: Op
    kind: str
    pairs: bool
    k: int
    words: Any
    choice: Any

    def __post_init__(self) -> None:
        self.word = self.b.src(self.op, self.words, "b32")
        item = self.choice
        if not isinstance(item, Const):
            raise self.b.error("the sparsity selector must be a constant", self.op)
        self.selector = int(item.value)
        self.codes = self.k // {"tf32": 2}.get(self.kind, 8 if self.pairs else 4)
        self.halves = bits_of(self.kind) >= 16
        self.ordered = "ordered_metadata" in self.op.opcode
        threads = 16 * self.codes * 4 // 256
        if not 0 <= self.selector < 4 // threads:
            raise self.b.error(f"sparsity selector {self.selector}: {threads} threads hold the metadata, so that it "
                               f"goes from 0 to {4 // threads - 1}", self.op)

    def dense(self, stored: Array, lanes: Array | None) -> Array:
        """The dense matrices (warps, 16, k) of stored ones."""
        return expand(stored, self.codes_of(lanes), self.kind, self.pairs)

    def codes_of(self, lanes: Array | None) -> Array:
        """Codes (warps, 16, chunks), after checking them."""
        full = np.broadcast_to(self.word, (self.b.lanes,))
        words = np.ascontiguousarray(full if lanes is None else full[lanes]).reshape(-1, 32)
        codes = unpack_codes(words, self.halves, self.selector, self.codes)
        wrong = invalid(codes, self.kind, self.ordered)
        if wrong.any():
            warp, row, column = (int(x) for x in np.argwhere(wrong)[0])
            lane = 32 * warp if lanes is None else int(lanes[32 * warp])
            self.b.batch.fault("value", f"invalid sparsity metadata {int(codes[warp, row, column]):#06b} for row {row}",
                               self.op, lane, count=int(wrong.sum()))
        return codes


def _specs() -> list[str]:
    shapes = [("m16n8k16|m16n8k32", "", "f16|f32", "f16", "f16", "f16|f32"),
              ("m16n8k16|m16n8k32", "", "f32", "bf16", "bf16", "f32"),
              ("m16n8k8|m16n8k16", "", "f32", "tf32", "tf32", "f32"),
              ("m16n8k32|m16n8k64", "?satfinite ", "s32", "u8|s8", "u8|s8", "s32"),
              ("m16n8k64|m16n8k128", "?satfinite ", "s32", "u4|s4", "u4|s4", "s32"),
              ("m16n8k64", "", "f16|f32", "e4m3|e5m2", "e4m3|e5m2", "f16|f32")]
    result = [f"{head} =sync =aligned shape:{shape} =row =col {extra}td:{td} ta:{ta} tb:{tb} tc:{tc}"
              for head in ("mma.sp", "mma.sp::ordered_metadata") for shape, extra, td, ta, tb, tc in shapes]
    narrow = "mma.sp::ordered_metadata =sync =aligned shape:m16n8k64 =row =col kind:kind::f8f6f4 td:f16|f32"
    return [*result, f"{narrow} ta:{_NARROW} tb:{_NARROW} tc:f16|f32"]


def _bind(b: Binder, op: Op, kinds: tuple[str, str, str, str], pairs: bool, scales: Any) -> Run:
    m, n, k = parse_shape(str(op.fields["shape"]))
    kd, ka, kb, kc = kinds
    d, a, bb, c = op.operands[:4]
    accumulator = Accumulator(b, op, d, c, (kd, kc))
    rows_a, rows_b = bind_rows(b, op, a, ka), bind_rows(b, op, bb, kb)
    expected = (2 if kd == "f16" else 4, m * k * bits_of(ka) // 2048, k * n * bits_of(kb) // 1024,
                2 if kc == "f16" else 4)
    found = (len(accumulator.rows_d), len(rows_a), len(rows_b), len(accumulator.rows_c))
    if found != expected:
        raise b.error(f"fragments of {found} registers instead of {expected}", op)
    sparse = Metadata(b, op, ka, pairs, k, op.operands[4], op.operands[5])

    def run(g: Group) -> None:
        lanes = whole_warps(b, op, g)
        left = sparse.dense(fragments.matrix_a(of_lanes(rows_a, lanes), ka, m), lanes)
        right = fragments.matrix_b(of_lanes(rows_b, lanes), kb)
        if scales is not None:
            left, right = scales.apply(left, right, lanes)
        accumulator.add(np.matmul(left, right), lanes)
        b.launch.matrix_operations += m * n * k * len(left)

    return run


@instr(*_specs(), gate="warp", kind="mma")
def mma_sparse(b: Binder, op: Op) -> Run:
    f = op.fields
    b.need(op, 6)
    packed = str(f["ta"]) in ("s4", "u4")
    ta, tb = ("e2m1p" if f[name] == "e2m1" else str(f[name]) for name in ("ta", "tb"))
    return _bind(b, op, (str(f["td"]), ta, tb, str(f["tc"])), packed, None)


_SCALED = "mma.sp::ordered_metadata =sync =aligned"


@instr(f"{_SCALED} shape:m16n8k64 =row =col =kind::mxf8f6f4 =block_scale ?sv:scale_vec::1X =f32 ta:{_NARROW} "
       f"tb:{_NARROW} =f32 ts:ue8m0",
       f"{_SCALED} shape:m16n8k128 =row =col =kind::mxf4 =block_scale ?sv:scale_vec::2X =f32 ta:e2m1 tb:e2m1 =f32 "
       "ts:ue8m0",
       f"{_SCALED} shape:m16n8k128 =row =col =kind::mxf4nvf4 =block_scale sv:scale_vec::2X =f32 ta:e2m1 tb:e2m1 =f32 "
       "ts:ue8m0",
       f"{_SCALED} shape:m16n8k128 =row =col =kind::mxf4nvf4 =block_scale sv:scale_vec::4X =f32 ta:e2m1 tb:e2m1 =f32 "
       "ts:ue4m3", gate="warp", kind="mma")
def mma_sparse_scaled(b: Binder, op: Op) -> Run:
    f = op.fields
    packed = f["shape"] == "m16n8k128"
    ta, tb = (str(f[x]) if packed or f[x] != "e2m1" else "e2m1p" for x in ("ta", "tb"))
    b.need(op, 10)
    return _bind(b, op, ("f32", ta, tb, "f32"), packed, Scales(b, op, op.operands[6:]))
