"""Asynchronous copies: kept pending until a wait needs them, or completed at random moments under a seed."""
# NumPy types the results of most functions as Any.
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tilus.simulator.machine import Array, Batch


@dataclass
class Pending:
    """A copy of some lanes that has not taken effect: ``group`` is each lane's commit group; ``finish`` performs it.

    ``finish`` takes a bool selection of the entry's lanes; ``left`` are those for which it was not called yet.
    """

    lanes: Array
    group: Array
    finish: Callable[[Array], None]
    left: Array


@dataclass
class Bulk:
    """A bulk operation that signals an mbarrier (its offset in shared memory) or belongs to a bulk group of a lane.

    Those that go ``in_turn`` finish in the order in which their lane started them.
    """

    barrier: int
    lane: int
    group: int
    finish: Callable[[], None]
    in_turn: bool = False


class AsyncQueue:
    """What the lanes of a batch have started and not yet waited for."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self.pending: list[Pending] = []
        self.bulk: list[Bulk] = []
        self.committed = np.zeros(batch.lanes, np.int64)
        self.bulk_committed = np.zeros(batch.lanes, np.int64)

    def reset(self) -> None:
        self.pending.clear()
        self.bulk.clear()
        self.committed[:] = 0
        self.bulk_committed[:] = 0

    # -- cp.async

    def issue(self, lanes: Array, finish: Callable[[Array], None]) -> None:
        self.pending.append(Pending(lanes, self.committed[lanes], finish, np.ones(lanes.size, bool)))
        random = self.batch.launch.perturb
        if random is not None and random.random() < 0.3:
            self._complete(lambda entry: random.random(entry.lanes.size) < 0.5)

    def commit(self, mask: Array) -> None:
        self.committed[mask] += 1

    def wait(self, mask: Array, allowed: int) -> None:
        """Complete the groups of the lanes but the latest ``allowed``."""
        if not self.pending:
            return
        limit = self.committed - allowed
        everyone = bool(mask.all())

        def due(entry: Pending) -> Array:
            late: Array = entry.group < limit[entry.lanes]
            return late if everyone else late & mask[entry.lanes]

        self._complete(due)

    def wait_all(self, mask: Array) -> None:
        self._complete(lambda entry: mask[entry.lanes])

    def _complete(self, due: Callable[[Pending], Array]) -> None:
        kept = []
        for entry in self.pending:
            chosen = due(entry) & entry.left
            if chosen.any():
                entry.finish(chosen)
                entry.left &= ~chosen
                if not entry.left.any():
                    continue
            kept.append(entry)
        self.pending = kept

    def on_exit(self, mask: Array) -> None:
        """Ended lanes' copies take effect."""
        if self.pending:
            self.wait_all(mask)
        if self.bulk:
            self._bulk(lambda entry: bool(mask[entry.lane]) and entry.barrier < 0)

    # -- bulk operations

    def issue_bulk(self, barrier: int, lane: int, finish: Callable[[], None], *, in_turn: bool = False) -> None:
        self.bulk.append(Bulk(barrier, lane, int(self.bulk_committed[lane]), finish, in_turn))
        random = self.batch.launch.perturb
        if random is not None and random.random() < 0.3:
            self._bulk(lambda entry: random.random() < 0.5)

    def complete_barriers(self, barriers: Array) -> None:
        """Finish the bulk copies that signal one of these mbarriers."""
        if self.bulk:
            wanted = set(barriers.tolist())
            self._bulk(lambda entry: entry.barrier in wanted)

    def commit_bulk(self, mask: Array) -> None:
        self.bulk_committed[mask] += 1

    def wait_bulk(self, mask: Array, allowed: int) -> None:
        limit = self.bulk_committed - allowed
        self._bulk(lambda entry: bool(mask[entry.lane]) and entry.barrier < 0 and entry.group < limit[entry.lane])

    def drain_bulk(self) -> None:
        """Finish whatever is pending, as the hardware may at any time; whether there was something."""
        self._bulk(lambda entry: True)

    def _bulk(self, due: Callable[[Bulk], bool]) -> None:
        ready = [entry for entry in self.bulk if due(entry)]
        if any(entry.in_turn for entry in ready):
            ready = self._with_earlier(ready)
        if ready:
            chosen = set(map(id, ready))
            self.bulk = [entry for entry in self.bulk if id(entry) not in chosen]
            for entry in ready:
                entry.finish()
            self.batch.launch.progress += 1

    def _with_earlier(self, ready: list[Bulk]) -> list[Bulk]:
        """The operations, and those of their lanes that must finish before them."""
        chosen = set(map(id, ready))
        last = {entry.lane: place for place, entry in enumerate(self.bulk) if entry.in_turn and id(entry) in chosen}
        return [entry for place, entry in enumerate(self.bulk)
                if id(entry) in chosen or (entry.in_turn and place < last.get(entry.lane, -1))]
