"""Modifiers stand in any order that ptxas takes, and in no other."""
# Kernels and instructions read best on lines of their own length.
# ruff: noqa: E501

from __future__ import annotations

import re

import numpy as np
import pytest

from tests.simulator import modifier_orders
from tests.simulator.instruction_table import forms
from tilus import simulator
from tilus.diagnostics import UserError
from tilus.simulator import isa

PARTS = 8


@pytest.mark.sweep(keep=1)
@pytest.mark.parametrize("part", range(PARTS))
def test_the_orders_that_ptxas_takes(part: int) -> None:
    forms()
    wrong = []
    count = 0
    for rows in modifier_orders.load().values():
        for sample, refused in rows[part::PARTS]:
            for number, order in enumerate(modifier_orders.tried(sample.opcode)):
                count += 1
                wanted = None if number in refused else sample.opcode
                if isa.TABLE.ordered(order) != wanted:
                    wrong.append((order, isa.TABLE.ordered(order), wanted))
    assert not wrong, f"{len(wrong)} of {count}: {wrong[:5]}"
    assert count > 20_000 // PARTS


def test_forms_are_covered() -> None:
    """Of nearly every form with a choice of orders there is an instruction."""
    known = {isa.TABLE.find(sample.opcode)[0].spec for rows in modifier_orders.load().values()  # type: ignore[index]
             for sample, _ in rows}
    several = [spec for spec in forms() if len([w for w in spec.split()[1:] if not w.startswith("?")]) >= 2]
    missing = [spec for spec in several if spec not in known and not spec.startswith(("call", "shfl t"))]
    assert len(missing) < 25, missing


@pytest.mark.slow
@pytest.mark.parametrize("target", modifier_orders.TARGETS)
def test_ptxas_still_says_so(target: str) -> None:
    rows = modifier_orders.load()[target]
    answers = modifier_orders.ask([sample for sample, _ in rows], target)
    for sample, refused in rows:
        found = answers[sample.opcode]
        assert (list(range(len(modifier_orders.tried(sample.opcode)))) if found == "all" else found) == refused


@pytest.mark.parametrize("opcode", ["ballot.sync.b32", "b32.ballot.sync", "sync.b32.ballot"])
def test_an_order_is_executed_as_any_other(opcode: str) -> None:
    text = f""".version 8.0
    .target sm_80
    .address_size 64
    .visible .entry k(.param .u64 o) {{ .reg .pred p; .reg .b32 t, v; .reg .b64 a, b; ld.u64.param a, [o]; mov.u32 t, %tid.x;
      setp.u32.gt p, t, 20; vote.{opcode} v, p, 0xffffffff; mul.wide.u32 b, t, 4; add.u64 a, a, b; st.u32.global [a], v; ret; }}"""
    out = np.zeros(32, "u4")
    simulator.launch(text, "k", 1, 32, [out])
    assert (out == 0xFFE00000).all()


@pytest.mark.parametrize("opcode", ["mul.u32.wide", "vote.ballot.sync.sync.b32", "cvta.global.to.u64", "add.s32.s32", "ld.global"])
def test_what_ptxas_refuses_is_an_unknown_form(opcode: str) -> None:
    text = f""".version 8.0
    .target sm_80
    .address_size 64
    .visible .entry k() {{ .reg .b32 r; {opcode} r, r, r; ret; }}"""
    with pytest.raises(UserError, match=f"unknown form '{re.escape(opcode)}'"):
        simulator.load(text).program("k")
