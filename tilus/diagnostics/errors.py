"""The exceptions that carry diagnostics: the user's mistakes, what is unsupported, and our own bugs, kept apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from tilus.diagnostics.diagnostic import Diagnostic, Label
from tilus.diagnostics.span import Span

ErrorT = TypeVar("ErrorT", bound="TilusError")


class TilusError(Exception):
    """Base of every error that tilus raises on purpose.

    Attributes:
        diagnostics: one or more diagnostics, the most important first.
    """

    def __init__(self, diagnostics: Diagnostic | Sequence[Diagnostic]) -> None:
        items = (diagnostics,) if isinstance(diagnostics, Diagnostic) else tuple(diagnostics)
        super().__init__(items[0].message if items else "")
        self.diagnostics = items

    @classmethod
    def at(cls: type[ErrorT], code: str, message: str, span: Span | None = None, *, label: str = "",
           help: str | None = None, notes: Sequence[str] = ()) -> ErrorT:
        """An error of one diagnostic with at most one label."""
        labels = (Label(span, label),) if span is not None and span.known else ()
        return cls(Diagnostic(code, message, labels, help, tuple(notes)))

    def __str__(self) -> str:
        from tilus.diagnostics.render import render

        return "\n\n".join(render(d) for d in self.diagnostics)


class UserError(TilusError):
    """The program or the call is wrong."""


class UnsupportedError(UserError):
    """The program is right, but the target, engine or this version cannot do it."""


class ResourceError(UserError):
    """The kernel asks for more than the target has (shared memory, threads, registers)."""


class CheckError(UserError):
    """A run-time check fired: race, out of bounds, uninitialised read, deadlock, device assertion."""


class ToolchainError(TilusError):
    """An external tool is missing or failed."""


class InternalError(TilusError):
    """A bug in tilus: the message names the reproducer file where there is one."""
