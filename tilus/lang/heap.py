"""The mutable Python objects of a program that is being traced.

Python objects are changed in place while the body is traced, so that every name of an object sees its changes. Where
control flow divides, the objects that the program can reach are written down, put back for the other path, and merged
where the paths meet (:mod:`tilus.lang.flow`). A change that traced code cannot express is an error at its line: of an
object from outside the kernel, and of one that is one object or another depending on run-time values.
"""

from __future__ import annotations

import array
import collections
import contextlib
import functools
import sys
import types
from collections.abc import Iterable, Iterator
from typing import Any

from tilus.diagnostics import Span, UserError
from tilus.ir.dtypes import DType
from tilus.lang.capture import has_value
from tilus.lang.trees import UNSET, Undefined, same
from tilus.lang.values import Tile
from tilus.lang.views import View

_LEAVES = (Tile, View, DType, Undefined, int, float, str, bytes, type(None), type, types.ModuleType, type(UNSET))
_PLAIN = frozenset(_LEAVES)
_OPEN = {"argparse", "collections", "os", "types"}
_OPAQUE = (sys.stdlib_module_names - _OPEN) | {"tilus", "numpy", "torch", "ml_dtypes"}
"""Packages whose instances are taken as they are."""
Contents = tuple[Any, list[Any]]
"""What an object holds: its keys (or all of it, where it holds no run-time values), and the values under them."""


class Heap:
    """What is known of the mutable objects of one traced function.

    Attributes:
        frames: the functions that are running, outermost first; each has a ``scope`` and a ``parent``.
        changed: where an object was changed last.
        lost: the objects of whose contents nothing is known, and why.
    """

    def __init__(self) -> None:
        self.frames: list[Any] = []
        self.changed: dict[int, tuple[Any, Span]] = {}
        self._outside: dict[int, Any] = {}
        self._ambiguous: dict[int, tuple[Any, Span]] = {}
        self.lost: dict[int, tuple[Any, Undefined]] = {}
        self._iterators: list[dict[int, Any]] = []

    # -- what belongs to whom

    def add_outside(self, value: Any) -> None:
        """An object that was there before the kernel: it, and what it holds, may be read, and not changed."""
        todo = [value]
        while todo:
            item = todo.pop()
            if not isinstance(item, _LEAVES) and id(item) not in self._outside:
                self._outside[id(item)] = item
                todo += () if is_instance(item) else _children(item)

    def is_outside(self, value: Any) -> bool:
        return id(value) in self._outside

    def add_ambiguous(self, objects: Iterable[Any], span: Span) -> None:
        """Objects of which run-time values decide whether they are one or another."""
        self._ambiguous.update((id(o), (o, span)) for o in objects if is_mutable(o))

    def is_ambiguous(self, value: Any) -> bool:
        return id(value) in self._ambiguous

    def add_lost(self, value: Any, why: Undefined) -> None:
        """An object whose contents differ between paths so that nothing can be said of them."""
        self.lost[id(value)] = (value, why)

    def check_readable(self, value: Any, span: Span) -> None:
        """Raises UserError (E0110) where the contents of an object are lost."""
        if id(value) in self.lost:
            raise _lost_error(self.lost[id(value)][1], span)

    # -- changes

    @contextlib.contextmanager
    def changes(self, span: Span, *given: Any) -> Iterator[None]:
        """Around Python code that is given these values: notes which objects it changes, and raises UserError
        (E0303) where it may not."""
        reached, iterators = _reach(given, (), leave=self._outside)
        self._check_iterators(iterators, span)
        if not reached:
            yield
            return
        for item in reached.values():
            self.check_readable(item, span)
        before = {key: contents(item) for key, item in reached.items()}
        yield
        for key, item in reached.items():
            if not equal(contents(item), before[key]):
                self._note_change(item, before[key], span)

    def _note_change(self, item: Any, before: Contents, span: Span) -> None:
        if id(item) in self._outside and is_instance(item) and _only_adds(before, contents(item)):
            return  # it remembers something, such as a `functools.cached_property`
        if id(item) in self._outside:
            write(item, before)
            raise UserError.at("E0303", f"a Python {type(item).__name__} from outside the kernel is changed", span,
                               help="that would happen once, when the kernel is compiled: make a copy in the kernel, "
                                    "or store into an array")
        if id(item) in self._ambiguous:
            write(item, before)
            raise UserError.at("E0303", f"this Python {type(item).__name__} is changed, but which one it is depends on "
                                        "run-time values", span,
                               help="names of one object stopped being so in an `if` or a loop: change a copy "
                                    "(`x = list(x)`), or use one name")
        self.changed[id(item)] = (item, span)

    def change_of(self, item: Any, otherwise: Span) -> Span:
        """Where an object was changed last."""
        found = self.changed.get(id(item))
        return found[1] if found is not None else otherwise

    def _check_iterators(self, iterators: dict[int, Any], span: Span) -> None:
        for guarded in self._iterators:
            found = next((i for key, i in iterators.items() if key in guarded), None)
            if found is not None:
                raise UserError.at("E0113", f"a Python {type(found).__name__} made before an `if` or a loop that is "
                                            "decided at run time is advanced inside it", span,
                                   help="make a list of it before, e.g. `items = list(items)`")

    @contextlib.contextmanager
    def iterators_kept(self, snapshot: Snapshot) -> Iterator[None]:
        """While a path is traced that may not run: what was there before it may not be advanced."""
        self._iterators.append(snapshot.iterators)
        try:
            yield
        finally:
            self._iterators.pop()

    # -- snapshots

    def snapshot(self) -> Snapshot:
        return Snapshot(*self._reached())

    def reachable(self) -> dict[int, Any]:
        """The mutable objects that the program reaches now."""
        return self._reached()[0]

    def _reached(self) -> tuple[dict[int, Any], dict[int, Any]]:
        roots: list[Any] = []
        for frame in self.frames:
            while frame is not None:
                roots += frame.scope.values()
                frame = frame.parent
        return _reach(roots, self._outside)

    def name_of(self, item: Any) -> str:
        """A name of the object for messages."""
        for frame in reversed(self.frames):
            for name, value in frame.scope.items():
                if value is item and name.isidentifier():
                    return repr(name)
        return f"a Python {type(item).__name__}"


class Snapshot:
    """The objects that the program reached at some point, and what they held."""

    def __init__(self, objects: dict[int, Any], iterators: dict[int, Any]) -> None:
        self.objects, self.iterators = objects, iterators
        self.held = self.now()

    def now(self) -> dict[int, Contents]:
        """What the objects hold now."""
        return {key: contents(item) for key, item in self.objects.items()}

    def restore(self) -> None:
        """Put back what the objects held."""
        for key, item in self.objects.items():
            if not equal(contents(item), self.held[key]):
                write(item, self.held[key])


def _lost_error(why: Undefined, span: Span) -> UserError:
    return UserError.at("E0110", why.reason, why.span, help="keep its length and keys the same on every path, e.g. "
                        "with a placeholder, or do all that depends on it inside the branch",
                        notes=(f"its contents are used at line {span.line}",) if span.known else ())


def is_mutable(value: Any) -> bool:
    """Whether the value is an object that Python code may change and the front end keeps account of."""
    if isinstance(value, (*_LEAVES, tuple, frozenset)):
        return False
    return isinstance(value, (list, dict, set, collections.deque, bytearray, array.array)) or \
        _is_ndarray(value) or _is_cell_holder(value) or is_instance(value)


def _is_ndarray(value: Any) -> bool:
    """Whether it is an array of NumPy's, which compiling does not load."""
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(value, numpy.ndarray)


def _is_cell_holder(value: Any) -> bool:
    return isinstance(value, types.FunctionType) and bool(value.__closure__)


def _only_adds(before: Contents, after: Contents) -> bool:
    new = dict(zip(after[0], after[1], strict=True))
    return all(name in new and new[name] is value for name, value in zip(*before, strict=True))


def is_instance(value: Any) -> bool:
    """Whether the value is an object of a class of the user's, with fields."""
    kind = type(value)
    if kind.__module__.split(".")[0] in _OPAQUE or not (hasattr(value, "__dict__") or hasattr(kind, "__slots__")):
        return False
    return not isinstance(value, (types.FunctionType, types.MethodType, functools.partial)) and \
        not hasattr(value, "__next__") and not hasattr(kind, "_member_map_")


def contents(item: Any) -> Contents:
    """What a mutable object holds."""
    if isinstance(item, (list, collections.deque)):
        return len(item), list(item)
    if isinstance(item, dict):
        return tuple(item), list(item.values())
    if isinstance(item, set):
        return frozenset(item), []
    if isinstance(item, (bytearray, array.array)):
        return bytes(item), []
    if _is_ndarray(item):
        return (item.shape, item.dtype, item.tobytes()), []
    if _is_cell_holder(item):
        cells = [c for c in item.__closure__ if has_value(c)]
        return tuple(map(id, cells)), [c.cell_contents for c in cells]
    fields = dict(getattr(item, "__dict__", {}))
    for kind in type(item).__mro__:
        slots = vars(kind).get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if not name.startswith("__") and hasattr(item, name):
                fields[name] = getattr(item, name)
    return tuple(fields), list(fields.values())


def write(item: Any, held: Contents) -> None:
    """Make a mutable object hold this."""
    keys, values = held
    if isinstance(item, list):
        item[:] = values
    elif isinstance(item, collections.deque):
        item.clear()
        item.extend(values)
    elif isinstance(item, dict):
        item.clear()
        item.update(zip(keys, values, strict=True))
    elif isinstance(item, set):
        item.clear()
        item.update(keys)
    elif isinstance(item, array.array):
        del item[:]
        item.frombytes(keys)
    elif isinstance(item, bytearray):
        item[:] = keys
    elif _is_ndarray(item):
        import numpy as np

        item[...] = np.frombuffer(keys[2], keys[1]).reshape(keys[0])
    elif _is_cell_holder(item):
        cells = {id(c): c for c in item.__closure__}
        for key, value in zip(keys, values, strict=True):
            cells[key].cell_contents = value
    else:
        for name in contents(item)[0]:
            if name not in keys:
                object.__delattr__(item, name)
        for name, value in zip(keys, values, strict=True):
            object.__setattr__(item, name, value)


def keys_equal(a: Contents, b: Contents) -> bool:
    """Whether the keys of two states are the same, in the same order."""
    if isinstance(a[0], (tuple, frozenset)):
        return same(a[0], b[0]) or (len(a[0]) == len(b[0]) and a[0] == b[0])
    return bool(a[0] == b[0])


def equal(a: Contents, b: Contents) -> bool:
    """Whether two states of one object are the same."""
    return keys_equal(a, b) and all(same_or_mutable(x, y) for x, y in zip(a[1], b[1], strict=True))


def same_or_mutable(a: Any, b: Any) -> bool:
    """Whether two values are one; mutable objects are only where they are one object."""
    return a is b or (not is_mutable(a) and same(a, b))


def _children(value: Any) -> list[Any]:
    """The values that a value holds."""
    if isinstance(value, (tuple, frozenset)):
        return list(value)
    if is_mutable(value):
        return contents(value)[1]
    if isinstance(value, types.MethodType):
        return [value.__self__, value.__func__]
    if isinstance(value, types.BuiltinMethodType):
        return [value.__self__]
    if isinstance(value, functools.partial):
        return [value.func, *value.args, *value.keywords.values()]
    frame = getattr(value, "__tilus_frame__", None)
    if frame is None:
        return []
    found = list(value.default_values)  # a function defined in the kernel: they, and what it closes over
    while frame is not None:
        found += frame.scope.values()
        frame = frame.parent
    return found


def _reach(roots: Iterable[Any], outside: Any, leave: Any = ()) -> tuple[dict[int, Any], dict[int, Any]]:
    """The mutable objects, and the iterators, that are reached from values: without those in ``outside``, and without
    what instances in ``leave`` hold."""
    found: dict[int, Any] = {}
    iterators: dict[int, Any] = {}
    seen: set[int] = set()
    todo = list(roots)
    while todo:
        value = todo.pop()
        if type(value) in _PLAIN or isinstance(value, _LEAVES) or id(value) in seen or id(value) in outside:
            continue
        seen.add(id(value))
        if is_mutable(value):
            found[id(value)] = value
        elif hasattr(value, "__next__"):
            iterators[id(value)] = value
        if id(value) not in leave or not is_instance(value):
            todo += _children(value)
    return found, iterators


def has_tiles(value: Any) -> bool:
    """Whether a tile or a view is anywhere in what a value holds."""
    todo, seen = [value], set()
    while todo:
        item = todo.pop()
        kind = type(item)
        if kind is Tile or kind is View:
            return True
        if kind in _PLAIN or isinstance(item, _LEAVES) or id(item) in seen:
            continue
        if kind is tuple or kind is list:
            todo += item
            if kind is list:
                seen.add(id(item))
            continue
        seen.add(id(item))
        if not hasattr(item, "__tilus_frame__"):
            todo += _children(item)
    return False
