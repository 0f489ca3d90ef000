"""The schedule of a loop, as a value: one pass makes it, another carries it out, and between them it can be read,
printed, changed and priced."""

from __future__ import annotations

from tilus.records import record


@record(frozen=True, slots=True)
class LoopSchedule:
    """How a loop's iterations follow each other. Which loads go through rings in shared memory, and by which
    instruction, stands at the loads (``Load.ring``, ``Gather.ring``).

    Attributes:
        stages: the tiles of a ring: one in use, and those that are on their way. 1 where nothing is staged.
        unroll: iterations of the main loop that are done as one; 0 for all of a constant trip count.
        prefetch: the k of the fragments that are loaded from shared memory ahead of the dot that needs them, across the
            end of an iteration; 0 where dots load their operands themselves.
        split: whether iterations on whole tiles have a loop of their own, without checks of bounds along the loop.
    """

    stages: int = 1
    unroll: int = 1
    prefetch: int = 0
    split: bool = False


__all__ = ["LoopSchedule"]
