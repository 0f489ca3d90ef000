"""What a case is: a kernel of ours and the peer's, each with the arguments of a call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Peer:
    """A kernel of the peer's as it is launched.

    Attributes:
        kernel: its name in ``triton_kernels``.
        arguments: in the kernel's order: arrays, integers, floats.
        constants: compile-time ones.
        grid: blocks along x, y, z.
        outputs: arrays among the arguments that are compared with ours.
        after: a kernel that is launched next.
    """

    kernel: str
    arguments: dict[str, Any]
    constants: dict[str, Any]
    grid: tuple[int, ...]
    warps: int = 4
    stages: int = 3
    outputs: Sequence[Any] = ()
    after: Peer | None = None


@dataclass(frozen=True)
class Work:
    """A call of ours and of the peer's on the same numbers.

    Attributes:
        arguments, constants: of the call of ``kernel``.
        unit: products in one unit of work (one block's tile) where that is an iteration of the loop with most
            products; 0 where the kernel's instructions are counted as a whole.
        total: products of the whole launch, tiles rounded up, where matrix instructions may compute more.
        floor: per figure what is evidently enough, beside the peer.
        warps: of a block of ours.
    """

    kernel: Any
    arguments: Sequence[Any]
    constants: dict[str, Any] = field(default_factory=dict)
    outputs: Sequence[Any] = ()
    unit: int = 0
    total: int = 0
    peer: Peer | None = None
    floor: dict[str, float] = field(default_factory=dict)
    warps: int = 4


@dataclass(frozen=True)
class Case:
    """One line of the table: ``section`` is its letter, ``make`` its arrays and kernels."""

    section: str
    name: str
    target: str
    make: Callable[[], Work]

    @property
    def title(self) -> str:
        return f"{self.section} {self.name} {self.target}"


__all__ = ["Case", "Peer", "Work"]
