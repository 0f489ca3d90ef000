"""Collects the diagnostics of one stage, so that all of its errors are shown together."""

from __future__ import annotations

from tilus.diagnostics.diagnostic import Diagnostic, Severity
from tilus.diagnostics.errors import TilusError, UserError


class DiagnosticSink:
    def __init__(self) -> None:
        self.diagnostics: list[Diagnostic] = []

    def add(self, diagnostic: Diagnostic) -> None:
        if diagnostic not in self.diagnostics:
            self.diagnostics.append(diagnostic)

    @property
    def errors(self) -> list[Diagnostic]:
        return [d for d in self.diagnostics if d.severity is Severity.ERROR]

    def raise_if_errors(self, error: type[TilusError] = UserError) -> None:
        """Raise one exception that holds every error collected, if there is any."""
        if self.errors:
            raise error(self.errors)
