"""Runs random programs on engines and compares what they store."""

from __future__ import annotations

import linecache
import math
import re
import types
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import tilus as tl
from tests.fuzz import packed_arrays
from tests.fuzz.generator import generate
from tests.fuzz.passes import runs_after_passes
from tests.fuzz.program import ArrayArgument, Program
from tilus.diagnostics import UnsupportedError
from tilus.ir.dtypes import parse_dtype
from tilus.runtime.cpu import pool_ir

pool_ir.WORTH_CALLING = pool_ir.WORTH_WAKING = 1  # small grids run on all threads as well

Array = np.ndarray[Any, Any]
UNTOUCHED = 77
SPECIAL = (0.0, -0.0, math.inf, -math.inf, math.nan, 1.0, -1.5, 65504.0, 1e-7, 3.4e38, 1e-40)
REFUSED = (("sm_70", "tl.copy_async"), ("sm_75", "tl.copy_async"))
"""What is documented to be refused: engines that pass over programs with these instructions."""


@dataclass
class Disagreement:
    """Two engines, or an engine and its own failure."""

    seed: int
    engine: str
    what: str
    source: str

    def __str__(self) -> str:
        return f"seed {self.seed} on {self.engine}: {self.what}\n{self.source}"

    @property
    def kind(self) -> str:
        """What stays the same while the program is reduced."""
        code = re.search(r"\[(E\d+)\]", self.what)
        if code is not None:
            return f"{self.engine} {code[1]} {re.sub(r'[0-9]+', '', self.what.splitlines()[0])[:60]}"
        error = re.match(r"(?:after [\w-]+: )?(\w+(?:Error|Exception)):", self.what)
        return f"{self.engine} {error[1] if error else 'differs'}"


Results = list[tuple[str, float, Array]]
"""What a run stored: names, bounds on their errors, arrays."""
Written = list[tuple[str, float, Any, bool]]
"""Arrays that a run writes, and whether the codes of their elements count."""
Call = Callable[..., Any]


def load_kernel(program: Program) -> Any:
    """The kernel of a program; its source is known to linecache, so that messages show it."""
    source = program.source
    name = f"<fuzz {program.seed} {zlib.crc32(source.encode())}>"
    linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
    module = types.ModuleType(f"fuzz_{program.seed}")
    exec(compile(source, name, "exec"), module.__dict__)
    return module.__dict__["kernel"]


def numpy_function(program: Program) -> Call:
    """A fused function's text as a function of NumPy arrays, in f64."""
    names: dict[str, Any] = {"fuse": lambda function: function, "sum": np.sum, "max": np.max, "min": np.min,
                             "minimum": np.minimum, "maximum": np.maximum, "where": np.where, "abs": np.abs}
    text = re.sub(r"\.to\(tl\.f32\)", "", program.source.replace("import tilus as tl\n", ""))
    module: dict[str, Any] = {"tl": types.SimpleNamespace(**names)}
    exec(compile(text, "<numpy>", "exec"), module)
    return lambda *arrays: module["kernel"](*(packed_arrays.numbers(a) for a in arrays))


# -- arguments


def elements(array: ArrayArgument, rng: np.random.Generator) -> Array:
    """The values an array is filled with: multiples of 1/4 up to 8, small or arbitrary integers, or arbitrary bits."""
    dtype = parse_dtype(array.dtype)
    if array.fill == "grid":
        return (rng.integers(-32, 33, array.shape) / 4).astype(dtype.numpy)
    if array.fill == "small":
        low = -20 if dtype.is_signed else 0
        return rng.integers(low, 21, array.shape).astype(dtype.numpy)
    if dtype.is_bool:
        return rng.integers(0, 2, array.shape).astype(np.bool_)
    bits = rng.integers(0, 1 << 64, array.shape, dtype=np.uint64).astype(f"u{dtype.numpy.itemsize}")
    if array.fill == "full":
        near = rng.integers(-3, 4, array.shape).astype(np.int64).astype(bits.dtype)
        edge = np.asarray(1 << (8 * bits.itemsize - 1), bits.dtype)
        kind = rng.integers(0, 6, array.shape)
        bits = np.where(kind == 0, near, np.where(kind == 1, near + edge, bits))
    elif array.fill == "wild":
        with np.errstate(over="ignore"):
            special = np.array(SPECIAL).astype(dtype.numpy)
        picked = special[rng.integers(0, len(special), array.shape)].view(bits.dtype)
        usual = (rng.integers(-4000, 4001, array.shape) / 64).astype(dtype.numpy).view(bits.dtype)
        kind = rng.integers(0, 4, array.shape)
        bits = np.where(kind == 0, picked, np.where(kind == 1, bits, usual))
    return bits.view(dtype.numpy)


def laid_out(data: Array, layout: str) -> Array:
    """The same elements under other strides; zero strides and overlaps repeat what comes first."""
    if layout == "F":
        return np.asfortranarray(data)
    if layout in ("strided", "reversed"):
        step = 2 if layout == "strided" else -1
        room = np.zeros(tuple(n * abs(step) for n in data.shape), data.dtype)
        view = room[(slice(None, None, step),) * data.ndim]
    elif layout == "padded":
        room = np.zeros((*data.shape[:-1], -(-data.shape[-1] // 16) * 16 + 16), data.dtype)
        view = room[..., : data.shape[-1]]
    elif layout == "offset":
        room = np.zeros(data.size + 1, data.dtype)
        view = room[1:].reshape(data.shape)
    elif layout == "zero" and data.ndim and data.shape[0]:
        return np.broadcast_to(data[:1], data.shape)
    elif layout == "overlapping" and data.ndim == 2 and data.size:
        flat = np.resize(data.reshape(-1), sum(data.shape))
        return np.ndarray(data.shape, data.dtype, flat.view(np.uint8), 0, (flat.itemsize, flat.itemsize))
    else:
        return np.ascontiguousarray(data)
    view[...] = data
    return view


def make_arguments(program: Program) -> tuple[list[Any], Written]:
    """The arguments of a call, and the arrays among them that it writes."""
    arguments: list[Any] = []
    written: Written = []
    for array in program.arrays:
        if array.absent:
            arguments.append(None)
            continue
        rng = np.random.default_rng((program.seed, int(array.name[1:])))
        if packed_arrays.is_packed(array.dtype):
            arguments.append(packed_arrays.made(array.dtype, array.shape, array.layout, rng))
        else:
            arguments.append(laid_out(elements(array, rng), array.layout))
        if array.written:
            written.append((array.name, 0.0, arguments[-1], False))
    for output in program.outputs:
        shape = (program.blocks, *output.shape)
        if packed_arrays.is_packed(output.dtype):
            rng = np.random.default_rng((program.seed, UNTOUCHED))
            arguments.append(packed_arrays.made(output.dtype, shape, output.layout, rng))
        else:
            untouched = np.full(shape, UNTOUCHED, parse_dtype(output.dtype).numpy)
            arguments.append(laid_out(untouched, output.layout))
        written.append((output.name, output.error, arguments[-1], output.codes))
    return [*arguments, *program.scalars.values()], written


# -- runs


def run(program: Program, call: Call) -> Results:
    """Fresh arguments, given to ``call``, and what it stored."""
    arguments, written = make_arguments(program)
    with np.errstate(all="ignore"):
        results = call(*arguments)
    if program.fused:
        results = results if isinstance(results, tuple) else (results,)
        return [(f"result {n}", 0.0, np.asarray(result)) for n, result in enumerate(results)]
    return [found for name, error, array, codes in written for found in seen(name, error, array, codes)]


def seen(name: str, error: float, array: Any, codes: bool) -> Results:
    """What is compared of an array: elements of types for storage as numbers, or as the codes that are moved."""
    if isinstance(array, tl.PackedArray):
        return [(f"{name}{what}", 0.0, part) for what, part in packed_arrays.parts(array, codes)]
    return [(name, error, array)]


def steps(kernel: Any, engine: str, program: Program) -> Iterator[tuple[str, Call]]:
    """What to call for an engine: its kernel; for ``passes:TARGET`` the module after each pass."""
    if program.fused and (engine == "python" or engine.startswith("passes:")):
        return  # whole arrays have neither
    if not engine.startswith("passes:"):
        yield "", kernel.on(engine)
        return
    arguments, _ = make_arguments(program)
    for name, interpreted in runs_after_passes(kernel, engine.removeprefix("passes:"), arguments):
        yield f"after {name}: ", lambda *given, interpreted=interpreted: interpreted(given)


def difference(name: str, error: float, want: Array, got: Array) -> str | None:
    """Why two engines' results are not the same, if so. ``error`` bounds how far each is from the true value."""
    exactly = want.dtype.kind in "iub" or error == 0.0
    with np.errstate(invalid="ignore"):  # signalling NaNs; a tile may hold exact infinities beside inexact numbers
        a, b = (want, got) if want.dtype.kind in "iub" else (want.astype(np.float64), got.astype(np.float64))
        same = (a == b) | ((a != a) & (b != b))
        if not exactly:
            same |= np.abs(a - b) <= 2 * error
    if same.all():
        return None
    at = tuple(map(int, np.argwhere(~same)[0]))
    bound = "exactly" if exactly else f"± {2 * error:.3g}"
    return f"{name}{at}: {got[at]} instead of {want[at]} ({bound}; {np.count_nonzero(~same)} of {same.size})"


def compare(wanted: Results, got: Results) -> str | None:
    """The first difference between two runs."""
    for (name, error, want), (_, _, have) in zip(wanted, got, strict=True):
        reason = difference(name, error, want, have)
        if reason is not None:
            return reason
    return None


def _reason(kernel: Any, engine: str, program: Program, wanted: Results) -> str | None:
    """Why an engine does not agree, if so."""
    step = ""
    try:
        for step, call in steps(kernel, engine, program):
            reason = compare(wanted, run(program, call))
            if reason is not None:
                return step + reason
    except UnsupportedError as error:
        if not any(name in engine and text in program.source for name, text in REFUSED):
            return f"{step}UnsupportedError: {error}"
    except Exception as error:
        return f"{step}{type(error).__name__}: {error}"
    return None


def check_program(program: Program, engines: Sequence[str]) -> list[Disagreement]:
    """Run a program on the interpreter and on ``engines``; what does not agree. Fused functions are compared with
    NumPy, since all engines run what they are divided into."""
    try:
        kernel = load_kernel(program)
        if program.fused:
            wanted = run(program, numpy_function(program))
            engines = ("interpret", *engines)
        else:
            wanted = run(program, kernel.on("interpret"))
    except Exception as error:
        return [Disagreement(program.seed, "interpret", f"{type(error).__name__}: {error}", program.source)]
    reasons = ((engine, _reason(kernel, engine, program, wanted)) for engine in engines)
    return [Disagreement(program.seed, engine, reason, program.source) for engine, reason in reasons if reason]


def check(seed: int, engines: Sequence[str], counts: Counter[str] | None = None) -> list[Disagreement]:
    """:func:`check_program` of the program of a seed."""
    program = generate(seed)
    if counts is not None:
        counts.update(program.counts)
    return check_program(program, engines)
