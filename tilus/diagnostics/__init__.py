"""Spans, diagnostics and their rendering: the lowest layer, which every other one may import."""

from tilus.diagnostics.diagnostic import Diagnostic, Label, Severity
from tilus.diagnostics.errors import (
    CheckError,
    InternalError,
    ResourceError,
    TilusError,
    ToolchainError,
    UnsupportedError,
    UserError,
)
from tilus.diagnostics.render import render
from tilus.diagnostics.sink import DiagnosticSink
from tilus.diagnostics.span import UNKNOWN_SPAN, Span
from tilus.diagnostics.warn import TilusWarning, warn

__all__ = [
    "UNKNOWN_SPAN",
    "CheckError",
    "Diagnostic",
    "DiagnosticSink",
    "InternalError",
    "Label",
    "ResourceError",
    "Severity",
    "Span",
    "TilusError",
    "TilusWarning",
    "ToolchainError",
    "UnsupportedError",
    "UserError",
    "render",
    "warn",
]
