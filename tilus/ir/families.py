"""What operations have in common, as base classes: passes ask ``isinstance(op, Elementwise)`` where they do not care
which one it is.

The annotations stand for type checkers only. The fields are declared by the operations, in the order that they have.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tilus.ir.core import Operation, Value


class Elementwise(Operation):
    """Every element of the results comes from the same element of each operand; scalars go with all elements."""


class Movement(Operation):
    """The elements of the result are elements of ``x``."""

    if TYPE_CHECKING:
        x: Value


class DerivedView(Operation):
    """The result is a view of memory that ``view`` is a view of, too."""

    if TYPE_CHECKING:
        view: Value


class Access(Operation):
    """Elements go between a view and registers or other memory, for each of a tile (of elements or of indices)."""

    if TYPE_CHECKING:
        view: Value


class AsyncCopy(Operation):
    """Elements get into shared memory later: ``destination`` has them after a wait."""

    if TYPE_CHECKING:
        destination: Value


__all__ = ["Access", "AsyncCopy", "DerivedView", "Elementwise", "Movement"]
