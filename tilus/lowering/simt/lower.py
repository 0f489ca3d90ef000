"""Tile level to thread level: what one thread of the block does."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from tilus.diagnostics import UnsupportedError
from tilus.ir.core import Block, Function, Module, Operation, Value
from tilus.ir.dtypes import f32, i32, i64, u8, u32
from tilus.ir.families import Elementwise
from tilus.ir.ops import (
    Assume,
    Binary,
    Bitcast,
    Broadcast,
    Cast,
    CollapseView,
    Compare,
    Const,
    Dim,
    For,
    GridIndex,
    GridSize,
    Groups,
    If,
    Iota,
    PermuteView,
    PtrCast,
    Reshape,
    Select,
    Stride,
    Sync,
    TileBytes,
    Transpose,
    Unary,
    Unpack,
    View,
    While,
    Yield,
)
from tilus.ir.ops.memory import split_dims
from tilus.ir.ops.simt import ApproxUnary, ExitIf
from tilus.ir.types import PointerType, TileType, ViewType
from tilus.lowering.facts import kernel_facts, overflows
from tilus.lowering.schedule.order_memory import unordered_arrays
from tilus.lowering.simt import collective, copies, dot, gathers, groups, memory, narrow, places, rearrange, scans
from tilus.lowering.simt.barriers import barrier, number_barriers
from tilus.lowering.simt.bits import is_narrow, register_type
from tilus.lowering.simt.context import GlobalView, SharedView, Thread, layout_of, locals_of
from tilus.lowering.simt.operands import deferrable_loads, operands_in_place
from tilus.lowering.simt.plan_shared import plan_shared
from tilus.lowering.simt.runs import mask_run
from tilus.lowering.simt.steps import compare_by_steps
from tilus.targets import Feature, get_target


def lower_to_threads(module: Module) -> Module:
    """The thread-level module of a scheduled tile module (form ``layouts``)."""
    target = get_target(module.target)
    kernels = []
    for function, facts in kernel_facts(module):
        thread = Thread(function, facts, target, warps=function.attributes.warps)
        thread.deferrable = deferrable_loads(function.body)
        thread.in_place = operands_in_place(function, thread.deferrable, facts)
        thread.group_barriers = number_barriers(function)
        plan = plan_shared(function, target, thread.deferrable, thread.in_place)
        thread.shared_offsets, thread.fresh_shared = plan.offsets, plan.fresh
        thread.round_bytes = plan.round_bytes
        kernels.append(_lower_function(thread, plan.bytes))
    return Module(kernels, module.launch, "thread", module.form, module.target, dict(module.attributes))


def _lower_function(thread: Thread, shared_bytes: int) -> Function:
    source = thread.function
    body = thread.block
    arguments: list[str] = []
    for value, parameter in zip(source.body.args, source.parameters, strict=True):
        if isinstance(value.type, ViewType):
            thread.views[value] = _bind_array(thread, body, value, parameter, arguments)
        else:
            thread.set(value, body.add_arg(value.type, value.name))
            arguments.append(f"{parameter.name}")
    if source.attributes.folded:
        _bind_grid(thread, body, arguments, ("grid.x", "grid.y"))
    elif source.attributes.raster:
        _bind_grid(thread, body, arguments, ("grid.x", "grid.groups"))
    lower_block(thread, source.body)
    body.ops[:0] = thread.prologue_ops
    if source.attributes.raster:
        _stay_in_grid(thread)
    body.ops.append(Yield(()))
    attributes = replace(source.attributes, shared_bytes=shared_bytes, arguments=tuple(arguments),
                         restrict=tuple(unordered_arrays(source)))
    return Function(source.name, body, source.parameters, attributes, source.span)


def _bind_array(thread: Thread, body: Block, value: Value, parameter: Any, arguments: list[str]) -> GlobalView:
    """Thread-level arguments of an array: the pointer, then the extents and strides that are run-time values.

    ``arguments`` names them for the launcher: ``a``, ``a.shape[0]``, ``a.strides[0]``.
    """
    name, view = parameter.name, value.view
    pointer = body.add_arg(PointerType(u8 if is_narrow(view.dtype) else view.dtype, "global"), name)
    if is_narrow(view.dtype):
        pointer = thread.emit(PtrCast(pointer, view.dtype))
    arguments.append(name)
    width = i32 if parameter.small else i64
    extents: list[Value | int] = []
    for d in range(view.rank):
        known = view.shape[d]
        if known is not None:
            extents.append(known)
            continue
        key = ("dim", parameter.dims[d]) if parameter.dims else ("dim", name, d)
        shared = thread.prologue.get((key, width))
        if shared is None:
            shared = thread.prologue[key, width] = body.add_arg(TileType(width), f"{name}_shape{d}")
            arguments.append(f"{name}.shape[{d}]")
        extents.append(shared)
    strides: list[Value | int] = []
    for d in range(view.rank):
        known = parameter.strides[d]
        if known is not None:
            strides.append(known)
        elif parameter.contiguous and d + 1 < view.rank and parameter.strides[d + 1] == 1:
            strides.append(extents[d + 1])
        else:
            strides.append(body.add_arg(TileType(width), f"{name}_stride{d}"))
            arguments.append(f"{name}.strides[{d}]")
    return GlobalView(pointer, extents, strides, [None] * view.rank)


def _bind_grid(thread: Thread, body: Block, arguments: list[str], names: tuple[str, str]) -> None:
    """Arguments that say how the grid is launched (``schedule/raster.py``): one for two axes, both for three."""
    rank = thread.function.attributes.grid_rank
    for name in names[: rank - 1]:
        thread.grid[name] = body.add_arg(TileType(i32), name.replace(".", "_"))
        arguments.append(name)


def _stay_in_grid(thread: Thread) -> None:
    """Let blocks of the last group that lie beyond the grid do nothing, not even what others do at their beginning.

    The test has its own reads of the special registers, so that it keeps no values alive.
    """
    rest, thread.block.ops = thread.block.ops, []
    thread.begin_phase(-1)
    thread.emit(ExitIf(thread.compare("ge", thread.block_number(0), thread.grid["grid.x"])))
    thread.block.ops += rest


def lower_block(thread: Thread, block: Block) -> None:
    """Lower the operations of a block, except its terminator, into the current block."""
    thread.enclosing.append(thread.block)
    for op in block.ops:
        if op.TERMINATOR:
            continue
        thread.span = op.span
        handler = next((_LOWERINGS[kind] for kind in type(op).__mro__ if kind in _LOWERINGS), None)
        if handler is None:
            raise UnsupportedError.at("E0507", f"{op.NAME} is not supported on {thread.target.name} yet", op.span)
        handler(thread, op)
    thread.enclosing.pop()


# -- scalars and elementwise


def _const(thread: Thread, op: Const) -> None:
    count = locals_of(op.result) if op.shape else 0
    if is_narrow(op.dtype):
        thread.set(op.result, narrow.constant(thread, op.value, op.dtype, count))
        return
    thread.set(op.result, thread.const(op.value, thread.element_type(op.result), count))


def _iota(thread: Thread, op: Iota) -> None:
    layout = layout_of(op.result)
    dtype = thread.element_type(op.result)
    part = thread.thread_index(layout, op.axis)
    parts = []
    for offset in (index[op.axis] for index in layout.local_indices):
        if part is None:
            parts.append(thread.const(offset, dtype))
        else:
            parts.append(thread.widen(thread.binary("add", part, offset), dtype))
    thread.set(op.result, thread.pack(parts))


def _compute_type(thread: Thread, *values: Value) -> Any:
    """i32 where all these i64 values fit in it, else their own type."""
    dtype = values[0].tile.dtype
    if dtype is not i64:
        return register_type(dtype)
    return i32 if all(thread.facts.of(v).fits(32) for v in values) else i64


def _binary(thread: Thread, op: Binary) -> None:
    converted = narrow.convert_difference(thread, op)
    if converted is not None:
        thread.set(op.result, converted)
        return
    dtype = _compute_type(thread, op.lhs, op.rhs, op.result)
    x, y = (thread.widen(thread.value(v), dtype) for v in (op.lhs, op.rhs))
    result = _divide(thread, op, x, y) if op.kind in ("floordiv", "mod") and dtype.is_int else None
    if result is None:
        user = op.result.tile.dtype is i32 and op.kind in ("add", "sub", "mul")
        if user and overflows(op.kind, thread.facts.of(op.lhs), thread.facts.of(op.rhs), i32):
            result = thread.wrapping(op.kind, x, y)
        else:
            result = thread.emit(Binary(op.kind, x, y, op.contract, op.precision))
    thread.set(op.result, thread.widen(result, thread.element_type(op.result)))


def _divide(thread: Thread, op: Binary, x: Value, y: Value) -> Value | None:
    """Floor division of what is known not to be negative as unsigned division."""
    if thread.facts.of(op.lhs).low >= 0 and thread.facts.of(op.rhs).low >= 0 and x.tile.dtype is i32:
        unsigned = [thread.emit(Cast(v, u32)) for v in (x, y)]
        return thread.emit(Cast(thread.emit(Binary(op.kind, *unsigned)), i32))
    return None


def _compare(thread: Thread, op: Compare) -> None:
    run = _run_of_locals(thread, op.result)
    count = locals_of(op.result) if op.result.tile.shape else 1
    places = range(0, count, run)
    found = compare_by_steps(thread, op, places) if thread.compares_differences else None
    if found is None:
        dtype = _compute_type(thread, op.lhs, op.rhs)
        x, y = (thread.widen(thread.value(v), dtype) for v in (op.lhs, op.rhs))
        if run > 1:
            x, y = (thread.take(v, places) for v in (x, y))
        found = thread.emit(Compare(op.kind, x, y))
    thread.set(op.result, found if run == 1 else thread.take(found, [i // run for i in range(count)]))


def _run_of_locals(thread: Thread, mask: Value) -> int:
    """Over how many consecutive locals a comparison of indices has one outcome."""
    if not mask.tile.shape:
        return 1
    layout = layout_of(mask)
    widths = {d: layout.vector_width(d) for d in range(layout.rank)}
    dim = max(widths, key=lambda d: widths[d])
    return math.gcd(mask_run(thread.facts, mask, dim), widths[dim])


def _unary(thread: Thread, op: Unary) -> None:
    x = thread.widen(thread.value(op.x), op.x.tile.dtype)
    result = approximate_unary(thread, op, x) if op.approximate else None
    if result is None:
        result = thread.emit(Unary(op.kind, x, precision=op.precision))
    thread.set(op.result, thread.widen(result, thread.element_type(op.result)))


_INSTRUCTIONS = {
    "exp2": "ex2",
    "log2": "lg2",
    "rcp": "rcp",
    "rsqrt": "rsqrt",
    "sqrt": "sqrt",
    "sin": "sin",
    "cos": "cos",
}


def approximate_unary(thread: Thread, op: Unary, x: Value) -> Value | None:
    """The hardware's approximation of an f32 function; None where there is none."""
    if x.tile.dtype is not f32:
        return None
    kind, count = op.kind, x.tile.size if x.tile.shape else 0

    def scaled(value: Value, factor: float) -> Value:
        return thread.emit(Binary("mul", value, thread.const(factor, f32, count)))

    def instruction(name: str, value: Value) -> Value:
        return thread.emit(ApproxUnary(name, value, name != "tanh"))

    if kind in _INSTRUCTIONS:
        return instruction(_INSTRUCTIONS[kind], x)
    if kind == "exp":
        return instruction("ex2", scaled(x, math.log2(math.e)))
    if kind == "log":
        return scaled(instruction("lg2", x), math.log(2.0))
    if kind == "tanh" and thread.target.has(Feature.TANH):
        return instruction("tanh", x)
    if kind == "sigmoid":
        power = instruction("ex2", scaled(x, -math.log2(math.e)))
        return instruction("rcp", thread.emit(Binary("add", power, thread.const(1.0, f32, count))))
    return None


def _select(thread: Thread, op: Select) -> None:
    dtype = thread.element_type(op.result)
    x, y = (thread.widen(thread.value(v), dtype) for v in (op.x, op.y))
    thread.set(op.result, thread.emit(Select(thread.value(op.condition), x, y)))


def _cast(thread: Thread, op: Cast) -> None:
    converted = narrow.convert_words(thread, op)
    if converted is not None:
        thread.set(op.result, converted)
        return
    x = thread.value(op.x)
    if is_narrow(op.x.tile.dtype) or is_narrow(op.dtype):
        thread.set(op.result, narrow.convert(thread, x, op.x.tile.dtype, op.dtype, op.rounding))
        return
    target = thread.element_type(op.result)
    if op.dtype.is_float and x.tile.dtype is i32 and op.x.tile.dtype is i64 and not op.dtype.is_arithmetic:
        x = thread.widen(x, i64)
    if x.tile.dtype is target:
        thread.set(op.result, x)
    else:
        thread.set(op.result, thread.emit(Cast(x, target, op.rounding)))


def _bitcast(thread: Thread, op: Bitcast) -> None:
    if is_narrow(op.dtype):  # the same code
        thread.set(op.result, thread.value(op.x))
        return
    x = thread.widen(thread.value(op.x), op.x.tile.dtype)
    thread.set(op.result, thread.widen(thread.emit(Bitcast(x, op.dtype)), thread.element_type(op.result)))


def _elementwise(thread: Thread, op: Elementwise) -> None:
    """Operations that act on full-width operands and lower to themselves."""
    new = op.on([thread.widen(thread.value(v), v.tile.dtype) for v in op.operands])
    thread.emit(new)
    for old, result in zip(op.results, new.results, strict=True):
        thread.set(old, thread.widen(result, thread.element_type(old)))


def _broadcast(thread: Thread, op: Broadcast) -> None:
    x = thread.widen(thread.value(op.x), thread.element_type(op.result))
    count = locals_of(op.result)
    if op.x.tile.is_scalar:
        thread.set(op.result, thread.splat(x, count))
        return
    source, target = layout_of(op.x), layout_of(op.result)
    limit = source.shape
    indices = [
        source.local_of(tuple(0 if n == 1 else i for i, n in zip(index, limit, strict=True)))
        for index in target.local_indices
    ]
    thread.set(op.result, thread.take(x, indices))


def _rearrange(thread: Thread, op: Transpose | Reshape) -> None:
    """Nothing moves: layout inference gave the result the operand's layout under the new shape, or a conversion
    through shared memory is needed."""
    from tilus.lowering.layout_rules import result_layout
    from tilus.lowering.simt import convert

    if op.x.tile.is_scalar:
        count = locals_of(op.result) if op.result.tile.shape else 0
        value = thread.value(op.x)
        thread.set(op.result, thread.splat(value, count) if count else value)
        return
    if op.result.tile.is_scalar:
        thread.set(op.result, convert.only_element(thread, op, thread.value(op.x)))
        return
    layout = result_layout(op, op.x, layout_of(op.x))
    if layout == layout_of(op.result):
        if op.x in thread.in_shared:
            view, order = thread.in_shared[op.x], op.permutation if isinstance(op, Transpose) else (0,)
            shape = tuple(view.shape[p] for p in order)
            turned = replace(view, layout=view.layout.permute(order), shape=shape)
            thread.in_shared[op.result] = turned
        elif op.x in thread.deferred:
            thread.deferred[op.result] = thread.deferred[op.x]
        elif op.x in thread.dense:
            thread.set_words(op.result, thread.dense[op.x])
        else:
            thread.set(op.result, thread.value(op.x))
        return
    x = thread.value(op.x)
    if layout is not None:
        thread.set(op.result, convert.convert(thread, x, layout, op))
        return
    thread.set(op.result, convert.reshape_through_shared(thread, op, x))


# -- control flow


def _for(thread: Thread, op: For) -> None:
    width = _compute_type(thread, op.index, op.stop, op.start, op.step)
    last = thread.facts.of(op.stop).high + abs(thread.facts.of(op.step).high)
    if width is i32 and last >= 1 << 31:
        width = i64
    bounds = [thread.widen(thread.value(v), width) for v in (op.start, op.stop, op.step)]
    init = [
        thread.value(v) if not isinstance(v.type, TileType) else thread.widen(thread.value(v), thread.element_type(r))
        for v, r in zip(op.init, op.results, strict=True)
    ]
    body = Block([TileType(width), *(v.type for v in init)], [a.name for a in op.body.args])
    index = body.args[0]
    outer, thread.block = thread.block, body
    thread.loop_begins()
    thread.set(op.index, thread.widen(index, thread.element_type(op.index)))
    for old, new in zip(op.carried, body.args[1:], strict=True):
        thread.values[old] = thread.widen(new, thread.element_type(old))
    lower_block(thread, op.body)
    _finish(thread, op.body.terminator.operands, [v.type for v in init])
    thread.loop_ends()
    thread.block = outer
    new_op = For(*bounds, tuple(init), body, op.stages, iterations=op.iterations, span=op.span)
    thread.emit(new_op)
    for old, new in zip(op.results, new_op.results, strict=True):
        thread.set(old, new)


def _finish(thread: Thread, operands: list[Value], types: list[Any]) -> None:
    values = [thread.widen(thread.value(v), t.dtype) for v, t in zip(operands, types, strict=True)]
    thread.block.ops.append(Yield(tuple(values), span=thread.span))


def _if(thread: Thread, op: If) -> None:
    types = [thread.thread_type(r) for r in op.results]
    blocks = []
    for region in (op.then, op.orelse):
        with thread.branch(region, lowered := Block()):
            lower_block(thread, region)
            _finish(thread, region.terminator.operands, types)
        blocks.append(lowered)
    new = If(thread.value(op.condition), *blocks, span=op.span)
    thread.emit(new)
    thread.branches_end()
    for old, result in zip(op.results, new.results, strict=True):
        thread.set(old, result)


def _while(thread: Thread, op: While) -> None:
    init = [thread.widen(thread.value(v), thread.element_type(r)) for v, r in zip(op.init, op.results, strict=True)]
    types = [v.type for v in init]
    outer = thread.block
    blocks = []
    thread.loop_begins()
    for region in (op.before, op.body):
        block = thread.block = Block(types, [a.name for a in region.args])
        for old, new in zip(region.args, block.args, strict=True):
            thread.values[old] = thread.widen(new, thread.element_type(old))
        lower_block(thread, region)
        if region is op.before:
            block.ops.append(Yield((thread.value(region.terminator.operands[0]),), span=op.span))
        else:
            _finish(thread, region.terminator.operands, types)
        blocks.append(block)
    thread.loop_ends()
    thread.block = outer
    new_op = While(tuple(init), *blocks, span=op.span)
    thread.emit(new_op)
    for old, new in zip(op.results, new_op.results, strict=True):
        thread.set(old, new)


def _groups(thread: Thread, op: Groups) -> None:
    groups.lower_groups(thread, op, lower_block)


# -- grid, views, barriers


def _grid_index(thread: Thread, op: GridIndex) -> None:
    thread.set(op.result, thread.grid_index(op.result))


def _grid_size(thread: Thread, op: GridSize) -> None:
    thread.set(op.result, thread.widen(thread.grid_size(op.axis), thread.element_type(op.result)))


def _scalar(thread: Thread, value: Value | int, like: Value) -> Value:
    dtype = thread.element_type(like)
    return thread.const(value, dtype) if isinstance(value, int) else thread.widen(value, dtype)


def _dim(thread: Thread, op: Dim) -> None:
    view = thread.views[op.view]
    extent = view.extents[op.axis] if isinstance(view, GlobalView) else view.shape[op.axis]
    thread.set(op.result, _scalar(thread, extent, op.result))


def _stride(thread: Thread, op: Stride) -> None:
    view = thread.views[op.view]
    assert isinstance(view, GlobalView)
    thread.set(op.result, _scalar(thread, view.strides[op.axis], op.result))


def _permute_view(thread: Thread, op: PermuteView) -> None:
    view = thread.views[op.view]
    order = op.permutation
    if isinstance(view, SharedView):
        shape = tuple(view.shape[p] for p in order)
        thread.views[op.result] = replace(view, layout=view.layout.permute(order), shape=shape)
        return
    thread.views[op.result] = GlobalView(
        view.pointer, [view.extents[p] for p in order], [view.strides[p] for p in order], [view.lows[p] for p in order]
    )


def _collapse_view(thread: Thread, op: CollapseView) -> None:
    view = thread.views[op.view]
    assert isinstance(view, GlobalView)
    extents = [functools.reduce(thread.product, part) for part in split_dims(view.extents, op.groups)]
    strides = [part[-1] for part in split_dims(view.strides, op.groups)]
    thread.views[op.result] = GlobalView(view.pointer, extents, strides, [None] * len(extents))


def _tile_bytes(thread: Thread, op: TileBytes) -> None:
    view = thread.views[op.view]
    assert isinstance(view, GlobalView)
    *leading, rows, columns = view.extents
    extents = [*leading, _rounded_up(thread, columns, op.columns),
               thread.product(_rounded_up(thread, rows, op.rows), op.rows * op.row_bytes)]
    strides: list[Value | int] = [1]
    for extent in reversed(extents[1:]):
        strides.insert(0, thread.product(strides[0], extent))
    pointer = thread.pointer_as(view.pointer, u8)
    thread.views[op.result] = GlobalView(pointer, extents, strides, [None] * len(extents))


def _rounded_up(thread: Thread, extent: Value | int, tile: int) -> Value | int:
    """How many tiles there are along a dimension, the last of which may reach beyond it."""
    if isinstance(extent, int):
        return -(-extent // tile)
    raised = thread.binary("add", extent, tile - 1)
    return thread.emit(Binary("floordiv", raised, thread.const(tile, extent.tile.dtype)))


def _sync(thread: Thread, op: Sync) -> None:
    barrier(thread)


def _nothing(thread: Thread, op: Operation) -> None:
    pass


_LOWERINGS: dict[type[Operation], Callable[[Thread, Any], None]] = {
    Const: _const,
    Iota: _iota,
    Binary: _binary,
    Compare: _compare,
    Unary: _unary,
    Select: _select,
    Cast: _cast,
    Bitcast: _bitcast,
    View: narrow.lower_view,
    Unpack: narrow.lower_unpack,
    Elementwise: _elementwise,
    Groups: _groups,
    Broadcast: _broadcast,
    Transpose: _rearrange,
    Reshape: _rearrange,
    For: _for,
    If: _if,
    While: _while,
    GridIndex: _grid_index,
    GridSize: _grid_size,
    Dim: _dim,
    Stride: _stride,
    PermuteView: _permute_view, CollapseView: _collapse_view, TileBytes: _tile_bytes,
    Sync: _sync,
    Assume: _nothing,
    **memory.LOWERINGS,
    **gathers.LOWERINGS,
    **copies.LOWERINGS,
    **collective.LOWERINGS,
    **places.LOWERINGS,
    **dot.LOWERINGS,
    **rearrange.LOWERINGS,
    **scans.LOWERINGS,
    **groups.LOWERINGS,
}
