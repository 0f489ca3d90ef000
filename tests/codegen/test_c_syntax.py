"""C expressions mean what they are made of, with few parentheses."""

from __future__ import annotations

import random

import pytest

from tilus.codegen.cuda.assignments import assignments
from tilus.codegen.cuda.syntax import assigned, cast, choice, infix, prefix, wrapping
from tilus.codegen.cuda.wrapping import WIDTH, wrapped
from tilus.runtime.toolchains.nvrtc import cuda_to_ptx
from tilus.targets import get_target

OPERATORS = ["+", "-", "*", "&", "|", "^", "<<", ">>", "<", "<=", "==", "!=", "/", "%"]


def random_expression(rng: random.Random, depth: int) -> tuple[str, str]:
    """An expression, and the same with every parenthesis."""
    if not depth or rng.random() < 0.15:
        text = rng.choice(["1", "2", "3", "5", "7u", "-4", "f(3)"])
        return (prefix("-", "4"), "(-4)") if text == "-4" else (text, text)
    kind = rng.randrange(8)
    a, full_a = random_expression(rng, depth - 1)
    b, full_b = random_expression(rng, depth - 1)
    if kind == 0:
        operator = rng.choice("-~!")
        return prefix(operator, a), f"({operator}{full_a})"
    if kind == 1:
        ctype = rng.choice(["int", "unsigned", "short", "long long"])
        return cast(ctype, a), f"(({ctype}){full_a})"
    if kind == 2:
        c, full_c = random_expression(rng, depth - 1)
        return choice(c, a, b), f"({full_c} ? {full_a} : {full_b})"
    operator = rng.choice(OPERATORS)
    if operator in ("/", "%"):
        b, full_b = infix("|", infix("&", b, "7"), "1"), f"(({full_b} & 7) | 1)"
    if operator in ("<<", ">>"):
        a, full_a, b, full_b = cast("unsigned", a), f"((unsigned){full_a})", infix("&", b, "3"), f"({full_b} & 3)"
    return infix(operator, a, b), f"({full_a} {operator} {full_b})"


def test_random_expressions_mean_the_same_as_with_all_parentheses() -> None:
    rng = random.Random(7)
    lines = []
    for i in range(300):
        text, full = random_expression(rng, 4)
        lines.append(f"  out[{2 * i}] = {text};\n  out[{2 * i + 1}] = {full};")
    head = "__device__ constexpr int f(int x) { return x - 1; }"
    body = "\n".join(lines)
    source = f'{head}\nextern "C" __global__ void g(volatile long long* out) {{\n{body}\n}}'
    text = cuda_to_ptx(source, get_target("sm_80"))
    values: dict[str, str] = {}
    stored = []
    for line in text.splitlines():
        words = line.replace(",", " ").replace(";", " ").split()
        if words and words[0].startswith("mov."):
            values[words[1]] = words[2]
        elif words and words[0].startswith("st.volatile"):
            stored.append(values.get(words[-1], words[-1]))
    assert len(stored) == 600
    assert len(set(stored)) > 20
    assert stored[::2] == stored[1::2]


@pytest.mark.parametrize(("made", "text"), [
    (infix("+", "a", infix("*", "b", "c")), "a + b * c"),
    (infix("*", infix("+", "a", "b"), "c"), "(a + b) * c"),
    (infix("-", "a", infix("-", "b", "c")), "a - (b - c)"),
    (infix("-", infix("-", "a", "b"), "c"), "a - b - c"),
    (infix("+", infix("<<", "a", "2"), "b"), "(a << 2) + b"),
    (infix("&", infix(">>", "a", "2"), "7"), "(a >> 2) & 7"),
    (infix("|", infix("|", "a", "b"), infix("|", "c", "d")), "a | b | c | d"),
    (infix("<<", infix("<<", "a", "1"), "2"), "(a << 1) << 2"),
    (infix("&", infix("<", "a", "b"), infix("<", "c", "d")), "(a < b) & (c < d)"),
    (infix("<", infix("+", "a", "1"), "b"), "a + 1 < b"),
    (prefix("-", prefix("-", "a")), "-(-a)"),
    (prefix("!", infix("<", "a", "b")), "!(a < b)"),
    (cast("int", infix("+", "a", "b")), "(int)(a + b)"),
    (cast("int", cast("unsigned", "a")), "(int)(unsigned)a"),
    (infix("*", cast("unsigned", "a"), "2u"), "(unsigned)a * 2u"),
    (wrapping("*", "int", "unsigned", "a", "b"), "(int)((unsigned)a * b)"),
    (wrapping("+", "int", "unsigned", wrapping("*", "int", "unsigned", "a", "b"), "c"), "(int)((unsigned)a * b + c)"),
    (infix("+", wrapping("-", "int", "unsigned", "a", "b"), "c"), "(int)((unsigned)a - b) + c"),
    (cast("int", cast("int", "a")), "(int)a"),
    (choice("a", choice("b", "1", "2"), "3"), "a ? (b ? 1 : 2) : 3"),
    (choice("a", "1", choice("b", "2", "3")), "a ? 1 : b ? 2 : 3"),
    (infix("+", choice("a", "1", "2"), "b"), "(a ? 1 : 2) + b"),
])
def test_parentheses(made: str, text: str) -> None:
    assert made == text


def test_casts_to_the_type_of_a_variable_are_left_out() -> None:
    assert assigned(cast("int", infix("+", "a", "b")), "int") == "a + b"
    assert assigned(cast("short", "a"), "int") == "(short)a"
    assert assigned(prefix("-", "a"), "int") == "-a"


@pytest.mark.parametrize(("names", "texts", "lines"), [
    (["a[0]", "a[1]", "a[2]"], ["b[0] + c", "b[1] + c", "b[2] + c"],
     ["#pragma unroll", "for (int i = 0; i < 3; ++i) a[i] = b[i] + c;"]),
    (["a[0]", "a[1]", "a[2]"], ["b[0]"] * 3, ["#pragma unroll", "for (int i = 0; i < 3; ++i) a[i] = b[0];"]),
    (["a[0]", "a[1]", "a[2]"], ["i * 2"] * 3, ["#pragma unroll", "for (int j = 0; j < 3; ++j) a[j] = i * 2;"]),
    (["i[0]", "i[1]", "i[2]"], ["0"] * 3, ["#pragma unroll", "for (int j = 0; j < 3; ++j) i[j] = 0;"]),
    (["a[1]", "a[2]", "a[3]"], ["b[0]", "b[1]", "b[2]"], ["a[1] = b[0]; a[2] = b[1]; a[3] = b[2];"]),
    (["a[0]", "a[1]", "a[2]"], ["b[1]", "b[0]", "b[2]"], ["a[0] = b[1]; a[1] = b[0]; a[2] = b[2];"]),
    (["a[0]", "a[1]"], ["b[0]", "b[1]"], ["a[0] = b[0]; a[1] = b[1];"]),
    (["a"], ["a_very_long_function_of(b[0], c)"], ["a = a_very_long_function_of(b[0], c);"]),
])
def test_assignments(names: list[str], texts: list[str], lines: list[str]) -> None:
    assert assignments(names, texts) == lines


def test_long_lines_are_broken_after_commas() -> None:
    arguments = [f"argument{i}[{i}]" for i in range(20)]
    text = f"function({', '.join(arguments)});"
    lines = wrapped("  ", text)
    assert len(lines) == 3
    assert all(len(line) <= WIDTH for line in lines)
    assert " ".join(line.strip() for line in lines) == text
    assert [len(line) - len(line.lstrip()) for line in lines] == [2, 6, 6]
    assert [len(line) - len(line.lstrip()) for line in wrapped("  ", f"    {text}")] == [6, 10, 10]
    assert wrapped("  ", "short(a, b);") == ["  short(a, b);"]
    printed = f'printf("{", ".join("x" * 20)} %d\\n", {", ".join(arguments)});'
    assert wrapped("", printed) == [printed]
    assert wrapped("", "x" * 130) == ["x" * 130]
