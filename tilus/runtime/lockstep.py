"""Strands of Python that run in turn: the thread groups of a block and the blocks of a cooperative launch.

Each strand but the first is a thread; one runs at a time, until it waits for something. Which one goes on is
determined, so that every run is the same.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import Any

from tilus.diagnostics import UNKNOWN_SPAN
from tilus.interp.launch import deadlock
from tilus.interp.machine import Waiting


class _Stopped(BaseException):
    """Unwinds a strand when another one has failed."""


class Strand:
    """``where`` says in messages what it is."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.turn = threading.Semaphore(0)
        self.waiting: Waiting | None = None


class Lockstep:
    """The strands of a launch. ``start_more`` starts another one, when none can go on, and says whether there was one;
    ``cooperative`` says whether blocks may wait for any others."""

    def __init__(self, start_more: Callable[[], bool]) -> None:
        self.start_more = start_more
        self.cooperative = False
        self.main = self.current = Strand("the kernel")
        self.strands = [self.main]
        self.error: BaseException | None = None

    def spawn(self, where: str, run: Callable[[], None]) -> Strand:
        """A strand that runs when it is its turn."""
        strand = Strand(where)
        trace = sys.gettrace()  # breakpoints hold in all strands
        thread = threading.Thread(target=self._run, args=(strand, run, trace), name=where, daemon=True)
        self.strands.append(strand)
        thread.start()
        return strand

    def _run(self, strand: Strand, run: Callable[[], None], trace: Any) -> None:
        strand.turn.acquire()
        sys.settrace(trace)
        try:
            if self.error is None:
                run()
        except _Stopped:
            pass
        except BaseException as error:
            self.error = self.error or error
        finally:
            sys.settrace(None)
        self.strands.remove(strand)
        self._next(strand).turn.release()

    def wait(self, waiting: Waiting) -> None:
        """Let others go on until it is ready. Raises CheckError (E0705) where nothing can go on."""
        mine = self.current
        if waiting.ready():
            return
        mine.waiting = waiting
        following = self._next(mine)
        if following is not mine:
            following.turn.release()
            mine.turn.acquire()
        mine.waiting = None
        if self.error is not None:
            raise self.error if mine is self.main else _Stopped

    def finish(self) -> None:
        """Run the strands that there are to their ends."""
        self.wait(Waiting(lambda: len(self.strands) == 1, UNKNOWN_SPAN, ""))

    def stop(self, error: BaseException) -> None:
        """Unwind all strands but the main one, which is running."""
        self.error = self.error or error
        while len(self.strands) > 1:
            self._next(self.main).turn.release()
            self.main.turn.acquire()

    def _next(self, strand: Strand) -> Strand:
        """Whose turn it is after a strand's: the others in the order of their start, those first that come later."""
        if self.error is None:
            at = self.strands.index(strand) + 1 if strand in self.strands else 0
            for other in (*self.strands[at:], *self.strands[:at]):
                if other.waiting is None or other.waiting.ready():
                    self.current = other
                    return other
            if self.start_more():
                self.current = self.strands[-1]
                return self.current
            blocked = [(s.where, s.waiting) for s in self.strands if s.waiting is not None and s.waiting.span.known]
            self.error = deadlock(blocked, cooperative=self.cooperative)
        # Unwinding: the main strand comes last.
        self.current = self.strands[-1]
        return self.current
