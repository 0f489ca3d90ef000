"""Assignments to the elements of an array: a loop where they are alike, several to a line where they are short."""

from __future__ import annotations

import re
from collections.abc import Sequence

_SHORT = 27
"""Characters of a statement of which several are printed in a line."""


def assignments(names: Sequence[str], texts: Sequence[str]) -> list[str]:
    """As one unrolled loop where the expressions differ in the index only, else a statement for each."""
    alike = len(names) > 2 and _is_array(names) and (_are_equal(texts) or _are_indexed(texts))
    if not alike:
        return each_assigned(names, texts)
    array = names[0][: names[0].rindex("[")]
    i = next(n for n in ("i", "j", "n", "k") if not re.search(rf"\b{n}\b", f"{array} {texts[0]}"))
    text = texts[0] if _are_equal(texts) else texts[0].replace("[0]", f"[{i}]")
    return ["#pragma unroll", f"for (int {i} = 0; {i} < {len(names)}; ++{i}) {array}[{i}] = {text};"]


def each_assigned(names: Sequence[str], texts: Sequence[str]) -> list[str]:
    """A statement for each, several to a line where they are short."""
    lines: list[str] = []
    before = _SHORT
    for name, expression in zip(names, texts, strict=True):
        text = f"{name} = {expression};"
        if lines and max(len(text), before) <= _SHORT and len(lines[-1]) + len(text) < 4 * _SHORT:
            lines[-1] += f" {text}"
        else:
            lines.append(text)
        before = len(text)
    return lines


def _are_equal(texts: Sequence[str]) -> bool:
    return texts[0] == texts[1] and all(t == texts[0] for t in texts)


def _are_indexed(texts: Sequence[str]) -> bool:
    """Whether expressions differ just in indices equal to their position."""
    first = texts[0]
    return "[0]" in first and all(first.replace("[0]", f"[{n}]") == t for n, t in enumerate(texts))


def _is_array(names: Sequence[str]) -> bool:
    """Whether these are all of an array's elements from the first one on."""
    stem = names[0][: names[0].find("[")]
    return all(n == f"{stem}[{i}]" for i, n in enumerate(names))
