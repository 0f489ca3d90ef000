"""Loops of statements are the statements."""

from __future__ import annotations

import random
import re

import pytest

from tilus.codegen.cuda.rolling import rolled


def unrolled(lines: list[str], values: dict[str, int] | None = None) -> list[str]:
    """What loops do, written out."""
    values = values or {}
    out: list[str] = []
    at = 0
    while at < len(lines):
        line = lines[at].strip()
        head = re.fullmatch(r"for \(int (\w+) = 0; \1 < (\d+); \+\+\1\) \{", line)
        if head is None:
            if line != "#pragma unroll":
                out.append(re.sub(r"\[([^]]+)\]", lambda m: f"[{eval(m[1], {}, values)}]", line))
            at += 1
            continue
        depth, end = 1, at
        while depth:
            end += 1
            depth += lines[end].count("{") - lines[end].count("}")
        for i in range(int(head[2])):
            out += unrolled(lines[at + 1 : end], {**values, head[1]: i})
        at = end + 1
    return out


def test_random_statements() -> None:
    rng = random.Random(3)
    shapes = []
    for _ in range(300):
        rows, columns = rng.randint(1, 5), rng.randint(1, 6)
        places = [(rng.randint(0, 9), rng.randint(-1, 4), rng.randint(0, 4)) for _ in range(rng.randint(1, 4))]
        statements = []
        for i in range(rows):
            for j in range(columns):
                indices = [max(0, 9 + start + a * i + b * j) for start, a, b in places]
                if rng.random() < 0.01:
                    indices[0] += 1
                statements.append(f"f({', '.join(f'x{n}[{at}]' for n, at in enumerate(indices))}, i2[0]);")
        found = rolled(statements)
        assert unrolled(found) == statements
        shapes.append(sum("for" in line for line in found))
    assert {0, 1, 2} <= set(shapes)


@pytest.mark.parametrize(("statements", "lines"), [
    ([f"f(a[{i}]);" for i in range(4)],
     ["#pragma unroll", "for (int i = 0; i < 4; ++i) {", "  f(a[i]);", "}"]),
    ([f"f(i, a[{2 * i + 1}]);" for i in range(4)],
     ["#pragma unroll", "for (int j = 0; j < 4; ++j) {", "  f(i, a[2 * j + 1]);", "}"]),
    ([f"f(a[{4 * i + j}], b[{i}], c[{2 * j}], d[0]);" for i in range(2) for j in range(3)],
     ["#pragma unroll", "for (int i = 0; i < 2; ++i) {", "  #pragma unroll", "  for (int j = 0; j < 3; ++j) {",
      "    f(a[4 * i + j], b[i], c[2 * j], d[0]);", "  }", "}"]),
    (["f(a[0]);", "f(a[1]);", "f(a[3]);", "f(a[4]);"],
     ["#pragma unroll", "for (int i = 0; i < 2; ++i) {", "  #pragma unroll", "  for (int j = 0; j < 2; ++j) {",
      "    f(a[3 * i + j]);", "  }", "}"]),
    (["f(a[0]);", "f(a[1]);", "f(a[3]);"], ["f(a[0]);", "f(a[1]);", "f(a[3]);"]),
    (["f(a[0]);", "f(a[1]);", "f(a[3]);", "f(a[7]);"], ["f(a[0]);", "f(a[1]);", "f(a[3]);", "f(a[7]);"]),
    (["f(a[0]);", "f(a[1]);", "g(a[2]);", "f(a[3]);"], ["f(a[0]);", "f(a[1]);", "g(a[2]);", "f(a[3]);"]),
    (["f(a);"] * 2, ["f(a);"] * 2),
])
def test_loops(statements: list[str], lines: list[str]) -> None:
    assert rolled(statements) == lines
