"""cp.async and its commit groups."""
# NumPy types the results of most functions as Any.
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import numpy as np

from tilus.simulator import counters
from tilus.simulator.isa import instr
from tilus.simulator.machine import Array, Binder, Const, Group, Op, Reg, Run
from tilus.simulator.ops_memory import address_of
from tilus.simulator.sites import Site


@instr("cp.async cop:ca|cg dst:shared|shared::cta =global ?hint:L2::cache_hint ?pre:L2::64B|L2::128B|L2::256B",
       writes=0, kind="async-copy")
def cp_async(b: Binder, op: Op) -> Run:
    items = b.need(op, 3, 4, 5)
    to, source = address_of(b, op, items[0]), address_of(b, op, items[1])
    if not isinstance(items[2], Const):
        raise b.error("the copy size must be a constant", op)
    size = int(items[2].value)
    if size not in (4, 8, 16) or (op.fields["cop"] == "cg" and size != 16):
        raise b.error(f"a copy of {size} bytes is not allowed", op)
    count, ignore = _source_size(b, op, items, size)
    batch, launch = b.batch, b.launch
    load_site = launch.site(op, "global", False)
    store_site = launch.site(op, "shared", True)

    def run(g: Group) -> None:
        lanes = g.lanes()
        there = batch.shared.place(store_site, g.idx, to(g), size)
        if launch.counting:
            store_site.count(*counters.count_shared(batch.warps, g.idx, there - batch.shared.base[lanes], size),
                             there.size * size)
        where = source(g)
        wanted = _wanted(b, op, count, ignore, lanes, size)
        taken = np.flatnonzero(wanted)
        offsets = np.zeros(where.size, np.int64)
        if taken.size and (count is None or (wanted[taken] == size).all()):
            everything = taken.size == where.size
            offsets[taken] = launch.memory.locate(load_site, batch, g.idx if everything else lanes[taken],
                                                  where[taken], size)
        elif taken.size:
            for some in np.unique(wanted[taken]).tolist():
                chosen = np.flatnonzero(wanted == some)
                offsets[chosen] = _beginning(b, load_site, lanes[chosen], where[chosen], some, size)
        shadow = batch.shared.shadow
        if shadow is not None:
            shadow.async_issue(op, lanes, there, size)

        def finish(chosen: Array) -> None:
            picked = slice(None) if chosen.all() else chosen
            data = launch.memory.views.load(offsets[picked], size // 4, 4)
            limit = wanted[picked]
            if (limit != size).any():
                data = data.view(np.uint8).reshape(-1, size).copy()
                data[np.arange(size) >= limit[:, None]] = 0
                data = data.view(f"u{size // 4}")
            batch.shared.views.store(there[picked], size // 4, 4, data)
            if shadow is not None:
                shadow.async_done(op, lanes[picked], there[picked], size)

        batch.queue.issue(lanes, finish)

    return run


def _beginning(b: Binder, site: Site, lanes: Array, address: Array, count: int, size: int) -> Array:
    """Where the first ``count`` bytes of copies of ``size`` are, at addresses that are multiples of that; no more than
    those are read."""
    memory, batch = b.launch.memory, b.batch
    widest = 1 << count.bit_length() - 1
    offsets = memory.locate(site, batch, lanes, address, widest)
    if widest != count:
        memory.locate(site, batch, lanes, address + (count - 1), 1)
    return memory.aligned(site, batch, lanes, address, offsets, size)


def _source_size(b: Binder, op: Op, items: tuple[object, ...], size: int) -> tuple[Array | None, Array | None]:
    """The optional source size (bytes) or predicate that makes the copy write zeros."""
    has_hint = op.fields["hint"] is not None
    extra = items[3:len(items) - 1] if has_hint else items[3:]
    if not extra:
        return None, None
    item = extra[0]
    if isinstance(item, Reg) and item.bits == 1:
        return None, b.row(item)
    return b.src(op, item, "u32"), None  # type: ignore[arg-type]


def _wanted(b: Binder, op: Op, count: Array | None, ignore: Array | None, lanes: Array, size: int) -> Array:
    if ignore is not None:
        return np.where(ignore[lanes], 0, size)
    if count is None:
        return np.full(lanes.size, size)
    wanted = np.broadcast_to(count, (b.lanes,))[lanes].astype(np.int64)
    if (wanted > size).any():
        b.batch.fault("value", "the source size of cp.async exceeds the copy size", op,
                      int(lanes[int(np.argmax(wanted > size))]))
    return np.minimum(wanted, size)


@instr("cp.async =commit_group", writes=0, kind="async-copy")
def commit_group(b: Binder, op: Op) -> Run:
    queue = b.batch.queue
    return lambda g: queue.commit(g.mask)


@instr("cp.async =wait_group", "cp.async =wait_all", writes=0, kind="async-copy")
def wait_group(b: Binder, op: Op) -> Run:
    queue = b.batch.queue
    if op.opcode.endswith("all"):
        return lambda g: queue.wait_all(g.mask)
    item = b.need(op, 1)[0]
    allowed = b.groups(op, item)
    return lambda g: queue.wait(g.mask, allowed)
