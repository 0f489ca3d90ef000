"""Bulk asynchronous copies: plain, and of tensor tiles described by tensor maps."""

from __future__ import annotations

# NumPy types the results of most functions as Any.
# mypy: disable-error-code="no-any-return"
from typing import Any

import numpy as np

from tilus.simulator.isa import instr
from tilus.simulator.layout import CLUSTER_SHIFT, SHARED_WINDOW
from tilus.simulator.machine import Array, Binder, Group, Mem, Op, Run, Vec, dtype_of
from tilus.simulator.mbarrier import barriers_of
from tilus.simulator.ops_atomic import read_modify_write
from tilus.simulator.ops_memory import address_of
from tilus.simulator.sites import Site
from tilus.simulator.syntax import type_bits
from tilus.simulator.tensor_map import Descriptor

_HINT = "?hint:L2::cache_hint"
_DIMS = "dim:1d|2d|3d|4d|5d"


class Copier:
    """Helpers of the bulk copies of one instruction."""

    def __init__(self, b: Binder, op: Op) -> None:
        self.b, self.op = b, op
        self.batch, self.launch = b.batch, b.launch
        self.shared_site = Site(op, "shared", True)
        self.read_site = b.launch.site(op, "global", False)
        self.write_site = b.launch.site(op, "global", True)

    def shared(self, lane: int, address: int, count: int) -> int:
        """Offset in the batch's shared memory of an address of a lane, which may be generic or of the cluster."""
        if address >= SHARED_WINDOW:
            address -= SHARED_WINDOW
        lanes = np.array([lane])
        first = int(self.batch.shared.place(self.shared_site, lanes, np.array([address], np.int64), 1)[0])
        last = address + max(0, count - 1)
        end = int(self.batch.shared.place(self.shared_site, lanes, np.array([last], np.int64), 1)[0])
        return first if end - first == last - address else self.batch.shared.trash

    def room(self, offset: int, count: int) -> int:
        """The bytes to copy at an offset that ``shared`` gave: none where it reported a fault."""
        return 0 if offset >= self.batch.shared.trash else count

    def size(self, lane: int, count: int) -> int:
        """The bytes of a copy; 0, after a fault, where shared memory cannot hold them."""
        most = self.batch.shared.size
        if count <= most:
            return count
        self.batch.fault("bounds", f"a copy of {count} bytes; the block has {most} bytes of shared memory", self.op,
                         lane)
        return 0

    def align(self, lane: int, value: int, to: int, what: str) -> None:
        if value % to:
            self.batch.fault("align", f"{what} {value:#x} is not a multiple of {to}", self.op, lane, value)

    def signals(self, lane: int, offset: int) -> None:
        """A lane's operation will signal an mbarrier, which must have been initialised before."""
        if self.launch.shadow_hooks and offset < self.batch.shared.trash:
            barriers_of(self.batch).used(self.op, offset, lane)

    def copies(self, offset: int, mask: int | None, *, of_pair: bool = False) -> list[int]:
        """Offsets in each block that a multicast reaches, or in that of its pair which is even or odd as the own is."""
        if mask is None:
            return [offset]
        stride, size = self.batch.shared.stride, self.launch.cluster_size
        block, within = offset // stride, offset % stride
        first = block // size * size
        reached = [rank for rank in range(size) if mask >> rank & 1]
        if of_pair:
            reached = [rank & ~1 | block % 2 for rank in reached]
        return [(first + rank) * stride + within for rank in reached]


def _value(b: Binder, op: Op, item: Any, lane: int, kind: str = "u32") -> int:
    row = b.src(op, item, kind)
    return int(row[lane if row.size > 1 else 0])


def _fixed(mem: Any, g: Group, lane: int, address: Any) -> int:
    values = address(g)
    return int(values[int(np.searchsorted(g.lanes(), lane))])


@instr(
    "cp.async.bulk dst:shared::cluster|shared::cta =global =mbarrier::complete_tx::bytes "
    f"?mc:multicast::cluster {_HINT}",
    writes=0,
    kind="bulk-copy",
)
def bulk_load(b: Binder, op: Op) -> Run:
    dst, src, size, bar, *rest = op.operands
    to, source, barrier = address_of(b, op, dst), address_of(b, op, src), address_of(b, op, bar)
    c = Copier(b, op)
    multicast = op.fields["mc"] is not None

    def run(g: Group) -> None:
        for i, lane in enumerate(g.lanes().tolist()):
            count = c.size(lane, _value(b, op, size, lane))
            start, where, bar_address = int(to(g)[i]), int(source(g)[i]), int(barrier(g)[i])
            for value, what in ((start, "shared address"), (where, "global address"), (count, "size")):
                c.align(lane, value, 16, what)
            offset = c.shared(lane, start, count)
            target = c.shared(lane, bar_address, 8)
            mask = _value(b, op, rest[0], lane, "b16") if multicast else None
            pieces = np.arange(c.room(offset, count) // 16) * 16
            begins = c.launch.memory.locate(c.read_site, b.batch, np.full(pieces.size, lane), where + pieces, 16)
            for there, bar_there in zip(c.copies(offset, mask), c.copies(target, mask), strict=True):
                _issue_load(c, lane, there + pieces, begins, 16, None, bar_there, count)

    return run


@instr(f"cp.async.bulk =shared::cta =global =mbarrier::complete_tx::bytes =ignore_oob {_HINT}", writes=0,
       kind="bulk-copy")
def bulk_load_in_part(b: Binder, op: Op) -> Run:
    """Up to 15 bytes at either end are not read, may lie outside of memory, and are not written."""
    dst, src, size, left, right, bar = op.operands[:6]
    to, source, barrier = address_of(b, op, dst), address_of(b, op, src), address_of(b, op, bar)
    c = Copier(b, op)

    def run(g: Group) -> None:
        for i, lane in enumerate(g.lanes().tolist()):
            count = c.size(lane, _value(b, op, size, lane))
            start, where = int(to(g)[i]), int(source(g)[i])
            for value, what in ((start, "shared address"), (where, "global address"), (count, "size")):
                c.align(lane, value, 16, what)
            ignored = [_value(b, op, item, lane) for item in (left, right)]
            if max(ignored) > 15:
                b.batch.fault("value", f"{op.opcode}: {max(ignored)} bytes are to be ignored at one end; at most 15 "
                              "are possible", op, lane)
            offset = c.shared(lane, start, count)
            pieces = np.arange(ignored[0], c.room(offset, count) - ignored[1])
            begins = c.launch.memory.locate(c.read_site, b.batch, np.full(pieces.size, lane), where + pieces, 1)
            _issue_load(c, lane, offset + pieces, begins, 1, None, c.shared(lane, int(barrier(g)[i]), 8), count)

    return run


def _issue_load(c: Copier, lane: int, offsets: Array, sources: Array, size: int, inside: Array | None, barrier: int,
                count: int, fill: int = 0) -> None:
    shadow = c.batch.shared.shadow
    c.signals(lane, barrier)
    if shadow is not None:
        shadow.bulk_issue(c.op, lane, offsets, size)

    def finish() -> None:
        if size == 16:
            data = c.launch.memory.views.load(sources, 8, 2)
            c.batch.shared.views.store(offsets, 8, 2, data)
        else:
            data = c.launch.memory.views.load(sources, size, 1)
            if inside is not None:
                data = np.where(inside, data, data.dtype.type(fill))
            c.batch.shared.views.store(offsets, size, 1, data)
        if shadow is not None:
            shadow.bulk_done(c.op, lane, offsets, size, barrier)
            shadow.proxy_written(offsets, size)
        barriers_of(c.batch).update(barrier, c.op, lane, complete=count)

    c.batch.queue.issue_bulk(barrier, lane, finish)


@instr("cp.async.bulk =shared::cluster =shared::cta =mbarrier::complete_tx::bytes",
       "cp.reduce.async.bulk =shared::cluster =shared::cta =mbarrier::complete_tx::bytes "
       "op:add|min|max|and|or|xor|inc|dec t:u32|s32|u64|s64|b32", writes=0, kind="bulk-copy")
def bulk_between(b: Binder, op: Op) -> Run:
    dst, src, size, bar = b.need(op, 4)
    kind, operation = op.fields.get("t"), str(op.fields.get("op"))
    to, source, barrier = address_of(b, op, dst), address_of(b, op, src), address_of(b, op, bar)
    c = Copier(b, op)

    def run(g: Group) -> None:
        shadow = b.batch.shared.shadow
        for i, lane in enumerate(g.lanes().tolist()):
            count = c.size(lane, _value(b, op, size, lane))
            there, here = c.shared(lane, int(to(g)[i]), count), c.shared(lane, int(source(g)[i]), count)
            target = c.shared(lane, int(barrier(g)[i]), 8)
            c.signals(lane, target)
            for value, what in ((there, "shared address"), (here, "shared address"), (count, "size")):
                c.align(lane, value, 16, what)
            copied = min(c.room(there, count), c.room(here, count))
            if shadow is not None and copied:
                shadow.proxy_read(op, np.array([lane]), here + np.arange(0, copied, 4), 4, "cp.async.bulk")

            def finish(there: int = there, here: int = here, copied: int = copied, count: int = count,
                       target: int = target, lane: int = lane) -> None:
                if kind is not None:
                    element = type_bits(kind) // 8
                    steps = np.arange(copied // element) * element
                    values = b.batch.shared.views.load(here + steps, element, 1).view(dtype_of(kind))
                    read_modify_write(b.batch.shared, there + steps, kind, operation, [values])
                else:
                    data = b.batch.shared.views.data
                    data[there:there + copied] = data[here:here + copied]
                if shadow is not None:
                    shadow.proxy_written(there + np.arange(0, copied, 4), 4)
                barriers_of(b.batch).update(target, op, lane, complete=count)

            b.batch.queue.issue_bulk(target, lane, finish)

    return run


@instr(f"cp.async.bulk =global =shared::cta =bulk_group {_HINT} ?mask:cp_mask",
       f"cp.reduce.async.bulk =global =shared::cta =bulk_group {_HINT} op:add|min|max|and|or|xor|inc|dec ?n:noftz "
       "t:f16|bf16|f32|f64|u32|s32|u64|s64|b32|b64", writes=0, kind="bulk-copy")
def bulk_store(b: Binder, op: Op) -> Run:
    dst, src, size = op.operands[:3]
    to, source = address_of(b, op, dst), address_of(b, op, src)
    c = Copier(b, op)
    kind = op.fields.get("t")
    masked = op.fields.get("mask") is not None

    def run(g: Group) -> None:
        for i, lane in enumerate(g.lanes().tolist()):
            count = c.size(lane, _value(b, op, size, lane))
            where, start = int(to(g)[i]), int(source(g)[i])
            for value, what in ((start, "shared address"), (where, "global address"), (count, "size")):
                c.align(lane, value, 16, what)
            offset = c.shared(lane, start, count)
            step = 1 if masked else 16
            pieces = np.arange(c.room(offset, count) // step) * step
            inside = np.ones(pieces.size, bool)
            if masked:
                word = _value(b, op, op.operands[-1], lane, "b16")
                inside = (word >> pieces % 16 & 1).astype(bool)
                pieces, inside = pieces[inside], inside[inside]
            there = c.launch.memory.locate(c.write_site, b.batch, np.full(pieces.size, lane), where + pieces, step)
            _issue_store(
                c, lane, offset + pieces, there, step, inside, kind, str(op.fields.get("op"))
            )

    return run


def _issue_store(c: Copier, lane: int, offsets: Array, targets: Array, size: int, inside: Array, kind: str | None,
                 operation: str) -> None:
    shadow = c.batch.shared.shadow
    chosen = offsets[inside]       # what lies outside of the tensor is not read
    if shadow is not None and chosen.size:
        shadow.proxy_read(c.op, np.array([lane]), chosen, size, c.op.opcode)
        shadow.bulk_source(chosen, size, False)

    def finish() -> None:
        if shadow is not None and chosen.size:
            shadow.bulk_source(chosen, size, True)
        if kind is not None:
            _reduce(c, chosen, targets[inside], size, kind, operation)
        elif size == 16:
            c.launch.memory.views.store(targets[inside], 8, 2, c.batch.shared.views.load(chosen, 8, 2))
        else:
            c.launch.memory.views.store(targets[inside], size, 1, c.batch.shared.views.load(chosen, size, 1))
        c.launch.progress += 1

    c.batch.queue.issue_bulk(-1, lane, finish)


def _reduce(c: Copier, offsets: Array, targets: Array, size: int, kind: str, operation: str) -> None:
    element = type_bits(kind) // 8
    steps = np.arange(max(1, size // element)) * element
    here, there = (offsets[:, None] + steps).reshape(-1), (targets[:, None] + steps).reshape(-1)
    values = c.batch.shared.views.load(here, element, 1).view(dtype_of(kind))
    read_modify_write(c.launch.memory, there, kind, operation, [values])


@instr("cp.async.bulk.commit_group", writes=0, kind="bulk-copy")
def bulk_commit(b: Binder, op: Op) -> Run:
    queue = b.batch.queue
    return lambda g: queue.commit_bulk(g.mask)


@instr("cp.async.bulk.wait_group ?read", writes=0, kind="bulk-copy")
def bulk_wait(b: Binder, op: Op) -> Run:
    item = b.need(op, 1)[0]
    allowed = b.groups(op, item)
    queue = b.batch.queue
    return lambda g: queue.wait_bulk(g.mask, allowed)


# -- tensors

def _tiles(op: Op) -> int:
    """How many tiles one operation copies."""
    return 4 if ".tile::gather4" in op.opcode or ".tile::scatter4" in op.opcode else 1


def _map_of(b: Binder, op: Op, mem: Any, g: Group, i: int, lane: int, address: Any
            ) -> tuple[Descriptor | None, list[int]]:
    where = int(address(g)[i])
    found = b.launch.tensor_map(where)
    if found is None:
        b.batch.fault("value", f"no tensor map at {where:#x}", op, lane)
        return None, []
    coordinates = mem.extra[0].items
    values = [_value(b, op, item, lane, "s32") for item in coordinates]
    if found.im2col != (".im2col" in op.opcode):
        b.batch.fault("value", "the tensor map is not of the instruction's mode (tile or im2col)", op, lane)
        return None, []
    if _tiles(op) > 1 and (found.rank != 2 or found.box[1] != 1 or len(values) != 5):
        b.batch.fault("value", f"{op.opcode} needs a tensor of 2 dimensions, a box of one row, a column and four rows",
                      op, lane)
        return None, []
    if len(values) - _tiles(op) + 1 != found.rank or found.rank != int(str(op.fields["dim"])[0]):
        b.batch.fault("value", f"{len(values)} coordinates for a tensor of {found.rank} dimensions", op, lane)
        return None, []
    if _tiles(op) > 1 and values[0] * found.size % 16:
        b.batch.fault("value", f"{op.opcode}: column {values[0]} does not begin at a multiple of 16 bytes", op, lane)
        return None, []
    if "::scatter4" in op.opcode and min(values) < 0:
        b.batch.fault("value", f"{op.opcode}: {min(values)} is no row or column to store to", op, lane)
        return None, []
    wrong = found.misfit(values, stores=".global.shared" in op.opcode, reduces=op.opcode.startswith("cp.reduce"))
    if wrong:
        b.batch.fault("value", wrong, op, lane)
        return None, []
    return found, values


@instr(f"cp.async.bulk.tensor {_DIMS} dst:shared::cluster|shared::cta =global ?tile "
       f"=mbarrier::complete_tx::bytes ?mc:multicast::cluster ?cg:cta_group::1|cta_group::2 {_HINT}",
       f"cp.async.bulk.tensor dim:2d dst:shared::cluster|shared::cta =global =tile::gather4 "
       f"=mbarrier::complete_tx::bytes ?mc:multicast::cluster ?cg:cta_group::1|cta_group::2 {_HINT}",
       f"cp.async.bulk.tensor dim:3d|4d|5d dst:shared::cluster|shared::cta =global =im2col "
       f"=mbarrier::complete_tx::bytes ?mc:multicast::cluster ?cg:cta_group::1|cta_group::2 {_HINT}", writes=0,
       kind="tensor-copy")
def tensor_load(b: Binder, op: Op) -> Run:
    dst, src, bar, *rest = op.operands
    if not isinstance(src, Mem) or not src.extra:
        raise b.error("tensor coordinates are expected", op)
    to, source, barrier = address_of(b, op, dst), address_of(b, op, src), address_of(b, op, bar)
    c = Copier(b, op)
    multicast = op.fields["mc"] is not None
    offsets = rest.pop(0) if ".im2col" in op.opcode and rest else None
    tiles = _tiles(op)

    def run(g: Group) -> None:
        for i, lane in enumerate(g.lanes().tolist()):
            made, coordinates = _map_of(b, op, src, g, i, lane, source)
            if made is None:
                continue
            start = int(to(g)[i])
            c.align(lane, start & ((1 << CLUSTER_SHIFT) - 1), 128, "shared address")
            offset = c.shared(lane, start, tiles * made.room)
            target = c.shared(lane, int(barrier(g)[i]), 8)
            mask = _value(b, op, rest[0], lane, "b16") if multicast else None
            steps = [_value(b, op, item, lane, "b16") for item in offsets.items] if isinstance(offsets, Vec) else []
            addresses, inside = made.tile(coordinates, steps)
            sources = _sources(c, lane, addresses, inside, made.size)
            fill = {2: 0x7FFF, 4: 0x7FFFFFFF}.get(made.size, 0) if made.nan_fill else 0
            base = offset // b.batch.shared.stride * b.batch.shared.stride
            placed = made.shared_offsets(offset - base, tiles)
            if not c.room(offset, made.room):
                placed, sources, inside = placed[:0], sources[:0], inside[:0]
            signalled = c.copies(target, mask, of_pair=op.fields["cg"] == "cta_group::2")
            for there, bar_there in zip(c.copies(base, mask), signalled, strict=True):
                _issue_load(c, lane, there + placed, sources, made.size, inside, bar_there, tiles * made.box_bytes,
                            fill)

    return run


def _sources(c: Copier, lane: int, addresses: Array, inside: Array, size: int) -> Array:
    result = np.zeros(addresses.size, np.int64)
    if inside.any():
        lanes = np.full(int(inside.sum()), lane)
        counting, c.launch.counting = c.launch.counting, False
        result[inside] = c.launch.memory.locate(c.read_site, c.batch, lanes, addresses[inside], size)
        c.launch.counting = counting
        if counting:
            sectors = int(np.unique(addresses[inside] // 32).size)
            c.read_site.requests += 1
            c.read_site.units += sectors
            c.read_site.ideal += sectors
            c.read_site.bytes += int(inside.sum()) * size
    return result


@instr(f"cp.async.bulk.tensor {_DIMS} =global =shared::cta ?tile =bulk_group {_HINT}",
       f"cp.async.bulk.tensor dim:2d =global =shared::cta =tile::scatter4 =bulk_group {_HINT}",
       f"cp.async.bulk.tensor dim:3d|4d|5d =global =shared::cta =im2col_no_offs =bulk_group {_HINT}",
       f"cp.reduce.async.bulk.tensor dim:2d =global =shared::cta op:add|min|max|inc|dec|and|or|xor =tile::scatter4 "
       f"=bulk_group {_HINT}",
       f"cp.reduce.async.bulk.tensor dim:3d|4d|5d =global =shared::cta op:add|min|max|inc|dec|and|or|xor "
       f"=im2col_no_offs =bulk_group {_HINT}",
       f"cp.reduce.async.bulk.tensor {_DIMS} =global =shared::cta op:add|min|max|inc|dec|and|or|xor ?tile "
       f"=bulk_group {_HINT}",
       writes=0, kind="tensor-copy")
def tensor_store(b: Binder, op: Op) -> Run:
    dst, src = op.operands[:2]
    if not isinstance(dst, Mem) or not dst.extra:
        raise b.error("tensor coordinates are expected", op)
    to, source = address_of(b, op, dst), address_of(b, op, src)
    c = Copier(b, op)
    operation, tiles = op.fields.get("op"), _tiles(op)

    def run(g: Group) -> None:
        for i, lane in enumerate(g.lanes().tolist()):
            made, coordinates = _map_of(b, op, dst, g, i, lane, to)
            if made is None:
                continue
            start = int(source(g)[i])
            c.align(lane, start, 128, "shared address")
            offset = c.shared(lane, start, tiles * made.room)
            addresses, inside = made.tile(coordinates)
            targets = np.zeros(addresses.size, np.int64)
            lanes = np.full(int(inside.sum()), lane)
            targets[inside] = c.launch.memory.locate(c.write_site, b.batch, lanes, addresses[inside], made.size)
            base = offset // b.batch.shared.stride * b.batch.shared.stride
            kind = made.kind if operation else None
            if not c.room(offset, made.room):
                continue
            _issue_store(c, lane, base + made.shared_offsets(offset - base, tiles), targets, made.size, inside, kind,
                         str(operation))

    return run

