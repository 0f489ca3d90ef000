"""mbarrier operations and the cluster barrier."""
# NumPy types the results of most functions as Any.
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import numpy as np

from tilus.simulator.isa import instr
from tilus.simulator.machine import Array, Binder, Group, Op, Run, Sink
from tilus.simulator.mbarrier import barriers_of
from tilus.simulator.ops_logic import write
from tilus.simulator.ops_memory import AddressFn, address_of, part_lanes, parts_of, space_of
from tilus.simulator.sites import Site

_SS = "?ss:shared|shared::cta"
_ANY = "?ss:shared|shared::cta|shared::cluster"
_SEM = "?sem:release|relaxed|acquire ?scope:cta|cluster"


class _Place:
    """Resolves the mbarrier operand to offsets in the batch's shared memory."""

    def __init__(self, b: Binder, op: Op, position: int) -> None:
        self.b, self.op = b, op
        self.address: AddressFn = address_of(b, op, op.operands[position])
        self.space = space_of(b, op, op.operands[position], op.fields.get("ss"))
        self.site = Site(op, "shared", True, True)

    def __call__(self, g: Group) -> Array:
        offsets = self._offsets(g)
        if self.b.launch.shadow_hooks and not self.op.opcode.startswith(("mbarrier.init", "mbarrier.inval")):
            barriers = barriers_of(self.b.batch)
            for offset, lane in zip(offsets.tolist(), g.lanes().tolist(), strict=True):
                barriers.used(self.op, offset, lane)
        return offsets

    def _offsets(self, g: Group) -> Array:
        batch = self.b.batch
        where = self.address(g)
        if self.space is not None:
            return batch.shared.place(self.site, g.idx, where, 8)
        result = np.full(where.size, batch.shared.trash, np.int64)
        for part in parts_of(self.b, None, where):
            if part.space is not batch.shared:
                batch.fault("bounds", "an mbarrier must be in shared memory", self.op, int(g.lanes()[0]))
                continue
            found = batch.shared.place(self.site, part_lanes(part, g), part.address, 8)
            result[slice(None) if part.select is None else part.select] = found
        return result


def _row(b: Binder, op: Op, position: int, default: int = 1) -> Array:
    if len(op.operands) > position:
        return b.src(op, op.operands[position], "u32")
    return np.array([default], np.uint32)


def _of(row: Array, lanes: Array) -> Array:
    return np.full(lanes.size, int(row[0])) if row.size == 1 else row[lanes].astype(np.int64)


@instr(f"mbarrier.init {_SS} =b64", f"mbarrier.inval {_SS} =b64", writes=0, kind="mbarrier")
def init(b: Binder, op: Op) -> Run:
    place = _Place(b, op, 0)
    inval = "inval" in op.opcode
    count = _row(b, op, 1)
    batch = b.batch

    def run(g: Group) -> None:
        lanes = g.lanes()
        counts = _of(count, lanes)
        for offset, lane, number in zip(place(g).tolist(), lanes.tolist(), counts.tolist(), strict=True):
            if inval:
                barriers_of(batch).words[offset >> 3] = 0
                continue
            if not 1 <= number < 1 << 20:
                batch.fault("value", f"mbarrier count {number} is outside of 1 to 2^20-1", op, lane)
            barriers_of(batch).init(offset, number, lane)
        batch.launch.progress += 1

    return run


def _returns_state(op: Op) -> bool:
    from tilus.simulator.machine import Mem

    return not isinstance(op.operands[0], Mem)


@instr(f"mbarrier.arrive {_SEM} {_ANY} =b64", f"mbarrier.arrive =noComplete {_SEM} {_ANY} =b64",
       f"mbarrier.arrive_drop {_SEM} {_ANY} =b64", f"mbarrier.arrive_drop =noComplete {_SEM} {_ANY} =b64",
       f"mbarrier.arrive.expect_tx {_SEM} {_ANY} =b64", f"mbarrier.arrive_drop.expect_tx {_SEM} {_ANY} =b64",
       kind="mbarrier")
def arrive(b: Binder, op: Op) -> Run:
    state = _returns_state(op)
    place = _Place(b, op, 1 if state else 0)
    expecting, dropping = "expect_tx" in op.opcode, "arrive_drop" in op.opcode
    operand = _row(b, op, 2 if state else 1)
    dst = b.dst(op, op.operands[0], "b64") if state and not isinstance(op.operands[0], Sink) else None
    batch = b.batch

    def run(g: Group) -> None:
        lanes = g.lanes()
        amounts = _of(operand, lanes)
        words = np.zeros(lanes.size, np.uint64)
        barriers = barriers_of(batch)
        for i, (offset, lane, amount) in enumerate(zip(place(g).tolist(), lanes.tolist(), amounts.tolist(),
                                                       strict=True)):
            if batch.launch.shadow_hooks:
                batch.order.arrive(offset, lane)
            count = 1 if expecting else amount
            words[i] = barriers.update(offset, op, lane, arrive=0 if dropping else count, drop=count if dropping else 0,
                                       expect=amount if expecting else 0)
        if dst is not None:
            dst[lanes] = words

    return run


@instr(f"mbarrier.expect_tx {_SEM} {_ANY} =b64", f"mbarrier.complete_tx {_SEM} {_ANY} =b64",
       writes=0, kind="mbarrier")
def transactions(b: Binder, op: Op) -> Run:
    place = _Place(b, op, 0)
    amount = _row(b, op, 1)
    expecting = "expect_tx" in op.opcode

    def run(g: Group) -> None:
        lanes = g.lanes()
        for offset, lane, number in zip(place(g).tolist(), lanes.tolist(), _of(amount, lanes).tolist(), strict=True):
            barriers_of(b.batch).update(offset, op, lane, expect=number if expecting else 0,
                                        complete=0 if expecting else number)

    return run


@instr(f"mbarrier.test_wait ?parity {_SEM} {_SS} =b64", f"mbarrier.try_wait ?parity {_SEM} {_SS} =b64",
       kind="mbarrier")
def test_wait(b: Binder, op: Op) -> Run:
    d, _, state = b.need(op, 3, 4)[:3]
    place = _Place(b, op, 1)
    parity = ".parity" in op.opcode
    operand = b.src(op, state, "u32" if parity else "b64")
    dst = b.dst(op, d, "pred")
    batch = b.batch
    may_fail = "try_wait" in op.opcode

    def run(g: Group) -> None:
        lanes = g.lanes()
        offsets = place(g)
        batch.queue.complete_barriers(np.unique(offsets))
        words = barriers_of(batch).words[offsets >> 3]
        bad = (words & np.uint64(1 << 62)) == 0
        if bad.any():
            batch.fault("value", "wait on memory that is not an initialised mbarrier", op,
                        int(lanes[int(np.argmax(bad))]))
        phase = (words >> np.uint64(63)).astype(np.int64)
        given = np.broadcast_to(operand, (b.lanes,))[lanes]
        old = given.astype(np.int64) & 1 if parity else (given >> np.uint64(63)).astype(np.int64)
        done = phase != old
        random = batch.launch.perturb
        if may_fail and random is not None:
            done &= random.random(done.shape) < 0.9
        if not done.all():
            late = lanes[~done]
            batch.polling[late] = True
            batch.waits_for[late], batch.waits_parity[late] = offsets[~done], old[~done]
        batch.waits_for[lanes[done]] = -1
        if batch.launch.shadow_hooks and done.any():
            batch.order.wait(offsets[done], lanes[done])
        dst[lanes] = done

    return run


@instr("mbarrier.pending_count =b64", kind="mbarrier")
def pending_count(b: Binder, op: Op) -> Run:
    d, a = b.need(op, 2)
    dst, src = b.dst(op, d, "u32"), b.src(op, a, "b64")
    return lambda g: write(g, dst, (src & np.uint64((1 << 20) - 1)).astype(np.uint32))


@instr(f"cp.async.mbarrier.arrive ?noinc {_SS} =b64", writes=0, kind="mbarrier")
def cp_async_arrive(b: Binder, op: Op) -> Run:
    """The thread's earlier copies, once complete, arrive at the mbarrier."""
    place = _Place(b, op, 0)
    counted = ".noinc" not in op.opcode
    batch = b.batch

    def run(g: Group) -> None:
        lanes = g.lanes()
        offsets = place(g)
        for offset in np.unique(offsets).tolist():
            members = lanes[offsets == offset]
            if counted:
                barriers_of(batch).words[offset >> 3] += np.uint64(members.size)

            def finish(offset: int = offset, members: Array = members) -> None:
                mask = np.zeros(b.lanes, bool)
                mask[members] = True
                batch.queue.wait_all(mask)
                if batch.launch.shadow_hooks:
                    for lane in np.unique(members // 32).tolist():
                        batch.order.arrive(offset, 32 * lane)
                barriers_of(batch).update(offset, op, int(members[0]), arrive=members.size)

            batch.queue.issue_bulk(offset, int(members[0]), finish)

    return run


@instr("barrier.cluster.arrive ?sem:release|relaxed ?aligned", writes=0, kind="barrier")
def cluster_arrive(b: Binder, op: Op) -> Run:
    state = b.batch.state
    return lambda g: state["clusters"].arrive(op, g.mask)


@instr("barrier.cluster.wait ?acquire ?aligned", gate="cluster", writes=0, kind="barrier")
def cluster_wait(b: Binder, op: Op) -> Run:
    state = b.batch.state
    return lambda g: state["clusters"].acquire(g.mask)
