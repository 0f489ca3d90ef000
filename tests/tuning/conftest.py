"""Tests of tuning have no models but those that they register."""

from __future__ import annotations

import pytest

from tilus.tuning import ranking


@pytest.fixture(autouse=True)
def no_models(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranking, "_OWN", {})
    monkeypatch.setattr(ranking, "_known", {})
