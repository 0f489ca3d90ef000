"""What has become of a graph, for those who ask."""

from __future__ import annotations

import contextvars
from collections.abc import Iterator
from contextlib import contextmanager

from torch.fx import Node

from tilus.records import record
from tilus.torch.call import FusedCall


@record(eq=False)
class GraphReport:
    """A compiled graph: ``kind`` says which pass it is, ``left`` has the nodes that torch runs, with the reason for
    those that compute."""

    kind: str
    calls: list[FusedCall]
    left: dict[Node, str | None]


_listeners: contextvars.ContextVar[tuple[list[GraphReport], ...]] = contextvars.ContextVar("listeners", default=())


@contextmanager
def reports() -> Iterator[list[GraphReport]]:
    """The reports of the graphs that are compiled meanwhile."""
    found: list[GraphReport] = []
    token = _listeners.set((*_listeners.get(), found))
    try:
        yield found
    finally:
        _listeners.reset(token)


def tell(report: GraphReport) -> None:
    for listener in _listeners.get():
        listener.append(report)


__all__ = ["GraphReport", "reports", "tell"]
