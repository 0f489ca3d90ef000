"""Block barriers, fences, and operations that only order or delay."""
# NumPy types the results of most functions as Any.
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import numpy as np

from tilus.simulator.barriers import BarrierOp
from tilus.simulator.isa import instr
from tilus.simulator.machine import Array, Binder, Const, Group, Op, Reg, Run
from tilus.simulator.mbarrier import barriers_of
from tilus.simulator.ops_logic import write


def _number(b: Binder, op: Op, position: int) -> Array | None:
    return b.src(op, op.operands[position], "u32") if len(op.operands) > position else None


@instr("bar ?cta =sync", "barrier ?cta =sync ?aligned", gate="bar", writes=0, kind="barrier")
def bar_sync(b: Binder, op: Op) -> Run:
    b.need(op, 1, 2)
    ident = _number(b, op, 0)
    assert ident is not None
    b.batch.barriers.ops[id(op)] = BarrierOp(ident, _number(b, op, 1), "sync", None)
    return lambda g: None


@instr("bar ?cta =arrive", "barrier ?cta =arrive ?aligned", writes=0, kind="barrier")
def bar_arrive(b: Binder, op: Op) -> Run:
    b.need(op, 2)
    ident = _number(b, op, 0)
    assert ident is not None
    state = b.batch.barriers
    state.ops[id(op)] = BarrierOp(ident, _number(b, op, 1), "arrive", None)

    def run(g: Group) -> None:
        state.arrive(op, g.mask)
        b.batch.release()

    return run


@instr("bar ?cta =red op:popc =u32", "bar ?cta =red op:and|or =pred", "barrier ?cta =red op:popc ?aligned =u32",
       "barrier ?cta =red op:and|or ?aligned =pred", gate="bar", kind="barrier")
def bar_red(b: Binder, op: Op) -> Run:
    items = b.need(op, 3, 4)
    mode = str(op.fields["op"])
    last = items[-1]
    ident = _number(b, op, 1)
    assert ident is not None
    count = b.src(op, items[2], "u32") if len(items) == 4 else None
    if isinstance(last, Reg) and last.bits == 1:
        votes = b.row(last)
    elif isinstance(last, Const):
        votes = np.full(b.lanes, bool(last.value))
    else:
        raise b.error("a predicate is expected", op)
    negated = isinstance(last, Reg) and last.negated
    state = b.batch.barriers
    state.ops[id(op)] = BarrierOp(ident, count, mode, _Negated(votes) if negated else votes)  # type: ignore[arg-type]
    dst = b.dst(op, items[0], "u32" if mode == "popc" else "pred")

    def run(g: Group) -> None:
        write(g, dst, state.results.astype(dst.dtype))

    return run


class _Negated:
    """A predicate row read through a ``!`` at the time of use."""

    def __init__(self, row: Array) -> None:
        self.row = row

    def __array__(self, dtype: object = None, copy: object = None) -> Array:
        return ~self.row


_SCOPE = "cta|cluster|gpu|sys"


@instr(f"membar level:cta|gl|sys|{_SCOPE}", f"fence ?sem:sc|acq_rel|acquire|release scope:{_SCOPE}",
       "fence.proxy kind:alias", "membar.proxy kind:alias",
       "fence sem:acquire|release =sync_restrict::shared::cluster =cluster", writes=0, kind="fence")
def fence(b: Binder, op: Op) -> Run:
    batch = b.batch
    wide = (op.fields.get("scope") or op.fields.get("level")) != "cta"

    def run(g: Group) -> None:
        if batch.launch.shadow_hooks:
            batch.order.fence(g.lanes(), wide)

    return run


@instr("fence =mbarrier_init =release =cluster", writes=0, kind="fence")
def fence_mbarrier_init(b: Binder, op: Op) -> Run:
    """What the thread has initialised is ready behind the cluster barrier, a relaxed arrival included."""
    batch = b.batch

    def run(g: Group) -> None:
        if batch.launch.shadow_hooks:
            batch.order.fence(g.lanes(), True)
            barriers_of(batch).fence(g.mask)

    return run


@instr("fence.proxy =async ?ss:global|shared::cta|shared::cluster",
       "membar.proxy =async",
       "fence.proxy =tensormap::generic sem:release|acquire scope:cta|cluster|gpu|sys",
       "fence.proxy =async::generic sem:acquire|release =sync_restrict::shared::cluster =cluster",
       "fence.proxy =async::generic sem:acquire|release =sync_restrict::shared::cta =cluster", writes=0, kind="fence")
def fence_proxy(b: Binder, op: Op) -> Run:
    batch = b.batch

    def run(g: Group) -> None:
        if batch.shared.shadow is not None:
            batch.shared.shadow.proxy_fence(g.mask)

    return run


@instr(
    "nanosleep t:u32",
    "griddepcontrol action:launch_dependents|wait",
    "setmaxnreg action:inc|dec =sync =aligned =u32",
    "pmevent ?mask",
    "brkpt",
    writes=0,
    kind="other",
)
def nothing(b: Binder, op: Op) -> Run:
    if op.opcode.startswith("nanosleep"):
        polling = b.batch.polling

        def sleep(g: Group) -> None:
            polling[g.lanes()] = True

        return sleep
    return lambda g: None
