"""From a captured function and the description of its arguments to a tile module: kernel and launch function."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tilus.diagnostics import UserError
from tilus.ir.core import Block, Function, Module, Operation, Parameter, Value
from tilus.ir.dtypes import DType
from tilus.ir.names import kernel_symbol
from tilus.ir.ops import (
    Binary,
    Cast,
    Const,
    DeviceAssert,
    Dim,
    GridIndex,
    GridSync,
    Groups,
    Launch,
    ResidentBlocks,
    Stride,
    WaitUntil,
    Workspace,
)
from tilus.ir.ops.groups import check_within
from tilus.ir.rewriter import erase_dead
from tilus.ir.strides import contiguous_strides, divisor_of, stride_divisors
from tilus.ir.types import TileType, ViewType
from tilus.lang.capture import CapturedFunction
from tilus.lang.context import use_context
from tilus.lang.reads import Reads
from tilus.lang.signature import Signature, is_constant_annotation, parameter_type_of
from tilus.lang.trace_context import TraceContext
from tilus.lang.tracer import Tracer
from tilus.lang.values import Tile
from tilus.lang.views import View

if TYPE_CHECKING:
    from tilus.targets import Target


def trace_kernel(captured: CapturedFunction, signature: Signature, constants: dict[str, Any],
                 parameters: list[Parameter], target: Target | None = None, reads: Reads | None = None) -> Module:
    """Trace one specialisation.

    ``constants`` gives the compile-time parameters and None for absent optional ones; ``parameters`` describes the
    arrays and run-time scalars, in order; ``target`` is what `tl.supports` asks; ``reads`` takes what the body
    reads outside of it. Raises UserError.
    """
    context = TraceContext(Tracer, target, reads)
    for value in constants.values():
        context.heap.add_outside(value)
    context.span = captured.span(captured.node)
    body = context.block
    arguments: dict[str, Any] = dict(constants)
    with use_context(context):
        arguments.update(_bind_parameters(signature, constants, parameters, body, context))
        try:
            result = Tracer(captured, context).run(arguments)
        except RecursionError:
            raise UserError.at("E0112", f"the inlining of functions into {captured.name} does not end", context.span,
                               help="recursion must end on compile-time arguments") from None
    if result is not None:
        raise UserError.at("E0107", f"the kernel {captured.name} returns a value", captured.span(captured.node),
                           help="store it into an array parameter; a function with a value is a @tl.fuse function")
    if context.grid_extents is None:
        raise UserError.at("E0106", f"{captured.name} does not declare a grid", captured.span(captured.node),
                           help="call `i = tl.grid(...)` at the top of the kernel; `tl.grid(1)` runs one block")
    return _finish(captured, context, body, parameters)


def _bind_parameters(signature: Signature, constants: dict[str, Any], parameters: list[Parameter], body: Block,
                     context: TraceContext) -> dict[str, Any]:
    """Block arguments for the parameters; equal dimension names share one value."""
    annotations = {s.name: signature.annotation(s, constants) for s in signature.specs}
    views: list[tuple[Parameter, Value]] = []
    arguments: dict[str, Any] = {}
    for parameter in parameters:
        annotation = annotations[parameter.name]
        annotation = parameter_type_of(annotation)
        if isinstance(annotation, DType):
            arguments[parameter.name] = Tile(body.add_arg(TileType(annotation), parameter.name))
        elif is_constant_annotation(annotation):
            raise UserError.at("E0109", f"{parameter.name!r} is a compile-time parameter")
        else:
            views.append((parameter, body.add_arg(ViewType(annotation.dtype, parameter.shape), parameter.name)))
    dims: dict[str | int, Any] = {}
    for parameter, value in views:
        extents = []
        for axis, (name, known) in enumerate(zip(parameter.dims, parameter.shape, strict=True)):
            if known is not None:
                extents.append(known)
                continue
            if name not in dims:
                dims[name] = Tile(context.emit(Dim(value, axis, span=context.span))[0])
                dims[name].value.name = str(name)
            extents.append(dims[name])
        arguments[parameter.name] = View(value, tuple(extents), parameter.prepacked)
    return arguments


def _finish(captured: CapturedFunction, context: TraceContext, body: Block, parameters: list[Parameter]) -> Module:
    from tilus.ir.ops import Yield

    body.ops.append(Yield((), span=context.span))
    _check_launch(context, body)
    assert context.grid_extents is not None
    kernel_parameters = list(parameters)
    for extents, _, _, value in context.workspaces:
        value.owner, value.index = body, len(body.args)
        body.args.append(value)
        known = dict(zip(body.args, parameters, strict=False))
        kernel_parameters.append(_workspace_parameter(value.name, extents, known))
    written = _written(body)
    names = {value.name for value in written}
    aliases = set(context.attributes.may_alias)
    if aliases & names:
        names |= aliases  # a write through one name may be read through another
    kernel_parameters = [replace(p, written=True) if p.name in names else p for p in kernel_parameters]
    attributes = replace(context.attributes, grid_rank=len(context.grid_extents))
    span = captured.span(captured.node)
    launch = _launch_function(captured, context, body, kernel_parameters, len(parameters))
    kernel = Function(kernel_symbol(captured.name), body, kernel_parameters, attributes, span)
    erase_dead(kernel)
    for op in body.walk() if context.asks_resident_blocks else ():
        if isinstance(op, ResidentBlocks):
            raise UserError.at("E0106", "tl.resident_blocks() is known at the launch only, and is used in the body",
                               op.span, help="use it in the extents of tl.grid and tl.workspace; in the body, "
                                             "tl.grid_size(0) gives the extent of the grid")
    return Module([kernel], launch)


def _workspace_parameter(name: str, extents: tuple[Tile, ...], known: dict[Value, Parameter]) -> Parameter:
    """What is known of a workspace: it is contiguous, and its extents say what they are multiples of."""
    makers = [tile.value.defining for tile in extents]
    constant = tuple(int(m.value) if isinstance(m, Const) else None for m in makers)
    divisors = tuple(_divisor(tile.value, known) for tile in extents)
    return Parameter(name, "workspace", shape=(None,) * len(extents), strides=contiguous_strides(constant),
                     contiguous=True, shape_divisors=divisors, strides_divisors=stride_divisors(constant, divisors),
                     aligned=True, small=True, written=True)


def _divisor(value: Value, known: dict[Value, Parameter]) -> int:
    """A power of two up to 16 of which an extent is a multiple."""
    op = value.defining
    if isinstance(op, Const):
        return divisor_of(int(op.value))
    if isinstance(op, Dim) and op.view in known:
        parameter = known[op.view]
        return parameter.shape_divisors[op.axis] if parameter.shape_divisors else 1
    if isinstance(op, Cast):
        return _divisor(op.x, known)
    if isinstance(op, Binary) and op.kind in ("mul", "add", "sub"):
        x, y = _divisor(op.lhs, known), _divisor(op.rhs, known)
        return divisor_of(x * y if op.kind == "mul" else math.gcd(x, y))
    return 1


def _check_launch(context: TraceContext, body: Block) -> None:
    warps = context.attributes.warps
    if context.attributes.raster:
        _check_raster(context, body)
    for op in body.walk():
        if isinstance(op, Groups):
            check_within(op, warps)
        if isinstance(op, GridSync) and not context.attributes.cooperative:
            raise UserError.at("E0705", "tl.grid_sync needs a cooperative launch", op.span,
                               help="call tl.block(cooperative=True)")


def _check_raster(context: TraceContext, body: Block) -> None:
    """Groups of blocks take two axes, and another order of the blocks than waits for lower ones rely on."""
    assert context.grid_extents is not None
    if len(context.grid_extents) < 2:
        raise UserError.at("E0504", "tl.block(raster=...) needs a grid of two or three axes", context.grid_span)
    waits = [op for op in body.walk() if isinstance(op, WaitUntil)]
    if waits or context.attributes.cooperative:
        raise UserError.at("E0504", "blocks that wait for one another run in the order of the grid, not in groups",
                           waits[0].span if waits else context.grid_span, help="leave out raster= of tl.block")


def _written(body: Block) -> set[Value]:
    """Arguments that some operation may write, through any view of them."""
    roots: dict[Value, Value] = {a: a for a in body.args}
    written: set[Value] = set()
    for op in body.walk():
        for operand in op.operands:
            if operand in roots and op.results and isinstance(op.results[0].type, ViewType):
                roots[op.results[0]] = roots[operand]
        for effect in op.effects():
            if effect.kind in ("write", "atomic") and effect.value in roots:
                written.add(roots[effect.value])
    return written


def _launch_function(captured: CapturedFunction, context: TraceContext, body: Block, parameters: list[Parameter],
                     given: int) -> Function:
    """The launch function: the computations that the grid and the workspaces depend on, and the launch."""
    names = [a.name for a in body.args[:given]]
    launch = Block([a.type for a in body.args[:given]], names)
    mapping: dict[Value, Value] = dict(zip(body.args[:given], launch.args, strict=True))

    def import_value(value: Value, what: str, span: Any) -> Value:
        todo = [value]
        while todo:
            op = todo[-1].defining
            if todo[-1] in mapping:
                todo.pop()
                continue
            if op is None or not _launchable(op):
                raise UserError.at("E0105", f"{what} is not computable at the launch", span,
                                   help="it may depend on shapes, strides and scalar parameters only")
            missing = [operand for operand in op.operands if operand not in mapping]
            if not missing:
                launch.ops.append(op.clone(mapping))
            todo += missing
        return mapping[value]

    _move_assertions(body, launch, import_value)
    args = list(launch.args)
    for extents, dtype, zero, _ in context.workspaces:
        sizes = tuple(import_value(e.value, "an extent of the workspace", context.grid_span) for e in extents)
        op = Workspace(sizes, dtype, zero, span=context.grid_span)
        launch.ops.append(op)
        args.append(op.result)
    assert context.grid_extents is not None
    grid = tuple(import_value(e.value, "an extent of the grid", context.grid_span) for e in context.grid_extents)
    launch.ops.append(Launch(kernel_symbol(captured.name), grid, tuple(args), span=context.grid_span))
    from tilus.ir.ops import Yield

    launch.ops.append(Yield((), span=context.grid_span))
    return Function("launch", launch, parameters[:given], None, captured.span(captured.node))


def _move_assertions(body: Block, launch: Block, import_value: Callable[[Value, str, Any], Value]) -> None:
    """Assertions of the kernel's top level on shapes, strides and scalar parameters are the launch's: they fail the
    call, before anything runs, and cost the device nothing."""
    if not any(isinstance(op, DeviceAssert) for op in body.ops):
        return
    known: set[Value] = set(body.args)
    for op in list(body.ops):
        if _launchable(op) and known.issuperset(op.operands):
            known.update(op.results)
        if isinstance(op, DeviceAssert) and op.condition.tile.is_scalar and op.condition in known:
            condition = import_value(op.condition, "an assertion", op.span)
            launch.ops.append(DeviceAssert(condition, op.message, span=op.span))
            body.ops.remove(op)


def _launchable(op: Operation) -> bool:
    if op.effects() or op.regions or isinstance(op, GridIndex):
        return False
    if isinstance(op, (Const, Dim, Stride)):
        return True
    return all(isinstance(v.type, TileType) and v.type.is_scalar for v in (*op.operands, *op.results))


