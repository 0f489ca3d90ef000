"""The front end of fused functions: the same tracer, builtins and operators over whole arrays.

An array is a :class:`~tilus.lang.values.Tile` whose extents may be symbols. Every array parameter has a symbol for each
dimension that its annotation does not fix and whose extent is not 1 (which extents are 1 is specialised, since
broadcasting depends on it). Where two symbols meet they have to be equal at the call: the module keeps those demands in
its broadcasts and contractions.
"""

from __future__ import annotations

import ast
import operator
import types
from collections.abc import Callable, Sequence
from typing import Any

from tilus.diagnostics import UserError
from tilus.ir.attributes import Attributes
from tilus.ir.core import Function, Module, Operation, Parameter, Value
from tilus.ir.dtypes import DType
from tilus.ir.names import kernel_symbol
from tilus.ir.ops import (
    Binary,
    Bitcast,
    Broadcast,
    Cast,
    Compare,
    Const,
    Fma,
    Iota,
    Philox,
    Reduce,
    Reshape,
    Scan,
    Select,
    Transpose,
    Unary,
    Yield,
)
from tilus.ir.ops.array import AffineAccess, Contract, Extent, Greatest, Lookup, Regroup, RoundTo, ScatterArray, Sort
from tilus.ir.rewriter import erase_dead
from tilus.ir.types import Extent as ExtentValue
from tilus.ir.types import TileType, array_type
from tilus.lang import (  # noqa: F401  (registers the methods of arrays, and rules of derivatives)
    array_moves,
    derivatives_elementwise,
    derivatives_moves,
    derivatives_sums,
)
from tilus.lang.array_operations import extent_scalar, round_to
from tilus.lang.array_scatter import ElementsAt
from tilus.lang.builtins import elementwise
from tilus.lang.capture import CapturedFunction
from tilus.lang.context import use_context
from tilus.lang.derivatives import Derivative, flattened
from tilus.lang.reads import Reads
from tilus.lang.trace_context import TraceContext
from tilus.lang.tracer import Tracer
from tilus.lang.values import Tile, as_tile, constant, fail
from tilus.records import record

ARRAY_OPS = (
    AffineAccess, Binary, Bitcast, Broadcast, Cast, Compare, Const, Contract, Extent, Fma, Greatest, Iota, Lookup,
    Philox, Reduce, Regroup, Reshape, RoundTo, Scan, ScatterArray, Select, Sort, Transpose, Unary,
)
"""What an array-level module consists of."""
REDUCTIONS = ("sum", "prod", "min", "max", "any", "all", "xor")
"""Reductions that may be done part by part without keeping indices."""


@record(frozen=True)
class ArraySpec:
    """An array parameter: its element type, and per dimension an extent or a symbol."""

    name: str
    dtype: DType
    extents: tuple[ExtentValue, ...]


class ArrayContext(TraceContext):
    """Appends operations of the array level; refuses those that only make sense on tiles."""

    level = "array"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.sizes: dict[tuple[str, ExtentValue, ExtentValue], str] = {}  # extents that are made of others

    def emit(self, op: Operation) -> tuple[Value, ...]:
        if not isinstance(op, ARRAY_OPS):
            raise self.refused(f"`{op.NAME}`")
        if isinstance(op, Reduce) and op.kind not in REDUCTIONS:
            raise self.refused(f"tl.{op.kind}")
        return super().emit(op)

    def refused(self, what: str) -> UserError:
        return UserError.at("E0115", f"{what} is not available in a fused function", self.span,
                            help="there are elementwise operations, reductions, `@`, casts, broadcasts, "
                                 "transpositions, slices, pads and windows; use tl.where for choices, tl.static_range "
                                 "for loops, and a @tl.jit kernel for the rest")

    def declare_grid(self, extents: tuple[Tile, ...]) -> tuple[Tile, ...]:
        raise self.refused("tl.grid")

    def declare_block(self, **attributes: Any) -> None:
        raise self.refused("tl.block")

    def declare_workspace(self, extents: tuple[Tile, ...], dtype: Any, zero: bool) -> Value:
        raise self.refused("tl.workspace")

    def declare_alias(self, names: tuple[str, ...]) -> None:
        raise self.refused("tl.may_alias")

    def map_elements(self, function: Any, xs: list[Tile]) -> tuple[list[Tile], bool]:
        raise self.refused("tl.map")

    def combine_along(self, combine: Any, xs: list[Tile], axis: int, reverse: bool | None) -> list[Tile]:
        raise self.refused("tl.reduce or tl.scan with a function")


class ArrayTracer(Tracer):
    """What differs from tiles: ``.to`` rounds, and the extents of arrays are run-time scalars."""

    def eval(self, node: ast.expr) -> Any:
        if isinstance(node, ast.Attribute) and node.attr == "shape":
            value = self.eval(node.value)
            if isinstance(value, Tile):
                self.context.span = self.captured.span(node)
                return tuple(extent_scalar(n) for n in value.shape)
        return super().eval(node)

    def item(self, value: Any, key: Any, node: ast.AST) -> Any:
        if isinstance(value, ElementsAt):
            return self.apply(node, operator.getitem, value, key)
        return super().item(value, key, node)

    def choose(self, condition: Any, node: ast.AST, then: Any, orelse: Any) -> None:
        if isinstance(condition, Tile):
            assert isinstance(self.context, ArrayContext)
            self.context.span = self.captured.span(node)
            raise self.context.refused("a condition on run-time values")
        super().choose(condition, node, then, orelse)

    def call(self, function: Any, args: Sequence[Any], kwargs: dict[str, Any], node: ast.AST) -> Any:
        if isinstance(function, types.MethodType) and function.__func__ is Tile.to:
            function = round_to(function.__self__)
        elif getattr(function, "__wrapped__", None) is elementwise.cast and args:
            function, args = round_to(as_tile(args[0])), args[1:]
        elif isinstance(derivative := getattr(function, "__tilus_derivative__", None), Derivative):
            return self.derive(derivative, function, args, kwargs, node)
        return super().call(function, args, kwargs, node)

    def derive(self, derivative: Derivative, function: Any, args: Sequence[Any], kwargs: dict[str, Any],
               node: ast.AST) -> Any:
        """The derivative of a function, which is called in this one."""
        self.context.span = self.captured.span(node)
        try:
            bound = function.python_signature().bind(*args, **kwargs)
        except TypeError as error:
            raise fail("E0604", f"{function.__name__}: {error}") from None
        bound.apply_defaults()
        inner = function.innermost()

        def call(values: dict[str, Any]) -> Any:
            found = super(ArrayTracer, self).call(inner, (), values, node)
            self.context.span = self.captured.span(node)
            return found

        return derivative.evaluate(bound.arguments, call)


def trace_arrays(captured: CapturedFunction, arrays: Sequence[ArraySpec], scalars: Sequence[tuple[str, DType]],
                 constants: dict[str, Any], reads: Reads | None = None,
                 derivative: Derivative | None = None) -> tuple[Module, bool]:
    """The array-level module of a fused function, or of its derivative, and whether it returns a tuple rather than one
    value.

    The module's only kernel takes the arrays, then the scalars, and yields the outputs; an output of rank 0 is yielded
    with shape (1,), and ``attributes.scalars`` lists those. Raises UserError.
    """
    context = ArrayContext(ArrayTracer, reads=reads)
    for value in constants.values():
        context.heap.add_outside(value)

    def run(values: dict[str, Any]) -> Any:
        found = ArrayTracer(captured, context).run(values)
        context.span = captured.span(captured.node)
        return found

    def make(given: dict[str, Tile]) -> Any:
        values = {**constants, **given}
        return run(values) if derivative is None else flattened(derivative.evaluate(values, run))

    return _module(captured, context, arrays, scalars, make)


def build_arrays(captured: CapturedFunction, arrays: Sequence[ArraySpec], scalars: Sequence[tuple[str, DType]],
                 build: Callable[..., Any]) -> tuple[Module, bool]:
    """The same of what ``build`` makes of the arrays and scalars, one after the other, by calling the language's
    functions."""
    return _module(captured, ArrayContext(ArrayTracer), arrays, scalars, lambda given: build(*given.values()))


def _module(captured: CapturedFunction, context: ArrayContext, arrays: Sequence[ArraySpec],
            scalars: Sequence[tuple[str, DType]], make: Callable[[dict[str, Tile]], Any]) -> tuple[Module, bool]:
    span = context.span = captured.span(captured.node)
    body = context.block
    given = {s.name: Tile(body.add_arg(array_type(s.dtype, s.extents), s.name)) for s in arrays}
    given.update((name, Tile(body.add_arg(TileType(dtype), name))) for name, dtype in scalars)
    with use_context(context):
        result = make(given)
        context.span = span
        several = isinstance(result, (tuple, list))
        outputs = [_output(value, captured) for value in (result if several else [result])]
        if not outputs:
            raise UserError.at("E0103", f"{captured.name} returns no array", span)
        flat = tuple(i for i, v in enumerate(outputs) if not v.shape)
        yielded = [v.reshape(1) if not v.shape else v for v in outputs]
    sizes = tuple((name, *key) for key, name in context.sizes.items())
    body.ops.append(Yield(tuple(v.value for v in yielded), span=span))
    parameters = [Parameter(s.name, "array", s.extents) for s in arrays]
    parameters += [Parameter(name, "scalar") for name, _ in scalars]
    function = Function(kernel_symbol(captured.name), body, parameters, Attributes(scalars=flat, sizes=sizes), span)
    erase_dead(function)
    return Module([function], None, "array"), several


def _output(value: Any, captured: CapturedFunction) -> Tile:
    if isinstance(value, (bool, int, float)):
        value = constant(value, as_tile(value).dtype)
    if not isinstance(value, Tile):
        raise UserError.at("E0103", f"{captured.name} returns a Python {type(value).__name__}, not an array",
                           captured.span(captured.node), help="a fused function returns an array or a tuple of arrays")
    return value


__all__ = ["ARRAY_OPS", "ArrayContext", "ArraySpec", "build_arrays", "trace_arrays"]
