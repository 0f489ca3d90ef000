"""Where constraints stand that are given as text, for messages."""

from __future__ import annotations

import linecache
import zlib

from tilus.diagnostics import Diagnostic, Label, Span, UserError
from tilus.diagnostics.sources import source_lines
from tilus.records import record

LINES_OF_A_CALL = 40
"""So many lines of a call are looked through for its text where Python does not say how far it goes."""


@record(frozen=True)
class Text:
    """A text of constraints; ``span`` is the user's call that it was given to."""

    text: str
    span: Span | None = None

    def error(self, code: str, message: str, begin: int, end: int, *, label: str = "", help: str | None = None,
              notes: tuple[str, ...] = ()) -> UserError:
        """An error about a part of the text."""
        return UserError(Diagnostic(code, message, self.labels(begin, end, label), help, notes))

    def labels(self, begin: int, end: int, message: str) -> tuple[Label, ...]:
        """A part of the text in the user's file, or beside the call where it is not found there."""
        found = self._in_file(begin, end)
        if found is not None:
            return (Label(found, message),)
        labels = (Label(self.span),) if self.span is not None and self.span.known else ()
        return (*labels, Label(self._in_text(begin, end), message))

    def _in_file(self, begin: int, end: int) -> Span | None:
        if self.span is None or not self.span.known or not self.text.strip():
            return None
        lines = source_lines(self.span.file)
        whole = self.span.end_column < 1 << 20
        last = self.span.end_line if whole else self.span.line + LINES_OF_A_CALL
        source = "".join(lines[self.span.line - 1:last])
        quoted = [quote + self.text + quote for quote in "\"'" if quote + self.text + quote in source]
        if len(quoted) != 1 or source.count(quoted[0]) != 1:
            return None
        at = source.index(quoted[0]) + 1
        return _span(self.span.file, source, at + begin, at + end, self.span.line)

    def _in_text(self, begin: int, end: int) -> Span:
        name = f"<constraints {zlib.crc32(self.text.encode()):08x}>"  # each text has its own: errors are shown later
        linecache.cache[name] = (len(self.text), None, (self.text or " ").splitlines(keepends=True), name)
        return _span(name, self.text, begin, end, 1)


def one_line(text: str) -> str:
    """A part of a text as it is shown in a message."""
    return " ".join(text.split())


def _span(file: str, text: str, begin: int, end: int, first_line: int) -> Span:
    line = first_line + text.count("\n", 0, begin)
    column = begin - (text.rfind("\n", 0, begin) + 1)
    inside = text[begin:end].partition("\n")[0]
    return Span(file, line, column, line, column + max(1, len(inside)))
