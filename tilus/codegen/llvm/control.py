"""Structured control flow as basic blocks with phis, for both emitters of LLVM IR."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar

from tilus.codegen.llvm.text import Emitter
from tilus.ir.core import Block, Operation, Value
from tilus.ir.ops import Const, For, If, While

Part = tuple[str, str]
"""An LLVM type and an operand of it."""


class ControlFlow(ABC):
    """Emits ``for``, ``if`` and ``while``. Subclasses say which LLVM values hold a value of the IR."""

    e: Emitter
    ADD: ClassVar[str] = "add"
    """How the index of a loop is advanced."""

    @abstractmethod
    def block(self, block: Block) -> None:
        """Emit the operations of a region up to its terminator."""

    @abstractmethod
    def parts(self, value: Value) -> list[Part]:
        """What holds a value."""

    @abstractmethod
    def part_types(self, value: Value) -> list[str]:
        """The LLVM types of what holds a value."""

    @abstractmethod
    def hold(self, value: Value, names: list[str]) -> None:
        """Say what holds a value."""

    def entering(self, part: Part) -> Part:
        """What a carried value is as the loop begins."""
        return part

    def back_edge(self) -> str:
        """The metadata of the branch back to a loop's head."""
        return ""

    def _all_parts(self, values: Iterable[Value]) -> list[Part]:
        return [part for v in values for part in self.parts(v)]

    def _hold_all(self, values: Sequence[Value], names: list[str]) -> None:
        at = 0
        for value in values:
            width = len(self.part_types(value))
            self.hold(value, names[at : at + width])
            at += width

    def for_(self, op: For) -> None:
        """The loop is tested at its bottom, after a guard, so that an iteration has one branch."""
        e = self.e
        ((ty, start),), ((_, stop),), ((_, step),) = (self.parts(v) for v in (op.start, op.stop, op.step))
        init = [self.entering(part) for part in self._all_parts(op.init)]
        head, done = e.new_label("loop"), e.new_label("done")
        e.do(f"br i1 {self._in_range(op, ty, start, stop, step)}, label %{head}, label %{done}")
        entry = e.label
        e.start(head)
        first = [(ty, start), *init]
        lines, phis = [e.reserve() for _ in first], [e.fresh() for _ in first]
        self._hold_all(op.body.args, phis)
        self.block(op.body)
        final = [name for _, name in self._all_parts(op.body.terminator.operands)]
        following = e.op(f"{self.ADD} {ty} {phis[0]}, {step}")
        again = self._in_range(op, ty, following, stop, step)
        latch = e.label
        e.do(f"br i1 {again}, label %{head}, label %{done}{self.back_edge()}")
        self._fill(lines, phis, first, [following, *final], entry, latch)
        e.start(done)
        self._hold_all(op.results, [e.op(f"phi {kind} [ {a}, %{entry} ], [ {b}, %{latch} ]")
                                    for (kind, a), b in zip(init, final, strict=True)])

    def _fill(self, lines: list[int], phis: list[str], first: list[Part], last: list[str], entry: str,
              latch: str) -> None:
        """Write the phis at the head of a loop, whose places were kept."""
        for line, phi, (kind, a), b in zip(lines, phis, first, last, strict=True):
            self.e.lines[line] = f"  {phi} = phi {kind} [ {a}, %{entry} ], [ {b}, %{latch} ]"

    def _in_range(self, op: For, ty: str, index: str, stop: str, step: str) -> str:
        maker = op.step.defining
        if isinstance(maker, Const):
            return self.e.op(f"icmp {'slt' if maker.value > 0 else 'sgt'} {ty} {index}, {stop}")
        up = self.e.op(f"icmp sgt {ty} {step}, 0")
        less, more = (self.e.op(f"icmp {c} {ty} {index}, {stop}") for c in ("slt", "sgt"))
        return self.e.op(f"select i1 {up}, i1 {less}, i1 {more}")

    def if_(self, op: If) -> None:
        e = self.e
        then, orelse, done = (e.new_label(s) for s in ("then", "else", "endif"))
        ((_, condition),) = self.parts(op.condition)
        e.do(f"br i1 {condition}, label %{then}, label %{orelse}")
        outcomes = []
        for label, region in ((then, op.then), (orelse, op.orelse)):
            e.start(label)
            self.block(region)
            outcomes.append((self._all_parts(region.terminator.operands), e.label))
            e.do(f"br label %{done}")
        e.start(done)
        (first, from_then), (second, from_else) = outcomes
        self._hold_all(op.results, [e.op(f"phi {kind} [ {a}, %{from_then} ], [ {b}, %{from_else} ]")
                                    for (kind, a), (_, b) in zip(first, second, strict=True)])

    def while_(self, op: While) -> None:
        e = self.e
        init = self._all_parts(op.init)
        head, body, done = (e.new_label(s) for s in ("while", "body", "done"))
        entry = e.label
        e.do(f"br label %{head}")
        e.start(head)
        lines, phis = [e.reserve() for _ in init], [e.fresh() for _ in init]
        self._hold_all(op.before.args, phis)
        self.block(op.before)
        ((_, condition),) = self.parts(op.before.terminator.operands[0])
        e.do(f"br i1 {condition}, label %{body}, label %{done}")
        e.start(body)
        self._hold_all(op.body.args, phis)
        self.block(op.body)
        final = [name for _, name in self._all_parts(op.body.terminator.operands)]
        self._fill(lines, phis, init, final, entry, e.label)
        e.do(f"br label %{head}")
        e.start(done)
        self._hold_all(op.results, phis)


CONTROL: dict[type[Operation], Callable[[Any, Any], None]] = {
    For: ControlFlow.for_, If: ControlFlow.if_, While: ControlFlow.while_,
}
"""How each operation of control flow is emitted."""
