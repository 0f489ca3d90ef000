"""The pass that gives every dot its unit."""

from __future__ import annotations

from tilus.diagnostics import InternalError, UserError
from tilus.ir.core import Module
from tilus.ir.ops import Dot
from tilus.lowering.dots.fma import MULTIPLY_ADDS
from tilus.lowering.dots.mma import WARP_MMA
from tilus.lowering.dots.quad_pairs import QUAD_PAIRS
from tilus.lowering.dots.unit import DotUnit, types_of
from tilus.targets import Target, get_target

UNITS: tuple[DotUnit, ...] = (*WARP_MMA, QUAD_PAIRS, MULTIPLY_ADDS)
"""Of those that a target has for a dot the first one is taken."""


def choose_dot_units(module: Module) -> None:
    """Give each dot of a tile module the target's best unit, in place; those that the user chose are checked.

    Raises UserError (E0206) where the target has no such unit for a dot's types.
    """
    target = get_target(module.target)
    for function in module.kernels:
        for op in function.walk():
            if isinstance(op, Dot):
                op.unit = _chosen(op, target).name


def _chosen(op: Dot, target: Target) -> DotUnit:
    found = units_for(op, target)
    if not op.unit:
        return found[0]
    chosen = next((unit for unit in found if unit.name == op.unit), None)
    if chosen is None:
        a, b, c = types_of(op)
        raise UserError.at("E0206", f"{target.name} has no unit {op.unit!r} for a dot of {a} and {b} in {c}", op.span,
                           help=f"units: {', '.join(unit.name for unit in found)}")
    return chosen


def units_for(op: Dot, target: Target) -> list[DotUnit]:
    """The units that a target has for a dot, the best first."""
    return [unit for unit in UNITS if (unit.feature is None or target.has(unit.feature)) and unit.takes(op)]


def unit_of(op: Dot) -> DotUnit:
    """The unit that a dot has been given."""
    found = next((unit for unit in UNITS if unit.name == op.unit and unit.takes(op)), None)
    if found is None:
        raise InternalError.at("E0999", f"a dot has no unit {op.unit!r}" if op.unit else "a dot has no unit", op.span,
                               help="the pass choose-dot-units comes first")
    return found
