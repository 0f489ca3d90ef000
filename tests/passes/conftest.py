"""``pytest tests/passes --update`` writes what the passes make of the inputs into the files."""

from __future__ import annotations

import linecache

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update", action="store_true", help="write the results of passes into their text tests")


@pytest.fixture(autouse=True)
def _no_source() -> None:
    """The file that modules in the texts name is not there, though other tests have written one of that name."""
    linecache.cache.pop("kernel.py", None)
