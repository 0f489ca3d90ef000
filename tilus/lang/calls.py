"""Calls in a kernel: which functions are traced, and what Python's own mean on run-time values."""

from __future__ import annotations

import ast
import builtins
import functools
import inspect
import operator
import sys
import types
from collections.abc import Callable, Sequence
from typing import Any

from tilus.lang.builtins import control, elementwise
from tilus.lang.builtins.functions import FUNCTIONS
from tilus.lang.capture import CapturedFunction
from tilus.lang.values import Tile, arithmetic, condition_error, fail


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


def _no_text(x: Any, *rest: Any) -> Any:
    raise fail("E0113", "a run-time value is made a string", help="pass it to tl.print as an argument of its own")


def _decided(name: str) -> Callable[[Any], Any]:
    def apply(items: Any) -> Any:
        if not isinstance(items, (list, tuple)):
            raise fail("E0113", f"{name}() of run-time values stops at the first that decides, which is known at run "
                                "time only", help=f"make a list of them, or use {'or' if name == 'any' else 'and'}")
        result: Any = name == "all"
        for item in items:
            if isinstance(item, Tile) and item.shape:
                raise condition_error(item.shape)
            truth = item if isinstance(item, Tile) and item.dtype.is_bool else item != 0 if isinstance(
                item, Tile) else bool(item)
            if isinstance(result, Tile) or isinstance(truth, Tile):
                result = arithmetic("or" if name == "any" else "and", result, truth)
            else:
                result = (result or truth) if name == "any" else (result and truth)
        return result

    return apply


def contains(item: Any, items: Any) -> Any:
    """``item in items`` where run-time values are among them."""
    if not isinstance(items, (tuple, list, set, frozenset)):
        return item in items
    comparable = [x for x in items if not (isinstance(item, Tile) and (x is None or isinstance(x, str)))]
    found = [True if item is x else item == x for x in comparable]
    return _decided("any")(found)


_PYTHON_BUILTINS: dict[Any, Callable[..., Any]] = {
    builtins.abs: elementwise.abs, builtins.round: FUNCTIONS["round"], builtins.pow: operator.pow,
    builtins.min: _fold(elementwise.minimum), builtins.max: _fold(elementwise.maximum),
    builtins.sum: lambda xs, start=0: _fold(operator.add)((*xs, start)),
    builtins.int: _int, builtins.float: _float, builtins.bool: lambda x: x != 0,
    builtins.divmod: lambda a, b: (a // b, a % b), builtins.range: control.range, builtins.print: control.print,
    builtins.str: _no_text, builtins.repr: _no_text, builtins.any: _decided("any"), builtins.all: _decided("all"),
}
"""What Python's own functions mean when an argument is a run-time value."""


def of_run_time_values(function: Any) -> Any:
    """What a function of Python's means on run-time values; the function itself where it is not one of those."""
    try:
        return _PYTHON_BUILTINS.get(function, function)
    except TypeError:
        return function  # without a hash


class InlineFunction:
    """A function defined inside a kernel (``def`` or ``lambda``). ``__tilus_frame__`` is the call of the function that
    it stands in, whose variables it sees as they are when it is called."""

    def __init__(self, tracer: Any, node: ast.FunctionDef | ast.Lambda, name: str) -> None:
        self.__tilus_frame__, self.node, self.__name__ = tracer, node, name
        arguments = node.args
        self.default_values = [tracer.eval(d) for d in arguments.defaults]
        self.default_values += [tracer.eval(d) for d in arguments.kw_defaults if d is not None]
        self.__signature__ = _signature(node, self.default_values)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.__tilus_frame__.inline(self, args, kwargs)


def _signature(node: ast.FunctionDef | ast.Lambda, values: Sequence[Any]) -> inspect.Signature:
    arguments, kind, missing = node.args, inspect.Parameter, inspect.Parameter.empty
    rest = iter(values)
    positional = [*arguments.posonlyargs, *arguments.args]
    without = len(positional) - len(arguments.defaults)
    found = [
        kind(a.arg, kind.POSITIONAL_ONLY if i < len(arguments.posonlyargs) else kind.POSITIONAL_OR_KEYWORD,
             default=missing if i < without else next(rest))
        for i, a in enumerate(positional)
    ]
    if arguments.vararg:
        found.append(kind(arguments.vararg.arg, kind.VAR_POSITIONAL))
    found += [kind(a.arg, kind.KEYWORD_ONLY, default=missing if d is None else next(rest))
              for a, d in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)]
    if arguments.kwarg:
        found.append(kind(arguments.kwarg.arg, kind.VAR_KEYWORD))
    return inspect.Signature(found)


def unwrap(function: Any) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
    """The function behind methods, ``functools.partial``, static methods and objects that can be called, and the
    arguments that those add in front and by name."""
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = {}
    while True:
        if isinstance(function, functools.partial):
            args, kwargs = (*function.args, *args), {**function.keywords, **kwargs}
            function = function.func
        elif isinstance(function, types.MethodType) or hasattr(type(function), "__tilus_bound__"):
            args = (function.__self__, *args)
            function = function.__func__
        elif isinstance(function, staticmethod):
            function = function.__func__
        else:
            method = next((vars(k)["__call__"] for k in type(function).__mro__ if "__call__" in vars(k)), None)
            if not isinstance(method, types.FunctionType) or not is_user_code(method) or isinstance(function, type):
                return function, args, kwargs
            function = types.MethodType(method, function)


def traceable(function: Any) -> CapturedFunction | None:
    """A function whose body is traced when it is called on run-time values."""
    captured: CapturedFunction | None = getattr(function, "__tilus_captured__", None)
    if captured is None and isinstance(function, types.FunctionType) and is_user_code(function):
        captured = CapturedFunction(function)
    return captured


def is_user_code(function: types.FunctionType) -> bool:
    """Whether a function is neither ours nor of Python's library, whose functions Python itself runs."""
    package = (function.__module__ or "").partition(".")[0]
    return package != "tilus" and package not in sys.stdlib_module_names


def bind(captured: CapturedFunction, args: Sequence[Any], kwargs: dict[str, Any]) -> dict[str, Any]:
    """The values of a function's parameters. Raises TypeError."""
    bound = inspect.signature(captured.function, follow_wrapped=False).bind(*args, **kwargs)
    bound.apply_defaults()
    return dict(bound.arguments)
