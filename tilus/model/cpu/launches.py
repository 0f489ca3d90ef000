"""What a call launches: its launch function followed, with the call's addresses, extents, strides and scalars.

Addresses are replaced by ones that tell arrays apart (``ROOT_BITS``) and are aligned as the real ones are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tilus.ir.core import Block, Function, Value
from tilus.ir.ops import If, PtrLoad, PtrStore
from tilus.ir.ops.simd import CallPointer
from tilus.ir.ops.thread import Alloca
from tilus.ir.types import Type, ViewType
from tilus.lowering.cpu.state import (
    LONE_ATOMICS,
    RUNTIME_ALLOCATE,
    RUNTIME_RUN,
    RUNTIME_THREADS,
    RUNTIME_TICK,
    STATE_ALONE,
    STATE_ARGUMENTS,
    STATE_ATOMICS,
    STATE_CHUNK,
    STATE_GRID0,
    STATE_PARTS,
    STATE_TOGETHER,
    STATE_TOTAL,
)
from tilus.lowering.cpu.wide_blocks import SUFFIX
from tilus.model.cpu.analysis import ARRAYS, LOCAL, ROOT_BITS
from tilus.model.cpu.numbers import EVALUATE, Number
from tilus.records import record

PAGE, ALIGNMENT = 4096, 16
"""Bytes; arrays whose address is not known are as aligned as those of NumPy are."""
ARGUMENTS, RUNTIME, TICK = LOCAL, LOCAL + (1 << 20), LOCAL + (2 << 20)
FRAME = ARRAYS << ROOT_BITS
_FUNCTIONS = LOCAL + (3 << 20)


@record
class Launch:
    """Of one kernel: ``state`` is the address of the launch's state, whose words are in ``memory``. ``single``: it
    stays on one thread, since it is hardly more than atomics. ``together``: what counts as a block does what so many
    blocks of the kernel do, as its second version does. ``parts``: into how many of them cores divide a block."""

    kernel: str
    grid: tuple[int, int, int]
    chunk: int
    arguments: int
    state: int
    memory: dict[int, Number]
    single: bool
    together: int = 1
    parts: int = 1

    @property
    def function(self) -> str:
        """The name of the function of a block."""
        return f"block_{self.kernel}{SUFFIX if self.together > 1 else ''}"

    @property
    def blocks(self) -> int:
        a, b, c = self.grid
        return a * b * c


@record
class Memory:
    """Words by address, and how many bytes what begins at a root has."""

    words: dict[int, Number]
    sizes: dict[int, float]


def bind(types: Sequence[Type], arguments: Sequence[Any], threads: int) -> Memory:
    """The packed arguments of a call in memory, and the runtime's table: numbers, and arrays that have a ``shape`` and
    ``strides`` in elements, and perhaps an ``address``."""
    words: dict[int, Number] = {}
    sizes: dict[int, float] = {}
    at, root = ARGUMENTS, 0
    for type, argument in zip(types, arguments, strict=True):
        values = [argument]
        if isinstance(type, ViewType):
            root += 1
            sizes[root] = _bytes(type, argument)
            place = getattr(argument, "address", ALIGNMENT) % PAGE
            values = [(root << ROOT_BITS) + (1 << 36) + place, *argument.shape, *argument.strides]
        for value in values:
            words[at] = value
            at += 8
    for which in range(16):
        words[RUNTIME + 8 * which] = _FUNCTIONS + which
    words[RUNTIME + 8 * RUNTIME_THREADS] = threads
    words[RUNTIME + 8 * RUNTIME_TICK] = TICK
    words[TICK] = 0
    return Memory(words, sizes)


def _bytes(type: ViewType, array: Any) -> float:
    """From the first element of an array to the last one."""
    if 0 in array.shape:
        return 0.0
    elements = 1 + sum((n - 1) * abs(s) for n, s in zip(array.shape, array.strides, strict=True))
    return float(elements * type.dtype.packed_bits / 8)


class LaunchFunction:
    """The thread-level launch function, followed operation by operation."""

    def __init__(self, function: Function, memory: Memory) -> None:
        self.function, self.memory = function, memory
        self.env: dict[Value, Number] = dict(zip(function.body.args, (ARGUMENTS, RUNTIME), strict=True))
        self.launches: list[Launch] = []
        self.locals = LOCAL + (1 << 28)

    def run(self) -> list[Launch]:
        """The launches in order. One whose grid is not known, since the launch function calls for it, is left out."""
        self._block(self.function.body)
        return self.launches

    def _block(self, block: Block) -> None:
        env, words = self.env, self.memory.words
        for op in block.ops:
            kind = type(op)
            rule = EVALUATE.get(kind)
            if rule is not None:
                env[op.results[0]] = rule(op, [env.get(v) for v in op.operands])
            elif isinstance(op, PtrLoad):
                env[op.result] = words.get(env.get(op.pointer))  # type: ignore[arg-type]
            elif isinstance(op, PtrStore):
                words[env.get(op.pointer)] = env.get(op.value)  # type: ignore[index]
            elif isinstance(op, Alloca):
                env[op.result] = self.locals
                self.locals += 1 << 16
            elif isinstance(op, If):
                taken = op.orelse if env.get(op.condition) is False else op.then
                self._block(taken)
                env.update((r, env.get(v)) for r, v in zip(op.results, taken.terminator.operands, strict=True))
            elif isinstance(op, CallPointer):
                self._call(op)

    def _call(self, op: CallPointer) -> None:
        callee = self.env.get(op.callee)
        arguments = [self.env.get(v) for v in op.args]
        if callee == _FUNCTIONS + RUNTIME_ALLOCATE:
            root = len(self.memory.sizes) + 1
            self.memory.sizes[root] = arguments[0] or 0
            self.env[op.result] = (root << ROOT_BITS) + (1 << 36)
        elif callee == _FUNCTIONS + RUNTIME_RUN:
            self._launch(str(arguments[1]), arguments[2], single=arguments[5] == 0)

    def _launch(self, runner: str, state: Number, *, single: bool) -> None:
        words = self.memory.words

        def word(index: int) -> Number:
            return words.get(state + 8 * index)

        grid = [word(STATE_GRID0 + i) for i in range(3)]
        if any(g is None for g in grid) or word(STATE_TOTAL) is None:
            return
        if word(STATE_ATOMICS) == LONE_ATOMICS and (single or words[RUNTIME + 8 * RUNTIME_THREADS] == 1):
            words[state + 8 * STATE_ALONE] = 1
        together = max(1, word(STATE_TOGETHER) or 1)
        groups = (-(-grid[0] // together), grid[1], grid[2])
        self.launches.append(Launch(runner.removeprefix("run_"), groups, max(1, (word(STATE_CHUNK) or 1) // together),
                                    word(STATE_ARGUMENTS), state, words, single, together,
                                    max(1, word(STATE_PARTS) or 1)))


__all__ = ["FRAME", "Launch", "LaunchFunction", "Memory", "bind"]
