"""A random fused function: its inputs, its steps, what it gives in NumPy, and on an engine."""

from __future__ import annotations

import random
from typing import Any, NamedTuple

import numpy as np

import tilus as tl
from tests.fuzz_arrays.operations import OPERATIONS, Array, Value

EXTENTS = (1, 1, 2, 3, 5, 7, 8, 16, 17, 33, 64)
TOLERANCE = 2e-5


class Step(NamedTuple):
    name: str
    operands: tuple[int, ...]
    parameters: tuple[Any, ...]


class Program(NamedTuple):
    seed: int
    shapes: tuple[tuple[int, ...], ...]
    steps: tuple[Step, ...]
    outputs: tuple[int, ...]

    def __str__(self) -> str:
        inputs = ", ".join(f"v{i}: {'x'.join(map(str, s)) or '()'}" for i, s in enumerate(self.shapes))
        lines = [f"seed {self.seed}: {inputs}"]
        for i, (name, operands, parameters) in enumerate(self.steps, len(self.shapes)):
            lines.append(f"  v{i} = {name}({', '.join([*(f'v{k}' for k in operands), *map(repr, parameters)])})")
        return "\n".join([*lines, f"  return {', '.join(f'v{k}' for k in self.outputs)}"])


@tl.fuse
def two(a, b, program: Any):
    return evaluated([a, b], program)


@tl.fuse
def three(a, b, c, program: Any):
    return evaluated([a, b, c], program)


def evaluated(values: list[Any], program: Program) -> tuple[Any, ...]:
    for name, operands, parameters in program.steps:
        values.append(OPERATIONS[name].fused(*[values[k] for k in operands], *parameters))
    return tuple([values[k] for k in program.outputs])


def drawn(seed: int, most: int = 9) -> Program:
    """The program of a seed, of operations that have values to work on."""
    rng = random.Random(seed)
    extents = rng.sample(EXTENTS, 3)
    ranks = [rng.choice((1, 2, 2, 2, 3)) for _ in range(rng.choice((2, 3)))]
    shapes = tuple(tuple(rng.choice(extents) for _ in range(rank)) for rank in ranks)
    if rng.random() < 0.03:
        shapes = ((0, *shapes[0][1:]), *shapes[1:])
    arrays: list[Array] = [np.zeros(s) for s in shapes]
    values, steps = [Value(s, True) for s in shapes], list[Step]()
    wanted = rng.randint(2, most)
    for _ in range(20 * wanted):
        if len(steps) == wanted:
            break
        name = rng.choice(list(OPERATIONS))
        found = OPERATIONS[name].draw(rng, values)
        if found is None:
            continue
        with np.errstate(all="ignore"):
            result = OPERATIONS[name].numpy(*[arrays[k] for k in found.operands], *found.parameters)
        arrays.append(np.asarray(result))
        values.append(Value(arrays[-1].shape, found.exact))
        steps.append(Step(name, found.operands, found.parameters))
    last, first = len(values) - 1, len(shapes)
    outputs = dict.fromkeys([last, *(rng.randrange(first, last + 1) for _ in range(rng.choice((0, 0, 1, 2))))])
    return Program(seed, shapes, tuple(steps), tuple(outputs))


def inputs_of(program: Program) -> list[Array]:
    rng = np.random.default_rng(program.seed)
    return [rng.standard_normal(s).astype(np.float32) for s in program.shapes]


def expected(program: Program) -> list[Array]:
    values: list[Array] = [x.astype(np.float64) for x in inputs_of(program)]
    for name, operands, parameters in program.steps:
        values.append(np.asarray(OPERATIONS[name].numpy(*[values[k] for k in operands], *parameters)))
    return [values[k] for k in program.outputs]


def disagreement(program: Program, engine: str, turned: bool = False) -> str | None:
    """What is wrong with what an engine gives; None where nothing is. ``turned``: inputs are not contiguous."""
    inputs = inputs_of(program)
    if turned:
        inputs = [np.asfortranarray(x) for x in inputs]
    function = two if len(inputs) == 2 else three
    found = function.on(engine)(*inputs, program=program)
    for k, got, wanted in zip(program.outputs, found, expected(program), strict=True):
        if got.shape != wanted.shape:
            return f"v{k} has the shape {got.shape}, not {wanted.shape}"
        size = np.abs(wanted).max(initial=1e-3)
        difference = np.abs(got.astype("d") - wanted).max(initial=0.0)
        if not difference <= TOLERANCE * size:
            return f"v{k} differs by {difference:.2e} where values are up to {size:.2e}"
    return None


__all__ = ["Program", "disagreement", "drawn", "expected"]
