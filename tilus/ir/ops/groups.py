"""Thread groups: regions that run side by side, each on some warps of the block."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import TypeVar

from tilus.diagnostics import UNKNOWN_SPAN, Span, UserError
from tilus.ir.core import Block, Operation
from tilus.ir.ops.sync import NamedBarrier, WaitUntil
from tilus.ir.types import Type

W = TypeVar("W")
Warps = tuple[int, int]
"""The first warp of a group and their number. Groups of the same warps are the same threads."""
MAX_WARPS = 32
"""The most warps that a block has."""


class Groups(Operation):
    """Each of ``bodies`` is executed by the ``warps`` at its place only.

    The regions are concurrent, except that those with a warp in common run one after another, in order. What follows
    the operation begins when all have ended. No region has groups of its own.
    """

    NAME = "groups"
    warps: tuple[Warps, ...]
    bodies: tuple[Block, ...]

    def infer(self) -> Sequence[Type]:
        if not self.bodies:
            self.fail("E0107", "there is no region")
        if len(self.warps) != len(self.bodies):
            self.fail("E0107", f"{len(self.warps)} ranges of warps for {len(self.bodies)} regions")
        if any(not isinstance(warps, tuple) or len(warps) != 2 for warps in self.warps):
            self.fail("E0107", "the warps of a group are two numbers, the first warp and how many")
        for warps, body in zip(self.warps, self.bodies, strict=True):
            check_warps(warps, span_of(body))
            inner = next((op for op in body.walk() if isinstance(op, Groups)), None)
            if inner is not None:
                raise UserError.at("E0106", "a thread group stands inside another one", inner.span)
        return ()

    def before(self, index: int) -> list[int]:
        """The groups that end before one begins, since they have a warp in common."""
        return [i for i in range(index) if share_warps(self.warps[i], self.warps[index])]

    @property
    def is_sequential(self) -> bool:
        """Whether the regions may as well run one after another: none waits for what others do."""
        return not any(map(_waits_for_others, self.bodies, self.warps))


def _waits_for_others(body: Block, warps: Warps) -> bool:
    """Whether a group waits for memory, or at barriers that its own threads do not complete."""
    return any(isinstance(op, WaitUntil) or (
        isinstance(op, NamedBarrier) and op.mode == "sync" and op.warps != warps[1]) for op in body.walk())


def share_warps(one: Warps, other: Warps) -> bool:
    return one[0] < other[0] + other[1] and other[0] < one[0] + one[1]


def named_warps(warps: Warps) -> str:
    """The warps of a group in messages."""
    first, count = warps
    return f"warps {first} to {first + count - 1}"


def check_warps(warps: Warps, span: Span) -> None:
    """Raise UserError (E0504) where no block has these warps."""
    first, count = warps
    if count < 1:
        raise UserError.at("E0504", f"a group of {count} warps: it has one at least", span)
    if first < 0 or first + count > MAX_WARPS:
        raise UserError.at("E0504", f"a group of {named_warps(warps)}: a block has at most {MAX_WARPS}", span)


def check_within(op: Groups, total: int) -> None:
    """Raise UserError (E0504) where a block of ``total`` warps lacks some of the groups'."""
    for warps, body in zip(op.warps, op.bodies, strict=True):
        if sum(warps) > total:
            raise UserError.at("E0504", f"a group of {named_warps(warps)} in a block of {total} warps", span_of(body),
                               help="set the number of warps with tl.block(warps=...)")


def span_of(body: Block) -> Span:
    """Where a group stands in the source."""
    return body.terminator.span if body.ops else UNKNOWN_SPAN


def executing_warps(op: Operation, outer: W) -> Iterator[tuple[Block, Warps | W]]:
    """The regions of an operation that the warps ``outer`` execute, and the warps that execute each."""
    return zip(op.regions, op.warps if isinstance(op, Groups) else itertools.repeat(outer), strict=False)


__all__ = ["Groups"]
