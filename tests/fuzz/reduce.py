"""Reduces a failing program: lines are taken away, values replaced by constants, the call made smaller."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace

from tests.fuzz.harness import check_program
from tests.fuzz.program import INTEGERS, PRECISION, Program, spelled

Fails = Callable[[Program], bool]


def reduce_program(program: Program, engine: str, budget: int = 400) -> Program:
    """A smaller program on which the engine fails in the same way. At most ``budget`` programs are tried."""
    found = check_program(program, [engine])
    if not found:
        raise ValueError(f"seed {program.seed} does not fail on {engine}")
    kind = found[0].kind
    tried = 0

    def fails(candidate: Program) -> bool:
        nonlocal tried
        tried += 1
        result = check_program(candidate, [engine])
        return bool(result) and result[0].kind == kind

    best = program
    progress = True
    while progress and tried < budget:
        progress = False
        for candidate in candidates(best):
            if tried >= budget:
                break
            if fails(candidate):
                best, progress = candidate, True
                break
    return best


def candidates(program: Program) -> Iterator[Program]:
    """Programs that are one step smaller, the large steps first."""
    stores = [i for i, line in enumerate(program.lines) if re.match(r"    (tl\.store\(o\d|o\d+\[)", line)]
    for keep in stores if len(stores) > 1 else []:
        yield _pruned(program, [line for i, line in enumerate(program.lines) if i == keep or i not in stores])
    blocks = _blocks(program.lines)
    for size in (8, 4, 2, 1):
        for at in range(0, len(blocks), size):
            dropped = {i for block in blocks[at : at + size] for i in block}
            if dropped and not dropped.intersection(stores):
                yield _pruned(program, [line for i, line in enumerate(program.lines) if i not in dropped])
    yield from _inner(program)
    if program.prelude:
        yield replace(program, prelude=[])
    for grid in ((1,), (2,)):
        if program.blocks > grid[0]:
            yield replace(program, grid=grid)
    if program.warps > 1:
        yield replace(program, warps=1)
    for number, array in enumerate(program.arrays):
        if array.layout != "C":
            yield replace(program, arrays=[*program.arrays[:number], replace(array, layout="C"),
                                           *program.arrays[number + 1 :]])
    for number, output in enumerate(program.outputs):
        if output.layout != "C":
            yield replace(program, outputs=[*program.outputs[:number], replace(output, layout="C"),
                                            *program.outputs[number + 1 :]])


def _blocks(lines: list[str]) -> list[list[int]]:
    """Top-level statements as the numbers of their lines."""
    blocks: list[list[int]] = []
    for number, line in enumerate(lines):
        nested = line.startswith("     ") or line.strip() in ("else:",) or line.strip().startswith("elif ")
        if nested and blocks:
            blocks[-1].append(number)
        else:
            blocks.append([number])
    return blocks


def _inner(program: Program) -> Iterator[Program]:
    """Lines of compound statements dropped, values made constants."""
    for number, line in enumerate(program.lines):
        if line.startswith("     "):
            yield _pruned(program, [*program.lines[:number], *program.lines[number + 1 :]])
        match = re.match(r"(\s+)(v\d+) = (?!tl\.full|tl\.iota)", line)
        if match is None or match[2] not in program.types:
            continue
        dtype, shape = program.types[match[2]]
        simple = [f"tl.full({shape}, {'True' if dtype == 'bool' else 1}, {spelled(dtype)})"]
        if dtype in INTEGERS or dtype in PRECISION:
            if shape:
                simple.append(f"tl.iota({shape}, {len(shape) - 1}, tl.i64).to(tl.{dtype})")
            operands = [v for v in re.findall(r"v\d+", line) if program.types.get(v) == (dtype, shape)]
            simple += [v for v in dict.fromkeys(operands) if v != match[2]]
        for text in simple:
            yield _pruned(program, [*program.lines[:number], f"{match[1]}{match[2]} = {text}",
                                    *program.lines[number + 1 :]])


def _pruned(program: Program, lines: list[str]) -> Program:
    """With these lines, and without the arrays that they do not mention."""
    text = "\n".join(lines)
    used = set(re.findall(r"\b[xwo]\d+\b", text))
    return replace(program, lines=lines, arrays=[a for a in program.arrays if a.name in used],
                   outputs=[o for o in program.outputs if o.name in used])
