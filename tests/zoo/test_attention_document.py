"""docs/attention.md runs, and what it computes is right."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kernels_zoo.attention.flash_attention import reference
from kernels_zoo.checking import relative_error, wide

DOCUMENT = Path(__file__).parents[2] / "docs" / "attention.md"
BLOCKS = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)


@pytest.mark.parametrize("count", [1, len(BLOCKS)])
def test_examples(count: int, tmp_path: Path) -> None:
    """The first one, and all."""
    file = tmp_path / "example.py"
    file.write_text("\n\n".join(BLOCKS[:count]))
    names: dict[str, Any] = runpy.run_path(str(file))
    if count == 1:
        distance = np.arange(500)[:, None] - np.arange(500)
        seen: Any = (distance >= 0) & ((distance < 64) | (distance % 4 == 0))
    else:
        paragraph = names["paragraph"]
        seen = paragraph[:, None, :, None] == paragraph[:, None, None, :]
        assert names["blocks"].counts.sum() < 0.5 * 2 * 8 * 8      # of the tiles of scores
    exact, _ = reference(*(wide(names[x]) for x in "qkv"), seen=seen)
    assert relative_error(names["o"], exact) < 1e-6
