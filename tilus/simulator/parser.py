"""Parses PTX text into a :class:`~tilus.simulator.syntax.Module`.

A small LALR grammar holds the structure of modules, functions and scopes; each statement is one token, which
:mod:`tilus.simulator.statements` takes apart, so that a file of thousands of instructions parses in a fraction
of a second.
"""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING, Any

from tilus.diagnostics import Span, UserError
from tilus.simulator import statements
from tilus.simulator.syntax import Function, Label, Location, Module, RegisterRange, Scope, Statement, Targets, Variable

if TYPE_CHECKING:
    from lark import Lark, Token, Tree

GRAMMAR = r"""
start: item*
item: VERSION | TARGET | ADDRESS_SIZE | FILE | LOC | PRAGMA | ALIAS | SECTION | DECLARATION | function

function: LINKAGE* FUNCTION_KIND [parameters] NAME [parameters] attribute* (body | ";")
parameters: "(" [PARAMETER ("," PARAMETER)*] ")"
attribute: (ATTRIBUTE | CLUSTER) [NUMBERS] | PRAGMA

body: "{" statement* "}"
statement: body | INSTRUCTION | TARGETS | LABEL | DECLARATION | LOC | PRAGMA | FILE | SECTION

VERSION.9: /\.version\s+\d+\.\d+/
TARGET.9: /\.target\s+\w+(\s*,\s*\w+)*/
ADDRESS_SIZE.9: /\.address_size\s+\d+/
FILE.9: /\.file\s+\d+\s+"([^"\\\n]|\\.)*"(\s*,\s*\d+\s*,\s*\d+)?/
LOC.9: /\.loc[ \t]+\d+[ \t]+\d+[ \t]+\d+([ \t]*,[^\n;]*)?/
PRAGMA.9: /\.pragma\s+"[^"\n]*"(\s*,\s*"[^"\n]*")*\s*;/
ALIAS.9: /\.alias\s+[\w$]+\s*,\s*[\w$]+\s*;/
SECTION.9: /\.section\s+[.\w$]+\s*\{[^}]*\}/
FUNCTION_KIND.8: /\.(entry|func)\b/
LINKAGE.8: /\.(visible|extern|weak|common)\b(?=[\s.a-z]*\.(entry|func)\b)/
ATTRIBUTE.7: /\.(maxntid|reqntid|m(in|ax)nctapersm|maxnreg|noreturn|unified|abi_preserve\w*)\b/
CLUSTER.7: /\.(reqnctapercluster|explicitcluster|maxclusterrank|blocksareclusters)\b/
PARAMETER.6: /\.(param|reg)\b[^,;(){}]*/
DECLARATION.5: /(\.(visible|extern|weak|common)\s+)?\.(reg|local|shared|param|const|global|tex)\b[^;{]*(\{[^;]*\}\s*)?;/
TARGETS.5: /[A-Za-z_$%][\w$]*\s*:\s*\.(branchtargets|calltargets|callprototype)\b[^;]*;/
LABEL.4: /[A-Za-z_$%][\w$]*\s*:(?!:)/
INSTRUCTION.3: /(@!?\s*[%\w$]+\s+)?[a-z][a-z0-9_]*((::?|\.)\w+)*(?=[\s;{])[^;]*;/
NUMBERS: /\d+(\s*,\s*\d+)*/
NAME: /[A-Za-z_$%][\w$]*/

%ignore /\s+/
"""

_COMMENT = re.compile(r'"(?:[^"\\\n]|\\.)*"|//[^\n]*|/\*.*?\*/', re.S)


def parse(text: str, path: str = "<ptx>") -> Module:
    """Parse PTX source text.

    Args:
        text: the module's text.
        path: the name that errors give as the file.

    Raises:
        UserError: E1001 with the line and token at which the text stops being PTX.
    """
    from lark.exceptions import LarkError, UnexpectedInput

    clean = _strip_comments(text)
    lines = text.split("\n")
    module = Module((0, 0), (), 64, lines=lines, path=path)
    try:
        tree = _grammar().parse(clean)
    except UnexpectedInput as error:
        raise _syntax_error(error, clean, lines, path) from None
    except LarkError as error:
        raise UserError.at("E1001", f"malformed PTX: {error}", Span(path, len(lines))) from None
    _Builder(module).module(tree)
    if module.version == (0, 0):
        raise UserError.at("E1001", "malformed PTX: no .version directive at line 1", Span(path, 1))
    return module


@functools.lru_cache(maxsize=1)
def _grammar() -> Lark:
    from lark import Lark

    return Lark(GRAMMAR, parser="lalr", lexer="contextual", maybe_placeholders=True)


def _strip_comments(text: str) -> str:
    """The text with comments blanked out, line numbers kept."""
    def blank(match: re.Match[str]) -> str:
        found = match.group()
        if found[0] == '"':
            return found
        return "\n" * found.count("\n") or " "

    return _COMMENT.sub(blank, text) if "/" in text else text


def _syntax_error(error: Any, clean: str, lines: list[str], path: str) -> UserError:
    line = getattr(error, "line", -1) or -1
    column = getattr(error, "column", 1) or 1
    if line < 1:
        line, column = max(1, len(lines)), 1
        token = "end of file"
    else:
        position = getattr(error, "pos_in_stream", None)
        rest = clean[position:position + 40] if position is not None else ""
        found = re.match(r"[%$\w.]+|\S", rest)
        token = repr(found.group()) if found else "end of file"
    return UserError.at("E1001", f"malformed PTX: unexpected {token} at line {line}", Span(path, line, column - 1),
                        label="not understood here")


MAX_NESTING = 64


def _line_of(node: Any) -> int:
    """The line of the first token in a tree, 0 where it has none."""
    while not hasattr(node, "line"):
        node = next((child for child in node.children if child is not None), None)
        if node is None:
            return 0
    return int(node.line)


class _Builder:
    """Walks the structure tree and takes the statement tokens apart."""

    def __init__(self, module: Module) -> None:
        self.out = module
        self.where = statements.Where(module.path)

    def module(self, tree: Tree[Token]) -> None:
        for item in tree.children:
            node: Any = item.children[0]  # type: ignore[union-attr]
            if not hasattr(node, "type"):
                self._add_function(self._function(node))
                continue
            kind, text, line = node.type, str(node), node.line or 0
            if kind == "DECLARATION":
                for entry in statements.declaration(text, line, self.where):
                    if isinstance(entry, Variable):
                        self._add_variable(entry)
            else:
                self._directive(kind, text, line)

    def _directive(self, kind: str, text: str, line: int) -> None:
        words = text.replace(",", " ").split()
        if kind == "VERSION":
            major, minor = words[1].split(".")
            self.out.version = (int(major), int(minor))
        elif kind == "TARGET":
            self.out.target = tuple(words[1:])
        elif kind == "ADDRESS_SIZE":
            self.out.address_size = int(words[1])
        elif kind == "FILE":
            self.out.files[int(words[1])] = statements.unescaped(text[text.index('"') + 1 : text.rindex('"')])
        elif kind == "ALIAS":
            self.out.aliases[words[1]] = words[2].rstrip(";")

    def _add_variable(self, variable: Variable) -> None:
        known = self.out.variables.get(variable.name)
        if known is not None and not known.extern and not variable.extern:
            raise self.where.error(f"{variable.name!r} is declared twice", variable.line)
        if known is None or known.extern:
            self.out.variables[variable.name] = variable

    def _add_function(self, function: Function) -> None:
        known = self.out.functions.get(function.name)
        if known is not None and known.body is not None and function.body is not None:
            raise self.where.error(f"function {function.name!r} is defined twice", function.line)
        if known is None or known.body is None:
            self.out.functions[function.name] = function

    def _function(self, node: Any) -> Function:
        is_entry, name, line = False, "", 0
        lists: list[list[Variable]] = []
        attributes: dict[str, tuple[int, ...]] = {}
        body: list[Statement] | None = None
        before_name: list[Variable] = []
        for child in node.children:
            if child is None:
                continue
            if hasattr(child, "type"):
                if child.type == "FUNCTION_KIND":
                    is_entry, line = str(child) == ".entry", child.line
                elif child.type == "NAME":
                    name = str(child)
                    before_name, lists = (lists[0] if lists else []), []
            elif child.data == "parameters":
                lists.append([statements.parameter(str(t), t.line, self.where) for t in child.children if t])
            elif child.data == "attribute":
                head = child.children[0]
                numbers = child.children[1] if len(child.children) > 1 else None
                values = tuple(int(v) for v in str(numbers).split(",")) if numbers else ()
                attributes[str(head).lstrip(".")] = values
            else:
                body = self._body(child, line)
        return Function(name, is_entry, lists[0] if lists else [], before_name, attributes, body, line)

    def _body(self, node: Any, around: int, depth: int = 0) -> list[Statement]:
        result: list[Statement] = []
        if depth > MAX_NESTING:
            raise self.where.error(f"more than {MAX_NESTING} scopes within each other", around)
        for child in node.children:
            token = child.children[0]
            if not hasattr(token, "type"):
                inner = _line_of(token) or around
                result.append(Scope(self._body(token, inner, depth + 1), inner))
                continue
            kind, line = token.type, token.line
            if kind == "INSTRUCTION":
                result.append(statements.instruction(str(token), line, self.where))
            elif kind == "LABEL":
                result.append(Label(str(token)[:-1].rstrip(), line))
            elif kind == "DECLARATION":
                result.extend(statements.declaration(str(token), line, self.where))
            elif kind == "LOC":
                result.append(_location(str(token), line))
            elif kind == "TARGETS":
                result.extend(_targets(str(token), line, self.where))
        return result


def _location(text: str, line: int) -> Location:
    places = re.findall(r"(?:\.loc|\binlined_at)\s+(\d+)\s+(\d+)\s+(\d+)", text)
    (place, *around) = [(int(file), int(row), int(column)) for file, row, column in places]
    return Location(place, line, around[0] if around else None)


def _targets(text: str, line: int, where: statements.Where) -> list[Statement]:
    label, rest = text.split(":", 1)
    kind, *names = rest.replace(",", " ").rstrip(" \t\n;").split()
    if not names:
        raise where.error(f"the {kind} list {label.strip()!r} is empty", line)
    items = tuple(names) if kind != ".callprototype" else ()
    return [Label(label.strip(), line), Targets(kind.lstrip("."), items, line)]


__all__ = ["RegisterRange", "parse"]
