"""Writing what a command made to where the user said."""

from __future__ import annotations

from pathlib import Path

from tilus.diagnostics import UserError


def is_standard_output(path: Path) -> bool:
    """Whether the user has written ``-``."""
    return str(path) == "-"


def write_output(path: Path, content: str | bytes) -> None:
    """Write a whole file; what stood there before stays where it can't be written. ``-`` is standard output, which
    takes bytes where it is no terminal.

    Raises:
        UserError: E0804, the file cannot be written.
    """
    import os
    import tempfile

    data = content.encode() if isinstance(content, str) else content
    if is_standard_output(path):
        _write_standard_output(content)
        return
    try:
        if path.exists() and not path.is_file():  # a device or a pipe
            path.write_bytes(data)
            return
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with open(handle, "wb") as file:
                file.write(data)
            mask = os.umask(0)
            os.umask(mask)
            os.chmod(name, path.stat().st_mode & 0o777 if path.exists() else 0o666 & ~mask)
            os.replace(name, path)
        except BaseException:
            os.unlink(name)
            raise
    except OSError as error:
        raise UserError.at("E0804", f"cannot write {str(path)!r}: {error.strerror}",
                           help="name a file in a folder that exists and can be written") from error


def _write_standard_output(content: str | bytes) -> None:
    import sys

    stream = sys.stdout.buffer
    if isinstance(content, bytes) and stream.isatty():
        raise UserError.at("E0804", "a binary file is not written to a terminal", help="-o FILE, or a pipe: -o - | …")
    data = content if isinstance(content, bytes) else content.rstrip("\n").encode() + b"\n"
    sys.stdout.flush()
    stream.write(data)
    stream.flush()
