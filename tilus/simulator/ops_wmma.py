"""wmma: warp matrices in fragments whose layout the ISA leaves open.

Here the elements of a matrix, in row-major order, are dealt out to the lanes in runs; registers beyond those needed
repeat the first ones, as the fragments of some types hold each element twice.
"""

from __future__ import annotations

# NumPy types the results of most functions as Any.
# mypy: disable-error-code="no-any-return"
from typing import Any

import numpy as np

from tilus.simulator import fragments
from tilus.simulator.isa import instr
from tilus.simulator.machine import Array, Binder, Group, Op, Run, Sink, Vec
from tilus.simulator.ops_matrix import whole_warps
from tilus.simulator.ops_memory import address_of, part_lanes, parts_of, space_of
from tilus.simulator.ops_mma import bind_rows, bind_target, differing_bits, parse_shape, put, stack, total_of
from tilus.simulator.syntax import type_bits

_SS = "?ss:global|shared|shared::cta"
_SHAPES = "shape:m16n16k16|m32n8k16|m8n32k16|m16n16k8|m8n8k4|m8n8k32|m8n8k128"
_TYPES = "f16|bf16|tf32|f64|s8|u8|s4|u4|b1"


def _bits(kind: str) -> int:
    return 32 if kind == "tf32" else type_bits(kind)


def _extent(op: Op, which: str) -> tuple[int, int]:
    m, n, k = parse_shape(str(op.fields["shape"]))
    return {"a": (m, k), "b": (k, n)}.get(which, (m, n))


@instr(f"wmma.load.a =sync =aligned lay:row|col {_SHAPES} {_SS} t:{_TYPES}",
       f"wmma.load.b =sync =aligned lay:row|col {_SHAPES} {_SS} t:{_TYPES}",
       f"wmma.load.c =sync =aligned lay:row|col {_SHAPES} {_SS} t:f16|f32|f64|s32", gate="warp", kind="matrix-load")
def load(b: Binder, op: Op) -> Run:
    d, mem = op.operands[:2]
    kind = str(op.fields["t"])
    rows = bind_target(b, op, d, "f64" if kind == "f64" else "b32")
    access = _Access(b, op, mem, op.operands[2] if len(op.operands) > 2 else None, op.opcode.split(".")[2], kind, False)

    def run(g: Group) -> None:
        lanes = whole_warps(b, op, g)
        words = access.load(g)
        for i, row in enumerate(rows):
            value = words[i % len(words)]
            row[slice(None) if lanes is None else lanes] = value

    return run


@instr(f"wmma.store.d =sync =aligned lay:row|col {_SHAPES} {_SS} t:f16|f32|f64|s32", gate="warp", writes=0,
       kind="matrix-store")
def store(b: Binder, op: Op) -> Run:
    mem, source = op.operands[:2]
    kind = str(op.fields["t"])
    rows = bind_rows(b, op, source, "f64" if kind == "f64" else "b32")
    access = _Access(b, op, mem, op.operands[2] if len(op.operands) > 2 else None, "d", kind, True)

    def run(g: Group) -> None:
        access.store(g, stack(rows, whole_warps(b, op, g)))
        b.launch.progress += 1

    return run


class _Access:
    """Memory accesses of a fragment, one unit (a byte or an element) of each lane at a time."""

    def __init__(self, b: Binder, op: Op, mem: Any, stride: Any, which: str, kind: str, write: bool) -> None:
        self.b, self.op, self.write = b, op, write
        self.rows, self.columns = _extent(op, which)
        self.kind, self.bits = kind, _bits(kind)
        self.by_row = op.fields["lay"] == "row"
        self.address = address_of(b, op, mem)
        self.space = space_of(b, op, mem, op.fields.get("ss"))
        self.stride = b.src(op, stride, "u32") if stride is not None else None
        name = self.space.name if self.space is not None else "generic"
        self.site = b.launch.site(op, name, write)
        self.per_lane = self.rows * self.columns // 32
        self.unit = max(1, 8 // self.bits)
        self.by_columns = which == "b" and self.bits < 8  # the elements of a byte follow each other in a column

    def _addresses(self, g: Group, position: int) -> Array:
        """Byte addresses of the lanes' unit number ``position``."""
        start = self.address(g)
        lane = g.lanes() % 32
        index = lane * self.per_lane + position * self.unit
        row, column = index // self.columns, index % self.columns
        if self.by_columns:
            row, column = index % self.rows, index // self.rows
        default = self.columns if self.by_row else self.rows
        if not self.by_row:
            row, column = column, row
        if self.stride is None:
            stride: Any = default
        else:
            stride = self.stride.astype(np.int64) if self.stride.size == 1 else self.stride[g.lanes()].astype(np.int64)
        return start + (row * stride + column) * self.bits // 8

    def load(self, g: Group) -> list[Array]:
        size = max(1, self.bits // 8)
        units = []
        for position in range(self.per_lane // self.unit):
            where = self._addresses(g, position)
            value = np.zeros(where.size, f"u{size}")
            for part in parts_of(self.b, self.space, where):
                offsets = part.space.locate(self.site, self.b.batch, part_lanes(part, g), part.address, size)
                value[slice(None) if part.select is None else part.select] = part.space.views.load(offsets, size, 1)
            units.append(value)
        table = np.ascontiguousarray(np.stack(units, axis=1))
        word = np.uint64 if self.kind == "f64" else np.uint32
        if table.shape[1] * size < 4:
            table = np.concatenate([table] * (4 // (table.shape[1] * size)), axis=1)
        return list(np.ascontiguousarray(table).view(word).T)

    def store(self, g: Group, words: Array) -> None:
        size = max(1, self.bits // 8)
        table = np.ascontiguousarray(words.T).view(f"u{size}")
        for position in range(self.per_lane // self.unit):
            where = self._addresses(g, position)
            for part in parts_of(self.b, self.space, where):
                offsets = part.space.locate(self.site, self.b.batch, part_lanes(part, g), part.address, size)
                value = table[:, position]
                part.space.views.store(offsets, size, 1, value if part.select is None else value[part.select])


def _matrix(words: Array, kind: str, rows: int, columns: int) -> Array:
    """(warps, rows, columns) from register words (registers, lanes)."""
    needed = max(1, rows * columns * _bits(kind) // 32 // (64 if kind == "f64" else 32))
    parts = fragments.elements(words[:needed], kind) if kind not in ("s32", "f32") else \
        words[:needed].view(np.int32 if kind == "s32" else np.float32)[..., None]
    flat = parts.transpose(1, 0, 2).reshape(parts.shape[1], -1)[:, :rows * columns // 32]
    return np.ascontiguousarray(flat).reshape(-1, rows, columns)


def _words(matrix: Array, kind: str, count: int) -> Array:
    warps = matrix.shape[0]
    flat = np.ascontiguousarray(matrix.reshape(warps * 32, -1))
    if kind == "f16":
        words = flat.astype(np.float16).view(np.uint32)
    elif kind == "f64":
        words = flat.astype(np.float64).view(np.uint64)
    else:
        words = flat.astype(np.int32 if kind == "s32" else np.float32).view(np.uint32)
    return np.ascontiguousarray(words.T[:count])


@instr("wmma.mma =sync =aligned la:row|col lb:row|col shape:m16n16k16|m32n8k16|m8n32k16 td:f16|f32 tc:f16|f32",
       "wmma.mma =sync =aligned la:row|col lb:row|col shape:m16n16k16|m32n8k16|m8n32k16 td:f32 ta:bf16 tb:bf16 tc:f32",
       "wmma.mma =sync =aligned la:row|col lb:row|col shape:m16n16k8 td:f32 ta:tf32 tb:tf32 tc:f32",
       "wmma.mma =sync =aligned la:row|col lb:row|col shape:m16n16k16|m32n8k16|m8n32k16 td:s32 ta:s8|u8 tb:s8|u8 "
       "tc:s32 ?satfinite",
       "wmma.mma =sync =aligned la:row lb:col shape:m8n8k32 td:s32 ta:s4|u4 tb:s4|u4 tc:s32 ?satfinite",
       "wmma.mma =sync =aligned la:row|col lb:row|col shape:m8n8k4 ?r:rn|rz|rm|rp td:f64 ta:f64 tb:f64 tc:f64",
       "wmma.mma bool:xor|and =popc =sync =aligned la:row lb:col shape:m8n8k128 td:s32 ta:b1 tb:b1 tc:s32",
       gate="warp", kind="mma")
def mma(b: Binder, op: Op) -> Run:
    f = op.fields
    m, n, k = parse_shape(str(f["shape"]))
    kd, kc = str(f["td"]), str(f["tc"])
    ka, kb = str(f.get("ta") or "f16"), str(f.get("tb") or "f16")
    d, *sources = b.need(op, 4)
    rows_d = bind_target(b, op, d, kd)
    rows_a, rows_b, rows_c = (bind_rows(b, op, item, kind) for item, kind in zip(sources, (ka, kb, kc), strict=True))
    product = differing_bits if f.get("bool") == "xor" else np.matmul
    total = total_of(op, kd)

    def run(g: Group) -> None:
        lanes = whole_warps(b, op, g)
        left = _matrix(stack(rows_a, lanes), ka, m, k)
        words = stack(rows_b, lanes)
        right = _matrix(words, kb, n, k).transpose(0, 2, 1) if _bits(kb) < 8 else _matrix(words, kb, k, n)
        base = _matrix(stack(rows_c, lanes), kc, m, n)
        result = total(product(left, right), base)
        put(rows_d, _words(result, kd, len(rows_d)), lanes)
        b.launch.matrix_operations += 2 * m * n * k * len(left)

    return run


__all__ = ["Sink", "Vec", "load", "mma", "store"]
