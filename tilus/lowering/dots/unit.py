"""What does a dot: an instruction with its shape, where it takes its operands, and who issues it."""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod
from collections.abc import Iterator

from tilus.ir.core import Value
from tilus.ir.dtypes import DType
from tilus.ir.ops import Dot
from tilus.layouts import RegisterLayout
from tilus.records import record
from tilus.targets import Feature


class Place(enum.Enum):
    """Where a unit takes an operand."""

    REGISTERS = "registers"
    SHARED = "shared"


@record(eq=False, repr=False)
class DotPlan:
    """The layouts of a dot's operands among a group's threads; None for operands that are not taken in registers."""

    a: RegisterLayout | None
    b: RegisterLayout | None
    c: RegisterLayout
    metadata: RegisterLayout | None = None
    a_scales: RegisterLayout | None = None
    b_scales: RegisterLayout | None = None

    def of_operands(self, op: Dot) -> Iterator[tuple[str, Value, RegisterLayout]]:
        """The operands that a dot has in a layout, each with its name; not the accumulator."""
        for name in ("a", "b", "metadata", "a_scales", "b_scales"):
            operand, layout = getattr(op, name), getattr(self, name)
            if operand is not None and layout is not None:
                yield name, operand, layout


@record(eq=False, repr=False)
class DotUnit(ABC):
    """A way to do dots of some types.

    Attributes:
        name: as users and the IR have it: ``mma.m16n8k16``, ``fma``. Units of different types may share one.
        feature: what a target has to have for it.
        place: where A and B are when the dot is done.
        threads: how many issue one instruction together.
        completes_later: whether the result is there only after a wait.
    """

    name: str
    feature: Feature | None
    place: Place
    threads: int
    completes_later: bool = False

    @abstractmethod
    def takes(self, op: Dot) -> bool:
        """Whether it does dots of these types and this rank."""

    @abstractmethod
    def plan(self, op: Dot, threads: int, rows_only: bool, contiguous: tuple[int, int],
             work: tuple[float, float] = (1.0, 1.0)) -> DotPlan:
        """The layouts for ``threads`` threads. ``rows_only`` keeps every row of the result within one warp;
        ``contiguous`` are the dimensions of A and B along which neighbours are neighbours in memory, ``work``
        what it takes to get an element of each."""

    @property
    @abstractmethod
    def depth(self) -> int:
        """The k that is worth loading at once: what an instruction takes, or what vectors of 128 bits hold."""

    @abstractmethod
    def instructions(self, m: int, n: int, k: int) -> int:
        """How many it takes for a product of this size, all threads together (an instruction counts once for those that
        issue it together)."""


def types_of(op: Dot) -> tuple[DType, DType, DType]:
    """The element types of A, B and the result."""
    return op.a.tile.dtype, op.b.tile.dtype, op.accumulator.tile.dtype
