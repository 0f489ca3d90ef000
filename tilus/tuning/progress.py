"""How far a search is, on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Any

from tilus.tuning.result import time_text

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress


class Progress(AbstractContextManager["Progress"]):
    """A bar with the stage of the search, how much of that is done and how long it takes yet, what is left of the
    budget, and the best variant so far. Nothing where standard error is no terminal.

    Args:
        title: what is searched.
        left: gives the seconds that the search takes at most from now on.
    """

    def __init__(self, title: str, left: Callable[[], float]) -> None:
        self.title, self.left = title, left
        self._bar: RichProgress | None = None
        self._task: Any = None

    def __enter__(self) -> Progress:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            self._bar = Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
                                 TimeRemainingColumn(), TextColumn("{task.fields[left]}"),
                                 TextColumn("{task.fields[best]}"), console=Console(stderr=True), transient=True)
            self._task = self._bar.add_task(self.title, best="", left="")
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
            self.step(0)

    def step(self, count: int = 1) -> None:
        if self._bar is not None:
            self._bar.update(self._task, advance=count, left=self._left())

    def best(self, variant: str, seconds: float) -> None:
        """Show the best variant so far."""
        if self._bar is not None:
            self._bar.update(self._task, best=f"best {variant}, {time_text(seconds)}")

    def _left(self) -> str:
        return f"of at most {max(0.0, self.left()):.0f} s"


__all__ = ["Progress"]
