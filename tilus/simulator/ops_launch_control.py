"""clusterlaunchcontrol: a running cluster takes over the work of one that was not launched yet.

A response has 16 bytes: whether a cluster was cancelled, and the coordinates of its first block.
"""
# NumPy types the results of most functions as Any.
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import numpy as np

from tilus.simulator.isa import instr
from tilus.simulator.machine import Array, Binder, Group, Op, Run, Sink, Vec
from tilus.simulator.mbarrier import barriers_of
from tilus.simulator.ops_bulk import Copier
from tilus.simulator.ops_logic import write
from tilus.simulator.ops_memory import address_of

BYTES = 16


@instr("clusterlaunchcontrol.try_cancel.async ?ss:shared::cta =mbarrier::complete_tx::bytes "
       "?mc:multicast::cluster::all =b128", writes=0, kind="other")
def try_cancel(b: Binder, op: Op) -> Run:
    dst, bar = b.need(op, 2)
    to, barrier = address_of(b, op, dst), address_of(b, op, bar)
    c = Copier(b, op)
    everyone = (1 << b.launch.cluster_size) - 1 if op.fields["mc"] else None

    def run(g: Group) -> None:
        shadow = b.batch.shared.shadow
        for i, lane in enumerate(g.lanes().tolist()):
            start = int(to(g)[i])
            c.align(lane, start, BYTES, "shared address")
            offset, target = c.shared(lane, start, BYTES), c.shared(lane, int(barrier(g)[i]), 8)
            taken = b.launch.cancel_cluster()
            words = np.array([0, 0, 0, 0] if taken is None else [1, *taken], np.uint32)
            for there, signal in zip(c.copies(offset, everyone), c.copies(target, everyone), strict=True):
                c.signals(lane, signal)
                where = there + np.arange(c.room(there, BYTES) // 4) * 4
                if shadow is not None:
                    shadow.bulk_issue(op, lane, where, 4)

                def finish(where: Array = where, signal: int = signal, lane: int = lane, words: Array = words) -> None:
                    b.batch.shared.views.store(where, 4, 1, words[:where.size])
                    if shadow is not None:
                        shadow.bulk_done(op, lane, where, 4, signal)
                        shadow.proxy_written(where, 4)
                    barriers_of(b.batch).update(signal, op, lane, complete=BYTES)

                b.batch.queue.issue_bulk(signal, lane, finish)

    return run


def _words(b: Binder, op: Op, position: int) -> Array:
    """The four words of a response, (lanes, 4)."""
    return b.src(op, op.operands[position], "b128").view(np.uint32)


@instr("clusterlaunchcontrol.query_cancel =is_canceled =pred =b128", kind="other")
def is_cancelled(b: Binder, op: Op) -> Run:
    d, _ = b.need(op, 2)
    dst, words = b.dst(op, d, "pred"), _words(b, op, 1)
    return lambda g: write(g, dst, words[:, 0] != 0)


@instr("clusterlaunchcontrol.query_cancel field:get_first_ctaid =v4 =b32 =b128", kind="other")
def first_block(b: Binder, op: Op) -> Run:
    d, _ = b.need(op, 2)
    if not isinstance(d, Vec) or len(d.items) != 4:
        raise b.error("four registers are expected", op)
    targets = [(i, b.dst(op, item, "b32")) for i, item in enumerate(d.items[:3]) if not isinstance(item, Sink)]
    words = _words(b, op, 1)

    def run(g: Group) -> None:
        for axis, target in targets:
            write(g, target, words[:, 1 + axis])

    return run


@instr("clusterlaunchcontrol.query_cancel field:get_first_ctaid::x|get_first_ctaid::y|get_first_ctaid::z =b32 =b128",
       kind="other")
def first_block_axis(b: Binder, op: Op) -> Run:
    d, _ = b.need(op, 2)
    axis = "xyz".index(str(op.fields["field"])[-1])
    dst, words = b.dst(op, d, "b32"), _words(b, op, 1)
    return lambda g: write(g, dst, words[:, 1 + axis])
