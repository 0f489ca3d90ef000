"""What a diagnostic is made of."""

from __future__ import annotations

import enum

from tilus.diagnostics.codes import CODES
from tilus.diagnostics.span import Span
from tilus.records import record


class Severity(enum.Enum):
    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@record(frozen=True, slots=True)
class Label:
    """A span with a remark about it; the first label of a diagnostic is the primary one."""

    span: Span
    message: str = ""


@record(frozen=True, slots=True)
class Diagnostic:
    """One message to the user: a code, what is wrong, where, and how to mend it."""

    code: str
    message: str
    labels: tuple[Label, ...] = ()
    help: str | None = None
    notes: tuple[str, ...] = ()
    severity: Severity = Severity.ERROR

    def __post_init__(self) -> None:
        if self.code not in CODES:
            raise KeyError(f"diagnostic code {self.code!r} is not registered in tilus/diagnostics/codes.py")

    @property
    def span(self) -> Span | None:
        return self.labels[0].span if self.labels else None
