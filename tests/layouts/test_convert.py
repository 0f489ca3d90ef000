"""Conversion plans move every element to the right place."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.layouts.strategies import register_layouts
from tilus.diagnostics import UserError
from tilus.layouts import (
    Identity,
    Mode,
    RegisterLayout,
    RegisterPermutation,
    SharedPlan,
    ShufflePlan,
    bank_conflicts,
    blocked,
    column_spatial,
    local,
    plan_conversion,
    relative,
    replicated,
    spatial,
)
from tilus.layouts.mma import MatrixPlan, block_fragments, fragments

quick = settings(max_examples=200)


def check(src, dst, plan, tile=None):
    tile = tuple(map(min, src.shape, dst.shape)) if tile is None else tile
    bounds = tuple(map(max, src.shape, dst.shape))
    number = np.arange(np.prod(bounds, dtype=int)).reshape(bounds)
    values = number[tuple(np.moveaxis(src.table(), -1, 0))]
    wanted = number[tuple(np.moveaxis(dst.table(), -1, 0))]
    inside = (dst.table() < np.array(tile)).all(axis=-1)
    result = plan.apply(values)
    assert result.shape == wanted.shape
    assert (result == wanted)[inside].all()
    if isinstance(plan, ShufflePlan):
        threads = np.arange(src.num_threads)
        for step in plan.rounds:
            assert (step.source(threads) // 32 == threads // 32).all()
            assert (step.send(threads) < plan.src_groups).all()
        seen = np.zeros((src.num_threads, plan.dst_groups), dtype=int)
        for step in plan.rounds:
            seen[threads, step.receive(threads)] += 1
        assert (seen == 1).all()


@st.composite
def arrangements(draw, shape_bits, threads_bits):
    """Layouts of 2**n elements along two dimensions on 2**m threads: bits shuffled at random, replicas to fill up."""
    bits = [(0, 1 << i) for i in range(shape_bits[0])] + [(1, 1 << i) for i in range(shape_bits[1])]
    bits = list(draw(st.permutations(bits)))
    spatial_bits = min(draw(st.integers(0, threads_bits)), len(bits))
    threads = [Mode(2, d, s) for d, s in bits[:spatial_bits]]
    for _ in range(threads_bits - spatial_bits):
        threads.insert(draw(st.integers(0, len(threads))), Mode(2, -1, 0))
    return RegisterLayout([1 << n for n in shape_bits], threads, [Mode(2, d, s) for d, s in bits[spatial_bits:]])


@quick
@given(st.data(), st.sampled_from(((3, 3), (5, 2), (0, 6))), st.sampled_from((3, 5, 6)),
       st.sampled_from(("any", "shuffle", "shared")))
def test_binary_layouts(data, shape_bits, threads_bits, allow):
    src = data.draw(arrangements(shape_bits, threads_bits))
    dst = data.draw(arrangements(shape_bits, threads_bits))
    check(src, dst, plan_conversion(src, dst, 16, allow=allow, transposes=True))


@quick
@given(st.data(), st.sampled_from(((3, 3), (5, 2), (2, 2))))
def test_one_warp_never_needs_shared_memory(data, shape_bits):
    src = data.draw(arrangements(shape_bits, 5))
    dst = data.draw(arrangements(shape_bits, 5))
    plan = plan_conversion(src, dst, allow="shuffle")
    assert not isinstance(plan, SharedPlan)
    if isinstance(plan, ShufflePlan):
        assert len(plan.rounds) * plan.repeat * plan.unit == dst.num_locals


@quick
@given(st.data(), st.integers(1, 2))
def test_any_radix(data, rank):
    """Layouts of the same shape with digits moved about between and within threads and locals."""
    src = data.draw(register_layouts(rank))
    digits = [*src.thread_modes, *src.local_modes]
    threads = data.draw(st.permutations(digits))
    cut = [mode for mode in threads if mode.dim < 0 or mode in src.thread_modes]
    dst = RegisterLayout(src.shape, cut, data.draw(st.permutations(src.local_modes)))
    check(src, dst, plan_conversion(src, dst, 32))


@quick
@given(st.lists(st.integers(1, 40), min_size=1, max_size=2), st.sampled_from((32, 96, 128)),
       st.sampled_from((1, 2, 8)), st.sampled_from((1, 2, 4)), st.sampled_from((4, 8, 16, 32)))
def test_padded_covers(shape, threads, v, w, bits):
    src, dst = blocked(shape, threads, v), blocked(shape, threads, w, order=tuple(range(len(shape))))
    check(src, dst, plan_conversion(src, dst, bits, shape=shape), shape)


def test_identity_and_renaming():
    a = local(2, 2).spatial(8, 4)
    assert plan_conversion(a, a) == Identity()
    plan = plan_conversion(a, RegisterLayout((2, 2), (), (Mode(2, 1, 1), Mode(2, 0, 1))) * spatial(8, 4))
    assert plan == RegisterPermutation((0, 2, 1, 3))
    # an odd radix, by enumeration
    column = RegisterLayout((2, 3), (), [(3, 1, 1), (2, 0, 1)])
    plan = plan_conversion(local(2, 3) * spatial(5, 7), column * spatial(5, 7))
    assert plan == RegisterPermutation((0, 3, 1, 4, 2, 5))


def test_accumulator_to_operand_is_free():
    """An m16n8 accumulator pair is an m16k16 A operand: what flash attention rests on."""
    atom = fragments(16, 8, 16, 16)
    c = local(1, 2) * atom.c
    assert isinstance(plan_conversion(c, atom.a, 16), Identity)
    many = local(4, 8) * atom.c
    plan = plan_conversion(many, local(4, 4) * atom.a, 16)
    assert isinstance(plan, Identity)


def test_transposing_shuffles():
    plan = plan_conversion(spatial(8, 4), column_spatial(8, 4))
    assert isinstance(plan, ShufflePlan)
    assert len(plan.rounds) == 1
    src, dst = spatial(32, 1).local(1, 32), local(32, 1).spatial(1, 32)
    plan = plan_conversion(src, dst, allow="shuffle")
    assert isinstance(plan, ShufflePlan)
    assert len(plan.rounds) == 32
    check(src, dst, plan)


def test_a_replicated_source_needs_no_exchange():
    src, dst = replicated(32, 1).local(32), spatial(32)
    plan = plan_conversion(src, dst, allow="shuffle")
    assert isinstance(plan, ShufflePlan)
    assert all(step.is_local for step in plan.rounds)
    assert isinstance(plan_conversion(spatial(8).replicated(4), spatial(8).replicated(4)), Identity)
    assert isinstance(plan_conversion(replicated(4, 1).spatial(8).local(4), spatial(32), allow="shuffle"), ShufflePlan)


def test_units_travel_together():
    plan = plan_conversion(spatial(8, 4).local(1, 4), column_spatial(8, 4).local(1, 4), 8)
    assert isinstance(plan, ShufflePlan)
    assert plan.unit == 4
    assert len(plan.rounds) == 1


def test_across_warps_by_shared_memory():
    atom = fragments(16, 8, 16, 16)
    src = spatial(2, 2).local(4, 8) * atom.c
    dst = blocked(src.shape, 128, vector=8)
    plan = plan_conversion(src, dst, 16)
    assert isinstance(plan, SharedPlan)
    assert (plan.store.vector, plan.load.vector) == (2, 8)
    check(src, dst, plan)


@pytest.mark.parametrize("order", [(1, 0), (0, 1)])
def test_matrix_instructions(order):
    """Accumulators of 16 bits go to shared memory in 8×8 matrices, transposed where columns are contiguous there, and
    no request conflicts."""
    atom = fragments(16, 8, 16, 16)
    block = block_fragments(atom, (2, 2), (128, 96, 32))
    dst = blocked((128, 96), 128, 8, order)
    plan = plan_conversion(block.c, dst, 16, matrices=(True, True))
    assert isinstance(plan, SharedPlan)
    assert isinstance(plan.store, MatrixPlan)
    assert (plan.store.trans, plan.store.count, plan.store.instructions) == (order == (0, 1), 4, 12)
    assert not isinstance(plan.load, MatrixPlan)
    for move in (plan.store.access, plan.load):
        offsets = plan.shared.offsets(move.layout.table()[:, ::move.vector]) * 2
        assert (bank_conflicts(offsets.T.reshape(-1, 32), 16) == 4).all()
    check(block.c, dst, plan)
    for matrices in ((False, True), (False, False)):
        plain = plan_conversion(block.c, dst, 16, matrices=matrices)
        assert isinstance(plain, SharedPlan)
        assert not isinstance(plain.store, MatrixPlan)
        assert plain.cost >= plan.cost


def test_matrix_instructions_need_fitting_layouts():
    atom = fragments(16, 8, 16, 16)
    dst = blocked((64, 64), 128, 8)
    wide = block_fragments(atom, (2, 2), (64, 64, 64))
    for src, bits in ((wide.c, 32), (wide.a, 16), (blocked((64, 64), 128, 8, (0, 1)), 16)):
        plan = plan_conversion(src, dst, bits, matrices=(True, True), allow="shared")
        assert isinstance(plan, SharedPlan)
        assert not isinstance(plan.store, MatrixPlan)
    loaded = plan_conversion(dst, wide.a, 16, matrices=(False, True))
    assert isinstance(loaded, SharedPlan)
    assert isinstance(loaded.load, MatrixPlan)
    in_part = plan_conversion(dst, wide.a, 16, (60, 64), matrices=(False, True))
    assert isinstance(in_part, SharedPlan)
    assert not isinstance(in_part.load, MatrixPlan)


def test_relative():
    src, dst = spatial(8, 4), column_spatial(8, 4)
    threads, locals_ = relative(dst, src)
    for t in range(32):
        assert src.index(int(threads[t, 0]), int(locals_[t, 0])) == dst.index(t, 0)


def test_undefined_conversions():
    for src, dst in itertools.permutations((spatial(8), spatial(4), spatial(8, 1)), 2):
        with pytest.raises(UserError, match="E0404"):
            plan_conversion(src, dst)
