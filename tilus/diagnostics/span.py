"""Source spans: where in a file a construct stands."""

from __future__ import annotations

from tilus.records import record


@record(frozen=True, slots=True)
class Span:
    """A half-open region of a source file.

    Lines count from 1, columns from 0 (as in Python's ``ast``); ``end_column`` is exclusive.
    """

    file: str
    line: int
    column: int = 0
    end_line: int = 0
    end_column: int = 0

    @classmethod
    def of_line(cls, file: str, line: int) -> Span:
        """A whole line."""
        return cls(file, line, 0, line, 1 << 20)

    @property
    def known(self) -> bool:
        return self.line > 0

    def __str__(self) -> str:
        if not self.known:
            return "<unknown>"
        return f"{self.file}:{self.line}:{self.column + 1}"


UNKNOWN_SPAN = Span("", 0)
