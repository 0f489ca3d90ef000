"""Which levels of instructions are worth a test of their own on this machine."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

import pytest

from tilus.runtime.cpu.processor import host


def apart(levels: Iterable[str]) -> list[Any]:
    """Values for ``TILUS_CPU``; those that leave this processor the same features as one before are ``slow``."""
    found: set[str] = set()
    params = []
    for level in levels:
        features = _features(level)
        params.append(pytest.param(level, marks=pytest.mark.slow if features in found else ()))
        found.add(features)
    return params


def _features(level: str) -> str:
    if host().architecture != "x86_64":
        return level
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(os.environ, "TILUS_CPU", level)
        host.cache_clear()
        features = host().features
    host.cache_clear()
    return features
