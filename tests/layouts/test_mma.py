"""Tensor-core operands against the tables of CuTe's headers and the formulas of the PTX ISA."""

from __future__ import annotations

import itertools
import json
import pathlib
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tilus.diagnostics import UserError
from tilus.layouts import bank_conflicts, column_spatial, local, replicated, row_major, spatial
from tilus.layouts.mma import (
    DENSE,
    MOVMATRIX_RESULT,
    MOVMATRIX_SOURCE,
    SPARSE,
    block_fragments,
    fragments,
    ldmatrix_plan,
    quad_pair_fragments,
    volta_fragments,
)

TABLES = json.loads(pathlib.Path(__file__).with_name("golden").joinpath("mma.json").read_text())
FAULTY = ("SM80_16x8x32_S32S4S4S32_TN", "b")
"""In version 4.2 this table gives some elements of B twice and others never; the PTX ISA has row 8 (lane % 4) + i."""

BITS = {"F16": 16, "BF16": 16, "TF32": 32, "F64": 64, "S8": 8, "S4": 4, "U1": 1, "E4M3": 8}


def golden(name, which):
    """``(row, column)`` of each (thread, element), as A (m, k), B (k, n), C (m, n)."""
    table = TABLES[name][which]
    rows = table["shape"][0]
    offsets = np.array(table["offsets"])
    row, column = offsets % rows, offsets // rows
    return np.stack([column, row] if which == "b" else [row, column], axis=-1)


def width(name):
    if name.startswith("SM120"):
        return 4 if "16x8x64_TN_VS" in name else 8
    inputs = re.search(r"_(?:F16|F32|F64|S32)(BF16|TF32|F16|F64|S8|S4|U1|E4M3)", name)
    return BITS[inputs.group(1)]


@pytest.mark.parametrize("which", ["a", "b", "c"])
@pytest.mark.parametrize("name", [n for n in TABLES if not n.startswith("SM70") and "SPARSE" not in n])
def test_dense(name, which):
    m, n, k = TABLES[name]["mnk"]
    assert TABLES[name]["lanes"] == list(range(32))
    layout = getattr(fragments(m, n, k, width(name)), which)
    if (name, which) == FAULTY:
        assert len(np.unique(TABLES[name][which]["offsets"])) < layout.size
        for lane, i in itertools.product(range(32), range(8)):
            assert layout.index(lane, i) == (lane % 4 * 8 + i, lane // 4)
        return
    assert (layout.table() == golden(name, which)).all()


@pytest.mark.parametrize("name", [n for n in TABLES if n.startswith("SM70")])
def test_volta(name):
    accumulator, order = re.fullmatch(r"SM70_8x8x4_(F16|F32)\w+_([TN]{2})", name).groups()
    atom = volta_fragments(a_row=order[0] == "T", b_row=order[1] == "T", f32=accumulator == "F32")
    for which in "abc":
        table = getattr(atom, which).table()
        for quad_pair, (t, lane) in itertools.product(range(4), enumerate(TABLES[name]["lanes"])):
            lane += 4 * quad_pair
            assert (table[lane, :, 0] == quad_pair).all()
            assert (table[lane, :, 1:] == golden(name, which)[t]).all()


def multiply_quad_pairs(layouts, atom, a, b):
    """A warp's product by what each m8n8k4 does with its registers: quad pairs multiply the elements that they hold."""
    layout_a, layout_b, layout_c = layouts
    held = [x[tuple(np.moveaxis(layout.table(), -1, 0))] for x, layout in ((a, layout_a), (b, layout_b))]
    starts = [layout.local_indices[::size] for layout, size in zip(layouts, (4, 4, 8), strict=True)]
    c = np.full(layout_c.shape, np.nan)
    for i, (row, column) in enumerate(starts[2]):
        at = [starts[0].index((row, 0)), starts[1].index((0, column))]
        left, right = np.zeros((4, 8, 4)), np.zeros((4, 4, 8))
        for operand, table, registers, n in zip((left, right), (atom.a, atom.b), held, at, strict=True):
            operand[tuple(np.moveaxis(table.table(), -1, 0))] = registers[:, 4 * n:4 * n + 4]
        result = (left @ right)[tuple(np.moveaxis(atom.c.table(), -1, 0))]
        c[tuple(np.moveaxis(layout_c.table()[:, 8 * i:8 * i + 8], -1, 0))] = result
    return c


@pytest.mark.parametrize("grid", [(2, 2), (4, 1), (1, 4)])
@pytest.mark.parametrize("order", list(itertools.product((True, False), repeat=2)), ids=str)
@pytest.mark.parametrize("f32", [True, False])
@pytest.mark.parametrize("repeats", [(1, 1), (2, 1), (1, 2), (2, 2), (3, 5)])
def test_quad_pairs_multiply(grid, order, f32, repeats):
    atom = volta_fragments(*order, f32)
    warp = quad_pair_fragments(grid, *order, f32, repeats)
    assert (warp.m, warp.n, warp.k) == (8 * grid[0] * repeats[0], 8 * grid[1] * repeats[1], 4)
    a, b = np.arange(warp.m * 4.0).reshape(-1, 4), np.arange(warp.n * 4.0).reshape(4, -1) ** 2
    np.testing.assert_array_equal(multiply_quad_pairs((warp.a, warp.b, warp.c), atom, a, b), a @ b)


def test_quad_pairs_read_vectors():
    """Eight f16 along what is contiguous in memory: k, or the rows or columns of two instructions."""
    columns = quad_pair_fragments((2, 2), a_row=False, b_row=True, repeats=(2, 2))
    assert (columns.a.vector_width(0), columns.b.vector_width(1)) == (8, 8)
    block = block_fragments(quad_pair_fragments((2, 2)), (2, 2), (128, 128, 32), b_k_inner=True)
    assert (block.a.vector_width(1), block.b.vector_width(0)) == (32, 32)


def test_sparse_8_bit():
    name = next(n for n in TABLES if "SPARSE" in n)
    atom = fragments(16, 8, 64, 8, sparse=True)
    # CuTe counts A's uncompressed elements, two to each one in a register
    a = golden(name, "a")[:, ::2] // [1, 2]
    assert (atom.a.table() == a).all()
    assert (atom.b.table() == golden(name, "b")).all()
    assert (atom.c.table() == golden(name, "c")).all()


def test_sparse_16_bit():
    """PTX ISA, mma.sp.m16n8k32 with 16-bit types: A is m16n8k16's, B has rows 2 (lane % 4) + (i & 1) + 8 (i / 2)."""
    atom = fragments(16, 8, 32, 16, sparse=True)
    assert atom.a == fragments(16, 8, 16, 16).a
    for lane, i in itertools.product(range(32), range(8)):
        assert atom.b.index(lane, i) == (lane % 4 * 2 + (i & 1) + 8 * (i // 2), lane // 4)


def test_every_shape_covers_its_operands():
    for table, sparse in ((DENSE, False), (SPARSE, True)):
        for bits, shapes in table.items():
            for m, n, k in shapes:
                atom = fragments(m, n, k, bits, sparse)
                assert atom.a.shape == (m, k // 2 if sparse else k)
                assert (atom.b.shape, atom.c.shape) == ((k, n), (m, n))
                assert (atom.m, atom.n, atom.k) == (m, n, k)
                assert {atom.a.num_threads, atom.b.num_threads, atom.c.num_threads} == {32}


def test_unknown_shape():
    with pytest.raises(UserError, match="m16n8k16"):
        fragments(16, 8, 32, 16)


def test_block_fragments():
    atom = fragments(16, 8, 16, 16)
    block = block_fragments(atom, (2, 2), (128, 96, 32))
    assert (block.a.shape, block.b.shape, block.c.shape) == ((128, 32), (32, 96), (128, 96))
    assert {x.num_threads for x in (block.a, block.b, block.c)} == {128}
    # every warp has the rows of A and the columns of B that its part of C needs
    for warp in range(4):
        lanes = slice(32 * warp, 32 * warp + 32)
        assert set(block.a.table()[lanes, :, 0].flat) == set(block.c.table()[lanes, :, 0].flat)
        assert set(block.b.table()[lanes, :, 1].flat) == set(block.c.table()[lanes, :, 1].flat)


def run_ldmatrix(plan, memory, layout):
    """What PTX's ldmatrix does with the plan's addresses: lane ``l`` gets 4 bytes of row ``l / 4`` (transposed: of
    column ``l / 4``) of each matrix; rows of 16 bytes begin where lanes 8 j to 8 j + 7 point."""
    out = np.full((layout.num_threads, layout.num_locals), -1)
    starts = plan.rows.table()[:, ::plan.vector]
    step = np.eye(2, dtype=int)[plan.dim]
    for warp, i, j in itertools.product(range(layout.num_threads // 32), range(plan.instructions), range(plan.count)):
        rows = [starts[32 * warp + 8 * j + r, i] for r in range(8)]
        matrix = np.array([[memory[tuple(row + c * step)] for c in range(plan.vector)] for row in rows])
        for lane in range(32):
            if plan.trans:
                piece = matrix[lane % 4 * 2:lane % 4 * 2 + 2, lane // 4]
            else:
                piece = matrix[lane // 4, lane % 4 * plan.registers:(lane % 4 + 1) * plan.registers]
            first = (i * plan.count + j) * plan.registers
            out[32 * warp + lane, first:first + plan.registers] = piece
    return out


@settings(max_examples=60)
@given(st.sampled_from((8, 16, 32)), st.sampled_from(("a", "b", "c")), st.integers(0, 1), st.sampled_from((1, 2, 3)),
       st.sampled_from((1, 2, 5)), st.sampled_from((1, 2, 4)), st.sampled_from((1, 2)))
def test_ldmatrix(bits, which, dim, rm, rk, count, warps):
    m, n, k = DENSE[bits][-1]
    atom = getattr(fragments(m, n, k, bits), which)
    layout = spatial(warps, 1).replicated(2) * local(rm, rk) * atom
    plan = ldmatrix_plan(layout, bits, dim, count)
    along = 1 if which in "ac" else 0
    if bits != 16 and (dim != along or which == "c"):
        assert plan is None or which == "c"
        return
    assert plan is not None
    assert plan.trans == (dim != along)
    assert plan.count <= count
    assert plan.count * plan.instructions * plan.registers == layout.num_locals
    memory = np.arange(layout.size).reshape(layout.shape)
    loaded = run_ldmatrix(plan, memory, layout)
    assert (loaded == memory[tuple(np.moveaxis(layout.table(), -1, 0))]).all()


def test_ldmatrix_takes_four_matrices_where_it_can():
    block = block_fragments(fragments(16, 8, 16, 16), (2, 2), (128, 128, 32))
    a, b = ldmatrix_plan(block.a, 16, 1), ldmatrix_plan(block.b, 16, 1)
    assert (a.trans, a.count, a.instructions) == (False, 4, 8)
    assert (b.trans, b.count, b.instructions) == (True, 4, 8)
    assert ldmatrix_plan(block.a, 64, 1) is None
    assert ldmatrix_plan(replicated(32, 2) * local(8, 8), 16, 1) is None
    addresses = row_major(128, 32).offsets(a.rows.table()[:32, 0]) * 2
    assert bank_conflicts(addresses, 16) == 16


def test_movmatrix():
    assert spatial(8, 4).local(1, 2) == MOVMATRIX_SOURCE
    assert MOVMATRIX_RESULT == column_spatial(4, 8).local(2, 1) == MOVMATRIX_SOURCE.transpose()
