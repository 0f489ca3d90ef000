"""Takes single PTX statements apart: instructions with their operands, declarations and parameters."""

from __future__ import annotations

import functools
import re
import struct

from tilus.diagnostics import Span, UserError
from tilus.simulator.syntax import (
    TYPE_BITS,
    Address,
    Group,
    Instruction,
    Name,
    Number,
    Operand,
    Pair,
    RegisterRange,
    Statement,
    Variable,
    Vector,
)

_NUMBER = re.compile(
    r"[-+]?(?:0[fF][0-9a-fA-F]{8}|0[dD][0-9a-fA-F]{16}|0[xX][0-9a-fA-F]+U?|0[bB][01]+U?"
    r"|\d+\.\d*(?:[eE][-+]?\d+)?|\d+[eE][-+]?\d+|\d+U?)\Z")
_NAME = re.compile(r"(!?)(-?)\s*([A-Za-z_$%][\w$]*(?:\.(?:[xyzw]|[bh]\d{1,4})|::\w+)?)(?:\s*([-+])\s*(\w+))?\Z")
_HEAD = re.compile(r"(?:@(!?)\s*([%\w$]+)\s+)?([a-z][a-z0-9_]*(?:(?:::?|\.)\w+)*)\s*(.*);\Z", re.S)
_REGISTER = re.compile(r"([%A-Za-z_$][\w$]*)(?:<(\d+)>)?\Z")
_TYPE_WORD = re.compile(r"\.([a-z]\w*)")


class Where:
    """Names the file in errors about its statements."""

    def __init__(self, path: str) -> None:
        self.path = path

    def error(self, message: str, line: int, column: int = 0) -> UserError:
        return UserError.at("E1001", f"malformed PTX: {message} at line {line}", Span(self.path, line, column))


def instruction(text: str, line: int, where: Where) -> Instruction:
    """Parse ``@%p add.s32 %r1, %r2, 3;``."""
    head = _HEAD.match(text)
    if head is None:
        raise where.error(f"cannot read the instruction {_short(text)!r}", line)
    negated, predicate, opcode, rest = head.groups()
    if opcode.isdigit():
        raise where.error(f"unexpected token {opcode!r}", line)
    try:
        operands = _operand_list(rest) if rest else ()
    except ValueError as problem:
        raise where.error(f"unexpected token {_short(str(problem))!r} in {_short(text)!r}", line) from None
    guard = Name(predicate, 0, bool(negated)) if predicate else None
    return Instruction(opcode, operands, guard, line, text)


def unescaped(text: str) -> str:
    """The text that stands in quotes, in UTF-8 with its escapes: ``\\"``, ``\\303``."""
    data = re.sub(rb"\\([0-7]{3}|.)", lambda m: bytes([int(m[1], 8)]) if len(m[1]) == 3 else m[1], text.encode())
    return data.decode(errors="replace")


def _short(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= 80 else flat[:77] + "..."


def _operand_list(text: str) -> tuple[Operand, ...]:
    text = text.strip()
    if not text:
        return ()
    if "{" in text or "[" in text or "(" in text:
        return tuple([_operand(part) for part in _split(text)])
    return tuple([_operand(part.strip()) for part in text.split(",")])


def _split(text: str) -> list[str]:
    """Split at the commas outside of brackets."""
    parts: list[str] = []
    depth = start = 0
    for match in re.finditer(r"[\[\](){},]", text):
        char = match.group()
        if char == ",":
            if depth == 0:
                parts.append(text[start:match.start()].strip())
                start = match.end()
        elif char in "[({":
            depth += 1
        else:
            depth -= 1
            if depth < 0:
                raise ValueError(char)
    if depth:
        raise ValueError("end of statement")
    parts.append(text[start:].strip())
    return parts


@functools.lru_cache(maxsize=1 << 16)
def _operand(text: str) -> Operand:
    if not text:
        raise ValueError(",")
    first = text[0]
    if first == "[":
        return _address(text)
    if first == "{":
        if text[-1] != "}":
            raise ValueError(text)
        return Vector(_operand_list(text[1:-1]))
    if first == "(":
        if text[-1] != ")":
            raise ValueError(text)
        return Group(_operand_list(text[1:-1]))
    if "|" in text:
        left, _, right = text.partition("|")
        return Pair(_operand(left.strip()), _operand(right.strip()))
    if _NUMBER.match(text):
        return Number(number(text))
    match = _NAME.match(text)
    if match is None:
        raise ValueError(text)
    negated, minus, name, sign, amount = match.groups()
    offset = 0
    if sign:
        if not _NUMBER.match(amount):
            raise ValueError(amount)
        offset = int(number(amount)) * (-1 if sign == "-" else 1)
        if abs(offset) >= 1 << 62:
            raise ValueError(amount)
    return Name(name, offset, bool(negated), bool(minus))


def _address(text: str) -> Address:
    if text[-1] != "]":
        raise ValueError(text)
    parts = _split(text[1:-1].strip())
    base = parts[0]
    extra = tuple(_operand(part) for part in parts[1:])
    match = re.match(r"(.*?[\w$%])\s*\+\s*(-?\s*\w+)\Z", base) or re.match(r"(.*?[\w$%])\s*(-\s*\w+)\Z", base)
    offset = 0
    if match:
        amount = match.group(2).replace(" ", "")
        if not _NUMBER.match(amount):
            raise ValueError(amount)
        base, offset = match.group(1), int(number(amount))
    inner = _operand(base)
    if abs(offset) >= 1 << 62:
        raise ValueError(str(offset))
    if isinstance(inner, Name):
        if inner.negated or inner.minus:
            raise ValueError(base)
        return Address(Name(inner.text), offset + inner.offset, extra)
    if isinstance(inner, Number) and isinstance(inner.value, int) and abs(inner.value) < 1 << 62:
        return Address(inner, offset, extra)
    raise ValueError(base)


def number(text: str) -> int | float:
    """The value of a PTX literal: ``0f3F800000`` and ``0d...`` are bit patterns, ``017`` is octal."""
    sign = 1
    if len(text) > 400:
        raise ValueError(text)
    if text[0] in "+-":
        sign = -1 if text[0] == "-" else 1
        text = text[1:]
    prefix = text[:2].lower()
    if prefix == "0f" and len(text) == 10:
        return sign * float(struct.unpack(">f", bytes.fromhex(text[2:]))[0])
    if prefix == "0d" and len(text) == 18:
        return sign * float(struct.unpack(">d", bytes.fromhex(text[2:]))[0])
    text = text.rstrip("U")
    if prefix == "0x":
        return sign * int(text, 16)
    if prefix == "0b":
        return sign * int(text[2:], 2)
    if "." in text or "e" in text or "E" in text:
        return sign * float(text)
    if len(text) > 1 and text[0] == "0":
        if not set(text) <= set("01234567"):
            raise ValueError(text)
        return sign * int(text, 8)
    return sign * int(text)


def declaration(text: str, line: int, where: Where) -> list[Statement]:
    """Parse a ``.reg`` or variable declaration, one entry for each declared name."""
    body = text.rstrip().rstrip(";").strip()
    values: tuple[Operand, ...] = ()
    if "=" in body:
        body, _, initial = body.partition("=")
        values = _initial(initial.strip(), line, where)
    head, names = _declaration_head(body, line, where)
    space, kind, vector, align, extern = head
    result: list[Statement] = []
    for name in names:
        if space == "reg":
            match = _REGISTER.match(name)
            if match is None:
                raise where.error(f"unexpected token {name!r}", line)
            count = int(match.group(2)) if match.group(2) is not None else None
            if count is not None and count > 1 << 20:
                raise where.error(f"too many registers in {name!r}", line)
            result.append(RegisterRange(match.group(1), kind, vector, count, line))
        else:
            result.append(_variable(name, space, kind, vector, align, extern, values, line, where))
    return result


def _initial(text: str, line: int, where: Where) -> tuple[Operand, ...]:
    try:
        flat = text.replace("{", " ").replace("}", " ")
        flat = re.sub(r"\bgeneric\s*\(([^)]*)\)", r"\1", flat)
        flat = re.sub(r"0xFF[0-9A-F]*\(([^)]*)\)", r"\1", flat)
        return tuple(_operand(part.strip()) for part in flat.split(",") if part.strip())
    except ValueError as problem:
        raise where.error(f"unexpected token {str(problem)!r}", line) from None


def _declaration_head(text: str, line: int, where: Where
                      ) -> tuple[tuple[str, str, int, int, bool], list[str]]:
    """(space, type, vector, align, extern) and the declared names of a declaration without its values."""
    space, kind, vector, align, extern = "", "", 1, 0, False
    rest = text.strip()
    while rest.startswith("."):
        match = _TYPE_WORD.match(rest)
        if match is None:
            raise where.error(f"unexpected token {rest.split()[0]!r}", line)
        word, rest = match.group(1), rest[match.end():].lstrip()
        if word == "align":
            found = re.match(r"\d+", rest)
            if found is None:
                raise where.error("'.align' without a number", line)
            align, rest = int(found.group()), rest[found.end():].lstrip()
        elif word in ("v2", "v4", "v8"):
            vector = int(word[1:])
        elif word in TYPE_BITS:
            kind = word
        elif word in ("extern",):
            extern = True
        elif word in ("visible", "weak", "common", "ptr", "managed", "unified", "attribute"):
            pass
        elif word in ("reg", "local", "shared", "param", "const", "global", "tex") and not space:
            space = word
        elif word in ("global", "shared", "const", "local") and space == "param":
            pass
        else:
            raise where.error(f"unexpected token {'.' + word!r}", line)
        if word == "attribute" and rest.startswith("("):
            rest = rest[rest.find(")") + 1:].lstrip()
    if not kind or not rest:
        raise where.error(f"a declaration needs a type and a name: {_short(text)!r}", line)
    if align and align & (align - 1):
        raise where.error(f".align {align} is not a power of two", line)
    return (space, kind, vector, align, extern), [part.strip() for part in rest.split(",")]


def _variable(name: str, space: str, kind: str, vector: int, align: int, extern: bool,
              values: tuple[Operand, ...], line: int, where: Where) -> Variable:
    match = re.match(r"([%A-Za-z_$][\w$]*)\s*((?:\[\s*\w*\s*\]\s*)*)\Z", name)
    if match is None:
        ranged = _REGISTER.match(name)
        if ranged is None or ranged.group(2) is None:
            raise where.error(f"unexpected token {name!r}", line)
        raise where.error(f"variable ranges are not supported: {name!r}", line)
    count, is_array = 1, False
    for size in re.findall(r"\[\s*(\w*)\s*\]", match.group(2)):
        is_array = True
        if size and not _NUMBER.match(size):
            raise where.error(f"unexpected token {size!r}", line)
        extent = int(number(size)) if size else (len(values) if values else 0)
        count *= extent
    element = max(1, TYPE_BITS[kind] // 8) * vector
    if count * element > 1 << 31:
        raise where.error(f"{match.group(1)!r} is larger than 2 GiB", line)
    return Variable(match.group(1), space, kind, vector, count, align or element, line, values,
                    extern, is_array)


def parameter(text: str, line: int, where: Where) -> Variable:
    """Parse one entry of a parameter list (also of the ``.reg`` form of older ``.func``)."""
    head, names = _declaration_head(_drop_pointer_attributes(text), line, where)
    space, kind, vector, align, extern = head
    if len(names) != 1 or not names[0]:
        raise where.error(f"unexpected token {text!r}", line)
    return _variable(names[0], space, kind, vector, align, extern, (), line, where)


def _drop_pointer_attributes(text: str) -> str:
    """Without ``.ptr .global .align 16``, which describes the pointee."""
    return re.sub(r"\.ptr\b(\s*\.(global|shared|const|local|param))?(\s*\.align\s+\d+)?", " ", text)
