"""``kernel.explain(…, engine="ascend910b")``: what a call does on which cores, and what the twin says of it."""

from __future__ import annotations

import ctypes
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from tilus.ir.core import Block, Function
from tilus.ir.dtypes import DType
from tilus.ir.ops.cores import Call, CrossSet, PipeBarrier, SetFlag, Side, WaitFlag
from tilus.runtime.arrays import ArrayArgument
from tilus.targets.ascend import SLOTS

if TYPE_CHECKING:
    from tilus.runtime.ascend.engine import TwinRunner

SIDES = {"cube": "cube core", "vector": "vector cores"}


def explain(prepared: Any) -> str:
    """The programs of cores and the twin's report of a call, which runs on copies of its arrays. Raises UserError as
    the call would."""
    runner: TwinRunner = prepared.engine.make(prepared.specialisation)
    compiled = runner.compiled
    runner.run([_copied(a) if isinstance(a, ArrayArgument) else a for a in prepared.call.arguments])
    lines = [f"{compiled.name} on {prepared.engine.name}"]
    constants = ", ".join(f"{n}={v}" for n, v in prepared.specialisation.constants.items()
                          if isinstance(v, (int, float, str, DType)))
    lines.append(f"  constants: {constants or 'none'}")
    for kernel in compiled.lowered().kernels:
        lines += _program(kernel)
    lines.append(f"  local memory: {compiled.summary()}")
    exchanged = sum(a.size * a.dtype.itemsize for name in compiled.metadata["kernels"]
                    for a in compiled.arguments(name) if a.kind == "memory" and a.dtype is not None)
    if exchanged:
        lines.append(f"  global memory between the cores of a block: {exchanged:,} B")
    for name, report in zip(runner.launched, runner.reports, strict=True):
        first, *others = str(report).splitlines()
        lines += [f"  {name}, estimate for {first}", *(f"  {line}" for line in others)]
    if not runner.reports:
        lines.append("  the grid is empty: nothing is launched")
    return "\n".join(lines)


def _program(kernel: Function) -> Iterator[str]:
    sides = [op for op in kernel.body.ops if isinstance(op, Side)]
    cores = kernel.attributes.cores
    yield f"  {kernel.name}: {cores}"
    if not sides:
        yield from _side("cube core" if cores == "AIC_ONLY" else "vector core", kernel.body)
    for side in sides:
        yield from _side(SIDES[side.kind], side.body)


def _side(name: str, body: Block) -> Iterator[str]:
    """Calls as they are written, and what orders them; those of loops count once."""
    operations = list(body.walk())
    calls = Counter(op.form.split("(")[0].split("<")[0] for op in operations if isinstance(op, Call))
    yield f"    {name}: {', '.join(f'{n} {call}' for call, n in calls.most_common())}"
    flags: dict[str, set[int]] = defaultdict(set)
    for op in operations:
        if isinstance(op, (SetFlag, WaitFlag)):
            slots = 1 if op.slot is None else SLOTS
            flags[f"{op.source}_{op.target}"].update(range(op.number, op.number + slots))
    ordered = [f"{pair} {len(numbers)}" for pair, numbers in flags.items()]
    counted = Counter(op.pipe for op in operations if isinstance(op, PipeBarrier))
    barriers = ", ".join(f"{n} {pipe}" for pipe, n in counted.most_common())
    crossed = sum(isinstance(op, CrossSet) for op in operations)
    yield (f"      flags: {', '.join(ordered) or 'none'}; barriers: {barriers or 'none'}"
           + (f"; sets of cross-core flags: {crossed}" if crossed else ""))


def _copied(argument: ArrayArgument) -> ArrayArgument:
    """The array in other memory, with the same strides."""
    low, high = argument.extent_bytes()
    memory = np.empty(max(high - low, 1), np.uint8)
    if high > low:
        ctypes.memmove(memory.ctypes.data, argument.address + low, high - low)
    return ArrayArgument(memory, argument.kind, argument.dtype, memory.ctypes.data - low, argument.shape,
                         argument.strides, True, None, argument.format, argument.size)


__all__ = ["explain"]
