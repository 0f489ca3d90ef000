"""Ascend C kernels as programs that run on this machine."""

from __future__ import annotations

import ctypes
import functools
import json
import re
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

from tilus.twin.chips import CHIPS, Chip
from tilus.twin.compiler import compile_kernel, library
from tilus.twin.report import Report, TwinError, findings_of, report_of

ORDERS = ("random", "early", "late", "program")


def _half(number: float) -> ctypes.c_uint16:
    return ctypes.c_uint16(int(np.asarray(number, np.float16).view(np.uint16)))


def _bfloat16(number: float) -> ctypes.c_uint16:
    import ml_dtypes

    return ctypes.c_uint16(int(np.asarray(number, ml_dtypes.bfloat16).view(np.uint16)))


_SCALARS: dict[str, Any] = {
    "int8_t": ctypes.c_int8, "uint8_t": ctypes.c_uint8, "int16_t": ctypes.c_int16, "uint16_t": ctypes.c_uint16,
    "int32_t": ctypes.c_int32, "uint32_t": ctypes.c_uint32, "int64_t": ctypes.c_int64, "uint64_t": ctypes.c_uint64,
    "float": ctypes.c_float, "double": ctypes.c_double, "bool": ctypes.c_bool,
    "half": _half, "bfloat16_t": _bfloat16,
}
_MEMORIES = ("UB", "L1", "L0A", "L0B", "L0C", "BT", "FB")
_RATES = ("GM-UB", "GM-L1", "UB-GM", "L0C-GM", "L1-L0A", "L1-L0B", "L2 read", "L2 write")
# In the order of KernelType.
_TYPES = ("vector", "cube", "mix01", "mix10", "mix11", "mix12")
# __NPU_ARCH__ of the cores that the twin models.
ARCHITECTURE = 2201
# The runtime has one machine at a time.
_running = threading.Lock()


class _ChipDescription(ctypes.Structure):
    _fields_ = (("cube_cores", ctypes.c_int64), ("vector_cores", ctypes.c_int64), ("memory_bytes", ctypes.c_int64 * 8),
                ("rates", ctypes.c_double * 8))


class _RunDescription(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_int64) for name in
                     ("blocks", "seed", "order", "strict", "overflow", "arrays", "type", "most_instructions"))


class _ArrayDescription(ctypes.Structure):
    _fields_ = (("data", ctypes.c_void_p), ("bytes", ctypes.c_int64), ("argument", ctypes.c_int64))


@functools.cache
def _runtime() -> ctypes.CDLL:
    # Kernels find the runtime's functions among the symbols of the process.
    runtime = ctypes.CDLL(str(library()), mode=ctypes.RTLD_GLOBAL)
    runtime.twin_run.restype = ctypes.c_char_p
    return runtime


class Program:
    """A kernel that was compiled for this machine; ``build`` makes it."""

    def __init__(self, source: str, kernel: str, parameters: Sequence[str], path: str) -> None:
        self.source = source
        self.kernel = kernel
        self.parameters = tuple(parameters)
        self._type = _stated_type(source, kernel)
        _runtime()
        self._entry = ctypes.CDLL(path).twin_entry

    def run(self, arguments: Sequence[Any], *, blocks: int, chip: str = "ascend910b1", seed: int = 0,
            order: str = "random", strict: bool = True, overflow: bool = False,
            most_instructions: int = 10**8) -> Report:
        """Run the kernel on ``blocks`` blocks.

        Args:
            arguments: contiguous NumPy arrays, which are written in place, and Python numbers for scalars.
            order: which of the orders that the kernel's flags permit: ``random`` by ``seed``; ``early``, scalar units
                run ahead and pipes work as soon as they may; ``late``, pipes work only when somebody waits;
                ``program``, each instruction when it is issued.
            strict: products consume whole groups of 32 B along K, so that padding has to be initialised.
            overflow: a half that becomes infinite from finite operands is a finding.
            most_instructions: of all cores together, after which the kernel counts as endless.

        Raises:
            TwinError: the kernel has findings. The arrays then hold what it computed all the same.
            ValueError, TypeError: the arguments do not fit the parameters.
        """
        if chip not in CHIPS:
            raise ValueError(f"no chip {chip!r}: there are {', '.join(CHIPS)}")
        if CHIPS[chip].architecture != ARCHITECTURE:
            modelled = ", ".join(name for name, other in CHIPS.items() if other.architecture == ARCHITECTURE)
            raise ValueError(f"{chip} has other cores than the twin models, which are those of {modelled}")
        if order not in ORDERS:
            raise ValueError(f"no order {order!r}: there are {', '.join(ORDERS)}")
        if not 1 <= blocks <= 65535:
            raise ValueError(f"{blocks} blocks: a launch has 1 to 65535")
        slots, arrays = self._bind(arguments)
        run = _RunDescription(blocks, seed, ORDERS.index(order), strict, overflow, len(arrays), self._type,
                              most_instructions)
        description = (_ArrayDescription * max(1, len(arrays)))(
            *(_ArrayDescription(array.ctypes.data, array.nbytes, index) for index, array in arrays))
        pointers = (ctypes.c_void_p * max(1, len(slots)))(*(ctypes.addressof(slot) for slot in slots))
        with _running:
            text = _runtime().twin_run(ctypes.byref(_describe(CHIPS[chip])), ctypes.byref(run), description, pointers,
                                       self._entry)
            result = json.loads(text)
        if findings := findings_of(result, self.source.splitlines()):
            raise TwinError(findings)
        return report_of(result, CHIPS[chip])

    def _bind(self, arguments: Sequence[Any]) -> tuple[list[Any], list[tuple[int, np.ndarray[Any, Any]]]]:
        if len(arguments) != len(self.parameters):
            raise TypeError(f"{self.kernel} takes {len(self.parameters)} arguments, {len(arguments)} are given")
        slots: list[Any] = []
        arrays: list[tuple[int, np.ndarray[Any, Any]]] = []
        for index, (parameter, argument) in enumerate(zip(self.parameters, arguments, strict=True)):
            if parameter != "gm":
                slots.append(_SCALARS[parameter](argument))
                continue
            if not isinstance(argument, np.ndarray) or not argument.flags.c_contiguous or not argument.flags.writeable:
                raise TypeError(f"argument {index} of {self.kernel} has to be a contiguous, writable NumPy array")
            for other, array in arrays:
                same = array.ctypes.data == argument.ctypes.data and array.nbytes == argument.nbytes
                if not same and np.may_share_memory(array, argument):
                    raise ValueError(f"arguments {other} and {index} of {self.kernel} overlap without being the same")
            slots.append(ctypes.c_void_p())
            arrays.append((index, argument))
        return slots, arrays


def _stated_type(source: str, kernel: str) -> int:
    """The type by ``__vector__``, ``__cube__`` or ``__mix__(1, 2)`` before the kernel's name; -1 where it has none."""
    match = re.search(rf"__(vector|cube|mix)__(?:\s*\((\d)\s*,\s*(\d)\))?[^;{{}}]*?\b{re.escape(kernel)}\s*\(", source)
    if match is None:
        return -1
    kind = f"{match[1]}{match[2]}{match[3]}" if match[1] == "mix" else match[1]
    if kind not in _TYPES:
        raise ValueError(f"{kernel}: __mix__({match[2]}, {match[3]}) is not among the kinds of blocks")
    return _TYPES.index(kind)


def _describe(chip: Chip) -> _ChipDescription:
    memories = (ctypes.c_int64 * 8)(0, *(chip.memories[name] for name in _MEMORIES))
    rates = (ctypes.c_double * 8)(*(chip.rates[name] for name in _RATES))
    return _ChipDescription(chip.cube_cores, chip.vector_cores, memories, rates)


def build(source: str, kernel: str, parameters: Sequence[str]) -> Program:
    """Compile the function ``kernel`` of an Ascend C source.

    Args:
        source: C++ that includes ``kernel_operator.h``. Lines of findings are those of this text.
        parameters: of the kernel in order: ``"gm"`` for GM_ADDR, or a scalar type such as ``"uint32_t"``.

    Raises:
        CompilerError: there is no C++ compiler, or it refuses the source.
        ValueError: an unknown type of parameter.
    """
    for parameter in parameters:
        if parameter != "gm" and parameter not in _SCALARS:
            raise ValueError(f"no parameter type {parameter!r}: there are gm, {', '.join(_SCALARS)}")
    arguments = ", ".join(f"*static_cast<{'GM_ADDR' if parameter == 'gm' else parameter}*>(arguments[{index}])"
                          for index, parameter in enumerate(parameters))
    entry = f'\nextern "C" void twin_entry([[maybe_unused]] void** arguments) {{ {kernel}({arguments}); }}\n'
    return Program(source, kernel, parameters, str(compile_kernel(source + entry)))


__all__ = ["ORDERS", "Program", "build"]
