"""Calls that options describe: ``--shape`` and ``--set`` make the arguments of a kernel up."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from tilus.diagnostics import UserError


def call_of(function: Any, shapes: Sequence[str], settings: Sequence[str], *,
            contents: bool = True) -> tuple[list[Any], dict[str, Any]]:
    """Positional and named arguments of a call with arrays of the types that a kernel declares.

    Args:
        shapes: extents of dimensions, ``NAME=EXTENT``.
        settings: ``NAME=VALUE``: scalars, compile-time values, types of arrays.
        contents: whether arrays hold random numbers, rather than memory that nobody has touched.

    Raises:
        UserError: E0804, an option is malformed, a value is missing, or there is no such name.
    """
    from tilus.tuning.arguments import made_up_arguments

    arguments = made_up_arguments(function, dict(map(extent, shapes)), _given(settings), contents=contents)
    leading: list[Any] = []  # options may be called as parameters are, which are given by position then
    for name in function.signature.names:
        if name not in arguments:
            break
        leading.append(arguments.pop(name))
    return leading, arguments


def extent(item: str) -> tuple[str, int]:
    """``NAME=EXTENT``. Raises UserError (E0804) for anything else."""
    name, _, text = item.partition("=")
    if not name.isidentifier() or not text.isdecimal():
        raise UserError.at("E0804", f"--shape takes NAME=EXTENT, not {item!r}", help="--shape M=4096")
    return name, int(text)


def _given(settings: Sequence[str]) -> dict[str, Any]:
    """What ``--set`` says; array types too."""
    from tilus.cli.loading import parse_settings
    from tilus.ir.annotations import ArrayAnnotation
    from tilus.ir.dtypes import parse_dtype

    found: dict[str, Any] = {}
    for item in settings:
        match = re.fullmatch(r"(\w+)=(\w+)\[([\d,x ]*)\]", item)
        if match is None:
            found.update(parse_settings((item,)))
            continue
        try:
            dtype = parse_dtype(match[2])
        except ValueError as error:
            raise UserError.at("E0804", f"--set {item}: there is no element type {match[2]!r}") from error
        extents = tuple(int(n) for n in match[3].replace("x", ",").split(",") if n.strip())
        found[match[1]] = ArrayAnnotation(dtype, extents)
    return found


__all__ = ["call_of", "extent"]
