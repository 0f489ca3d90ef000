"""Drawings and the command ``tilus layout``."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest
from click.testing import CliRunner
from hypothesis import given, settings

from tests.layouts.strategies import register_layouts, shared_layouts
from tilus.cli.layout import command
from tilus.diagnostics import UserError
from tilus.layouts import column_spatial, local, replicated, row_major, spatial
from tilus.layouts.draw import draw_svg, draw_text, places, summary


def test_text_of_a_register_layout():
    assert draw_text(spatial(2, 2).local(1, 2)) == "\n".join([
        "  │   0   1   2   3",
        "──┼─────────────────",
        "0 │ 0:0 0:1 1:0 1:1",
        "1 │ 2:0 2:1 3:0 3:1",
    ])
    columns = column_spatial(2, 2)
    assert draw_text(columns, places(columns, threads_only=True)).splitlines()[2:] == ["0 │ 0 2", "1 │ 1 3"]
    assert draw_text(replicated(4, 1).spatial(2)).splitlines()[2] == "0 │ 0,2,4,6:0 1,3,5,7:0"
    copies = spatial(2).replicated(4)
    assert draw_text(copies, places(copies, True)).splitlines()[2] == "0 │ 0-3 4-7"


def test_text_of_a_shared_layout():
    assert draw_text(row_major(2, 4).with_swizzle(1, 0, 2)).splitlines()[2:] == ["0 │ 0 1 2 3", "1 │ 5 4 7 6"]


def test_higher_ranks_are_drawn_by_slices():
    text = draw_text(local(2, 1, 2))
    assert "[0, :, :]" in text
    assert "[1, :, :]" in text
    assert text.endswith("0 │ 0:2 0:3")


@settings(max_examples=25)
@given(register_layouts(max_size=32), shared_layouts())
def test_svg_has_a_cell_per_element(register, shared):
    for layout in (register, shared):
        root = ET.fromstring(draw_svg(layout))
        cells = [e for e in root if e.tag.endswith("rect")]
        size = 1
        for extent in layout.shape:
            size *= extent
        assert len(cells) == size
        assert root[0].text == str(layout)


def test_summary():
    assert summary(spatial(8, 4).local(1, 2)) == "8 × 8: 32 threads × 2 registers"
    assert summary(replicated(4, 1).spatial(8)) == "8: 32 threads × 1 registers, 4 holders of each element"
    assert summary(row_major(8, 8)) == "8 × 8: 64 elements of shared memory"


def test_too_large():
    with pytest.raises(UserError, match="slice"):
        draw_text(local(1024, 1024))


def test_command(tmp_path):
    result = CliRunner().invoke(command, ["spatial(2, 2).local(1, 2)", "--svg", str(tmp_path / "a.svg"), "--threads"])
    assert result.exit_code == 0, result.output
    assert result.output.startswith("spatial(2, 2).local(1, 2)\n2 × 4: 4 threads × 2 registers\n")
    assert "0 │ 0 0 1 1" in result.output
    assert ET.parse(tmp_path / "a.svg").getroot().tag.endswith("svg")
    result = CliRunner().invoke(command, ["spatial(2,"])
    assert isinstance(result.exception, UserError)
