"""What type checkers see is what the package exports."""

from __future__ import annotations

from pathlib import Path

import tilus as tl
from tools.stub import stub

STUB = Path(tl.__file__).with_suffix(".pyi")


def test_it_is_current() -> None:
    assert STUB.read_text() == stub(), "run `python -m tools.stub > tilus/__init__.pyi`"


def test_names_and_types() -> None:
    text = stub()
    assert "from tilus.lang.builtins.reduction import dot as dot\n" in text
    assert "\nf16: Any\n" in text
    assert "_public_function" not in text
