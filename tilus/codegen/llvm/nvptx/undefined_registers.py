"""Registers that LLVM's PTX reads and never writes are set to 0.

Where every byte of a word is merged in, LLVM begins with a register that holds anything. The bytes that count do not
depend on it; setting it makes the PTX mean the same on every run, and costs nothing after ptxas.
"""

from __future__ import annotations

import re

_REGISTER = re.compile(r"%(?:rs|rd|r|f|fd|p)\d+\b")
_STATEMENT = re.compile(r"^\s*(?:@!?%p\d+\s+)?([a-z][\w.:]*)\s+([^;]*);", re.MULTILINE)
_DECLARATION = re.compile(r"^\s*\.reg \.\w+\s+%\w+<\d+>;\n", re.MULTILINE)
_MOVES = {"rs": "mov.b16", "r": "mov.b32", "rd": "mov.b64", "f": "mov.b32", "fd": "mov.b64"}


def define_registers(ptx: str) -> str:
    """The PTX with a move at the beginning of each function for every register that nothing writes."""
    functions = re.split(r"(?m)(?=^\.(?:visible )?\.?(?:entry|func)\b)", ptx)
    return "".join(map(_in_function, functions))


def _in_function(text: str) -> str:
    written: set[str] = set()
    for match in _STATEMENT.finditer(text):
        written.update(_REGISTER.findall(_destination(match[2])))
    never = [r for r in dict.fromkeys(_REGISTER.findall(text)) if r not in written and not r.startswith("%p")]
    declared = list(_DECLARATION.finditer(text))
    if not never or not declared:
        return text
    moves = [f"\t{_MOVES[r[1:].rstrip('0123456789')]} \t{r}, 0;\n" for r in never]
    at = declared[-1].end()
    return text[:at] + "".join(moves) + text[at:]


def _destination(operands: str) -> str:
    """The first operand: a register, two joined by ``|``, or a vector in braces; nothing where it is an address."""
    first = operands.lstrip()
    if first.startswith("{"):
        return first[: first.find("}") + 1]
    return "" if first.startswith("[") else first.split(",", 1)[0]
