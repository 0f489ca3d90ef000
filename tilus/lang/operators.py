"""Names, attributes, operators and short circuits of a kernel's expressions."""

from __future__ import annotations

import ast
import functools
import inspect
import operator
import sys
import types
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from tilus.diagnostics import InternalError, Label, Span, TilusError, UserError
from tilus.ir.core import Block
from tilus.ir.rewriter import is_pure
from tilus.lang import flow
from tilus.lang.builtins import elementwise
from tilus.lang.calls import contains
from tilus.lang.capture import CapturedFunction
from tilus.lang.foreign_names import HELP as FOREIGN
from tilus.lang.heap import equal, has_tiles
from tilus.lang.trace_context import TraceContext
from tilus.lang.trees import UNSET, Undefined, common_type, describe, typed
from tilus.lang.values import Tile, arithmetic, compare, condition_error, unary
from tilus.lang.views import View

MAX_EAGER = 32
"""Operations of a right side of ``and`` and ``or`` up to which computing it costs less than a branch around it."""

BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv, ast.Mod: operator.mod, ast.Pow: operator.pow, ast.BitAnd: operator.and_,
    ast.BitOr: operator.or_, ast.BitXor: operator.xor, ast.LShift: operator.lshift, ast.RShift: operator.rshift,
    ast.MatMult: operator.matmul,
}
_UNARY: dict[type[ast.unaryop], Callable[[Any], Any]] = {
    ast.USub: operator.neg, ast.UAdd: operator.pos, ast.Invert: operator.invert,
}
_COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq, ast.NotEq: operator.ne, ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt,
    ast.GtE: operator.ge, ast.Is: operator.is_, ast.IsNot: operator.is_not,
    ast.In: contains, ast.NotIn: lambda a, b: negated(contains(a, b)),
}


def negated(value: Any) -> Any:
    return unary("not", value) if isinstance(value, Tile) else not value


class OperatorTracer:
    """The names and operators of one function body. What divides control flow, and the other expressions, are left to
    subclasses."""

    expressions: ClassVar[dict[type[ast.expr], Callable[[Any, Any], Any]]] = {}
    """What evaluates each kind of expression."""

    def __init__(self, captured: CapturedFunction, context: TraceContext, depth: int = 0) -> None:
        self.captured = captured
        self.context = context
        self.depth = depth
        self.scope: dict[str, Any] = {}
        self.parent: OperatorTracer | None = None
        self.is_comprehension = False
        self.local_names: frozenset[str] = frozenset()

    def fail(self, code: str, message: str, node: ast.AST, help: str | None = None) -> UserError:
        return UserError.at(code, message, self.captured.span(node), help=help)

    # -- what the subclass gives

    def run(self, arguments: dict[str, Any]) -> Any:
        raise NotImplementedError

    def run_inline(self, node: ast.FunctionDef | ast.Lambda, arguments: dict[str, Any]) -> Any:
        raise NotImplementedError

    def bind(self, target: ast.expr, value: Any) -> None:
        raise NotImplementedError

    def choose(self, condition: Any, node: ast.AST, then: Callable[[], None], orelse: Callable[[], None]) -> None:
        raise NotImplementedError

    # -- evaluation

    def eval(self, node: ast.expr) -> Any:
        handler = self.expressions.get(type(node))
        if handler is None:
            raise self.fail("E0101", f"{describe_node(node)} is not supported in a kernel", node)
        return handler(self, node)

    def apply(self, node: ast.AST, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call Python code on the user's behalf: errors point at ``node``."""
        self.context.span = self.captured.span(node)
        try:
            return function(*args, **kwargs)
        except TilusError as error:
            raise located(error, self.captured.span(node)) from error.__cause__
        except RecursionError:
            raise
        except Exception as error:
            raise self._python_error(node, function, args, kwargs, error) from error

    def change(self, node: ast.AST, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """As :meth:`apply`, for code that may change the Python objects it is given."""
        span = self.captured.span(node)
        with self.context.heap.changes(span, function, *args, *kwargs.values()):
            return self.apply(node, function, *args, **kwargs)

    def _python_error(self, node: ast.AST, function: Any, args: Sequence[Any], kwargs: dict[str, Any],
                      error: Exception) -> UserError:
        """What to say of an exception that Python code raised."""
        name = getattr(function, "__name__", "operation")
        module = str(getattr(function, "__module__", None) or type(function).__module__)
        if module.startswith("tilus.lang.") and isinstance(error, TypeError):
            try:
                inspect.signature(function).bind(*args, **kwargs)
            except TypeError as reason:
                return self._wrong_arguments(node, f"tl.{name}", function, kwargs, str(reason))
        if is_of_numbers(function) and has_tiles((args, kwargs)):
            return self._run_time_argument(function, node)
        if "unhashable type: 'Tile'" in str(error):
            return self.fail("E0113", "a run-time value has no hash", node, "it cannot be a key of a dict, an element "
                             "of a set, or an argument of a function that remembers its results")
        said = f"{type(error).__name__}: {error}"
        return self.fail("E0107", said if module == "_operator" else f"{name}: {said}", node)

    def _run_time_argument(self, function: Any, node: ast.AST) -> UserError:
        module, name = function.__module__.split(".")[0], function.__name__
        own = hasattr(sys.modules["tilus"], name)
        return self.fail("E0113", f"{module}.{name} is given a run-time value", node,
                         f"use tl.{name}" if own else "it works on Python and NumPy values only")

    def _wrong_arguments(self, node: ast.AST, name: str, function: Any, kwargs: dict[str, Any],
                         reason: str) -> UserError:
        known = inspect.signature(function).parameters
        unknown = next((k for k in kwargs if k not in known), None)
        if unknown is None:
            return self.fail("E0107", f"{name}: {reason}", node)
        import difflib

        near = difflib.get_close_matches(unknown, known, 1)
        return self.fail("E0107", f"{name} has no parameter {unknown!r}", node,
                         f"did you mean {near[0]!r}?" if near else f"it has {', '.join(known)}")

    def readable(self, value: Any, node: ast.AST) -> Any:
        """A value that an expression gives. Raises UserError (E0110) where some path has left nothing to read."""
        if isinstance(value, Undefined):
            raise UserError.at("E0110", value.reason, self.captured.span(node), label="used here",
                               help="assign it before the branch or loop")
        if self.context.heap.lost:
            self.context.heap.check_readable(value, self.captured.span(node))
        return value

    # -- names and attributes

    def _constant(self, node: ast.Constant) -> Any:
        return node.value

    def _name(self, node: ast.Name) -> Any:
        name = node.id
        frame: OperatorTracer | None = self
        while frame is not None:
            if name in frame.scope:
                return self.readable(frame.scope[name], node)
            if name in frame.local_names:
                raise self.fail("E0110", f"{name!r} is assigned in {frame.captured.name}, which makes it a local name, "
                                         "and has no value yet", node, help="assign it before, or use another name")
            frame = frame.parent
        return self._free_name(name, node)

    def _free_name(self, name: str, node: ast.AST) -> Any:
        try:
            value = self.captured.lookup(name, self.context.reads)
        except KeyError:
            raise self.fail("E0102", f"name {name!r} is not defined", node, help=self._near(name)) from None
        self.context.heap.add_outside(value)
        return value

    def _near(self, name: str) -> str | None:
        known = [*self.captured.closure, *self.captured.function.__globals__]
        frame: OperatorTracer | None = self
        while frame is not None:
            known += frame.scope
            frame = frame.parent
        import difflib

        near = difflib.get_close_matches(name, [k for k in known if not k.startswith("$")], 1)
        return f"did you mean {near[0]!r}?" if near else None

    def _attribute(self, node: ast.Attribute) -> Any:
        value = self.eval(node.value)
        self.context.span = self.captured.span(node)
        try:
            found = getattr(value, node.attr)
        except AttributeError:
            raise self._no_attribute(value, node) from None
        heap = self.context.heap
        if isinstance(value, (types.ModuleType, type)) or heap.is_outside(value):
            self.context.reads.attribute(value, node.attr, found)
            if not isinstance(found, (types.MethodType, types.BuiltinMethodType)):
                heap.add_outside(found)
        return self.readable(found, node)

    def _no_attribute(self, value: Any, node: ast.Attribute) -> UserError:
        kind = kind_of(value) if isinstance(value, types.ModuleType) else f"a {kind_of(value)}"
        help = FOREIGN.get(node.attr) if getattr(value, "__name__", "") == "tilus" or isinstance(
            value, (Tile, View)) else None
        if help is None:
            import difflib

            near = difflib.get_close_matches(node.attr, [a for a in dir(value) if not a.startswith("_")], 1)
            help = f"did you mean {near[0]!r}?" if near else None
        if help is None and isinstance(value, (bool, int, float)) and hasattr(Tile, node.attr):
            help = "it is a compile-time number: make a scalar of it with tl.scalar(value, dtype)"
        return self.fail("E0114", f"{kind} has no attribute {node.attr!r}", node, help=help)

    # -- operators

    def _bin_op(self, node: ast.BinOp) -> Any:
        chain = [node]  # a + b + c + … leans to the left, however long it is
        while isinstance(chain[-1].left, ast.BinOp):
            chain.append(chain[-1].left)
        value = self.eval(chain[-1].left)
        for part in reversed(chain):
            value = self.apply(part, BINARY[type(part.op)], value, self.eval(part.right))
        return value

    def _unary_op(self, node: ast.UnaryOp) -> Any:
        if isinstance(node.op, ast.Not):
            kept, self._in_logic = self._in_logic, True
            condition = self.test(node.operand)
            self._in_logic = kept
            return self.apply(node, unary, "not", condition) if isinstance(condition, Tile) else not condition
        return self.apply(node, _UNARY[type(node.op)], self.eval(node.operand))

    def test(self, node: ast.expr) -> bool | Tile:
        """The truth of an expression: known, or a run-time bool."""
        if isinstance(node, ast.BoolOp):
            return self._bool_op(node, truth=True)  # type: ignore[no-any-return]
        return self.condition(self.eval(node), node)

    def condition(self, value: Any, node: ast.AST) -> bool | Tile:
        """The truth of a value: known, or a run-time bool."""
        if not isinstance(value, Tile):
            return self.truth(value, node)
        if value.shape:
            logic = self._in_logic or isinstance(node, ast.UnaryOp)
            self.context.span = self.captured.span(node)
            raise condition_error(value.shape, logic)
        if value.dtype.is_bool:
            return value
        return self.apply(node, compare, "ne", value, 0)  # type: ignore[no-any-return]

    _in_logic = False

    def _bool_op(self, node: ast.BoolOp, truth: bool = False) -> Any:
        """``and`` and ``or``: a side is evaluated where Python would; the value is that of the deciding side, or (for
        ``truth``) its truth."""
        is_and = isinstance(node.op, ast.And)
        evaluate: Callable[[ast.expr], Any] = self.test if truth else self.eval
        result, last = evaluate(node.values[0]), node.values[0]
        for operand in node.values[1:]:
            kept, self._in_logic = self._in_logic, True
            condition = self.condition(result, last)
            self._in_logic = kept
            if isinstance(condition, Tile):
                result = self.short_circuit(condition, is_and, result, functools.partial(evaluate, operand), node)
            elif condition != is_and:
                return result
            else:
                result = evaluate(operand)
            last = operand
        return result

    def short_circuit(self, condition: Tile, is_and: bool, left: Any, right: Callable[[], Any],
                      node: ast.AST) -> Any:
        """``left and right``, or ``or``, where ``left`` is true under a run-time condition: both are computed
        where ``right`` is cheap and has no effect, else there is a branch."""
        before, span = self.scope, self.captured.span(node)
        snapshot = self.context.heap.snapshot()
        value, outcome = self.trace(snapshot, right)
        unchanged = all(outcome.scope.get(k, UNSET) is v for k, v in before.items()) and len(outcome.scope) == len(
            before) and all(equal(held, outcome.held[key]) for key, held in snapshot.held.items())
        ops = outcome.block.ops
        self.context.span = span
        if unchanged and len(ops) <= MAX_EAGER and all(is_pure(op) and not op.regions for op in ops):
            self.scope = before
            self.context.block.ops.extend(ops)
            return self._selected(condition, is_and, left, value, node)
        outcome.scope["$side"] = value
        snapshot.restore()
        other = flow.Outcome({**before, "$side": left}, snapshot.held, Block())
        self.join(condition, snapshot, [outcome, other] if is_and else [other, outcome], span)
        return self._side(node)

    def _selected(self, condition: Tile, is_and: bool, left: Any, right: Any, node: ast.AST) -> Any:
        sides = (left, right)
        if all(isinstance(v, bool) or (isinstance(v, Tile) and v.dtype.is_bool and not v.shape) for v in sides):
            return self.apply(node, arithmetic, "and" if is_and else "or", left, right)
        if isinstance(right, bool) and right is (not is_and) and isinstance(left, bool):
            return right
        type_ = common_type(left, right)
        if type_ is None:
            raise self._different(left, right, node)
        yes, no = (typed(v, type_) for v in ((right, left) if is_and else (left, right)))
        return self.apply(node, elementwise.where, condition, yes, no)

    def _different(self, left: Any, right: Any, node: ast.AST) -> UserError:
        return self.fail("E0104", f"this gives {describe(left)} or {describe(right)}, depending on run-time values",
                         node, help="convert both to one type and shape, or compare them first")

    def _side(self, node: ast.AST) -> Any:
        """The value that two paths have left."""
        value = self.scope.pop("$side")
        if isinstance(value, Undefined):
            raise self.fail("E0104", value.reason.replace("'$side'", "the value"), node,
                            help="convert both to one type and shape")
        return value

    def trace(self, snapshot: Any, run: Callable[[], Any]) -> tuple[Any, flow.Outcome]:
        """The value of a path that may not run, and what it leaves behind."""
        self.scope = dict(self.scope)
        with self.into(Block()) as block, self.context.heap.iterators_kept(snapshot):
            value = run()
        return value, flow.Outcome(self.scope, snapshot.now(), block)

    def join(self, condition: Tile, snapshot: Any, sides: Sequence[flow.Outcome], span: Span) -> None:
        """Emit the ``if`` of two traced paths; names and objects are then what both leave."""
        self.context.span = span
        flow.merge_branches(self, condition, snapshot, sides, span)  # type: ignore[arg-type]

    def into(self, block: Block) -> Into:
        return Into(self.context, block)

    def _compare(self, node: ast.Compare) -> Any:
        return self._compare_from(node, 0, self.eval(node.left))

    def _compare_from(self, node: ast.Compare, at: int, left: Any) -> Any:
        right, op = self.eval(node.comparators[at]), node.ops[at]
        if isinstance(op, (ast.Is, ast.IsNot)) and any(map(self.context.heap.is_ambiguous, (left, right))):
            raise self.fail("E0113", "which object this is depends on run-time values", node)
        held = self.apply(node, _COMPARE[type(op)], left, right)
        if at + 1 == len(node.ops):
            return held
        kept, self._in_logic = self._in_logic, True
        condition = self.condition(held, node)
        self._in_logic = kept
        rest = functools.partial(self._compare_from, node, at + 1, right)
        if isinstance(condition, Tile):
            return self.short_circuit(condition, True, held, rest, node)
        return rest() if condition else held

    def _if_exp(self, node: ast.IfExp) -> Any:
        def assign(expression: ast.expr) -> Callable[[], None]:
            def run() -> None:
                value = self.eval(expression)
                self.scope["$side"] = value

            return run

        self.choose(self.test(node.test), node.test, assign(node.body), assign(node.orelse))
        return self._side(node)

    def truth(self, value: Any, node: ast.AST) -> bool:
        return bool(self.apply(node, bool, value))


class Into:
    """Emits into ``block`` for a ``with`` statement."""

    def __init__(self, context: TraceContext, block: Block) -> None:
        self.context, self.block = context, block

    def __enter__(self) -> Block:
        self.outer = self.context.block
        self.context.block = self.block
        self.context.depth += 1
        return self.block

    def __exit__(self, *exception: object) -> None:
        self.context.block = self.outer
        self.context.depth -= 1


def located(error: TilusError, span: Span) -> TilusError:
    """The error with ``span`` where it has no place in the user's code yet."""
    if isinstance(error, InternalError) or all(d.labels for d in error.diagnostics):
        return error
    from dataclasses import replace

    return type(error)([d if d.labels else replace(d, labels=(Label(span),)) for d in error.diagnostics])

def is_of_numbers(function: Any) -> bool:
    """Whether a function is one of Python's or NumPy's mathematics."""
    return str(getattr(function, "__module__", "")).split(".")[0] in ("numpy", "math", "cmath") and hasattr(
        function, "__name__")

def kind_of(value: Any) -> str:
    if isinstance(value, Tile):
        return "tile" if value.shape else "scalar"
    if isinstance(value, View):
        return "view of an array"
    if isinstance(value, types.ModuleType):
        return f"module {value.__name__!r}"
    return f"Python {type(value).__name__}"


def describe_node(node: ast.AST) -> str:
    names = {"Try": "try", "ClassDef": "class", "Import": "import", "ImportFrom": "import", "Global": "global",
             "Nonlocal": "nonlocal", "Delete": "del", "Raise": "raise", "Yield": "yield", "YieldFrom": "yield",
             "Await": "await", "AsyncFor": "async for", "AsyncWith": "async with", "Match": "match",
             "AsyncFunctionDef": "async def", "TryStar": "try"}
    name = type(node).__name__
    if name == "Attribute":
        return "an attribute"
    return f"`{names[name]}`" if name in names else f"this construct ({name})"
