"""docs/api.md says what the code says, of everything public."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

import tilus as tl
from tools.api_reference import document, public_names

DOCUMENT = Path(__file__).parent.parent / "docs" / "api.md"


def test_it_is_current() -> None:
    assert DOCUMENT.read_text() == document(), "run `python -m tools.api_reference > docs/api.md`"


@pytest.mark.parametrize("name", sorted(n for n, v in public_names().items()
                                        if not isinstance(v, (tl.DType, tl.QuantFormat))))
def test_everything_public_is_described(name: str) -> None:
    assert inspect.getdoc(getattr(tl, name))
    assert f"### `tl.{name}`\n" in DOCUMENT.read_text()


def test_every_format_is_listed() -> None:
    line = next(line for line in DOCUMENT.read_text().splitlines() if line.startswith("Formats: "))
    formats = [name for name, value in public_names().items() if isinstance(value, tl.QuantFormat)]
    assert sorted(line.removeprefix("Formats: ").rstrip(".").split(", ")) == sorted(f"`tl.{name}`" for name in formats)
