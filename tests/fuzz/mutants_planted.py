"""Plants a bug in the compiler of this process: a function does something else, wherever it is known.

A function keeps its identity, so that tables, methods and other modules that hold it have the bug too: only its code
becomes a call of the changed one.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

Anything = Callable[..., Any]
CPU, GPU, PASSES = "cpu", "simulate:sm_80:ptx", "passes:sm_80"
CUDA = "simulate:sm_80:cuda"


@dataclass(frozen=True)
class Mutant:
    """``change`` takes the function at ``place`` (``module:name``, ``module:Class.name``, or ``pass:name`` of a pass as
    `tilus opt` knows it) and gives what stands in for it; it shows on an engine."""

    name: str
    place: str
    change: Callable[[Anything], Anything]
    engine: str = GPU


def function_at(place: str) -> types.FunctionType:
    """The function that a place names.

    Raises:
        LookupError: there is none.
    """
    module, _, path = place.partition(":")
    try:
        if module == "pass":
            from tilus.cli.opt import all_passes

            found: Any = all_passes()[path]
        else:
            found = functools.reduce(inspect.getattr_static, path.split("."), importlib.import_module(module))
    except (ImportError, AttributeError, KeyError) as error:
        raise LookupError(f"there is no {place}") from error
    found = inspect.unwrap(found)
    if not isinstance(found, types.FunctionType) or found.__closure__:
        raise LookupError(f"{place} is no function that can be changed")
    return found


@contextmanager
def planted(place: str, change: Callable[[Anything], Anything]) -> Iterator[None]:
    """The function at a place is changed while this lasts."""
    function = function_at(place)
    original = types.FunctionType(function.__code__, function.__globals__, function.__name__, function.__defaults__)
    original.__kwdefaults__ = function.__kwdefaults__
    slot = f"_planted_{function.__qualname__.replace('.', '_')}"
    written: dict[str, Any] = {}
    exec(f"def changed(*args, **keywords): return {slot}(*args, **keywords)", written)
    function.__globals__[slot] = change(original)
    function.__code__, function.__defaults__, function.__kwdefaults__ = written["changed"].__code__, None, None
    try:
        yield
    finally:
        function.__code__ = original.__code__
        function.__defaults__, function.__kwdefaults__ = original.__defaults__, original.__kwdefaults__
        del function.__globals__[slot]
