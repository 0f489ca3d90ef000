"""Large tiles of the vector side are worked on strip by strip: of each some rows go through all of the operations while
they are in the buffer, and the next ones are on their way.
"""

from __future__ import annotations

import math

from tilus.ir.core import Block, Module, Operation, Value
from tilus.ir.dtypes import i64
from tilus.ir.ops import Binary, Reduce, Store, Yield
from tilus.ir.ops.cores import Receive, Send, Side, Strips
from tilus.ir.types import TileType
from tilus.lowering.ascend.halves import Division, row_dimensions
from tilus.lowering.ascend.lazy import LAZY
from tilus.lowering.facts import Fact, Facts, kernel_facts

BYTES = 16384
"""Of the largest tile of a strip, as numbers of 32 bits. It may be twice as many where rows are reduced, since calls
for a number of each row take as long for few rows as for many."""
PORTS = (Receive, Send)
FEWEST = 16
"""Rows of a strip at least: whole blocks of one number of each."""


def cut_strips(module: Module) -> None:
    """Cut blocks of vector sides that receive or send tiles, in place."""
    for function in module.kernels:
        for op in function.body.ops:
            if isinstance(op, Side) and op.kind == "vector":
                rows = row_dimensions(op.body)
                blocks = [b for b in _blocks(op.body) if any(isinstance(inner, PORTS) for inner in b.ops)]
                facts = next(iter(kernel_facts(Module([function], module.launch))))[1] if blocks else None
                for block in blocks:
                    assert facts is not None
                    _cut(block, rows, facts)


def _blocks(block: Block) -> list[Block]:
    return [block, *(inner for op in block.ops for region in op.regions for inner in _blocks(region))]


def _cut(block: Block, rows: dict[Value, int], facts: Facts) -> None:
    if not _one_way(block):
        return
    mine = [op for op in block.ops[:-1] if _is_of_rows(op, rows)]
    made = {r for op in mine for r in op.results}
    if any(isinstance(inner, PORTS) for op in mine if op.regions for inner in op.walk()):
        return
    if not all(_first(v, rows) for op in mine for v in (*op.results, *op.operands) if v in rows):
        return
    if any(not _is_of_rows(op, rows) and any(v in made for v in _used(op)) for op in block.ops[:-1]):
        return
    limit = BYTES * (2 if any(isinstance(op, Reduce) for op in mine) else 1)
    count = _strips(limit, {v: rows[v] for op in mine for v in (*op.results, *op.operands) if v in rows})
    if count > 1:
        _make(block, mine, made, rows, count, facts)


def _one_way(block: Block) -> bool:
    """Whether nothing that the block sends is answered in it, so that it can have all that it receives at once."""
    going = [op for op in block.ops if isinstance(op, (Send, Receive))]
    first = next((n for n, op in enumerate(going) if isinstance(op, Send)), len(going))
    return all(isinstance(op, Send) for op in going[first:]) and len({op.channel for op in going}) == len(going)


def _used(op: Operation) -> list[Value]:
    """What an operation and those within it use."""
    return [v for inner in op.walk() for v in inner.operands]


def _is_of_rows(op: Operation, rows: dict[Value, int]) -> bool:
    return any(r in rows for r in op.results) or (isinstance(op, (Send, Store)) and op.value in rows)


def _first(value: Value, rows: dict[Value, int]) -> bool:
    """Whether the rows are the first dimension of several."""
    return all(n == 1 for n in value.tile.shape[:rows[value]])


def _strips(limit: int, tiles: dict[Value, int]) -> int:
    """How many strips it takes for each tile of one to be small."""
    extents = {v.tile.shape[d] for v, d in tiles.items()}
    if len(extents) != 1:
        return 1
    extent = extents.pop()
    most = max(math.prod(v.tile.shape) * 4 for v in tiles)
    count = 1
    while most // count > limit and extent % (2 * count) == 0 and extent // (2 * count) >= FEWEST:
        count *= 2
    return count


def _made_again(mine: list[Operation], within: set[Value], rows: dict[Value, int], facts: Facts) -> list[Operation]:
    """What each strip makes for itself of what comes from outside: broadcasts and the like, which cost nothing, and
    indices that fit in 32 bits only together with what they are compared with."""
    found: dict[Operation, None] = {}

    def visit(op: Operation) -> None:
        for value in _used(op):
            maker = value.defining
            if maker is None or maker in found or value not in rows or value in within:
                continue
            if isinstance(maker, LAZY) or (_is_index_sum(maker) and _is_wide(facts.of(value))):
                visit(maker)
                found[maker] = None

    for op in mine:
        visit(op)
    return list(found)


def _is_wide(fact: Fact) -> bool:
    """Whether the difference to another such index may not fit in 32 bits."""
    return fact.high - fact.low >= 1 << 31


def _is_index_sum(op: Operation | None) -> bool:
    return isinstance(op, Binary) and op.kind in ("add", "sub") and op.result.tile.dtype is i64 and all(
        v.tile.is_scalar or isinstance(v.defining, LAZY) or _is_index_sum(v.defining) for v in op.operands)


def _make(block: Block, mine: list[Operation], made: set[Value], rows: dict[Value, int], count: int,
          facts: Facts) -> None:
    within = {r for op in mine for inner in op.walk() for r in inner.results}
    first = _made_again(mine, within, rows, facts)
    known = made | {r for op in first for r in op.results}
    inputs = list(dict.fromkeys(
        v for op in (*first, *mine) for v in _used(op) if v in rows and v not in known and v not in within))
    outside = {v for op in block.ops if op not in mine for inner in op.walk() for v in inner.operands}
    results = [r for op in mine for r in op.results if r in rows and r in outside]
    body = Block([TileType(i64), *(v.type for v in inputs)], ["strip", *(v.name for v in inputs)])
    mapping: dict[Value, Value] = dict(zip(inputs, body.args[1:], strict=True))
    body.ops = [op.clone(mapping) for op in (*first, *mine)]
    body.append(Yield(tuple(mapping[r] for r in results)))
    strips = Strips(tuple(inputs), count, body, span=mine[0].span, types=[r.type for r in results])
    divided = {mapping[v]: d for v, d in rows.items() if v in mapping}
    Division(divided, count, body.args[0]).block(body)
    for index, (old, new) in enumerate(zip(results, strips.results, strict=True)):
        rows[new], new.name = rows[old], old.name
        old.owner, old.index = strips, index
    strips.results = tuple(results)
    at = max(block.ops.index(op) for op in mine)
    before = [op for op in block.ops[:at] if op not in mine]
    block.ops = [*before, strips, *block.ops[at + 1:]]
