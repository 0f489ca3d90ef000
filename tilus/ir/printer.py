"""Prints modules as text that :mod:`tilus.ir.parser` reads back.

Operands are named by field, attributes follow in braces, regions last::

    %acc = dot(a=%x, b=%y, accumulator=%c) {precision="ieee"} : f32[64x64]

A field of several regions is named before each.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

from tilus.diagnostics import Span
from tilus.ir.core import PRINTERS, VARIADIC, Block, Function, Module, Operation, Value
from tilus.ir.dtypes import DType


class _Printer:
    def __init__(self, *, locations: bool = False) -> None:
        self.lines: list[str] = []
        self.names: dict[Value, str] = {}
        self.taken: set[str] = set()
        self.locations = locations

    def name(self, value: Value) -> str:
        found = self.names.get(value)
        if found is None:
            stem = value.name if value.name.isidentifier() else ""
            found = stem or str(len(self.names))
            count = 0
            while found in self.taken:
                count += 1
                found = f"{stem or len(self.names)}_{count}"
            self.taken.add(found)
            self.names[value] = found
        return f"%{found}"

    def typed(self, values: Iterable[Value]) -> str:
        return ", ".join(f"{self.name(v)}: {v.type}" for v in values)

    def module(self, module: Module) -> None:
        parts = [f"level={_attribute(module.level)}", f"form={_attribute(tuple(sorted(module.form)))}"]
        parts.append(f"target={_attribute(module.target)}")
        parts += [f"{k}={_attribute(v)}" for k, v in sorted(module.attributes.items())]
        self.lines.append(f"module {{{', '.join(parts)}}}")
        for function in module.kernels:
            self.function("kernel", function)
        if module.launch is not None:
            self.function("launch", module.launch)

    def function(self, word: str, function: Function) -> None:
        attributes = ", ".join(f"{k}={_attribute(v)}" for k, v in sorted(function.attributes.given().items()))
        self.lines.append(f"{word} @{function.name}({self.typed(function.body.args)}) {{{attributes}}}"
                          f"{self.location(function.span)} {{")
        for parameter in function.parameters:
            self.lines.append(f"  param {_record(parameter)}")
        self.block_ops(function.body, 1)
        self.lines.append("}")

    def block_ops(self, block: Block, depth: int) -> None:
        for op in block.ops:
            self.operation(op, depth)

    def operation(self, op: Operation, depth: int) -> None:
        pad = "  " * depth
        results = ", ".join(self.name(r) for r in op.results)
        operands = []
        for name, kind in op.OPERAND_FIELDS:
            value = getattr(op, name)
            if kind == VARIADIC:
                operands.append(f"{name}=[{', '.join(self.name(v) for v in value)}]")
            elif value is not None:
                operands.append(f"{name}={self.name(value)}")
        attributes = [
            f"{n}={_attribute(v)}" for n, v in op.attributes.items() if not (n in op.DEFAULTS and op.DEFAULTS[n] == v)
        ]
        text = f"{pad}{results + ' = ' if results else ''}{op.NAME}({', '.join(operands)})"
        if attributes:
            text += f" {{{', '.join(attributes)}}}"
        if op.results:
            text += f" : {', '.join(str(r.type) for r in op.results)}"
        text += self.location(op.span)
        for name, region in op.named_regions():
            self.lines.append(f"{text} ^{name}({self.typed(region.args)}) {{")
            self.block_ops(region, depth + 1)
            text = f"{pad}}}"
        self.lines.append(text)

    def location(self, span: Span) -> str:
        if not (self.locations and span.known):
            return ""
        return f" loc({_attribute(span.file)}, {span.line}, {span.column}, {span.end_line}, {span.end_column})"


def _attribute(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return _float(value)
    if isinstance(value, str):
        import json

        return json.dumps(value)
    if isinstance(value, DType):
        return value.name
    if isinstance(value, (tuple, list)):
        return f"[{', '.join(_attribute(v) for v in value)}]"
    from tilus.ir.schedule import LoopSchedule  # few attributes come here

    if isinstance(value, LoopSchedule):
        return _record(value)
    return f"<{value}>"


def _float(value: float) -> str:
    if value != value:
        return "nan"
    if value in (float("inf"), float("-inf")):
        return "inf" if value > 0 else "-inf"
    text = repr(value)
    return text if any(c in text for c in ".en") else text + ".0"


def _record(record: Any) -> str:
    """A dataclass by the fields that are not the defaults."""
    parts = []
    for field in dataclasses.fields(record):
        value = getattr(record, field.name)
        if field.default is dataclasses.MISSING or value != field.default:
            parts.append(f"{field.name}={_attribute(value)}")
    return f"{{{', '.join(parts)}}}"


def print_module(module: Module, *, locations: bool = False) -> str:
    """The module as text; with ``locations`` every operation carries its source span."""
    printer = _Printer(locations=locations)
    printer.module(module)
    return "\n".join(printer.lines) + "\n"


def print_function(function: Function) -> str:
    printer = _Printer()
    printer.function("kernel", function)
    return "\n".join(printer.lines) + "\n"


def print_operation(op: Operation) -> str:
    printer = _Printer()
    printer.operation(op, 0)
    return "\n".join(printer.lines)


PRINTERS.update({Operation: print_operation, Module: print_module})
