"""Renders a diagnostic as text: the message, the user's line with a caret, remarks and help."""

from __future__ import annotations

from tilus.diagnostics.diagnostic import Diagnostic, Label, Severity
from tilus.diagnostics.sources import source_lines
from tilus.diagnostics.span import Span

_COLORS = {Severity.ERROR: "31", Severity.WARNING: "33", Severity.NOTE: "36"}


def render(diagnostic: Diagnostic, *, color: bool = False) -> str:
    """The diagnostic as lines of text without a final newline; ``color`` adds ANSI escapes."""
    head = f"{diagnostic.severity.value}[{diagnostic.code}]"
    lines = [f"{_paint(head, _COLORS[diagnostic.severity], color)}: {diagnostic.message}"]
    for index, label in enumerate(diagnostic.labels):
        lines += _label_lines(label, "^" if index == 0 else "-", color)
    lines += [f"  note: {note}" for note in diagnostic.notes]
    if diagnostic.help:
        lines.append(f"  help: {diagnostic.help}")
    return "\n".join(lines)


def source_line(span: Span) -> str | None:
    """The text of the span's first line, or None where the file cannot be read."""
    lines = source_lines(span.file)
    return lines[span.line - 1].rstrip("\n").expandtabs(1) if 0 < span.line <= len(lines) else None


def _label_lines(label: Label, mark: str, color: bool) -> list[str]:
    span = label.span
    if not span.known:
        return [f"  {label.message}"] if label.message else []
    lines = [f"  --> {span}"]
    text = source_line(span)
    if text is None:
        return lines + ([f"      {label.message}"] if label.message else [])
    end = span.end_column if span.end_line in (0, span.line) else len(text)
    start = max(span.column, len(text) - len(text.lstrip()))
    width = max(1, min(end, len(text)) - start)
    gutter = f"{span.line:>4}"
    lines.append(f"{gutter} | {text}")
    underline = " " * start + mark * width
    lines.append(f"{'':>4} | {_paint(underline, '31' if mark == '^' else '36', color)} {label.message}".rstrip())
    return lines


def _paint(text: str, code: str, color: bool) -> str:
    return f"\033[{code}m{text}\033[0m" if color else text
