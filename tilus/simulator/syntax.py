"""The syntax tree of a PTX module: what the parser makes and the decoder reads."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Name:
    """A register, variable, label or special register, with an optional constant offset (``table+16``).

    ``negated`` marks ``!%p``, ``minus`` marks ``-%r``.
    """

    text: str
    offset: int = 0
    negated: bool = False
    minus: bool = False


@dataclass(frozen=True, slots=True)
class Number:
    """A literal: ``value`` is an int, or a float for ``0f``, ``0d`` and decimal floating literals."""

    value: int | float


@dataclass(frozen=True, slots=True)
class Address:
    """``[base+offset]``; ``extra`` holds further operands inside the brackets (tensor coordinates)."""

    base: Name | Number
    offset: int = 0
    extra: tuple[Operand, ...] = ()


@dataclass(frozen=True, slots=True)
class Vector:
    """``{a, b, c}``."""

    items: tuple[Operand, ...]


@dataclass(frozen=True, slots=True)
class Pair:
    """``d|p``: a destination with a second, predicate (or data) destination."""

    first: Operand
    second: Operand


@dataclass(frozen=True, slots=True)
class Group:
    """``(a, b)``: the argument and result lists of a call."""

    items: tuple[Operand, ...]


Operand: TypeAlias = "Name | Number | Address | Vector | Pair | Group"


@dataclass(slots=True)
class Instruction:
    """One instruction: ``opcode`` is the full dotted text (``mul.wide.u32``)."""

    opcode: str
    operands: tuple[Operand, ...]
    predicate: Name | None
    line: int
    text: str

    @property
    def family(self) -> str:
        return self.opcode.split(".", 1)[0]


@dataclass(slots=True)
class Label:
    name: str
    line: int


@dataclass(slots=True)
class Variable:
    """A declared variable or parameter; ``count`` elements of ``type`` (0: of unknown size, extern)."""

    name: str
    space: str
    type: str
    vector: int
    count: int
    align: int
    line: int
    values: tuple[Operand, ...] = ()
    extern: bool = False
    is_array: bool = False

    @property
    def element_bytes(self) -> int:
        return max(1, type_bits(self.type) // 8) * self.vector

    @property
    def bytes(self) -> int:
        return self.element_bytes * self.count


@dataclass(slots=True)
class RegisterRange:
    """``.reg .b32 %r<4>;``: ``count`` registers, or one where ``count`` is None."""

    name: str
    type: str
    vector: int
    count: int | None
    line: int


@dataclass(slots=True)
class Targets:
    """A label with the list of a ``.branchtargets``, ``.calltargets`` or a ``.callprototype``."""

    kind: str
    names: tuple[str, ...]
    line: int


@dataclass(slots=True)
class Location:
    """``.loc``: the source place of the instructions that follow, in the numbers of ``.file``; ``inlined_at`` is the
    place that called the function which it is in."""

    place: tuple[int, int, int]
    line: int
    inlined_at: tuple[int, int, int] | None = None


@dataclass(slots=True)
class Scope:
    """``{ ... }`` inside a function body."""

    body: list[Statement]
    line: int


Statement: TypeAlias = "Instruction | Label | Variable | RegisterRange | Targets | Location | Scope"


@dataclass(slots=True)
class Function:
    name: str
    is_entry: bool
    params: list[Variable]
    results: list[Variable]
    attributes: dict[str, tuple[int, ...]]
    body: list[Statement] | None
    line: int


@dataclass(slots=True)
class Module:
    """A parsed PTX module; ``lines`` are the source lines, for messages."""

    version: tuple[int, int]
    target: tuple[str, ...]
    address_size: int
    functions: dict[str, Function] = field(default_factory=dict)
    variables: dict[str, Variable] = field(default_factory=dict)
    files: dict[int, str] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)
    path: str = "<ptx>"


TYPE_BITS: dict[str, int] = {
    "pred": 1, "b1": 1, "b4": 4, "u4": 4, "s4": 4,
    "b8": 8, "u8": 8, "s8": 8, "e4m3": 8, "e5m2": 8, "ue8m0": 8,
    "b16": 16, "u16": 16, "s16": 16, "f16": 16, "bf16": 16,
    "b32": 32, "u32": 32, "s32": 32, "f32": 32, "f16x2": 32, "bf16x2": 32, "tf32": 32,
    "u16x2": 32, "s16x2": 32, "e4m3x4": 32, "e5m2x4": 32,
    "b64": 64, "u64": 64, "s64": 64, "f64": 64, "f32x2": 64,
    "b128": 128,
    "texref": 64, "surfref": 64, "samplerref": 64,
}


def type_bits(name: str) -> int:
    """Width of a PTX fundamental type in bits."""
    return TYPE_BITS[name]
