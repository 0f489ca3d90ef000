"""``malloc`` and ``free`` of device code, on the heap of the launch."""
# NumPy types the results of most functions as Any.
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import numpy as np

from tilus.simulator.isa import instr
from tilus.simulator.machine import Binder, Group, Op, Run
from tilus.simulator.ops_calls import call_argument
from tilus.simulator.resolved import Symbol


@instr("call.malloc", writes=0, kind="call")
def malloc(b: Binder, op: Op) -> Run:
    result, size = b.need(op, 2)
    if op.data != 1 or not isinstance(result, Symbol):
        raise b.error("malloc takes a size and returns a pointer", op)
    offset = result.address

    def run(g: Group) -> None:
        local = b.batch.local
        for lane in g.lanes().tolist():
            pointer = b.launch.heap.allocate(call_argument(b, op, size, lane, 8))
            where = np.array([int(local.base[lane]) + offset])
            local.views.store(where, 8, 1, np.array([pointer], np.uint64))
            if local.written is not None:
                local.written[where[0]:where[0] + 8] = True

    return run


@instr("call.free", writes=0, kind="call")
def free(b: Binder, op: Op) -> Run:
    if op.data != 0 or len(op.operands) != 1:
        raise b.error("free takes a pointer", op)

    def run(g: Group) -> None:
        for lane in g.lanes().tolist():
            pointer = call_argument(b, op, op.operands[0], lane, 8)
            if pointer and not b.launch.heap.release(pointer):
                b.batch.fault("value", f"free of {pointer:#x}, which malloc did not return or which is free already",
                              op, lane, pointer)

    return run
