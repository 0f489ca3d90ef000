"""What a traced body read from outside of it: names of modules, variables of enclosing functions, attributes.

Those are compile-time values of the specialisation. :class:`Reads` says whether they are still what they were.
"""

from __future__ import annotations

import operator
import types
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from tilus.lang.capture import has_value
from tilus.lang.heap import Contents, contents, is_instance, is_mutable, keys_equal
from tilus.lang.trees import same

ABSENT = object()


class Check(NamedTuple):
    """Something that has to be as it was: the ``value`` of a ``name`` in a namespace (ABSENT where there was none), of
    a ``cell``, of an ``attribute``, or what a function without arguments gives (``call``)."""

    kind: str
    owner: Any
    name: str | None
    value: Any


class Reads:
    """The reads of one or more traces.

    Attributes:
        unchanged: says, fast, whether all that was read is as it was. It is made anew after further reads.
    """

    def __init__(self) -> None:
        self._names: dict[tuple[int, str], tuple[dict[str, Any], str, Any]] = {}
        self._cells: dict[int, tuple[types.CellType, Any]] = {}
        self._attributes: dict[tuple[int, str], tuple[Any, str, Any]] = {}
        self._objects: dict[int, tuple[Any, Contents]] = {}
        self._functions: set[int] = set()
        self.unchanged: Callable[[], bool] = self._check_anew

    def _check_anew(self) -> bool:
        self.unchanged = self._check()
        return self.unchanged()

    def name(self, namespace: dict[str, Any], name: str) -> None:
        """A name of a module, which may be absent there."""
        key = id(namespace), name
        if key not in self._names:
            value = namespace.get(name, ABSENT)
            self._names[key] = namespace, name, value
            self.unchanged = self._check_anew
            self.value(value)

    def cell(self, cell: types.CellType) -> None:
        """A variable of an enclosing function, which has a value."""
        if id(cell) not in self._cells:
            self._cells[id(cell)] = cell, cell.cell_contents
            self.unchanged = self._check_anew
            self.value(cell.cell_contents)

    def attribute(self, owner: Any, name: str, value: Any) -> None:
        """An attribute of a module, a class or an instance from outside."""
        if isinstance(owner, types.ModuleType):
            if not owner.__name__.startswith("tilus"):
                self.name(vars(owner), name)
        elif isinstance(value, (types.MethodType, types.BuiltinMethodType)):
            self.value(owner, fields=True)
        elif isinstance(owner, type) or is_instance(owner):
            if (id(owner), name) not in self._attributes:
                self._attributes[id(owner), name] = owner, name, value
                self.unchanged = self._check_anew
                self.value(value)

    def value(self, value: Any, fields: bool = False) -> None:
        """Objects from outside are read with what they hold; instances only where ``fields``."""
        todo = [value]
        while todo:
            item = todo.pop()
            if is_instance(item) and not (fields and item is value):
                continue
            if isinstance(item, (tuple, frozenset)):
                todo += item
            elif isinstance(item, types.FunctionType):
                self.function(item)
            elif is_mutable(item) and id(item) not in self._objects:
                held = contents(item)
                self._objects[id(item)] = item, held
                self.unchanged = self._check_anew
                todo += held[1]

    def function(self, function: types.FunctionType) -> None:
        """A function of the user's: its code and defaults. What it reads itself is recorded where it is traced, or by
        :meth:`called`."""
        for name in ("__code__", "__defaults__"):
            if (id(function), name) not in self._attributes:
                self._attributes[id(function), name] = function, name, getattr(function, name)
                self.unchanged = self._check_anew

    def called(self, function: types.FunctionType) -> None:
        """A function that Python itself runs while tracing: all names that its code mentions, and those of the
        functions among them."""
        if id(function) in self._functions or (function.__module__ or "").startswith("tilus"):
            return
        self._functions.add(id(function))
        self.function(function)
        namespace = function.__globals__
        for cell in function.__closure__ or ():
            if has_value(cell):
                self.cell(cell)
        names = _mentioned(function.__code__)
        for name in names:
            if name not in namespace:
                continue
            self.name(namespace, name)
            value = namespace[name]
            if is_instance(value):
                self.value(value, fields=True)
            if isinstance(value, types.FunctionType):
                self.called(value)
            elif isinstance(value, types.ModuleType) and not value.__name__.startswith("tilus"):
                for attribute in names:
                    if attribute in vars(value):
                        self.name(vars(value), attribute)

    def _check(self) -> Callable[[], bool]:
        spaces: dict[int, tuple[dict[str, Any], list[tuple[str, Any]]]] = {}
        absent: dict[int, tuple[dict[str, Any], set[str]]] = {}
        for namespace, name, value in list(self._names.values()):  # another thread may add some
            if value is ABSENT:
                absent.setdefault(id(namespace), (namespace, set()))[1].add(name)
            else:
                spaces.setdefault(id(namespace), (namespace, []))[1].append((name, value))
        getters = [(_getter([n for n, _ in found]), space, tuple(v for _, v in found))
                   for space, found in spaces.values()]
        without = [(space.keys(), names) for space, names in absent.values()]
        cells, attributes = tuple(self._cells.values()), tuple(self._attributes.values())
        objects = tuple(self._objects.values())
        is_, everything, every = operator.is_, map, all

        def unchanged() -> bool:
            try:
                for get, space, values in getters:
                    if not every(everything(is_, get(space), values)):
                        return False
                for keys, names in without:
                    if not keys.isdisjoint(names):
                        return False
                for cell, value in cells:
                    if cell.cell_contents is not value:
                        return False
                for owner, name, value in attributes:
                    now = getattr(owner, name)
                    if now is not value and not same(now, value):
                        return False
            except (KeyError, ValueError, AttributeError):
                return False
            return not objects or _hold(objects)

        return unchanged

    def checks(self) -> list[Check]:
        """What ``unchanged`` looks at, one by one. Where one of them is not so, it has the last word."""
        objects = tuple(self._objects.values())
        return [
            *(Check("name", *read) for read in list(self._names.values())),
            *(Check("cell", cell, None, value) for cell, value in list(self._cells.values())),
            *(Check("attribute", *read) for read in list(self._attributes.values())),
            *([Check("call", lambda: _hold(objects), None, True)] if objects else []),
        ]


def _hold(objects: Iterable[tuple[Any, Contents]]) -> bool:
    """Whether objects hold what they held."""
    for item, held in objects:
        found = contents(item)
        if not keys_equal(found, held) or not all(map(operator.is_, found[1], held[1])):
            return False
    return True


def _getter(names: list[str]) -> Callable[[dict[str, Any]], tuple[Any, ...]]:
    if len(names) > 1:
        return operator.itemgetter(*names)
    (name,) = names
    return lambda space: (space[name],)


def _mentioned(code: types.CodeType) -> set[str]:
    """The global names and attributes that a piece of code mentions."""
    found = set(code.co_names)
    for inner in code.co_consts:
        if isinstance(inner, types.CodeType):
            found |= _mentioned(inner)
    return found
