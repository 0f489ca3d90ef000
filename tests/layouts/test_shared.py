"""Shared layouts, swizzles, bank conflicts and addresses against enumeration; global layouts."""

from __future__ import annotations

import itertools
import math
import pickle

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.layouts.strategies import register_layouts, shared_layouts
from tilus.diagnostics import UserError
from tilus.layouts import (
    Access,
    GlobalLayout,
    Linear,
    SharedLayout,
    Swizzle,
    access_of,
    address_plan,
    bank_conflicts,
    blocked,
    choose_swizzle,
    column_major,
    local,
    row_major,
    spatial,
    strided_order,
    wavefronts,
)
from tilus.layouts.mma import block_fragments, fragments, ldmatrix_plan

quick = settings(max_examples=80)


def meaning(layout):
    result = {}
    for index in itertools.product(*map(range, layout.shape)):
        offset = layout.base
        for i, digits in zip(index, layout.modes, strict=True):
            for size, stride in reversed(digits):
                i, digit = divmod(i, size)
                offset += digit * stride
        if layout.swizzle is not None:
            bits, base, shift = layout.swizzle.bits, layout.swizzle.base, layout.swizzle.shift
            offset ^= (offset // 2 ** (base + shift) % 2**bits) * 2**base
        result[index] = offset
    return result


@quick
@given(shared_layouts())
def test_offsets(layout):
    for index, offset in meaning(layout).items():
        assert layout.offset(index) == offset == layout.table()[index] == layout.offsets(index)
    assert layout.size == max(meaning(layout).values()) + 1
    assert layout.is_injective() == (len(set(meaning(layout).values())) == math.prod(layout.shape))
    assert pickle.loads(pickle.dumps(layout)) == layout


@quick
@given(shared_layouts(1), shared_layouts(1))
def test_equality_is_equality_of_functions(f, g):
    same = f.shape == g.shape and meaning(f) == meaning(g)
    assert (f == g) == same
    if same:
        assert hash(f) == hash(g)


def test_a_swizzle_may_equal_a_stride():
    assert SharedLayout((2,), (8,), Swizzle(1, 0, 3)) == SharedLayout((2,), (9,))
    assert hash(SharedLayout((2,), (8,), Swizzle(1, 0, 3))) == hash(SharedLayout((2,), (9,)))
    assert row_major(2, 4).with_swizzle(3, 0, 3) == row_major(2, 4)
    assert row_major(4, 8).with_swizzle(3, 0, 3) == row_major(4, 8).with_swizzle(2, 0, 3)


@quick
@given(shared_layouts(), st.data())
def test_views(layout, data):
    dims = data.draw(st.permutations(range(layout.rank)))
    permuted = layout.permute(dims)
    for index, offset in meaning(layout).items():
        assert permuted.offset([index[d] for d in dims]) == offset
    starts = [data.draw(st.integers(0, n - 1)) for n in layout.shape]
    extents = [data.draw(st.integers(1, n - s)) for s, n in zip(starts, layout.shape, strict=True)]
    try:
        part = layout.slice(starts, extents)
    except UserError:
        assume(False)
    for index, offset in meaning(part).items():
        assert offset == layout.offset([i + s for i, s in zip(index, starts, strict=True)])


@quick
@given(shared_layouts(), st.data())
def test_reshape(layout, data):
    size = math.prod(layout.shape)
    first = data.draw(st.sampled_from([n for n in range(1, size + 1) if size % n == 0]))
    try:
        reshaped = layout.reshape((first, size // first))
    except UserError:
        assume(False)
    assert (reshaped.table().ravel() == layout.table().ravel()).all()


@quick
@given(shared_layouts(2), st.integers(1, 3))
def test_buffers(layout, count):
    many = layout.buffers(count)
    for i in range(count):
        one = many.drop(0, i)
        moved = one.table() - layout.table()
        assert (moved == moved.flat[0]).all()
    if layout.is_injective():
        assert many.is_injective()


@quick
@given(shared_layouts())
def test_vector_width(layout):
    for d in range(layout.rank):
        width = layout.vector_width(d)
        table = np.moveaxis(layout.table(), d, -1).reshape(-1, layout.shape[d] // width, width)
        assert (table == table[:, :, :1] + np.arange(width)).all()
        assert (table[:, :, 0] % width == 0).all()


def brute_wavefronts(addresses, access_bytes):
    lanes = 32 // max(1, access_bytes // 4)
    total = 0
    for phase in range(0, 32, lanes):
        words = {a // 4 + w for a in addresses[phase:phase + lanes] if a >= 0 for w in range(max(1, access_bytes // 4))}
        banks = [word % 32 for word in words]
        total += max((banks.count(b) for b in set(banks)), default=0)
    return total


@quick
@given(st.sampled_from((1, 2, 4, 8, 16)), st.lists(st.integers(-1, 80), min_size=32, max_size=32))
def test_bank_conflicts(access_bytes, lanes):
    addresses = np.array(lanes) * access_bytes
    assert bank_conflicts(addresses, access_bytes) == brute_wavefronts(addresses, access_bytes)


def test_bank_conflict_examples():
    lanes = np.arange(32)
    assert bank_conflicts(lanes * 4, 4) == 1
    assert bank_conflicts(lanes * 8, 4) == 2
    assert bank_conflicts(lanes * 128, 4) == 32
    assert bank_conflicts(lanes * 0, 4) == 1
    assert bank_conflicts(lanes * 16, 16) == 4
    assert bank_conflicts(np.stack([lanes * 8, lanes * 16]), 8).tolist() == [2, 4]
    with pytest.raises(UserError, match="E0403"):
        bank_conflicts(lanes, 3)


@pytest.mark.parametrize("bits", [8, 16, 32])
@pytest.mark.parametrize(("rows", "columns"), [(128, 16), (128, 32), (64, 64), (64, 128), (32, 256), (64, 72),
                                               (64, 48)])
def test_mma_tiles_are_free_of_conflicts(rows, columns, bits):
    """Stores in coalesced 16-byte vectors, loads by ldmatrix, along and (for 16 bits) across the rows."""
    m, n, k = {8: (16, 8, 32), 16: (16, 8, 16), 32: (16, 8, 8)}[bits]
    if columns % (128 // bits):
        pytest.skip("rows are no multiple of 16 bytes")
    atom = fragments(m, n, k, bits)
    store = access_of(blocked((rows, columns), 128, 128 // bits), bits, 1)
    operands = [local(rows // 16, -(-columns // k)) * atom.a]
    if bits == 16:
        operands.append(local(rows // k, columns // 8) * atom.b)
    for layout in operands:
        load = ldmatrix_plan(layout, bits, 1).access
        shared = choose_swizzle((rows, columns), bits, [store, load])
        assert shared.is_injective()
        taken, ideal = wavefronts(shared, load, bits)
        assert taken <= ideal
        taken, ideal = wavefronts(shared, store, bits)
        # eight lanes that store two half rows cannot also suit ldmatrix where rows are padded
        assert taken <= (2 * ideal if columns & (columns - 1) else ideal)
        assert shared.size <= rows * (columns + 128 // bits)


def test_transposition_is_free_of_conflicts():
    shared = choose_swizzle((32, 32), 32, [Access(spatial(32, 1).local(1, 32), 1, 1), local(32, 1).spatial(1, 32)],
                            align_bytes=4)
    assert shared.swizzle is not None
    for access in (Access(spatial(32, 1).local(1, 32), 1, 1), Access(local(32, 1).spatial(1, 32), 1, 1)):
        taken, ideal = wavefronts(shared, access, 32)
        assert taken == ideal
    assert choose_swizzle((32, 33), 32, [spatial(32, 1).local(1, 33)]) == row_major(32, 33)


@quick
@given(register_layouts(rank=2, max_size=64), st.sampled_from((0, 1, 2)), st.integers(0, 4))
def test_address_plan(layout, bits, pad):
    shared = strided_order(layout.shape, (1, 0), pad)
    if bits:
        shared = shared.with_swizzle(bits, 1, bits + 1)
    access = access_of(layout, 16, 1)
    access = Access(layout, math.gcd(access.vector, shared.vector_width(1)), 1)
    plan = address_plan(shared, access)
    if plan is None:
        return
    for t in range(layout.num_threads):
        base = shared.offset(layout.thread_index(t))
        for i in range(layout.num_locals // access.vector):
            assert (base ^ plan.xors[i]) + plan.adds[i] == shared.offset(layout.index(t, i * access.vector))


def test_address_plan_of_a_matmul():
    """Few bases: the A tile of 128x32 by ldmatrix needs two, its stores one."""
    block = block_fragments(fragments(16, 8, 16, 16), (2, 2), (128, 128, 32))
    load = ldmatrix_plan(block.a, 16, 1).access
    store = access_of(blocked((128, 32), 128, 8), 16, 1)
    shared = choose_swizzle((128, 32), 16, [store, load])
    assert len(address_plan(shared, load).bases) == 2
    assert len(address_plan(shared, store).bases) == 1


def test_malformed_shared_layouts():
    for shape, strides in (((4,), (1, 2)), ((4,), [[(2, 1)]]), ((0,), (1,)), ((4,), (-1,))):
        with pytest.raises(UserError, match="E0403"):
            SharedLayout(shape, strides)
    with pytest.raises(UserError, match="E0403"):
        Swizzle(3, 0, 2)


def test_column_major():
    assert column_major(4, 8) == row_major(8, 4).transpose()
    assert column_major(4, 8).strides == (1, 4)


# global memory


def test_linear_forms():
    n, m = Linear.symbol("n"), Linear.symbol("m")
    assert n * 2 + m - n == n + m
    assert hash(n + m) == hash(m + n)
    assert (n * 3 - n * 3) == Linear()
    assert (n * 8 + 16).is_multiple_of(8)
    assert not (n * 4).is_multiple_of(8)
    assert (n * 4).is_multiple_of(8, {"n": 2})
    assert (n * 2 + 5).evaluate({"n": 7}) == 19
    assert str(n * 2 + 1) == "2*n + 1"
    with pytest.raises(UserError, match="E0404"):
        n * m


def test_global_layouts():
    a = GlobalLayout(("M", "N"), ("ld", 1))
    assert a.offset_of((3, 5)) == Linear.symbol("ld") * 3 + 5
    assert a.permute((1, 0)).contiguous_dims() == (0,)
    assert a.slice((2, 4), (8, 8)).offset == Linear.symbol("ld") * 2 + 4
    assert a.drop(1, "j") == GlobalLayout(("M",), ("ld",), "j")
    assert a.alignment(1, 8) == 1
    assert a.alignment(1, 8, {"ld": 16}) == 8
    assert not a.is_contiguous()
    b = GlobalLayout.row_major(("M", 64))
    assert b.strides == (Linear(64), Linear(1))
    assert b.is_contiguous()
    assert GlobalLayout.row_major(("M", "N")).is_contiguous()
    assert GlobalLayout.row_major(("B", "M", "N")).strides == (Linear.symbol("stride_0"), Linear.symbol("N"), Linear(1))
    # the stride of a dimension of extent 1 never matters
    assert GlobalLayout((1, "N"), ("ld", 1)) == GlobalLayout((1, "N"), (7, 1))
    assert hash(GlobalLayout((1, "N"), ("ld", 1))) == hash(GlobalLayout((1, "N"), (7, 1)))


@pytest.mark.parametrize("columns", [48, 80, 96, 192])
def test_rows_of_other_lengths_are_padded(columns):
    """A thread reaches all matrices of a tile from one address; a swizzle would take one each."""
    store = access_of(blocked((64, columns), 128, 8), 16, 1)
    load = ldmatrix_plan(local(4, columns // 16) * fragments(16, 8, 16, 16).a, 16, 1).access
    shared = choose_swizzle((64, columns), 16, [store, load, load])
    assert shared.swizzle is None
    assert len(address_plan(shared, load).bases) == 1
    taken, ideal = wavefronts(shared, load, 16)
    assert taken == ideal
    compact = choose_swizzle((64, columns), 16, [store, load], compact=True)
    assert compact.size == 64 * columns
