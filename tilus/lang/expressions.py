"""Expressions of a kernel: evaluated by Python's operators, with names, calls and short circuits as Python has them."""

from __future__ import annotations

import ast
import builtins
import difflib
import functools
import inspect
import operator
import sys
import types
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from tilus.diagnostics import InternalError, Label, Span, TilusError, UserError
from tilus.ir.core import Block
from tilus.ir.rewriter import is_pure
from tilus.lang import flow
from tilus.lang.builtins import control, elementwise
from tilus.lang.calls import InlineFunction, bind, contains, is_user_code, of_run_time_values, traceable, unwrap
from tilus.lang.capture import CapturedFunction
from tilus.lang.context import TraceContext
from tilus.lang.foreign_names import HELP as FOREIGN
from tilus.lang.heap import equal, has_tiles, is_instance, is_mutable
from tilus.lang.trees import UNSET, Undefined, common_type, typed
from tilus.lang.values import Tile, View, arithmetic, compare, condition_error, unary

MAX_INLINE_DEPTH = 64
MAX_EAGER = 32
"""Operations of a right side of ``and`` and ``or`` up to which computing it costs less than a branch around it."""

BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv, ast.Mod: operator.mod, ast.Pow: operator.pow, ast.BitAnd: operator.and_,
    ast.BitOr: operator.or_, ast.BitXor: operator.xor, ast.LShift: operator.lshift, ast.RShift: operator.rshift,
    ast.MatMult: operator.matmul,
}
_CONVERSIONS: dict[str, Callable[[Any], str]] = {"s": str, "r": repr, "a": ascii}
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


class ExpressionTracer:
    """The expressions of one function body. What divides control flow is left to the subclass: ``choose``, ``trace``,
    ``join`` and ``bind``."""

    def __init__(self, captured: CapturedFunction, context: TraceContext, depth: int = 0) -> None:
        self.captured = captured
        self.context = context
        self.depth = depth
        self.scope: dict[str, Any] = {}
        self.parent: ExpressionTracer | None = None
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
        handler = _EXPRESSIONS.get(type(node))
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
        if _is_of_numbers(function) and has_tiles((args, kwargs)):
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
        frame: ExpressionTracer | None = self
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
        frame: ExpressionTracer | None = self
        while frame is not None:
            known += frame.scope
            frame = frame.parent
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
        from tilus.lang.trees import describe

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

    # -- calls

    def _call(self, node: ast.Call) -> Any:
        function = self.eval(node.func)
        args: list[Any] = []
        for arg in node.args:
            if isinstance(arg, ast.Starred):
                args.extend(self.items(self.eval(arg.value), arg.value))
            else:
                args.append(self.eval(arg))
        kwargs: dict[str, Any] = {}
        for keyword in node.keywords:
            value = self.eval(keyword.value)
            given = dict(value) if keyword.arg is None else {keyword.arg: value}
            for name in given:
                if name in kwargs:
                    raise self.fail("E0107", f"{name!r} is given twice", node)
            kwargs.update(given)
        return self.readable(self.call(function, args, kwargs, node), node)

    def call(self, function: Any, args: Sequence[Any], kwargs: dict[str, Any], node: ast.AST) -> Any:
        self.context.span = self.captured.span(node)
        if isinstance(function, InlineFunction):
            return self.apply(node, function, *args, **kwargs)
        target, first, named = unwrap(function)
        run_time = has_tiles((first, args, named, kwargs))
        captured = traceable(target) if run_time else getattr(target, "__tilus_captured__", None)
        if captured is not None:
            return self._inline_captured(captured, (*first, *args), {**named, **kwargs}, node)
        if function is builtins.print or run_time:
            function = of_run_time_values(function)
        if not callable(function):
            raise self.fail("E0107", f"a {kind_of(function)} is called", node)
        if is_own(function):
            return self.apply(node, function, *args, **kwargs)
        return self._native(function, target, args, kwargs, node)

    def _native(self, function: Any, target: Any, args: Sequence[Any], kwargs: dict[str, Any], node: ast.AST) -> Any:
        """A function that Python itself runs."""
        try:
            result = self.change(node, function, *args, **kwargs)
        except UserError:
            if _is_of_numbers(function) and has_tiles((args, kwargs)):
                raise self._run_time_argument(function, node) from None
            raise
        if isinstance(target, types.FunctionType):
            self.context.reads.called(target)
        if is_mutable(result) and _is_kept(result, function, target):
            self.context.heap.add_outside(result)
        return result

    def _inline_captured(self, captured: CapturedFunction, args: Sequence[Any], kwargs: dict[str, Any],
                         node: ast.AST) -> Any:
        self._check_depth(captured.name, node)
        try:
            arguments = bind(captured, args, kwargs)
        except TypeError as error:
            raise self.fail("E0107", f"{captured.name}: {error}", node) from None
        self.context.reads.function(captured.function)
        for value in (*(captured.function.__defaults__ or ()), *(captured.function.__kwdefaults__ or {}).values()):
            self.context.heap.add_outside(value)
        inner = type(self)(captured, self.context, self.depth + 1)
        result = inner.run(arguments)
        self.context.span = self.captured.span(node)
        return result

    def inline(self, function: InlineFunction, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        """Call a function defined in this one."""
        node, name = function.node, function.__name__
        self._check_depth(name, node)
        try:
            bound = function.__signature__.bind(*args, **kwargs)
        except TypeError as error:
            raise UserError.at("E0107", f"{name}: {error}", self.context.span) from None
        bound.apply_defaults()
        inner = type(self)(self.captured, self.context, self.depth + 1)
        inner.parent = self
        self.context.inlined += 1
        span = self.context.span
        result = inner.run_inline(node, dict(bound.arguments))
        self.context.span = span
        self.context.inlined -= 1
        return result

    def _check_depth(self, name: str, node: ast.AST) -> None:
        if max(self.depth, self.context.inlined) >= MAX_INLINE_DEPTH:
            raise self.fail("E0112", f"{name} is inlined more than {MAX_INLINE_DEPTH} levels deep", node,
                            help="recursion must end on compile-time arguments")

    # -- displays, subscripts and comprehensions

    def _subscript(self, node: ast.Subscript) -> Any:
        value, key = self.eval(node.value), self.eval(node.slice)
        return self.item(value, key, node)

    def item(self, value: Any, key: Any, node: ast.AST) -> Any:
        if not isinstance(value, (Tile, View)) and has_tiles(key if not isinstance(key, slice) else
                                                             (key.start, key.stop, key.step)):
            raise self.fail("E0113", f"a {kind_of(value)} is indexed by a run-time value", node,
                            help="Python objects are indexed while compiling: use an `if`, or an array")
        found = self.apply(node, operator.getitem, value, key)
        if is_instance(value) and self.context.heap.is_outside(value):
            self.context.reads.value(value, fields=True)
        return found if isinstance(value, (Tile, View)) else self.readable(found, node)

    def _slice(self, node: ast.Slice) -> Any:
        return slice(*(None if part is None else self.eval(part) for part in (node.lower, node.upper, node.step)))

    def _tuple(self, node: ast.Tuple) -> Any:
        return tuple(self._elements(node.elts))

    def _list(self, node: ast.List) -> Any:
        return self._elements(node.elts)

    def _set(self, node: ast.Set) -> Any:
        return self.apply(node, set, self._elements(node.elts))

    def _elements(self, nodes: Sequence[ast.expr]) -> list[Any]:
        out: list[Any] = []
        for node in nodes:
            if isinstance(node, ast.Starred):
                out.extend(self.items(self.eval(node.value), node.value))
            else:
                out.append(self.eval(node))
        return out

    def _dict(self, node: ast.Dict) -> Any:
        out: dict[Any, Any] = {}
        for key, value in zip(node.keys, node.values, strict=True):
            if key is None:
                self.apply(value, out.update, self.eval(value))
            else:
                name = self.eval(key)
                self.apply(key, operator.setitem, out, name, self.eval(value))
        return out

    def _lambda(self, node: ast.Lambda) -> Any:
        return InlineFunction(self, node, "<lambda>")

    def _joined(self, node: ast.JoinedStr) -> Any:
        parts = []
        for part in node.values:
            if isinstance(part, ast.FormattedValue):
                value = self.eval(part.value)
                if has_tiles(value):
                    raise self.fail("E0113", "a run-time value is formatted into a string", part.value,
                                    help="pass it to tl.print as an argument of its own")
                spec = self.eval(part.format_spec) if part.format_spec else ""
                if part.conversion > 0:
                    value = self.apply(part.value, _CONVERSIONS[chr(part.conversion)], value)
                parts.append(self.apply(part.value, format, value, spec))
            else:
                parts.append(str(self.eval(part)))
        return "".join(parts)

    def _named(self, node: ast.NamedExpr) -> Any:
        if self.is_comprehension:
            raise self.fail("E0101", "`:=` inside a comprehension is not supported in a kernel", node,
                            help="write a `for` statement")
        value = self.eval(node.value)
        self.bind(node.target, value)
        return value

    def _comprehension(self, node: ast.ListComp | ast.GeneratorExp | ast.SetComp | ast.DictComp) -> Any:
        inner = type(self)(self.captured, self.context, self.depth)
        inner.parent, inner.is_comprehension = self, True
        inner.local_names = frozenset(n for g in node.generators for n in flow.target_names(g.target))
        found = inner._generate(node, 0, self.eval(node.generators[0].iter))
        if isinstance(node, ast.GeneratorExp):
            return found
        if isinstance(node, ast.DictComp):
            return self.apply(node, dict, found)
        return self.apply(node, set if isinstance(node, ast.SetComp) else list, found)

    def _generate(self, node: Any, level: int, iterable: Any) -> Iterator[Any]:
        """The elements, each computed when it is asked for."""
        generator = node.generators[level]
        if isinstance(iterable, control.range) and not iterable.is_constant:
            raise self.fail("E0113", "a comprehension runs while compiling, and the bounds of its range are run-time "
                                     "values", generator.iter, "use a `for` statement, or constant bounds")
        for item in self.items(iterable, generator.iter):
            self.bind(generator.target, item)
            if not all(self._kept(test) for test in generator.ifs):
                continue
            if level + 1 < len(node.generators):
                yield from self._generate(node, level + 1, self.eval(node.generators[level + 1].iter))
                continue
            frames = self.context.heap.frames
            frames.append(self)
            value = (self.eval(node.key), self.eval(node.value)) if isinstance(node, ast.DictComp) else \
                self.eval(node.elt)
            frames.pop()
            yield value

    def _kept(self, node: ast.expr) -> bool:
        condition = self.test(node)
        if isinstance(condition, Tile):
            raise self.fail("E0113", "a comprehension runs while compiling, and this condition is a run-time value",
                            node, "use a `for` statement with an `if`, or tl.where for the element")
        return condition

    def items(self, iterable: Any, node: ast.AST) -> Iterator[Any]:
        """The items of a Python object, one at a time, as Python gives them."""
        if isinstance(iterable, (Tile, View)):
            raise self.fail("E0113", f"a {kind_of(iterable)} is iterated over", node,
                            help="Python iterates while compiling: use tile operations, or load in a tl.range loop")
        span = self.captured.span(node)
        with self.context.heap.changes(span, iterable if hasattr(iterable, "__next__") else ()):
            iterator = self.apply(node, iter, iterable)
        end = object()
        while True:
            item = self.apply(node, next, iterator, end)
            if item is end:
                return
            yield item


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


def is_own(function: Any) -> bool:
    """Whether a function is one of the language, which changes no Python object."""
    return str(getattr(function, "__module__", None) or "").startswith("tilus.")


def _is_of_numbers(function: Any) -> bool:
    """Whether a function is one of Python's or NumPy's mathematics."""
    return str(getattr(function, "__module__", "")).split(".")[0] in ("numpy", "math", "cmath") and hasattr(
        function, "__name__")


def _is_kept(result: Any, function: Any, target: Any) -> bool:
    """Whether what a function of the user's gives is something that it keeps, rather than new."""
    if isinstance(function, functools._lru_cache_wrapper):
        return True
    kept: list[Any] = []
    if isinstance(target, types.FunctionType) and is_user_code(target):
        kept += [*target.__globals__.values(), *(target.__defaults__ or ())]
        kept += [c.cell_contents for c in target.__closure__ or () if c != types.CellType()]
    owner = getattr(function, "__self__", None)
    if is_mutable(owner):
        from tilus.lang.heap import contents, is_instance

        kept += contents(owner)[1] if is_instance(owner) else []
    return any(result is v for v in kept)


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


_EXPRESSIONS: dict[type[ast.expr], Callable[[ExpressionTracer, Any], Any]] = {
    ast.Constant: ExpressionTracer._constant, ast.Name: ExpressionTracer._name,
    ast.Attribute: ExpressionTracer._attribute, ast.BinOp: ExpressionTracer._bin_op,
    ast.UnaryOp: ExpressionTracer._unary_op, ast.BoolOp: ExpressionTracer._bool_op,
    ast.Compare: ExpressionTracer._compare, ast.IfExp: ExpressionTracer._if_exp, ast.Call: ExpressionTracer._call,
    ast.Subscript: ExpressionTracer._subscript, ast.Slice: ExpressionTracer._slice, ast.Tuple: ExpressionTracer._tuple,
    ast.List: ExpressionTracer._list, ast.Set: ExpressionTracer._set, ast.Dict: ExpressionTracer._dict,
    ast.Lambda: ExpressionTracer._lambda, ast.JoinedStr: ExpressionTracer._joined,
    ast.NamedExpr: ExpressionTracer._named, ast.ListComp: ExpressionTracer._comprehension,
    ast.GeneratorExp: ExpressionTracer._comprehension, ast.SetComp: ExpressionTracer._comprehension,
    ast.DictComp: ExpressionTracer._comprehension,
}
