"""Loads of a block come first in it: they are on their way while what comes before them is computed."""

from __future__ import annotations

from tilus.ir.core import Block, Function, Module, Operation, Value
from tilus.ir.families import DerivedView
from tilus.ir.ops import Load
from tilus.ir.ops.cores import CoreIndex
from tilus.ir.rewriter import is_pure
from tilus.ir.types import TileType


def hoist_loads(module: Module) -> None:
    """Move loads of arrays that the kernel does not write, with the scalars that they need, in place."""
    for function in module.kernels:
        written = {v for v, p in zip(function.body.args, function.parameters, strict=True) if p.written}
        _block(function.body, function, written)


def _block(block: Block, function: Function, written: set[Value]) -> None:
    for op in block.ops:
        for region in op.regions:
            _block(region, function, written)
    makers = {r: op for op in block.ops for r in op.results}
    first: dict[Operation, None] = {}
    for op in block.ops:
        if isinstance(op, Load) and op.shape and _array(op.view) not in written:
            needed = _needed(op, makers)
            if needed is not None:
                first.update(dict.fromkeys(needed))
    order = {id(op): n for n, op in enumerate(block.ops)}
    early = sorted(first, key=lambda op: order[id(op)])
    block.ops = [*early, *(op for op in block.ops if op not in first)]


def _array(view: Value) -> Value:
    while isinstance(view.defining, DerivedView):
        view = view.defining.view
    return view


def _needed(op: Operation, makers: dict[Value, Operation]) -> list[Operation] | None:
    """The operation and those of the block that it needs, if they are views and scalars alone."""
    found: list[Operation] = [op]
    for value in op.operands:
        maker = makers.get(value)
        if maker is None:
            continue
        scalar = all(not isinstance(r.type, TileType) or r.type.is_scalar for r in maker.results)
        if not (scalar and (is_pure(maker) or isinstance(maker, (DerivedView, CoreIndex)))) or maker.regions:
            return None
        rest = _needed(maker, makers)
        if rest is None:
            return None
        found += rest
    return found
