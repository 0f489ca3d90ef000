"""Reads the text that :mod:`tilus.ir.printer` writes."""

from __future__ import annotations

import dataclasses
import functools
import json
import re
from collections.abc import Sequence
from dataclasses import fields
from typing import Any, cast, get_args

from tilus.diagnostics import UNKNOWN_SPAN, Span, TilusError, UserError
from tilus.ir import ops as _declared  # noqa: F401  (declares the operations)
from tilus.ir.attributes import Attributes
from tilus.ir.core import REGISTRY, VARIADIC, Block, Function, Module, Operation, Parameter, Value
from tilus.ir.dtypes import DType, parse_dtype
from tilus.ir.ops import array as _array  # noqa: F401
from tilus.ir.ops import simt as _simt  # noqa: F401
from tilus.ir.ops import words as _words  # noqa: F401
from tilus.ir.schedule import LoopSchedule
from tilus.ir.terms import Space
from tilus.ir.types import LocalType, PointerType, TileType, Type, ViewType, array_type

RECORDS = {"schedule": LoopSchedule}
"""Attributes that are dataclasses."""
GRAMMAR = r"""
start: "module" attributes function*
function: KIND "@" NAME "(" arguments ")" attributes location? "{" parameter* operation* "}"
parameter: "param" attributes
arguments: [argument ("," argument)*]
argument: VALUE ":" type
operation: [results "="] NAME "(" operands ")" [attributes] [":" types] [location] region*
results: VALUE ("," VALUE)*
operands: [operand ("," operand)*]
operand: NAME "=" (VALUE | operand_list)
operand_list: "[" [ VALUE ("," VALUE)* ] "]"
region: "^" NAME "(" arguments ")" "{" operation* "}"
location: "loc" "(" STRING "," INT "," INT "," INT "," INT ")"
attributes: "{" [attribute ("," attribute)*] "}"
attribute: NAME "=" value
?value: STRING -> string | INT -> integer | FLOAT -> number | NAME -> word | list | attributes
    | "<" LAYOUT ">" -> layout
list: "[" [value ("," value)*] "]"
types: type ("," type)*
type: NAME -> scalar_type
    | NAME "[" DIMS ["," LAYOUT] "]" -> tile_type
    | NAME "<" NAME "[" [DIMS] "]" ["," LAYOUT] ">" -> view_type
    | NAME "<" NAME "," NAME ">" -> pointer_type
    | "local" "<" NAME "[" DIMS "]" "," NAME ">" -> local_type
KIND.2: /(kernel|launch)(?=\s*@)/
VALUE: /%[A-Za-z_0-9]+/
NAME: /[A-Za-z_][A-Za-z_0-9]*(:\d\([-+.,e\d]*\))?/
DIMS: /(\d+|\?|'\w+')(x(\d+|\?|'\w+'))*/
INT: /-?\d+/
FLOAT.2: /-?(\d+\.\d*([eE][+-]?\d+)?|\d+[eE][+-]?\d+|inf)/ | "nan"
STRING: /"(\\.|[^"\\])*"/
LAYOUT: /[a-z_]+\((?:[^()]|\([^()]*\))*\)(?:\.[a-z_]+(?:\((?:[^()]|\([^()]*\))*\))?)*/
COMMENT: /\/\/[^\n]*/
%ignore COMMENT
%ignore /\s+/
"""


@functools.cache
def _parser() -> Any:
    import lark

    return lark.Lark(GRAMMAR, parser="lalr", lexer="contextual", propagate_positions=True, maybe_placeholders=False)


def parse_module(text: str, file: str = "<ir>") -> Module:
    """The module that ``text`` describes.

    Raises:
        UserError: E0801, the text is malformed, with the place in ``file``.
    """
    import lark

    try:
        tree = _parser().parse(text)
    except lark.exceptions.UnexpectedInput as error:
        line, column = max(1, getattr(error, "line", 1)), max(1, getattr(error, "column", 1))
        token = getattr(error, "token", None)
        found = f"unexpected {str(token)!r}" if token is not None else "unexpected character"
        raise UserError.at("E0801", f"malformed IR: {found}", Span(file, line, column - 1, line, column)) from None
    return _Reader(file).module(tree)


class _Reader:
    def __init__(self, file: str) -> None:
        self.file = file
        self.values: dict[str, Value] = {}

    def fail(self, message: str, node: Any) -> UserError:
        meta = getattr(node, "meta", node)
        line = getattr(meta, "line", 0) or 0
        column = (getattr(meta, "column", 1) or 1) - 1
        return UserError.at("E0801", message, Span(self.file, line, column, line, column + 1))

    # -- structure

    def module(self, tree: Any) -> Module:
        attributes = self.attributes(tree.children[0])
        functions = [self.function(child) for child in tree.children[1:]]
        kernels = [f for kind, f in functions if kind == "kernel"]
        launch = next((f for kind, f in functions if kind == "launch"), None)
        level, form, target = (attributes.pop(n, d) for n, d in (("level", "tile"), ("form", ()), ("target", "")))
        return Module(kernels, launch, level, frozenset(form), target, attributes)

    def function(self, tree: Any) -> tuple[str, Function]:
        kind, name, arguments, attributes, *rest = tree.children
        self.values = {}
        body = self.block(arguments)
        span = UNKNOWN_SPAN
        parameters = []
        for child in rest:
            if child.data == "location":
                span = self.location(child)
            elif child.data == "parameter":
                parameters.append(self.parameter(child))
            else:
                body.ops.append(self.operation(child))
        return str(kind), Function(str(name), body, parameters, self.function_attributes(attributes), span)

    def function_attributes(self, tree: Any) -> Attributes:
        given = self.attributes(tree)
        known = [f.name for f in fields(Attributes)]
        for name in given:
            if name not in known:
                raise self.fail(f"functions have no attribute {name!r}: {', '.join(known)}", tree)
        return Attributes(**given)

    def parameter(self, tree: Any) -> Parameter:
        try:
            return Parameter(**self.attributes(tree.children[0]))
        except TypeError as error:
            raise self.fail(f"bad description of a parameter: {error}", tree) from None

    def block(self, arguments: Any) -> Block:
        block = Block()
        for argument in arguments.children:
            name, type_ = argument.children
            self.define(str(name), block.add_arg(self.type(type_)), argument)
        return block

    def define(self, token: str, value: Value, node: Any) -> None:
        name = token.removeprefix("%")
        if name in self.values:
            raise self.fail(f"%{name} is defined twice", node)
        value.name = "" if name.isdigit() else name
        self.values[name] = value

    def use(self, name: Any, node: Any) -> Value:
        found = self.values.get(str(name).removeprefix("%"))
        if found is None:
            raise self.fail(f"{name} is not defined", node)
        return found

    def operation(self, tree: Any) -> Operation:
        results: list[str] = []
        fields: dict[str, Any] = {}
        types: Sequence[Type] = ()
        span = UNKNOWN_SPAN
        name = ""
        regions: list[Any] = []
        for child in tree.children:
            data = getattr(child, "data", None)
            if data is None:
                name = str(child)
            elif data == "results":
                results = [str(c) for c in child.children]
            elif data == "operands":
                fields.update(self.operand(c) for c in child.children)
            elif data == "attributes":
                fields.update(self.attributes(child))
            elif data == "types":
                types = [self.type(c) for c in child.children]
            elif data == "location":
                span = self.location(child)
            else:
                regions.append(child)
        declared = self.declared(name, tree)
        fields |= self.regions(declared, regions, tree)
        return self.make(declared, fields, results, types, span, tree)

    def declared(self, name: str, tree: Any) -> type[Operation]:
        """The class of operations of a name."""
        declared = REGISTRY.get(name)
        if declared is None:
            import difflib

            near = difflib.get_close_matches(name, REGISTRY, 1)
            raise self.fail(f"there is no operation {name!r}{f'; did you mean {near[0]!r}?' if near else ''}", tree)
        return declared

    def regions(self, declared: type[Operation], trees: list[Any], tree: Any) -> dict[str, Any]:
        """The fields that are regions."""
        kinds = dict(declared.REGION_FIELDS)
        found: dict[str, Any] = {name: () for name, kind in kinds.items() if kind == VARIADIC}
        for region in trees:
            name = str(region.children[0])
            block = self.block(region.children[1])
            block.ops = [self.operation(c) for c in region.children[2:]]
            if name not in kinds:
                raise self.fail(f"{declared.NAME} has no region {name!r}", tree)
            if kinds[name] != VARIADIC and name in found:
                raise self.fail(f"{declared.NAME} has one region {name!r}", tree)
            found[name] = (*found[name], block) if kinds[name] == VARIADIC else block
        return found

    def make(self, declared: type[Operation], fields: dict[str, Any], results: list[str], types: Sequence[Type],
             span: Span, tree: Any) -> Operation:
        name = declared.NAME
        unknown = [f for f in fields if f not in declared.FIELDS]
        if unknown:
            raise self.fail(f"{name} has no field {unknown[0]!r}", tree)
        for field, kind in declared.OPERAND_FIELDS:
            if kind == VARIADIC:
                fields.setdefault(field, ())
        for field, record in RECORDS.items():
            if isinstance(fields.get(field), dict):
                fields[field] = self.record(record, fields[field], tree)
        if len(results) != len(types):
            raise self.fail(f"{name} has {len(results)} results and {len(types)} types", tree)
        try:
            op = declared(span=span, types=types, **fields)
            inferred = len(op.infer())
        except (TypeError, TilusError) as error:
            message = error.diagnostics[0].message if isinstance(error, TilusError) else str(error)
            raise self.fail(f"{name}: {message}", tree) from None
        if inferred != len(results):
            raise self.fail(f"{name} has {inferred} results, not {len(results)}", tree)
        for result, value in zip(results, op.results, strict=True):
            self.define(result, value, tree)
        return op

    def operand(self, tree: Any) -> tuple[str, Any]:
        name, value = tree.children
        if getattr(value, "data", None) == "operand_list":
            return str(name), tuple(self.use(v, tree) for v in value.children)
        return str(name), self.use(value, tree)

    def location(self, tree: Any) -> Span:
        file, *numbers = tree.children
        return Span(json.loads(file), *(int(n) for n in numbers))

    # -- attributes and types

    def attributes(self, tree: Any) -> dict[str, Any]:
        return {str(a.children[0]): self.attribute(a.children[1]) for a in tree.children}

    def attribute(self, node: Any) -> Any:
        kind = node.data
        if kind == "attributes":
            return self.attributes(node)
        if kind == "list":
            return tuple(self.attribute(c) for c in node.children)
        text = str(node.children[0])
        if kind == "string":
            return json.loads(text)
        if kind == "integer":
            return int(text)
        if kind == "number":
            return float(text)
        if kind == "layout":
            return self.layout(node.children[0])
        words = {"true": True, "false": False, "none": None, "nan": float("nan"), "inf": float("inf")}
        return words[text] if text in words else self.dtype(node.children[0])

    def record(self, declared: type, given: dict[str, Any], tree: Any) -> Any:
        known = [field.name for field in dataclasses.fields(declared)]
        unknown = [name for name in given if name not in known]
        if unknown:
            raise self.fail(f"there is no {unknown[0]!r} among {', '.join(known)}", tree)
        return declared(**given)

    def dtype(self, token: Any) -> DType:
        try:
            return parse_dtype(str(token))
        except ValueError as error:
            raise self.fail(str(error), token) from None

    def layout(self, token: Any) -> Any:
        from tilus.layouts.parse import parse_layout

        line, column = getattr(token, "line", 1), getattr(token, "column", 1) - 1
        return parse_layout(str(token), Span(self.file, line, column, line, column + len(token)))

    def space(self, token: Any) -> Space:
        if str(token) not in get_args(Space):
            raise self.fail(f"there is no memory space {str(token)!r}", token)
        return cast(Space, str(token))

    def type(self, tree: Any) -> Type:
        children = list(tree.children)
        if tree.data == "scalar_type":
            return TileType(self.dtype(children[0]))
        if tree.data == "pointer_type":
            return PointerType(self.dtype(children[1]), self.space(children[2]))
        if tree.data == "local_type":
            return LocalType(self.dtype(children[0]), int(children[1]), str(children[2]))
        layout = self.layout(children.pop()) if children[-1].type == "LAYOUT" else None
        dims = str(children.pop()) if children[-1].type == "DIMS" else ""
        if "'" in dims:
            return array_type(self.dtype(children[0]), tuple(
                d[1:-1] if d[0] == "'" else int(d) for d in re.findall(r"'\w+'|\d+", dims)))
        shape = tuple(None if d == "?" else int(d) for d in dims.split("x")) if dims else ()
        if tree.data == "tile_type":
            return TileType(self.dtype(children[0]), tuple(d or 0 for d in shape), layout)
        return ViewType(self.dtype(children[1]), shape, self.space(children[0]), layout)
