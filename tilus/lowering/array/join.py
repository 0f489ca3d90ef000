"""Horizontal fusion: kernels that need nothing of each other and do the same kind of work share a launch, in which each
has a range of the blocks."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence

from tilus.ir.builder import Builder
from tilus.ir.core import Block, Function, Operation, Value
from tilus.ir.ops import Compare, GridIndex, If, Yield
from tilus.ir.rewriter import rewrite_block
from tilus.records import record

MOST_KERNELS = 16
"""Of a launch: each has code of its own there."""
MOST_BYTES = 3 << 10
"""Of the arguments of a launch, of which all chips take 4 KiB."""


@record(frozen=True)
class Work:
    """What a kernel does as far as that decides on its launch. ``kind``: kernels of different ones would wait for each
    other's registers and shared memory; ``sizes``: the bytes that each array takes among the arguments."""

    kind: tuple[object, ...]
    reads: frozenset[str]
    writes: frozenset[str]
    sizes: dict[str, int]

    def waits_for(self, other: Work) -> bool:
        """Whether it has to run after ``other``, which came before it."""
        return bool(other.writes & (self.reads | self.writes) or other.reads & self.writes)


def launches_of(works: Sequence[Work], joins: bool) -> list[list[int]]:
    """Which kernels run together, in an order in which launches can run: each joins the first launch that it need not
    wait for and that has room."""
    launches: list[list[int]] = []
    place: list[int] = []
    for i, work in enumerate(works):
        first = 1 + max((place[j] for j in range(i) if work.waits_for(works[j])), default=-1)
        others = range(first, len(launches)) if joins else ()
        at = next((n for n in others if _has_room([works[j] for j in launches[n]], work)), len(launches))
        if at == len(launches):
            launches.append([])
        launches[at].append(i)
        place.append(at)
    return launches


def _has_room(present: Sequence[Work], work: Work) -> bool:
    sizes = {name: size for w in (*present, work) for name, size in w.sizes.items()}
    return present[0].kind == work.kind and len(present) < MOST_KERNELS and sum(sizes.values()) <= MOST_BYTES


Grid = Callable[[Builder], Sequence[Value]]
"""Writes the extents of a grid."""


def join_bodies(b: Builder, kernels: Sequence[tuple[Function, Grid]], arguments: Mapping[str, Value]) -> None:
    """Write the bodies of kernels, each for its range of the blocks along the first axis. With each is the grid that it
    is written for; ``arguments`` are what parameters have become."""
    _write_from(b, kernels, arguments, b.add(GridIndex(0)).result)
    b.add(Yield(()))


def _write_from(b: Builder, kernels: Sequence[tuple[Function, Grid]], arguments: Mapping[str, Value],
                number: Value) -> None:
    """For block ``number`` of what these kernels have. What others need is computed in their branch alone, and takes no
    registers in the first one's."""
    (kernel, grid), *others = kernels
    extents = grid(b)
    count = product_of(b, extents)
    then, orelse = Block(), Block()
    mapping = {a: arguments[p.name] for a, p in zip(kernel.body.args, kernel.parameters, strict=True)}
    indices = _indices(b.at(then), number, extents)
    then.ops += [op.clone(mapping) for op in kernel.body.ops]
    _replace_indices(then, indices)
    if not others:
        b.block.ops += then.ops[:-1]
        return
    _write_from(b.at(orelse), others, arguments, b.at(orelse).binary("sub", number, count))
    b.at(orelse).add(Yield(()))
    b.add(If(b.add(Compare("lt", number, count)).result, then, orelse))


def product_of(b: Builder, extents: Sequence[Value]) -> Value:
    """The number of blocks of a grid."""
    return functools.reduce(lambda x, y: b.binary("mul", x, y), extents)


def _indices(b: Builder, number: Value, extents: Sequence[Value]) -> list[Value]:
    """Those of a block in a grid whose first axis runs fastest."""
    found = []
    for extent in extents[:-1]:
        found.append(b.binary("mod", number, extent))
        number = b.binary("floordiv", number, extent)
    return [*found, number]


def _replace_indices(block: Block, indices: Sequence[Value]) -> None:
    replaced: dict[Value, Value] = {}

    def rewrite(op: Operation) -> list[Operation] | None:
        if not isinstance(op, GridIndex):
            return None
        replaced[op.result] = indices[op.axis]
        return []

    rewrite_block(block, rewrite, replaced)


__all__ = ["Grid", "Work", "join_bodies", "launches_of", "product_of"]
