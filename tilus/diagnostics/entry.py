"""Where the user's code enters tilus: an error of the user's shows the user's frames and none of ours.

``TILUS_TRACEBACK=full`` keeps them all. Python shows the frame that raises, so its code says that it stands at the
kernel's definition. Debuggers that heed ``__tracebackhide__`` (IPython, pytest) leave it out.
"""

from __future__ import annotations

import functools
import os
import types
from collections.abc import Callable
from typing import Any, TypeVar, cast

from tilus.diagnostics.errors import InternalError, TilusError
from tilus.diagnostics.frames import ENTRY_MARK, is_own_frame

F = TypeVar("F", bound=Callable[..., Any])


def shortened(error: Exception) -> Exception:
    """The error with the user's frames only; as it is where it is our own, or everything was asked for."""
    if isinstance(error, InternalError) or os.environ.get("TILUS_TRACEBACK") == "full":
        return error
    kept, step, own = [], error.__traceback__, False
    while step is not None:
        own = is_own_frame(step.tb_frame)
        if not own:
            kept.append(step)
        step = step.tb_next
    if own and not isinstance(error, TilusError):
        return error  # a crash of ours
    chain: types.TracebackType | None = None
    for step in reversed(kept):
        chain = types.TracebackType(chain, step.tb_frame, step.tb_lasti, step.tb_lineno)
    if isinstance(error, TilusError):
        error.__cause__, error.__suppress_context__ = None, True
    return error.with_traceback(chain)


_TEMPLATE = f"""\
def entry(*args, **kwargs):
    __tracebackhide__ = {ENTRY_MARK} = True
    try:
        return function(*args, **kwargs)
    except Exception as error:
        raise shortened(error)
"""


@functools.cache
def _template() -> types.CodeType:
    import ast

    tree = ast.parse(_TEMPLATE)
    for node in ast.walk(tree):
        if hasattr(node, "lineno"):
            node.lineno = node.end_lineno = 1  # type: ignore[attr-defined]
    module = compile(tree, "<tilus>", "exec")
    code = next(c for c in module.co_consts if isinstance(c, types.CodeType))
    if not hasattr(code, "co_positions"):
        return code
    # All of it is on the first line, with no columns (Objects/locations.md of CPython): Python underlines nothing.
    units, table = len(code.co_code) // 2, bytearray()
    while units > 0:
        count = min(units, 8)
        table += bytes((0x80 | 13 << 3 | count - 1, 0))
        units -= count
    return code.replace(co_linetable=bytes(table))


def entry(function: Callable[..., Any], name: str, file: str = "<tilus>", line: int = 1) -> Callable[..., Any]:
    """A function that calls ``function`` and shows errors of the user's as those of ``name`` at a place."""
    code = _template().replace(co_filename=file, co_firstlineno=line, co_name=name)
    space = {"function": function, "shortened": shortened, "__name__": __name__}
    return types.FunctionType(code, space, name)


class _Public:
    """A method that users call. Each object's own is made at the first access."""

    def __init__(self, method: Callable[..., Any]) -> None:
        self.method = method
        self.__doc__ = method.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        if instance is None:
            return self.method
        bound = types.MethodType(self.method, instance)
        made = functools.update_wrapper(entry(bound, instance.__name__, *instance.entry_place), bound)
        instance.__dict__[self.name] = made
        return made


def public(method: F) -> F:
    """Decorates a method of an object with an ``entry_place``, a file and a line."""
    return cast(F, _Public(method))


def public_function(function: F) -> F:
    """Decorates a function that users call."""
    return cast(F, functools.update_wrapper(entry(function, function.__name__), function))
