"""What a result of tuning is for: the text of the kernel, the compiler, the device, and the key of the call."""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import sys
import textwrap
import types
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from tilus.backends import backend_of
from tilus.diagnostics import TilusError
from tilus.diagnostics.sources import source_lines
from tilus.lang.capture import CapturedFunction, has_value
from tilus.records import record
from tilus.runtime.cache import cache_directory, key_of
from tilus.runtime.fingerprint import compiler_fingerprint
from tilus.runtime.traced import TracedFunction
from tilus.targets import Target
from tilus.tuning.keys import TuningKey

VERSION = 2
"""Of the format of results. Each has a file of its own, so that releases of tilus may be used side by side."""
DEEPEST = 4
"""Containers and objects that a kernel mentions are read down to here."""


@record(frozen=True)
class Identity:
    """What a result is for; results for others are never used.

    Attributes:
        kernel: its qualified name, for people: the text says which one it is.
        text: a digest of its source and of what that mentions.
        compiler: a digest of tilus, its tools and the features of the processor.
        device: what it was measured on.
        key: element types, rounded extents and compile-time values of the calls, as JSON.
    """

    kernel: str
    text: str
    compiler: str
    device: str
    key: str

    @functools.cached_property
    def digest(self) -> str:
        return key_of(["tuned", self.text, self.compiler, self.device, self.key])


def identity_of(function: Callable[..., Any], key: TuningKey, target: Target, modelled: bool = False) -> Identity:
    """What results for a key of a kernel are for, on this machine; ``modelled``: for a target's model."""
    sizes = {name: encoded(value) for name, value in key.sizes}
    constants = {name: encoded(value) for name, value in key.constants}
    text = json.dumps({"target": key.target, "dtypes": dict(key.dtypes), "sizes": sizes, "constants": constants},
                      sort_keys=True)
    return Identity(function.__qualname__, kernel_text(function), compiler(target),
                    target.name if modelled else device_of(target), text)


def encoded(value: Any) -> Any:
    """A compile-time value as JSON that no other value of the kernel's has."""
    if isinstance(value, (bool, int, float, str, type(None))):
        return value
    return f"{type(value).__name__}: {'; '.join(_described(value, 0))}"


def decoded(variant: Mapping[str, Any], values: Mapping[str, tuple[Any, ...]]) -> dict[str, Any] | None:
    """The variant that :func:`encoded` was given, whose values are among those that parameters may have; None where one
    is not."""
    found = {}
    for name, stored in variant.items():
        text = json.dumps(stored)
        same = [v for v in values.get(name, ()) if json.dumps(encoded(v)) == text]
        if not same:
            return None
        found[name] = same[0]
    return found


def compiler(target: Target) -> str:
    """A digest of what compiles for a target."""
    return key_of([compiler_fingerprint(), backend_of(target).routes[0].fingerprint()])


def device_of(target: Target) -> str:
    """What code for a target runs on here: the processor and how many threads kernels have; the GPU where the arrays'
    library has found one; else the target's name."""
    if not target.is_cuda:
        from tilus.runtime.threads import get_num_threads

        return f"{_processor()}, {get_num_threads()} threads"
    cupy = sys.modules.get("cupy")
    if cupy is None:
        return target.name
    runtime = cupy.cuda.runtime
    name = runtime.getDeviceProperties(runtime.getDevice())["name"]
    return name.decode() if isinstance(name, bytes) else str(name)


@functools.cache
def _processor() -> str:
    """The processor's name."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as stream:
            lines = (line.partition(":") for line in stream)
            return next(value.strip() for name, _, value in lines if name.strip() == "model name")
    except (OSError, StopIteration):
        return os.uname().machine


# -- where results are


def store_path() -> str:
    """Where results are stored: beside the cache."""
    return os.path.join(cache_directory(), f"tuning-{VERSION}.db")


# -- the text of a kernel


@functools.lru_cache(maxsize=256)
def kernel_text(function: Callable[..., Any]) -> str:
    """A digest of a function's source and of what it mentions: functions, and the values of names. It is found without
    tracing, so names count that no trace would read."""
    return key_of(_Reader(function).parts())


class _Reader:
    """Goes through the functions that a kernel reaches."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.package = (function.__module__ or "").split(".")[0]
        self.todo = list(_functions(function))
        self.known = set(map(id, self.todo))

    def parts(self) -> Iterator[str]:
        while self.todo:
            function = self.todo.pop(0)
            yield _source(function)
            for value in (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()):
                yield from self.value(value)
            for name, value in _mentioned(function):
                yield name
                yield from self.value(value)

    def value(self, value: Any) -> Iterator[str]:
        yield from _described(value, 0)
        for function in _functions(value):
            if id(function) in self.known or (function.__module__ or "").split(".")[0] == "tilus":
                continue
            self.known.add(id(function))
            if (function.__module__ or "").split(".")[0] == self.package:
                self.todo.append(function)
            else:
                yield _code(function.__code__)


def _source(function: types.FunctionType) -> str:
    """The text of a function without its decorators; its code where there is no text."""
    try:
        captured = CapturedFunction(function)
        node = captured.node
    except TilusError:
        return _code(function.__code__)
    lines = source_lines(captured.file)[node.lineno - 1:node.end_lineno]
    return textwrap.dedent("".join(lines)).rstrip()


def _code(code: types.CodeType) -> str:
    inner = [_code(c) for c in code.co_consts if isinstance(c, types.CodeType)]
    plain = [c for c in code.co_consts if not isinstance(c, types.CodeType)]
    return repr((code.co_code, code.co_names, plain, inner))


def _mentioned(function: types.FunctionType) -> Iterator[tuple[str, Any]]:
    """Names of the module and of enclosing functions that a function's code has, with their values; attributes too
    where they are of modules."""
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        if has_value(cell):
            yield name, cell.cell_contents
    names = sorted(_names(function.__code__))
    for name in names:
        value = function.__globals__.get(name)
        if name in function.__globals__ and not isinstance(value, types.ModuleType):
            yield name, value
        elif isinstance(value, types.ModuleType) and value.__name__.split(".")[0] != "tilus":
            yield from ((f"{name}.{inner}", vars(value)[inner]) for inner in names if inner in vars(value))


def _names(code: types.CodeType) -> set[str]:
    inner = (_names(c) for c in code.co_consts if isinstance(c, types.CodeType))
    return set(code.co_names).union(*inner)


def _functions(value: Any) -> Iterator[types.FunctionType]:
    """The functions that a value is or has."""
    if isinstance(value, types.FunctionType):
        yield value
    elif isinstance(value, types.MethodType):
        yield from _functions(value.__func__)
    elif isinstance(value, TracedFunction):
        yield from _functions(value.function)
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from _functions(item)
    elif isinstance(value, type):
        for item in vars(value).values():
            yield from _functions(getattr(item, "__func__", item) if not isinstance(item, type) else None)


def _described(value: Any, depth: int) -> Iterator[str]:
    """What tells a value from others, in another process too. Objects are described by their fields."""
    kind = type(value)
    yield kind.__qualname__
    if isinstance(value, (bool, int, float, complex, str, bytes, type(None))):
        yield repr(value)
    elif isinstance(value, (types.FunctionType, type, TracedFunction)):
        yield value.__qualname__
    elif depth == DEEPEST:
        return
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from _described(item, depth + 1)
    elif isinstance(value, (set, frozenset)):
        yield from sorted("; ".join(_described(item, depth + 1)) for item in value)
    elif isinstance(value, Mapping):
        for name, item in value.items():
            yield from (*_described(name, depth + 1), *_described(item, depth + 1))
    elif kind.__module__.split(".")[0] == "tilus":
        yield str(value)  # an element type, a layout
    else:
        for name in _fields(value):
            yield name
            yield from _described(getattr(value, name, None), depth + 1)


def _fields(value: Any) -> list[str]:
    if dataclasses.is_dataclass(value):
        return [f.name for f in dataclasses.fields(value)]
    return sorted(getattr(value, "__dict__", ()))


__all__ = [
    "VERSION", "Identity", "compiler", "decoded", "device_of", "encoded", "identity_of", "kernel_text",
    "store_path",
]
