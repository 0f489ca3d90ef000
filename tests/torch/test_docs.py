"""What docs/torch.md shows is what happens."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

pytest.importorskip("torch")

PAGE = Path(__file__).parents[2] / "docs" / "torch.md"


@pytest.mark.slow
def test_the_page(tmp_path: Path) -> None:
    text = PAGE.read_text()
    file = tmp_path / "block.py"
    file.write_text("\n\n".join(re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)))
    shown = re.search(r"^    graph 0.*?(?=^\S)", text, re.MULTILINE | re.DOTALL)
    assert shown is not None
    lines = [line[4:] for line in shown.group().rstrip().splitlines()]
    assert runpy.run_path(str(file))["text"].replace(str(file), "block.py") == "\n".join(lines)
