"""Moving matrices between shared memory and the registers of a warp."""
# NumPy types the results of most functions as Any.
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

from typing import Any

import numpy as np

from tilus.simulator.isa import instr
from tilus.simulator.machine import Array, Binder, Group, Op, Reg, Run, Vec
from tilus.simulator.memory import Space
from tilus.simulator.ops_memory import address_of, part_lanes, parts_of, space_of


def whole_warps(b: Binder, op: Op, g: Group) -> Array | None:
    """Lanes of the warps in the group, in warp order, or None for all; a warp that lacks lanes is a fault."""
    if g.idx is None:
        return None
    per_warp = g.mask.reshape(-1, 32)
    partly = per_warp.any(axis=1) & ~per_warp.all(axis=1)
    if partly.any():
        if b.launch.checks.sync:
            b.batch.fault("sync", f"{op.opcode}: lanes of the warp are missing", op, int(g.idx[0]),
                          count=int(partly.sum()))
        return np.flatnonzero(np.repeat(per_warp.any(axis=1), 32))
    return g.idx


def rows_of(b: Binder, op: Op, item: Any) -> list[Array]:
    """Rows of 32-bit registers in a vector operand."""
    items = item.items if isinstance(item, Vec) else (item,)
    rows = []
    for part in items:
        if not isinstance(part, Reg):
            raise b.error("registers are expected", op)
        rows.append(b.src(op, part, "b32"))
    return rows


class _Rows:
    """Addresses of matrix rows of 16 bytes: lane 8m+r gives row r of matrix m, for 8-row matrices."""

    def __init__(self, b: Binder, op: Op, mem: Any, matrices: int, write: bool) -> None:
        """``matrices`` counts groups of 8 rows."""
        self.b, self.op = b, op
        self.address = address_of(b, op, mem)
        self.space = space_of(b, op, mem, op.fields.get("ss"))
        self.site = b.launch.site(op, "shared", write)
        self.matrices = matrices
        lane = np.arange(b.lanes) % 32
        self.used = lane < 8 * matrices
        self.everything = matrices == 4

    def __call__(self, g: Group) -> Array:
        b = self.b
        part = g
        if not self.everything:
            part = Group(g.mask & self.used, False, False)
        where = self.address(part)
        spaces: list[Any] = parts_of(b, self.space, where)
        if len(spaces) != 1 or spaces[0].space is not b.batch.shared:
            b.batch.fault("bounds", f"{self.op.opcode} needs shared memory", self.op, int(g.lanes()[0]))
            return np.full(where.size, b.batch.shared.trash, np.int64)
        space: Space = spaces[0].space
        return space.locate(self.site, b.batch, part_lanes(spaces[0], part), spaces[0].address, 16)


@instr("ldmatrix =sync =aligned =m8n8 num:x1|x2|x4 ?trans ?ss:shared|shared::cta =b16", gate="warp", kind="matrix-load")
def ldmatrix(b: Binder, op: Op) -> Run:
    d, mem = b.need(op, 2)
    count = int(str(op.fields["num"])[1:])
    rows = rows_of(b, op, d)
    if len(rows) != count:
        raise b.error(f"{len(rows)} registers for {count} matrices", op)
    locate = _Rows(b, op, mem, count, False)
    trans = op.fields["trans"] is not None
    views = b.batch.shared.views

    locate.site.tracks = True
    targets = d.items if isinstance(d, Vec) else (d,)

    def arranged(data: Array) -> Array:
        """Rows of 16 bytes as words, (registers, lanes)."""
        if trans:
            halves = data.view(np.uint16).reshape(-1, count, 8, 8)
            return np.ascontiguousarray(halves.transpose(1, 0, 3, 2)).view(np.uint32).reshape(count, -1)
        return data.reshape(-1, count, 32).transpose(1, 0, 2).reshape(count, -1)

    def run(g: Group) -> None:
        lanes = whole_warps(b, op, g)
        offsets = locate(g)
        words = arranged(views.load(offsets, 4, 4))
        undefined = b.batch.shared.undefined(offsets, 4, 4) if b.launch.checks.uninitialised else None
        if undefined is not None or b.batch.taint.active:
            missing = None if undefined is None else arranged(undefined.astype(np.uint32) * np.uint32(0x10001)).T != 0
            b.batch.taint.loaded(op, targets, lanes, missing)
        for row, value in zip(rows, words, strict=True):
            if lanes is None:
                row[...] = value
            elif value.size == lanes.size:
                row[lanes] = value

    return run


@instr("stmatrix =sync =aligned =m8n8 num:x1|x2|x4 ?trans ?ss:shared|shared::cta =b16", gate="warp", writes=0,
       kind="matrix-store")
def stmatrix(b: Binder, op: Op) -> Run:
    mem, source = b.need(op, 2)
    count = int(str(op.fields["num"])[1:])
    rows = rows_of(b, op, source)
    if len(rows) != count:
        raise b.error(f"{len(rows)} registers for {count} matrices", op)
    locate = _Rows(b, op, mem, count, True)
    trans = op.fields["trans"] is not None
    views = b.batch.shared.views

    items = source.items if isinstance(source, Vec) else (source,)

    def arranged(stacked: Array) -> Array:
        """Words, (registers, lanes), as rows of 16 bytes."""
        words: Any = np.ascontiguousarray(stacked.reshape(count, -1, 32).transpose(1, 0, 2))
        if trans:
            halves = words.view(np.uint16).reshape(-1, count, 8, 8)
            words = np.ascontiguousarray(halves.transpose(0, 1, 3, 2)).view(np.uint32)
        return words.reshape(-1, 4)

    def run(g: Group) -> None:
        lanes = whole_warps(b, op, g)
        offsets = locate(g)
        values = arranged(np.stack([row if lanes is None else row[lanes] for row in rows]))
        if len(values) != len(offsets):
            return
        views.store(offsets, 4, 4, values)
        undefined = b.batch.taint.undefined_in(items, lanes) if b.batch.taint.active else None
        if undefined is not None:
            missing = arranged(np.ascontiguousarray(undefined.T).astype(np.uint32) * np.uint32(0x10001))
            b.batch.shared.forget(offsets, 4, 4, missing != 0)
        b.launch.progress += 1

    return run


@instr("movmatrix =sync =aligned =m8n8 =trans =b16", gate="warp", kind="matrix-load")
def movmatrix(b: Binder, op: Op) -> Run:
    d, a = b.need(op, 2)
    target, source = rows_of(b, op, d)[0], rows_of(b, op, a)[0]

    def run(g: Group) -> None:
        lanes = whole_warps(b, op, g)
        data = np.ascontiguousarray(source if lanes is None else source[lanes]).view(np.uint16).reshape(-1, 8, 8)
        value = np.ascontiguousarray(data.transpose(0, 2, 1)).view(np.uint32).reshape(-1)
        if lanes is None:
            target[...] = value
        else:
            target[lanes] = value

    return run


def decompress(data: Array, source: str) -> Array:
    """Bytes of padded 6- or 4-bit elements, 16 to 16 bytes, as one byte each; 4-bit elements at bits 2 to 5."""
    chunks = data.reshape(-1, 16)
    if source == "b4x16_p64":
        codes: Array = np.stack([chunks[:, :8] & 15, chunks[:, :8] >> 4], axis=-1) << 2
    else:
        bits = np.unpackbits(np.ascontiguousarray(chunks[:, :12]), axis=1, bitorder="little").reshape(-1, 16, 6)
        codes = np.packbits(bits, axis=2, bitorder="little")
    return codes.astype(np.uint8).reshape(data.shape)


@instr("ldmatrix =sync =aligned =m8n16 num:x1|x2|x4 ?ss:shared|shared::cta =b8x16 src:b6x16_p32|b4x16_p64", gate="warp",
       kind="matrix-load")
def ldmatrix_packed(b: Binder, op: Op) -> Run:
    """Rows of 16 padded narrow elements, each of which becomes a byte."""
    d, mem = b.need(op, 2)
    count = int(str(op.fields["num"])[1:])
    rows = rows_of(b, op, d)
    if len(rows) != count:
        raise b.error(f"{len(rows)} registers for {count} matrices", op)
    locate = _Rows(b, op, mem, count, False)
    source, views = str(op.fields["src"]), b.batch.shared.views

    def run(g: Group) -> None:
        lanes = whole_warps(b, op, g)
        data = np.ascontiguousarray(views.load(locate(g), 8, 2)).view(np.uint8)
        words = np.ascontiguousarray(decompress(data, source)).view(np.uint32).reshape(-1, count, 32)
        for row, value in zip(rows, words.transpose(1, 0, 2).reshape(count, -1), strict=True):
            _put(row, lanes, value)

    return run


@instr("ldmatrix =sync =aligned =m16n16 num:x1|x2 =trans ?ss:shared|shared::cta =b8",
       "ldmatrix =sync =aligned =m16n16 num:x1|x2 =trans ?ss:shared|shared::cta =b8x16 src:b6x16_p32|b4x16_p64",
       gate="warp", kind="matrix-load")
def ldmatrix_bytes(b: Binder, op: Op) -> Run:
    """Byte h + 2v of register j of lane l comes from row 4 (l % 4) + h + 2j, column l / 4 + 8v of its matrix."""
    d, mem = b.need(op, 2)
    count = int(str(op.fields["num"])[1:])
    rows = rows_of(b, op, d)
    if len(rows) != 2 * count:
        raise b.error(f"{len(rows)} registers for {count} matrices", op)
    locate = _Rows(b, op, mem, 2 * count, False)
    source, views = op.fields.get("src"), b.batch.shared.views

    def run(g: Group) -> None:
        lanes = whole_warps(b, op, g)
        data = np.ascontiguousarray(views.load(locate(g), 8, 2)).view(np.uint8)
        data = decompress(data, str(source)) if source else data
        # (warp, matrix, lane % 4, j, h, v, lane / 4) to (matrix, j, warp, lane / 4, lane % 4, v, h)
        split = data.reshape(-1, count, 4, 2, 2, 2, 8).transpose(1, 3, 0, 6, 2, 5, 4)
        words = np.ascontiguousarray(split).reshape(-1, 4).view(np.uint32).reshape(2 * count, -1)
        for row, value in zip(rows, words, strict=True):
            _put(row, lanes, value)

    return run


def _put(row: Array, lanes: Array | None, value: Array) -> None:
    if lanes is None:
        row[...] = value
    elif value.size == lanes.size:
        row[lanes] = value


@instr("stmatrix =sync =aligned =m16n8 num:x1|x2|x4 =trans ?ss:shared|shared::cta =b8", gate="warp", writes=0,
       kind="matrix-store")
def stmatrix_bytes(b: Binder, op: Op) -> Run:
    """Byte h + 2v of lane l goes to row 2 (l % 4) + h, column l / 4 + 8v of its matrix."""
    mem, source = b.need(op, 2)
    count = int(str(op.fields["num"])[1:])
    rows = rows_of(b, op, source)
    if len(rows) != count:
        raise b.error(f"{len(rows)} registers for {count} matrices", op)
    locate = _Rows(b, op, mem, count, True)
    views = b.batch.shared.views

    def run(g: Group) -> None:
        lanes = whole_warps(b, op, g)
        offsets = locate(g)
        stacked = np.stack([row if lanes is None else row[lanes] for row in rows])
        # (matrix, warp, lane / 4, lane % 4, v, h) to (warp, matrix, lane % 4, h, v, lane / 4)
        split = np.ascontiguousarray(stacked).view(np.uint8).reshape(count, -1, 8, 4, 2, 2).transpose(1, 0, 3, 5, 4, 2)
        values = np.ascontiguousarray(split).reshape(-1, 16).view(np.uint64)
        if len(values) == len(offsets):
            views.store(offsets, 8, 2, values)
        b.launch.progress += 1

    return run
