"""Runs a kernel's AST: compile-time values are Python's own, run-time values become operations.

Expressions are evaluated by Python's operators on :class:`~tilus.lang.values.Tile`; this module's concern is control
flow. ``break``, ``continue`` and early ``return`` set flags that guard the statements after them, so that the IR stays
structured; :mod:`tilus.lang.flow` merges variables where paths meet.
"""

from __future__ import annotations

import ast
import builtins
import difflib
import inspect
import operator
import sys
import types
from collections.abc import Callable, Sequence
from typing import Any

from tilus.diagnostics import InternalError, Span, TilusError, UserError
from tilus.ir.core import Block
from tilus.ir.ops import Yield
from tilus.lang import flow
from tilus.lang.builtins import control, elementwise
from tilus.lang.capture import CapturedFunction
from tilus.lang.context import TraceContext
from tilus.lang.flow import UNSET, Undefined
from tilus.lang.values import Tile, View, arithmetic, as_tile, compare, unary

BREAK, CONTINUE, RETURN, VALUE = "$break", "$continue", "$return", "$value"
FLAGS = (BREAK, CONTINUE, RETURN)
MAX_INLINE_DEPTH = 64

_BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
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
    ast.In: lambda a, b: a in b, ast.NotIn: lambda a, b: a not in b,
}


def _int(x: Any) -> Any:
    from tilus.ir.dtypes import i64

    return x.to(i64)


def _float(x: Any) -> Any:
    from tilus.ir.dtypes import f32

    return x if x.dtype.is_float else x.to(f32)


def _fold(function: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    def apply(*args: Any) -> Any:
        result, *rest = args[0] if len(args) == 1 else args
        for item in rest:
            result = function(result, item)
        return result

    return apply


_PYTHON_BUILTINS: dict[Any, Callable[..., Any]] = {
    builtins.abs: elementwise.abs, builtins.round: elementwise.round, builtins.pow: operator.pow,
    builtins.min: _fold(elementwise.minimum), builtins.max: _fold(elementwise.maximum),
    builtins.sum: lambda xs, start=0: _fold(operator.add)((*xs, start)),
    builtins.int: _int, builtins.float: _float, builtins.bool: lambda x: x != 0,
    builtins.divmod: lambda a, b: (a // b, a % b), builtins.range: control.range, builtins.print: control.print,
}
"""What Python's own functions mean when an argument is a run-time value."""


class InlineFunction:
    """A function defined inside a kernel (``def`` or ``lambda``), with the frame it closes over."""

    def __init__(self, tracer: Tracer, node: ast.FunctionDef | ast.Lambda, name: str) -> None:
        self.tracer, self.node, self.name = tracer, node, name
        self.scope = tracer.scope
        self.defaults = [tracer.eval(d) for d in node.args.defaults]
        self.kw_defaults = [None if d is None else tracer.eval(d) for d in node.args.kw_defaults]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.tracer.inline(self, args, kwargs)


class Tracer:
    """Traces one function body (and, through :meth:`inline`, those it calls) into a context."""

    def __init__(self, captured: CapturedFunction, context: TraceContext, depth: int = 0) -> None:
        self.captured = captured
        self.context = context
        self.depth = depth
        self.scope: dict[str, Any] = dict.fromkeys(FLAGS, False)
        self.scope[VALUE] = UNSET
        self.outer: dict[str, Any] = {}

    # -- entry points

    def run(self, arguments: dict[str, Any]) -> Any:
        """Trace the body with these values of the parameters; gives the returned value."""
        self.scope.update(arguments)
        node = self.captured.node
        if isinstance(node, ast.Lambda):
            return self.eval(node.body)
        self.exec_block(node.body)
        return self._returned(node)

    def _returned(self, node: ast.AST) -> Any:
        returned, value = self.scope[RETURN], self.scope[VALUE]
        if isinstance(value, Undefined):
            reason = value.reason.replace(repr(VALUE), "the value returned")
            raise UserError.at("E0104", reason, value.span, help="convert all to one type and shape")
        if returned is True:
            return value
        if returned is False or value is UNSET or value is None:
            return None
        raise UserError.at("E0103", "some paths of this function return a value, others end without one",
                           self.captured.span(node), help="add a `return` at the end, or use tl.where")

    def fail(self, code: str, message: str, node: ast.AST, help: str | None = None) -> UserError:
        return UserError.at(code, message, self.captured.span(node), help=help)

    # -- statements

    def exec_block(self, statements: Sequence[ast.stmt]) -> None:
        for position, statement in enumerate(statements):
            self.exec(statement)
            stopped = self._stopped()
            if stopped is True:
                return
            if stopped is not False:
                self._guarded(stopped, statements[position + 1 :])
                return

    def _guarded(self, stopped: Tile, rest: Sequence[ast.stmt]) -> None:
        """Trace ``rest`` under "not stopped": inside, the flags are known to be clear."""
        if not rest:
            return
        saved = {flag: self.scope[flag] for flag in FLAGS}
        clear = dict.fromkeys(FLAGS, False)
        ends: list[str] = []

        def body() -> None:
            self.scope.update(clear)
            self.exec_block(rest)
            ends.extend(flag for flag in FLAGS if self.scope[flag] is True)

        self.branch(unary("not", stopped), body, lambda: self.scope.update(clear))
        for flag, before in saved.items():
            if before is not False:
                after = self.scope[flag]
                self.scope[flag] = before if after is False else arithmetic("or", before, after)
            if flag in ends and all(saved[other] is False for other in FLAGS if other != flag):
                self.scope[flag] = True  # the paths that stopped before had set the same flag

    def _stopped(self, flags: Sequence[str] = FLAGS) -> Any:
        result: Any = False
        for flag in flags:
            value = self.scope[flag]
            if value is True:
                return True
            if value is not False:
                result = value if result is False else arithmetic("or", result, value)
        return result

    def exec(self, statement: ast.stmt) -> None:
        handler = _STATEMENTS.get(type(statement))
        self.context.span = self.captured.span(statement)
        if handler is None:
            raise self.fail("E0101", f"{_describe(statement)} is not supported in a kernel", statement)
        handler(self, statement)

    def _assign(self, statement: ast.Assign) -> None:
        value = self.eval(statement.value)
        for target in statement.targets:
            self.bind(target, value)

    def _ann_assign(self, statement: ast.AnnAssign) -> None:
        if statement.value is not None:
            self.bind(statement.target, self.eval(statement.value))

    def _aug_assign(self, statement: ast.AugAssign) -> None:
        target = statement.target
        load = ast.copy_location(_as_load(target), target)
        old, new = self.eval(load), self.eval(statement.value)
        self.bind(target, self._apply(statement, _BINARY[type(statement.op)], old, new))

    def bind(self, target: ast.expr, value: Any) -> None:
        """Assign ``value`` to a name, a subscript, or a tuple of those."""
        if isinstance(target, ast.Name):
            if isinstance(value, (Tile, View)) and not value.value.name:
                value.value.name = target.id
            self.scope[target.id] = value
        elif isinstance(target, (ast.Tuple, ast.List)):
            self._unpack(target, value)
        elif isinstance(target, ast.Subscript):
            self._bind_subscript(target, value)
        else:
            raise self.fail("E0101", f"assignment to {_describe(target)} is not supported in a kernel", target)

    def _unpack(self, target: ast.Tuple | ast.List, value: Any) -> None:
        if isinstance(value, (Tile, View)):
            raise self.fail("E0113", f"a {_kind(value)} is unpacked", target)
        values = list(value)
        star = next((i for i, t in enumerate(target.elts) if isinstance(t, ast.Starred)), None)
        count = len(target.elts)
        if (len(values) != count) if star is None else (len(values) < count - 1):
            raise self.fail("E0107", f"{len(values)} values are unpacked into {count} targets", target)
        if star is not None:
            stop = len(values) - (count - star - 1)
            values = [*values[:star], values[star:stop], *values[stop:]]
        for part, item in zip(target.elts, values, strict=True):
            self.bind(part.value if isinstance(part, ast.Starred) else part, item)

    def _bind_subscript(self, target: ast.Subscript, value: Any) -> None:
        container = self.eval(target.value)
        key = self.eval(target.slice)
        self.context.span = self.captured.span(target)
        if isinstance(container, View):
            self._apply(target, operator.setitem, container, key, value)
        elif isinstance(container, (list, dict)) and isinstance(target.value, ast.Name):
            # A new container, so that branches and loops see an assignment to the name.
            copy = container.copy()
            self._apply(target, operator.setitem, copy, key, value)
            self.scope[target.value.id] = copy
        else:
            raise self.fail("E0303", f"elements of a {_kind(container)} cannot be assigned", target,
                            help="tiles are values: use tl.where or tl.insert" if isinstance(container, Tile) else None)

    def _expr(self, statement: ast.Expr) -> None:
        if not isinstance(statement.value, ast.Constant):
            self.eval(statement.value)

    def _pass(self, statement: ast.stmt) -> None:
        pass

    def _assert(self, statement: ast.Assert) -> None:
        condition = self.eval(statement.test)
        message = self.eval(statement.msg) if statement.msg else ast.unparse(statement.test)
        check = control.device_assert if isinstance(condition, Tile) else control.static_assert
        self._apply(statement, check, condition, str(message))

    def _return(self, statement: ast.Return) -> None:
        self.scope[VALUE] = None if statement.value is None else self.eval(statement.value)
        self.scope[RETURN] = True

    def _break(self, statement: ast.stmt) -> None:
        self.scope[BREAK] = True

    def _continue(self, statement: ast.stmt) -> None:
        self.scope[CONTINUE] = True

    def _function(self, statement: ast.FunctionDef) -> None:
        self.scope[statement.name] = InlineFunction(self, statement, statement.name)

    def _with(self, statement: ast.With) -> None:
        managers = []
        for item in statement.items:
            call = item.context_expr
            kind = self.eval(call.func) if isinstance(call, ast.Call) else None
            if isinstance(call, ast.Call) and not hasattr(kind, "__tilus_region__"):
                raise self.fail("E0101", f"`with {ast.unparse(call.func)}(...)` is not supported in a kernel", call,
                                help="`with tl.group(...)` is")
            manager = self.eval(item.context_expr)
            if not hasattr(type(manager), "__tilus_region__"):
                raise self.fail("E0101", f"`with` on a {_kind(manager)} is not supported in a kernel",
                                item.context_expr, help="`with tl.group(...)` is")
            managers.append(manager)
            value = self._apply(item.context_expr, manager.__enter__)
            if item.optional_vars is not None:
                self.bind(item.optional_vars, value)
        before = dict(self.scope)
        self.context.depth += 1
        self.exec_block(statement.body)
        self.context.depth -= 1
        if any(self.scope[f] is not before[f] for f in FLAGS):
            raise self.fail("E0101", "`break`, `continue` and `return` cannot leave a thread group", statement)
        for name, value in list(self.scope.items()):
            if value is not before.get(name, UNSET) and flow.has_tiles(value):
                self.scope[name] = Undefined(f"{name!r} belongs to the thread group that assigned it",
                                             self.captured.span(statement))
        for manager in reversed(managers):
            manager.__exit__(None, None, None)

    # -- branches

    def _if(self, statement: ast.If) -> None:
        condition = self.eval(statement.test)
        self.choose(condition, statement.test, lambda: self.exec_block(statement.body),
                    lambda: self.exec_block(statement.orelse))

    def choose(self, condition: Any, node: ast.AST, then: Callable[[], None], orelse: Callable[[], None]) -> None:
        """Runs one branch where the condition is known, traces both where it is not."""
        if not isinstance(condition, Tile):
            (then if self._truth(condition, node) else orelse)()
            return
        if condition.shape:
            raise self.fail("E0113", f"the condition is a tile of shape {condition.shape}", node,
                            help="`if` decides for the whole block: reduce it with tl.any or tl.all, or use tl.where")
        if not condition.dtype.is_bool:
            condition = compare("ne", condition, 0)
        self.branch(condition, then, orelse)

    def branch(self, condition: Tile, then: Callable[[], None], orelse: Callable[[], None]) -> None:
        """A run-time ``if``; variables that differ after the branches are merged."""
        span, before = self.context.span, self.scope
        outcomes: list[dict[str, Any]] = []
        blocks: list[Block] = []
        for body in (then, orelse):
            self.scope = dict(before)
            with self.into(Block()) as block:
                body()
            outcomes.append(self.scope)
            blocks.append(block)
        self.context.span = span
        self.scope = flow.merge_branches(self, condition, before, outcomes, blocks, span)

    def into(self, block: Block) -> _Into:
        return _Into(self.context, block)

    # -- loops

    def _for(self, statement: ast.For) -> None:
        if statement.orelse:
            raise self.fail("E0101", "`else` of a loop is not supported in a kernel", statement.orelse[0])
        iterable = self.eval(statement.iter)
        span = self.captured.span(statement.iter)
        saved = {flag: self.scope[flag] for flag in (BREAK, CONTINUE)}
        self.scope.update(dict.fromkeys(saved, False))
        if isinstance(iterable, builtins.range):
            iterable = control.range(iterable.start, iterable.stop, iterable.step)
        if isinstance(iterable, control.range):
            flow.trace_for(self, statement, iterable, span)
        else:
            if isinstance(iterable, (Tile, View)):
                raise self.fail("E0113", f"a {_kind(iterable)} is iterated over", statement.iter)
            self._unrolled(statement, list(iterable), 0)
        self.scope.update(saved)

    def _unrolled(self, statement: ast.For, items: list[Any], position: int) -> None:
        for i in range(position, len(items)):
            self.bind(statement.target, items[i])
            self.exec_block(statement.body)
            self.scope[CONTINUE] = False
            stopped = self._stopped((BREAK, RETURN))
            if stopped is True:
                return
            if stopped is not False:
                self.branch(unary("not", stopped), lambda i=i: self._unrolled(statement, items, i + 1),  # type: ignore[misc]
                            lambda: None)
                return

    def _while(self, statement: ast.While) -> None:
        if statement.orelse:
            raise self.fail("E0101", "`else` of a loop is not supported in a kernel", statement.orelse[0])
        saved = {flag: self.scope[flag] for flag in (BREAK, CONTINUE)}
        self.scope.update(dict.fromkeys(saved, False))
        flow.trace_while(self, statement)
        self.scope.update(saved)

    # -- expressions

    def eval(self, node: ast.expr) -> Any:
        handler = _EXPRESSIONS.get(type(node))
        if handler is None:
            raise self.fail("E0101", f"{_describe(node)} is not supported in a kernel", node)
        return handler(self, node)

    def _apply(self, node: ast.AST, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call Python code on the user's behalf: errors point at ``node``."""
        self.context.span = self.captured.span(node)
        try:
            return function(*args, **kwargs)
        except TilusError as error:
            raise _located(error, self.captured.span(node)) from error.__cause__
        except RecursionError:
            raise
        except Exception as error:
            raise self._python_error(node, function, args, kwargs, error) from error

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
        if module.split(".")[0] in ("numpy", "math", "cmath") and flow.has_tiles((args, kwargs)):
            own = hasattr(sys.modules["tilus"], name)
            return self.fail("E0113", f"{module.split('.')[0]}.{name} is given a run-time value", node,
                             f"use tl.{name}" if own else "it works on Python and NumPy values only")
        return self.fail("E0107", f"{name}: {type(error).__name__}: {error}", node)

    def _wrong_arguments(self, node: ast.AST, name: str, function: Any, kwargs: dict[str, Any],
                         reason: str) -> UserError:
        known = inspect.signature(function).parameters
        unknown = next((k for k in kwargs if k not in known), None)
        if unknown is None:
            return self.fail("E0107", f"{name}: {reason}", node)
        near = difflib.get_close_matches(unknown, known, 1)
        return self.fail("E0107", f"{name} has no parameter {unknown!r}", node,
                         f"did you mean {near[0]!r}?" if near else f"it has {', '.join(known)}")

    def _constant(self, node: ast.Constant) -> Any:
        return node.value

    def _name(self, node: ast.Name) -> Any:
        name = node.id
        for scope in (self.scope, self.outer):
            if name in scope:
                value = scope[name]
                if isinstance(value, Undefined):
                    raise UserError.at("E0110", value.reason, self.captured.span(node), label="used here",
                                       help="assign it before the branch or loop")
                return value
        try:
            return self.captured.lookup(name)
        except KeyError:
            known = [*self.scope, *self.outer, *self.captured.closure, *self.captured.function.__globals__]
            near = difflib.get_close_matches(name, [k for k in known if not k.startswith("$")], 1)
            raise self.fail("E0102", f"name {name!r} is not defined", node,
                            help=f"did you mean {near[0]!r}?" if near else None) from None

    def _attribute(self, node: ast.Attribute) -> Any:
        value = self.eval(node.value)
        self.context.span = self.captured.span(node)
        try:
            return getattr(value, node.attr)
        except AttributeError:
            near = difflib.get_close_matches(node.attr, [a for a in dir(value) if not a.startswith("_")], 1)
            kind = _kind(value) if isinstance(value, types.ModuleType) else f"a {_kind(value)}"
            raise self.fail("E0114", f"{kind} has no attribute {node.attr!r}", node,
                            help=f"did you mean {near[0]!r}?" if near else None) from None

    def _bin_op(self, node: ast.BinOp) -> Any:
        return self._apply(node, _BINARY[type(node.op)], self.eval(node.left), self.eval(node.right))

    def _unary_op(self, node: ast.UnaryOp) -> Any:
        value = self.eval(node.operand)
        if isinstance(node.op, ast.Not):
            if isinstance(value, Tile):
                condition = value if value.dtype.is_bool else compare("ne", value, 0)
                return self._apply(node, unary, "not", condition)
            return not self._truth(value, node)
        function = _UNARY[type(node.op)]
        return self._apply(node, function, value)

    def _bool_op(self, node: ast.BoolOp) -> Any:
        is_and = isinstance(node.op, ast.And)
        result: Any = None
        for operand in node.values:
            value = self.eval(operand)
            if isinstance(result, Tile) or isinstance(value, Tile):
                if result is None:
                    result = value
                elif not isinstance(result, Tile):
                    result = value  # a known left side that did not decide
                else:
                    result = self._apply(node, self._logical, "and" if is_and else "or", result, value)
                continue
            result = value
            if bool(self._truth(value, operand)) != is_and:
                return value
        return result

    def _logical(self, kind: str, x: Any, y: Any) -> Tile:
        parts = [as_tile(v) for v in (x, y)]
        a, b = (p if p.dtype.is_bool else compare("ne", p, 0) for p in parts)
        return arithmetic(kind, a, b)

    def _compare(self, node: ast.Compare) -> Any:
        left = self.eval(node.left)
        result: Any = None
        for op, right_node in zip(node.ops, node.comparators, strict=True):
            right = self.eval(right_node)
            held = self._apply(node, _COMPARE[type(op)], left, right)
            result = held if result is None else self._apply(node, self._both, result, held)
            if not isinstance(result, Tile) and not self._truth(result, node):
                return result
            left = right
        return result

    def _both(self, x: Any, y: Any) -> Any:
        if isinstance(x, Tile) or isinstance(y, Tile):
            return self._logical("and", x, y)
        return x and y

    def _if_exp(self, node: ast.IfExp) -> Any:
        condition = self.eval(node.test)
        key = "$ifexp"

        def assign(expression: ast.expr) -> Callable[[], None]:
            def run() -> None:
                self.scope[key] = self.eval(expression)

            return run

        self.choose(condition, node.test, assign(node.body), assign(node.orelse))
        value = self.scope.pop(key)
        if isinstance(value, Undefined):
            raise self.fail("E0104", value.reason, node)
        return value

    def _truth(self, value: Any, node: ast.AST) -> bool:
        if isinstance(value, View):
            raise self.fail("E0113", "a view of an array is used as a condition", node,
                            help="use `is None` to test an optional parameter")
        return bool(self._apply(node, bool, value))

    def _call(self, node: ast.Call) -> Any:
        function = self.eval(node.func)
        args: list[Any] = []
        for arg in node.args:
            if isinstance(arg, ast.Starred):
                args.extend(self.eval(arg.value))
            else:
                args.append(self.eval(arg))
        kwargs: dict[str, Any] = {}
        for keyword in node.keywords:
            if keyword.arg is None:
                kwargs.update(self.eval(keyword.value))
            else:
                kwargs[keyword.arg] = self.eval(keyword.value)
        return self.call(function, args, kwargs, node)

    def call(self, function: Any, args: Sequence[Any], kwargs: dict[str, Any], node: ast.AST) -> Any:
        self.context.span = self.captured.span(node)
        captured = getattr(function, "__tilus_captured__", None)
        if captured is None and isinstance(function, types.FunctionType) and _is_user_code(function) and (
            flow.has_tiles((args, kwargs))
        ):
            captured = CapturedFunction(function)
        if captured is not None:
            return self._inline_captured(captured, args, kwargs, node)
        if function is builtins.print or (flow.has_tiles((args, kwargs)) and _hashable_in(function)):
            function = _PYTHON_BUILTINS[function]
        if not callable(function):
            raise self.fail("E0107", f"a {_kind(function)} is called", node)
        return self._apply(node, function, *args, **kwargs)

    def _inline_captured(self, captured: CapturedFunction, args: Sequence[Any], kwargs: dict[str, Any],
                         node: ast.AST) -> Any:
        self._check_depth(captured.name, node)
        try:
            bound = inspect.signature(captured.function).bind(*args, **kwargs)
        except TypeError as error:
            raise self.fail("E0107", f"{captured.name}: {error}", node) from None
        bound.apply_defaults()
        inner = type(self)(captured, self.context, self.depth + 1)
        result = inner.run(dict(bound.arguments))
        self.context.span = self.captured.span(node)
        return result

    def inline(self, function: InlineFunction, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        """Call a function defined inside the kernel."""
        node = function.node
        self._check_depth(function.name, node)
        names = [a.arg for a in (*node.args.posonlyargs, *node.args.args)]
        if len(args) > len(names) or node.args.vararg or node.args.kwarg:
            raise self.fail("E0107", f"{function.name} takes {len(names)} arguments, not {len(args)}", node)
        values = dict(zip(names[len(names) - len(function.defaults) :], function.defaults, strict=True))
        for a, default in zip(node.args.kwonlyargs, function.kw_defaults, strict=True):
            names.append(a.arg)
            if default is not None:
                values[a.arg] = default
        values.update(zip(names, args, strict=False))
        values.update(kwargs)
        wrong = [n for n in names if n not in values] + [n for n in values if n not in names]
        if wrong:
            raise self.fail("E0107", f"{function.name}: missing or unknown argument {wrong[0]!r}", node)
        inner = type(self)(self.captured, self.context, self.depth + 1)
        self.context.inlined += 1
        inner.outer = {**self.outer, **function.scope}
        inner.scope.update(values)
        span = self.context.span
        if isinstance(node, ast.Lambda):
            result = inner.eval(node.body)
        else:
            inner.exec_block(node.body)
            result = inner._returned(node)
        self.context.span = span
        self.context.inlined -= 1
        return result

    def _check_depth(self, name: str, node: ast.AST) -> None:
        if max(self.depth, self.context.inlined) >= MAX_INLINE_DEPTH:
            raise self.fail("E0112", f"{name} is inlined more than {MAX_INLINE_DEPTH} levels deep", node,
                            help="recursion must end on compile-time arguments")

    def _subscript(self, node: ast.Subscript) -> Any:
        value, key = self.eval(node.value), self.eval(node.slice)
        if isinstance(key, Tile) and not isinstance(value, (Tile, View)):
            raise self.fail("E0113", f"a {_kind(value)} is indexed by a run-time value", node)
        return self._apply(node, operator.getitem, value, key)

    def _slice(self, node: ast.Slice) -> Any:
        return slice(*(None if part is None else self.eval(part) for part in (node.lower, node.upper, node.step)))

    def _tuple(self, node: ast.Tuple) -> Any:
        return tuple(self._elements(node.elts))

    def _list(self, node: ast.List) -> Any:
        return self._elements(node.elts)

    def _elements(self, nodes: Sequence[ast.expr]) -> list[Any]:
        out: list[Any] = []
        for node in nodes:
            if isinstance(node, ast.Starred):
                out.extend(self.eval(node.value))
            else:
                out.append(self.eval(node))
        return out

    def _dict(self, node: ast.Dict) -> Any:
        out: dict[Any, Any] = {}
        for key, value in zip(node.keys, node.values, strict=True):
            if key is None:
                out.update(self.eval(value))
            else:
                out[self.eval(key)] = self.eval(value)
        return out

    def _lambda(self, node: ast.Lambda) -> Any:
        return InlineFunction(self, node, "<lambda>")

    def _joined(self, node: ast.JoinedStr) -> Any:
        parts = []
        for part in node.values:
            if isinstance(part, ast.FormattedValue):
                value = self.eval(part.value)
                if isinstance(value, Tile):
                    raise self.fail("E0113", "a run-time value is formatted into a string", part.value,
                                    help="pass it to tl.print as an argument of its own")
                spec = self.eval(part.format_spec) if part.format_spec else ""
                if part.conversion > 0:
                    value = _CONVERSIONS[chr(part.conversion)](value)
                parts.append(format(value, spec))
            else:
                parts.append(str(self.eval(part)))
        return "".join(parts)

    def _named(self, node: ast.NamedExpr) -> Any:
        value = self.eval(node.value)
        self.bind(node.target, value)
        return value

    def _comprehension(self, node: ast.ListComp | ast.GeneratorExp) -> Any:
        out: list[Any] = []
        saved = dict(self.scope)

        def level(index: int) -> None:
            if index == len(node.generators):
                out.append(self.eval(node.elt))
                return
            generator = node.generators[index]
            iterable = self.eval(generator.iter)
            if isinstance(iterable, control.range) and not iterable.is_constant:
                raise self.fail("E0113", "a comprehension runs while compiling, and the bounds of its range are "
                                         "run-time values", generator.iter, "use a `for` statement, or constant bounds")
            for item in iterable:
                self.bind(generator.target, item)
                if all(self._truth(self.eval(test), test) for test in generator.ifs):
                    level(index + 1)

        level(0)
        self.scope = saved
        return out


class _Into:
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


def emit_yield(context: TraceContext, block: Block, values: Sequence[Tile], span: Span) -> None:
    block.ops.append(Yield(tuple(v.value for v in values), span=span))


def _located(error: TilusError, span: Span) -> TilusError:
    """The error with ``span`` where it has no place in the user's code yet."""
    if isinstance(error, InternalError) or all(d.labels for d in error.diagnostics):
        return error
    from dataclasses import replace

    from tilus.diagnostics import Label

    return type(error)([d if d.labels else replace(d, labels=(Label(span),)) for d in error.diagnostics])


def _is_user_code(function: types.FunctionType) -> bool:
    return not (function.__module__ or "").startswith("tilus.")


def _hashable_in(function: Any) -> bool:
    try:
        return function in _PYTHON_BUILTINS
    except TypeError:
        return False


def _as_load(target: ast.expr) -> ast.expr:
    if isinstance(target, ast.Name):
        return ast.Name(target.id, ast.Load())
    if isinstance(target, ast.Subscript):
        return ast.Subscript(target.value, target.slice, ast.Load())
    return target


def _kind(value: Any) -> str:
    if isinstance(value, Tile):
        return "tile" if value.shape else "scalar"
    if isinstance(value, View):
        return "view of an array"
    if isinstance(value, types.ModuleType):
        return f"module {value.__name__!r}"
    return f"Python {type(value).__name__}"


def _describe(node: ast.AST) -> str:
    names = {"Try": "try", "ClassDef": "class", "Import": "import", "ImportFrom": "import", "Global": "global",
             "Nonlocal": "nonlocal", "Delete": "del", "Raise": "raise", "Yield": "yield", "YieldFrom": "yield",
             "Await": "await", "AsyncFor": "async for", "AsyncWith": "async with", "Match": "match",
             "SetComp": "a set comprehension", "DictComp": "a dict comprehension", "Set": "a set"}
    name = type(node).__name__
    if name == "Attribute":
        return "an attribute"
    return f"`{names[name]}`" if name in names else f"this construct ({name})"


_STATEMENTS: dict[type[ast.stmt], Callable[[Tracer, Any], None]] = {
    ast.Assign: Tracer._assign, ast.AnnAssign: Tracer._ann_assign, ast.AugAssign: Tracer._aug_assign,
    ast.Expr: Tracer._expr, ast.Pass: Tracer._pass, ast.Assert: Tracer._assert, ast.Return: Tracer._return,
    ast.Break: Tracer._break, ast.Continue: Tracer._continue, ast.FunctionDef: Tracer._function,
    ast.With: Tracer._with, ast.If: Tracer._if, ast.For: Tracer._for, ast.While: Tracer._while,
}
_EXPRESSIONS: dict[type[ast.expr], Callable[[Tracer, Any], Any]] = {
    ast.Constant: Tracer._constant, ast.Name: Tracer._name, ast.Attribute: Tracer._attribute,
    ast.BinOp: Tracer._bin_op, ast.UnaryOp: Tracer._unary_op, ast.BoolOp: Tracer._bool_op,
    ast.Compare: Tracer._compare, ast.IfExp: Tracer._if_exp, ast.Call: Tracer._call,
    ast.Subscript: Tracer._subscript, ast.Slice: Tracer._slice, ast.Tuple: Tracer._tuple, ast.List: Tracer._list,
    ast.Dict: Tracer._dict, ast.Lambda: Tracer._lambda, ast.JoinedStr: Tracer._joined, ast.NamedExpr: Tracer._named,
    ast.ListComp: Tracer._comprehension, ast.GeneratorExp: Tracer._comprehension,
}


