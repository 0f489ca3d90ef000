"""Operands of dots that are in shared memory: which loads wait for the dot, and which the dot reads in place."""

from __future__ import annotations

from collections.abc import Iterator

from tilus.ir.core import Block, Function, Operation, Value
from tilus.ir.ops import AllocShared, Dot, Load, Transpose
from tilus.layouts.shared import row_major
from tilus.lowering.dots import Place, unit_of
from tilus.lowering.facts import Facts
from tilus.lowering.forms import root_of


def deferrable_loads(block: Block) -> dict[Operation, Dot]:
    """Loads from shared memory that only a dot of the same block uses (perhaps transposed), with nothing between that
    could change the memory. Loads ahead of another dot stay there, but for those whose own dot multiplies what comes of
    that one: they would hold registers meanwhile."""
    users: dict[Value, list[Operation]] = {}
    for op in block.walk():
        for value in op.operands:
            users.setdefault(value, []).append(op)
    position = {id(op): i for i, op in enumerate(block.ops)}
    found: dict[Operation, Dot] = {}
    for i, op in enumerate(block.ops):
        for region in op.regions:
            found.update(deferrable_loads(region))
        if not isinstance(op, Load) or op.view.view.space != "shared" or not op.result.tile.shape:
            continue
        used = users.get(op.result, [])
        while len(used) == 1 and isinstance(used[0], Transpose):
            used = users.get(used[0].result, [])
        if len(used) != 1 or not isinstance(used[0], Dot) or id(used[0]) not in position:
            continue
        between = block.ops[i + 1 : position[id(used[0])]]
        ahead = {o for o in between if isinstance(o, Dot)}
        if (not ahead or ahead.intersection(_factors(used[0]))) and all(
            not inner.effects() or all(e.kind == "read" for e in inner.effects()) for o in between for inner in o.walk()
        ):
            found[op] = used[0]
    return found


def _factors(dot: Dot) -> Iterator[Operation]:
    """The operations that make what a dot multiplies."""
    front, seen = [dot.a, dot.b], set()
    while front:
        maker = front.pop().defining
        if maker is not None and maker not in seen:
            seen.add(maker)
            yield maker
            front += maker.operands


def operands_in_place(function: Function, deferrable: dict[Operation, Dot], facts: Facts) -> set[Value]:
    """Operands that units read where they are in shared memory, and what they are the transposes of."""
    found = {load.results[0] for load, dot in deferrable.items()
             if isinstance(load, Load) and unit_of(dot).place is Place.SHARED and _is_linear(load, facts)}
    for op in function.walk():
        if isinstance(op, Transpose) and op.x in found:
            found.add(op.result)
    return found


def _is_linear(op: Load, facts: Facts) -> bool:
    """Whether a whole tile lies at constant strides from a constant place of its view."""
    root = root_of(op.view)
    if not isinstance(root.defining, AllocShared) or op.mask is not None:
        return False
    layout = root.view.layout or row_major(*root.defining.shape)
    if layout.swizzle is not None or any(len(m) > 1 for m in layout.modes) or layout.base != 0:
        return False
    return all(
        facts.of(o).is_constant and facts.of(o).low >= 0 and extent is not None and facts.of(o).low + n <= extent
        for o, n, extent in zip(op.offsets, op.shape, op.view.view.shape, strict=True)
    )
