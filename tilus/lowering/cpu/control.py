"""Branches and loops."""

from __future__ import annotations

from collections.abc import Callable

from tilus.ir.core import Block, Operation, Value
from tilus.ir.ops import For, If, While, Yield
from tilus.lowering.cpu.block import BlockLowering, handles
from tilus.lowering.cpu.carried import carried_homes, carry, copy_into, finish_loop
from tilus.lowering.cpu.contraction import try_contraction
from tilus.lowering.cpu.long_reductions import try_reductions
from tilus.lowering.cpu.packed_before import pack_before
from tilus.lowering.cpu.values import Buffer

SHORT_LOOP = 256
"""Iterations of a loop that does not look at the ticker, at most."""


@handles(If)
def _if(self: BlockLowering, op: Operation) -> None:
    assert isinstance(op, If)
    homes: dict[int, Buffer] = {
        i: self.allocate(r.tile.dtype, r.tile.shape) for i, r in enumerate(op.results) if not r.tile.is_scalar
    }

    def branch(block: Block) -> Callable[[], list[Value]]:
        def lower() -> list[Value]:
            top = self.frame_top
            with self.keeping_tiles():
                yielded = self.lower_block(block)
                for i, home in homes.items():
                    copy_into(self, yielded[i], home)
            self.frame_top = top
            return [self.scalars[v] for i, v in enumerate(yielded) if i not in homes]

        return lower

    results = iter(self.c.branch(self.scalars[op.condition], branch(op.then), branch(op.orelse)))
    for i, result in enumerate(op.results):
        if i in homes:
            self.reps[result] = homes[i]
        else:
            self.scalars[result] = next(results)


def _is_short(self: BlockLowering, op: For) -> bool:
    """Whether a loop ends soon, so that it is enough if what is around it looks at the ticker."""
    start, stop, step = (self.facts.of(v) for v in (op.start, op.stop, op.step))
    return stop.high - start.low <= SHORT_LOOP * max(1, step.low) and step.low > 0 and \
        not any(inner.regions and not isinstance(inner, If) for inner in op.body.walk())


@handles(For)
def _for(self: BlockLowering, op: Operation) -> None:
    assert isinstance(op, For)
    if try_contraction(self, op) or try_reductions(self, op):
        return
    homes = carried_homes(self, op.init)
    end = self.frame_top
    pack_before(self, op.body)
    scalars = [i for i in range(len(op.init)) if i not in homes]
    start, stop, step = (self.scalars[v] for v in (op.start, op.stop, op.step))

    def body(index: Value, carried: list[Value]) -> list[Value]:
        top = self.frame_top
        if not _is_short(self, op):
            self.pause_if_due()
        self.scalars[op.index] = index
        for i, value in zip(scalars, carried, strict=True):
            self.scalars[op.carried[i]] = value
        for i, home in homes.items():
            self.reps[op.carried[i]] = home
        with self.keeping_tiles():
            yielded = self.lower_block(op.body)
            carry(self, yielded, homes)
        self.frame_top = top
        return [self.scalars[yielded[i]] for i in scalars]

    init = [self.scalars[op.init[i]] for i in scalars]
    block = Block([start.type, *(v.type for v in init)])
    outer = self.c.enter(block)
    values = body(block.args[0], list(block.args[1:]))
    self.c.b.add(Yield(tuple(values)))
    self.c.leave(outer)
    loop = self.c.b.add(For(start, stop, step, tuple(init), block))
    self.frame_top = end
    finish_loop(self, op, homes, loop.results)


@handles(While)
def _while(self: BlockLowering, op: Operation) -> None:
    assert isinstance(op, While)
    homes = carried_homes(self, op.init)
    end = self.frame_top
    pack_before(self, op.body)
    scalars = [i for i in range(len(op.init)) if i not in homes]
    init = [self.scalars[op.init[i]] for i in scalars]

    def region(source: Block, after: bool) -> Block:
        block = Block([v.type for v in init])
        outer = self.c.enter(block)
        top = self.frame_top
        if after:
            self.pause_if_due()
        for i, value in zip(scalars, block.args, strict=True):
            self.scalars[source.args[i]] = value
        for i, home in homes.items():
            self.reps[source.args[i]] = home
        with self.keeping_tiles():
            yielded = self.lower_block(source)
            if after:
                carry(self, yielded, homes)
        if after:
            self.c.b.add(Yield(tuple(self.scalars[yielded[i]] for i in scalars)))
        else:
            self.c.b.add(Yield((self.scalars[yielded[0]],)))
        self.frame_top = top
        self.c.leave(outer)
        return block

    before = region(op.before, False)
    after = region(op.body, True)
    loop = self.c.b.add(While(tuple(init), before, after))
    self.frame_top = end
    finish_loop(self, op, homes, loop.results)
