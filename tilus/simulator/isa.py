"""The instruction table: each handler declares the instruction forms it executes.

A form is written like the headings of the PTX ISA: ``"mul mode:hi|lo t:u32|s32"`` stands for ``mul.{hi,lo}.{u32,s32}``;
``?sat`` is an optional modifier, ``?r:rn|rz`` an optional choice, ``=relu`` a fixed word. Whatever no form matches is
an unknown instruction.
"""

from __future__ import annotations

import functools
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
    handler: Handler
    gate: str
    writes: int
    kind: str

    @functools.cached_property
    def pattern(self) -> re.Pattern[str]:
        """What opcodes of this form look like; compiled where an instruction of its family is first met."""
        return _compile(self.spec)


@dataclass(frozen=True)
class _Slot:
    """A place for a modifier in a form."""

    choices: tuple[str, ...]
    optional: bool


# Words that ptxas takes for a part of an instruction's name, and modifiers that forms have in theirs.
_PINNED = {
    "bar": {"cta", "red", "sync", "arrive"}, "barrier": {"cta", "red", "sync", "arrive"}, "cvt": {"pack"},
    "createpolicy": {"fractional", "range", "cvt"}, "cvta": {"to"}, "div": {"full"}, "dp2a": {"lo", "hi"},
    "mad": {"lo", "hi", "wide"}, "mad24": {"lo", "hi"}, "madc": {"lo", "hi"}, "mbarrier": {"parity"},
    "mul": {"lo", "hi", "wide"}, "mul24": {"lo", "hi"}, "setmaxnreg": {"inc", "dec"}, "shf": {"l", "r"},
}
_NAME = -2
_MOVABLE = {"sp", "sp::ordered_metadata"}
_TYPE = re.compile(r"(pred|tf32|bf16|[busf]\d+|u?e\d+m\d+)(x\d+)?\Z")
_CLASSES = {word: number for number, words in enumerate((
    ("global", "shared", "shared::cta", "shared::cluster"), ("row", "col"), ("and", "or", "xor", "popc"),
    ("b8x16", "b6x16_p32", "b4x16_p64"))) for word in words}


def class_of(word: str) -> int | None:
    """Words of one class keep their order, such as the types of the result and of the operands; None: any order."""
    return _CLASSES.get(word, -1 if _TYPE.match(word) else None)


@functools.lru_cache(maxsize=1024)
def _slots(spec: str) -> tuple[list[str], tuple[_Slot, ...]]:
    """The words of a form's name, and the places of its modifiers."""
    head, *words = spec.split()
    slots = [_Slot((word,), False) for word in head.split(".") if word in _MOVABLE]
    for word in words:
        field_name, _, choices = word.lstrip("?").partition(":")
        options = [word[1:]] if word.startswith("=") else (choices or field_name).split("|")
        slots.append(_Slot(tuple(options), word.startswith("?")))
    return [word for word in head.split(".") if word not in _MOVABLE], tuple(slots)


def _in_order(spec: str, words: list[str]) -> str | None:
    """The words of an opcode in the order of a form, or None where they do not fit it.

    The name comes first. Each modifier goes to the first free place that takes it, behind those of its class.
    """
    name, slots = _slots(spec)
    if words[:len(name)] != name:
        return None
    part_of_name = _PINNED.get(name[0], set())
    pinned = [word in part_of_name for word in words[len(name):]]
    if sorted(pinned, reverse=True) != pinned:
        return None
    found: dict[int, str] = {}
    last: dict[int, int] = {}
    for word in words[len(name):]:
        kind = _NAME if word in part_of_name else class_of(word)
        least = -1 if kind is None else last.get(kind, -1)
        place = next((i for i, slot in enumerate(slots) if i > least and i not in found and word in slot.choices), None)
        if place is None:
            return None
        found[place] = word
        if kind is not None:
            last[kind] = place
    if any(not slot.optional and i not in found for i, slot in enumerate(slots)):
        return None
    moved = [word for word in spec.split()[0].split(".") if word in _MOVABLE]
    rest = [found[place] for place in sorted(found) if place >= len(moved)]
    return ".".join([spec.split()[0], *rest])


@dataclass
class Table:
    forms: dict[str, list[Form]] = field(default_factory=dict)

    def find(self, opcode: str) -> tuple[Form, Fields] | None:
        """The form of a dotted opcode with its named modifiers, or None."""
        forms = self.forms.get(opcode.split(".", 1)[0], ())
        for form in forms:
            match = form.pattern.match(opcode)
            if match:
                return form, match.groupdict()
        ordered = self.ordered(opcode)
        return self.find(ordered) if ordered not in (None, opcode) else None

    def ordered(self, opcode: str) -> str | None:
        """The opcode with its modifiers in the order of its form, whatever order ptxas takes them in; None: no form."""
        words = opcode.split(".")
        for form in self.forms.get(words[0], ()):
            if form.pattern.match(opcode):
                return opcode
        for form in self.forms.get(words[0], ()):
            ordered = _in_order(form.spec, words)
            if ordered is not None:
                return ordered
        return None

    def rows(self) -> list[str]:
        """Every instruction form in full, one for each choice of a type: the rows of the published table."""
        result = []
        for forms in self.forms.values():
            for form in forms:
                result.extend(_expand(form.spec))
        return sorted(set(result))


TABLE = Table()


def instr(*specs: str, gate: str = "", writes: int = 1, kind: str = "alu") -> Callable[[Handler], Handler]:
    """Register a handler for instruction forms."""
    def register(handler: Handler) -> Handler:
        for spec in specs:
            family = spec.split()[0].split(".")[0]
            TABLE.forms.setdefault(family, []).append(Form(spec, handler, gate, writes, kind))
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
