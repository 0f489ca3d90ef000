"""Blocks of a kernel taken together: a second version of it, whose blocks do what neighbours do.

A block of a few short vectors is a chain of operations each of which waits for the one before, and begins with
constants, windows and loops of its own. Where a block does what some of its neighbours do, the operations of all of
them stand side by side, and what is one number for a block is a vector along them. Elements are computed as in the
first version. The launch decides between the two (``launch.py``): the second one is for short rows.

Where blocks reduce columns, each reads a strip of an array: pieces of rows, one below the other. Those of neighbours
are longer pieces, which memory gives faster.
"""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Any

from tilus.ir.builder import Builder
from tilus.ir.core import Block, Function, Operation, Value
from tilus.ir.ops import (
    Broadcast,
    DeviceAssert,
    For,
    GridIndex,
    If,
    Iota,
    Load,
    Reduce,
    Store,
    Yield,
)
from tilus.ir.rewriter import erase_dead
from tilus.ir.types import ViewType
from tilus.lowering.cpu.block import container_bytes
from tilus.lowering.cpu.nest import SHORT
from tilus.lowering.cpu.prefetching import PAGE_BYTES
from tilus.lowering.cpu.slopes import loop_slopes
from tilus.lowering.cpu.values import Machine
from tilus.lowering.cpu.wide_plan import Plan, Refused, argument_of
from tilus.records import record

ROWS = 32
"""The extent of longer tiles along the dimension of neighbours, at most."""
STRIP_BYTES, LONG_STRIP_BYTES = 2048, PAGE_BYTES
"""How long pieces of rows become of which a block reads one below the other; the longer ones are pages, which are not
asked for."""
MOST_ROWS = 64
"""Of a tile of such pieces."""
SUFFIX = "_together"


@record
class WideKernel:
    """A kernel's second version, a block of which does what ``blocks`` of the first one do. It is for launches where
    each loop of ``once`` (of the first version) has one iteration, and no extent of ``short``, of arrays of the first
    version along a dimension, is above SHORT. ``strips``: whether it is for strips of arrays, of any extents."""

    kernel: Function
    blocks: int
    once: list[For]
    short: list[tuple[Value, int]]
    strips: bool = False


def strip_bytes(machine: Machine) -> int:
    """How long pieces of rows become."""
    return LONG_STRIP_BYTES if machine.streams else STRIP_BYTES


def take_together(kernel: Function, strip: int = STRIP_BYTES) -> WideKernel | None:
    """The second version of a kernel, where there is one; ``strip``: how long pieces of rows become, in bytes."""
    if kernel.attributes.cooperative or kernel.attributes.grid_rank != 1:
        return None
    for version in (_of_short_rows, functools.partial(_of_strips, strip=strip)):
        try:
            return version(kernel)
        except Refused:
            pass
    return None


def _of_short_rows(kernel: Function) -> WideKernel:
    plan = Plan(kernel)
    extent = max((v.tile.shape[d] for v, d in plan.wide.items()), default=ROWS)
    if extent > ROWS // 2:
        raise Refused("blocks do much")
    short = _short(plan)
    return WideKernel(_Writer(plan, ROWS // extent).run(), ROWS // extent, plan.once, short)


def _of_strips(kernel: Function, strip: int) -> WideKernel:
    loops = [op for op in kernel.body.ops if isinstance(op, For)]
    if not any(isinstance(op, Reduce) for loop in loops for op in loop.body.ops):
        raise Refused("no loop reduces what it reads")
    plan = Plan(kernel, walk=True)
    pieces = [_piece(plan, loop, op) for loop in loops for op in loop.body.ops if isinstance(op, Load)]
    blocks = strip // (max(pieces, default=0) or strip)
    most = MOST_ROWS * strip
    if blocks < 2 or any(blocks * v.tile.size * container_bytes(v.tile.dtype) > most for v in plan.wide):
        raise Refused("rows are read in long pieces")
    return WideKernel(_Writer(plan, blocks).run(), blocks, [], [], strips=True)


def _piece(plan: Plan, loop: For, op: Load) -> int:
    """Bytes of the pieces of rows that a loop reads one below the other; 0 where blocks read the same."""
    d = plan.dim_of_access(op.offsets, op.shape)
    if d is None:
        return 0
    if d != len(op.shape) - 1 or not any(loop_slopes(loop).of(o) for o in op.offsets[:d]):
        raise Refused("what a loop reads is no strip")
    return op.shape[d] * container_bytes(op.view.view.dtype)


def _short(plan: Plan) -> list[tuple[Value, int]]:
    """The extents of arrays that have to be short, so that rows of tiles are."""
    found: dict[tuple[Value, int], None] = {}
    for op in plan.kernel.walk():
        if not isinstance(op, (Load, Store)):
            continue
        shape = op.shape if isinstance(op, Load) else op.value.tile.shape
        along, elements = plan.dim_of_access(op.offsets, shape), 1
        for d, n in enumerate(shape):
            if d != along:
                elements *= min(n, SHORT)
                if n > SHORT:
                    found[_argument(plan, op.view, d)] = None
        if elements > SHORT:
            raise Refused("rows are long")
    return [(view, d) for view, d in found if view.view.shape[d] is None]


def _argument(plan: Plan, view: Value, d: int) -> tuple[Value, int]:
    """The argument that a view is of, with its dimension."""
    view, d = argument_of(view, d)
    if view not in plan.kernel.body.args or not isinstance(view.type, ViewType):
        raise Refused("a launch does not know how long rows are")
    known = view.type.shape[d]
    if known is not None and known > SHORT:
        raise Refused("rows are long")
    return view, d


class _Writer:
    """Writes the second version: of what each operation gives the values that are needed."""

    def __init__(self, plan: Plan, blocks: int) -> None:
        self.plan, self.blocks = plan, blocks
        self.first: dict[Value, Value] = {}
        self.longer: dict[Value, Value] = {}
        self.b = Builder(Block())

    def run(self) -> Function:
        kernel = self.plan.kernel
        body = Block([a.type for a in kernel.body.args], [a.name for a in kernel.body.args])
        self.first.update(zip(kernel.body.args, body.args, strict=True))
        self.b = Builder(body, kernel.span)
        self.block(kernel.body)
        self.b.add(Yield(()))
        wide = Function(kernel.name + SUFFIX, body, kernel.parameters, replace(kernel.attributes), kernel.span)
        erase_dead(wide)
        return wide

    def block(self, block: Block) -> None:
        for op in block.ops:
            if not isinstance(op, Yield):
                self.op(op)

    def op(self, op: Operation) -> None:
        if isinstance(op, For):
            self.loop(op)
        elif isinstance(op, If):
            self.branch(op)
        elif isinstance(op, GridIndex):
            self.first[op.result] = self.b.binary("mul", self.b.add(GridIndex(op.axis, span=op.span)).result,
                                                  self.b.const(self.blocks))
        elif isinstance(op, Store):
            mask = None if op.mask is None else self.longer[op.mask]
            self.b.add(Store(self.first[op.view], tuple(self.first[o] for o in op.offsets), self.longer[op.value], mask,
                             op.in_bounds, span=op.span))
        else:
            if isinstance(op, DeviceAssert) or any(r in self.plan.narrow for r in op.results):
                self.b.add(op.clone(self.first))
            for result in op.results:
                if result in self.plan.wide and result not in self.longer:
                    self.write_longer(op, result)

    # Longer tiles.

    def write_longer(self, op: Operation, result: Value) -> None:
        plan, d = self.plan, self.plan.wide[result]
        ramp = plan.ramp_of(op)
        if plan.is_repeated(result):
            self.repeat(result)
        elif ramp is not None and result.tile.shape[d] == 1:
            self.longer[result] = self.ramp(op, ramp, d)
        else:
            copy = self.b.add(self.remade(op, d))
            self.longer.update(zip(op.results, copy.results, strict=True))

    def repeat(self, value: Value) -> None:
        """A row that is the same for all blocks, for each of them."""
        shape = self.shape(value.tile.shape, self.plan.wide[value])
        self.longer[value] = self.b.add(Broadcast(self.first[value], shape)).result

    def ramp(self, op: Operation, slope: int, d: int) -> Value:
        """A scalar of the first block, and those of the others, which grow by ``slope``."""
        x = op.operands[0]
        shape, dtype = self.shape(op.result.tile.shape, d), x.tile.dtype
        numbers = self.b.add(Iota(shape, d, dtype)).result
        further = self.b.binary("mul", numbers, self.b.const(slope, dtype, shape))
        return self.b.binary("add", self.b.add(Broadcast(self.first[x], shape)).result, further)

    def remade(self, op: Operation, d: int) -> Operation:
        """The same operation of longer tiles."""
        fields: dict[str, Any] = dict(op.attributes)
        for name in ("shape", "sizes"):
            if name in fields:
                fields[name] = self.shape(fields[name], d)
        if isinstance(op, Load):
            fields["layout"] = None

        def of(operand: Value) -> Value:
            known = self.first if self.plan.dim_of_operand(op, operand, d) is None else self.longer
            return known[operand]

        for name, _ in op.OPERAND_FIELDS:
            value = getattr(op, name)
            fields[name] = tuple(map(of, value)) if isinstance(value, tuple) else None if value is None else of(value)
        for name, region in op.named_regions():
            fields[name] = region.clone(self.first)
        return type(op)(span=op.span, **fields)

    def shape(self, shape: tuple[int, ...], d: int) -> tuple[int, ...]:
        return (*shape[:d], shape[d] * self.blocks, *shape[d + 1 :])

    # Control flow: the values that go around a loop or out of a branch are of the first block, or longer ones.

    def places(self, op: For | If) -> list[tuple[int, dict[Value, Value]]]:
        """Which of the results there are, and where their values are known."""
        found: list[tuple[int, dict[Value, Value]]] = []
        for i, result in enumerate(op.results):
            if result in self.plan.narrow and result in self.plan.wide and not self.plan.is_repeated(result):
                raise Refused("a tile is needed of one block and of all")
            if result in self.plan.narrow:
                found.append((i, self.first))
            elif result in self.plan.wide:
                found.append((i, self.longer))
        return found

    def define(self, value: Value, new: Value, known: dict[Value, Value]) -> None:
        known[value] = new
        if known is self.first and value in self.plan.wide:
            self.repeat(value)

    def loop(self, op: For) -> None:
        places = self.places(op)
        init = [known[op.init[i]] for i, known in places]
        if op in self.plan.once:
            self.first[op.index] = self.first[op.start]
            for value, (i, known) in zip(init, places, strict=True):
                self.define(op.carried[i], value, known)
            self.block(op.body)
            results = self.yielded(op.body, places)
        else:
            body = Block([op.index.type, *(v.type for v in init)], [op.index.name])
            self.first[op.index] = body.args[0]
            outer, self.b = self.b, self.b.at(body)
            for value, (i, known) in zip(body.args[1:], places, strict=True):
                self.define(op.carried[i], value, known)
            self.block(op.body)
            self.b.add(Yield(tuple(self.yielded(op.body, places))))
            self.b = outer
            start, stop, step = (self.first[v] for v in (op.start, op.stop, op.step))
            results = list(self.b.add(For(start, stop, step, tuple(init), body, span=op.span)).results)
        for value, (i, known) in zip(results, places, strict=True):
            self.define(op.results[i], value, known)

    def yielded(self, block: Block, places: list[tuple[int, dict[Value, Value]]]) -> list[Value]:
        return [known[block.terminator.operands[i]] for i, known in places]

    def branch(self, op: If) -> None:
        places = self.places(op)
        regions: list[Block] = []
        for region in op.regions:
            outer, self.b = self.b, self.b.at(Block())
            self.block(region)
            self.b.add(Yield(tuple(self.yielded(region, places))))
            regions.append(self.b.block)
            self.b = outer
        copy = self.b.add(If(self.first[op.condition], *regions, span=op.span))
        for value, (i, known) in zip(copy.results, places, strict=True):
            self.define(op.results[i], value, known)


__all__ = ["STRIP_BYTES", "SUFFIX", "WideKernel", "strip_bytes", "take_together"]
