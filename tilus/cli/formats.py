"""Finds formats of prepacked arrays: in texts, in files of arrays, in what ``tilus compile`` writes beside a cubin."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from tilus.diagnostics import UserError

if TYPE_CHECKING:
    from tilus.ir.dtypes import DType
    from tilus.ir.prepacked import PrepackedFormat

HEADER = ".header"
"""What follows an array's name in the name of its header in a .npz file."""


def element_type(text: str, option: str) -> DType:
    """An element type by name. Raises UserError (E0804)."""
    from tilus.ir.dtypes import parse_dtype

    try:
        return parse_dtype(text)
    except ValueError:
        raise UserError.at("E0804", f"{option} {text}: there is no such element type",
                           help='u4, i3, f6e3m2, nf4, or a codebook as "odd:5(3,-1.5,0.25)"') from None


def split_file(text: str) -> tuple[Path, str] | None:
    """``FILE`` or ``FILE:NAME`` as both; None where there is no such file."""
    if Path(text).is_file():
        return Path(text), ""
    file, _, name = text.rpartition(":")
    return (Path(file), name) if file and Path(file).is_file() else None


def find_format(text: str) -> PrepackedFormat | None:
    """The format that a text is, or the header of; or that of a ``FILE`` or ``FILE:NAME``: a .npz file, a .json file
    that lies beside a cubin, or a text. None where it is none of these. Raises UserError (E0804)."""
    if text.lstrip().startswith("{"):
        return _parsed(text, "")
    place = split_file(text)
    if place is None:
        return None
    file, name = place
    return chosen(formats_in(file), name, file)


def chosen(found: dict[str, PrepackedFormat], name: str, file: Path) -> PrepackedFormat:
    """The format of a name; the only one where there is none. Raises UserError (E0804)."""
    if name and name not in found:
        raise UserError.at("E0804", f"{str(file)!r} has no prepacked array {name!r}",
                           help=f"it has {', '.join(found) or 'none'}")
    if not name and len(found) != 1:
        raise UserError.at("E0804", f"{str(file)!r} has {len(found)} prepacked arrays",
                           help=f"name one: FILE:NAME, with {', '.join(found)}" if found else None)
    return found[name or next(iter(found))]


def formats_in(file: Path) -> dict[str, PrepackedFormat]:
    """Those of a file, by the arrays' names. Raises UserError (E0804)."""
    if file.suffix == ".npz":
        import numpy as np

        with np.load(file, allow_pickle=False) as arrays:
            headers = {name.removesuffix(HEADER): str(arrays[name]) for name in arrays.files if name.endswith(HEADER)}
        return {name: _parsed(text, f"{file}: ") for name, text in headers.items()}
    text = file.read_text(encoding="utf-8", errors="replace")
    try:
        parameters = json.loads(text)["parameters"]
    except (ValueError, KeyError, TypeError):
        return {file.stem: _parsed(text, f"{file}: ")}
    return {p["name"]: _parsed(json.dumps(p["prepacked"]), f"{file}: ") for p in parameters if "prepacked" in p}


def _parsed(text: str, place: str) -> PrepackedFormat:
    from tilus.ir.prepacked import parse_format, parse_header

    try:
        return parse_header(text)[0]
    except ValueError:
        pass
    try:
        return parse_format(text)
    except ValueError as error:
        raise UserError.at("E0804", f"{place}{error}") from None


__all__ = ["HEADER", "chosen", "element_type", "find_format", "formats_in", "split_file"]
