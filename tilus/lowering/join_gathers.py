"""Gathers of neighbours in memory, as of the channels of pixels, become one of words that hold them.

``view[i]``, ``view[i + 1]`` and ``view[i + 2]`` of elements of a byte are one access to each place instead of three,
and shifts. Elements of which a word does not hold several stay as they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from tilus.ir.builder import Builder
from tilus.ir.core import Block, Function, Module, Operation, Value
from tilus.ir.dtypes import integer, u32
from tilus.ir.ops import (
    Binary,
    Bitcast,
    Broadcast,
    Cast,
    Const,
    Gather,
    GatherWords,
    Iota,
    Reshape,
    Subview,
    Transpose,
)
from tilus.ir.rewriter import replace_values

Member = tuple[int, Gather]
"""A gather, and how far after the first place its elements are."""
Place = tuple[object, ...]


def join_gathers(module: Module) -> None:
    """Join those of each block between which no memory changes, in place."""
    for kernel in module.kernels:
        replaced: dict[Value, Value] = {}
        for block in _blocks(kernel.body):
            _join(kernel, block, replaced)
        replace_values(kernel.body, replaced)


def _blocks(block: Block) -> Iterator[Block]:
    yield block
    for op in block.ops:
        for region in op.regions:
            yield from _blocks(region)


def _join(kernel: Function, block: Block, replaced: dict[Value, Value]) -> None:
    before: dict[Operation, list[Operation]] = {}
    for group in _groups(kernel, block):
        b = Builder(Block(), group[0][1].span)
        replaced.update(_words(b, group))
        before.setdefault(group[0][1], []).extend(b.block.ops)
    if before:
        joined = {g for g in block.ops if g.results and g.results[0] in replaced}
        block.ops = [o for op in block.ops for o in (*before.get(op, ()), *(() if op in joined else (op,)))]


def _groups(kernel: Function, block: Block) -> list[list[Member]]:
    """Gathers that one word serves, two at least, in order."""
    found: list[list[Member]] = []
    places: dict[Place, list[Member]] = {}
    for op in (*block.ops, None):
        if op is None or any(e.kind != "read" for o in op.walk() for e in o.effects()):
            for members in places.values():
                found += _within_words(members)
            places = {}
        elif isinstance(op, Gather) and _can_join(kernel, op):
            base, offset = _split(op.indices[-1])
            places.setdefault((op.view, *op.indices[:-1], base, op.mask), []).append((offset, op))
    return found


def _can_join(kernel: Function, op: Gather) -> bool:
    if not op.indices:
        return False  # the only element of an array of rank 0
    tile, index = op.result.tile, op.indices[-1].tile.dtype
    return (bool(tile.shape) and tile.dtype.bits in (8, 16) and op.other is None and not op.ring
            and index.kind == "int" and index.bits >= 32 and _is_dense(kernel, op.view)
            and not _counts(op.indices[-1]))


def _counts(index: Value) -> bool:
    """Whether an index may run along memory, so that gathers are vectors as they are."""
    op = index.defining
    if isinstance(op, Iota):
        return True
    if isinstance(op, Binary) and op.kind in ("add", "sub"):
        return _counts(op.lhs) or _counts(op.rhs)
    return isinstance(op, (Broadcast, Reshape, Transpose, Cast)) and _counts(op.operands[0])


def _is_dense(kernel: Function, view: Value) -> bool:
    """Whether elements along the last dimension follow each other in global memory."""
    last = view.view.rank - 1
    while isinstance(view.defining, Subview):
        op = view.defining
        kept = [d for d in range(op.view.view.rank) if d not in op.dropped]
        view, last = op.view, kept[last]
    facts = dict(zip(kernel.body.args, kernel.parameters, strict=True)).get(view)
    return facts is not None and facts.kind == "array" and not facts.prepacked and facts.strides[last] == 1


def _split(index: Value) -> tuple[Value, int]:
    """An index as another one and a constant."""
    offset = 0
    while isinstance(op := index.defining, Binary) and op.kind == "add":
        pairs = [(x, y.defining) for x, y in ((op.lhs, op.rhs), (op.rhs, op.lhs)) if isinstance(y.defining, Const)]
        if not pairs:
            break
        index, constant = pairs[0]
        assert isinstance(constant, Const)
        offset += int(constant.value)
    return index, offset


def _within_words(members: Sequence[Member]) -> Iterable[list[Member]]:
    """Divide gathers of one place, by where their elements are; each group in the order of the block."""
    most = u32.bits // members[0][1].result.tile.dtype.bits
    group: list[Member] = []
    order = {op: n for n, (_, op) in enumerate(members)}
    for offset, op in (*sorted(members, key=lambda m: m[0]), (None, None)):
        if group and (offset is None or offset - group[0][0] >= most):
            if len({o for o, _ in group}) > 1:
                yield sorted(group, key=lambda m: order[m[1]])
            group = []
        if offset is not None and op is not None:
            group.append((offset, op))


def _words(b: Builder, group: Sequence[Member]) -> Iterator[tuple[Value, Value]]:
    """Write down the words of a group; gives each gather's result, and what it is instead."""
    first, op = min(o for o, _ in group), group[0][1]
    tile, dtype = op.result.tile, op.result.tile.dtype
    index, _ = _split(op.indices[-1])
    if first:
        constant = b.add(Const(first, index.tile.dtype, index.tile.shape)).result
        index = b.add(Binary("add", index, constant)).result
    count = max(o for o, _ in group) - first + 1
    words = b.add(GatherWords(op.view, (*op.indices[:-1], index), count, op.mask)).result
    codes: dict[int, Value] = {}
    for offset, member in group:
        if offset not in codes:
            word = words
            if offset > first:
                amount = b.add(Const((offset - first) * dtype.bits, u32, tile.shape)).result
                word = b.add(Binary("lsr", words, amount)).result
            code = b.add(Cast(word, integer(dtype.bits, signed=False))).result
            codes[offset] = code if code.tile.dtype is dtype else b.add(Bitcast(code, dtype)).result
        yield member.result, codes[offset]


__all__ = ["join_gathers"]
