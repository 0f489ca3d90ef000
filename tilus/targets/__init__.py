"""Targets: frozen records of what each architecture has and how much of it."""

from __future__ import annotations

from tilus.diagnostics import Span, UserError
from tilus.targets.features import Feature
from tilus.targets.records import TARGETS
from tilus.targets.target import Target

__all__ = ["TARGETS", "Feature", "Target", "get_target"]


def get_target(name: str | Target, span: Span | None = None) -> Target:
    """The target called ``name``; a ``Target`` is returned as it is.

    Raises:
        UserError: E0501, no target has this name.
    """
    if isinstance(name, Target):
        return name
    target = TARGETS.get(name)
    if target is None:
        raise _unknown_target(name, span)
    return target


def _unknown_target(name: str, span: Span | None) -> UserError:
    import difflib

    near = difflib.get_close_matches(name, TARGETS, n=2, cutoff=0.6)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    return UserError.at("E0501", f"unknown target {name!r}", span, help=f"{hint}targets: {', '.join(TARGETS)}")
