"""Engines: what runs a specialisation. Each gives runners, which take the arguments of a call."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from tilus.runtime.arguments import call_error
from tilus.runtime.arrays import CUDA, HOST, ArrayArgument, byte_range
from tilus.runtime.specialise import Specialisation

NAMES = ("cpu", "interpret", "python", "cuda", "simulate:sm_XX")
Plan = Callable[[Sequence[Any], Sequence[int]], None]


class Runner(Protocol):
    """Runs one specialisation."""

    def run(self, arguments: Sequence[Any]) -> None:
        """On arrays and numbers, one for each parameter."""

    def plan(self, call: Any, specialisation: Specialisation) -> Plan | None:
        """What repeats ``call`` on other arrays of the same shapes, strides and alignment; None where nothing is gained
        by that. It takes the values of all parameters and the addresses of the NumPy arrays among them."""


class Engine:
    """``kind`` is the kind of arrays it runs on."""

    kind = HOST

    def __init__(self, name: str) -> None:
        self.name = name

    def runner(self, specialisation: Specialisation) -> Runner:
        """What runs the specialisation, made at the first call. Raises UserError."""
        found: Runner | None = specialisation.runners.get(self.name)
        if found is None:
            with specialisation.lock:
                found = specialisation.runners.get(self.name)
                if found is None:
                    found = specialisation.runners[self.name] = self.make(specialisation)
        return found

    def make(self, specialisation: Specialisation) -> Runner:
        raise NotImplementedError


def check_engine(name: str) -> None:
    """Raise UserError (E0506) where there is no engine of that name."""
    get_engine(name)


_engines: dict[str, Engine] = {}


def get_engine(name: str) -> Engine:
    found = _engines.get(name)
    if found is None:
        found = _engines[name] = _make_engine(name)
    return found


def _make_engine(name: str) -> Engine:
    if name == "cpu":
        return CpuEngine(name)
    if name == "interpret":
        return InterpretEngine(name)
    if name == "python":
        return PythonEngine(name)
    if name == "cuda":
        from tilus.runtime.gpu import CudaEngine

        return CudaEngine(name)
    if isinstance(name, str) and name.startswith("simulate"):
        from tilus.runtime.gpu import SimulateEngine

        return SimulateEngine(name)
    raise call_error("E0506", f"there is no engine {name!r}", help=f"engines: {', '.join(NAMES)}")


class NoPlan:
    """A runner whose calls have no cheaper form."""

    def plan(self, call: Any, specialisation: Specialisation) -> Plan | None:
        return None


class InterpretEngine(Engine):
    """The reference interpreter."""

    def make(self, specialisation: Specialisation) -> Runner:
        return _Interpreted(specialisation)


class _Interpreted(NoPlan):
    def __init__(self, specialisation: Specialisation) -> None:
        self.module = specialisation.trace()

    def run(self, arguments: Sequence[Any]) -> None:
        from tilus.interp import interpret

        interpret(self.module, [a.array if isinstance(a, ArrayArgument) else a for a in arguments])


class PythonEngine(Engine):
    """The body run by Python itself."""

    def make(self, specialisation: Specialisation) -> Runner:
        return _Eager(specialisation)


class _Eager(NoPlan):
    def __init__(self, specialisation: Specialisation) -> None:
        self.specialisation = specialisation
        specialisation.written = specialisation.written or frozenset()

    def run(self, arguments: Sequence[Any]) -> None:
        from tilus.runtime.eager import run_eagerly

        run_eagerly(self.specialisation, arguments)


class CpuEngine(Engine):
    """Native code of this machine, by way of LLVM and the disk cache."""

    def make(self, specialisation: Specialisation) -> Runner:
        return _Native(load_native(specialisation))


def load_native(specialisation: Specialisation) -> Any:
    """The CPU kernel of a specialisation, from the cache or compiled."""
    from tilus.lowering.pipelines import CPU_TILE_PASSES, run_passes
    from tilus.runtime.cache import default_cache
    from tilus.runtime.compile import module_key
    from tilus.runtime.cpu import CpuKernel, compile_module
    from tilus.runtime.cpu.llvm import host_description
    from tilus.runtime.internal import guarded

    module = specialisation.trace()
    key = module_key(module, "cpu", str(host_description()))

    def build() -> Any:
        run_passes(module, CPU_TILE_PASSES)
        return {"kernel": compile_module(module).serialize()}, {}

    entry = default_cache().get_or_build(
        key, lambda: guarded(specialisation, "compilation for the CPU", build))
    return CpuKernel.from_bytes(entry["kernel"])


class _Native:
    def __init__(self, kernel: Any) -> None:
        self.kernel = kernel

    def run(self, arguments: Sequence[Any]) -> None:
        self.kernel(*[(a.address, a.shape, a.strides) if isinstance(a, ArrayArgument) else a for a in arguments])

    def plan(self, call: Any, specialisation: Specialisation) -> Plan | None:
        """The packed words are copied; only addresses and scalars are filled in."""
        if any(not _is_numpy(a) for _, _, a in call.arrays):
            return None
        kernel = self.kernel
        packed = kernel.pack([(a.address, a.shape, a.strides) if isinstance(a, ArrayArgument) else a
                              for a in call.arguments])
        template = bytes(packed)
        words = type(packed)
        places, scalars, word = [], [], 0
        names = call.signature.names
        for name, argument, (kind, rank, dtype) in zip(call.names, call.arguments, kernel.slots, strict=True):
            if isinstance(argument, ArrayArgument):
                places.append(word)
            else:
                scalars.append((word, names.index(name), name, dtype))
            word += 1 + 2 * rank if kind == "array" else 1
        ranges = [byte_range(a.shape, a.strides, a.dtype.itemsize) for _, _, a in call.arrays]
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
                if not values[place].flags.writeable:
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


def _is_numpy(argument: ArrayArgument) -> bool:
    return argument.array is not None and argument.owner is argument.array


__all__ = ["CUDA", "HOST", "NAMES", "Engine", "Runner", "check_engine", "get_engine", "load_native"]
