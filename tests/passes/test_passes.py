"""Every pass, by texts: a small module in, what the pass makes of it out. ``--update`` writes that: read it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.passes.case import FOLDER, UPDATE, Result, files, read
from tilus.cli.opt import all_passes, stage_of

TILING = "tile-arrays"
"""It makes a tile module of every array module."""


@pytest.mark.parametrize("path", files(), ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_pass(path: Path, request: pytest.FixtureRequest) -> None:
    case = read(path)
    result = case.run()
    if request.config.getoption("--update", False):
        case.write(result)
        case = read(path)
    if case.expected != result:
        pytest.fail(f"{case.difference(result)}\n\nif that is right: {UPDATE}", pytrace=False)


@pytest.mark.parametrize("path", files(), ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_says_what_it_shows(path: Path) -> None:
    assert path.read_text(encoding="utf-8").startswith("// ")


@pytest.mark.parametrize("name", all_passes())
def test_every_pass_has_tests(name: str) -> None:
    """Of its own or, where one function is several passes of a level, as one of the others."""
    passes = all_passes()
    same = [n for n, function in passes.items() if function is passes[name] and stage_of(n) == stage_of(name)]
    words = {read(path).expected.word for n in same for path in (FOLDER / n).glob("*.tile")}  # type: ignore[union-attr]
    assert words - {"stays"}, f"no text in tests/passes/{name} shows what the pass does"
    if name != TILING:
        assert words & {"stays", "fails"}, f"no text in tests/passes/{name} shows what the pass leaves alone or refuses"


def test_folders_are_passes() -> None:
    assert {path.parent.name for path in files()} <= set(all_passes())


def test_another_result_is_seen() -> None:
    case = read(files()[0])
    assert case.difference(Result("becomes", "module {}\n")).startswith("--- ")
