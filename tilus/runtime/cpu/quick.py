"""Warm calls of kernels without Python: the records that the compiled call (``call_ir.py``) reads.

A caller is what Python calls in place of a kernel: it knows the plans of its last calls. It keeps what they need alive,
and everything that it does not know goes to the kernel's own way.
"""

from __future__ import annotations

import ctypes
import functools
import struct
import sys
import sysconfig
import threading
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from tilus.ir.dtypes import DType
from tilus.lang.reads import ABSENT, Check
from tilus.lang.signature import MISSING
from tilus.runtime.cpu import call_ir
from tilus.runtime.cpu import call_records as records
from tilus.runtime.cpu.kernel import Entry
from tilus.runtime.cpu.llvm import function_address, loaded
from tilus.runtime.engines import Front
from tilus.runtime.torch_arrays import TensorProbe

_FASTCALL_WITH_KEYWORDS = 0x80 | 0x02
"""``METH_FASTCALL | METH_KEYWORDS``."""


class _Method(ctypes.Structure):
    """``PyMethodDef``."""

    _fields_ = (("name", ctypes.c_char_p), ("function", ctypes.c_void_p), ("flags", ctypes.c_int),
                ("doc", ctypes.c_char_p))


class _Code:
    """The compiled call, once per process."""

    def __init__(self) -> None:
        symbols = {name: function_address(getattr(ctypes.pythonapi, name)) for name in call_ir.API}
        self.object = loaded(call_ir.CALL_TEXT, symbols)
        self.method = _Method(b"call", self.object.address("quick_call"), _FASTCALL_WITH_KEYWORDS, None)
        self.make = ctypes.pythonapi.PyCFunction_NewEx
        self.make.argtypes, self.make.restype = [ctypes.c_void_p, ctypes.py_object, ctypes.c_void_p], ctypes.py_object


@functools.cache
def _code() -> _Code | None:
    """None where objects and arrays do not lie in memory as the compiled call reads them."""
    return _Code() if _objects_are_known() and _arrays_are_known() else None


def _objects_are_known() -> bool:
    if sys.implementation.name != "cpython" or struct.calcsize("P") != 8 or sysconfig.get_config_var("Py_GIL_DISABLED"):
        return False
    if not all(hasattr(ctypes.pythonapi, name) for name in call_ir.API):
        return False
    word_at = ctypes.c_int64.from_address
    return object.__basicsize__ == 16 and all(
        word_at(id(value) + records.OBJECT_TYPE).value == id(type(value)) for value in (1, 1.5, "", None, object()))


def _arrays_are_known() -> bool:
    """Tried on arrays about which NumPy says the same."""
    import numpy as np

    arrays = np.zeros((2, 5))[1:], np.zeros((3, 4, 5), np.int8)[::-1, :, ::2], np.zeros(()), np.broadcast_to(1.0, (3,))
    return all(_array_in_memory(a) == (a.ctypes.data, a.shape, a.strides, id(a.dtype), a.flags.writeable)
               for a in arrays)


def _array_in_memory(array: Any) -> tuple[Any, ...] | None:
    """Address, extents, strides, element type and whether it can be written, read as the compiled call does."""
    def word(offset: int) -> int:
        return ctypes.c_int64.from_address(id(array) + offset).value

    rank = ctypes.c_int32.from_address(id(array) + records.ARRAY_RANK).value
    if rank != array.ndim:
        return None
    lengths = ctypes.c_int64 * rank
    extents, strides = (tuple(lengths.from_address(word(at))) if rank else ()
                        for at in (records.ARRAY_EXTENTS, records.ARRAY_STRIDES))
    flags = ctypes.c_int32.from_address(id(array) + records.ARRAY_FLAGS).value
    return word(records.ARRAY_DATA), extents, strides, word(records.ARRAY_DTYPE), bool(flags & records.WRITEABLE)


def _record(words: Sequence[int]) -> Any:
    return (ctypes.c_int64 * max(1, len(words)))(*words)


class Guard(NamedTuple):
    """What a value of a parameter has to pass; ``alive`` is the object whose address is among the words."""

    words: Sequence[int]
    alive: Any


def array_guard(dtype: Any, shape: Sequence[int], strides: Sequence[int], alignment: int, word: int,
                written: bool) -> Guard:
    """For arrays of NumPy's that are like this, whose address becomes a word of the packed arguments."""
    import numpy as np

    flags = records.WRITEABLE if written else 0
    words = records.ARRAY, id(np.ndarray), word, id(dtype), len(shape), alignment, flags, *shape, *strides
    return Guard(words, dtype)


def keyed_guard(kind: type, key_of: Callable[[Any], Any], key: Any, word: int,
                told: Callable[[Any], None] | None) -> Guard:
    """For arrays of another class, of which a function gives address and key; ``told`` hears of one that has been
    written."""
    words = (records.KEYED, id(kind), word, id(key_of), id(key), id(Exception), 0 if told is None else id(told),
             id(None))
    return Guard(words, (kind, key_of, key, told))


def tensor_guard(kind: type, probe: TensorProbe, word: int, told: Callable[[Any], None] | None) -> Guard:
    """For tensors that are like the one that a probe was made of."""
    words = (records.ASKED, id(kind), word, id(probe.check), id(probe.address), probe.alignment,
             0 if told is None else id(told), id(True), probe.span, probe.element_bytes, id(probe.first),
             id(probe.storage), id(probe.storage_bytes), id(probe.wrapped),
             *(id(item) for pair in probe.attributes for item in pair))
    return Guard(words, (kind, probe, told))


def scalar_guard(dtype: DType, word: int) -> Guard | None:
    """For numbers of Python's that an element type takes; None where those are not converted here."""
    if dtype.is_bool:
        return Guard((records.BOOLEAN, id(bool), word, id(True), id(False)), None)
    if dtype.is_int:
        return Guard((records.INTEGER, id(int), word, dtype.min_value, min(dtype.max_value, (1 << 63) - 1)), None)
    kind = {"f32": records.FLOAT32, "f64": records.FLOAT64}.get(dtype.name)
    return None if kind is None else Guard((kind, id(float), word, id(int), 0), None)


def constant_guard(value: Any) -> Guard | None:
    """For a compile-time value; None where one object may be several of them."""
    if type(value) in (int, str, bytes):
        return Guard((records.EQUAL, id(type(value)), 0, id(value), 0), value)
    return Guard((records.CONSTANT, 0, 0, id(value), 0), value) if _stays_itself(value) else None


def _stays_itself(value: Any) -> bool:
    """Whether an object is one compile-time value for ever (:func:`tilus.lang.constants.constant_key`)."""
    kind: Any = type(value)
    if kind is tuple:
        return all(map(_stays_itself, value))
    return kind in (bool, int, str, bytes, float, complex, DType) or kind.__eq__ is object.__eq__


class Made(NamedTuple):
    """An array that a call makes: by which function, which one gives its address (None for NumPy's), that modulo 16,
    and the packed word that it becomes."""

    make: Callable[[], Any]
    address: Callable[[Any], int] | None
    alignment: int
    word: int

    def words(self) -> tuple[int, ...]:
        return id(self.make), 0 if self.address is None else id(self.address), self.alignment, self.word


class Results(NamedTuple):
    """The arrays that a call makes and gives back, ``several`` as a tuple."""

    made: tuple[Made, ...] = ()
    several: bool = False


NO_RESULTS = Results()


class QuickPlan:
    """What calls a plan is for, and what it runs.

    Args:
        guards: one for each parameter.
        template: the packed arguments; addresses and numbers are filled in.
        pairs: of arrays that may not overlap: the words of both addresses, and for both the first byte and the one
            past the last.
        entry: what of the kernel is called.
        fail: raises the error for a status that is not 0.
        engine: it is for calls where the engine's variable has this value; None where there is no variable.
        results: what a call gives back.
    """

    def __init__(self, guards: Sequence[Guard], template: bytes, pairs: Sequence[Sequence[int]], entry: Entry,
                 fail: Callable[[int], None], engine: str | None, results: Results) -> None:
        self._alive = [guard.alive for guard in guards], entry, fail, engine, results
        self._made = _record([word for made in results.made for word in made.words()])
        self._template = ctypes.create_string_buffer(template, len(template))
        self._guards = [_record(guard.words) for guard in guards]
        self._table = _record([ctypes.addressof(guard) for guard in self._guards])
        self._pairs = _record([n for pair in pairs for n in pair])
        self._words = _record([
            id(self), id(engine), entry.launch, id(fail), len(template) // 8, ctypes.addressof(self._template),
            ctypes.addressof(self._table), len(pairs), ctypes.addressof(self._pairs),
            any(guard.words[0] in (records.KEYED, records.ASKED) and guard.words[records.GUARD_D] for guard in guards),
            entry.table, 0 if entry.stream is None else id(entry.stream), entry.measure, id(entry.allocate),
            len(results.made), ctypes.addressof(self._made), results.several])
        self.address = ctypes.addressof(self._words)


def quick_plan(guards: Sequence[Guard | None], template: bytes, pairs: Sequence[Sequence[int]], entry: Entry,
               fail: Callable[[int], None], engine: str | None,
               results: Results = NO_RESULTS) -> QuickPlan | None:
    """See :class:`QuickPlan`; None where the compiled call does not know such arguments."""
    known = [guard for guard in guards if guard is not None]
    if len(known) < len(guards) or len(guards) > records.MAX_PARAMETERS or len(template) > 8 * records.MAX_WORDS:
        return None
    return QuickPlan(known, template, pairs, entry, fail, engine, results)


_KINDS = {"name": records.IN_DICTIONARY, "cell": records.IN_CELL, "attribute": records.AS_ATTRIBUTE,
          "call": records.AS_RESULT}
_NOT_THERE = (AttributeError, KeyError, ValueError)


def _check_words(check: Check) -> list[int]:
    forgiven = id(_NOT_THERE) if check.kind == "attribute" else 0
    return [_KINDS[check.kind], id(check.owner), id(check.name), 0 if check.value is ABSENT else id(check.value),
            forgiven]


class Caller:
    """What Python calls in place of a kernel's own function.

    Attributes:
        function: what to call.
    """

    def __init__(self, front: Front) -> None:
        code = self._code = _code()  # which threads may have made twice
        assert code is not None
        self._front, self._unchanged = front, front.reads.unchanged
        self._lock = threading.Lock()
        self._plans: list[QuickPlan] = []
        checks = self._held = [*front.checks, *front.reads.checks()]
        names = self._interned = [sys.intern(name) for name in front.names]
        self._names = _record([id(name) for name in names])
        self._defaults = _record([0 if default is MISSING else id(default) for default in front.defaults])
        self._checks = _record([word for check in checks for word in _check_words(check)])
        self._words = _record([
            id(front.fallback), id(None), len(names), ctypes.addressof(self._names),
            ctypes.addressof(self._defaults), 0 if front.variable is None else id(front.variable), len(checks),
            ctypes.addressof(self._checks), *[0] * records.MAX_PLANS])
        self.function = code.make(ctypes.addressof(code.method), (ctypes.addressof(self._words), self), None)

    def is_for(self, front: Front) -> bool:
        """Whether it checks all that the front's plans depend on."""
        return self._front.reads is front.reads and self._unchanged is front.reads.unchanged

    def add(self, plan: QuickPlan) -> None:
        """Put a plan first. The compiled call may change the order meanwhile, and read until the records are written:
        what they name is alive all that time."""
        with self._lock:
            self._plans.append(plan)
            others = [a for a in self._words[records.PLANS :] if a not in (0, plan.address)]
            kept = [plan.address, *others][: records.MAX_PLANS]
            self._words[records.PLANS :] = kept + [0] * (records.MAX_PLANS - len(kept))
            self._plans = list({p.address: p for p in self._plans if p.address in kept}.values())


def is_known() -> bool:
    """Whether calls can be compiled here."""
    return _code() is not None
