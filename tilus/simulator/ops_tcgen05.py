"""tcgen05: allocation of tensor memory, its loads and stores, copies from shared memory, commits, waits and fences."""
# NumPy types the results of most functions as Any.
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

from typing import Any

import numpy as np

from tilus.simulator.isa import instr
from tilus.simulator.machine import Array, Binder, Const, Group, Mem, Op, Reg, Run, Vec
from tilus.simulator.mbarrier import barriers_of
from tilus.simulator.ops_bulk import Copier
from tilus.simulator.ops_matrix import decompress, rows_of, whole_warps
from tilus.simulator.ops_memory import address_of, part_lanes, parts_of, space_of
from tilus.simulator.ops_wgmma import chunk_addresses, umma_descriptor
from tilus.simulator.sites import Site
from tilus.simulator.taint import LOADING, UNDEFINED
from tilus.simulator.tensor_memory import Issued, tensor_memory

_CG = "cg:cta_group::1|cta_group::2"
_NUM = "num:x1|x2|x4|x8|x16|x32|x64|x128"


def value_of(b: Binder, op: Op, item: Any, lane: int, kind: str = "b32") -> int:
    """An operand of one lane as an unsigned integer."""
    row = b.src(op, item, kind)
    return int(row[lane if row.size > 1 else 0])


def tensor_address(b: Binder, op: Op, item: Any, lane: int) -> int:
    """The address in brackets of one lane: lane in the high half, column in the low one."""
    if not isinstance(item, Mem) or not isinstance(item.base, (Reg, Const)):
        raise b.error("a tensor-memory address in brackets is expected", op)
    return (value_of(b, op, item.base, lane) + item.offset) & 0xFFFFFFFF


def first_lanes(b: Binder, op: Op, g: Group) -> list[int]:
    """The first lane of each warp in the group, all of whose lanes must take part."""
    lanes = whole_warps(b, op, g)
    return list(range(0, b.lanes, 32)) if lanes is None else np.unique(lanes // 32 * 32).tolist()


@instr(f"tcgen05.alloc {_CG} =sync =aligned ?ss:shared::cta|shared =b32", gate="warp", writes=0, kind="tcgen05")
def alloc(b: Binder, op: Op) -> Run:
    dst, count = b.need(op, 2)
    address, space = address_of(b, op, dst), space_of(b, op, dst, op.fields["ss"])
    site = Site(op, "shared", True)

    def run(g: Group) -> None:
        memory = tensor_memory(b.batch)
        for first in first_lanes(b, op, g):
            mask = np.zeros(b.lanes, bool)
            mask[first] = True
            single = Group(mask, False, False)
            column = memory.allocate(int(b.batch.block_of[first]), value_of(b, op, count, first), op, first)
            for part in parts_of(b, space, address(single)):
                offsets = part.space.locate(site, b.batch, part_lanes(part, single), part.address, 4)
                part.space.views.store(offsets, 4, 1, np.array([column], np.uint32))
        b.launch.progress += 1

    return run


@instr(f"tcgen05.dealloc {_CG} =sync =aligned =b32", gate="warp", writes=0, kind="tcgen05")
def dealloc(b: Binder, op: Op) -> Run:
    address, count = b.need(op, 2)

    def run(g: Group) -> None:
        for first in first_lanes(b, op, g):
            tensor_memory(b.batch).free(int(b.batch.block_of[first]), value_of(b, op, address, first),
                                        value_of(b, op, count, first), op, first)
        b.launch.progress += 1

    return run


@instr(f"tcgen05.relinquish_alloc_permit {_CG} =sync =aligned", gate="warp", writes=0, kind="tcgen05")
def relinquish(b: Binder, op: Op) -> Run:
    def run(g: Group) -> None:
        for first in first_lanes(b, op, g):
            tensor_memory(b.batch).blocks[int(b.batch.block_of[first])].relinquished = True

    return run


# -- loads and stores

def fragment(shape: str, count: int, split: int) -> tuple[Array, Array]:
    """(lane, column) of tensor memory, relative to the address, for (lane of the warp, register)."""
    t, i = np.arange(32)[:, None], np.arange(count)[None, :]
    zero = 0 * (t + i)
    if shape == "32x32b":
        return t + zero, i + zero
    if shape == "16x32bx2":
        return t % 16 + zero, i + t // 16 * split
    if shape == "16x64b":
        return t // 4 + 8 * (t % 2) + zero, t // 2 % 2 + 2 * i
    if shape == "16x128b":
        return t // 4 + 8 * (i % 2), t % 4 + 4 * (i // 2)
    return t // 4 + 8 * (i // 2 % 2), 2 * (t % 4) + i % 2 + 8 * (i // 4)


_PER_NUMBER = {"32x32b": 1, "16x32bx2": 1, "16x64b": 1, "16x128b": 2, "16x256b": 4}


class _Transfer:
    """Where the registers of a tcgen05.ld or st lie in tensor memory."""

    def __init__(self, b: Binder, op: Op, item: Any, registers: Any, split: Any) -> None:
        self.b, self.op, self.item = b, op, item
        shape = str(op.fields["shape"])
        count = _PER_NUMBER[shape] * int(str(op.fields["num"])[1:])
        self.rows = rows_of(b, op, registers)
        if len(self.rows) != count or count > 128:
            raise b.error(f"{len(self.rows)} registers instead of {count}", op)
        if shape == "16x32bx2" and not isinstance(split, Const):
            raise b.error("the offset of the second half must be a constant", op)
        self.halves = op.fields["pack"] is not None
        self.lane_of, self.column_of = fragment(shape, count, 0)
        if self.halves:
            self.column_of = 2 * self.column_of
        if isinstance(split, Const):
            self.column_of = self.column_of + np.arange(32)[:, None] // 16 * int(split.value)
        self.tall = shape == "32x32b"

    def place(self, first: int) -> tuple[int, Array, Array]:
        """(block, lanes, columns) for the warp that begins at a lane."""
        b, op = self.b, self.op
        address = tensor_address(b, op, self.item, first)
        lane, column = address >> 16, address & 0xFFFF
        own = first // 32 % (b.batch.stride // 32) % 4 * 32
        allowed = (own,) if self.tall else (own, own + 16)
        if lane not in allowed:
            b.batch.fault("bounds", f"{op.opcode} at tensor-memory lane {lane}: this warp may access lanes {own} to "
                          f"{own + 31}", op, first)
        block = int(b.batch.block_of[first])
        return block, *tensor_memory(b.batch).locate(op, first, block, lane + self.lane_of, column + self.column_of)


_SHAPES = "shape:32x32b|16x64b|16x128b|16x256b|16x32bx2"


@instr(f"tcgen05.ld =sync =aligned {_SHAPES} {_NUM} ?pack:pack::16b =b32", gate="warp", kind="tcgen05-load")
def load(b: Binder, op: Op) -> Run:
    d, address, *split = b.need(op, 2, 3)
    transfer = _Transfer(b, op, address, d, split[0] if split else None)
    targets = d.items if isinstance(d, Vec) else (d,)
    tracking, undefinable = b.launch.checks.asynchronous, b.launch.checks.uninitialised

    def run(g: Group) -> None:
        memory = tensor_memory(b.batch)
        for first in first_lanes(b, op, g):
            block, lanes, columns = transfer.place(first)
            memory.access(op, first, block, lanes, columns, False)
            values = memory.words[block, lanes, columns]
            held = memory.missing(block, lanes, columns) if undefinable else np.zeros((32, len(targets)), bool)
            if transfer.halves:
                memory.access(op, first, block, lanes, columns + 1, False)
                high = memory.words[block, lanes, columns + 1]
                values = values & np.uint32(0xFFFF) | high << np.uint32(16)
                if undefinable:
                    held |= memory.missing(block, lanes, columns + 1)
            for i, row in enumerate(transfer.rows):
                row[first:first + 32] = values[:, i]
            if tracking or b.batch.taint.active or held.any():
                for i, target in enumerate(targets):
                    reasons = held[:, i] * np.uint8(UNDEFINED) | np.uint8(LOADING if tracking else 0)
                    b.batch.taint.put(target, np.arange(first, first + 32), reasons, op)

    return run


@instr(f"tcgen05.st =sync =aligned {_SHAPES} {_NUM} ?pack:unpack::16b =b32", gate="warp", writes=0,
       kind="tcgen05-store")
def store(b: Binder, op: Op) -> Run:
    address, *split, source = b.need(op, 2, 3)
    transfer = _Transfer(b, op, address, source, split[0] if split else None)
    items = source.items if isinstance(source, Vec) else (source,)
    regs = [item for item in items if isinstance(item, Reg)]

    def run(g: Group) -> None:
        memory = tensor_memory(b.batch)
        if b.batch.taint.active:
            b.batch.taint.report(op, regs, g.mask, "is stored", LOADING)
        for first in first_lanes(b, op, g):
            block, lanes, columns = transfer.place(first)
            values = np.stack([row[first:first + 32] for row in transfer.rows], axis=1)
            missing = b.batch.taint.undefined_in(items, np.arange(first, first + 32)) if b.batch.taint.active else None
            pieces = [(columns, values & np.uint32(0xFFFF)), (columns + 1, values >> np.uint32(16))] \
                if transfer.halves else [(columns, values)]
            for where, words in pieces:
                memory.access(op, first, block, lanes, where, True)
                memory.words[block, lanes, where] = words
                memory.storing[block, lanes // 16, where] = first // 32 + 1
                if missing is not None:
                    memory.undefined[block, lanes, where] = missing
        b.launch.progress += 1

    return run


@instr("tcgen05.wait::ld =sync =aligned", gate="warp", writes=0, kind="tcgen05-load")
def wait_load(b: Binder, op: Op) -> Run:
    def run(g: Group) -> None:
        b.batch.taint.arrived(g.mask)

    return run


@instr("tcgen05.wait::st =sync =aligned", gate="warp", writes=0, kind="tcgen05-store")
def wait_store(b: Binder, op: Op) -> Run:
    def run(g: Group) -> None:
        memory = tensor_memory(b.batch)
        for first in first_lanes(b, op, g):
            table = memory.storing[int(b.batch.block_of[first])]
            table[table == first // 32 + 1] = 0

    return run


@instr("tcgen05.fence::before_thread_sync", writes=0, kind="fence")
def fence_before(b: Binder, op: Op) -> Run:
    return lambda g: tensor_memory(b.batch).fence_before(np.unique(g.lanes() // 32))


@instr("tcgen05.fence::after_thread_sync", writes=0, kind="fence")
def fence_after(b: Binder, op: Op) -> Run:
    return lambda g: tensor_memory(b.batch).fence_after(np.unique(g.lanes() // 32))


# -- asynchronous operations of single threads

_CP_SHAPES = {"128x256b": (128, 32), "128x128b": (128, 16), "64x128b": (64, 16), "32x128b": (32, 16), "4x256b": (4, 32)}


def copy_lanes(shape: str, spread: str | None) -> list[Array]:
    """For each copy that is made, the lane of tensor memory of each row."""
    rows = np.arange(_CP_SHAPES[shape][0])
    if shape == "4x256b":
        return [32 * rows]
    if spread == "warpx2::02_13":
        return [rows, rows + 64]
    if spread == "warpx2::01_23":
        low = rows % 32 + 64 * (rows // 32)
        return [low, low + 32]
    if spread == "warpx4":
        return [rows + 32 * i for i in range(4)]
    return [rows]


@instr(f"tcgen05.cp {_CG} shape:128x256b|4x256b|128x128b ?dst:b8x16 ?src:b6x16_p32|b4x16_p64",
       f"tcgen05.cp {_CG} shape:64x128b spread:warpx2::02_13|warpx2::01_23 ?dst:b8x16 ?src:b6x16_p32|b4x16_p64",
       f"tcgen05.cp {_CG} shape:32x128b spread:warpx4 ?dst:b8x16 ?src:b6x16_p32|b4x16_p64", writes=0, kind="tcgen05")
def copy(b: Binder, op: Op) -> Run:
    address, descriptor = b.need(op, 2)
    shape, source = str(op.fields["shape"]), op.fields["src"]
    if (source is None) != (op.fields["dst"] is None):
        raise b.error("b8x16 and a source format belong together", op)
    rows, width = _CP_SHAPES[shape]
    spread = copy_lanes(shape, op.fields.get("spread"))
    pair = op.fields["cg"] == "cta_group::2"

    def run(g: Group) -> None:
        memory = tensor_memory(b.batch)
        for lane in g.lanes().tolist():
            where = tensor_address(b, op, address, lane)
            layout = umma_descriptor(value_of(b, op, descriptor, lane, "b64"))
            for block in blocks_of(b, lane, pair):
                chunks = SharedOperand(b, op, lane, block, chunk_addresses(layout, rows, width // 16))
                columns = (where & 0xFFFF) + np.arange(width // 4)[None, :]
                places = [memory.locate(op, lane, block, (where >> 16) + lanes[:, None], columns) for lanes in spread]
                regions = [(block, r + 0 * c, c + 0 * r) for r, c in places]
                for _, r, c in regions:
                    memory.access(op, lane, block, r, c, True, generic=False)

                def finish(chunks: SharedOperand = chunks, regions: list[Any] = regions) -> None:
                    data = chunks.bytes()
                    data = decompress(data, source) if source else data
                    words = np.ascontiguousarray(data.reshape(rows, width)).view(np.uint32)
                    for block, r, c in regions:
                        memory.words[block, r, c] = words

                memory.issue(Issued(lane, finish, regions, []))
        b.launch.progress += 1

    return run


def blocks_of(b: Binder, lane: int, pair: bool) -> list[int]:
    """The lane's block, or the pair of blocks of cta_group::2."""
    block = int(b.batch.block_of[lane])
    return [block & ~1, block | 1] if pair else [block]


class SharedOperand:
    """16-byte chunks of a block's shared memory that an asynchronous operation reads at some later moment."""

    def __init__(self, b: Binder, op: Op, lane: int, block: int, addresses: Array) -> None:
        self.b, self.op, self.lane = b, op, lane
        space = b.batch.shared
        self.shape = addresses.shape
        top = int(addresses.max())
        if top + 16 > space.size:
            b.batch.fault("bounds", f"a matrix descriptor reaches shared address {top}; the block has {space.size} "
                          "bytes", op, lane)
            addresses = np.zeros_like(addresses)
        self.offsets = block * space.stride + addresses.reshape(-1)
        if space.shadow is not None:
            family = ".".join(op.opcode.split(".")[:2])
            space.shadow.proxy_read(op, np.array([lane]), self.offsets, 16, family)
        self.issued = self._load() if b.launch.checks.asynchronous else None

    def _load(self) -> Array:
        return self.b.batch.shared.views.load(self.offsets, 8, 2)

    def bytes(self) -> Array:
        """The chunks now, (..., 16); a fault where they changed since the operation was issued."""
        now = self._load()
        if self.issued is not None and not np.array_equal(now, self.issued):
            self.b.batch.fault("async", "shared memory was overwritten while the tcgen05 operation that reads it was "
                               "in flight", self.op, self.lane)
        return np.ascontiguousarray(now).view(np.uint8).reshape(*self.shape, 16)


@instr(f"tcgen05.shift {_CG} =down", writes=0, kind="tcgen05")
def shift(b: Binder, op: Op) -> Run:
    """Rows 0 to 30 of 32 lanes move one lane on; 32 bytes of each."""
    address = b.need(op, 1)[0]
    pair = op.fields["cg"] == "cta_group::2"

    def run(g: Group) -> None:
        memory = tensor_memory(b.batch)
        for lane in g.lanes().tolist():
            where = tensor_address(b, op, address, lane)
            if where >> 16 & 31:
                b.batch.fault("align", f"tcgen05.shift at lane {where >> 16}, not a multiple of 32", op, lane)
            for block in blocks_of(b, lane, pair):
                rows = (where >> 16 & ~31) + np.arange(32)[:, None]
                rows, columns = memory.locate(op, lane, block, rows, (where & 0xFFFF) + np.arange(8)[None, :])
                region = (block, rows + 0 * columns, columns + 0 * rows)
                memory.access(op, lane, *region, False, generic=False)
                memory.access(op, lane, *region, True, generic=False)

                def finish(block: int = block, rows: Array = rows, columns: Array = columns) -> None:
                    memory.words[block, rows[1:], columns] = memory.words[block, rows[:-1], columns]

                memory.issue(Issued(lane, finish, [region], []))

    return run


@instr(f"tcgen05.commit {_CG} =mbarrier::arrive::one ?ss:shared::cluster ?mc:multicast::cluster =b64", writes=0,
       kind="tcgen05")
def commit(b: Binder, op: Op) -> Run:
    """All earlier mma, cp and shift of the thread, once complete, arrive at the mbarrier; commits arrive in turn."""
    mem, *rest = b.need(op, 1, 2)
    address = address_of(b, op, mem)
    c = Copier(b, op)
    multicast = op.fields["mc"] is not None
    if multicast != bool(rest):
        raise b.error("the mask of blocks belongs to .multicast::cluster", op)

    def run(g: Group) -> None:
        memory = tensor_memory(b.batch)
        for i, lane in enumerate(g.lanes().tolist()):
            target = c.shared(lane, int(address(g)[i]), 8)
            mask = value_of(b, op, rest[0], lane, "b16") if multicast else None
            for bar in c.copies(target, mask):
                c.signals(lane, bar)

                def finish(bar: int = bar, lane: int = lane, serial: int = memory.serial) -> None:
                    memory.complete(lane, serial)
                    if b.launch.shadow_hooks:
                        b.batch.order.arrive(bar, lane)
                    barriers_of(b.batch).update(bar, op, lane, arrive=1)

                b.batch.queue.issue_bulk(bar, lane, finish, in_turn=True)

    return run
