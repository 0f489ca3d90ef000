"""Recurrent layers, forward and backward, of both families, against the recurrence in f64."""

from __future__ import annotations

import pytest

import tilus as tl
from kernels_zoo.rnn.cells import CELLS, Cell
from kernels_zoo.rnn.recurrent import FAMILIES, SHAPES, errors

TOLERANCES = {tl.f32: 1e-6, tl.f16: 1e-3, tl.bf16: 5e-3}


def named(cell: Cell) -> str:
    return cell.name


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("cell", CELLS, ids=named)
def test_on_the_cpu(cell: Cell, family: str) -> None:
    for shape, dtype in zip(SHAPES[1:4], TOLERANCES, strict=True):
        for name, error in errors(cell, shape, dtype, family=family, engine="cpu"):
            assert error <= TOLERANCES[dtype], (shape, dtype, name)
