"""Chains of components, and what of them kernels are compiled for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kernels_zoo.images.source import Component, Pixel, Source, With, bare, traits_of
from kernels_zoo.images.writes import PLANES, Write

if TYPE_CHECKING:
    from kernels_zoo.checking import Array

Counted = tuple[Component, int]
"""A component, and how many numbers it takes."""


Plan = tuple[tuple[Counted, ...], tuple[Counted, ...], Write, int]
"""Reads, steps and write of a chain, and where in a row its numbers begin: what a kernel is compiled for."""


def pixel_of(plan: Plan, source: Source, rows: Any, columns: Any, numbers: Callable[[int], Any], y: Any, x: Any
             ) -> Pixel:
    """The pixels at some positions of the output; ``numbers(k)`` is number k of a row."""
    reads, steps, _, k = plan
    for read, count in reads:
        source = read(source, rows, columns, *[numbers(k + n) for n in range(count)])
        k += count
    pixel = source.at(y, x)
    for step, count in steps:
        pixel = step(pixel, *[numbers(k + n) for n in range(count)])
        k += count
    return pixel


@dataclass(frozen=True, eq=False)
class Chain:
    """Reads from the image on, then steps, then the write."""

    reads: tuple[Component | With, ...] = ()
    steps: tuple[Component | With, ...] = ()
    write: Write = PLANES

    @property
    def components(self) -> tuple[Component | With, ...]:
        return self.reads + self.steps

    @property
    def resizes(self) -> bool:
        """Whether the output has its size whatever the crop's is."""
        return any(traits_of(c).resizes for c in self.reads)

    def channels(self, channels: int) -> int:
        """How many the output has, of images of so many.

        Raises:
            ValueError: a component takes more, or has numbers for another number of them.
        """
        for part in self.components:
            traits, count = traits_of(part), counted(part)[1]
            name = getattr(bare(part), "__name__", repr(bare(part)))
            if channels < traits.takes:
                raise ValueError(f"{name} takes {traits.takes} channels, and is given {channels}")
            if traits.sets and count not in (traits.sets, traits.sets * channels):
                raise ValueError(f"{name} has {count} numbers for {channels} channels")
            channels = traits.channels or channels
        return channels

    @property
    def numbers(self) -> Array:
        """The numbers of all components, f32: a row for all crops, or one for each.

        Raises:
            ValueError: components have numbers for different numbers of crops.
        """
        import numpy as np

        parts = [np.atleast_2d(np.asarray(c.numbers, np.float32)) for c in self.components if isinstance(c, With)]
        return side_by_side([np.zeros((1, 0), np.float32), *parts])


def side_by_side(parts: Sequence[Array]) -> Array:
    """Rows of numbers one after another; one row counts for all.

    Raises:
        ValueError: there are different numbers of rows.
    """
    import numpy as np

    counts = sorted({len(p) for p in parts if p.ndim == 2} - {1})
    if len(counts) > 1 or any(p.ndim != 2 for p in parts):
        raise ValueError(f"components have numbers of shapes {[p.shape for p in parts]}: of all crops, or one row each")
    rows = counts[0] if counts else 1
    return np.concatenate([np.broadcast_to(p, (rows, p.shape[1])) for p in parts], axis=1)


def counted(part: Component | With) -> Counted:
    import numpy as np

    return bare(part), int(np.shape(part.numbers)[-1]) if isinstance(part, With) else 0


def plans_of(chains: Iterable[Chain]) -> tuple[Plan, ...]:
    """Of several chains whose numbers stand one after another in a row."""
    found: list[Plan] = []
    first = 0
    for chain in chains:
        reads, steps = tuple(map(counted, chain.reads)), tuple(map(counted, chain.steps))
        found.append((reads, steps, chain.write, first))
        first += sum(count for _, count in reads + steps)
    return tuple(found)
