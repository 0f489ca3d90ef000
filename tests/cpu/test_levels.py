"""Kernels at each level of the processor: a process each, with one cache for all."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.cpu.levels import apart

ROOT = Path(__file__).parents[2]
PARTS = 6


def at_level(level: str, part: int, cache: Path) -> dict[str, Any]:
    done = subprocess.run([sys.executable, "-m", "tests.cpu.run_level", str(part), str(PARTS)], cwd=ROOT,
                          capture_output=True, text=True, check=False,
                          env={**os.environ, "TILUS_CPU": level, "TILUS_CACHE_DIR": str(cache)})
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("levels")


@pytest.fixture(scope="module")
def codes() -> dict[str, str]:
    return {}


@pytest.mark.sweep(keep=2)
@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("level", [pytest.param("", marks=pytest.mark.slow),
                                   *apart(["sse2", "sse4", "avx2", "avx512"])])
def test_kernels(level: str, part: int, cache: Path, codes: dict[str, str]) -> None:
    """Results are those of the interpreter, and code is that of the level, not what another one has left."""
    found = at_level(level, part, cache)
    assert not found["wrong"], "\n\n".join(found["wrong"])
    for processor, code in codes.items():
        assert code != found["code"] or _vectors(processor) == _vectors(found["processor"])
    codes[found["processor"]] = found["code"]


def _vectors(processor: str) -> set[str]:
    """What matters to a product of f16."""
    return {name for name in ("+fma", "+f16c", "+avx2", "+avx512bw") if name in processor}


def test_an_unknown_level() -> None:
    done = subprocess.run([sys.executable, "-m", "tests.cpu.run_level", "0", str(PARTS)], cwd=ROOT,
                          capture_output=True, text=True, check=False, env={**os.environ, "TILUS_CPU": "sse7"})
    assert done.returncode == 1
    assert "TILUS_CPU is 'sse7', which is no level" in done.stderr
    assert "internal error" not in done.stderr
