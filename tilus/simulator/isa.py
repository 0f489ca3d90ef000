"""The instruction table: each handler declares the instruction forms it executes.

A form is written like the headings of the PTX ISA: ``"mul mode:hi|lo t:u32|s32"`` stands for ``mul.{hi,lo}.{u32,s32}``;
``?sat`` is an optional modifier, ``?r:rn|rz`` an optional choice, ``=relu`` a fixed word. Whatever no form matches is
an unknown instruction.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tilus.diagnostics import Span, UserError

INT = "u16|u32|u64|s16|s32|s64"
BITS = "b16|b32|b64"
SCALAR = "b8|b16|b32|b64|u8|u16|u32|u64|s8|s16|s32|s64|f32|f64"
ROUND = "rn|rz|rm|rp"

Fields = dict[str, "str | None"]
Handler = Callable[..., Any]


@dataclass(frozen=True)
class Form:
    """One row of the table.

    Attributes:
        spec: the declaration as written.
        gate: how lanes meet before it: ``""``, ``"warp"`` (member lanes), ``"group"`` (four warps), ``"bar"`` or
            ``"cluster"``.
        writes: how many leading operands are destinations.
        kind: the counter class.
    """

    spec: str
    pattern: re.Pattern[str]
    handler: Handler
    gate: str
    writes: int
    kind: str


@dataclass
class Table:
    forms: dict[str, list[Form]] = field(default_factory=dict)

    def find(self, opcode: str) -> tuple[Form, Fields] | None:
        """The form of a dotted opcode with its named modifiers, or None."""
        for form in self.forms.get(opcode.split(".", 1)[0], ()):
            match = form.pattern.match(opcode)
            if match:
                return form, match.groupdict()
        ordered = _matrix_order(opcode) if opcode.startswith("mma.") else _memory_order(opcode)
        return self.find(ordered) if ordered != opcode else None

    def rows(self) -> list[str]:
        """Every instruction form in full, one for each choice of a type: the rows of the published table."""
        result = []
        for forms in self.forms.values():
            for form in forms:
                result.extend(_expand(form.spec))
        return sorted(set(result))


TABLE = Table()


_ORDER = ({"weak", "volatile", "relaxed", "acquire", "release", "acq_rel"}, {"cta", "cluster", "gpu", "sys"},
          {"global", "shared", "shared::cta", "shared::cluster"})


_TYPE, _VECTOR = re.compile(r"[busf]f?\d+(x2)?\Z"), re.compile(r"v[248]\Z")


def _memory_order(opcode: str) -> str:
    """ld, st, atom and red with semantics, scope and space first, in the ISA's order; ptxas takes them in any order.

    The type and vector of atom and red go last.
    """
    family, *words = opcode.split(".")
    if family not in ("ld", "st", "atom", "red"):
        return opcode
    front = [word for group in _ORDER for word in words if word in group]
    rest = [word for word in words if word not in front]
    if family in ("atom", "red"):
        rest.sort(key=lambda word: 2 if _TYPE.match(word) else 1 if _VECTOR.match(word) else 0)
    return ".".join([family, *front, *rest])


def _matrix_order(opcode: str) -> str:
    """mma with its kind and scaling behind the operands' layouts, in the ISA's order; ptxas takes them earlier too."""
    words = opcode.split(".")
    kind = [word for word in words if word.startswith(("kind::", "scale_vec::")) or word == "block_scale"]
    if not kind or "col" not in words:
        return opcode
    rest = [word for word in words if word not in kind]
    at = rest.index("col") + 1
    return ".".join([*rest[:at], *kind, *rest[at:]])


def instr(*specs: str, gate: str = "", writes: int = 1, kind: str = "alu") -> Callable[[Handler], Handler]:
    """Register a handler for instruction forms."""
    def register(handler: Handler) -> Handler:
        for spec in specs:
            family = spec.split()[0].split(".")[0]
            TABLE.forms.setdefault(family, []).append(Form(spec, _compile(spec), handler, gate, writes, kind))
        return handler

    return register


def _compile(spec: str) -> re.Pattern[str]:
    words = spec.split()
    pattern = re.escape(words[0])
    for word in words[1:]:
        optional = word.startswith("?")
        word = word.lstrip("?")
        if word.startswith("="):
            part = r"\." + re.escape(word[1:])
        else:
            name, _, choices = word.partition(":")
            options = "|".join(re.escape(c) for c in (choices or name).split("|"))
            part = rf"\.(?P<{name}>{options})"
        pattern += f"(?:{part})?" if optional else part
    return re.compile(pattern + r"\Z")


def _expand(spec: str) -> list[str]:
    rows = [spec.split()[0]]
    for word in spec.split()[1:]:
        optional = word.startswith("?")
        word = word.lstrip("?")
        name, _, choices = word.partition(":")
        options = (choices or name.lstrip("=")).split("|")
        if optional:
            rows = [f"{row}{{.{'|.'.join(options)}}}" for row in rows]
        else:
            rows = [f"{row}.{option}" for row in rows for option in options]
    return rows


def unknown(opcode: str, path: str, line: int) -> UserError:
    """The error for an instruction or modifier that the table lacks."""
    family = opcode.split(".", 1)[0]
    forms = TABLE.forms.get(family)
    if forms is None:
        message = f"unknown instruction {family!r} at line {line}"
        help_text = None
    else:
        message = f"unknown form {opcode!r} of {family!r} at line {line}"
        help_text = "known forms: " + "; ".join(form.spec for form in forms[:6])
    return UserError.at("E1002", message, Span(path, line), help=help_text)
