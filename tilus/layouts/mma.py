"""Tensor-core operands as layout expressions: ``mma.sync``, ``ldmatrix``, ``stmatrix`` and ``movmatrix``.

Every fragment since Turing follows one rule: a matrix of 8 rows by 16 bytes takes one 32-bit register, in which lane
``l`` keeps the 4 bytes at row ``l / 4`` and position ``l % 4``; larger operands are column-major arrangements of such
matrices. Operands have shapes A ``(m, k)``, B ``(k, n)``, C ``(m, n)``. Source: PTX ISA, "Matrix Fragments for mma".
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from tilus.layouts.banks import Access
from tilus.layouts.modes import Mode, misfit, undefined
from tilus.layouts.register import RegisterLayout, column_local, column_spatial, local, replicated, spatial
from tilus.records import record


@record(frozen=True)
class Fragments:
    """The operands of one warp-level matrix instruction.

    Attributes:
        name: as in ``m16n8k16``.
        bits: width of an element of A and B as it sits in registers.
        a, b, c: layouts over ``(m, k)``, ``(k, n)`` and ``(m, n)``; c is also the result's.
        sparse: whether A is given compressed, 2 of 4 elements (1 of 2 where ``bits`` is 32): its k is half of B's.
    """

    name: str
    bits: int
    a: RegisterLayout
    b: RegisterLayout
    c: RegisterLayout
    sparse: bool = False

    @property
    def m(self) -> int:
        return self.c.shape[-2]

    @property
    def n(self) -> int:
        return self.c.shape[-1]

    @property
    def k(self) -> int:
        return self.b.shape[-2]


DENSE: dict[int, tuple[tuple[int, int, int], ...]] = {
    64: ((8, 8, 4), (16, 8, 4), (16, 8, 8), (16, 8, 16)),
    32: ((16, 8, 4), (16, 8, 8)),
    16: ((16, 8, 8), (16, 8, 16)),
    8: ((8, 8, 16), (16, 8, 16), (16, 8, 32)),
    4: ((8, 8, 32), (16, 8, 32), (16, 8, 64)),
    1: ((8, 8, 128), (16, 8, 128), (16, 8, 256)),
}
"""Shapes (m, n, k) of mma.sync by the width of A's and B's elements (f8, f6 and f4 under ``kind::f8f6f4`` take 8)."""

SPARSE: dict[int, tuple[tuple[int, int, int], ...]] = {
    32: ((16, 8, 8), (16, 8, 16)),
    16: ((16, 8, 16), (16, 8, 32)),
    8: ((16, 8, 32), (16, 8, 64)),
    4: ((16, 8, 64), (16, 8, 128)),
}
"""Shapes (m, n, k) of mma.sp.sync, with k of the uncompressed A."""


@lru_cache(maxsize=256)
def fragments(m: int, n: int, k: int, bits: int, sparse: bool = False) -> Fragments:
    """The operands of ``mma.sync.m{m}n{n}k{k}`` (``mma.sp.sync`` where ``sparse``) on elements of ``bits`` bits.

    Raises:
        UserError: E0403 if there is no such instruction.
    """
    table = SPARSE if sparse else DENSE
    if (m, n, k) not in table.get(bits, ()):
        kind = "mma.sp" if sparse else "mma"
        known = ", ".join(f"m{a}n{b}k{c}" for a, b, c in table.get(bits, ())) or "none"
        raise misfit(f"there is no {kind} of shape m{m}n{n}k{k} on elements of {bits} bits", help=f"shapes: {known}")
    held = k // 2 if sparse else k
    v = max(1, 32 // bits)
    rows = m // 8
    a = RegisterLayout((rows, held // (4 * v)), (), (Mode(held // (4 * v), 1, 1), Mode(rows, 0, 1)))
    return Fragments(
        f"m{m}n{n}k{k}", bits,
        a=a.spatial(8, 4).local(1, v),
        b=local(k // (4 * v), 1).column_spatial(4, 8).local(v, 1),
        c=local(rows, 1).spatial(8, 4).local(1, 2),
        sparse=sparse,
    )


_QUAD_PAIR_ROW = (Mode(2, 1, 4), Mode(4, 0, 1), Mode(4, 1, 1))


@lru_cache(maxsize=16)
def volta_fragments(a_row: bool = True, b_row: bool = False, f32: bool = True) -> Fragments:
    """The operands of Volta's ``mma.sync.m8n8k4`` on f16.

    Four quad pairs (lanes 0–3 with 16–19, and so on) multiply independently, so the layouts have a leading dimension
    of extent 4, the quad pair: A ``(4, 8, 4)``, B ``(4, 4, 8)``, C ``(4, 8, 8)``. :func:`quad_pair_fragments` makes one
    product of them.

    Args:
        a_row, b_row: whether the operand is ``.row`` (else ``.col``).
        f32: whether the accumulator is f32 (else f16).
    """
    by_row = RegisterLayout((4, 8, 4), _QUAD_PAIR_ROW, (Mode(4, 2, 1),))
    by_column = RegisterLayout((4, 8, 4), (Mode(2, 1, 4), Mode(4, 0, 1), Mode(4, 2, 1)), (Mode(4, 1, 1),))
    # B (k, n) mirrors A (m, k): .col has its k in registers, as .row has A's
    b = (by_column if b_row else by_row).permute((0, 2, 1))
    if f32:
        c = RegisterLayout((4, 8, 8), (Mode(2, 1, 4), Mode(4, 0, 1), Mode(2, 2, 2), Mode(2, 1, 1)),
                           (Mode(2, 2, 4), Mode(2, 1, 2), Mode(2, 2, 1)))
    else:
        c = RegisterLayout((4, 8, 8), _QUAD_PAIR_ROW, (Mode(8, 2, 1),))
    return Fragments("m8n8k4", 16, by_row if a_row else by_column, b, c)


@lru_cache(maxsize=128)
def quad_pair_fragments(grid: tuple[int, int], a_row: bool = True, b_row: bool = False, f32: bool = True,
                        repeats: tuple[int, int] = (1, 1)) -> Fragments:
    """A warp's product of the four quad pairs' ``m8n8k4``, and of several instructions.

    Quad pairs in one row of ``grid`` hold the same rows of A, those in one column the same columns of B. A row of the
    result is counted in the digits (half of the quad pair, row of the grid, repeat, row of four), a column likewise:
    so the lanes that read together from shared memory read neighbours, and where an operand has its rows (columns) in
    registers, two repeats give a thread eight neighbours. The locals of one instruction are the innermost ones.

    Args:
        grid: quad pairs along m and along n: their product is 4.
        a_row, b_row, f32: of the instruction, as for :func:`volta_fragments`.
        repeats: instructions along m and along n.
    """
    atom = volta_fragments(a_row, b_row, f32)
    (gm, gn), (rm, rn) = grid, repeats
    a = atom.a.reshape((gm, gn, 8, 4)).reduce(1)
    b = atom.b.reshape((gm, gn, 4, 8)).reduce(0)
    c = atom.c.reshape((gm, gn, 8, 8))
    return Fragments(
        f"{8 * gm * rm}x{8 * gn * rn} of {atom.name}", 16,
        a=(local(rm, 1, 1, 1) * a.expand_dims(0)).reshape((rm, gm, 2, 4, 4)).permute((2, 1, 0, 3, 4))
        .reshape((8 * gm * rm, 4)),
        b=(local(rn, 1, 1, 1) * b.expand_dims(0)).reshape((rn, gn, 4, 2, 4)).permute((2, 3, 1, 0, 4))
        .reshape((4, 8 * gn * rn)),
        c=(local(rm, rn, 1, 1, 1, 1) * c.expand_dims(0).expand_dims(0)).reshape((rm, rn, gm, gn, 2, 4, 2, 4))
        .permute((4, 2, 0, 5, 6, 3, 1, 7)).reshape((8 * gm * rm, 8 * gn * rn)),
    )


@record(frozen=True)
class BlockFragments:
    """Operands of a whole block's dot product: ``a`` (BM, BK), ``b`` (BK, BN), ``c`` (BM, BN) over all its warps."""

    atom: Fragments
    warps: tuple[int, int]
    a: RegisterLayout
    b: RegisterLayout
    c: RegisterLayout
    metadata: RegisterLayout | None = None


@lru_cache(maxsize=32)
def sparse_metadata(k: int, bits: int) -> RegisterLayout:
    """The metadata of ``mma.sp`` of 16 rows and k columns of A, zeros counted, with the selector 0: words of u16 for 16
    columns of elements of 16 bits, or of u32 for 32 of those of 8. A lane's word has row ``lane / 4`` in the lower half
    and row ``lane / 4 + 8`` in the upper, or is of one of both. Lanes that the selector leaves out repeat others."""
    words = k // (16 if bits == 16 else 32)
    if bits == 16:
        spread = (Mode(8, 0, 1), Mode(4 // words, -1, 0), Mode(words, 1, 1))
        return RegisterLayout((16, words), spread, (Mode(2, 0, 8),))
    return RegisterLayout((16, words), (Mode(8, 0, 1), Mode(words, 1, 1), Mode(2, 0, 8)), ())


@lru_cache(maxsize=32)
def scale_words(rows: int, columns: int) -> tuple[RegisterLayout, RegisterLayout]:
    """The words of block scales of one byte, four along k, that ``mma`` with ``.block_scale`` takes: of A (16 rows, 4)
    and of B (4, 8 columns), ``rows`` and ``columns`` being how many instructions' tiles the lanes of a quad share.

    An instruction chooses the lanes of a quad by its selectors ``thread-id``: A's word of row r of tile i is in lane
    ``r % 8 * 4 + 2 i + r / 8`` (i below 2), B's of column c of tile i in lane ``4 c + i`` (i below 4). Others repeat.
    """
    a = RegisterLayout((16 * rows, 4), (Mode(8, 0, 1), Mode(2 // rows, -1, 0), Mode(rows, 0, 16), Mode(2, 0, 8)),
                       (Mode(4, 1, 1),))
    b = RegisterLayout((4, 8 * columns), (Mode(8, 1, 1), Mode(4 // columns, -1, 0), Mode(columns, 1, 8)),
                       (Mode(4, 0, 1),))
    return a, b


@lru_cache(maxsize=512)
def block_fragments(atom: Fragments, warps: tuple[int, int], shape: tuple[int, int, int],
                    b_k_inner: bool = False, metadata: RegisterLayout | None = None) -> BlockFragments:
    """The atom spread over ``warps`` = (along m, along n) and repeated in locals up to ``shape`` = (m, n, k).

    Each warp owns one contiguous sub-block of C, so A is replicated along n's warps and B along m's. Extents that
    are no multiple are padded up. Locals count ``(m, k, atom)``, ``(k, n, atom)`` and ``(m, n, atom)`` repetitions,
    row-major; B's ``(n, k, atom)`` where ``b_k_inner``, so that a thread's elements follow each other along k.
    """
    wm, wn = warps
    m, n, k = shape
    rm, rn, rk = -(-m // (wm * atom.m)), -(-n // (wn * atom.n)), -(-k // atom.k)
    return BlockFragments(
        atom, warps,
        a=spatial(wm, 1).replicated(wn).local(rm, rk) * atom.a,
        b=replicated(wm, 2).spatial(1, wn) * (column_local if b_k_inner else local)(rk, rn) * atom.b,
        c=spatial(wm, wn).local(rm, rn) * atom.c,
        metadata=None if metadata is None else spatial(wm, 1).replicated(wn).local(rm, rk) * metadata,
    )


# ldmatrix, stmatrix


@record(frozen=True)
class MatrixPlan:
    """How a layout is loaded (stored) with ldmatrix (stmatrix): in ``count`` 8×8 matrices per instruction.

    Attributes:
        trans: whether ``.trans`` is needed.
        count: matrices per instruction: 4, 2 or 1.
        instructions: instructions per thread.
        rows: where each lane's row of 16 bytes begins: its local ``i * vector`` is the row for instruction ``i``
            (lanes beyond ``8 * count`` repeat addresses). Its ``vector`` locals per row are the row's elements.
        vector: elements of a row of 16 bytes.
        dim: the dimension along which a row is contiguous.
        registers: elements of one 32-bit register: instruction ``i``'s register ``j`` holds the layout's locals
            from ``(i * count + j) * registers`` on.
    """

    trans: bool
    count: int
    instructions: int
    rows: RegisterLayout
    vector: int
    dim: int
    registers: int

    @property
    def access(self) -> Access:
        """For ``choose_swizzle`` and ``bank_conflicts``: 16 bytes per lane."""
        return Access(self.rows, self.vector, self.dim)


@lru_cache(maxsize=512)
def ldmatrix_plan(layout: RegisterLayout, bits: int, dim: int, max_count: int = 4) -> MatrixPlan | None:
    """How ``ldmatrix`` fills a layout from shared memory in which ``dim`` is contiguous, or None if it cannot.

    Works for whole blocks of any number of warps. Rank must be 2; elements have 4, 8, 16 or 32 bits; only 16-bit
    elements can be transposed. The same plan read backwards is ``stmatrix``'s.

    Args:
        layout: the layout of the registers.
        bits: width of an element.
        dim: the dimension that is contiguous in shared memory: 0 or 1.
        max_count: the most matrices per instruction.
    """
    if layout.rank != 2 or bits not in (4, 8, 16, 32):
        return None
    v = 32 // bits
    turned = layout if dim == 1 else layout.transpose()
    outer, trans = turned.try_divide(spatial(8, 4).local(1, v)), False
    if outer is None and bits == 16:
        outer, trans = turned.try_divide(column_spatial(4, 8).local(2, 1)), True
    if outer is None:
        return None
    count = next((n for n in (4, 2) if n <= max_count and outer.num_locals % n == 0), 1)
    spread = _spread(outer, count)
    while spread is None:
        count //= 2
        spread = _spread(outer, count)
    rows = spread * spatial(8, 1) * local(1, 4 * v)
    if dim == 0:
        rows = rows.transpose()
    return MatrixPlan(trans, count, outer.num_locals // count, rows, 4 * v, dim, v)


def _spread(outer: RegisterLayout, count: int) -> RegisterLayout | None:
    """``count`` matrices over groups of eight lanes; the lanes left over repeat the first ones."""
    inner: list[Mode] = []
    rest = list(outer.local_modes)
    wanted = count
    while wanted > 1:
        mode = rest.pop()
        if mode.size % 2:
            return None
        taken = min(mode.size & -mode.size, wanted)
        inner.insert(0, Mode(taken, mode.dim, mode.stride))
        if taken != mode.size:
            rest.append(Mode(mode.size // taken, mode.dim, mode.stride * taken))
        wanted //= taken
    return RegisterLayout(outer.shape, [*outer.thread_modes, Mode(4 // count, -1, 0), *inner], rest)


MOVMATRIX_SOURCE = spatial(8, 4).local(1, 2)
"""The 8×8 matrix of 16-bit elements that ``movmatrix.trans`` reads, over (row, column)."""

MOVMATRIX_RESULT = column_spatial(4, 8).local(2, 1)
"""The same matrix after ``movmatrix.trans``, over (row, column) of the source."""


def parse_shape(name: str) -> tuple[int, int, int]:
    """``"m16n8k16"`` -> (16, 8, 16). Raises UserError E0404."""
    import re

    match = re.fullmatch(r"m(\d+)n(\d+)k(\d+)", name)
    if match is None:
        raise undefined(f"{name!r} is not the shape of a matrix instruction", help="write it as m16n8k16")
    m, n, k = (int(group) for group in match.groups())
    return m, n, k


def operand(name: str, bits: int, which: str, sparse: bool = False) -> RegisterLayout:
    """One operand (``a``, ``b`` or ``c``) of a shape given by name."""
    m, n, k = parse_shape(name)
    found: Sequence[str] = ("a", "b", "c")
    if which not in found:
        raise undefined(f"{which!r} is not an operand of a matrix instruction: a, b or c")
    result: RegisterLayout = getattr(fragments(m, n, k, bits, sparse), which)
    return result
