"""The lines of the source that generated code comes from, as comments and as names."""

from __future__ import annotations

import re

from tilus.diagnostics import Span
from tilus.diagnostics.sources import source_lines

_LONGEST = 100
_ASSIGNMENT = re.compile(r"\s*([A-Za-z_]\w*)\s*(?::[^=]*)?(?:[-+*/|&^@]|//|\*\*|<<|>>)?=(?!=)")


class SourceLines:
    """Reads each line once."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, int], tuple[str, str]] = {}

    def comment(self, span: Span) -> str:
        """The text of a line, fit for a comment of C; nothing where it is not to be had."""
        return self._line(span)[0]

    def target(self, span: Span) -> str:
        """The name that a line assigns, or nothing."""
        return self._line(span)[1] if span.known else ""

    def _line(self, span: Span) -> tuple[str, str]:
        key = (span.file, span.line)
        found = self._known.get(key)
        if found is None:
            lines = source_lines(span.file)
            text = lines[span.line - 1] if 0 < span.line <= len(lines) else ""
            assignment = _ASSIGNMENT.match(text)
            found = self._known[key] = (_comment(text), assignment[1] if assignment else "")
        return found


def _comment(text: str) -> str:
    """One line of printable characters; a backslash at its end would continue the comment."""
    text = "".join(c if c.isprintable() else " " for c in text).strip()
    text = text if len(text) <= _LONGEST else f"{text[:_LONGEST]} …"
    return text.rstrip("\\").rstrip()
