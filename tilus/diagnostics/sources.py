"""The text of source files: from Python's line cache, and of ``python -c`` from its command line."""

from __future__ import annotations

import functools
import linecache
import sys

COMMAND = "<string>"
"""What Python calls the file of ``python -c``, and of any other code made of a string."""


def source_lines(file: str) -> list[str]:
    """The lines of a file, with their ends; none where the text is not to be had."""
    return linecache.getlines(file) or (_command_lines() if file == COMMAND else [])


@functools.cache
def _command_lines() -> list[str]:
    arguments = sys.orig_argv
    for at, argument in enumerate(arguments[:-1]):
        if argument.startswith("-") and not argument.startswith("--") and argument.endswith("c"):
            return arguments[at + 1].splitlines(True)
    return []
