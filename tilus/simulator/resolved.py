"""What the decoder gives: operands with their names resolved, operations, and an entry function as a list of them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

from tilus.simulator.isa import Fields, Form
from tilus.simulator.layout import Placement
from tilus.simulator.syntax import Function, Variable


@dataclass(frozen=True, slots=True)
class Reg:
    """A register of a width class (1, 16, 32, 64 or 128 bits), unique in the program."""

    bits: int
    index: int
    name: str
    type: str
    negated: bool = False
    minus: bool = False


@dataclass(frozen=True, slots=True)
class Const:
    value: int | float


@dataclass(frozen=True, slots=True)
class Symbol:
    """The address of a variable: ``space`` is global, const, shared, dynamic, local, param, or frame.

    ``frame`` is local memory from the frame of the running recursive function on. ``formal``: it is a parameter of a
    function, whose address code may take for ``ld.param``.
    """

    name: str
    space: str
    address: int
    formal: bool = False


@dataclass(frozen=True, slots=True)
class Special:
    name: str


@dataclass(frozen=True, slots=True)
class Mem:
    base: Reg | Const | Symbol
    offset: int
    extra: tuple[Resolved, ...] = ()


@dataclass(frozen=True, slots=True)
class Part:
    """Bytes or halves of a register, as video instructions name them: ``b0``, ``h1``, ``b3210``."""

    reg: Reg
    selector: str


@dataclass(frozen=True, slots=True)
class Vec:
    items: tuple[Resolved, ...]


@dataclass(frozen=True, slots=True)
class Both:
    first: Resolved
    second: Resolved


@dataclass(frozen=True, slots=True)
class Sink:
    """``_``: a destination that is thrown away, or an absent operand."""


Resolved: TypeAlias = "Reg | Const | Symbol | Special | Mem | Vec | Both | Part | Sink"


class Place(NamedTuple):
    """A place in a source file; ``column`` counts from 1 and is 0 where it is not known."""

    file: str
    line: int
    column: int = 0


@dataclass(slots=True)
class Op:
    """One operation ready to be bound: the table's form, its modifiers and resolved operands. ``source`` is its place,
    then the places that called the function it is in, and that one, as far as they are known."""

    opcode: str
    form: Form | None
    fields: Fields
    operands: tuple[Resolved, ...]
    predicate: Reg | None
    line: int
    source: tuple[Place, ...]
    targets: tuple[str, ...] = ()
    data: object = None


@dataclass(slots=True)
class Routine:
    """A recursive function: one piece of code, with frames in local memory.

    ``places`` has the offset in the frame of each parameter and result, ``registers`` what a call made in it must keep.
    """

    function: Function
    entry: str
    frame_bytes: int = 0
    places: dict[str, int] = field(default_factory=dict)
    registers: list[tuple[int, int]] = field(default_factory=list)
    returns: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.function.name


@dataclass(frozen=True, slots=True)
class StackCall:
    """A call of a recursive function; arguments and results are (caller's variable, offset in the frame, bytes)."""

    number: int
    caller: Routine | None
    callee: Routine
    frame: Reg
    back: Reg
    arguments: tuple[tuple[Symbol, int, int], ...]
    results: tuple[tuple[Symbol, int, int], ...]


def readable(name: str) -> str:
    """The last part of a name of C++: ``tile`` for ``_ZZ1kE4tile``; other names as they are."""
    if not name.startswith("_Z"):
        return name
    last, at = name, 2
    while at < len(name):
        found = re.compile(r"\d+").match(name, at)
        if found is None or found.end() + int(found[0]) > len(name):
            at += 1
            continue
        at = found.end() + int(found[0])
        last = name[found.end():at]
    return last


@dataclass(slots=True)
class Decoded:
    """An entry function as flat operations; ``labels`` map to positions in ``ops``."""

    name: str
    ops: list[Op] = field(default_factory=list)
    labels: dict[str, int] = field(default_factory=dict)
    registers: dict[int, list[str]] = field(default_factory=dict)
    params: list[tuple[Variable, int]] = field(default_factory=list)
    param_bytes: int = 0
    shared_bytes: int = 0
    shared_variables: list[tuple[int, int, str]] = field(default_factory=list)
    dynamic_shared: bool = False
    dynamic_align: int = 16
    local_bytes: int = 0
    attributes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    placement: Placement = field(default_factory=Placement)
    routines: dict[str, Routine] = field(default_factory=dict)

    def describe_shared(self, address: int, dynamic_base: int) -> str:
        """``byte 8 of tile, `` for an address in shared memory; nothing where no variable is there."""
        for start, size, name in self.shared_variables:
            if start <= address < start + size:
                return f"byte {address - start} of {readable(name)}, "
        return f"byte {address - dynamic_base} of the dynamic memory, " \
            if self.dynamic_shared and address >= dynamic_base else ""

    @property
    def uses_reserved_shared(self) -> bool:
        """Whether the kernel uses the shared memory that the system reserves."""
        return any(isinstance(item, Special) and item.name.startswith("%reserved_smem") for op in self.ops
                   for item in op.operands)

    @property
    def uses_stack(self) -> bool:
        """Whether a thread needs local memory whose size is not known: for recursive functions or ``alloca``."""
        return bool(self.routines) or any(op.opcode.startswith("alloca") for op in self.ops)
