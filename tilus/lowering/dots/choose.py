"""The pass that gives every dot its unit."""

from __future__ import annotations

from tilus.diagnostics import InternalError, UserError
from tilus.ir.builder import Builder
from tilus.ir.core import Block, Module, Operation, Value
from tilus.ir.dtypes import f16, integer, u8
from tilus.ir.ops import Bitcast, Cast, Const, Dot
from tilus.ir.rewriter import rewrite_block
from tilus.lowering.dots.fma import MULTIPLY_ADDS
from tilus.lowering.dots.mma import WARP_MMA, WarpMma
from tilus.lowering.dots.quad_pairs import QUAD_PAIRS
from tilus.lowering.dots.scaled import SCALED_MMA, ScaledMma
from tilus.lowering.dots.sparse import SPARSE_MMA
from tilus.lowering.dots.unit import DotUnit, types_of
from tilus.lowering.facts import Facts, kernel_facts
from tilus.lowering.simt.access import contiguous_axis
from tilus.targets import Target, get_target

UNITS: tuple[DotUnit, ...] = (*SPARSE_MMA, *SCALED_MMA, *WARP_MMA, QUAD_PAIRS, MULTIPLY_ADDS)
"""Of those that a target has for a dot the first one is taken."""


def choose_dot_units(module: Module) -> None:
    """Give each dot of a tile module the target's best unit, in place; those that the user chose are checked.

    Raises UserError (E0206) where the target has no such unit for a dot's types.
    """
    target = get_target(module.target)
    for function, facts in kernel_facts(module):
        rewrite_block(function.body, lambda op, facts=facts: _given_unit(op, target, facts), {})  # type: ignore[misc]


def _given_unit(op: Operation, target: Target, facts: Facts) -> list[Operation] | None:
    """A dot with its unit. One of 8-bit floats is one of f16, which has all of their numbers, where the target has no
    unit for them; so is one that would be emulated on halves of its fragments, where B does not lie along k, so that
    these are bytes from different rows."""
    if not isinstance(op, Dot):
        return None
    unit = _chosen(op, target)
    if isinstance(unit, ScaledMma) and unit.bits == 8 and not op.formats:
        op.unit = unit.name
        return [*_in_bytes(op), op]
    if not op.unit and _wider(op, unit, target, facts):
        casts = [Cast(x, f16, span=op.span) for x in (op.a, op.b)]
        op.a, op.b = (cast.result for cast in casts)
        op.unit = _chosen(op, target).name
        return [*casts, op]
    op.unit = unit.name
    return None


def _wider(op: Dot, unit: DotUnit, target: Target, facts: Facts) -> bool:
    """Whether a dot's operands become f16."""
    if isinstance(unit, WarpMma) and unit.by_halves and unit.feature in target.emulated:
        return contiguous_axis(facts, op.b, {}) != 0
    narrow = all(x.tile.dtype.is_float and x.tile.dtype.bits == 8 for x in (op.a, op.b))
    return unit is MULTIPLY_ADDS and narrow and op.a.tile.rank == 2


def _in_bytes(op: Dot) -> list[Operation]:
    """What gives a scaled dot its operands of less than 8 bits as bytes, which instructions take."""
    b = Builder(Block(), op.span)
    op.formats = tuple(dtype.name for dtype in op.elements)
    op.a, op.b = (_bytes_of(b, operand) for operand in (op.a, op.b))
    return b.block.ops


def _bytes_of(b: Builder, operand: Value) -> Value:
    tile = operand.tile
    if tile.dtype.bits == 8:
        return operand
    codes = b.add(Bitcast(operand, integer(tile.dtype.bits, signed=False))).result
    found = b.add(Cast(codes, u8)).result
    if tile.dtype.bits > 4:
        return found
    return b.binary("shl", found, b.add(Const(2, u8, tile.shape)).result)


def _chosen(op: Dot, target: Target) -> DotUnit:
    found = units_for(op, target)
    if not found:  # multiply-adds are for all others
        if op.is_scaled:
            raise UserError.at("E0502", f"{target.name} has no scaled dot", op.span, help="multiply operands by scales")
        raise UserError.at("E0502", f"{target.name} has no sparse dot of {op.a.tile.dtype}", op.span,
                           help="give the dot all of A, zeros included")
    if not op.unit:
        return found[0]
    chosen = next((unit for unit in found if unit.name == op.unit), None)
    if chosen is None:
        a, b, c = types_of(op)
        kind = "dot" if op.is_plain else "scaled dot" if op.is_scaled else "sparse dot"
        raise UserError.at("E0206", f"{target.name} has no unit {op.unit!r} for a {kind} of {a} and {b} in {c}",
                           op.span, help=f"units: {', '.join(unit.name for unit in found)}")
    return chosen


def units_for(op: Dot, target: Target) -> list[DotUnit]:
    """The units that a target has for a dot, the best first. What the chip only emulates comes last, if there is no way
    around that."""
    found = [unit for unit in UNITS if (unit.feature is None or target.has(unit.feature)) and unit.takes(op)]
    return sorted(found, key=lambda unit: unit.feature in target.emulated
                  and not (isinstance(unit, WarpMma) and unit.by_halves))


def unit_of(op: Dot) -> DotUnit:
    """The unit that a dot has been given."""
    found = next((unit for unit in UNITS if unit.name == op.unit and unit.takes(op)), None)
    if found is None:
        raise InternalError.at("E0999", f"a dot has no unit {op.unit!r}" if op.unit else "a dot has no unit", op.span,
                               help="the pass choose-dot-units comes first")
    return found
