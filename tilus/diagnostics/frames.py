"""Where the user's Python is, from its stack."""

from __future__ import annotations

import contextlib
import functools
import os
import sys
from typing import Any

from tilus.diagnostics.span import Span

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep


ENTRY_MARK = "__tilus_entry__"
"""A local name of the frames that stand between the user's code and ours (:mod:`tilus.diagnostics.entry`)."""


def caller_span() -> Span | None:
    """The innermost line of the user's that led here; None where the command line did."""
    frame, _ = _user_frame()
    if frame is None or str(frame.f_globals.get("__name__", "")).startswith("click."):
        return None
    return frame_span(frame)


def user_depth() -> int:
    """How many frames the user's innermost one is above the caller's."""
    return _user_frame()[1]


def _user_frame() -> tuple[Any, int]:
    """The user's innermost frame, None where there is none, and how far it is above the frame two above this one."""
    frame: Any = sys._getframe(2)
    depth = 0
    while frame is not None and (is_own_frame(frame) or _is_torchs(frame)):
        frame, depth = frame.f_back, depth + 1
    return frame, depth


def _is_torchs(frame: Any) -> bool:
    """Whether a frame is of torch, which calls back ends and operators on the user's behalf."""
    return str(frame.f_globals.get("__name__", "")).partition(".")[0] == "torch"


def is_own_frame(frame: Any) -> bool:
    """Whether a frame is of tilus, or of what stands between it and a ``with`` statement or a cached property."""
    code = frame.f_code
    file = os.path.abspath(code.co_filename)
    between = (contextlib.__file__, functools.__file__)
    return ENTRY_MARK in code.co_varnames or file.startswith(_PACKAGE) or file in between


def raising_span(error: BaseException) -> Span | None:
    """Where the user's code raised an error; None where tilus did."""
    step = error.__traceback__
    while step is not None and step.tb_next is not None:
        step = step.tb_next
    if step is None or is_own_frame(step.tb_frame):
        return None
    return frame_span(step.tb_frame)


def frame_span(frame: Any) -> Span:
    """The expression a frame is executing, or its line where Python does not record columns."""
    code = frame.f_code
    if hasattr(code, "co_positions"):
        positions = list(code.co_positions())
        at = frame.f_lasti // 2
        if at < len(positions) and positions[at][0] is not None and positions[at][2] is not None:
            line, end_line, column, end_column = positions[at]
            return Span(code.co_filename, line, column, end_line, end_column)
    return Span.of_line(code.co_filename, frame.f_lineno)
