"""Traces a user's function into the region of an operation: the bodies of map, reduce_with and scan_with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from tilus.diagnostics import UserError
from tilus.ir.core import Block, Value
from tilus.ir.dtypes import DType
from tilus.ir.ops import Map, ReduceWith, ScanWith, Yield
from tilus.ir.rewriter import replace_values
from tilus.ir.types import TileType
from tilus.lang.calls import bind, traceable, unwrap
from tilus.lang.heap import equal
from tilus.lang.values import Tile, as_tile, emit_all, fail

if TYPE_CHECKING:
    from tilus.lang.trace_context import TraceContext


def trace_region(context: TraceContext, function: Callable[..., Any], types_: Sequence[DType]) -> tuple[Block, bool]:
    """A block with one scalar argument of each type that yields what ``function`` gives, and whether that was one value
    rather than a tuple."""
    span = context.span
    block = Block([TileType(t) for t in types_])
    outer, context.block = context.block, block
    context.depth += 1
    try:
        result = call_function(context, function, [Tile(a) for a in block.args])
        context.span = span
        single = not isinstance(result, (tuple, list))
        values = [as_tile(v) for v in ((result,) if single else result)]
    finally:
        context.block = outer
        context.depth -= 1
    for value in values:
        if value.shape:
            raise fail("E0202", f"the function gives a tile of shape {value.shape} for one element")
    block.ops.append(Yield(tuple(v.value for v in values), span=span))
    for op in block.walk():
        if op.effects():
            raise UserError.at("E0101", f"{op.NAME} inside a function that runs once per element", op.span or span,
                               help="load the elements before, with tl.load or tl.gather")
    return block, single


def call_function(context: TraceContext, function: Any, args: list[Tile]) -> Any:
    """Call a function on tiles while tracing, so that its control flow is traced as well. It is called once, for all
    elements: Python objects that it changes are an error."""
    span, snapshot = context.span, context.heap.snapshot()
    result = _call(context, function, args)
    for key, held in snapshot.now().items():
        if not equal(held, snapshot.held[key]):
            item = snapshot.objects[key]
            raise UserError.at("E0303", f"a function that runs once per element changes {context.heap.name_of(item)}",
                               context.heap.change_of(item, span), help="give back what it computes instead")
    return result


def _call(context: TraceContext, function: Any, args: list[Tile]) -> Any:
    target, first, named = unwrap(function)
    captured = traceable(target)
    if captured is None:
        return function(*args)
    try:
        arguments = bind(captured, (*first, *args), named)
    except TypeError as error:
        raise fail("E0107", f"{captured.name}: {error}") from None
    context.reads.function(captured.function)
    return context.tracer(captured, context, 1).run(arguments)


def _captures(block: Block) -> list[Value]:
    """Values that a block uses and does not define."""
    inside: set[Value] = set(block.args)
    for op in block.walk():
        inside.update(op.results)
        for region in op.regions:
            inside.update(region.args)
    found: dict[Value, None] = {}
    for op in block.walk():
        found.update(dict.fromkeys(v for v in op.operands if v not in inside))
    return list(found)


def map_elements(context: TraceContext, function: Callable[..., Any], xs: list[Tile]) -> tuple[list[Tile], bool]:
    span = context.span
    block, single = trace_region(context, function, [x.dtype for x in xs])
    captured = _captures(block)
    for value in captured:
        if not isinstance(value.type, TileType) or value.type.shape:
            raise UserError.at("E0202", "the function of tl.map uses a tile from outside", span,
                               help="pass it to tl.map as an argument")
    mapping = {value: block.add_arg(value.type, value.name) for value in captured}
    replace_values(block, mapping)
    op = Map(tuple(x.value for x in xs), tuple(captured), block, span=span)
    return list(emit_all(op)), single


def combine_along(context: TraceContext, combine: Callable[..., Any], xs: list[Tile], axis: int,
                  reverse: bool | None) -> list[Tile]:
    """A reduction (``reverse`` None) or a scan."""
    span = context.span
    block, _ = trace_region(context, combine, [x.dtype for x in xs] * 2)
    given = [v.tile.dtype for v in block.terminator.operands]
    if given != [x.dtype for x in xs]:
        raise UserError.at("E0201", f"the combine function takes {', '.join(str(x.dtype) for x in xs)} and gives "
                                    f"{', '.join(map(str, given))}", span,
                           help="it must give as many values, of the same types")
    if _captures(block):
        raise UserError.at("E0105", "the combine function uses a run-time value from outside", span,
                           help="pass it along as one more tile")
    values = tuple(x.value for x in xs)
    if reverse is None:
        return list(emit_all(ReduceWith(values, axis, block, span=span)))
    return list(emit_all(ScanWith(values, axis, block, reverse, span=span)))
