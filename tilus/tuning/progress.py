"""How far a search is, on a terminal."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress


class Progress(AbstractContextManager["Progress"]):
    """A bar with the stage of the search, the best variant so far and the time left. Nothing where standard error is no
    terminal."""

    def __init__(self, title: str) -> None:
        self.title = title
        self._bar: RichProgress | None = None
        self._task: Any = None

    def __enter__(self) -> Progress:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            self._bar = Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
                                 TimeRemainingColumn(), TextColumn("{task.fields[best]}"),
                                 console=Console(stderr=True), transient=True)
            self._task = self._bar.add_task(self.title, best="")
            self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.stop()

    def stage(self, name: str, total: int) -> None:
        """Begin a stage of so many steps."""
        if self._bar is not None:
            self._bar.reset(self._task, description=f"{self.title}: {name}", total=total)

    def step(self, count: int = 1) -> None:
        if self._bar is not None:
            self._bar.advance(self._task, count)

    def best(self, text: str) -> None:
        """Show the best variant so far."""
        if self._bar is not None:
            self._bar.update(self._task, best=text)


__all__ = ["Progress"]
