"""Layouts print as expressions that read back equal; malformed ones are pointed at."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.layouts.strategies import register_layouts, shared_layouts
from tilus.diagnostics import UserError
from tilus.layouts import RegisterLayout, column_local, local, parse_layout, replicated, row_major, spatial
from tilus.layouts.blocked import blocked
from tilus.layouts.mma import fragments


@settings(max_examples=120)
@given(register_layouts(replication=True))
def test_register_round_trip(layout):
    assert parse_layout(str(layout)) == layout


@settings(max_examples=80)
@given(shared_layouts())
def test_shared_round_trip(layout):
    again = parse_layout(str(layout))
    assert again == layout
    assert (again.modes, again.swizzle, again.base) == (layout.modes, layout.swizzle, layout.base)


@settings(max_examples=40)
@given(st.integers(1, 3).flatmap(lambda rank: st.tuples(register_layouts(rank), register_layouts(rank))))
def test_operators(layouts):
    f, g = layouts
    assert parse_layout(f"({f}) * ({g})") == f * g
    assert parse_layout(f"(({f}) * ({g})) / ({g})") == f


@pytest.mark.parametrize(("text", "layout"), [
    ("column_local(2, 2).spatial(8, 4).local(1, 2)", column_local(2, 2).spatial(8, 4).local(1, 2)),
    ("mma(m16n8k16, 16).a", fragments(16, 8, 16, 16).a),
    ("mma(m16n8k64, 8, sparse).b", fragments(16, 8, 64, 8, sparse=True).b),
    ("spatial(8,4).local(1,2).transpose()", spatial(8, 4).local(1, 2).transpose()),
    ("spatial(8,4).reduce(-1)", spatial(8).replicated(4)),
    ("local(4, 2).reshape(8)", local(8)),
    ("local(4, 2).permute((1, 0))", local(4, 2).transpose()),
    ("replicated(4, rank=2)\n  .spatial(8, 1)", replicated(4, 2).spatial(8, 1)),
    ("local(10).slice([3], [4])", local(4)),
    ("row_major(64, 32).swizzle(2, 3, 3)", row_major(64, 32).with_swizzle(2, 3, 3)),
    ("row_major(64, 32).buffers(3)", row_major(64, 32).buffers(3)),
    ("digits((4,), threads=[2@0:1, 3], locals=[2@0:2])", RegisterLayout((4,), [(2, 0, 1), (3, -1, 0)], [(2, 0, 2)])),
])
def test_examples(text, layout):
    assert parse_layout(text) == layout


@pytest.mark.parametrize(("text", "code", "marked"), [
    ("spatial(8, 4).loca(1, 2)", "E0402", "loca"),
    ("spatial(8, 4", "E0402", ""),
    ("spatial(8, $)", "E0402", "$"),
    ("spiral(3)", "E0402", "spiral"),
    ("spatial(8, 4) * row_major(2, 2)", "E0402", "row_major(2, 2)"),
    ("spatial((1, 2))", "E0402", "spatial((1, 2))"),
    ("spatial(8).permute(0, 1)", "E0404", "spatial(8).permute(0, 1)"),
    ("local(2) / local(3)", "E0404", "local(2) / local(3)"),
    ("digits((4,), threads=[2@0:1])", "E0403", "digits((4,), threads=[2@0:1])"),
    ("mma(m16n8k17, 16).a", "E0403", "mma(m16n8k17, 16)"),
    ("mma(m16n8k16, 16)", "E0402", "mma(m16n8k16, 16)"),
    ("3", "E0402", "3"),
    ("", "E0402", ""),
])
def test_malformed(text, code, marked):
    with pytest.raises(UserError) as error:
        parse_layout(text)
    diagnostic = error.value.diagnostics[0]
    assert diagnostic.code == code
    span = diagnostic.span
    assert span is not None
    assert text[span.column:span.end_column] == marked
    assert "^" in str(error.value)


def test_blocked_in_an_expression() -> None:
    assert parse_layout("blocked((64, 32), 128, 4)") == blocked((64, 32), 128, 4)
    assert parse_layout("blocked([59, 7], num_threads=96, order=(0, 1))") == blocked((59, 7), 96, order=(0, 1))
    with pytest.raises(UserError, match=r"E040[23]"):
        parse_layout("blocked((64, 32), 0)")
