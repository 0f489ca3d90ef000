"""What the documents show is what happens: sessions, drawings, and scripts in Python."""

from __future__ import annotations

import doctest
import re
import shlex
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from click.testing import CliRunner

import tilus as tl
from tilus.cli.layout import command
from tilus.cli.loading import load_file
from tilus.cli.main import cli

DOCS = Path(__file__).parents[1] / "docs"
LAYOUTS = DOCS / "layouts.md"


def run_section(page: str, title: str, folder: Path) -> ModuleType:
    """The blocks of Python of a section as one program, executed from a file, since kernels are read from there."""
    section = (DOCS / page).read_text().split(f"\n## {title}\n")[1].split("\n## ")[0]
    blocks = re.findall(r"^```python\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    assert blocks
    file = folder / f"{folder.name}_of_docs.py"
    file.write_text("\n\n".join(blocks))
    return load_file(file)


@pytest.mark.parametrize("page", ["layouts.md", "model.md", "tuning.md"])
def test_sessions(page: str) -> None:
    failed, tried = doctest.testfile(str(DOCS / page), module_relative=False)
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
    module = run_section("layouts.md", "Packed tiles", tmp_path)
    ptx = module.product.compile("sm_80").ptx
    assert re.search(r"cp\.async\.cg\.shared\.global \[[^]]*\], \[[^]]*\], 16", ptx)
    loads = set(re.findall(r"ld\.shared\S*", ptx))
    assert "ld.shared.v4.b32" in loads
    assert not any("8" in load or "16" in load for load in loads)


def test_a_space_of_variants(tmp_path: Path) -> None:
    module = run_section("tuning.md", "A space of variants", tmp_path)
    assert (module.c == 64).all()
    assert module.chosen in module.matmul.space
    assert module.kernel.target == "sm_90"


def test_prepacked_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The section's program, and its commands on files with the names that it has."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))  # the commands add to it
    module = run_section("language.md", "Prepacked weights", tmp_path)
    Path("kernel.py").write_text(Path(module.__file__ or "").read_text().split("\nrng =")[0])
    np.savez("weights.npz", q=module.weights.base, scales=np.ones(3))
    commands = re.findall(r"^    tilus (.*)$", (DOCS / "language.md").read_text(), re.MULTILINE)
    assert len(commands) == 3
    for line in commands:
        assert CliRunner().invoke(cli, shlex.split(line), catch_exceptions=False).exit_code == 0
    np.testing.assert_array_equal(np.load("numbers.npy"), tl.unpack(module.weights))
    assert str(np.load("packed.npz")["q.header"]) == module.w.header


def test_fusion(tmp_path: Path) -> None:
    module = run_section("fusion.md", "Example", tmp_path)
    shapes = ((2, 5, 9, 8), (7, 5, 3, 3), (7,))
    x, w, b = (np.random.default_rng(0).standard_normal(shape, np.float32) for shape in shapes)
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1))), (3, 3), (2, 3))
    wanted = np.maximum(np.einsum("nchwij,ocij->nohw", windows, w) + b[:, None, None], 0)
    np.testing.assert_allclose(module.convolution(x, w, b), wanted, rtol=1e-4, atol=1e-4)
    text = module.convolution.explain(x, w, b)
    assert "kernels: convolution\n" in text
