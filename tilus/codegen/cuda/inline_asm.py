"""PTX instructions as device functions of CUDA C with inline assembly."""

from __future__ import annotations

import functools
from collections.abc import Iterator

from tilus.codegen.cuda.wrapping import wrapped
from tilus.codegen.ptx.instruction import Address, Effects, Immediate, Input, Instruction, Registers

REGISTER_TYPES = {"b": "bool", "h": "unsigned short", "r": "unsigned", "f": "float", "l": "unsigned long long",
                  "d": "double"}
"""The C type of each class of register."""
_LINE = 110


@functools.cache
def device_function(instruction: Instruction, ctype: str) -> str:
    """The function of an instruction. It returns the register of its result; several are references, behind which come
    the operands, in order. ``ctype`` is the C type of a result's register.

    Immediates are template parameters, as is the constant part of an address in shared memory: left to itself, the
    compiler keeps the sums in registers. A result that accumulates is changed in place: NVRTC takes long over more
    operands."""
    templates, parameters, inputs = [], [], []
    returns = instruction.registers == 1
    if not returns:
        parameters += [f"{ctype}& {name}" for r in instruction.results for name in _names(r)]
    for operand in instruction.inputs:
        if isinstance(operand, Immediate):
            templates.append(f"int {operand.name.upper()}")
            inputs.append(f'"n"({operand.name.upper()})')
        elif isinstance(operand, Address):
            parameters.append(_address_parameter(operand))
            inputs += _address_inputs(operand)
            if operand.space == "shared":
                templates.append("int AT")
        elif operand.name != instruction.accumulator:
            parameters += [f"{REGISTER_TYPES[operand.kind]} {name}" for name in _names(operand)]
            inputs += [f'"{_constraint(operand)}"({_input(operand, name)})' for name in _names(operand)]
    sign = "+" if instruction.accumulator else "="
    outputs = [f'"{sign}{r.kind}"({name})' for r in instruction.results for name in _names(r)]
    head = f"template <{', '.join(templates)}>\n" if templates else ""
    kind = ctype if returns else "void"
    declaration = f"__device__ __forceinline__ {kind} {instruction.name}({', '.join(parameters)}) {{"
    head += "".join(f"{line}\n" for line in wrapped("", declaration))
    volatile = "" if instruction.effects is Effects.NONE else " volatile"
    body = [f"  {ctype} result;\n"] if returns else []
    clobbers = ['"memory"'] if instruction.effects is Effects.MEMORY else []
    body.append(f"  {_statement(f'asm{volatile}', _text(instruction), [outputs, inputs, clobbers])}\n")
    if returns:
        body.append("  return result;\n")
    return head + "".join(body) + "}"


def _statement(word: str, text: str, lists: list[list[str]]) -> str:
    """An ``asm`` statement, on two lines where it is long."""
    while lists and not lists[-1]:
        lists.pop()
    tail = "".join(f": {', '.join(part)} " if part else ":" for part in lists).rstrip()
    begin = f'{word}("{text}"'
    if len(begin) + len(tail) < _LINE:
        return f"{begin} {tail});" if tail else f"{begin});"
    return f"{begin}\n{' ' * (len(word) + 3)}{tail});"


def _names(operand: Registers) -> list[str]:
    return [f"{operand.name}{i}" for i in range(operand.count)] if operand.count > 1 else [operand.name]


def _constraint(operand: Registers) -> str:
    return "r" if operand.kind == "b" else operand.kind


def _input(operand: Registers, name: str) -> str:
    return f"(unsigned){name}" if operand.kind == "b" else name


def _address_parameter(operand: Address) -> str:
    if operand.space == "shared":
        return f"unsigned {operand.name}"
    return f"{'' if operand.written else 'const '}void* {operand.name}"


def _address_inputs(operand: Address) -> Iterator[str]:
    if operand.space == "shared":
        yield f'"r"({operand.name})'
        yield '"n"(AT)'
    else:
        yield f'"l"(__cvta_generic_to_global({operand.name}))'


def _text(instruction: Instruction) -> str:
    """The text with numbers for operands: results first, then inputs. C has no class of predicates: they come as
    numbers."""
    numbers: dict[str, int] = {}
    at = 0
    known: dict[str, Input] = {o.name: o for o in (*instruction.results, *instruction.inputs)}
    for name, operand in known.items():
        if name == instruction.accumulator:
            numbers[name] = numbers["result"]
            continue
        numbers[name] = at
        at += max(1, operand.count) if isinstance(operand, Registers) else 2 if _is_shared(operand) else 1

    def place(name: str, index: int | None) -> str:
        operand, number = known[name], numbers[name]
        if _is_shared(operand):
            return f"%{number} + %{number + 1}"
        if isinstance(operand, Registers) and operand.kind == "b":
            return name
        if isinstance(operand, Registers) and operand.count and index is None:
            return "{" + ", ".join(f"%{number + i}" for i in range(operand.count)) + "}"
        return f"%{number + (index or 0)}"

    text = instruction.written(place, percent="%%")
    predicates = [o for o in instruction.inputs if isinstance(o, Registers) and o.kind == "b"]
    if not predicates:
        return text
    tests = "".join(f".reg .pred {p.name}; setp.{'eq' if p.negated else 'ne'}.b32 {p.name}, %{numbers[p.name]}, 0; "
                    for p in predicates)
    return f"{{ {tests}{text} }}"


def _is_shared(operand: Input) -> bool:
    return isinstance(operand, Address) and operand.space == "shared"
