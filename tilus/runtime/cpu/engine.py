"""The engine that runs native code of this machine."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

from tilus.runtime.arguments import is_torch
from tilus.runtime.arrays import ArrayArgument
from tilus.runtime.engines import Engine, Plan, Runner
from tilus.runtime.packed_array import OwnArray
from tilus.runtime.specialise import Specialisation


class CpuEngine(Engine):
    """Native code of this machine, by way of LLVM and the disk cache."""

    timed = True

    def make(self, specialisation: Specialisation) -> Runner:
        return Native(load_native(specialisation))


def load_native(specialisation: Specialisation) -> Any:
    """The CPU kernel of a specialisation, from the cache or compiled."""
    from tilus.runtime.compile import compile_specialisation

    return compile_specialisation(specialisation, "cpu").native


class Native:
    def __init__(self, kernel: Any) -> None:
        self.kernel = kernel

    def run(self, arguments: Sequence[Any]) -> None:
        self.kernel(*[(a.address, a.shape, a.strides) if isinstance(a, ArrayArgument) else a for a in arguments])

    def formats(self, arguments: Sequence[Any]) -> dict[str, str]:
        return dict(self.kernel.formats)

    def plan(self, call: Any, specialisation: Specialisation) -> Plan | None:
        """The packed words are copied; only addresses and scalars are filled in."""
        names = call.signature.names
        given = [call.values[names.index(name)] for name, _, _ in call.arrays]
        if not all(_is_plain(array, value) for (_, _, array), value in zip(call.arrays, given, strict=True)):
            return None
        kernel = self.kernel
        packed = kernel.pack([(a.address, a.shape, a.strides) if isinstance(a, ArrayArgument) else a
                              for a in call.arguments])
        template = bytes(packed)
        words = type(packed)
        places, scalars, word = [], [], 0
        for name, argument, (kind, rank, dtype) in zip(call.names, call.arguments, kernel.slots, strict=True):
            if isinstance(argument, ArrayArgument):
                places.append(word)
            else:
                scalars.append((word, names.index(name), name, dtype))
            word += 1 + 2 * rank if kind == "array" else 1
        ranges = [a.extent_bytes() for _, _, a in call.arrays]
        written = [i for i, (n, _, _) in enumerate(call.arrays) if n in (specialisation.written or ())]
        writable = [names.index(call.arrays[i][0]) for i in written]
        pairs = [
            (i, j, *ranges[i], *ranges[j]) for i in written for j in range(len(ranges))
            if i != j and not {call.arrays[i][0], call.arrays[j][0]} <= specialisation.may_alias
        ]
        launch, address_of, copy = kernel._launch, ctypes.addressof, words.from_buffer_copy
        from tilus.ir.dtypes import parse_dtype
        from tilus.runtime.cpu.pool import current_pool
        from tilus.runtime.scalars import convert_scalar, scalar_bits

        typed = [(w, place, name, parse_dtype(dtype)) for w, place, name, dtype in scalars]
        retry = call.kernel

        def plan(values: Sequence[Any], addresses: Sequence[int]) -> None:
            for i, j, low_i, high_i, low_j, high_j in pairs:
                a, b = addresses[i], addresses[j]
                if a + low_i < b + high_j and b + low_j < a + high_i:
                    type(call)(retry, list(values)).check_written(specialisation)
            for place in writable:
                value = values[place]
                if not (value.argument.writable if isinstance(value, OwnArray) else value.flags.writeable):
                    type(call)(retry, list(values)).check_written(specialisation)
            words_ = copy(template)
            for place, address in zip(places, addresses, strict=True):
                words_[place] = address
            for word, place, name, dtype in typed:
                try:
                    words_[word] = scalar_bits(convert_scalar(name, dtype, values[place]), dtype)
                except TypeError:
                    type(call)(retry, list(values))  # raises with the place of the call
                    raise
            status = launch(address_of(words_), current_pool().table)
            if status:
                kernel.check(status)

        return plan


def _is_plain(argument: ArrayArgument, value: Any) -> bool:
    """Whether it is an array of NumPy's own class, or of ours over memory that nobody has to be told of: the keys of
    plans have the shapes and addresses of no others."""
    import numpy as np

    if isinstance(value, OwnArray):
        return not is_torch(argument.owner)
    return type(argument.array) is np.ndarray and argument.owner is argument.array


__all__ = ["CpuEngine", "Native", "load_native"]
