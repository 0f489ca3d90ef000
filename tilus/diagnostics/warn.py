"""Warnings: diagnostics that stop nothing, through Python's own channel."""

from __future__ import annotations

import warnings

from tilus.diagnostics.diagnostic import Diagnostic
from tilus.diagnostics.frames import user_depth
from tilus.diagnostics.render import render


class TilusWarning(UserWarning):
    """What tilus warns of; ``warnings.filterwarnings`` says what becomes of it."""


def warn(diagnostic: Diagnostic) -> None:
    """Warn of a diagnostic, at the user's line that led here."""
    warnings.warn(render(diagnostic), TilusWarning, stacklevel=1 + user_depth())
