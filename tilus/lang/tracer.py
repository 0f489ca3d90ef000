"""Runs a kernel's AST: compile-time values are Python's own, run-time values become operations.

This module's concern is control flow (expressions: :mod:`tilus.lang.expressions`). ``break``, ``continue`` and early
``return`` set flags that guard the statements after them, so that the IR stays structured; :mod:`tilus.lang.flow`
merges what differs where paths meet.
"""

from __future__ import annotations

import ast
import builtins
import functools
import operator
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from tilus.diagnostics import UserError
from tilus.lang import flow, loops
from tilus.lang.builtins import control
from tilus.lang.calls import InlineFunction
from tilus.lang.capture import CapturedFunction
from tilus.lang.expressions import ExpressionTracer
from tilus.lang.heap import has_tiles, is_instance, is_mutable
from tilus.lang.operators import BINARY, describe_node, kind_of
from tilus.lang.scopes import bound_names
from tilus.lang.trace_context import TraceContext
from tilus.lang.trees import UNSET, Undefined
from tilus.lang.values import Tile, arithmetic, unary
from tilus.lang.views import View

BREAK, CONTINUE, RETURN, VALUE = "$break", "$continue", "$return", "$value"
FLAGS = (BREAK, CONTINUE, RETURN)
MAX_UNROLLED = 1 << 16
"""Iterations of a loop on compile-time values beyond which it is taken for one that does not end."""


class Tracer(ExpressionTracer):
    """Traces one function body (and, through ``call``, those it calls) into a context."""

    def __init__(self, captured: CapturedFunction, context: TraceContext, depth: int = 0) -> None:
        super().__init__(captured, context, depth)
        self.scope = {**dict.fromkeys(FLAGS, False), VALUE: UNSET}

    # -- entry points

    def run(self, arguments: dict[str, Any]) -> Any:
        """Trace the body with these values of the parameters; gives the returned value."""
        return self.run_inline(self.captured.node, arguments)

    def run_inline(self, node: ast.FunctionDef | ast.Lambda, arguments: dict[str, Any]) -> Any:
        """As :meth:`run`, for a function defined in this one."""
        self.scope.update(arguments)
        self.local_names = local_names(node)
        frames = self.context.heap.frames
        frames.append(self)
        if isinstance(node, ast.Lambda):
            result = self.eval(node.body)
        else:
            self.exec_block(node.body)
            result = self._returned(node)
        frames.pop()
        return result

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
            raise self.fail("E0101", f"{describe_node(statement)} is not supported in a kernel", statement,
                            _STATEMENT_HELP.get(type(statement).__name__))
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
        in_place = _IN_PLACE[type(statement.op)]
        if isinstance(target, ast.Subscript):
            container, key = self.eval(target.value), self.eval(target.slice)
            old = self.item(container, key, target)
            new = self.eval(statement.value)
            self._set_item(target, container, key, self.change(statement, in_place, old, new))
        elif isinstance(target, ast.Name):
            old = self.eval(ast.copy_location(ast.Name(target.id, ast.Load()), target))
            new = self.eval(statement.value)
            self.bind(target, self.change(statement, in_place, old, new))
        else:
            owner = self.eval(target.value)
            old = self.readable(self.apply(target, getattr, owner, target.attr), target)
            new = self.eval(statement.value)
            self._set_attribute(target, owner, self.change(statement, in_place, old, new))

    def bind(self, target: ast.expr, value: Any) -> None:
        """Assign ``value`` to a name, a subscript, or a tuple of those."""
        if isinstance(target, ast.Name):
            if isinstance(value, (Tile, View)) and not value.value.name:
                value.value.name = target.id
            self.scope[target.id] = value
        elif isinstance(target, (ast.Tuple, ast.List)):
            self._unpack(target, value)
        elif isinstance(target, ast.Subscript):
            self._set_item(target, self.eval(target.value), self.eval(target.slice), value)
        elif isinstance(target, ast.Attribute):
            self._set_attribute(target, self.eval(target.value), value)
        else:
            raise self.fail("E0101", f"assignment to {describe_node(target)} is not supported in a kernel", target)

    def _unpack(self, target: ast.Tuple | ast.List, value: Any) -> None:
        if isinstance(value, (Tile, View)):
            raise self.fail("E0113", f"a {kind_of(value)} is unpacked", target,
                            help="take its parts by constant indices, or tl.split")
        values = list(self.items(value, target))
        star = next((i for i, t in enumerate(target.elts) if isinstance(t, ast.Starred)), None)
        count = len(target.elts)
        if (len(values) != count) if star is None else (len(values) < count - 1):
            raise self.fail("E0107", f"{len(values)} values are unpacked into {count} targets", target)
        if star is not None:
            stop = len(values) - (count - star - 1)
            values = [*values[:star], values[star:stop], *values[stop:]]
        for part, item in zip(target.elts, values, strict=True):
            self.bind(part.value if isinstance(part, ast.Starred) else part, item)

    def _set_item(self, target: ast.Subscript, container: Any, key: Any, value: Any) -> None:
        self.context.span = self.captured.span(target)
        if isinstance(container, View):
            self.apply(target, operator.setitem, container, key, value)
            return
        if not is_mutable(container) or (is_instance(container) and not hasattr(container, "__setitem__")):
            raise self.fail("E0303", f"elements of a {kind_of(container)} cannot be assigned", target,
                            help="tiles are values: use tl.where or tl.insert" if isinstance(container, Tile) else None)
        if has_tiles(key):
            raise self.indexed(container, target)
        self.change(target, operator.setitem, container, key, value)

    def _set_attribute(self, target: ast.Attribute, owner: Any, value: Any) -> None:
        if not is_instance(owner):
            raise self.fail("E0101", f"assignment to an attribute of a {kind_of(owner)} is not supported in a kernel",
                            target)
        self.change(target, setattr, owner, target.attr, value)

    def _expr(self, statement: ast.Expr) -> None:
        if not isinstance(statement.value, ast.Constant):
            self.eval(statement.value)

    def _pass(self, statement: ast.stmt) -> None:
        pass

    def _assert(self, statement: ast.Assert) -> None:
        logic = isinstance(statement.test, (ast.BoolOp, ast.UnaryOp, ast.IfExp))
        condition = self.test(statement.test) if logic else self.eval(statement.test)
        message = self.eval(statement.msg) if statement.msg else ast.unparse(statement.test)
        check = control.device_assert if isinstance(condition, Tile) else control.static_assert
        self.apply(statement, check, condition, str(message))

    def _return(self, statement: ast.Return) -> None:
        self.scope[VALUE] = None if statement.value is None else self.eval(statement.value)
        self.scope[RETURN] = True

    def _break(self, statement: ast.stmt) -> None:
        self.scope[BREAK] = True

    def _continue(self, statement: ast.stmt) -> None:
        self.scope[CONTINUE] = True

    def _function(self, statement: ast.FunctionDef) -> None:
        value: Any = InlineFunction(self, statement, statement.name)
        for decorator in reversed(statement.decorator_list):
            value = self.call(self.eval(decorator), (value,), {}, decorator)
        self.scope[statement.name] = value

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
                raise self.fail("E0101", f"`with` on a {kind_of(manager)} is not supported in a kernel",
                                item.context_expr, help="`with tl.group(...)` is")
            managers.append(manager)
            value = self.apply(item.context_expr, manager.__enter__)
            if item.optional_vars is not None:
                self.bind(item.optional_vars, value)
        before, snapshot = dict(self.scope), self.context.heap.snapshot()
        self.context.depth += 1
        self.exec_block(statement.body)
        self.context.depth -= 1
        if any(self.scope[f] is not before[f] for f in FLAGS):
            raise self.fail("E0101", "`break`, `continue` and `return` cannot leave a thread group", statement)
        for name, value in list(self.scope.items()):
            if value is not before.get(name, UNSET) and has_tiles(value):
                self.scope[name] = Undefined(f"{name!r} belongs to the thread group that assigned it",
                                             self.captured.span(statement))
        flow.leave_group(self, snapshot, self.captured.span(statement))
        for manager in reversed(managers):
            manager.__exit__(None, None, None)

    # -- branches

    def _if(self, statement: ast.If) -> None:
        self.choose(self.test(statement.test), statement.test, lambda: self.exec_block(statement.body),
                    lambda: self.exec_block(statement.orelse))

    def choose(self, condition: Any, node: ast.AST, then: Callable[[], None], orelse: Callable[[], None]) -> None:
        """Runs one branch where the condition is known, traces both where it is not."""
        if isinstance(condition, Tile):
            self.branch(condition, then, orelse)
        elif condition:
            then()
        else:
            orelse()

    def branch(self, condition: Tile, then: Callable[[], None], orelse: Callable[[], None]) -> None:
        """A run-time ``if``; what differs after the branches is merged."""
        span, before, snapshot = self.context.span, self.scope, self.context.heap.snapshot()
        _, first = self.trace(snapshot, then)
        self.scope = before
        snapshot.restore()
        _, second = self.trace(snapshot, orelse)
        self.join(condition, snapshot, (first, second), span)

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
            loop = iterable
            self._run_time(statement, lambda: loops.trace_for(self, statement, loop, span),
                           iter(range(loop.start, loop.stop, loop.step)) if loop.is_static else None)
        else:
            self._unrolled(statement, self.items(iterable, statement.iter))
        self.scope.update(saved)

    def _run_time(self, statement: ast.For | ast.While, trace: Callable[[], None],
                  known: Iterator[Any] | None) -> None:
        """A loop in the program; written out where that cannot be, since it changes the length of Python objects, and
        its iterations are known while compiling."""
        context, scope, snapshot = self.context, self.scope, self.context.heap.snapshot()
        frames, depth, inlined = len(context.heap.frames), context.depth, context.inlined
        try:
            trace()
        except loops.NotCarried:
            if known is None:
                raise
            self.scope = scope
            snapshot.restore()
            del context.heap.frames[frames:]
            context.depth, context.inlined = depth, inlined
            if isinstance(statement, ast.For):
                self._unrolled(statement, known)
            else:
                self._unrolled_while(statement)

    def _unrolled(self, statement: ast.For, items: Iterator[Any], count: int = 0) -> None:
        for item in items:
            count += 1
            if count > MAX_UNROLLED:
                raise self.fail("E0107", f"this loop is written out while compiling, and has more than {MAX_UNROLLED} "
                                         "iterations", statement.iter, help="use tl.range, and nothing in it that "
                                                                            "Python has to know while compiling")
            self.bind(statement.target, item)
            if self._stops(statement, functools.partial(self._unrolled, statement, items, count)):
                return

    def _stops(self, statement: ast.For | ast.While, rest: Callable[[], None]) -> bool:
        """Run the body of a loop that is written out; whether no more iterations follow here, since ``rest`` has been
        put under the condition that they do."""
        self.exec_block(statement.body)
        self.scope[CONTINUE] = False
        stopped = self._stopped((BREAK, RETURN))
        if stopped is True or stopped is False:
            return stopped is True
        self.branch(unary("not", stopped), rest, lambda: None)
        return True

    def _while(self, statement: ast.While) -> None:
        if statement.orelse:
            raise self.fail("E0101", "`else` of a loop is not supported in a kernel", statement.orelse[0])
        saved = {flag: self.scope[flag] for flag in (BREAK, CONTINUE)}
        self.scope.update(dict.fromkeys(saved, False))
        known = None if any(isinstance(n, ast.NamedExpr) for n in ast.walk(statement.test)) else iter(())
        self._run_time(statement, lambda: loops.trace_while(self, statement), known)
        self.scope.update(saved)

    def _unrolled_while(self, statement: ast.While, count: int = 0) -> None:
        while True:
            condition = self.test(statement.test)
            if isinstance(condition, Tile):
                loops.trace_while(self, statement)
                return
            if not condition:
                return
            count += 1
            if count > MAX_UNROLLED:
                raise self.fail("E0107", f"this loop is written out while compiling, and has more than {MAX_UNROLLED} "
                                         "iterations", statement.test, help="compare run-time values")
            if self._stops(statement, functools.partial(self._unrolled_while, statement, count)):
                return


@functools.lru_cache(maxsize=256)
def local_names(node: ast.FunctionDef | ast.Lambda) -> frozenset[str]:
    """The names that a function assigns, and so are its own."""
    arguments = node.args
    found = {a.arg for a in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg,
                             arguments.kwarg) if a is not None}
    return frozenset(found | set(bound_names([node.body] if isinstance(node, ast.Lambda) else node.body)))


_IN_PLACE = {kind: getattr(operator, "i" + function.__name__.strip("_")) for kind, function in BINARY.items()}
_STATEMENT_HELP = {
    "Import": "import at the top of the file", "ImportFrom": "import at the top of the file",
    "Match": "write `if` and `elif`", "Global": "store into an array", "Nonlocal": "return the value",
    "Raise": "`assert condition, message` fails the call", "ClassDef": "define it outside of the kernel",
    "Try": "a kernel raises no exceptions: test before",
}

_STATEMENTS: dict[type[ast.stmt], Callable[[Tracer, Any], None]] = {
    ast.Assign: Tracer._assign, ast.AnnAssign: Tracer._ann_assign, ast.AugAssign: Tracer._aug_assign,
    ast.Expr: Tracer._expr, ast.Pass: Tracer._pass, ast.Assert: Tracer._assert, ast.Return: Tracer._return,
    ast.Break: Tracer._break, ast.Continue: Tracer._continue, ast.FunctionDef: Tracer._function,
    ast.With: Tracer._with, ast.If: Tracer._if, ast.For: Tracer._for, ast.While: Tracer._while,
}
