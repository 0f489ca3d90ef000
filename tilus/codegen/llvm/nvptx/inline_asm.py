"""PTX instructions as calls of inline assembly in LLVM IR."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence

from tilus.codegen.llvm.text import Emitter
from tilus.codegen.ptx.instruction import Address, Effects, Immediate, Instruction, Registers
from tilus.records import record

SPACES = {"global": "addrspace(1)", "shared": "addrspace(3)"}
REGISTER_TYPES = {"b": "i1", "h": "i16", "r": "i32", "f": "float", "l": "i64", "d": "double"}
"""The LLVM type of each class of register."""


@record(frozen=True, slots=True)
class _Call:
    """The text of a call without its operands; ``inputs`` are the names of those and their type."""

    begin: str
    end: str
    result: str
    inputs: tuple[tuple[str, str], ...]


def emit(e: Emitter, instruction: Instruction, operands: Mapping[str, Sequence[str]]) -> list[str]:
    """Emit an instruction on operands of the types of its registers; gives its results' registers."""
    call = _call(instruction)
    text = call.begin + ", ".join(f"{t} {v}" for name, t in call.inputs for v in operands[name]) + call.end
    if not instruction.results:
        e.do(text)
        return []
    value = e.op(text)
    if instruction.registers == 1:
        return [value]
    return [e.op(f"extractvalue {call.result} {value}, {i}") for i in range(instruction.registers)]


@functools.cache
def _call(instruction: Instruction) -> _Call:
    outputs = [r for r in instruction.results for _ in range(max(1, r.count))]
    types = [REGISTER_TYPES[r.kind] for r in outputs]
    result = "void" if not types else types[0] if len(types) == 1 else "{ " + ", ".join(types) + " }"
    constraints = [f"={'&' if r.early else ''}{r.kind}" for r in outputs]
    inputs = []
    for operand in instruction.inputs:
        if isinstance(operand, Address):
            constraints.append("r" if operand.space == "shared" else "l")
            inputs.append((operand.name, f"ptr {SPACES[operand.space]}"))
        elif isinstance(operand, Registers):
            constraints += [operand.kind] * max(1, operand.count)
            inputs.append((operand.name, REGISTER_TYPES[operand.kind]))
    if instruction.effects is Effects.MEMORY:
        constraints.append("~{memory}")
    pure = instruction.effects is Effects.NONE
    begin = f"call {result} asm {'' if pure else 'sideeffect '}\"{_text(instruction)}\", \"{','.join(constraints)}\"("
    return _Call(begin, f") {'#1' if pure else '#0'}", result, tuple(inputs))


def _text(instruction: Instruction) -> str:
    """The text with numbers for operands: results first, then inputs."""
    numbers: dict[str, int] = {}
    at = 0
    for operand in (*instruction.results, *instruction.inputs):
        if not isinstance(operand, Immediate):
            numbers[operand.name] = at
            at += max(1, operand.count) if isinstance(operand, Registers) else 1
    known = {o.name: o for o in (*instruction.results, *instruction.inputs)}

    def place(name: str, index: int | None) -> str:
        operand = known[name]
        if isinstance(operand, Immediate):
            return str(operand.value)
        if index is None and isinstance(operand, Registers) and operand.count:
            return "{" + ", ".join(f"${numbers[name] + i}" for i in range(operand.count)) + "}"
        return f"${numbers[name] + (index or 0)}"

    return instruction.written(place)


def pinned(e: Emitter, kind: str, pointer: str) -> str:
    """The same pointer, of unknown origin: LLVM would take a pointer that walks with a loop apart again."""
    return e.op(f'call {kind} asm "mov.b64 $0, $1;", "=l,l"({kind} {pointer}) #1')


def kept(e: Emitter, kind: str, register: str, value: str) -> str:
    """The value by way of an empty statement, which LLVM does not move; ``register`` is the class of its type."""
    return e.op(f'call {kind} asm sideeffect "", "={register},0"({kind} {value}) #0')
