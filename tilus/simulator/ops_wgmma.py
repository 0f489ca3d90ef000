"""wgmma: asynchronous products of a warp group, operands in shared memory by descriptors."""

from __future__ import annotations

# NumPy types the results of most functions as Any.
# mypy: disable-error-code="no-any-return"
from dataclasses import dataclass
from typing import Any

import numpy as np

from tilus.simulator import fragments
from tilus.simulator.isa import instr
from tilus.simulator.machine import Array, Binder, Const, Group, Op, Reg, Run, Vec
from tilus.simulator.numbers import TABLES, bf16_to_f32
from tilus.simulator.ops_mma import (
    bind_rows,
    bind_target,
    integer_sum,
    of_lanes,
    parse_shape,
    put,
    read_accumulator,
    stack,
    write_accumulator,
)
from tilus.simulator.ops_warp import check_member
from tilus.simulator.syntax import type_bits

_SWIZZLE_BYTES = {0: 16, 1: 128, 2: 64, 3: 32}


def _shapes(k: int) -> str:
    return "|".join(f"m64n{n}k{k}" for n in range(8, 257, 8))


def swizzle_address(address: Array, width: int) -> Array:
    """XOR the 16-byte chunk with the row, as the 32-, 64- and 128-byte swizzles of shared addresses do."""
    chunks = width // 16
    if chunks <= 1:
        return address
    return address ^ (((address >> 7) & (chunks - 1)) << 4)


@dataclass(frozen=True)
class Layout:
    """A matrix descriptor: bytes from the start, between repeats of the pattern, and the swizzle's width.

    ``width`` is 16 for no swizzle; ``atom`` is 32 where 128-byte rows are swizzled in units of 32 bytes, else 16.
    """

    start: int
    leading: int
    stride: int
    width: int
    atom: int = 16

    def swizzle(self, address: Array) -> Array:
        if self.atom == 32:
            return address ^ ((address >> 7 & 3) << 5)
        return swizzle_address(address, self.width)


def wgmma_descriptor(descriptor: int) -> Layout:
    return Layout((descriptor & 0x3FFF) << 4, (descriptor >> 16 & 0x3FFF) << 4, (descriptor >> 32 & 0x3FFF) << 4,
                  _SWIZZLE_BYTES[descriptor >> 62 & 3])


def umma_descriptor(descriptor: int) -> Layout:
    """The descriptor of tcgen05, whose swizzling mode has three bits; the width is 0 where the mode is invalid."""
    mode = descriptor >> 61 & 7
    return Layout((descriptor & 0x3FFF) << 4, (descriptor >> 16 & 0x3FFF) << 4, (descriptor >> 32 & 0x3FFF) << 4,
                  {0: 16, 1: 128, 2: 128, 4: 64, 6: 32}.get(mode, 0), 32 if mode == 1 else 16)


def operand_addresses(descriptor: int, rows: int, row_bytes: int, major_k: bool, element: int) -> Array:
    """Shared addresses of an operand's elements, (rows, k), for a descriptor of wgmma.

    Args:
        descriptor: the 64-bit matrix descriptor.
        rows: M or N.
        row_bytes: bytes of K.
        major_k: whether K is contiguous.
        element: bytes of an element.
    """
    layout = wgmma_descriptor(descriptor)
    if not major_k:
        return element_addresses(layout, rows, row_bytes // element, element)
    byte = np.arange(row_bytes // element) * element
    return chunk_addresses(layout, rows, -(-row_bytes // 16))[:, byte // 16] + byte % 16


def chunk_addresses(layout: Layout, rows: int, chunks: int) -> Array:
    """Addresses of the 16-byte chunks (rows, chunks) of a matrix whose K is contiguous."""
    r, byte = np.arange(rows)[:, None], 16 * np.arange(chunks)[None, :]
    linear = r // 8 * layout.stride + r % 8 * layout.width + byte // layout.width * layout.leading + byte % layout.width
    return layout.swizzle(layout.start + linear)


def element_addresses(layout: Layout, rows: int, k: int, element: int) -> Array:
    """Addresses of the elements (rows, k) of a matrix whose rows are contiguous (MN-major)."""
    byte, depth = np.arange(rows)[:, None] * element, np.arange(k)[None, :]
    outer, inner = (layout.leading, layout.stride) if layout.width > 16 else (layout.stride, layout.leading)
    linear = byte % layout.width + depth % 8 * layout.width + byte // layout.width * outer + depth // 8 * inner
    return layout.swizzle(layout.start + linear)


def read_operand(b: Binder, op: Op, lanes: Array, descriptor: int, rows: int, row_bytes: int, major_k: bool, kind: str
                 ) -> Array:
    """An operand matrix (rows, k) from shared memory of the lanes' block, as float32."""
    batch = b.batch
    element = max(1, type_bits(kind if kind != "tf32" else "b32") // 8)
    addresses = operand_addresses(descriptor, rows, row_bytes, major_k, element)
    space = batch.shared
    lane = int(lanes[0])
    if int(addresses.max()) + element > space.size:
        batch.fault("bounds", f"a matrix descriptor reaches shared address {int(addresses.max())}; the block has "
                    f"{space.size} bytes", op, lane)
        return np.zeros((rows, row_bytes // element), np.float32)
    offsets = addresses + int(space.base[lane])
    if space.shadow is not None:
        space.shadow.proxy_read(op, lanes, offsets.reshape(-1), element, "wgmma")
    raw = space.views.load(offsets, element, 1)
    if element == 4:
        return fragments.elements(raw, kind)[..., 0]
    if element == 2:
        return raw.view(np.float16).astype(np.float32) if kind == "f16" else bf16_to_f32(raw)
    if kind in ("s8", "u8"):
        return raw.view(np.int8 if kind == "s8" else np.uint8).astype(np.float32)
    return TABLES[kind][raw]


class WarpGroups:
    """Products that were issued and not yet waited for, by warp group."""

    def __init__(self) -> None:
        self.open: dict[int, list[Any]] = {}
        self.committed: dict[int, list[list[Any]]] = {}


def _state(b: Binder) -> WarpGroups:
    made: WarpGroups = b.batch.state.setdefault("wgmma", WarpGroups())
    return made


def groups_of(b: Binder, op: Op, g: Group) -> list[Array]:
    """Lanes of each complete warp group in the group."""
    table = g.mask.reshape(-1, 128) if b.lanes % 128 == 0 and b.batch.stride % 128 == 0 else None
    if table is None:
        b.batch.fault("sync", f"{op.opcode} needs blocks of whole warp groups", op, int(g.lanes()[0]))
        return []
    partly = table.any(axis=1) & ~table.all(axis=1)
    if partly.any() and b.launch.checks.sync:
        b.batch.fault("sync", f"{op.opcode}: lanes of the warp group are missing", op, int(g.lanes()[0]))
    return [np.arange(128 * w, 128 * w + 128) for w in np.flatnonzero(table.all(axis=1))]


@instr(
    f"wgmma.mma_async =sync =aligned shape:{_shapes(16)} td:f16|f32 ta:f16 tb:f16",
    f"wgmma.mma_async =sync =aligned shape:{_shapes(16)} td:f32 ta:bf16 tb:bf16",
    f"wgmma.mma_async =sync =aligned shape:{_shapes(8)} td:f32 ta:tf32 tb:tf32",
    f"wgmma.mma_async =sync =aligned shape:{_shapes(32)} td:f16|f32 ta:e4m3|e5m2 "
    "tb:e4m3|e5m2",
    f"wgmma.mma_async =sync =aligned shape:{_shapes(32)} ?satfinite td:s32 ta:s8|u8 "
    "tb:s8|u8",
    f"wgmma.mma_async.sp =sync =aligned shape:{_shapes(32)} td:f16|f32 ta:f16 tb:f16",
    f"wgmma.mma_async.sp =sync =aligned shape:{_shapes(32)} td:f32 ta:bf16 tb:bf16",
    f"wgmma.mma_async.sp =sync =aligned shape:{_shapes(16)} td:f32 ta:tf32 tb:tf32",
    f"wgmma.mma_async.sp =sync =aligned shape:{_shapes(64)} td:f16|f32 ta:e4m3|e5m2 "
    "tb:e4m3|e5m2",
    f"wgmma.mma_async.sp =sync =aligned shape:{_shapes(64)} ?satfinite td:s32 ta:s8|u8 "
    "tb:s8|u8",
    gate="group",
    kind="wgmma",
)
def wgmma(b: Binder, op: Op) -> Run:
    from tilus.simulator.ops_mma_sparse import Metadata, expand

    f = op.fields
    _, n, k = parse_shape(str(f["shape"]))
    kd, ka, kb = str(f["td"]), str(f["ta"]), str(f["tb"])
    d, a, bb, *rest = op.operands
    sparse = None
    if ".sp." in op.opcode:
        if len(rest) < 2:
            raise b.error(f"{len(op.operands)} operands", op)
        sparse = Metadata(b, op, ka, False, k, rest.pop(0), rest.pop(0))
    stored = k // 2 if sparse is not None else k
    rows_d = bind_target(b, op, d, kd)
    if len(rows_d) != n // (4 if kd == "f16" else 2):
        raise b.error(f"{len(rows_d)} accumulator registers for n = {n}", op)
    from_registers = isinstance(a, Vec)
    rows_a = bind_rows(b, op, a, ka) if from_registers else []
    if from_registers and len(rows_a) != 4:
        raise b.error(f"{len(rows_a)} registers for A instead of 4", op)
    descriptor_a = None if from_registers else b.src(op, a, "b64")
    descriptor_b = b.src(op, bb, "b64")
    keep = _scale_d(b, op, rest[0]) if rest else (np.array([True]), False)
    numbers = [int(item.value) for item in rest[1:] if isinstance(item, Const)]
    scale = 1.0
    for value in numbers[:2] if kd != "s32" else []:
        scale *= value
    transposes = numbers[2:]
    trans_b = bool(transposes[-1]) if transposes else False
    trans_a = bool(transposes[0]) if len(transposes) == 2 else False
    row_bytes = k * (4 if ka == "tf32" else max(1, type_bits(ka) // 8))
    stored_bytes = row_bytes * stored // k
    rows = [r for r in (d.items if isinstance(d, Vec) else ()) if isinstance(r, Reg)]
    flights = [b.batch.in_flight[r.bits, r.index] for r in rows]

    def compute(lanes: Array, keeping: bool, left: Array | None, at_a: int, at_b: int, codes: Array | None) -> None:
        if left is None:
            left = read_operand(b, op, lanes, at_a, 64, stored_bytes, not trans_a, ka)
        if codes is not None:
            left = expand(left.reshape(4, 16, stored), codes, ka, False).reshape(64, k)
        right = read_operand(b, op, lanes, at_b, n, row_bytes, not trans_b, kb).T
        product = np.matmul(left, right) * np.float32(scale)
        old = _gather(read_accumulator(stack(rows_d, lanes), kd), n)
        if kd == "s32":
            result = integer_sum(product, old if keeping else np.zeros_like(old), ".satfinite" in op.opcode)
        else:
            result = product + old if keeping else product
        put(rows_d, write_accumulator(_scatter(result, n), kd), lanes)
        b.launch.matrix_operations += 2 * 64 * n * stored

    def run(g: Group) -> None:
        check_member(b, op, g, np.array([0xFFFFFFFF], np.uint32))
        for lanes in groups_of(b, op, g):
            first = int(lanes[0])
            row, negated = keep
            keeping = bool(row[first if row.size > 1 else 0]) != negated
            left = None
            if from_registers:
                left = fragments.matrix_a(of_lanes(rows_a, lanes), ka, 16).reshape(64, stored)
            at_a = _word(descriptor_a, first) if descriptor_a is not None else 0
            at_b = _word(descriptor_b, first)
            codes = sparse.codes_of(lanes) if sparse is not None else None
            for flight in flights:
                flight[lanes] = True
            _state(b).open.setdefault(first, []).append((compute, (lanes, keeping, left, at_a, at_b, codes), flights))

    return run


def _word(row: Array, lane: int) -> int:
    return int(row[lane if row.size > 1 else 0])


def _scale_d(b: Binder, op: Op, item: Any) -> tuple[Array, bool]:
    if isinstance(item, Reg) and item.bits == 1:
        return b.row(item), item.negated
    if isinstance(item, Const):
        return np.array([bool(item.value)]), False
    raise b.error("scale-d must be a predicate", op)


def _gather(values: Array, n: int) -> Array:
    """(64, n) from accumulator elements (n / 2, 128): element i of a lane at row 16 warp + lane/4 + 8 (i/2 % 2)."""
    shaped = values.reshape(n // 8, 2, 2, 4, 8, 4)
    return np.ascontiguousarray(shaped.transpose(3, 1, 4, 0, 5, 2)).reshape(64, n)


def _scatter(matrix: Array, n: int) -> Array:
    shaped = matrix.reshape(4, 2, 8, n // 8, 4, 2)
    return np.ascontiguousarray(shaped.transpose(3, 1, 5, 0, 2, 4)).reshape(n // 2, 128)


@instr("wgmma.fence =sync =aligned", gate="group", writes=0, kind="fence")
def wgmma_fence(b: Binder, op: Op) -> Run:
    return lambda g: None


@instr("wgmma.commit_group =sync =aligned", gate="group", writes=0, kind="wgmma")
def wgmma_commit(b: Binder, op: Op) -> Run:
    def run(g: Group) -> None:
        state = _state(b)
        for lanes in groups_of(b, op, g):
            first = int(lanes[0])
            state.committed.setdefault(first, []).append(state.open.pop(first, []))

    return run


@instr("wgmma.wait_group =sync =aligned", gate="group", writes=0, kind="wgmma")
def wgmma_wait(b: Binder, op: Op) -> Run:
    item = b.need(op, 1)[0]
    allowed = b.groups(op, item)

    def run(g: Group) -> None:
        state = _state(b)
        for lanes in groups_of(b, op, g):
            groups = state.committed.get(int(lanes[0]), [])
            while len(groups) > allowed:
                for compute, arguments, flights in groups.pop(0):
                    compute(*arguments)
                    for flight in flights:
                        flight[lanes] = False
            for group in groups + [state.open.get(int(lanes[0]), [])]:
                for _, _, flights in group:
                    for flight in flights:
                        flight[lanes] = True

    return run
