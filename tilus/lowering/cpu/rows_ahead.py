"""Rows at indices that are in memory themselves, such as those of an embedding, are asked for some iterations before a
loop reads them: the processor sees no pattern in them that it could follow."""

from __future__ import annotations

from tilus.ir.builder import Builder
from tilus.ir.core import Block, Function, Module, Operation
from tilus.ir.families import DerivedView
from tilus.ir.ops import AskFor, Dot, For, Load
from tilus.ir.ops.simd import Prefetch
from tilus.ir.rewriter import is_pure
from tilus.lowering.cpu.block import BlockLowering, container_bytes, handles
from tilus.lowering.cpu.memory import make_window
from tilus.lowering.cpu.slopes import constant_of
from tilus.lowering.cpu.values import LINE_BYTES

AHEAD = 8
"""Iterations."""
LEAST_BYTES = 2 * LINE_BYTES
"""Of a row: finding where the next ones are costs as much as a line."""
MOST_LINES = 32
"""Of a tile; the processor follows longer rows by itself."""


def ask_for_rows(module: Module) -> Module:
    """The module, with such rows asked for; others are the same objects."""
    kernels = [_asking(kernel) if any(map(_asks, _loops(kernel))) else kernel for kernel in module.kernels]
    return Module(kernels, module.launch, module.level, module.form, module.target, module.attributes)


def _asking(kernel: Function) -> Function:
    kernel = kernel.clone()
    for loop in _loops(kernel):
        found = _asks(loop)
        step = constant_of(loop.step)
        if not found or step is None:
            continue
        before = Block()
        b = Builder(before, loop.span)
        ahead = b.binary("add", loop.index, b.const(AHEAD * step))
        for load, steps in found:
            mapping = {loop.index: ahead}
            for op in steps:
                copy = op.clone(mapping)
                if isinstance(copy, Load):
                    copy.in_bounds = ()  # the last rows' are beyond the loop's end
                before.ops.append(copy)
            view, *offsets = (mapping.get(v, v) for v in (load.view, *load.offsets))
            before.ops.append(AskFor(view, tuple(offsets), load.shape, span=load.span))
        loop.body.ops[:0] = before.ops
    return kernel


def _loops(kernel: Function) -> list[For]:
    """Those that multiply nothing: products see to what they read."""
    return [op for op in kernel.walk() if isinstance(op, For) and not any(isinstance(o, Dot) for o in op.body.walk())]


def _asks(loop: For) -> list[tuple[Load, list[Operation]]]:
    """The loads of a loop whose places it reads from memory, with what finds them."""
    if constant_of(loop.step) is None:
        return []
    loads = [op for op in loop.body.ops if isinstance(op, Load) and _is_worth_asking(op)]
    return [(op, steps) for op in loads if (steps := _steps(loop, op))]


def _is_worth_asking(op: Load) -> bool:
    if not op.shape or op.view.view.space != "global":
        return False
    return op.shape[-1] * container_bytes(op.view.view.dtype) >= LEAST_BYTES


def _steps(loop: For, load: Load) -> list[Operation]:
    """What finds the place of a load, in order, if something of it is read at a place that depends on the loop's
    index."""
    needed, reads = {load.view, *load.offsets}, False
    steps: list[Operation] = []
    for op in reversed(loop.body.ops[: loop.body.ops.index(load)]):
        if needed.isdisjoint(op.results):
            continue
        if not (_is_read(op) or isinstance(op, DerivedView) or is_pure(op)) or op.regions:
            return []
        reads |= _is_read(op)
        steps.append(op)
        needed.update(op.operands)
    own = {r for op in loop.body.ops for r in op.results} | set(loop.body.args[1:])
    known = {r for op in steps for r in op.results}
    if not reads or needed & own - known:
        return []
    return steps[::-1]


def _is_read(op: Operation) -> bool:
    return isinstance(op, Load) and not op.shape and op.mask is None


@handles(AskFor)
def _ask_for(self: BlockLowering, op: Operation) -> None:
    assert isinstance(op, AskFor)
    memory, c = self.views[op.view], self.c
    window = make_window(self, memory, op.offsets, op.shape)
    if memory.packed or memory.order is not None or window.strides[-1] != 1:
        return
    size = container_bytes(memory.dtype)
    lines = -(-op.shape[-1] * size // LINE_BYTES)
    rows = [window.pointer]
    for n, stride in zip(op.shape[:-1], window.strides[:-1], strict=True):
        rows = [c.offset(pointer, c.mul(stride, i)) for pointer in rows for i in range(n)][:MOST_LINES]
    for pointer in rows[:max(1, MOST_LINES // lines)]:
        for line in range(min(lines, MOST_LINES)):
            c.b.add(Prefetch(c.offset(pointer, line * (LINE_BYTES // size))))


__all__ = ["ask_for_rows"]
