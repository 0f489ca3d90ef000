"""Structured control flow, at tile and at thread level."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tilus.ir.core import Block, Operation, Value
from tilus.ir.ops.arith import Const
from tilus.ir.types import TileType, Type

if TYPE_CHECKING:
    from tilus.ir.schedule import LoopSchedule


def _types(values: Sequence[Value]) -> list[Type]:
    """The types, without layouts: those of what meets agree once layouts are assigned."""
    return [v.type.without_layout() if isinstance(v.type, TileType) else v.type for v in values]


class Yield(Operation):
    """Ends a region and gives its values."""

    NAME = "yield"
    TERMINATOR = True
    values: tuple[Value, ...] = ()


class For(Operation):
    """``for i in range(start, stop, step)`` with carried values: ``body`` takes the index and the carried values and
    yields their next ones. The step is not 0; a trip count of zero gives ``init``.

    ``stages`` asks for software pipelining of the loads (0: not asked), ``unroll`` for unrolling by that factor (0: all
    of a constant trip count), ``prefetch`` for fragments of dots to be loaded ahead or not (None: not asked).
    ``schedule`` is what has been decided. ``iterations`` says how many iterations of the loop as written one of this
    loop does.
    """

    NAME = "for"
    start: Value
    stop: Value
    step: Value
    init: tuple[Value, ...]
    body: Block
    stages: int = 0
    unroll: int = 1
    iterations: int = 1
    prefetch: bool | None = None
    schedule: LoopSchedule | None = None

    def infer(self) -> Sequence[Type]:
        return tuple(v.type for v in self.init)

    @property
    def index(self) -> Value:
        return self.body.args[0]

    @property
    def carried(self) -> list[Value]:
        return self.body.args[1:]

    def verify(self) -> None:
        if not _types(self.body.terminator.operands) == _types(self.carried) == _types(self.init):
            self.fail("E0802", "a loop's carried values change type")
        if self.unroll == 0 and not all(isinstance(v.defining, Const) for v in (self.start, self.stop, self.step)):
            self.fail("E0802", "a loop is to be unrolled whole, but its bounds are no constants")


class If(Operation):
    """Both blocks yield the results; ``condition`` is a block-uniform bool (thread-uniform at thread level). ``apart``:
    ``then`` is long and often never run, so that it may be code of its own that is compiled when it first runs; there
    are no results then."""

    NAME = "if"
    condition: Value
    then: Block
    orelse: Block
    apart: bool = False

    def infer(self) -> Sequence[Type]:
        return tuple(v.type for v in self.then.terminator.operands)

    def verify(self) -> None:
        if _types(self.orelse.terminator.operands) != _types(self.results):
            self.fail("E0802", "the branches of an if yield different types")
        if self.apart and self.results:
            self.fail("E0802", "a branch that is code of its own has no results")


class While(Operation):
    """``before`` takes the carried values and yields a bool, then ``body``, given the carried values, yields the next
    ones. The results are the carried values when the bool is false. ``before`` has no side effects."""

    NAME = "while"
    init: tuple[Value, ...]
    before: Block
    body: Block

    def infer(self) -> Sequence[Type]:
        return tuple(v.type for v in self.init)

    def verify(self) -> None:
        if _types(self.body.terminator.operands) != _types(self.init):
            self.fail("E0802", "a loop's carried values change type")


__all__ = ["For", "If", "While", "Yield"]
