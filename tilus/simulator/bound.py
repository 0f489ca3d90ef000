"""Segments of the program with their steps bound to a batch, and the states of lanes between them."""
# NumPy types the results of most functions as Any.
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

from tilus.simulator.flow import Segment
from tilus.simulator.machine import Array, Binder, Run
from tilus.simulator.resolved import Op, Reg

READY, WARP_WAIT, BARRIER_WAIT, CLUSTER_WAIT, DONE = range(5)


class Bound:
    """A segment with its steps bound to a batch."""

    __slots__ = (
        "_taint",
        "_tracked",
        "condition",
        "executed",
        "gate",
        "gate_op",
        "index",
        "kind",
        "negated",
        "next",
        "op_count",
        "order",
        "segment",
        "steps",
        "target",
        "targets",
    )

    def __init__(self, segment: Segment, binder: Binder, orders: list[int]) -> None:
        self.segment = segment
        self.order = segment.order
        self.gate = segment.gate
        self.gate_op: Op | None = segment.ops[0] if segment.gate else None
        self.steps: list[Run] = [binder.step(op) for op in segment.ops]
        self._tracked: list[Run] | None = None
        self._taint = binder.batch.taint
        self.op_count = len(segment.ops) + (1 if segment.end is not None else 0)
        self.executed = 0
        end = segment.end
        self.kind = "fall" if end is None else end.opcode
        self.condition: Array | None = None
        self.negated = False
        self.index: Array | None = None
        self.targets = tuple([orders[t] for t in segment.targets])
        self.target = self.targets[0] if self.targets else -1
        self.next = orders[segment.next] if segment.next < len(orders) else -1
        if end is not None:
            if end.predicate is not None:
                self.condition = binder.row(end.predicate)
                self.negated = end.predicate.negated
            if end.opcode == "brx":
                item = end.operands[0]
                assert isinstance(item, Reg)
                self.index = binder.src(end, item, "u32")

    @property
    def tracked(self) -> list[Run]:
        """The steps with the bookkeeping of undefined values, made where they are first needed."""
        if self._tracked is None:
            self._tracked = [self._taint.track(op, step) for op, step in zip(self.segment.ops, self.steps, strict=True)]
        return self._tracked
