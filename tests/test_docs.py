"""What the documents show is what happens: sessions, drawings, and scripts in Python."""

from __future__ import annotations

import doctest
import re
import shlex
from pathlib import Path
from types import ModuleType

import pytest
from click.testing import CliRunner

import tilus as tl
from tilus.cli.layout import command
from tilus.cli.loading import load_file

DOCS = Path(__file__).parent.parent / "docs"
LAYOUTS = DOCS / "layouts.md"


def scripts(page: Path) -> list[str]:
    """The blocks of Python that are whole programs."""
    blocks = re.findall(r"^```python\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)
    return [block for block in blocks if block.startswith("import ")]


def run_script(page: Path, number: int, folder: Path) -> ModuleType:
    """A page's script, executed from a file, since kernels are read from there."""
    file = folder / f"docs_{page.stem}_{number}.py"
    file.write_text(scripts(page)[number])
    return load_file(file)


def test_sessions() -> None:
    failed, tried = doctest.testfile(str(LAYOUTS), module_relative=False)
    assert tried
    assert not failed


def drawings() -> list[tuple[str, str]]:
    found = re.findall(r"^    \$ tilus layout (.*)\n((?:    .*\n)+)", LAYOUTS.read_text(), re.MULTILINE)
    return [(options, "\n".join(line[4:] for line in text.splitlines())) for options, text in found]


def test_there_are_drawings() -> None:
    assert len(drawings()) >= 3


@pytest.mark.parametrize(("options", "drawing"), drawings(), ids=lambda s: s.splitlines()[0][:40])
def test_drawings(options: str, drawing: str) -> None:
    result = CliRunner().invoke(command, shlex.split(options), catch_exceptions=False)
    assert result.output.rstrip("\n").endswith("\n" + drawing)


def test_tiles_of_each_width() -> None:
    row = next(line for line in LAYOUTS.read_text().splitlines() if line.startswith("| tile (k, n) |"))
    fragment = tl.mma((16, 32, 16), tl.f16, warps=(1, 4)).b
    expected = ["×".join(map(str, tl.layouts.tile_for(fragment, width).shape)) for width in range(1, 9)]
    assert [cell.strip() for cell in row.split("|")[2:-1]] == expected


def test_a_view_of_stored_tiles(tmp_path: Path) -> None:
    module = run_script(LAYOUTS, 0, tmp_path)
    ptx = module.product.compile("sm_80").ptx
    assert re.search(r"cp\.async\.cg\.shared\.global \[[^]]*\], \[[^]]*\], 16", ptx)
    loads = set(re.findall(r"ld\.shared\S*", ptx))
    assert "ld.shared.v4.b32" in loads
    assert not any("8" in load or "16" in load for load in loads)
