"""What attention takes of memory beyond its arrays, in a process of its own."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize("part", ["forward", "backward"])
def test_no_matrix_of_scores(part: str) -> None:
    """Of 32768 positions such a matrix has 4 GiB."""
    command = [sys.executable, "-m", "benchmarks.sequence", "--beyond", part, "32768"]
    found = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert int(found) < 1024 * 32768
