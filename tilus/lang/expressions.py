"""Calls, displays, subscripts and comprehensions of a kernel's expressions (operators: :mod:`tilus.lang.operators`)."""

from __future__ import annotations

import ast
import builtins
import functools
import operator
import types
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from tilus.diagnostics import UserError
from tilus.lang import loops
from tilus.lang.builtins import control
from tilus.lang.calls import InlineFunction, bind, is_user_code, of_run_time_values, traceable, unwrap
from tilus.lang.capture import CapturedFunction, has_value
from tilus.lang.heap import contents, has_tiles, is_instance, is_mutable
from tilus.lang.operators import OperatorTracer, is_of_numbers, kind_of
from tilus.lang.scopes import target_names
from tilus.lang.values import Tile
from tilus.lang.views import View

MAX_INLINE_DEPTH = 64
_CONVERSIONS: dict[str, Callable[[Any], str]] = {"s": str, "r": repr, "a": ascii}


class ExpressionTracer(OperatorTracer):
    """The expressions of one function body. What divides control flow is left to the subclass."""

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
        if function is builtins.super and not args:
            args = self._class_and_instance(node)
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

    def _class_and_instance(self, node: ast.AST) -> tuple[Any, Any]:
        """What ``super()`` takes from the method that it stands in."""
        method = self.captured.node
        first = [*method.args.posonlyargs, *method.args.args][:1]
        kind = self.captured.closure.get("__class__")
        if kind is None or not first or first[0].arg not in self.scope:
            raise self.fail("E0107", "super() stands outside of a method", node, help="name the class and the object")
        return kind, self.scope[first[0].arg]

    def _native(self, function: Any, target: Any, args: Sequence[Any], kwargs: dict[str, Any], node: ast.AST) -> Any:
        """A function that Python itself runs."""
        try:
            result = self.change(node, function, *args, **kwargs)
        except UserError:
            if is_of_numbers(function) and has_tiles((args, kwargs)):
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
        if is_instance(value) and has_tiles(key) and hasattr(value, "__getitem__"):
            return self.readable(self.call(value.__getitem__, (key,), {}, node), node)
        if not isinstance(value, (Tile, View)) and has_tiles(key if not isinstance(key, slice) else
                                                             (key.start, key.stop, key.step)):
            raise self.indexed(value, node)
        found = self.apply(node, operator.getitem, value, key)
        if is_instance(value) and self.context.heap.is_outside(value):
            self.context.reads.value(value, fields=True)
        return found if isinstance(value, (Tile, View)) else self.readable(found, node)

    def indexed(self, value: Any, node: ast.AST) -> UserError:
        """A Python object is indexed by a run-time value."""
        return loops.NotCarried.at(
            "E0113", f"a {kind_of(value)} is indexed by a run-time value", self.captured.span(node),
            help="Python objects are indexed while compiling: use an `if`, tl.static_range for a loop, or an array")

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
        inner.local_names = frozenset(n for g in node.generators for n in target_names(g.target))
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


def is_own(function: Any) -> bool:
    """Whether a function is one of the language, which changes no Python object."""
    return str(getattr(function, "__module__", None) or "").startswith("tilus.")

def _is_kept(result: Any, function: Any, target: Any) -> bool:
    """Whether what a function of the user's gives is something that it keeps, rather than new."""
    if isinstance(function, functools._lru_cache_wrapper):
        return True
    kept: list[Any] = []
    if isinstance(target, types.FunctionType) and is_user_code(target):
        kept += [*target.__globals__.values(), *(target.__defaults__ or ())]
        kept += [c.cell_contents for c in target.__closure__ or () if has_value(c)]
    owner = getattr(function, "__self__", None)
    if is_mutable(owner):
        kept += contents(owner)[1] if is_instance(owner) else []
    return any(result is v for v in kept)


_EXPRESSIONS: dict[type[ast.expr], Callable[[Any, Any], Any]] = {
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
ExpressionTracer.expressions = _EXPRESSIONS
