"""The bar of a search: stages, what is left, the best variant so far; nothing where nobody looks."""

from __future__ import annotations

import io
import re
import sys

import pytest

from tilus.tuning.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(terminal: bool, monkeypatch: pytest.MonkeyPatch) -> str:
    out = Terminal() if terminal else io.StringIO()
    monkeypatch.setattr(sys, "stderr", out)
    for name, value in (("TERM", "xterm"), ("COLUMNS", "160")):
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("NO_COLOR", raising=False)
    with Progress("kernel", lambda: 42.4) as progress:
        progress.stage("compiling", 3)
        progress.step()
        progress.best("BM=64", 81e-6)
        progress.step()
        assert progress._bar is None or progress._bar.finished is False
        if progress._bar is not None:
            progress._bar.refresh()
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", out.getvalue())


def test_what_a_terminal_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    text = shown(True, monkeypatch)
    for part in ("kernel: compiling", "2/3", "of at most 42 s", "best BM=64, 81 µs"):
        assert part in text, text


def test_nothing_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    assert shown(False, monkeypatch) == ""
