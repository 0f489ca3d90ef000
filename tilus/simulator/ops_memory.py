"""Loads, stores, prefetches and address mapping."""
# NumPy types the results of most functions as Any.
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tilus.simulator.flow import registers_of
from tilus.simulator.isa import instr
from tilus.simulator.layout import CLUSTER_SHIFT, SHARED_WINDOW, whole_address
from tilus.simulator.machine import Array, Binder, Const, Group, Mem, Op, Predicated, Reg, Run, Sink, Symbol, Vec
from tilus.simulator.memory import Part, Space, split_generic
from tilus.simulator.resolved import Resolved
from tilus.simulator.syntax import type_bits
from tilus.simulator.taint import LOADING

SPACES = "global|shared|shared::cta|shared::cluster|local|const|param|param::entry|param::func"
SCOPES = "cta|cluster|gpu|sys"
TYPES = "b8|b16|b32|b64|b128|u8|u16|u32|u64|s8|s16|s32|s64|f16|bf16|f32|f64"
_CACHE = ("?cop:ca|cg|cs|lu|cv|wb|wt ?nc ?e1:L1::evict_normal|L1::evict_unchanged|L1::evict_first|L1::evict_last|"
          "L1::no_allocate ?e2:L2::evict_normal|L2::evict_first|L2::evict_last ?hint:L2::cache_hint "
          "?pre:L2::64B|L2::128B|L2::256B")
_VEC = "?vec:v2|v4|v8"

AddressFn = Callable[[Group], Array]


def address_of(b: Binder, op: Op, mem: Resolved) -> AddressFn:
    """A function giving the int64 addresses of the active lanes."""
    if not isinstance(mem, Mem):
        raise b.error("an address in brackets is expected", op)
    offset = mem.offset
    if isinstance(mem.base, (Const, Symbol)):
        value = b.symbol_address(mem.base) if isinstance(mem.base, Symbol) else int(mem.base.value)
        fixed = np.full(b.lanes, value + offset, np.int64)
        if isinstance(mem.base, Symbol) and mem.base.space in ("shared", "dynamic"):
            fixed = b.in_cluster(fixed)
        return lambda g: fixed if g.idx is None else fixed[g.idx]
    row = b.row(mem.base)
    if mem.base.bits == 64:
        wide = row.view(np.int64)
        if offset == 0:
            return lambda g: wide if g.idx is None else wide[g.idx]
        return lambda g: (wide if g.idx is None else wide[g.idx]) + offset

    def narrow(g: Group) -> Array:
        value = (row if g.idx is None else row[g.idx]).astype(np.int64)
        return (value + offset) & 0xFFFFFFFF if offset else value

    return narrow


def space_of(b: Binder, op: Op, mem: Resolved, name: str | None) -> Space | None:
    """The space that an access names, or None for generic addresses."""
    batch = b.batch
    if name is None:
        if isinstance(mem, Mem) and isinstance(mem.base, Symbol):
            name = "shared" if mem.base.space == "dynamic" else mem.base.space
        else:
            return None
    if name.startswith("shared"):
        return batch.shared
    if name == "local":
        return batch.local
    if name.startswith("param"):
        if isinstance(mem, Mem) and isinstance(mem.base, Symbol):
            return batch.local if mem.base.space == "local" else b.launch.memory
        return None
    return b.launch.memory


def parts_of(b: Binder, space: Space | None, address: Array) -> list[Part]:
    """The access cut into the spaces it touches."""
    if space is not None:
        return [Part(space, None, address)]
    return split_generic(b.batch, address)


def part_lanes(part: Part, g: Group) -> Array | None:
    """Lane numbers of a part of an access."""
    if part.select is None:
        return g.idx
    return part.select if g.idx is None else g.idx[part.select]


def _targets(b: Binder, op: Op, item: Resolved, kind: str, count: int) -> list[Array | None]:
    items = item.items if isinstance(item, Vec) else (item,)
    if len(items) != count:
        raise b.error(f"{len(items)} registers for {count} elements", op)
    rows: list[Array | None] = []
    signed = kind[0] == "s"
    for part in items:
        if isinstance(part, Sink):
            rows.append(None)
            continue
        if not isinstance(part, Reg) or part.bits == 1:
            raise b.error("the destination is not a register", op)
        row = b.row(part)
        if part.bits < type_bits(kind):
            raise b.error(f"register {part.name!r} is too narrow", op)
        if part.bits == 128 and type_bits(kind) != 128:
            raise b.error(f"register {part.name!r} of 128 bits does not fit the type", op)
        rows.append(row.view(f"i{row.dtype.itemsize}") if signed else row)
    return rows


def count_of(op: Op) -> int:
    vec = op.fields.get("vec")
    return int(vec[1:]) if vec else 1


@instr(f"ld ?weak ?ss:{SPACES} {_CACHE} {_VEC} t:{TYPES}", f"ld =volatile ?ss:{SPACES} ?pre:L2::64B|L2::128B|L2::256B "
       f"{_VEC} t:{TYPES}", f"ld sem:relaxed|acquire scope:{SCOPES} ?ss:{SPACES} {_CACHE} {_VEC} t:{TYPES}",
       f"ld =mmio sem:relaxed =sys ?ss:{SPACES} t:{TYPES}", f"ldu ?ss:global {_VEC} t:{TYPES}", kind="load")
def ld(b: Binder, op: Op) -> Run:
    kind, count = str(op.fields["t"]), count_of(op)
    d, mem = b.need(op, 2, 3)[:2]
    space_name = op.fields.get("ss")
    space = space_of(b, op, mem, space_name)
    address = address_of(b, op, mem)
    if space_name in ("param", "param::entry", "const") and isinstance(mem, Mem) and isinstance(mem.base, Reg):
        near = address
        address = lambda g: whole_address(near(g))  # noqa: E731
    size = type_bits(kind) // 8
    rows = _targets(b, op, d, kind, count)
    if size == 16:
        return _load_128(b, op, rows, space, address)
    named = str(space_name or "")
    site = b.launch.site(op, named if named in ("param", "const") else _space_name(space), False)
    site.tracks = True
    targets = d.items if isinstance(d, Vec) else (d,)
    signed = f"i{size}" if kind[0] == "s" else f"u{size}"
    batch = b.batch
    synchronising = ".volatile" in op.opcode or op.fields.get("sem") is not None
    acquire = op.fields.get("sem") == "acquire"
    tracking = b.launch.checks.uninitialised
    wide = op.fields.get("scope") != "cta"
    total = size * count

    def run(g: Group) -> None:
        where = address(g)
        if synchronising and where.size:
            batch.poll(op, g.lanes(), where)
        for part in parts_of(b, space, where):
            lanes = part_lanes(part, g)
            offsets = part.space.locate(site, batch, lanes, part.address, total)
            undefined = part.space.undefined(offsets, size, count) if tracking else None
            if undefined is not None or batch.taint.active:
                batch.taint.loaded(op, targets, lanes, undefined)
            values = part.space.views.load(offsets, size, count).view(signed)
            for i, row in enumerate(rows):
                if row is not None:
                    column = values if count == 1 else values[:, i]
                    if lanes is None:
                        row[...] = column
                    else:
                        row[lanes] = column
            if synchronising and batch.launch.shadow_hooks:
                batch.order.synchronise(part.space.key, batch.every if lanes is None else lanes, offsets,
                                        acquire=acquire, wide=wide, writes=False)

    return run


def _space_name(space: Space | None) -> str:
    return space.name if space is not None else "generic"


def _load_128(b: Binder, op: Op, rows: list[Array | None], space: Space | None, address: AddressFn) -> Run:
    site = b.launch.site(op, _space_name(space), False)
    count = len(rows)

    def run(g: Group) -> None:
        for part in parts_of(b, space, address(g)):
            lanes = part_lanes(part, g)
            offsets = part.space.locate(site, b.batch, lanes, part.address, 16 * count)
            values = part.space.views.load(offsets, 8, 2 * count)
            for i, row in enumerate(rows):
                if row is not None:
                    row[slice(None) if lanes is None else lanes] = values[:, 2 * i:2 * i + 2]

    return run


@instr(f"st ?weak ?ss:{SPACES} {_CACHE} {_VEC} t:{TYPES}", f"st =volatile ?ss:{SPACES} {_VEC} t:{TYPES}",
       f"st sem:relaxed|release scope:{SCOPES} ?ss:{SPACES} {_CACHE} {_VEC} t:{TYPES}",
       f"st =mmio sem:relaxed =sys ?ss:{SPACES} t:{TYPES}", writes=0, kind="store")
def st(b: Binder, op: Op) -> Run:
    kind, count = str(op.fields["t"]), count_of(op)
    mem, source = b.need(op, 2, 3)[:2]
    space = space_of(b, op, mem, op.fields.get("ss"))
    address = address_of(b, op, mem)
    size = type_bits(kind) // 8
    items = source.items if isinstance(source, Vec) else (source,)
    if len(items) != count:
        raise b.error(f"{len(items)} registers for {count} elements", op)
    if size == 16:
        return _store_128(b, op, items, space, address)
    raw = {1: "b8", 2: "b16", 4: "b32", 8: "b64"}[size]
    values = [b.src(op, item, raw if not (isinstance(item, Const) and isinstance(item.value, float)) else kind,
                    loose=True).view(f"u{size}") for item in items]
    site = b.launch.site(op, _space_name(space), True)
    batch, launch = b.batch, b.launch
    sem = op.fields.get("sem")
    marked = ".volatile" in op.opcode or sem is not None
    wide = op.fields.get("scope") != "cta"
    total = size * count

    def run(g: Group) -> None:
        where = address(g)
        launch.progress += 1
        data = _collect(values, g, where.size, count)
        for part in parts_of(b, space, where):
            lanes = part_lanes(part, g)
            chosen = data if part.select is None else data[part.select]
            offsets = part.space.locate(site, batch, lanes, part.address, total, chosen)
            if marked and launch.shadow_hooks:
                batch.order.synchronise(part.space.key, batch.every if lanes is None else lanes, offsets,
                                        release=sem == "release", wide=wide, reads=False)
            part.space.views.store(offsets, size, count, chosen)
            if batch.taint.active:
                _store_undefined(b, op, part, lanes, offsets, size, items)
            if not marked and (launch.checks.global_race if part.space is launch.memory else launch.checks.race):
                _clash(b, op, part, lanes, offsets, size, count, chosen)

    return run


def _store_undefined(b: Binder, op: Op, part: Part, lanes: Array | None, offsets: Array, size: int,
                     items: tuple[Resolved, ...]) -> None:
    """Undefined values, or such as tcgen05.ld may still write, go to memory: a fault where others see it."""
    taint = b.batch.taint
    pick = b.batch.every if lanes is None else lanes
    undefined = taint.undefined_in(items, lanes)
    regs = [reg for item in items for reg in registers_of(item)]
    mask = np.zeros(b.lanes, bool)
    mask[pick] = True
    if part.space is b.launch.memory:
        taint.report(op, regs, mask, "is stored to global memory")
        return
    if undefined is not None:
        part.space.forget(offsets, size, len(items), undefined)
    taint.report(op, regs, mask, "is stored", LOADING)


def _collect(values: list[Array], g: Group, n: int, count: int) -> Array:
    if count == 1:
        value = values[0]
        if value.size == 1:
            return np.full(n, value[0])
        return value if g.idx is None else value[g.idx]
    data = np.empty((n, count), values[0].dtype)
    for i, value in enumerate(values):
        data[:, i] = value if g.idx is None or value.size == 1 else value[g.idx]
    return data


def _clash(b: Binder, op: Op, part: Part, lanes: Array | None, offsets: Array, size: int, count: int,
           data: Array) -> None:
    """Lanes of one store that write different values to one address."""
    stored = part.space.views.load(offsets, size, count)
    wrong = stored != data
    if wrong.any():
        if wrong.ndim > 1:
            wrong = wrong.any(axis=1)
        if part.space is b.batch.shared or part.space is b.launch.memory:
            wrong &= offsets >= 256 if part.space is b.launch.memory else offsets < b.batch.shared.trash
        if wrong.any():
            lane = int(np.argmax(wrong))
            b.batch.fault("race" if part.space is b.batch.shared else "global-race",
                          "threads write different values to one address in one instruction", op,
                          lane if lanes is None else int(lanes[lane]), int(part.address[lane]), int(wrong.sum()))


def _store_128(b: Binder, op: Op, items: tuple[Any, ...], space: Space | None, address: AddressFn) -> Run:
    rows = [b.src(op, item, "b128") for item in items]
    site = b.launch.site(op, _space_name(space), True)

    def run(g: Group) -> None:
        b.launch.progress += 1
        for part in parts_of(b, space, address(g)):
            lanes = part_lanes(part, g)
            offsets = part.space.locate(site, b.batch, lanes, part.address, 16 * len(rows))
            pick: Any = slice(None) if lanes is None else lanes
            part.space.views.store(offsets, 8, 2 * len(rows), np.concatenate([row[pick] for row in rows], axis=1))

    return run


@instr("st.bulk ?weak ?ss:shared::cta", writes=0, kind="store")
def st_bulk(b: Binder, op: Op) -> Run:
    """Zeros in shared memory of the thread's block; sizes and addresses are multiples of 8."""
    mem, count, value = b.need(op, 3)
    if not isinstance(value, Const) or value.value != 0:
        raise b.error("the value must be 0", op)
    space = space_of(b, op, mem, op.fields.get("ss")) or b.batch.shared
    address, size = address_of(b, op, mem), b.src(op, count, "u64", loose=True) if isinstance(count, Const) else \
        b.row(count) if isinstance(count, Reg) else None
    if size is None:
        raise b.error("the size is a register or a constant", op)
    generic = op.fields.get("ss") is None
    site = b.launch.site(op, "shared", True)

    def run(g: Group) -> None:
        first = address(g) - (SHARED_WINDOW if generic else 0)
        for lane, start in zip(g.lanes().tolist(), first.tolist(), strict=True):
            bytes_of_lane = int(size[lane if size.size > 1 else 0])
            if bytes_of_lane % 8:
                b.batch.fault("align", f"size {bytes_of_lane} is not a multiple of 8", op, lane)
            count = min(bytes_of_lane, b.launch.shared_size + 8) // 8
            at = start + 8 * np.arange(count)
            offsets = space.locate(site, b.batch, np.full(count, lane), at, 8)
            space.views.store(offsets, 8, 1, np.zeros(count, np.uint64))

    return run


def _nothing(g: Group) -> None:
    """An operation without an effect that the simulator models."""


@instr("prefetch ?ss:global|local ?tm:tensormap level:L1|L2", "prefetch =global level:L2::evict_last|L2::evict_normal",
       "prefetchu =L1", "prefetch ?ss:param|const =tensormap", "applypriority ?ss:global =L2::evict_normal",
       "discard ?ss:global =L2", "cp.async.bulk.prefetch =L2 =global ?hint:L2::cache_hint",
       "cp.async.bulk.prefetch.tensor dim:1d|2d|3d|4d|5d =L2 =global "
       "?mode:tile|tile::gather4|im2col|im2col::w|im2col::w::128 ?hint:L2::cache_hint", writes=0, kind="other")
def prefetch(b: Binder, op: Op) -> Run:
    return _nothing


@instr("createpolicy mode:fractional|range first:L2::evict_last|L2::evict_first|L2::evict_normal|L2::evict_unchanged "
       "?second:L2::evict_unchanged|L2::evict_first =b64",
       "createpolicy mode:range =global first:L2::evict_last|L2::evict_first|L2::evict_normal|L2::evict_unchanged "
       "?second:L2::evict_unchanged|L2::evict_first =b64", "createpolicy =cvt =L2 =b64", kind="other")
def createpolicy(b: Binder, op: Op) -> Predicated:
    dst = b.dst(op, op.operands[0], "b64")
    return b.alu(op, lambda x: x, dst, np.zeros(1, np.uint64))


@instr("mapa ?ss:shared::cluster t:u32|u64", kind="move")
def mapa(b: Binder, op: Op) -> Predicated:
    """The address of the same variable in another block of the cluster: the rank goes above the offset."""
    kind = str(op.fields["t"])
    d, a, c = b.need(op, 3)
    generic = op.fields["ss"] is None

    def fn(x: Array, rank: Array) -> Array:
        base = x.astype(np.uint64) - np.uint64(SHARED_WINDOW if generic else 0)
        low = base & np.uint64((1 << CLUSTER_SHIFT) - 1)
        value = low | rank.astype(np.uint64) << np.uint64(CLUSTER_SHIFT)
        return (value + np.uint64(SHARED_WINDOW if generic else 0)).astype(x.dtype)

    return b.alu(op, fn, b.dst(op, d, kind), b.src(op, a, kind), b.src(op, c, "u32"))


@instr("getctarank ?ss:shared::cluster t:u32|u64", kind="move")
def getctarank(b: Binder, op: Op) -> Predicated:
    kind = str(op.fields["t"])
    d, a = b.need(op, 2)
    generic = op.fields["ss"] is None

    def fn(x: Array) -> Array:
        base = x.astype(np.uint64) - np.uint64(SHARED_WINDOW if generic else 0)
        return (base >> np.uint64(CLUSTER_SHIFT)).astype(np.uint32)

    return b.alu(op, fn, b.dst(op, d, "u32"), b.src(op, a, kind))
