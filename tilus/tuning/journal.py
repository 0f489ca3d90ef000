"""What a search finds is stored as it goes on, and what earlier ones have found is not measured again."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from tilus.tuning.identity import Identity, decoded, encoded
from tilus.tuning.result import Measured
from tilus.tuning.space import Space, Variant
from tilus.tuning.store import FAILED, MODELLED, Row, Store

BATCH = 1.0
"""Seconds between two transactions."""
RECENT = 24 * 3600.0
"""Seconds for which measurements count in later searches."""


class Journal:
    """The rows of one search.

    Args:
        fixed: the parameters of the space that the call gives; they are in the identity and in no row.
        status: of variants that work: ``"ok"`` or ``"model"``.
    """

    def __init__(self, store: Store, identity: Identity, fixed: Mapping[str, Any], status: str) -> None:
        self.store, self.identity, self.fixed, self.status = store, identity, dict(fixed), status
        self._pending: dict[str, Row] = {}
        self._last = time.monotonic()
        self._broken = False

    def note(self, found: Measured) -> None:
        """Take what is known of a variant now; it is written with the next batch."""
        row = self._row(found)
        self._pending[str(row.variant)] = row

    def flush(self, force: bool = False) -> None:
        """Write what has been noted, where the last batch is old enough. Once that fails, only the end tries again."""
        now = time.monotonic()
        if self._pending and not self._broken and (force or now > self._last + BATCH):
            self._broken = not self.store.put(self.identity, list(self._pending.values()), None)
            self._pending.clear()
            self._last = now

    def finish(self, found: Sequence[Measured], best: Variant) -> bool:
        """Write all and the choice in one transaction. Gives whether that has worked."""
        rows = [self._row(m) for m in found if not m.earlier]
        return self.store.put(self.identity, rows, self._open(best), self.status)

    def earlier(self, space: Space) -> list[Measured]:
        """What recent searches have found of the variants of a space, on this device."""
        oldest, found = time.time() - RECENT, []
        for row in self.store.rows(self.identity):
            variant = decoded(row.variant, space.parameters)
            if variant is None or row.time < oldest or row.status == MODELLED:
                continue
            whole = {name: {**self.fixed, **variant}[name] for name in space.names if name in {**self.fixed, **variant}}
            if whole in space and (row.median is not None or row.status == FAILED):
                found.append(Measured(whole, row.median, row.spread, row.count, row.predicted, reason=row.reason,
                                      earlier=True))
        return found

    def _row(self, found: Measured) -> Row:
        return Row(self._open(found.variant), found.median, found.spread, found.count, found.predicted,
                   status=FAILED if found.reason else self.status, reason=found.reason)

    def _open(self, variant: Mapping[str, Any]) -> dict[str, Any]:
        return {name: encoded(value) for name, value in variant.items() if name not in self.fixed}


__all__ = ["Journal"]
