"""``pytest tests/passes --update`` writes what the passes make of the inputs into the files."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update", action="store_true", help="write the results of passes into their text tests")
