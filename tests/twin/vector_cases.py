"""Many short pieces of vector code as one kernel, which is compiled once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import ml_dtypes
import numpy as np

from tilus.twin import Finding, Program, Report, TwinError, build
from tilus.twin.program import ORDERS

CTYPES = {"int8": "int8_t", "uint8": "uint8_t", "int16": "int16_t", "uint16": "uint16_t", "float16": "half",
          "bfloat16": "bfloat16_t", "int32": "int32_t", "uint32": "uint32_t", "float32": "float", "int64": "int64_t",
          "uint64": "uint64_t", "int4": "int4b_t"}
# Tensors lie apart by an odd number of blocks.
GAP = 96


class Tensor(NamedTuple):
    """A tensor in UB: its contents before, or None where nothing has written it; how many elements; what is expected
    after, or None where that does not matter."""

    before: np.ndarray | None
    count: int
    dtype: str
    after: np.ndarray | None = None


def given(values: object, dtype: object = np.float32) -> Tensor:
    """A source."""
    array = np.ascontiguousarray(np.asarray(values, dtype).reshape(-1))
    return Tensor(array, array.size, array.dtype.name)


def result(after: object, dtype: object = np.float32, before: object | None = None) -> Tensor:
    """A destination, whose elements that nothing writes stay as they were: 77 unless ``before`` says otherwise."""
    expected = np.ascontiguousarray(np.asarray(after, dtype).reshape(-1))
    old = np.full(expected.shape, 77 if before is None else before, dtype).astype(dtype).reshape(-1)
    return Tensor(np.ascontiguousarray(old), expected.size, expected.dtype.name, expected)


def scratch(count: int, dtype: str = "float32") -> Tensor:
    """Memory that nothing has written."""
    return Tensor(None, count, dtype)


class Case(NamedTuple):
    """A piece of code with the tensors that it names; ``prologue`` comes before everything else, such as a TPipe."""

    name: str
    code: str
    tensors: Mapping[str, Tensor]
    prologue: str = "InitSocState();"


class Kernel:
    """All cases as a kernel with one branch each."""

    def __init__(self, cases: Sequence[Case]) -> None:
        self.cases = {case.name: (index, case) for index, case in enumerate(cases)}
        assert len(self.cases) == len(cases), "two cases of one name"
        branches = "\n".join(_branch(index, case) for index, case in enumerate(cases))
        self.source = f"""#include "kernel_operator.h"
using namespace AscendC;

extern "C" __global__ __aicore__ void pieces(GM_ADDR memory, uint32_t piece) {{
    KERNEL_TASK_TYPE_DEFAULT(KERNEL_TYPE_AIV_ONLY);
    GlobalTensor<uint8_t> gm;
    gm.SetGlobalBuffer(memory);
    switch (piece) {{
{branches}
    default: break;
    }}
}}
"""
        self._program: Program | None = None

    @property
    def program(self) -> Program:
        if self._program is None:
            self._program = build(self.source, "pieces", ("gm", "uint32_t"))
        return self._program

    def run(self, name: str, **options: object) -> tuple[dict[str, np.ndarray], Report]:
        """The tensors of a case after it, and the report."""
        index, case = self.cases[name]
        memory = np.zeros(_extent(case), np.uint8)
        places = _places(case)
        for tensor_name, tensor in case.tensors.items():
            if tensor.before is not None:
                raw = np.frombuffer(tensor.before.tobytes(), np.uint8)
                memory[places[tensor_name]:places[tensor_name] + raw.size] = raw
        report = self.program.run([memory, index], blocks=1, **options)
        after = {}
        for tensor_name, tensor in case.tensors.items():
            if tensor.after is not None:
                raw = memory[places[tensor_name]:places[tensor_name] + _bytes(tensor)]
                after[tensor_name] = np.frombuffer(raw.tobytes(), tensor.after.dtype)
        return after, report

    def check(self, name: str, **options: object) -> Report:
        """Run a case in all orders without findings, and compare its results bit by bit, but for signs of zeros and
        NaN."""
        for order in ORDERS:
            after, report = self.run(name, order=order, **options)
            for tensor_name, values in after.items():
                expected = self.cases[name][1].tensors[tensor_name].after
                np.testing.assert_array_equal(_comparable(values), _comparable(expected), f"{name}: {tensor_name}")
        return report

    def findings(self, name: str, **options: object) -> tuple[Finding, ...]:
        try:
            self.run(name, **options)
        except TwinError as error:
            return error.findings
        return ()


def _comparable(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float32) if array.dtype == ml_dtypes.bfloat16 else array


def _bytes(tensor: Tensor) -> int:
    return (tensor.count + 1) // 2 if tensor.dtype == "int4" else tensor.count * np.dtype(tensor.dtype).itemsize


def _whole(tensor: Tensor) -> int:
    """Elements up to the next 32 B, which copies need in UB."""
    return tensor.count * ((_bytes(tensor) + 31) // 32 * 32) // _bytes(tensor)


def _places(case: Case) -> dict[str, int]:
    """Byte addresses in UB, which are those in GM too."""
    places, address = {}, 0
    for name, tensor in case.tensors.items():
        places[name] = address
        address += (_bytes(tensor) + 31) // 32 * 32 + GAP
    return places


def _extent(case: Case) -> int:
    places = _places(case)
    return max([places[name] + _bytes(tensor) for name, tensor in case.tensors.items()], default=0) + 32


def _branch(index: int, case: Case) -> str:
    places = _places(case)
    lines = [f"    case {index}: {{  // {case.name}", f"        {case.prologue}"]
    moves = {"in": [], "out": []}
    for name, tensor in case.tensors.items():
        lines.append(f"        [[maybe_unused]] LocalTensor<{CTYPES[tensor.dtype]}> {name}(TPosition::VECCALC, "
                     f"{places[name]}, {_whole(tensor)});")
        raw = f"{name}.template ReinterpretCast<uint8_t>()"
        block = f"DataCopyExtParams(1, {_bytes(tensor)}, 0, 0, 0)"
        if tensor.before is not None:
            moves["in"].append(f"        DataCopyPad({raw}, gm[{places[name]}], {block}, "
                               "DataCopyPadExtParams<uint8_t>());")
        if tensor.after is not None:
            moves["out"].append(f"        DataCopyPad(gm[{places[name]}], {raw}, {block});")
    lines += moves["in"]
    lines += ["        SetFlag<HardEvent::MTE2_V>(0);", "        WaitFlag<HardEvent::MTE2_V>(0);"]
    lines += [f"        {line}" for line in case.code.strip().splitlines()]
    lines += ["        SetFlag<HardEvent::V_MTE3>(0);", "        WaitFlag<HardEvent::V_MTE3>(0);"]
    lines += moves["out"]
    lines += ["        PipeBarrier<PIPE_ALL>();", "        break;", "    }"]
    return "\n".join(lines)
