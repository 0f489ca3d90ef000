"""Runs a tool of a wheel on data in memory."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence

from tilus.diagnostics import ToolchainError


class MemoryFile:
    """A file that another process can open by ``path`` and that is gone when this process is, even if it is killed."""

    def __init__(self, data: bytes = b"") -> None:
        self.descriptor = os.memfd_create("tilus")
        self.path = f"/proc/self/fd/{self.descriptor}"
        if data:
            try:
                with open(self.descriptor, "wb", closefd=False) as stream:
                    stream.write(data)
            except OSError as error:
                self.close()
                raise ToolchainError.at("E0902", f"a tool cannot be given its input: {error.strerror}",
                                        help="limits on the size of files and on memory count for it") from error

    def read(self) -> bytes:
        with open(self.descriptor, "rb", closefd=False) as stream:
            stream.seek(0)
            return stream.read()

    def close(self) -> None:
        os.close(self.descriptor)


@contextlib.contextmanager
def memory_files(*contents: bytes) -> Iterator[list[MemoryFile]]:
    """One memory file for each of ``contents``, closed at the end."""
    files: list[MemoryFile] = []
    try:
        for data in contents:
            files.append(MemoryFile(data))
        yield files
    finally:
        for file in files:
            file.close()


def run_tool(command: Sequence[str], files: Sequence[MemoryFile] = (), *, names: Sequence[str] = ()) -> tuple[str, str]:
    """Run ``command``, which may name ``files`` by their paths; returns its standard output and error.

    Args:
        names: what to call each of ``files`` in the tool's messages.

    Raises:
        ToolchainError: E0902 with the tool's log, where it cannot be started or does not exit with 0.
    """
    import subprocess

    tool = os.path.basename(command[0])
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False,
                              pass_fds=[file.descriptor for file in files])
    except OSError as error:
        raise ToolchainError.at("E0902", f"{tool} could not be started: {error}",
                                help="install its wheel again, and run 'tilus doctor'") from error
    output, log = (_renamed(raw, files, names) for raw in (done.stdout, done.stderr))
    if done.returncode != 0:
        raise tool_failed(tool, done.returncode, log or output)
    return output, log


def tool_failed(tool: str, status: int, log: str) -> ToolchainError:
    """E0902 with the log, cut to its first lines."""
    how = f"was killed by signal {-status}" if status < 0 else f"failed with status {status}"
    lines = log.strip().splitlines()
    shown = lines[:20] + ([f"... and {len(lines) - 20} more lines"] if len(lines) > 20 else [])
    return ToolchainError.at("E0902", f"{tool} {how}", notes=shown)


def _renamed(raw: bytes, files: Sequence[MemoryFile], names: Sequence[str]) -> str:
    text = raw.decode(errors="replace")
    for file, name in zip(files, names, strict=False):
        text = text.replace(file.path, name)
    return text
