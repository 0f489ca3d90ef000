"""Laws of register layouts against brute-force enumeration."""

from __future__ import annotations

import itertools
import math
import pickle

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.layouts.strategies import meaning, register_layouts
from tilus.diagnostics import UserError
from tilus.layouts import (
    RegisterLayout,
    blocked,
    column_local,
    column_spatial,
    concatenate,
    local,
    replicated,
    spatial,
)

quick = settings(max_examples=80)


def pairs(n: int = 2, **kwargs):
    return st.integers(1, 3).flatmap(lambda rank: st.tuples(*[register_layouts(rank, **kwargs)] * n))


def test_constructors():
    assert spatial(2, 3).index(4, 0) == (1, 1)
    assert column_spatial(2, 3).index(4, 0) == (0, 2)
    assert local(2, 3).index(0, 4) == (1, 1)
    assert column_local(2, 3).index(0, 4) == (0, 2)
    assert replicated(4, 2).index(3, 0) == (0, 0)
    assert replicated(4, 2).shape == (1, 1)


def test_mma_a_operand():
    """m16n8k16, A: row = lane / 4 + 8 for odd pairs, column = 2 * (lane % 4) + parity + 8 for the upper four."""
    layout = column_local(2, 2).spatial(8, 4).local(1, 2)
    assert layout.shape == (16, 16)
    for lane, i in itertools.product(range(32), range(8)):
        row = lane // 4 + (8 if i in (2, 3, 6, 7) else 0)
        column = lane % 4 * 2 + (i & 1) + (8 if i >= 4 else 0)
        assert layout.index(lane, i) == (row, column)


@quick
@given(register_layouts())
def test_queries_agree_with_the_meaning(layout):
    table = layout.table()
    holders = {}
    for (t, l), index in meaning(layout).items():
        assert layout.index(t, l) == index == tuple(table[t, l])
        assert tuple(layout.thread_offsets()[t] + layout.local_offsets()[l]) == index
        for d in range(layout.rank):
            value = sum(t // div % mod * mul for div, mod, mul in layout.thread_terms(d))
            value += sum(l // div % mod * mul for div, mod, mul in layout.local_terms(d))
            assert value == index[d]
        assert layout.local_of(index) == l
        holders.setdefault(index, []).append(t)
    assert len(holders) == layout.size
    for index, threads in holders.items():
        assert layout.threads_of(index) == tuple(sorted(threads))
        assert layout.thread_of(index) == min(threads)
        first = [t for t in threads if all(t // div % mod == 0 for div, mod in layout.replica_terms)]
        assert first == [min(threads)]
    assert layout.replication == len(threads)
    threads, locals_ = layout.owners(table)
    assert (locals_ == np.arange(layout.num_locals)).all()
    assert np.isin(np.arange(layout.num_threads)[:, None] - threads, layout.replica_offsets).all()


@quick
@given(register_layouts())
def test_vector_width_is_the_longest_run(layout):
    table = layout.table()
    for d in range(layout.rank):
        width = layout.vector_width(d)
        step = np.zeros(layout.rank, dtype=np.int64)
        step[d] = 1
        grouped = table.reshape(layout.num_threads, -1, width, layout.rank)
        assert (grouped == grouped[:, :, :1] + np.arange(width)[:, None] * step).all()
        if width < layout.num_locals:
            assert tuple(table[0, width] - table[0, width - 1]) != tuple(step)


@quick
@given(pairs())
def test_equality_is_equality_of_functions(layouts):
    f, g = layouts
    same = f.shape == g.shape and meaning(f) == meaning(g)
    assert (f == g) == same
    again = RegisterLayout(f.shape, *([(s, d, st) for s, d, st in modes] for modes in (f.thread_modes, f.local_modes)))
    assert again == f
    assert hash(again) == hash(f)
    assert pickle.loads(pickle.dumps(f)) == f


@quick
@given(register_layouts(sizes=(4, 6, 8)), st.randoms(use_true_random=False))
def test_split_digits_and_digits_of_size_one_do_not_matter(layout, random):
    def split(modes):
        for size, d, stride in modes:
            part = random.choice([p for p in range(1, size + 1) if size % p == 0])
            yield from [(size // part, d, stride * part), (1, random.randrange(layout.rank), 1), (part, d, stride)]

    same = RegisterLayout(layout.shape, list(split(layout.thread_modes)), list(split(layout.local_modes)))
    assert same == layout
    assert hash(same) == hash(layout)


@quick
@given(pairs(max_size=24))
def test_product(layouts):
    f, g = layouts
    product = f * g
    for (t1, l1), (t2, l2) in itertools.product(meaning(f), meaning(g)):
        expected = tuple(a * n + b for a, n, b in zip(f.index(t1, l1), g.shape, g.index(t2, l2), strict=True))
        assert product.index(t1 * g.num_threads + t2, l1 * g.num_locals + l2) == expected


@quick
@given(pairs(3))
def test_product_is_associative_with_a_unit(layouts):
    f, g, h = layouts
    assert (f * g) * h == f * (g * h)
    assert f * local(*[1] * f.rank) == f == spatial(*[1] * f.rank) * f


@quick
@given(pairs())
def test_division_undoes_the_product(layouts):
    f, g = layouts
    assert f * g / g == f
    assert (f * g).left_divide(f) == g


@quick
@given(pairs(sizes=(2, 4, 6)))
def test_division_is_exact_or_none(layouts):
    h, g = layouts
    right, left = h.try_divide(g), h.try_left_divide(g)
    if right is not None:
        assert right * g == h
    else:
        with pytest.raises(UserError, match="E0404"):
            h / g
    if left is not None:
        assert g * left == h
    else:
        with pytest.raises(UserError, match="E0404"):
            h.left_divide(g)


@quick
@given(register_layouts(rank=2, max_size=16, replication=False, sizes=(2, 3, 4)))
def test_division_finds_every_quotient(h):
    """Right division by each single digit layout, decided by enumeration of the candidate's meaning."""
    for g in (spatial(2, 1), spatial(1, 2), local(2, 1), local(1, 2), local(3, 1), spatial(1, 3)):
        found = h.try_divide(g)
        fits = (h.num_threads % g.num_threads == 0 and h.num_locals % g.num_locals == 0
                and all(a % b == 0 for a, b in zip(h.shape, g.shape, strict=True)))
        if fits:
            fits = all(tuple(i % n for i, n in zip(index, g.shape, strict=True))
                       == g.index(t % g.num_threads, l % g.num_locals) for (t, l), index in meaning(h).items())
        if fits:
            by_outer = {}
            for (t, l), index in meaning(h).items():
                outer = tuple(i // n for i, n in zip(index, g.shape, strict=True))
                by_outer.setdefault((t // g.num_threads, l // g.num_locals), set()).add(outer)
            fits = all(len(values) == 1 for values in by_outer.values())
        assert (found is not None) == fits


@quick
@given(register_layouts(), st.data())
def test_permute(layout, data):
    dims = data.draw(st.permutations(range(layout.rank)))
    permuted = layout.permute(dims)
    for (t, l), index in meaning(layout).items():
        assert permuted.index(t, l) == tuple(index[d] for d in dims)
    assert layout.transpose().transpose() == layout


@quick
@given(register_layouts(), st.data())
def test_reshape(layout, data):
    rest, shape = layout.size, []
    while rest > 1 or not shape:
        part = data.draw(st.sampled_from([n for n in range(1, rest + 1) if rest % n == 0]))
        shape.append(part)
        rest //= part
        if len(shape) == 3:
            shape[-1] *= rest
            break
    try:
        reshaped = layout.reshape(shape)
    except UserError:
        flat = [np.ravel_multi_index(index, layout.shape) for index in meaning(layout).values()]
        columns = np.stack(np.unravel_index(flat, shape), -1).reshape(layout.num_threads, layout.num_locals, -1)
        separable = columns[:, :1] + columns[:1] - columns[:1, :1]
        exact = (columns == separable).all() and _is_expressible(layout, shape)
        assert not exact
        return
    for (t, l), index in meaning(layout).items():
        assert np.ravel_multi_index(reshaped.index(t, l), shape) == np.ravel_multi_index(index, layout.shape)
    assert reshaped.reshape(layout.shape) == layout


def _is_expressible(layout, shape):
    """Whether each digit's steps, as flat offsets, stay inside the new dimensions they start in."""
    weights = [math.prod(shape[d + 1:]) for d in range(len(shape))]
    cuts = set(weights)
    old = [math.prod(layout.shape[d + 1:]) for d in range(layout.rank)]
    for mode in (*layout.thread_modes, *layout.local_modes):
        if mode.dim < 0:
            continue
        stride = mode.stride * old[mode.dim]
        for cut in cuts:
            if stride < cut < stride * mode.size and (cut % stride or stride * mode.size % cut):
                return False
            if cut <= stride and stride % cut:
                return False
    return True


@quick
@given(register_layouts(), st.data())
def test_reduce_expand_squeeze_broadcast(layout, data):
    axis = data.draw(st.integers(0, layout.rank - 1))
    reduced = layout.reduce(axis)
    assert reduced.num_threads == layout.num_threads
    table = meaning(reduced)
    kept = {t: set() for t in range(layout.num_threads)}
    for (t, _), index in meaning(layout).items():
        kept[t].add(index[:axis] + index[axis + 1:])
    assert kept == {t: {table[t, l] for l in range(reduced.num_locals)} for t in range(layout.num_threads)}
    assert layout.reduce(axis, keepdims=True) == reduced.expand_dims(axis)
    assert reduced.expand_dims(axis).squeeze(axis) == reduced
    grown = layout.reduce(axis, keepdims=True).broadcast(layout.shape)
    assert grown.shape == layout.shape
    for (t, l), index in meaning(grown).items():
        assert index[:axis] + index[axis + 1:] == table[t, l % reduced.num_locals]


@quick
@given(register_layouts(), st.data())
def test_slice(layout, data):
    starts, extents = [], []
    for n in layout.shape:
        extent = data.draw(st.integers(1, n))
        extents.append(extent)
        starts.append(data.draw(st.integers(0, n - extent)))
    box = [range(s, s + e) for s, e in zip(starts, extents, strict=True)]
    inside = {t: [l for l in range(layout.num_locals)
                  if all(i in r for i, r in zip(layout.index(t, l), box, strict=True))]
              for t in range(layout.num_threads)}
    try:
        part = layout.slice(starts, extents)
    except UserError:
        return
    assert part.layout.shape == tuple(extents)
    for (t, l), index in meaning(part.layout).items():
        whole = tuple(i + s for i, s in zip(index, starts, strict=True))
        assert layout.index(t, part.locals[l]) == whole
        assert sorted(part.locals) == inside[t]


def test_slice_examples():
    layout = column_local(2, 2).spatial(8, 4).local(1, 2)
    assert layout.slice((8, 0), (8, 16)).locals == (2, 3, 6, 7)
    assert local(10).slice((3,), (4,)).locals == (3, 4, 5, 6)
    assert local(2, 3).spatial(4, 1).slice((4, 1), (4, 2)) == (local(1, 2).spatial(4, 1), (4, 5))
    with pytest.raises(UserError, match="E0404"):
        layout.slice((0, 0), (4, 16))
    with pytest.raises(UserError, match="E0404"):
        layout.slice((4, 0), (8, 16))


@quick
@given(register_layouts(max_size=24), st.lists(st.integers(1, 3), min_size=1, max_size=3), st.data())
def test_concatenate(base, counts, data):
    axis = data.draw(st.integers(0, base.rank - 1))
    parts = [local(*(n if d == axis else 1 for d in range(base.rank))) * base for n in counts]
    whole = concatenate(parts, axis)
    begin = first = 0
    for part in parts:
        for (t, l), index in meaning(part).items():
            moved = (*index[:axis], index[axis] + begin, *index[axis + 1:])
            assert whole.index(t, first + l) == moved
        begin += part.shape[axis]
        first += part.num_locals
    assert whole.shape[axis] == begin


@quick
@given(register_layouts(), st.data())
def test_moving_digits_between_threads_and_locals(layout, data):
    count = data.draw(st.sampled_from([n for n in range(1, layout.num_locals + 1) if layout.num_locals % n == 0]))
    try:
        spread = layout.local_to_thread(count)
    except UserError:
        assume(False)
    for (t, l), index in meaning(layout).items():
        assert spread.index(t * count + l % count, l // count) == index


@settings(max_examples=150)
@given(st.lists(st.integers(1, 70), min_size=0, max_size=3), st.sampled_from((1, 32, 96, 128, 256)),
       st.sampled_from((1, 2, 8)), st.booleans())
def test_blocked(shape, num_threads, vector, column):
    order = tuple(range(len(shape))) if column else None
    layout = blocked(shape, num_threads, vector, order)
    assert layout.num_threads == num_threads
    assert layout.covers(shape)
    if shape:
        fast = 0 if column else len(shape) - 1
        assert layout.vector_width(fast) % vector == 0
        # no dimension is padded to twice its extent (in vectors) or more
        for d, (have, want) in enumerate(zip(layout.shape, shape, strict=True)):
            unit = vector if d == fast else 1
            assert have < 2 * -(-want // unit) * unit


def test_blocked_is_coalesced():
    layout = blocked((128, 32), 128, vector=8)
    assert layout == local(4, 1).spatial(32, 4).local(1, 8)
    assert blocked((64, 59), 128) == local(32, 1).spatial(2, 64)
    assert blocked((64, 64), 128, vector=8, order=(0, 1)) == blocked((64, 64), 128, vector=8).transpose()


def test_malformed_layouts_are_refused():
    for shape, threads, locals_ in (
        ((4,), [(2, 0, 1)], []), ((4,), [(2, 0, 1)], [(2, 0, 1)]), ((2,), [], [(2, -1, 0)]), ((2,), [(2, 1, 1)], []),
    ):
        with pytest.raises(UserError, match="E0403"):
            RegisterLayout(shape, threads, locals_)
    with pytest.raises(UserError, match="E0403"):
        spatial(4, 0)
    with pytest.raises(UserError, match="E0404"):
        spatial(4) * spatial(4, 4)
