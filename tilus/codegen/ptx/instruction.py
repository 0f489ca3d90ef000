"""What both routes need to know of a PTX instruction."""

from __future__ import annotations

import enum
import functools
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from tilus.ir.core import Operation
from tilus.ir.dtypes import DType
from tilus.records import record


class Effects(enum.Enum):
    """What an instruction does beside giving its results."""

    NONE = "none"
    CONVERGENT = "convergent"  # the lanes of a warp execute it together: it stays where it is
    MEMORY = "memory"  # it reads or writes memory, or orders accesses


@record(frozen=True, slots=True)
class Registers:
    """An operand in registers.

    Attributes:
        name: ``$name`` in the instruction's text.
        kind: the class of each register, by the letter that CUDA C and LLVM have for it: ``b`` a predicate, ``h``
            16 bits, ``r`` 32 bits, ``f`` an f32, ``l`` 64 bits, ``d`` an f64.
        count: of the registers of a vector, which PTX writes in braces; 0 for one register without them.
        early: of results: they are written before all inputs are read, so that they share no register with one.
        negated: of a predicate: the instruction takes the opposite.
    """

    name: str
    kind: str
    count: int = 0
    early: bool = False
    negated: bool = False


@record(frozen=True, slots=True)
class Address:
    """An operand that is an address in ``space`` (``"shared"`` or ``"global"``), in brackets in the text; ``written``:
    the instruction writes there."""

    name: str
    space: str
    written: bool = False


@record(frozen=True, slots=True)
class Immediate:
    """An operand that is a number."""

    name: str
    value: int


Input = Registers | Address | Immediate


@record(frozen=True, slots=True, eq=False)
class Instruction:
    """A PTX instruction, or a few that belong together. Each is made once, so that it is compared by identity.

    Attributes:
        name: what it is called where it is a function.
        text: the PTX. ``$x`` stands for the operand named x, ``$x.0`` for its first register.
        results, inputs: its operands.
        accumulator: the input whose registers may be those of the result.
    """

    name: str
    text: str
    results: tuple[Registers, ...] = ()
    inputs: tuple[Input, ...] = ()
    effects: Effects = Effects.MEMORY
    accumulator: str = ""

    @property
    def registers(self) -> int:
        """How many registers the results take."""
        return sum(max(1, r.count) for r in self.results)

    def written(self, place: Callable[[str, int | None], str], percent: str = "%") -> str:
        """The text with operands put in: ``place(name, None)`` for a whole operand, ``place(name, i)`` for one of its
        registers. ``percent`` is how a percent sign is written."""
        text = self.text.replace("%", percent)
        return _OPERAND.sub(lambda m: place(m[1], None if m[2] is None else int(m[2])), text)


Described = Mapping[type[Operation], Callable[[Any], Instruction]]
"""How operations of a kind are described."""

_OPERAND = re.compile(r"\$(\w+)(?:\.(\d+)\b)?")
_ZEROS = {"f": "0f00000000", "d": "0d0000000000000000"}
_MOVES = {"h": "mov.b16", "r": "mov.b32", "f": "mov.f32", "l": "mov.b64", "d": "mov.f64"}


@functools.cache
def predicated(instruction: Instruction, other: bool = False) -> Instruction:
    """The instruction under a predicate (the input ``predicate``, behind the addresses). Where it is off, its results
    are ``other``, inputs of that name, or zeros."""
    moves, others = [], []
    for result in instruction.results:
        for i in range(max(1, result.count)):
            source = f"$other.{i}" if other else _ZEROS.get(result.kind, "0")
            moves.append(f"{_MOVES[result.kind]} ${result.name}.{i}, {source};")
        others.append(Registers("other", result.kind, result.count))
    addresses = [x for x in instruction.inputs if isinstance(x, Address)]
    inputs = [x for x in instruction.inputs if not isinstance(x, Address)]
    return replace(
        instruction, name=f"{instruction.name}_if", text=" ".join([*moves, f"@$predicate {instruction.text}"]),
        results=tuple(replace(r, early=True) for r in instruction.results),
        inputs=(*addresses, Registers("predicate", "b"), *(others if other else ()), *inputs))


def register_kind(dtype: DType, bits: bool = False) -> str:
    """The class of register for one element; ``bits`` for instructions that take floats as their bits."""
    if dtype.is_float and dtype.is_arithmetic and dtype.bits >= 32 and not bits:
        return "f" if dtype.bits == 32 else "d"
    return "h" if dtype.bits <= 16 else "r" if dtype.bits <= 32 else "l"
