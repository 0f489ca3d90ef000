"""Runs random programs on engines and compares what they store."""

from __future__ import annotations

import linecache
import types
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tests.fuzz.generator import ArrayInput, Output, Program, generate
from tilus.ir.dtypes import parse_dtype

Array = np.ndarray[Any, Any]


@dataclass
class Disagreement:
    """Two engines, or an engine and its own failure."""

    seed: int
    engine: str
    what: str
    source: str

    def __str__(self) -> str:
        return f"seed {self.seed} on {self.engine}: {self.what}\n{self.source}"


def load_kernel(program: Program) -> Any:
    """The kernel of a program; its source is known to linecache, so that messages show it."""
    name = f"<fuzz {program.seed}>"
    linecache.cache[name] = (len(program.source), None, program.source.splitlines(keepends=True), name)
    module = types.ModuleType(f"fuzz_{program.seed}")
    exec(compile(program.source, name, "exec"), module.__dict__)
    return module.__dict__["kernel"]


def make_input(source: ArrayInput, rng: np.random.Generator) -> Array:
    step = 2.0**source.grid
    dtype = parse_dtype(source.dtype).numpy
    count = int((source.high - source.low) / step)
    data = (rng.integers(0, count + 1, source.shape) * step + source.low).astype(dtype)
    if source.layout == "F":
        return np.asfortranarray(data)
    if source.layout in ("strided", "reversed"):
        step_ = 2 if source.layout == "strided" else -1
        room = np.zeros(tuple(n * abs(step_) for n in source.shape), dtype)
        view = room[(slice(None, None, step_),) * data.ndim]
        view[...] = data
        return view
    return data


def run_on(kernel: Any, engine: str, program: Program) -> list[Array]:
    rng = np.random.default_rng(program.seed)
    inputs = [make_input(x, rng) for x in program.inputs]
    outputs = [np.full((program.blocks, *o.shape), 77, parse_dtype(o.dtype).numpy) for o in program.outputs]
    with np.errstate(all="ignore"):
        kernel.on(engine)(*inputs, *outputs, program.scalar)
    return outputs


def difference(output: Output, want: Array, got: Array) -> str | None:
    """Why two engines' outputs are not the same, if so."""
    if want.dtype.kind in "iub" or output.error == 0.0:
        if np.array_equal(want, got, equal_nan=want.dtype.kind not in "iub"):
            return None
        wide = want.astype(np.float64) != got.astype(np.float64)
        at = tuple(map(int, np.argwhere(wide)[0])) if wide.any() else ()
        return f"{output.name}{at}: {got[at]} instead of {want[at]} (exactly)"
    a, b = want.astype(np.float64), got.astype(np.float64)
    bad = ~(np.abs(a - b) <= 2 * output.error)
    if not bad.any():
        return None
    at = tuple(map(int, np.argwhere(bad)[0]))
    return f"{output.name}{at}: {got[at]} instead of {want[at]} ± {2 * output.error:.3g}"


def check(seed: int, engines: Sequence[str], counts: Counter[str] | None = None) -> list[Disagreement]:
    """Run the program of a seed on the interpreter and on ``engines``; what does not agree."""
    program = generate(seed)
    if counts is not None:
        counts.update(program.counts)
    found: list[Disagreement] = []
    try:
        kernel = load_kernel(program)
        wanted = run_on(kernel, "interpret", program)
    except Exception as error:
        return [Disagreement(seed, "interpret", f"{type(error).__name__}: {error}", program.source)]
    for engine in engines:
        try:
            outputs = run_on(kernel, engine, program)
        except Exception as error:
            found.append(Disagreement(seed, engine, f"{type(error).__name__}: {error}", program.source))
            continue
        for output, want, got in zip(program.outputs, wanted, outputs, strict=True):
            reason = difference(output, want, got)
            if reason is not None:
                found.append(Disagreement(seed, engine, reason, program.source))
                break
    return found
