"""``kernel.explain(*args, engine="cpu")``: how a call runs on this machine, and what that takes at least."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from tilus.ir.ops import Dot
from tilus.lowering.cpu.ways import FEW_COLUMNS, PACKED, Way
from tilus.model.cpu.call import Followed, follow
from tilus.model.cpu.instructions import BYTE_STEPS, TILE_INSTRUCTIONS, VECTOR
from tilus.model.cpu.machine import Host, Level, host
from tilus.model.report.units import bytes_text, rate_text, time_text
from tilus.runtime.arrays import ArrayArgument
from tilus.runtime.cpu.processor import host as processor
from tilus.runtime.jit import Prepared
from tilus.runtime.threads import get_num_threads
from tilus.targets import TARGETS

SHOWN = 0.02
"""Shares of the time below this are left out."""


def explain(prepared: Prepared) -> str:
    """The text for a call. Raises UserError where the kernel does not trace or lower."""
    record, threads = host(), get_num_threads()
    module = prepared.specialisation.trace(TARGETS["cpu"])
    program, launches = follow(module, prepared.call.arguments, record, threads)
    name, bits = prepared.specialisation.captured.name, 8 * record.vector_bytes
    lines = [f"{name} on {processor().name}: vectors of {bits} bits, {_threads(threads)}"]
    constants = ", ".join(f"{n}={v}" for n, v in prepared.call.constants.items())
    lines.append(f"  constants: {constants or 'none'}")
    lines += [f"  {line}" for line in _arguments(prepared)]
    for followed in launches:
        ways = [w for w in program.ways if _is_of(w, module.kernel(followed.launch.kernel))]
        lines += [f"  {line}" for line in _launch(followed, ways)]
    lines += [f"  {line}" for line in _bounds(prepared, launches, program.ways, record)]
    return "\n".join(lines)


def _arguments(prepared: Prepared) -> Iterator[str]:
    for name, argument in zip(prepared.call.names, prepared.call.arguments, strict=True):
        if not isinstance(argument, ArrayArgument):
            yield f"{name}: {argument}"
            continue
        order = "prepacked" if argument.format else "contiguous" if argument.is_contiguous else \
            f"strides {list(argument.strides)}"
        yield f"{name}: {argument.dtype} {list(argument.shape)}, {order}"


def _is_of(way: Way, kernel: Any) -> bool:
    return any(op is way.dot for op in kernel.walk())


def _launch(followed: Followed, ways: Sequence[Way]) -> Iterator[str]:
    launch = followed.launch
    grid = " × ".join(str(n) for n in launch.grid if n != 1) or "1"
    at_a_time = f", {launch.chunk} at a time" if launch.chunk > 1 else ""
    what = "block" if launch.together == 1 else "group"
    of = "" if launch.together == 1 else f" of {launch.together} blocks"
    parts = "" if launch.parts == 1 else f", each in {launch.parts} parts"
    blocks = f"{launch.blocks} {what}{'s' if launch.blocks != 1 else ''}{of} ({grid}){parts}{at_a_time}"
    yield f"kernel {launch.kernel}: {blocks}, on {_threads(followed.model.threads)}"
    dots = dict.fromkeys(way.dot for way in ways)
    texts = Counter("\n".join(_dot(followed, dot, [w for w in ways if w.dot is dot])) for dot in dots)
    for text, times in texts.items():  # those of a loop that Python has run are alike
        first, *others = text.splitlines()
        yield f"  {first}{f', {times} times' if times > 1 else ''}"
        yield from (f"    {other}" for other in others)


def _dot(followed: Followed, dot: Dot, ways: Sequence[Way]) -> Iterator[str]:
    *_, m, n = dot.result.tile.shape
    place = f" at line {dot.span.line}" if dot.span.known else ""
    shape, types = f"{m} × {n} × {dot.a.tile.shape[-1]}", f"{dot.a.tile.dtype} and {dot.b.tile.dtype}"
    yield f"dot{place}: {shape} of {types}, summed in {dot.accumulator.tile.dtype}"
    yield from dict.fromkeys(_way(w) for w in ways if followed.model.runs(w.code)) or ["does not run in this call"]


def _way(way: Way) -> str:
    """What is done of one way."""
    columns = way.name == FEW_COLUMNS
    held = f"{way.columns} × {way.rows}" if columns else f"{way.rows} × {way.columns}"
    registers = f"{held} of the product in registers, by {way.instruction}"
    if way.name == PACKED:
        kept = ", B kept for the next block" if way.kept else ""
        panels = f"B in panels of {way.columns} columns"
        return f"packed: A in rows and {panels}, as {way.dtype}, {way.chunk} of K at a time{kept}; {registers}"
    if way.alone != way.columns:
        registers += f" ({way.alone} of a {'column' if columns else 'row'} alone)"
    what, other = ("columns", "A") if columns else ("rows", "B")
    along = "rows" if columns and way.along == "columns" else way.along
    return f"few {what}: {other} is read once, where it is, by vectors along {along}; {registers}"


def _threads(count: int) -> str:
    return f"{count} thread{'s' if count > 1 else ''}"


def _bounds(prepared: Prepared, launches: Sequence[Followed], ways: Sequence[Way], record: Host) -> Iterator[str]:
    """What is computed and moved, the least time for that, and the time that the model of the cores gives."""
    threads = max((f.model.threads for f in launches), default=1)
    counts: dict[str, float] = {}
    parts: dict[str, float] = {}
    for followed in launches:
        for into, found in ((counts, followed.estimate.counts), (parts, followed.estimate.parts)):
            for name, value in found.items():
                into[name] = into.get(name, 0.0) + value
    taken = [w for w in ways if any(f.model.runs(w.code) for f in launches)]
    operations, moved = counts.get("flops", 0.0), _array_bytes(prepared)
    peak, unit = _peak(record, taken, threads)
    level = _holding(record, moved, threads)
    rate = threads * 1e9 / (level.nanoseconds if threads > 1 else level.alone)
    computing, moving = operations / peak, moved / rate
    yield (f"{rate_text(operations, unit)}, arrays of {bytes_text(moved)}; the code reads "
           f"{bytes_text(counts.get('read', 0.0))} of them and writes {bytes_text(counts.get('written', 0.0))}")
    yield (f"at least {time_text(max(computing, moving))}: {time_text(computing)} to compute at "
           f"{rate_text(peak, unit + '/s')}, {time_text(moving)} to move the arrays once at "
           f"{rate_text(rate, 'B/s')} ({level.name})")
    seconds = sum(f.estimate.seconds for f in launches)
    yield f"by the model of the cores {time_text(seconds)}" + _shares(parts)
    for text in sorted(set().union(*(f.estimate.assumed for f in launches))) if launches else ():
        yield f"assumed: {text}"


def _shares(parts: dict[str, float]) -> str:
    total = sum(parts.values())
    if not total:
        return ""
    shares = sorted(((value / total, name) for name, value in parts.items()), reverse=True)
    return ", bound by " + ", ".join(f"{name} ({share:.0%})" for share, name in shares if share >= SHOWN)


def _array_bytes(prepared: Prepared) -> float:
    """Of all arrays of the call, each once."""
    total = 0.0
    for argument in prepared.call.arguments:
        if isinstance(argument, ArrayArgument):
            total += math.prod(argument.shape) * argument.dtype.packed_bits / 8
    return total


def _holding(record: Host, moved: float, threads: int) -> Level:
    """The nearest level that holds as many bytes beside those of other cores."""
    return next(level for level in record.levels if moved <= level.capacity * threads or math.isinf(level.capacity))


def _peak(record: Host, ways: Sequence[Way], threads: int) -> tuple[float, str]:
    """Operations a second that the instructions for the products of a call do at most, and their unit; without
    products multiply-adds of f32."""
    rate = record.hertz * record.per_cycle[VECTOR] * threads
    by_bytes = [w for w in ways if w.instruction in BYTE_STEPS]
    if by_bytes:
        return rate * 2 * record.vector_bytes / BYTE_STEPS[by_bytes[0].instruction][True], "OP"
    by_tiles = [w for w in ways if w.instruction in TILE_INSTRUCTIONS]
    if by_tiles:
        per_cycle = TILE_INSTRUCTIONS[by_tiles[0].instruction]
        return record.hertz * threads * per_cycle, "FLOP" if by_tiles[0].dtype.is_float else "OP"
    bits = max((w.dtype.bits for w in ways), default=32)
    steps = 1 if all(w.instruction == "fma" for w in ways) else 2
    return rate * 2 / steps * 8 * record.vector_bytes / bits, "FLOP"


__all__ = ["explain"]
