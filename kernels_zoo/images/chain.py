"""Chains of components, and what of them kernels are compiled for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kernels_zoo.images.source import Component, Pixel, Source, With, bare, traits_of
from kernels_zoo.images.writes import PLANES, Write

if TYPE_CHECKING:
    from kernels_zoo.checking import Array

Counted = tuple[Component, int]
"""A component, and how many numbers it takes."""


@dataclass(frozen=True)
class Plan:
    """A chain without its numbers, which are elements of a row from ``first`` on."""

    reads: tuple[Counted, ...]
    steps: tuple[Counted, ...]
    write: Write
    first: int

    def pixel(self, source: Source, rows: Any, columns: Any, numbers: Any, y: Any, x: Any) -> Pixel:
        """The pixels at some positions of the output; ``numbers(k)`` is number k of the row."""
        k = self.first
        for read, count in self.reads:
            source = read(source, rows, columns, *[numbers(k + n) for n in range(count)])
            k += count
        pixel = source.at(y, x)
        for step, count in self.steps:
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

    def plan(self, first: int = 0) -> Plan:
        return Plan(tuple(map(counted, self.reads)), tuple(map(counted, self.steps)), self.write, first)

    def numbers(self, crops: int) -> Array:
        """The numbers of all components, a row for each crop, f32.

        Raises:
            ValueError: a component has numbers for another number of crops.
        """
        import numpy as np

        parts = [np.asarray(c.numbers, np.float32) for c in self.components if isinstance(c, With)]
        for part in parts:
            if part.ndim not in (1, 2) or (part.ndim == 2 and len(part) != crops):
                raise ValueError(f"numbers of shape {part.shape} are neither for all of {crops} crops nor for each")
        return np.concatenate([np.zeros((crops, 0), np.float32), *(
            np.broadcast_to(part, (crops, part.shape[-1])) for part in parts)], axis=1)


def counted(part: Component | With) -> Counted:
    import numpy as np

    return bare(part), int(np.shape(part.numbers)[-1]) if isinstance(part, With) else 0


def plans(chains: Iterable[Chain]) -> tuple[Plan, ...]:
    """Of several chains whose numbers stand one after another in a row."""
    found: list[Plan] = []
    first = 0
    for chain in chains:
        found.append(chain.plan(first))
        first += sum(count for _, count in found[-1].reads + found[-1].steps)
    return tuple(found)
