"""What synchronisation variables carry between the warps of the grid, and what warps know of other clusters.

Kept sparse: most warps know nothing of most others. A variable is an address of memory that strong accesses (atomics,
volatile, relaxed and stronger loads and stores) touch; a release leaves a clock there, an acquire takes it up where
the scopes of both include both threads.
"""

from __future__ import annotations

from typing import TypeAlias

Clock: TypeAlias = dict[int, int]
"""Warp of the grid to the last epoch of it that is known to have happened before."""
Entries: TypeAlias = dict[tuple[bool, int], Clock]
"""Releases to a variable: (beyond the block?, block of the releasing thread) to what was released."""


def join(clock: Clock, other: Clock) -> None:
    """Raise ``clock`` to the maximum of both."""
    for key, value in other.items():
        if value > clock.get(key, 0):
            clock[key] = value


class History:
    """Order between the clusters of a launch.

    Attributes:
        clocks: what each warp of the grid knows of warps of other clusters.
        variables: what was released to each variable.
        fenced: the past of each warp at its last fences, by whether their scope goes beyond the block.
        acquiring: what each warp read from variables without acquiring it; a later fence does.
    """

    def __init__(self) -> None:
        self.clocks: dict[int, Clock] = {}
        self.variables: dict[object, Entries] = {}
        self.fenced: dict[int, dict[bool, Clock]] = {}
        self.acquiring: dict[int, Entries] = {}

    def learn(self, warp: int, clock: Clock) -> None:
        """A warp knows what the clock holds."""
        join(self.clocks.setdefault(warp, {}), clock)

    def share(self, warps: list[int]) -> None:
        """These warps know what any of them knows."""
        merged: Clock = {}
        for warp in warps:
            join(merged, self.clocks.get(warp, {}))
        if merged:
            for warp in warps:
                self.clocks[warp] = dict(merged)

    def visible(self, key: object, block: int, wide: bool) -> Clock:
        """What an acquire sees of a variable: releases whose scope and its own include both threads."""
        return _visible(self.variables.get(key, {}), block, wide)

    def release(self, key: object, block: int, past: Clock) -> None:
        """Add a release, of cluster scope, to a variable that is written by releases alone."""
        join(self.variables.setdefault(key, {}).setdefault((True, block), {}), past)

    def remember(self, key: object, warp: int) -> None:
        """A relaxed read of a variable: what it carries is acquired by a later fence."""
        entries = self.variables.get(key)
        if entries:
            kept = self.acquiring.setdefault(warp, {})
            for name, clock in entries.items():
                join(kept.setdefault(name, {}), clock)

    def acquired(self, warp: int, block: int, wide: bool) -> Clock:
        """What a fence acquires of the warp's earlier relaxed reads."""
        return _visible(self.acquiring.pop(warp, {}), block, wide)

    def write(self, key: object, warp: int, block: int, past: Clock | None, wide: bool, reads: bool) -> bool:
        """A write to a variable that releases ``past`` and what fences before it released; whether it released."""
        released: list[tuple[bool, Clock]] = [(far and wide, clock)
                                              for far, clock in self.fenced.get(warp, {}).items()]
        if past is not None:
            released.append((wide, past))
        entries = self.variables.get(key, {}) if reads else {}
        for far, clock in released:
            join(entries.setdefault((far, block), {}), clock)
        if entries or key in self.variables:
            self.variables[key] = entries
        return bool(released)


def _visible(entries: Entries, block: int, wide: bool) -> Clock:
    result: Clock = {}
    for (far, releaser), clock in entries.items():
        if releaser == block or (far and wide):
            join(result, clock)
    return result
