"""Reads layout expressions: products of elementary layouts, views of them, shared layouts, tensor-core operands."""

from __future__ import annotations

import linecache
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from tilus.diagnostics import Span, UserError
from tilus.layouts.blocked import blocked
from tilus.layouts.modes import Mode
from tilus.layouts.register import (
    RegisterLayout,
    column_local,
    column_spatial,
    local,
    replicated,
    spatial,
)
from tilus.layouts.shared import SharedLayout, column_major, row_major

if TYPE_CHECKING:
    from collections.abc import Callable

GRAMMAR = r"""
start: sum
?sum: sum "*" chain -> product
    | sum "/" chain -> quotient
    | chain
?chain: atom
    | chain "." NAME "(" [arguments] ")" -> method
    | chain "." NAME -> attribute
?atom: NAME "(" [arguments] ")" -> call
    | "(" sum ")"
arguments: argument ("," argument)* [","]
?argument: NAME "=" value -> named
    | value
?value: SHAPE -> word
    | DTYPE_WIDTH -> word
    | "(" [values] ")" -> sequence
    | "[" [values] "]" -> sequence
    | digit
values: value ("," value)* [","]
?digit: INT "@" INT ":" INT -> moving
    | INT ":" INT -> stride
    | "-" INT -> negative
    | INT -> number
SHAPE.2: /m\d+n\d+k\d+/
DTYPE_WIDTH.2: /(sparse|true|false)(?![A-Za-z_0-9])/
NAME: /[A-Za-z_]\w*/
INT: /\d+/
%import common.WS
%ignore WS
"""


def parse_layout(text: str, span: Span | None = None) -> RegisterLayout | SharedLayout:
    """The layout that an expression stands for; the inverse of ``str``.

    Constructors: ``spatial``, ``local``, ``column_spatial``, ``column_local`` (extents), ``replicated(n, rank=r)``,
    ``digits(shape, threads=[size@dim:stride, size], locals=[…])``; ``mma(m16n8k16, bits).a`` (``.b``, ``.c``);
    ``blocked(shape, num_threads, vector=1, order=…)``;
    ``row_major``, ``column_major``, ``shared(shape, strides=[…], base=0)``. Methods: the constructors (as products),
    ``permute``, ``transpose``, ``reshape``, ``reduce``, ``expand_dims``, ``squeeze``, ``slice``, ``with_replication``,
    ``broadcast``, ``tile_to``; on shared layouts ``swizzle(bits, base, shift)``, ``permute``, ``transpose``,
    ``slice``, ``reshape``, ``buffers``. ``*`` is the product, ``/`` the right division.

    Args:
        text: the expression.
        span: where it stands in a file; errors point there, else into the expression itself.

    Raises:
        UserError: E0402 for a malformed expression; E0403 or E0404 where an operation has no result.
    """
    import lark

    try:
        tree = _parser().parse(text)
    except lark.exceptions.UnexpectedInput as error:
        token = getattr(error, "token", None)
        at_end = isinstance(error, lark.exceptions.UnexpectedEOF) or getattr(token, "type", "") == "$END"
        begin = len(text) if at_end or error.pos_in_stream is None else error.pos_in_stream
        raise _fail(text, span, begin, begin + 1, "not expected here") from None
    reader = _Reader(text, span)
    result = reader.value(tree.children[0])
    if not isinstance(result, (RegisterLayout, SharedLayout)):
        raise _fail(text, span, 0, len(text), "this is no layout")
    return result


@lru_cache(maxsize=1)
def _parser() -> Any:
    import lark

    return lark.Lark(GRAMMAR, parser="lalr", propagate_positions=True, maybe_placeholders=False)


def _fail(text: str, span: Span | None, begin: int, end: int, what: str, help: str | None = None) -> UserError:
    if span is None or not span.known:
        lines = text.splitlines(keepends=True) or [" "]
        linecache.cache["<layout>"] = (len(text), None, lines, "<layout>")
        line = text.count("\n", 0, begin)
        column = begin - (text.rfind("\n", 0, begin) + 1)
        span = Span("<layout>", line + 1, column, line + 1, column + max(1, end - begin))
    return UserError.at("E0402", f"malformed layout expression: {text.strip()}", span, label=what, help=help)


_REGISTER: dict[str, Callable[..., Any]] = {
    "spatial": spatial, "local": local, "column_spatial": column_spatial, "column_local": column_local,
}
_SHARED: dict[str, Callable[..., Any]] = {"row_major": row_major, "column_major": column_major}
_PRODUCTS = {*_REGISTER, "replicated", "with_replication"}
_VIEWS = {"permute", "reshape", "broadcast", "tile_to"}
_ONE = {"reduce", "expand_dims", "squeeze"}


class _Reader:
    """Evaluates the syntax tree; every error knows the part of the text it is about."""

    def __init__(self, text: str, span: Span | None) -> None:
        self.text = text
        self.span = span

    def fail(self, node: Any, what: str, help: str | None = None) -> UserError:
        place = getattr(node, "meta", node)
        return _fail(self.text, self.span, place.start_pos, place.end_pos, what, help)

    def value(self, node: Any) -> Any:
        return getattr(self, f"on_{node.data}")(node)

    def on_number(self, node: Any) -> int:
        return int(node.children[0])

    def on_negative(self, node: Any) -> int:
        return -int(node.children[0])

    def on_word(self, node: Any) -> str:
        return str(node.children[0])

    def on_moving(self, node: Any) -> Mode:
        size, dim, stride = map(int, node.children)
        return Mode(size, dim, stride)

    def on_stride(self, node: Any) -> tuple[int, int]:
        size, stride = map(int, node.children)
        return size, stride

    def on_sequence(self, node: Any) -> tuple[Any, ...]:
        return tuple(self.value(child) for values in node.children for child in values.children)

    def on_product(self, node: Any) -> RegisterLayout:
        left, right = (self.register(child) for child in node.children)
        result: RegisterLayout = self.guard(node, lambda: left * right)
        return result

    def on_quotient(self, node: Any) -> RegisterLayout:
        left, right = (self.register(child) for child in node.children)
        result: RegisterLayout = self.guard(node, lambda: left / right)
        return result

    def register(self, node: Any) -> RegisterLayout:
        value = self.value(node)
        if not isinstance(value, RegisterLayout):
            raise self.fail(node, "a register layout is needed here")
        return value

    def guard(self, node: Any, action: Callable[[], Any]) -> Any:
        """Gives an error of the algebra the place in the expression, and one of the arguments a message."""
        try:
            return action()
        except UserError as error:
            first = error.diagnostics[0]
            if first.labels:
                raise
            place = self.fail(node, "").diagnostics[0].span
            raise UserError.at(first.code, first.message, place, help=first.help) from None
        except (TypeError, ValueError):
            raise self.fail(node, "wrong arguments") from None

    def arguments(self, node: Any) -> tuple[list[Any], dict[str, Any]]:
        positional: list[Any] = []
        named: dict[str, Any] = {}
        for group in node.children[1 if node.data == "call" else 2:]:
            for argument in group.children:
                if argument.data == "named":
                    named[str(argument.children[0])] = self.value(argument.children[1])
                else:
                    positional.append(self.value(argument))
        return positional, named

    def on_call(self, node: Any) -> Any:
        name = str(node.children[0])
        positional, named = self.arguments(node)
        known: dict[str, Callable[..., Any]] = {
            **_REGISTER, **_SHARED, "replicated": _replicated, "digits": _digits, "shared": _shared, "mma": _mma,
            "blocked": blocked,
        }
        make = known.get(name)
        if make is None:
            raise self.fail(node.children[0], "unknown layout", f"known: {', '.join(sorted(known))}")
        if name in _REGISTER or name in _SHARED:
            self.ints(node, positional)
        return self.guard(node, lambda: make(*positional, **named))

    def ints(self, node: Any, values: list[Any]) -> None:
        if not all(isinstance(value, int) for value in values):
            raise self.fail(node, "the arguments are extents")

    def on_attribute(self, node: Any) -> Any:
        value = self.value(node.children[0])
        name = str(node.children[1])
        if isinstance(value, (RegisterLayout, SharedLayout)) or name not in ("a", "b", "c"):
            raise self.fail(node.children[1], "unknown attribute")
        return getattr(value, name)

    def on_method(self, node: Any) -> Any:
        value = self.value(node.children[0])
        name = str(node.children[1])
        positional, named = self.arguments(node)
        if isinstance(value, RegisterLayout):
            allowed = _PRODUCTS | _VIEWS | _ONE | {"transpose", "slice"}
            target = name
        elif isinstance(value, SharedLayout):
            allowed = {"permute", "transpose", "slice", "reshape", "buffers", "swizzle", "drop", "expand_dims"}
            target = "with_swizzle" if name == "swizzle" else name
        else:
            raise self.fail(node.children[0], "this is no layout")
        if name not in allowed:
            raise self.fail(node.children[1], "unknown method", f"known: {', '.join(sorted(allowed))}")
        if name in _REGISTER:
            self.ints(node, positional)
        if name in _VIEWS and not (len(positional) == 1 and isinstance(positional[0], tuple)):
            positional = [tuple(positional)]
        result = self.guard(node, lambda: getattr(value, target)(*positional, **named))
        return result.layout if name == "slice" and isinstance(value, RegisterLayout) else result


def _replicated(num_threads: int, rank: int) -> RegisterLayout:
    return replicated(num_threads, rank)


def _digits(shape: tuple[int, ...], threads: tuple[Any, ...] = (), locals: tuple[Any, ...] = ()) -> RegisterLayout:
    modes = [[Mode(m, -1, 0) if isinstance(m, int) else m for m in group] for group in (threads, locals)]
    return RegisterLayout(shape, *modes)


def _shared(shape: tuple[int, ...], strides: tuple[Any, ...], base: int = 0) -> SharedLayout:
    return SharedLayout(shape, strides, base=base)


def _mma(shape: str, bits: int, sparse: str = "false") -> Any:
    from tilus.layouts.mma import fragments, parse_shape

    m, n, k = parse_shape(shape)
    return fragments(m, n, k, bits, sparse in ("sparse", "true"))
