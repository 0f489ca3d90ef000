"""The formulas behind a profile's figures, with numbers put in. SymPy is loaded here alone, when somebody asks."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from tilus.diagnostics import UserError
from tilus.model.multiprocessor import REQUEST, SUB_CORES
from tilus.model.report.text import PIPES

if TYPE_CHECKING:
    from tilus.model.profile import LaunchProfile

MOST_BOUNDS = 4


def explain(launch: LaunchProfile) -> str:
    """Each quantity with its formula, the formula with numbers, and what it comes to.

    Raises:
        UserError: E0804, SymPy is not installed.
    """
    if importlib.util.find_spec("sympy") is None:
        raise UserError.at("E0804", "formulas need the package sympy, which is not installed",
                           help="pip install 'tilus[profile]'")
    rows = [row for part in (_occupancy, _bounds, _time) for row in part(launch)]
    return "\n\n".join("\n".join(_shown(*row)) for row in rows)


Row = tuple[str, Any, Any, dict[Any, float], str]
"""A title, the quantity, its formula, the values of the symbols, and a unit."""


def _shown(title: str, quantity: Any, formula: Any, values: dict[Any, float], unit: str) -> list[str]:
    import sympy

    numbers = ", ".join(f"{symbol} = {value:.6g}" for symbol, value in values.items())
    found = float(formula.subs(values))
    equation = sympy.pretty(sympy.Eq(quantity, formula, evaluate=False), use_unicode=True)
    lines = (*equation.split("\n"), numbers, f"{quantity} = {found:.6g} {unit}")
    return [title, *(f"  {line}" for line in lines)]


def _symbols(names: str) -> Any:
    import sympy

    return sympy.symbols(names, positive=True)


def _occupancy(launch: LaunchProfile) -> Iterator[Row]:
    import sympy

    target, model = launch.target, launch.model
    resident, most, threads, block, registers, each, shared, own = _symbols(
        "R B_max T_SM T_block W_regs W_block S_SM S_block")
    warps = -(-launch.threads // 32)
    per_warp = -(-model.registers * 32 // 256) * 256
    values: dict[Any, float] = {
        most: target.max_blocks_per_sm, threads: target.max_threads_per_sm, block: 32 * warps,
        registers: target.registers_per_sm // 4 // per_warp * 4 if per_warp else target.max_threads_per_sm // 32,
        each: warps}
    limits = [most, sympy.floor(threads / block), sympy.floor(registers / each)]
    taken = -(-(model.shared + target.shared_reserved) // 128) * 128
    if taken:
        values |= {shared: target.shared_per_sm, own: taken}
        limits.append(sympy.floor(shared / own))
    title = "Blocks that a multiprocessor holds: by their number, threads, registers (as warps), and shared memory"
    yield title, resident, sympy.Min(*limits, evaluate=False), values, "blocks"
    count, machines, held, waves = _symbols("N P R W")
    yield ("Waves", waves, count / (machines * held),
           {count: model.blocks, machines: launch.board.sm_count, held: model.resident}, "waves")


def _bounds(launch: LaunchProfile) -> Iterator[Row]:
    """The resources that take longest, each as if nothing else took time."""
    model, board = launch.model, launch.board
    machines, cycles, work = _symbols("P c w")
    for name in sorted(model.busy, key=model.busy.__getitem__, reverse=True)[:MOST_BOUNDS]:
        title = f"At least: {PIPES.get(name, name)}"
        if name == "DRAM":
            moved, rate, efficiency, clock = _symbols("b B_DRAM e f")
            yield title, cycles, moved * clock / (rate * efficiency), {
                moved: model.memory_bytes, rate: board.memory_bandwidth * 1e9, efficiency: board.efficiency,
                clock: board.clock * 1e9}, "cycles"
        elif name == "L2":
            moved, rate = _symbols("b B_L2")
            yield title, cycles, moved / rate, {moved: model.l2_bytes, rate: board.l2_bandwidth}, "cycles"
        else:
            spent = model.busy[name] * model.cycles * board.sm_count
            sides = 1 if name == "memory" else SUB_CORES
            what = f"w: cycles of the path, {REQUEST:g} a request or one a pass" if name == "memory" else \
                "w: cycles of the pipe, over all warps"
            yield f"{title} ({what})", cycles, work / (sides * machines), {
                work: spent * sides, machines: board.sm_count}, "cycles"


def _time(launch: LaunchProfile) -> Iterator[Row]:
    model, board = launch.model, launch.board
    time, start, cycles, clock = _symbols("t t_launch c f")
    yield ("Time: the simulated multiprocessor, wave by wave, and no less than any of the bounds", time,
           start + cycles / clock, {start: board.launch, cycles: model.cycles, clock: board.clock * 1e9}, "s")


__all__ = ["explain"]
