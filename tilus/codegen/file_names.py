"""Names of source files in line information."""

from __future__ import annotations


def file_name(path: str) -> str:
    """The name by which PTX knows a source file; ptxas stops at a quotation mark within."""
    return path.replace('"', "'")
