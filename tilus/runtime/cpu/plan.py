"""Calls that have been checked and packed before: what is left to do is filled in."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from tilus.diagnostics.entry import entry
from tilus.ir.dtypes import DType, parse_dtype
from tilus.runtime.arguments import is_torch, is_torch_class
from tilus.runtime.arrays import ArrayArgument
from tilus.runtime.cpu.kernel import kernel_arguments
from tilus.runtime.engines import Front
from tilus.runtime.keys import array_key, key_of
from tilus.runtime.packed_array import OwnArray
from tilus.runtime.scalars import convert_scalar, scalar_bits
from tilus.runtime.specialise import Specialisation
from tilus.runtime.torch_arrays import TensorProbe, mark_written, tensor_probe

if TYPE_CHECKING:
    from tilus.runtime.cpu.quick import Caller, Guard, QuickPlan


Maker = tuple[Callable[[], Any], Callable[[Any], int] | None]
"""What makes an array, and what gives its address; None for NumPy's."""


class _Array(NamedTuple):
    """An array argument: which parameter it is, and which packed word its address. ``like`` is element type, extents,
    strides and alignment of an array of NumPy's; ``key`` what other classes are told apart by, ``probe``
    what tensors are."""

    name: str
    place: int
    word: int
    written: bool
    kind: type
    like: tuple[Any, tuple[int, ...], tuple[int, ...], int] | None
    key: Any
    probe: TensorProbe | None = None

    @staticmethod
    def of(value: Any, name: str, place: int, word: int, written: bool) -> _Array:
        import numpy as np

        if isinstance(value, OwnArray):
            return _Array(name, place, word, written, type(value), None, value.key)
        if type(value) is not np.ndarray:
            found = array_key(value)
            return _Array(name, place, word, written, type(value), None, None if found is None else found[1],
                          tensor_probe(value) if found is not None and is_torch(value) else None)
        like = value.dtype, value.shape, value.strides, value.ctypes.data & 15
        return _Array(name, place, word, written, type(value), like, None)

    @property
    def alignment(self) -> int | None:
        """The address modulo 16; None of arrays of ours."""
        known = self.like or (None if issubclass(self.kind, OwnArray) else self.key)
        return None if known is None else known[3]

    def guard(self) -> Guard | None:
        """See :mod:`tilus.runtime.cpu.quick`."""
        from tilus.runtime.cpu.quick import array_guard, keyed_guard, tensor_guard

        if self.like is not None:
            return array_guard(*self.like, self.word, self.written)
        if issubclass(self.kind, OwnArray):
            return keyed_guard(self.kind, _writable_key if self.written else _own_key, self.key, self.word, None)
        key = key_of(self.kind)
        if key is None or self.key is None:
            return None
        told = mark_written if self.written and is_torch_class(self.kind) else None
        if self.probe is not None:
            return tensor_guard(self.kind, self.probe, self.word, told)
        return keyed_guard(self.kind, key, self.key, self.word, told)


def _own_key(array: OwnArray) -> tuple[int, Any]:
    return array.argument.address, array.key


def _writable_key(array: OwnArray) -> tuple[int, Any] | None:
    return (array.argument.address, array.key) if array.argument.writable else None


class _Scalar(NamedTuple):
    name: str
    place: int
    word: int
    dtype: DType


class NativePlan:
    """A call of native code on arrays and scalars like those of an earlier one.

    The packed words are copied; only addresses and scalars are filled in. Arrays may not overlap those that are
    written (``pairs``); where the ranges of their bytes do, the whole check says whether their elements do.
    """

    def __init__(self, call: Any, specialisation: Specialisation, kernel: Any) -> None:
        import numpy as np

        self.function, self.bind = call.kernel, type(call)
        self.specialisation, self.kernel = specialisation, kernel
        packed = kernel.pack(kernel_arguments(call.arguments))
        self.template, self.copy = bytes(packed), type(packed).from_buffer_copy
        self.arrays: list[_Array] = []
        self.scalars: list[_Scalar] = []
        places = {name: place for place, name in enumerate(call.signature.names)}
        word = 0
        for name, argument, (kind, rank, dtype) in zip(call.names, call.arguments, kernel.slots, strict=True):
            place = places[name]
            if isinstance(argument, ArrayArgument):
                written = name in (specialisation.written or ())
                self.arrays.append(_Array.of(call.values[place], name, place, word, written))
            else:
                self.scalars.append(_Scalar(name, place, word, parse_dtype(dtype)))
            word += 1 + 2 * rank if kind == "array" else 1
        self.constants = {places[name]: value for name, value in zip(call.signature.names, call.values, strict=True)
                          if name in call.constants}
        changed = [(array.place, call.values[array.place]) for array in self.arrays if array.written]
        self.tensors = [place for place, value in changed if is_torch(value)]
        self.quickens = True
        self._quick: dict[str | None, QuickPlan | None] = {}
        self.writable = [place for place, value in changed if type(value) is np.ndarray or isinstance(value, OwnArray)]
        ranges = [array.extent_bytes() for _, _, array in call.arrays]
        self.pairs = [
            (i, j, *ranges[i], *ranges[j]) for i, array in enumerate(self.arrays) if array.written
            for j, other in enumerate(self.arrays)
            if i != j and not {array.name, other.name} <= specialisation.may_alias
        ]

    def __call__(self, values: Sequence[Any], addresses: Sequence[int]) -> None:
        for i, j, low_i, high_i, low_j, high_j in self.pairs:
            a, b = addresses[i], addresses[j]
            if a + low_i < b + high_j and b + low_j < a + high_i:
                self.bind(self.function, list(values)).check_written(self.specialisation)
        for place in self.writable:
            value = values[place]
            if not (value.argument.writable if isinstance(value, OwnArray) else value.flags.writeable):
                self.bind(self.function, list(values)).check_written(self.specialisation)
        words = self.copy(self.template)
        for array, address in zip(self.arrays, addresses, strict=True):
            words[array.word] = address
        for name, place, word, dtype in self.scalars:
            try:
                words[word] = scalar_bits(convert_scalar(name, dtype, values[place]), dtype)
            except TypeError:
                self.bind(self.function, list(values))  # raises with the place of the call
                raise
        self.kernel.launch(words)
        for place in self.tensors:
            mark_written(values[place])

    def launcher(self, addresses: Sequence[int]) -> Callable[[Sequence[int]], bool] | None:
        """What launches the code on the addresses of arrays alone, for a caller who knows that they are like those of
        this plan and do not overlap: extents, strides and element types are not looked at. It does nothing and gives
        False where the alignment is not that of ``addresses``, or an address is 0. None where there are scalars."""
        if self.scalars:
            return None
        template, copy, launch = self.template, self.copy, self.kernel.launch
        places = [(array.word, address & 15) for array, address in zip(self.arrays, addresses, strict=True)]

        def launched(addresses: Sequence[int]) -> bool:
            words = copy(template)
            for (word, alignment), address in zip(places, addresses, strict=True):
                if address & 15 != alignment or not address:
                    return False
                words[word] = address
            launch(words)
            return True

        return launched

    def quicken(self, front: Front, caller: Caller | None, engine: str | None) -> Caller | None:
        """See :class:`tilus.runtime.engines.Plan`."""
        from tilus.runtime.cpu.quick import Caller, is_known

        if engine not in self._quick:
            self._quick[engine] = self._quick_plan(engine) if is_known() else None
        quick = self._quick[engine]
        if quick is None:
            self.quickens = False
            return None
        if caller is None or not caller.is_for(front):
            caller = Caller(front)
        caller.add(quick)
        return caller

    def _quick_plan(self, engine: str | None) -> QuickPlan | None:
        """What the compiled call knows of this; None where it does not know such arguments."""
        from tilus.runtime.cpu.quick import constant_guard, quick_plan, scalar_guard

        guards: dict[int, Guard | None] = {}
        for array in self.arrays:
            guards[array.place] = array.guard()
        for scalar in self.scalars:
            guards[scalar.place] = scalar_guard(scalar.dtype, scalar.word)
        for place, value in self.constants.items():
            guards[place] = constant_guard(value)
        words = [array.word for array in self.arrays]
        pairs = [(words[i], words[j], *ranges) for i, j, *ranges in self.pairs]
        fail = entry(self.kernel.check, self.function.__name__, *self.function.entry_place)
        return quick_plan([guards[place] for place in sorted(guards)], self.template, pairs,
                          self.kernel.entry, fail, engine)


    def quick_results(self, places: Mapping[int, int], constants: Mapping[int, Any], makers: Sequence[Maker],
                      several: bool, fail: Callable[[int], None], engine: str | None) -> QuickPlan | None:
        """What the compiled call knows of calls of another function, which makes the last arrays of this one's and
        gives them back; None where it does not know such arguments.

        Args:
            places: of the first arrays, in this plan, which parameters of the function they are.
            constants: its other parameters.
            makers: of the last arrays what makes them, and what gives their addresses.
        """
        from tilus.runtime.cpu.quick import Made, Results, constant_guard, quick_plan

        made = sorted((array for array in self.arrays if array.place not in places), key=lambda array: array.place)
        inputs = {i for i, array in enumerate(self.arrays) if array.place in places}
        aligned = [array.alignment for array in made]
        if self.scalars or self.constants or None in aligned or any(i in inputs for i, *_ in self.pairs):
            return None
        guards = {places[array.place]: array.guard() for array in self.arrays if array.place in places}
        guards.update((place, constant_guard(value)) for place, value in constants.items())
        results = Results(tuple(Made(make, address, alignment or 0, array.word) for array, alignment, (make, address)
                                in zip(made, aligned, makers, strict=True)), several)
        return quick_plan([guards[place] for place in sorted(guards)], self.template, [], self.kernel.entry, fail,
                          engine, results)


def native_plan(call: Any, specialisation: Specialisation, kernel: Any) -> NativePlan | None:
    """A plan for calls like this one; None where its arrays have more to them than the keys of plans say, or are
    numbers to the kernel."""
    import numpy as np

    places = {name: place for place, name in enumerate(call.signature.names)}
    arrays = {places[name]: array for name, _, array in call.arrays}
    plain = all(_is_plain(arrays[place], value) if place in arrays else type(value) is not np.ndarray
                for place, value in enumerate(call.values))
    return NativePlan(call, specialisation, kernel) if plain else None


def _is_plain(argument: ArrayArgument, value: Any) -> bool:
    """Whether it is of a class that keys of plans have shapes and addresses of: NumPy's own, another library's that is
    registered, or ours over memory that nobody has to be told of."""
    import numpy as np

    if isinstance(value, OwnArray):
        return not is_torch(argument.owner)
    if type(argument.array) is np.ndarray and argument.owner is argument.array:
        return True
    return key_of(type(value)) is not None and type(value) is not np.ndarray


__all__ = ["NativePlan", "native_plan"]
