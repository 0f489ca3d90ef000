"""tcgen05.mma: products of matrices in shared and tensor memory, accumulated in tensor memory.

An instruction descriptor gives types, transposes and extents. For blocks of 128 rows, row r of D lies in lane r; for 64
rows in lane ``32 (r // 16) + r % 16``; where two halves of N share a column (pairs of blocks with M = 128, and .ws
with M = 64), the second half lies 64 lanes further; .ws with M = 32 has four quarters of N.
"""
# NumPy types the results of most functions as Any.
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tilus.simulator import fragments
from tilus.simulator.isa import instr
from tilus.simulator.machine import Array, Binder, Const, Group, Mem, Op, Reg, Run, Sink, Vec
from tilus.simulator.numbers import TABLES
from tilus.simulator.ops_matrix import decompress
from tilus.simulator.ops_mma_sparse import expand, invalid
from tilus.simulator.ops_tcgen05 import SharedOperand, blocks_of, tensor_address, value_of
from tilus.simulator.ops_wgmma import chunk_addresses, element_addresses, umma_descriptor
from tilus.simulator.tensor_memory import Issued, TensorMemory, tensor_memory

_CG = "cg:cta_group::1|cta_group::2"
_COLLECT = "?collect:collector::a::fill|collector::a::use|collector::a::lastuse|collector::a::discard"
SMALL_PRODUCT = 1 << 18
_PLAIN = "kind:kind::f16|kind::tf32|kind::f8f6f4|kind::i8"
_BLOCK = "?vec:scale_vec::1X|scale_vec::2X|scale_vec::4X|block16|block32"
_SCALED = f"kind:kind::mxf8f6f4|kind::mxf4|kind::mxf4nvf4 =block_scale {_BLOCK}"
_WS_COLLECT = "?collect:" + "|".join(f"collector::b{i}::{use}" for i in range(4)
                                     for use in ("fill", "use", "lastuse", "discard"))
_F8 = {0: "e4m3", 1: "e5m2", 3: "e2m3", 4: "e3m2", 5: "e2m1"}
_TYPES = {"f16": {0: "f16", 1: "bf16"}, "tf32": {2: "tf32"}, "i8": {0: "u8", 1: "s8"}, "f8f6f4": _F8, "mxf8f6f4": _F8,
          "mxf4": {1: "e2m1"}, "mxf4nvf4": {1: "e2m1"}}
_RESULTS = {"f16": {0: "f16", 1: "f32"}, "tf32": {1: "f32"}, "i8": {2: "s32"}, "f8f6f4": {0: "f16", 1: "f32"}}


@dataclass(frozen=True)
class Shape:
    """A decoded instruction descriptor; k counts elements of the dense matrices."""

    m: int
    n: int
    k: int
    a: str
    b: str
    d: str
    negate_a: bool
    negate_b: bool
    transpose_a: bool
    transpose_b: bool
    saturate: bool
    sparse: bool
    selector: int
    scale_a: int
    scale_b: int
    scale_type: str
    packed: bool


def decode_instruction(word: int, kind: str) -> Shape | str:
    """The fields of an instruction descriptor, or what is wrong with it."""
    scaled = kind.startswith("mx")
    if word >> 31 & 1 if scaled else word >> 30 & 3:
        return "products 96 deep are not supported" if scaled else "the shift of B is not supported"
    a, b = (_TYPES[kind].get(word >> at & 7) for at in (7, 10))
    d = "f32" if scaled else _RESULTS[kind].get(word >> 4 & 3)
    if a is None or b is None or d is None:
        return f"types {word >> 7 & 7}, {word >> 10 & 7} and {word >> 4 & 3} do not belong to kind::{kind}"
    sparse = bool(word >> 2 & 1)
    packed = kind in ("mxf4", "mxf4nvf4")
    k = {"f16": 16, "tf32": 8}.get(kind, 64 if packed else 32) * (2 if sparse else 1)
    return Shape((word >> 24 & 31) * 16, (word >> 17 & 63) * 8, k, a, b, d, bool(word >> 13 & 1), bool(word >> 14 & 1),
                 bool(word >> 15 & 1), bool(word >> 16 & 1), not scaled and bool(word >> 3 & 1), sparse, word & 3,
                 word >> 29 & 3, word >> 4 & 3, "ue8m0" if word >> 23 & 1 else "ue4m3", packed)


def extents_fault(shape: Shape, pair: bool, stationary: bool, scaled: bool) -> str | None:
    """What is wrong with M and N, or None."""
    rows = (128, 256) if pair else (32, 64, 128) if stationary else (128,) if scaled else (64, 128)
    if shape.m not in rows:
        return f"M = {shape.m}: one of {rows} is expected"
    step = 32 if pair and shape.m == 256 and shape.d == "s32" else 16 if pair or shape.m == 128 else 8
    if stationary:
        return None if shape.n in (64, 128, 256) else f"N = {shape.n}: 64, 128 or 256 is expected"
    if not step <= shape.n <= 256 or shape.n % step:
        return f"N = {shape.n}: a multiple of {step} up to 256 is expected"
    return None


def accumulator(shape: Shape, pair: bool, stationary: bool) -> tuple[Array, Array]:
    """(lane, column) of each element of a block's part of D, relative to its address."""
    rows = shape.m // 2 if pair else shape.m
    r, n = np.arange(rows)[:, None], np.arange(shape.n)[None, :]
    parts = {64: 2, 32: 4}.get(rows, 1) if pair or stationary else 1
    if parts > 1:
        width = shape.n // parts
        return r + rows * (n // width), n % width + 0 * r
    if rows == 64:
        return r % 16 + 32 * (r // 16) + 0 * n, n + 0 * r
    return r + 0 * n, n + 0 * r


def elements_of(raw: Array, kind: str, packed: bool) -> Array:
    """Values of bytes (rows, bytes) as (rows, elements)."""
    rows = len(raw)
    if kind in ("e2m1", "e2m3", "e3m2") and not packed:
        table = TABLES[kind]
        codes = decompress(raw, "b4x16_p64" if kind == "e2m1" else "b6x16_p32")
        return table[codes >> 2 if kind == "e2m1" else codes]
    words = np.ascontiguousarray(raw).view(np.uint32)
    return fragments.elements(words, kind).reshape(rows, -1)


class _Product:
    """One tcgen05.mma as it was issued."""

    def __init__(self, b: Binder, op: Op, lane: int, shape: Shape, pair: bool, stationary: bool) -> None:
        self.b, self.op, self.lane, self.shape = b, op, lane, shape
        self.pair, self.stationary = pair, stationary
        self.memory: TensorMemory = tensor_memory(b.batch)
        self.blocks = blocks_of(b, lane, pair)
        self.rows = shape.m // len(self.blocks)
        self.reads: list[tuple[int, Array, Array]] = []

    def shared(self, descriptor: int, rows: int, stored: int, kind: str, transpose: bool) -> list[Any]:
        """The operand in each block's shared memory: functions that give (rows, elements)."""
        layout = umma_descriptor(descriptor)
        if layout.width == 0:
            self.b.batch.fault("value", f"the matrix descriptor {descriptor:#x} has no valid swizzling mode", self.op,
                               self.lane)
            layout = umma_descriptor(0)
        size = {"tf32": 4, "f16": 2, "bf16": 2}.get(kind, 1)
        result: list[Any] = []
        for block in self.blocks:
            if transpose:
                addresses = element_addresses(layout, rows, stored, size)
                units, index = np.unique(addresses // 16 * 16, return_inverse=True)
                held = SharedOperand(self.b, self.op, self.lane, block, units)
                where = index.reshape(addresses.shape)[..., None], (addresses % 16)[..., None] + np.arange(size)

                def gather(held: SharedOperand = held, where: Any = where) -> Array:
                    return elements_of(held.bytes()[where].reshape(rows, -1), kind, self.shape.packed)

                result.append(gather)
            else:
                chunks = stored * size // 16 // (2 if self.shape.packed else 1)
                held = SharedOperand(self.b, self.op, self.lane, block, chunk_addresses(layout, rows, chunks))

                def read(held: SharedOperand = held) -> Array:
                    return elements_of(held.bytes().reshape(rows, -1), kind, self.shape.packed)

                result.append(read)
        return result

    def tensor(self, address: int, lanes: Array, columns: int) -> list[Any]:
        """Words (rows, columns) of tensor memory in each block, as functions."""
        result = []
        for block in self.blocks:
            rows = (address >> 16) + lanes[:, None] + np.zeros((1, columns), np.int64)
            where = (address & 0xFFFF) + np.arange(columns)[None, :] + 0 * rows
            rows, where = self.memory.locate(self.op, self.lane, block, rows, where)
            self.memory.access(self.op, self.lane, block, rows, where, False, generic=False)
            self.reads.append((block, rows, where))
            result.append(lambda block=block, rows=rows, where=where: self.memory.words[block, rows, where])
        return result

    def lanes_of_a(self) -> Array:
        """Lanes of the rows of an A in tensor memory."""
        r = np.arange(self.rows)
        return r % 16 + 32 * (r // 16) if self.rows == 64 and not self.pair and not self.stationary else r


def _metadata(p: _Product, address: int, kind: str) -> list[Any]:
    """Sparsity codes (rows, chunks) in each block, as functions."""
    shape = p.shape
    if kind in ("f16", "tf32"):
        r = np.arange(p.rows)
        first = (address & ~1) | (shape.selector & 1)
        lanes = np.concatenate([r % 8 + 16 * (r // 16), r % 8 + 16 * (r // 16) + 8])
        shifts = np.tile(r // 8 % 2 * 16, 2).astype(np.uint32)[:, None] + np.arange(4, dtype=np.uint32) * np.uint32(4)
        words = p.tensor(first, lanes, 1)
        return [lambda get=get: ((get() >> shifts) & np.uint32(15)).reshape(2, p.rows, 4).transpose(1, 0, 2)
                .reshape(p.rows, 8) for get in words]
    wide = np.arange(8, dtype=np.uint32) * np.uint32(4)
    return [lambda get=get: ((get()[..., None] >> wide) & np.uint32(15)).reshape(p.rows, 16)
            for get in p.tensor(address, p.lanes_of_a(), 2)]


def _factors(p: _Product, address: int, count: int, first: int, blocks: int, quarters: int) -> list[Any]:
    """Scales (quarters, count, blocks) in each block: one copy for each 32 lanes of the datapath."""
    table = TABLES["ue8m0"] if p.shape.scale_type == "ue8m0" else np.abs(TABLES["e4m3"][np.arange(256) & 127])
    columns = (count + 31) // 32
    words = p.tensor(address & 0xFFFF, np.arange(32 * quarters), columns)

    def factors(get: Any) -> Array:
        codes = np.ascontiguousarray(get()).view(np.uint8).reshape(quarters, 32, columns, 4)
        rows = codes.transpose(0, 2, 1, 3).reshape(quarters, -1, 4)[:, :count, first:first + blocks]
        return table[rows]

    return [lambda get=get: factors(get) for get in words]


def _blocks(op: Op, kind: str) -> int:
    """Scales along K of one instruction."""
    vec = op.fields.get("vec")
    named = {"scale_vec::1X": 1, "scale_vec::2X": 2, "scale_vec::4X": 4, "block16": 4,
             "block32": 1 if kind == "mxf8f6f4" else 2}
    return named[vec] if vec else 1 if kind == "mxf8f6f4" else 2


@dataclass
class _Operands:
    """The operands of a tcgen05.mma by their roles."""

    d: Any
    a: Any
    b: Any
    metadata: Any
    instruction: Any
    scale_a: Any
    scale_b: Any
    disabled: Any
    enable: Any
    shift: Any


def _roles(b: Binder, op: Op, stationary: bool) -> _Operands:
    items = list(op.operands)
    sparse, scaled = op.opcode.startswith(("tcgen05.mma.sp", "tcgen05.mma.ws.sp")), "block_scale" in op.opcode
    if len(items) < 5 + sparse + 2 * scaled:
        raise b.error(f"{len(items)} operands", op)
    d, a, bb = items[:3]
    rest = items[3:]
    metadata = rest.pop(0) if sparse else None
    word = rest.pop(0)
    scale_a, scale_b = (rest.pop(0), rest.pop(0)) if scaled else (None, None)
    disabled = rest.pop(0) if isinstance(rest[0], Vec) else None
    enable = rest.pop(0) if rest else Sink()
    shift = rest.pop(0) if rest else None
    if rest:
        raise b.error(f"{len(items)} operands", op)
    if stationary and shift is not None:
        raise b.error("the zero-column mask is not supported", op)
    if shift is not None and not (isinstance(shift, Const) and 0 <= shift.value <= 15):
        raise b.error("scale-input-d must be a constant from 0 to 15", op)
    return _Operands(d, a, bb, metadata, word, scale_a, scale_b, disabled, enable, shift)


def _enabled(b: Binder, op: Op, item: Any, lane: int) -> bool:
    if isinstance(item, Const):
        return bool(item.value)
    if not isinstance(item, Reg) or item.bits != 1:
        raise b.error("enable-input-d must be a predicate", op)
    return bool(b.row(item)[lane]) != item.negated


@instr(f"tcgen05.mma {_CG} {_PLAIN} {_COLLECT}", f"tcgen05.mma.sp {_CG} {_PLAIN} {_COLLECT}",
       f"tcgen05.mma {_CG} {_SCALED} {_COLLECT}", f"tcgen05.mma.sp {_CG} {_SCALED} {_COLLECT}",
       f"tcgen05.mma.ws =cta_group::1 {_PLAIN} {_WS_COLLECT}",
       f"tcgen05.mma.ws.sp =cta_group::1 {_PLAIN} {_WS_COLLECT}",
       writes=0, kind="tcgen05-mma")
def mma(b: Binder, op: Op) -> Run:
    kind = str(op.fields["kind"]).removeprefix("kind::")
    stationary = op.opcode.startswith("tcgen05.mma.ws")
    pair = op.fields.get("cg") == "cta_group::2"
    roles = _roles(b, op, stationary)

    def run(g: Group) -> None:
        for lane in g.lanes().tolist():
            shape = decode_instruction(value_of(b, op, roles.instruction, lane), kind)
            wrong = shape if isinstance(shape, str) else extents_fault(shape, pair, stationary, kind.startswith("mx"))
            if not isinstance(shape, str) and shape.sparse != (roles.metadata is not None):
                wrong = "its sparsity bit does not fit the instruction"
            if wrong is not None or isinstance(shape, str):
                b.batch.fault("value", f"instruction descriptor: {wrong}", op, lane)
                continue
            if pair and b.launch.cluster_size % 2:
                b.batch.fault("value", "cta_group::2 needs clusters of an even number of blocks", op, lane)
                continue
            _issue(b, op, lane, shape, kind, roles, pair, stationary)
        b.launch.progress += 1

    return run


def _issue(b: Binder, op: Op, lane: int, shape: Shape, kind: str, roles: _Operands, pair: bool, stationary: bool
           ) -> None:
    p = _Product(b, op, lane, shape, pair, stationary)
    memory = p.memory
    stored = shape.k // 2 if shape.sparse else shape.k
    if isinstance(roles.a, Mem):
        bits = {"f16": 16, "bf16": 16, "tf32": 32, "e2m1": 4 if shape.packed else 8}.get(shape.a, 8)
        words = p.tensor(tensor_address(b, op, roles.a, lane), p.lanes_of_a(), stored * bits // 32)
        left = [lambda get=get: fragments.elements(get(), "e2m1p" if bits == 8 and shape.a == "e2m1" else shape.a)
                .reshape(p.rows, -1) for get in words]
    else:
        left = p.shared(value_of(b, op, roles.a, lane, "b64"), p.rows, stored, shape.a, shape.transpose_a)
    right = p.shared(value_of(b, op, roles.b, lane, "b64"), shape.n // len(p.blocks), shape.k, shape.b,
                     shape.transpose_b)
    codes = _metadata(p, tensor_address(b, op, roles.metadata, lane), kind) if shape.sparse else None
    scales = None
    if roles.scale_a is not None:
        count = _blocks(op, kind)
        at_a, at_b = (tensor_address(b, op, item, lane) for item in (roles.scale_a, roles.scale_b))
        scales = (_factors(p, at_a, p.rows, shape.scale_a, count, 4),
                  _factors(p, at_b, shape.n, shape.scale_b, count, 4))
    target = tensor_address(b, op, roles.d, lane)
    lanes, columns = accumulator(shape, pair, stationary)
    keep = _enabled(b, op, roles.enable, lane)
    power = int(roles.shift.value) if isinstance(roles.shift, Const) else 0
    allowed = _allowed(b, op, roles.disabled, lane, len(p.blocks))
    regions = []
    for block in p.blocks:
        region = (block, *memory.locate(op, lane, block, (target >> 16) + lanes, (target & 0xFFFF) + columns))
        if keep:
            memory.access(op, lane, *region, False, generic=False)
        memory.access(op, lane, *region, True, generic=False)
        regions.append(region)

    def finish() -> None:
        full = np.concatenate([get() for get in right])
        for i, (block, rows, where) in enumerate(regions):
            a = left[i]()
            if codes is not None:
                a = _dense(p, a, codes[i]())
            product = _multiply(a, full, shape, scales, i)
            old = memory.words[block, rows, where]
            result = _accumulate(product, _values(old, shape.d), shape, keep, power)
            words = _words(result, shape.d)
            memory.words[block, rows, where] = np.where(allowed[i][rows], words, old)
        b.launch.matrix_operations += 2 * shape.m * shape.n * shape.k // (2 if shape.sparse else 1)

    memory.issue(Issued(lane, finish, regions, p.reads))


def _allowed(b: Binder, op: Op, vector: Any, lane: int, blocks: int) -> list[Array]:
    """Which lanes of each block the instruction may write: bits of disable-output-lane are off."""
    if vector is None:
        return [np.ones(128, bool)] * blocks
    if len(vector.items) != 4 * blocks:
        raise b.error(f"disable-output-lane has {len(vector.items)} registers instead of {4 * blocks}", op)
    words = np.array([value_of(b, op, item, lane) for item in vector.items], np.uint32)
    off = np.unpackbits(words.view(np.uint8), bitorder="little").astype(bool)
    return [~off[128 * i:128 * i + 128] for i in range(blocks)]


def _dense(p: _Product, stored: Array, codes: Array) -> Array:
    kind = p.shape.a
    if kind == "tf32":
        codes = codes[:, :stored.shape[1]]
    if invalid(codes, kind, True).any():
        p.b.batch.fault("value", "invalid sparsity metadata in tensor memory", p.op, p.lane)
    return expand(stored[None], codes[None], kind, p.shape.packed)[0]


def _on_one_core(a: Array, b: Array) -> Array:
    """A product in pieces of rows, so small that BLAS does not wake other cores, which costs more than they save."""
    rows = len(a)
    while rows % 2 == 0 and rows * a.shape[1] * b.shape[1] > SMALL_PRODUCT:
        rows //= 2
    return np.matmul(a.reshape(-1, rows, a.shape[1]), b).reshape(len(a), -1)


def _multiply(a: Array, b: Array, shape: Shape, scales: Any, block: int) -> Array:
    """A times B transposed, with scales and signs."""
    sign = -1.0 if shape.negate_a != shape.negate_b else 1.0
    if scales is None:
        return _on_one_core(a, b.T) * np.float32(sign)
    k = a.shape[1]
    of_a, of_b = scales[0][block](), scales[1][block]()
    count = of_a.shape[2]
    result = np.empty((len(a), len(b)), np.float64)
    for quarter in range(len(of_a)):
        rows = slice(32 * quarter, 32 * quarter + 32)
        left = a[rows] * np.repeat(of_a[quarter][rows], k // count, axis=1)
        right = b * np.repeat(of_b[quarter], k // count, axis=1)
        result[rows] = np.matmul(left.astype(np.float64), right.T.astype(np.float64))
    return result * sign


def _values(words: Array, kind: str) -> Array:
    if kind == "f16":
        return (words & np.uint32(0xFFFF)).astype(np.uint16).view(np.float16).astype(np.float32)
    return words.view(np.float32 if kind == "f32" else np.int32)


def _words(values: Array, kind: str) -> Array:
    if kind == "f16":
        return values.astype(np.float16).view(np.uint16).astype(np.uint32)
    return np.ascontiguousarray(values.astype(np.float32 if kind == "f32" else np.int32)).view(np.uint32)


def _accumulate(product: Array, old: Array, shape: Shape, keep: bool, power: int) -> Array:
    if shape.d != "s32":
        return product + old * np.float32(2.0 ** -power) if keep else product
    total = np.rint(product).astype(np.int64) + (old if keep else 0)
    return np.clip(total, -(1 << 31), (1 << 31) - 1) if shape.saturate else total
