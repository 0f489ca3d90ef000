"""Whether calls tune where there is no result for them: ``TILUS_TUNE=1``, ``tl.tuning(True)``."""

from __future__ import annotations

import contextvars
import os
from types import TracebackType

asked: contextvars.ContextVar[bool] = contextvars.ContextVar(
    "tilus_tuning", default=os.environ.get("TILUS_TUNE", "") not in ("", "0"))


class tuning:
    """Whether calls of autotuned kernels search for the best variant where there is no result for them, from now on;
    in a ``with`` statement until its end. ``TILUS_TUNE=1`` in the environment asks for it from the start.

    Calls on engines whose time tells nothing, such as the interpreter, do not search.
    """

    def __init__(self, on: bool = True) -> None:
        self._token = asked.set(bool(on))

    def __enter__(self) -> tuning:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None:
        asked.reset(self._token)


__all__ = ["asked", "tuning"]
