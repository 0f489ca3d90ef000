"""Checks the invariants of a module: dominance, types, terminators, and what its form promises."""

from __future__ import annotations

from tilus.diagnostics import InternalError, TilusError
from tilus.ir.core import Block, Function, Module, Operation, Value
from tilus.ir.ops.control import For, If, While
from tilus.ir.ops.memory import Load
from tilus.ir.ops.shape import ConvertLayout, View
from tilus.ir.types import TileType, Type, ViewType


def verify_module(module: Module, after: str = "") -> None:
    """Raise InternalError (E0802) that names the operation where an invariant is broken."""
    functions = list(module.kernels) + ([module.launch] if module.launch else [])
    for function in functions:
        _verify_function(function, after)
        if "layouts" in module.form and function is not module.launch and module.level == "tile":
            _verify_layouts(function, after)


def _verify_function(function: Function, after: str) -> None:
    _verify_block(function.body, set(), after, function.name)


def _verify_block(block: Block, outer: set[Value], after: str, where: str) -> None:
    visible = outer | set(block.args)
    for position, op in enumerate(block.ops):
        for value in op.operands:
            if value not in visible:
                _fail(op, f"operand {value!r} is not defined before its use", after, where)
        if op.TERMINATOR and position != len(block.ops) - 1:
            _fail(op, "a terminator is not the last operation of its block", after, where)
        for region in op.regions:
            if not region.ops or not region.ops[-1].TERMINATOR:
                _fail(op, "a region does not end in a terminator", after, where)
            _verify_block(region, visible, after, where)
        _verify_types(op, after, where)
        visible.update(op.results)


def _verify_types(op: Operation, after: str, where: str) -> None:
    try:
        inferred = op.infer()
        op.verify()
    except TilusError as error:
        _fail(op, error.diagnostics[0].message, after, where)
    if len(inferred) != len(op.results):
        _fail(op, f"{len(op.results)} results instead of {len(inferred)}", after, where)
    for expected, result in zip(inferred, op.results, strict=True):
        if _bare(expected) != _bare(result.type):
            _fail(op, f"result of type {result.type} instead of {expected}", after, where)


def _bare(type_: Type) -> object:
    if isinstance(type_, TileType):
        return (type_.dtype, type_.shape)
    if isinstance(type_, ViewType):
        return (type_.dtype, type_.shape, type_.space)
    return type_


def _verify_layouts(function: Function, after: str) -> None:
    for op in function.walk():
        for value in op.results:
            if isinstance(value.type, TileType) and value.type.shape and value.type.layout is None:
                _fail(op, f"{value!r} has no layout", after, function.name)
        if isinstance(op, (Load, ConvertLayout, View)) and op.layout is not None and op.layout != op.result.tile.layout:
            _fail(op, f"{op.result!r} does not have the layout that is asked for, {op.layout}", after, function.name)
        ends = [op.then, op.orelse] if isinstance(op, If) else [op.body] if isinstance(op, (For, While)) else []
        for region in ends:
            for given, result in zip(region.terminator.operands, op.results, strict=True):
                if given.type != result.type:
                    _fail(op, f"{given!r} becomes a result of type {result.type}", after, function.name)


def _fail(op: Operation, message: str, after: str, where: str) -> None:
    stage = f" after {after}" if after else ""
    raise InternalError.at("E0802", f"{where}: {message}{stage}", op.span, notes=(repr(op).splitlines()[0],))
