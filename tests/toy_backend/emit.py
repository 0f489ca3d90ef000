"""Scalar C: every tile an array, every operation a loop over its elements."""

from __future__ import annotations

import math
from collections.abc import Callable

from tilus.diagnostics import UnsupportedError
from tilus.ir.core import Block, Function, Module, Operation, Value
from tilus.ir.ops import (
    Binary,
    Broadcast,
    Cast,
    Compare,
    Const,
    Dim,
    For,
    GridIndex,
    If,
    Iota,
    Load,
    Reduce,
    Reshape,
    Select,
    Store,
    Unary,
    Yield,
)
from tilus.ir.types import ViewType

TYPES = {"f32": "float", "f64": "double", "i32": "int32_t", "i64": "int64_t", "bool": "bool"}
BINARY = {"add": "{} + {}", "sub": "{} - {}", "mul": "{} * {}", "div": "{} / {}", "and": "{} & {}", "or": "{} | {}",
          "max": "{0} > {1} || {1} != {1} ? {0} : {1}", "min": "{0} < {1} || {1} != {1} ? {0} : {1}"}
COMPARE = {"lt": "<", "le": "<=", "gt": ">", "ge": ">=", "eq": "==", "ne": "!="}
HEAD = "#include <math.h>\n#include <stdbool.h>\n#include <stdint.h>\n\n"


class Emitter:
    """One kernel as a function of its arrays, for each the address, the extents and the strides, and of the block."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.names: dict[Value, str] = {}

    def kernel(self, function: Function) -> str:
        arguments = []
        for value in function.body.args:
            assert isinstance(value.type, ViewType)
            name = self.names[value] = f"v{len(self.names)}"
            arguments.append(f"{TYPES[value.view.dtype.name]} *{name}, const int64_t *{name}_shape, "
                             f"const int64_t *{name}_stride")
        self.block(function.body)
        body = "\n".join(f"  {line}" for line in self.lines)
        return f"void {function.name}({', '.join(arguments)}, const int64_t *block) {{\n{body}\n}}\n"

    def block(self, block: Block) -> None:
        for op in block.ops:
            emit = EMIT.get(type(op))
            if emit is None:
                raise UnsupportedError.at("E0507", f"the toy back end has no {op.NAME}", op.span)
            emit(self, op)

    def declare(self, value: Value) -> str:
        name = self.names[value] = f"v{len(self.names)}"
        extent = "" if value.tile.is_scalar else f"[{value.tile.size}]"
        self.lines.append(f"{TYPES[value.tile.dtype.name]} {name}{extent};")
        return name

    def at(self, value: Value, index: str = "i") -> str:
        return self.names[value] if value.tile.is_scalar else f"{self.names[value]}[{index}]"

    def each(self, value: Value, expression: str) -> None:
        """The elements of a new value, ``i`` being their index."""
        name = self.declare(value)
        loop = "" if value.tile.is_scalar else f"for (int i = 0; i < {value.tile.size}; i++) "
        self.lines.append(f"{loop}{name}{'' if value.tile.is_scalar else '[i]'} = {expression};")


def coordinate(shape: tuple[int, ...], d: int) -> str:
    """The index along ``d`` of the element ``i``."""
    return f"i / {math.prod(shape[d + 1:])} % {shape[d]}"


def source_index(source: tuple[int, ...], shape: tuple[int, ...]) -> str:
    """Where a broadcast finds the element ``i`` in what it spreads."""
    terms = [f"({coordinate(shape, d)}) * {math.prod(source[d + 1:])}" for d, n in enumerate(source) if n != 1]
    return " + ".join(terms) or "0"


def broadcast(e: Emitter, op: Broadcast) -> None:
    e.each(op.result, e.at(op.x, source_index(op.x.tile.shape, op.shape)))


def access(e: Emitter, view: Value, offsets: tuple[Value, ...], shape: tuple[int, ...]) -> tuple[str, str]:
    """The condition that the element ``i`` of a window is in bounds, and where it is."""
    name = e.names[view]
    at = [f"({e.names[o]} + {coordinate(shape, d)})" if shape else e.names[o] for d, o in enumerate(offsets)]
    inside = " && ".join(f"{a} >= 0 && {a} < {name}_shape[{d}]" for d, a in enumerate(at))
    return inside, f"{name}[{' + '.join(f'{a} * {name}_stride[{d}]' for d, a in enumerate(at))}]"


def load(e: Emitter, op: Load) -> None:
    inside, element = access(e, op.view, op.offsets, op.shape)
    mask = "" if op.mask is None else f" && {e.at(op.mask)}"
    e.each(op.result, f"{inside}{mask} ? {element} : {0 if op.other is None else e.names[op.other]}")


def store(e: Emitter, op: Store) -> None:
    shape = op.value.tile.shape
    inside, element = access(e, op.view, op.offsets, shape)
    mask = "" if op.mask is None else f" && {e.at(op.mask)}"
    e.lines.append(f"for (int i = 0; i < {math.prod(shape)}; i++) if ({inside}{mask}) {element} = {e.at(op.value)};")


def reduce(e: Emitter, op: Reduce) -> None:
    shape, axis = op.x.tile.shape, op.axis
    inner, extent = math.prod(shape[axis + 1:]), shape[axis]
    first = f"i / {inner} * {inner * extent} + i % {inner}"
    kind = {"sum": "add"}.get(op.kind, op.kind)
    name = e.declare(op.result)
    result = e.at(op.result)
    step = BINARY[kind].format(result, e.at(op.x, f"{first} + k * {inner}"))
    e.lines.append(f"for (int i = 0; i < {op.result.tile.size}; i++) {{ {result} = {e.at(op.x, first)}; "
                   f"for (int k = 1; k < {extent}; k++) {result} = {step}; }}  // {name}")


def conditional(e: Emitter, op: If) -> None:
    results = [e.declare(r) for r in op.results]
    e.lines.append(f"if ({e.names[op.condition]}) {{")
    for last, block in (("} else {", op.then), ("}", op.orelse)):
        e.block(block)
        for result, value in zip(results, block.terminator.operands, strict=True):
            copy(e, result, value)
        e.lines.append(last)


def loop(e: Emitter, op: For) -> None:
    carried = [e.declare(v) for v in op.body.args[1:]]
    for name, value in zip(carried, op.init, strict=True):
        copy(e, name, value)
    index = e.declare(op.body.args[0])
    e.lines.append(f"for ({index} = {e.names[op.start]}; {index} < {e.names[op.stop]}; "
                   f"{index} += {e.names[op.step]}) {{")
    e.block(op.body)
    for name, value in zip(carried, op.body.terminator.operands, strict=True):
        copy(e, name, value)
    e.lines.append("}")
    e.names.update(zip(op.results, carried, strict=True))


def copy(e: Emitter, name: str, value: Value) -> None:
    loop = "" if value.tile.is_scalar else f"for (int i = 0; i < {value.tile.size}; i++) "
    e.lines.append(f"{loop}{name}{'' if value.tile.is_scalar else '[i]'} = {e.at(value)};")


def number(value: bool | int | float) -> str:
    if isinstance(value, float) and not math.isfinite(value):
        return "NAN" if math.isnan(value) else f"{'-' if value < 0 else ''}INFINITY"
    return str(int(value)) if isinstance(value, bool) else repr(value)


EMIT: dict[type[Operation], Callable[..., None]] = {
    Yield: lambda e, op: None,
    Const: lambda e, op: e.each(op.result, number(op.value)),
    Iota: lambda e, op: e.each(op.result, coordinate(op.shape, op.axis)),
    GridIndex: lambda e, op: e.each(op.result, f"block[{op.axis}]"),
    Dim: lambda e, op: e.each(op.result, f"{e.names[op.view]}_shape[{op.axis}]"),
    Binary: lambda e, op: e.each(op.result, BINARY[op.kind].format(e.at(op.lhs), e.at(op.rhs))),
    Compare: lambda e, op: e.each(op.result, f"{e.at(op.lhs)} {COMPARE[op.kind]} {e.at(op.rhs)}"),
    Unary: lambda e, op: e.each(op.result, f"{'-' if op.kind == 'neg' else op.kind}({e.at(op.x)})"),
    Select: lambda e, op: e.each(op.result, f"{e.at(op.condition)} ? {e.at(op.x)} : {e.at(op.y)}"),
    Cast: lambda e, op: e.each(op.result, e.at(op.x)),
    Reshape: lambda e, op: e.each(op.result, e.at(op.x)),
    Broadcast: broadcast, Load: load, Store: store, Reduce: reduce, If: conditional, For: loop,
}


def emit_c(module: Module) -> str:
    """The kernels of a tile module."""
    return HEAD + "\n".join(Emitter().kernel(kernel) for kernel in module.kernels)


__all__ = ["emit_c"]
