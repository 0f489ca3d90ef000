"""One operator of a graph, computed by its rule."""

from __future__ import annotations

import functools
import operator
import re
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch._prims_common import ELEMENTWISE_TYPE_PROMOTION_KIND as PROMOTION
from torch._prims_common import elementwise_dtypes
from torch.fx import Node

from tilus.diagnostics import Span, UserError
from tilus.ir.dtypes import DType, i64
from tilus.ir.types import TileType, array_type
from tilus.lang.array_operations import extent_scalar
from tilus.lang.arrays import ArrayContext, ArrayTracer
from tilus.lang.context import current, use_context
from tilus.lang.values import Tile, compare, constant
from tilus.torch.dtypes import dtype_of, number_type
from tilus.torch.extents import Extents
from tilus.torch.registry import Refused, rule_of

_FRAME = re.compile(r'File "(.+?)", line (\d+), in ')
_LIBRARY = str(torch.__path__[0])


@functools.lru_cache(maxsize=1024)
def _place(trace: str) -> Span | None:
    frames = _FRAME.findall(trace)
    own = [frame for frame in frames if not frame[0].startswith(_LIBRARY)] or frames
    return Span(own[-1][0], int(own[-1][1]), 0, int(own[-1][1]), 1 << 20) if own else None


def span_of(node: Node) -> Span | None:
    """The line of the user's model that an operator comes from."""
    return _place(node.meta.get("stack_trace") or "")


def operator_name(node: Node) -> str:
    """The name of the node's operator, ``aten.add.Tensor``."""
    target = node.target
    return str(target) if isinstance(target, torch._ops.OpOverload) else getattr(target, "__name__", str(target))


class Call:
    """An operator with its arguments.

    Attributes:
        node: where it stands in the graph.
        metas: for each argument of the schema the fake tensor, or the value itself.
        dtype, shape: element type and extents of the result, of operators that have one.
    """

    def __init__(self, node: Node, extents: Extents) -> None:
        self.node, self.extents = node, extents
        self.arguments = _bound(node)
        self.metas = [torch.fx.node.map_arg(a, lambda n: n.meta["val"]) for a in self.arguments]

    @property
    def result(self) -> Any:
        """The fake tensor that comes out, or the tuple of them."""
        return self.node.meta["val"]

    @property
    def dtype(self) -> DType:
        return dtype_of(self.result.dtype)

    @property
    def shape(self) -> tuple[Any, ...]:
        return self.extents.shape(self.result)

    def uses(self, index: int) -> bool:
        """Whether anything needs the result of that number."""
        return any(user.args[1] == index for user in self.node.users)

    def promoted(self, kind: PROMOTION, *places: int) -> DType:
        """The element type in which ATen computes with those arguments (f32 for 16-bit floats)."""
        chosen = [self.metas[p] for p in places if self.metas[p] is not None]
        return dtype_of(elementwise_dtypes(*chosen, type_promotion_kind=kind)[0])

    def operands(self, kind: PROMOTION, *values: Any) -> list[Any]:
        """The first arguments, converted to that type; None stays."""
        dtype = self.promoted(kind, *range(len(values)))
        return [value if value is None else operand(value, dtype) for value in values]


def operand(value: Any, dtype: DType) -> Tile:
    """A tile, a number or an extent as a tile of an element type, by ATen's conversions."""
    if isinstance(value, str):
        value = extent_scalar(value)
    if isinstance(value, Tile):
        return convert(value, dtype)
    if isinstance(value, (bool, int, float)):
        if dtype.is_bool:
            return constant(bool(value), dtype)
        return constant(value if not dtype.is_int else int(value), dtype)
    raise Refused(f"an argument that is a {type(value).__name__}")


def convert(x: Tile, dtype: DType) -> Tile:
    """The elements as another type, with ATen's conversions where ours are others."""
    if dtype.is_bool and not x.dtype.is_bool:
        return compare("ne", x, 0)
    if x.dtype.is_float and dtype.name == "u8":  # by way of a signed integer, which wraps
        return x.to(i64).to(dtype)
    return x.to(dtype)


def _bound(node: Node) -> list[Any]:
    """The arguments of a node in the order of the operator's schema."""
    schema = node.target._schema
    values = list(node.args)
    for argument in schema.arguments[len(values):]:
        if argument.name in node.kwargs:
            values.append(node.kwargs[argument.name])
        else:
            values.append(argument.default_value if argument.has_default_value() else None)
    return values


def compute(node: Node, value_of: Callable[[Node], Any], extents: Extents) -> Any:
    """What the node gives, in the current context. Raises Refused, or UserError at the node's line."""
    if node.target is operator.getitem:
        return value_of(node.args[0])[node.args[1]]
    rule = rule_of(node.target)
    if rule is None:
        raise Refused("no rule")
    current().span = span_of(node) or current().span
    call = Call(node, extents)
    result = rule.function(call, *[_argument(a, value_of, extents) for a in call.arguments])
    meta = call.result
    if not isinstance(meta, (tuple, list)):
        return _conforming(result, meta, extents)
    return tuple(_conforming(r, m, extents) if r is not None else None for r, m in zip(result, meta, strict=True))


def _argument(argument: Any, value_of: Callable[[Node], Any], extents: Extents) -> Any:
    if isinstance(argument, Node):
        meta = argument.meta.get("val")
        return extents.of(meta) if isinstance(meta, torch.SymInt) and extents.has(meta) else value_of(argument)
    if isinstance(argument, (list, tuple)):
        return [_argument(a, value_of, extents) for a in argument]
    return argument


def _conforming(result: Tile, meta: Any, extents: Extents) -> Tile:
    """The result of a rule as torch says it is."""
    shape = extents.shape(meta)
    if result.shape != shape:
        raise Refused(f"a result of shape {result.shape} rather than {shape}")
    return result.to(dtype_of(meta.dtype))


def reason_against(node: Node) -> str | None:
    """Why a node cannot be in a fused function, tried on arrays like its arguments; None where it can."""
    if node.op != "call_function":
        return "no operator"
    if node.target is operator.getitem:
        return reason_against(node.args[0])
    if any("val" not in n.meta for n in (node, *node.all_input_nodes)):
        return "arguments of which nothing is known"
    inputs = [n for n in node.all_input_nodes if isinstance(n.meta.get("val"), torch.Tensor)]
    try:
        metas = node.meta["val"] if isinstance(node.meta.get("val"), (tuple, list)) else [node.meta.get("val")]
        if not all(m is None or isinstance(m, torch.Tensor) for m in metas):  # None: nobody asks for that result
            return "results that are not tensors"
        check_tensors([n.meta["val"] for n in inputs])
        _try(node, inputs)
    except Refused as refused:
        return str(refused)
    except UserError as error:
        return error.diagnostics[0].message
    return None


def is_number(node: Node, extents: Extents) -> bool:
    """Whether a node gives a number that is known at the call only, and is no extent."""
    meta = node.meta.get("val")
    if isinstance(meta, torch.SymInt):
        return not extents.has(meta)
    return not isinstance(meta, (torch.Tensor, tuple, list))


def check_tensors(tensors: Sequence[Any]) -> None:
    """Raise Refused for tensors that are no plain ones in memory."""
    for tensor in tensors:
        if tensor.layout is not torch.strided or tensor.device.type not in ("cpu", "cuda"):
            raise Refused(f"tensors of layout {tensor.layout} on {tensor.device.type}")


def _try(node: Node, inputs: Sequence[Node]) -> None:
    extents = Extents(n.meta["val"] for n in inputs)
    context = ArrayContext(ArrayTracer)
    given = {n: Tile(context.block.add_arg(array_type(dtype_of(n.meta["val"].dtype), extents.shape(n.meta["val"]))))
             for n in inputs}
    given.update((n, Tile(context.block.add_arg(TileType(number_type(n.meta["val"])))))
                 for n in node.all_input_nodes if is_number(n, extents))
    with use_context(context):
        compute(node, given.__getitem__, extents)


__all__ = ["PROMOTION", "Call", "check_tensors", "compute", "convert", "is_number", "operand", "operator_name",
           "reason_against", "span_of"]
