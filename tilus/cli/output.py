"""Writing what a command made to where the user said."""

from __future__ import annotations

from pathlib import Path

from tilus.diagnostics import UserError
from tilus.runtime.files import write_whole


def is_standard_output(path: Path) -> bool:
    """Whether the user has written ``-``."""
    return str(path) == "-"


def write_output(path: Path, content: str | bytes) -> None:
    """Write a whole file; what stood there before stays where it can't be written. ``-`` is standard output, which
    takes bytes where it is no terminal.

    Raises:
        UserError: E0804, the file cannot be written.
    """
    data = content.encode() if isinstance(content, str) else content
    if is_standard_output(path):
        _write_standard_output(content)
        return
    write_whole(path, data)


def _write_standard_output(content: str | bytes) -> None:
    import sys

    stream = sys.stdout.buffer
    if isinstance(content, bytes) and stream.isatty():
        raise UserError.at("E0804", "a binary file is not written to a terminal", help="-o FILE, or a pipe: -o - | …")
    data = content if isinstance(content, bytes) else content.rstrip("\n").encode() + b"\n"
    sys.stdout.flush()
    stream.write(data)
    stream.flush()
