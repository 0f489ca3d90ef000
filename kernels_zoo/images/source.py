"""What components of a chain are made of: pixels, where they come from, and run-time numbers of a component.

A *pixel* is a tuple of f32 tiles, one a channel. A *step* is a function ``f(pixel, *numbers)`` that gives another
pixel. A *read* is a function ``f(source, rows, columns, *numbers)`` that gives another source, for an output of so
many rows and columns. Both are plain functions, or frozen data classes with ``__call__``; kernels are compiled anew for
those that are not equal to earlier ones, and never for other ``numbers``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

Pixel = tuple[Any, ...]
Component = Callable[..., Any]
F = TypeVar("F", bound=Component)


class Source(NamedTuple):
    """Pixels by position: ``at(y, x)`` takes integer tiles that broadcast, of rows from 0 on and below ``rows``, and
    of columns likewise. Outside of that it gives anything, and no error."""

    rows: Any
    columns: Any
    at: Callable[[Any, Any], Pixel]


@dataclass(frozen=True, eq=False)
class With:
    """A component with numbers that are known when the chain runs: (count,), or (crops, count) for numbers of each
    crop's own."""

    component: Component
    numbers: Any


class Traits(NamedTuple):
    """What a component is to its neighbours: ``resizes``, a read that gives the output's rows and columns whatever the
    crop's are; ``channels``, how many its pixels have, 0 for as many as it is given; ``takes``, how many it is given at
    least; ``sets``, in how many sets its numbers are, each of one number or one a channel, 0 where that is its own."""

    resizes: bool = False
    channels: int = 0
    takes: int = 1
    sets: int = 0


def component(**traits: Any) -> Callable[[F], F]:
    """Says traits of a component."""

    def mark(function: F) -> F:
        function.traits = Traits(**traits)  # type: ignore[attr-defined]
        return function

    return mark


def traits_of(part: Component | With) -> Traits:
    return getattr(bare(part), "traits", Traits())


def bare(part: Component | With) -> Component:
    return part.component if isinstance(part, With) else part
