"""C expressions with just the parentheses that they need."""

from __future__ import annotations

_ATOM, _UNARY, _TERNARY = 20, 15, 1
_LEVELS = {
    "*": 13, "/": 13, "%": 13, "+": 12, "-": 12, "<<": 11, ">>": 11, "<": 10, "<=": 10, ">": 10, ">=": 10, "==": 9,
    "!=": 9, "&": 8, "^": 7, "|": 6, "&&": 5, "||": 4,
}
_BITWISE = frozenset({"<<", ">>", "&", "^", "|"})
_ASSOCIATIVE = frozenset({"&", "^", "|"})


class Compound(str):
    """An expression that is more than a name, a literal or a call."""

    level: int
    """How tightly its outermost operator binds."""
    inner: str
    """Of a cast what is cast, else nothing."""
    operator: str
    wraps = False
    """Whether it is a cast of an unsigned expression to the signed type."""


def _compound(text: str, level: int, operator: str = "", inner: str = "") -> Compound:
    made = Compound(text)
    made.level, made.operator, made.inner = level, operator, inner
    return made


def _within(x: str, level: int) -> str:
    """An operand of an operator that binds with ``level``."""
    return f"({x})" if isinstance(x, Compound) and x.level < level else x


def infix(operator: str, x: str, y: str) -> str:
    """``x OPERATOR y``. Bitwise operators take parentheses around whatever is no name or of the same kind: nobody
    remembers how tightly they bind."""
    level = _LEVELS[operator]
    if operator in _BITWISE:
        left, right = (o if isinstance(o, Compound) and operator in _ASSOCIATIVE and o.operator == operator
                       else _within(o, _UNARY) for o in (x, y))
        return _compound(f"{left} {operator} {right}", level, operator)
    return _compound(f"{_within(x, level)} {operator} {_within(y, level + 1)}", level, operator)


def prefix(operator: str, x: str) -> str:
    """``OPERATOR x``."""
    operand = _within(x, _UNARY)
    return _compound(f"{operator}{'(' + operand + ')' if operand.startswith(operator) else operand}", _UNARY)


def cast(ctype: str, x: str) -> str:
    """``(ctype)x``."""
    if isinstance(x, Compound) and x.inner and x.operator == ctype:
        return x
    return _compound(f"({ctype}){_within(x, _UNARY)}", _UNARY, ctype, x)


def wrapping(operator: str, ctype: str, unsigned: str, x: str, y: str) -> str:
    """``x OPERATOR y`` of a signed type, in the unsigned one, which wraps."""
    inner = x.inner if isinstance(x, Compound) and x.wraps else cast(unsigned, x)
    made = cast(ctype, infix(operator, inner, y))
    assert isinstance(made, Compound)
    made.wraps = True
    return made


def choice(condition: str, x: str, y: str) -> str:
    """``condition ? x : y``."""
    parts = [_within(o, _TERNARY + 1) for o in (condition, x)]
    return _compound(f"{parts[0]} ? {parts[1]} : {_within(y, _TERNARY)}", _TERNARY)


def assigned(x: str, ctype: str) -> str:
    """An expression as it is assigned to a variable of a type: without a cast to it."""
    return x.inner if isinstance(x, Compound) and x.inner and x.operator == ctype else x
