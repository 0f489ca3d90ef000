"""``tilus layout`` on packed tiles."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import tilus as tl
from tilus.cli.layout import command
from tilus.diagnostics import UserError
from tilus.layouts import spatial

FRAGMENT = "mma(m16n8k16, 16).b"
TILE = f"{FRAGMENT}.tile_to(64, 16)"


def shown(*arguments: object) -> str:
    result = CliRunner().invoke(command, [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def refused(*arguments: object) -> str:
    result = CliRunner().invoke(command, [str(a) for a in arguments])
    assert result.exit_code != 0
    return str(result.exception) if isinstance(result.exception, UserError) else result.output


def rows(text: str) -> list[list[str]]:
    return [line.split("│")[1].split() for line in text.splitlines() if "│" in line][1:]


@pytest.mark.parametrize(("type_", "line", "first"), [
    ("u4", "u4: 16 bits of each thread in 1 register of 32 bits", ["0:0.0-3", "0:0.4-7", "1:0.0-3"]),
    ("3", "3 bits: 12 bits of each thread in 1 register", ["0:0.0-2", "0:0.3-5", "1:0.0-2"]),
    ("nf4", "nf4: 16 bits", ["0:0.0-3", "0:0.4-7", "1:0.0-3"]),
    ("odd:5(3,-1.5,0.25)", "20 bits of each thread", ["0:0.0-4", "0:0.5-9", "1:0.0-4"]),
    ("f6e3m2", "f6e3m2: 24 bits", ["0:0.0-5", "0:0.6-11", "1:0.0-5"]),
    ("f16", "f16: 64 bits of each thread in 2 registers", ["0:0.0-15", "0:0.16-31", "1:0.0-15"]),
    ("f32", "f32: 128 bits of each thread in 4 registers", ["0:0", "0:1", "1:0"]),
    ("i13", "i13: 52 bits of each thread in 2 registers", ["0:0.0-12", "0:0.13-25", "1:0.0-12"]),
])
def test_bits_of_registers(type_: str, line: str, first: list[str]) -> None:
    text = shown(FRAGMENT, "--bits", type_)
    assert line in text
    assert [row[0] for row in rows(text)[:3]] == first


def test_an_element_in_two_registers() -> None:
    assert rows(shown(FRAGMENT, "--bits", "i13"))[8][0] == "0:0.26-31+1.0-6"


def test_a_drawing(tmp_path: Path) -> None:
    file = tmp_path / "a.svg"
    assert f"wrote {file}" in shown(FRAGMENT, "--bits", "u3", "--svg", file)
    root = ET.parse(file).getroot()
    texts = ["".join(e.itertext()) for e in root]
    assert "u3: 12 bits of each thread in 1 register of 32 bits; thread:word.bits" in "\n".join(texts)
    assert "31:0.9-11" in texts
    assert sum(e.tag.endswith("rect") for e in root) == 16 * 8
    ET.fromstring(shown(TILE, "--bits", "u3", "--prepacked", "--svg", "-"))


def test_wide_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    text = shown(f"{FRAGMENT}.tile_to(16, 64)", "--bits", "u4")
    assert max(map(len, text.splitlines()[4:])) <= 100
    assert len(rows(text)) + 1 == 17 * 64 // 8


def test_memory_of_a_layout() -> None:
    text = shown(TILE, "--bits", "u3", "--prepacked")
    assert "u3: a tile is 384 bytes, 12 of each thread in pieces of 4" in text
    assert [row[0] for row in rows(text)[:3]] == ["0.0:0@0.0-2", "0.0:1@0.3-5", "1.0:0@4.0-2"]
    assert rows(text)[8][0] == "0.0:2@0.6-7+1.0"
    assert "u3: a tile is 384 bytes" in shown(TILE, "--bits", "3", "--prepacked")


@pytest.fixture
def array() -> tl.PrepackedArray:
    layout = spatial(8, 4).local(2, 4)
    codes = tl.packed(np.arange(64 * 64 // 2, dtype=np.uint8), tl.nf4, (64, 64))
    return tl.prepack(codes, layout=layout)


def test_memory_of_a_format(array: tl.PrepackedArray, tmp_path: Path) -> None:
    """Of the format's or header's text, and of files that have it."""
    expected = shown("--prepacked", str(array.format))
    assert "nf4: a tile is 128 bytes, 4 of each thread in pieces of 4, codes ^ 7" in expected
    assert shown("--prepacked", array.header) == expected
    arrays = {"w": array.bytes, "w.header": np.array(array.header), "scales": np.zeros(3)}
    np.savez(tmp_path / "w.npz", **arrays)  # type: ignore[arg-type]
    (tmp_path / "header.txt").write_text(array.header)
    sidecar = {"parameters": [{"name": "x"}, {"name": "w", "prepacked": json.loads(str(array.format))}]}
    (tmp_path / "kernel.json").write_text(json.dumps(sidecar))
    for place in ("w.npz", "w.npz:w", "header.txt", "kernel.json", "kernel.json:w"):
        assert shown("--prepacked", tmp_path / place) == expected
    assert "has no prepacked array 'v'" in refused("--prepacked", f"{tmp_path / 'w.npz'}:v")
    (tmp_path / "two.npz").write_bytes(b"")
    np.savez(tmp_path / "two.npz", **arrays, **{"v.header": np.array(array.header)})  # type: ignore[arg-type]
    assert "has 2 prepacked arrays" in refused("--prepacked", tmp_path / "two.npz")


def test_mistakes(array: tl.PrepackedArray) -> None:
    assert "--bits q: there is no such element type" in refused(FRAGMENT, "--bits", "q")
    assert "--bits 0: there is no such element type" in refused(FRAGMENT, "--bits", "0")
    assert "--bits draws register layouts" in refused("row_major(4, 4)", "--bits", "u4")
    assert "--prepacked takes a register layout" in refused("row_major(4, 4)", "--bits", "u4", "--prepacked")
    assert "takes the element type of a layout" in refused(FRAGMENT, "--prepacked")
    assert "the format says its type, which is nf4" in refused(str(array.format), "--bits", "u4", "--prepacked")
    assert "shows no bits" in refused(FRAGMENT, "--bits", "u4", "--threads")
    assert "is not the format of a prepacked array" in refused("{}", "--prepacked")
    assert "E0403" in refused("spatial(8, 8)", "--bits", "u4", "--prepacked")
