"""Tiles of packed elements: the bytes of each thread, the least tile of whole pieces, stored tiles of other shapes."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.layouts.strategies import register_layouts
from tilus.diagnostics import UserError
from tilus.layouts import (
    Access,
    RegisterLayout,
    bank_conflicts,
    byte_layout,
    parse_layout,
    replicated,
    row_major,
    spatial,
    tile_for,
    unify,
    wavefronts,
)
from tilus.layouts.mma import DENSE, SPARSE, block_fragments, fragments, quad_pair_fragments
from tilus.lowering.dots.quad_pairs import QUAD_GRIDS

WIDTHS = [*range(1, 9), 9, 10, 11, 12, 13, 14, 15, 16]
ATOMS = {
    **{f"{bits}:m{m}n{n}k{k}{':sparse' * sparse}": fragments(m, n, k, bits, sparse)
       for table, sparse in ((DENSE, False), (SPARSE, True)) for bits, shapes in table.items() for m, n, k in shapes},
    **{f"volta:{grid}:{'row' if row else 'col'}:{repeat}": quad_pair_fragments(grid, True, row, True, (1, repeat))
       for grid, row, repeat in itertools.product(QUAD_GRIDS, (True, False), (1, 2))},
}


@pytest.mark.parametrize("name", ATOMS)
def test_tiles_of_tensor_cores(name: str) -> None:
    """Each thread's bytes are whole pieces of 128 bits, which a warp reads in as few passes as there may be, and no
    smaller tile has that."""
    atom = ATOMS[name]
    for bits, (wm, wn) in itertools.product(WIDTHS, [(1, 1), (1, 2), (2, 1), (1, 3), (2, 2), (1, 5), (3, 2), (1, 7),
                                                     (2, 4), (8, 1)]):
        fragment = block_fragments(atom, (wm, wn), (atom.m * wm, atom.n * wn, atom.k)).b
        tile = tile_for(fragment, bits)
        k, n = tile.shape
        assert tile == block_fragments(atom, (wm, wn), (atom.m * wm, n, k)).b
        assert tile.num_locals * bits % 128 == 0
        repeats = tile.size // fragment.size
        assert all(fragment.num_locals * fewer * bits % 128 for fewer in range(1, repeats))
        assert n == fragment.shape[1], "of equal tiles the one that is longest along k"
        check_accesses(byte_layout(tile, bits))


@pytest.mark.parametrize("name", [name for name in ATOMS if "sparse" not in name])
def test_tiles_of_the_first_operand(name: str) -> None:
    """Weights on the left: (m, k)."""
    atom = ATOMS[name]
    for bits, (wm, wn) in itertools.product(range(1, 9), [(1, 1), (2, 1), (1, 2), (4, 2)]):
        fragment = block_fragments(atom, (wm, wn), (atom.m * wm, atom.n * wn, atom.k)).a
        tile = tile_for(fragment, bits)
        m, k = tile.shape
        assert tile == block_fragments(atom, (wm, wn), (m, atom.n * wn, k)).a
        assert tile.num_locals * bits % 128 == 0
        check_accesses(byte_layout(tile, bits))


def check_accesses(memory: RegisterLayout) -> None:
    """Every access is one of 16 bytes, aligned, and without conflicts in shared memory."""
    assert memory.vector_width(0) % 16 == 0
    shared = row_major(*memory.shape)
    taken, ideal = wavefronts(shared, Access(memory, 16, 0), 8)
    assert taken <= ideal
    first = memory.table()[:, ::16, 0]
    assert (first % 16 == 0).all()
    for warp, piece in itertools.product(range(0, memory.num_threads, 32), range(first.shape[1])):
        assert bank_conflicts(first[warp:warp + 32, piece], 16) <= 4


@settings(max_examples=60)
@given(st.sampled_from(sorted(ATOMS)), st.sampled_from(WIDTHS), st.integers(1, 3), st.integers(1, 3),
       st.integers(1, 300), st.integers(1, 300))
def test_at_least(name: str, bits: int, wm: int, wn: int, k: int, n: int) -> None:
    atom = ATOMS[name]
    fragment = block_fragments(atom, (wm, wn), (atom.m * wm, atom.n * wn, atom.k)).b
    tile = tile_for(fragment, bits, (k, n))
    assert tile.shape[0] >= k
    assert tile.shape[1] >= n
    assert tile.num_locals * bits % 128 == 0
    a, b = (-(-have // unit) for have, unit in zip((k, n), fragment.shape, strict=True))
    own = fragment.num_locals * bits
    least = min(i * j for i in range(a, a + 128) for j in range(b, b + 128) if own * i * j % 128 == 0)
    assert tile.size == least * fragment.size


def test_the_first_operand_and_the_order_of_registers() -> None:
    atom = fragments(16, 8, 16, 16)
    fragment = block_fragments(atom, (2, 2), (32, 16, 16)).a
    assert tile_for(fragment, 4) == block_fragments(atom, (2, 2), tile_mnk(tile_for(fragment, 4).shape)).a
    volta = quad_pair_fragments((2, 2), b_row=False)
    fragment = block_fragments(volta, (1, 2), (16, 32, 4), True).b
    tile = tile_for(fragment, 4, (16, 64), column=True)
    assert tile == block_fragments(volta, (1, 2), (16, 64, 16), True).b


def tile_mnk(shape: tuple[int, ...]) -> tuple[int, int, int]:
    return shape[0], 16, shape[1]


def test_no_fragment_of_warps() -> None:
    with pytest.raises(UserError, match=r"E0403.*not made of one warp's fragment"):
        tile_for(spatial(8, 4) * spatial(1, 3), 4)
    with pytest.raises(UserError, match=r"E0403.*not made of one warp's fragment"):
        tile_for(RegisterLayout((8, 8), [(2, 1, 1), (8, 0, 1), (4, 1, 2)]), 4)
    with pytest.raises(UserError, match=r"at_least=\(64,\) has not the 2 extents"):
        tile_for(fragments(16, 8, 16, 16).b, 4, (64,))


@settings(max_examples=60)
@given(register_layouts(), st.integers(1, 16), st.data())
def test_bytes(layout: RegisterLayout, bits: int, data: st.DataObject) -> None:
    """A thread's bytes one after another, in pieces between which those of the other threads lie."""
    own = layout.num_locals * bits
    if own % 8:
        with pytest.raises(UserError, match=r"E0403.*fill no whole bytes"):
            byte_layout(layout, bits)
        return
    piece = data.draw(st.sampled_from([n for n in range(1, own // 8 + 1) if own // 8 % n == 0]))
    memory = byte_layout(layout, bits, piece)
    assert (memory.num_threads, memory.num_locals, memory.replica_terms) == (
        layout.num_threads, own // 8, layout.replica_terms)
    holders = layout.num_threads // layout.replication
    first = [t for t in range(layout.num_threads) if layout.thread_of(layout.index(t, 0)) == t]
    for rank, thread in enumerate(first):
        for byte in range(own // 8):
            assert memory.index(thread, byte) == (byte // piece * holders * piece + rank * piece + byte % piece,)


def test_pieces_that_do_not_divide() -> None:
    with pytest.raises(UserError, match="a thread's 12 bytes do not come in pieces of 8"):
        byte_layout(spatial(32).local(24), 4, 8)


def read(tile: np.ndarray, layout: RegisterLayout) -> np.ndarray:
    """The bytes of each thread."""
    return tile[tuple(np.moveaxis(layout.table(), -1, 0))]


@pytest.mark.parametrize(("bits", "shape", "stored_bits"), [
    (4, (4096,), 8), (4, (8, 512), 8), (4, (1024,), 32), (4, (32, 8, 4), 32), (3, (3072,), 8), (6, (48, 128), 8),
    (12, (12, 128, 4), 16)])
def test_extents_of_a_stored_tile(bits: int, shape: tuple[int, ...], stored_bits: int) -> None:
    layout = block_fragments(fragments(16, 8, 16, 16), (1, 4), (16, 128, 64)).b
    found = unify(layout, bits, shape, stored_bits)
    assert found.shape == (*shape[:-1], shape[-1] * stored_bits // 8)
    memory = np.arange(found.size)
    assert (read(memory.reshape(found.shape), found) == read(memory, byte_layout(layout, bits))).all()


def test_layout_of_a_stored_tile() -> None:
    layout = fragments(16, 8, 16, 16).b.tile_to((32, 16))
    words = spatial(8, 4).local(2, 1)
    found = unify(layout, 4, words, 32)
    assert found == words.local(1, 4)
    assert found.num_locals * 8 == layout.num_locals * 4
    assert unify(layout, 4, spatial(32).local(8)) == spatial(32).local(8)


@pytest.mark.parametrize(("stored", "bits", "message"), [
    (spatial(32).local(4), 8, (r"local\(.*\) has 32 threads with 64 bits each \(16 elements of 4\), "
                               r"spatial\(32\).local\(4\) has 32 threads with 32 bits each \(4 elements of 8\)")),
    (spatial(64).local(8), 8, r"32 threads with 64 bits each .* has 64 threads with 64 bits each"),
    (replicated(2, 1).spatial(16).local(2), 32, "threads that hold the same elements of .* hold different ones"),
    ((100,), 8, "a stored tile of 100 elements of 8 bits has 800 bits, and one of 32×16 elements of 4 bits .* 2048"),
    ((2, 1024), 1, "whole bytes, not 1 bits"),
], ids=str)
def test_tiles_that_do_not_fit(stored: RegisterLayout | tuple[int, ...], bits: int, message: str) -> None:
    layout = fragments(16, 8, 16, 16).b.tile_to((32, 16))
    with pytest.raises(UserError, match=f"E0403.*{message}"):
        unify(layout, 4, stored, bits)


def test_extents_that_cut_pieces() -> None:
    with pytest.raises(UserError, match="E0404"):
        unify(parse_layout("mma(m16n8k16, 16).b").tile_to((32, 16)), 3, (64, 3))  # type: ignore[union-attr]
