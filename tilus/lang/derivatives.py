"""Reverse-mode derivatives of functions of whole arrays.

The operations of a function are walked from its result back to its arguments. A rule for each kind of operation says
what the derivative by a result makes of that by each operand, in the language's own functions, so that what comes out
is array level again: it is fused, and can be differentiated once more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from tilus.diagnostics import Span, UserError
from tilus.ir.core import Operation, Value
from tilus.ir.ops import Broadcast, Cast
from tilus.ir.types import Extent, extents_of
from tilus.lang.context import current
from tilus.lang.values import Tile, broadcast_to, constant, emit, fail
from tilus.records import record

RuleT = TypeVar("RuleT", bound=Callable[..., Any])
Given = Iterable[tuple[Value, Tile]]
_rules: dict[type[Operation], Callable[[Any, Step], Given]] = {}


@record
class Step:
    """What a rule is given besides the operation: the derivative by its result, the result, and which values matter."""

    g: Tile
    y: Tile
    wanted: Callable[[Value], bool]


def derivative_of(*kinds: type[Operation]) -> Callable[[RuleT], RuleT]:
    """Register the rule of operations: for an operation and a step it gives operands, each with what is added to the
    derivative by it."""

    def register(function: RuleT) -> RuleT:
        _rules.update(dict.fromkeys(kinds, function))
        return function

    return register


def pull_back(ops: Sequence[Operation], result: Tile, cotangent: Tile, arguments: Sequence[Tile]) -> list[Tile]:
    """The derivatives by ``arguments`` of what ``ops`` make of them, for that by the result. Raises UserError (E0115)
    where an operation has none."""
    reached = {a.value for a in arguments}
    for op in ops:
        if any(v in reached for v in op.operands):
            reached.update(r for r in op.results if r.tile.dtype.is_float)
    found: dict[Value, Tile] = {result.value: cotangent} if result.value in reached else {}
    context: Any = current()
    span = context.span
    for op in reversed(ops):
        values = [r for r in op.results if r in found]
        if not values or not any(v in reached for v in op.operands):
            continue
        if type(op) not in _rules or len(op.results) > 1:
            raise UserError.at("E0115", f"`{op.NAME}` has no derivative", op.span)
        context.span = op.span if op.span.known else span
        step = Step(found[op.results[0]], Tile(op.results[0]), reached.__contains__)
        for value, part in _rules[type(op)](op, step):
            if value in reached:
                part = conform(part.to(value.tile.dtype), extents_of(value.tile))
                found[value] = found[value] + part if value in found else part
    context.span = span
    return [found[a.value] if a.value in found else constant(0.0, a.dtype, a.shape) for a in arguments]


def conform(x: Tile, shape: tuple[Extent, ...]) -> Tile:
    """The array with these names for its extents, which are equal."""
    if x.shape == shape:
        return x
    return emit(Broadcast(x.value, shape, span=current().span)) if x.shape else broadcast_to(x, shape)  # type: ignore[arg-type]


@record(frozen=True)
class Derivative:
    """The derivative of a function by some of its parameters.

    Attributes:
        parameters: their names; ``single`` says that one was asked for, rather than several.
        with_value: whether the function's result is given too.
        cotangent: the name of the parameter that has the derivative by the function's result; "" where the result is a
            number, by which it is 1.
        inner: what it is the derivative of, where that is a derivative itself.
        spans: of the parameters.
    """

    parameters: tuple[str, ...]
    single: bool
    with_value: bool
    cotangent: str
    inner: Derivative | None
    spans: Mapping[str, Span]

    def evaluate(self, values: Mapping[str, Any], call: Callable[[dict[str, Any]], Any]) -> Any:
        """For values of all parameters; ``call`` is the function. Raises UserError."""
        context: Any = current()
        given = {n: v for n, v in values.items() if n != self.cotangent}
        arguments = {name: self._argument(name, given[name]) for name in self.parameters}
        start = len(context.block.ops)
        given.update(arguments)
        result = call(given) if self.inner is None else self.inner.evaluate(given, call)
        if not isinstance(result, Tile) or not result.dtype.is_float:
            raise fail("E0115", f"the derivative of a function that returns {_described(result)}",
                       help="it returns one array of floats, or a number")
        if not self.cotangent and result.shape:
            raise fail("E0115", f"the gradient of a function that returns an array of shape {result.shape}",
                       help="it returns a number, such as a sum; tl.vjp takes the derivative by an array")
        cotangent = self._cotangent(values, result)
        gradients = pull_back(context.block.ops[start:], result, cotangent, list(arguments.values()))
        found = gradients[0] if self.single else tuple(gradients)
        return (result, found) if self.with_value else found

    def _argument(self, name: str, value: Any) -> Tile:
        """The argument as a value of its own, by which the derivative is taken."""
        if not isinstance(value, Tile):
            raise UserError.at("E0115", f"the derivative by {name!r}, which is no array", self.spans[name],
                               help="give it as an array, or take the derivative by other parameters: argnums=…")
        if not value.dtype.is_float:
            raise UserError.at("E0115", f"the derivative by {name!r}, an array of {value.dtype}", self.spans[name],
                               help="derivatives are by floats: convert the array, or take other parameters: argnums=…")
        return emit(Cast(value.value, value.dtype, span=current().span))

    def _cotangent(self, values: Mapping[str, Any], result: Tile) -> Tile:
        if not self.cotangent:
            return constant(1.0, result.dtype)
        given = values[self.cotangent]
        if not isinstance(given, Tile) or not given.dtype.is_float or len(given.shape) != len(result.shape):
            raise fail("E0202", f"the cotangent is {_described(given)}, the result has shape {result.shape}",
                       help="it is an array of the result's shape")
        return conform(given.to(result.dtype), result.shape)


def _described(value: Any) -> str:
    if isinstance(value, Tile):
        return f"an array of {value.dtype} of shape {value.shape}" if value.shape else f"a number of {value.dtype}"
    return "several arrays" if isinstance(value, (tuple, list)) else f"a Python {type(value).__name__}"


def flattened(result: Any) -> Any:
    """What a derivative gives, without tuples in tuples."""
    if isinstance(result, tuple) and len(result) == 2 and isinstance(result[1], tuple):
        return (result[0], *result[1])
    return result


__all__ = ["Derivative", "Step", "conform", "derivative_of", "flattened", "pull_back"]
