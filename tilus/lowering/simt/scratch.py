"""How much scratch shared memory an operation needs."""

from __future__ import annotations

import math

from tilus.ir.core import Operation, Value
from tilus.ir.ops import (
    Atomic,
    Concat,
    ConvertLayout,
    Dot,
    Insert,
    Reduce,
    ReduceWith,
    Reshape,
    Scan,
    ScanWith,
    Slice,
    Take,
    Transpose,
)
from tilus.ir.types import TileType
from tilus.layouts import RegisterLayout
from tilus.layouts.convert import Plan, SharedPlan, conversion_rounds, plan_conversion
from tilus.lowering.dots import Place, unit_of
from tilus.lowering.layout_rules import is_tile, parts_registers, registers_of, result_layout
from tilus.lowering.simt.bits import register_type
from tilus.targets import Feature, Target

ROUND_BYTES = 32 * 1024
"""Conversions of larger tiles go in rounds, unless the kernel has as much shared memory anyway."""


def scratch_bytes(op: Operation, target: Target, in_place: set[Value], limit: int) -> int:
    """Bytes of shared memory that the operation uses while it runs; 0 for none. Dots read what is ``in_place``;
    conversions take ``limit`` bytes where rounds of as many can do them."""
    if isinstance(op, ConvertLayout):
        return conversion_bytes(op.x.tile, op.x.tile.layout, op.layout, target, limit)
    if isinstance(op, Reshape) and is_tile(op.x) and op.result.tile.is_scalar:
        assert op.x.tile.layout is not None
        return 0 if holds_only_element(op.x.tile.layout) else _storage(op.x.tile)
    if isinstance(op, (Transpose, Reshape)) and is_tile(op.x):
        moved = result_layout(op, op.x, op.x.tile.layout)  # type: ignore[arg-type]
        tile = op.result.tile
        if moved is None:
            return _storage(op.x.tile) * math.prod(tile.shape)
        return conversion_bytes(tile, moved, tile.layout, target, limit)
    if isinstance(op, (Reduce, ReduceWith)):
        return _reduction_bytes(op)
    if isinstance(op, (Scan, ScanWith)):
        return _scan_bytes(op)
    if isinstance(op, Slice):
        return 0 if slice_in_place(op) is not None else _storage(op.x.tile) * op.x.tile.size
    if isinstance(op, (Insert, Concat)) and parts_in_place(op) is not None:
        return 0
    if isinstance(op, (Insert, Concat)):
        return _storage(op.result.tile) * op.result.tile.size
    if isinstance(op, Dot):
        return _dot_bytes(op, in_place)
    if isinstance(op, Take):
        return _storage(op.x.tile) * op.x.tile.size
    if isinstance(op, Atomic) and is_tile(op.result):
        layout = op.result.tile.layout
        assert layout is not None
        return _storage(op.result.tile) * layout.size if layout.is_replicated else 0
    if isinstance(op, Atomic):
        return 8
    return 0


def holds_only_element(layout: RegisterLayout) -> bool:
    """Whether every thread's first register is the element at index 0."""
    return not any(layout.thread_terms(d) for d in range(layout.rank))


def _storage(tile: TileType) -> int:
    """Bytes of an element in scratch memory."""
    return max(1, register_type(tile.dtype).bits // 8)


def conversion_plan(tile: TileType, source: RegisterLayout, target: RegisterLayout, machine: Target) -> Plan:
    """How a tile goes from one layout to another on a machine."""
    has_matrices = not tile.dtype.is_bool  # a predicate is no byte of a register
    matrices = (has_matrices and machine.has(Feature.STMATRIX), has_matrices and machine.has(Feature.LDMATRIX))
    return plan_conversion(source, target, register_type(tile.dtype).bits, tile.shape, matrices=matrices,
                           transposes=has_matrices and machine.has(Feature.MOVMATRIX))


def conversion_bytes(tile: TileType, source: RegisterLayout | None, target: RegisterLayout | None,
                     machine: Target, limit: int) -> int:
    """Scratch bytes of a conversion between two layouts."""
    assert source is not None
    assert target is not None
    plan = conversion_plan(tile, source, target, machine)
    if not isinstance(plan, SharedPlan):
        return 0
    return max(part.plan.bytes for part in conversion_rounds(plan, limit))


def shared_digits(layout: RegisterLayout, axis: int) -> list[tuple[int, int]]:
    """Thread digits ``(divisor, size)`` along ``axis`` that butterfly shuffles within a warp cannot reduce; a digit
    that crosses the warp's boundary is split at it."""
    found = []
    for divisor, size, dim, _ in layout.thread_digits:
        if dim != axis:
            continue
        if not (_power(divisor) and _power(size)) or divisor >= 32:
            found.append((divisor, size))
        elif divisor * size > 32:
            found.append((32, divisor * size // 32))
    return found


def lane_masks(layout: RegisterLayout, axis: int) -> list[int]:
    """The butterfly masks that reduce the thread digits along ``axis`` within a warp, smallest first."""
    masks = []
    for divisor, size, dim, _ in layout.thread_digits:
        if dim != axis or not (_power(divisor) and _power(size)):
            continue
        bit = divisor
        while bit < min(32, divisor * size):
            masks.append(bit)
            bit *= 2
    return sorted(masks)


def _power(n: int) -> bool:
    return n & (n - 1) == 0


def _reduction_bytes(op: Reduce | ReduceWith) -> int:
    xs = (op.x,) if isinstance(op, Reduce) else op.xs
    layout = xs[0].tile.layout
    assert layout is not None
    count = math.prod(size for _, size in shared_digits(layout, op.axis))
    if count == 1:
        return 0
    elements = layout.reduce(op.axis).size
    widths = [max(4, _storage(x.tile)) for x in xs]
    if isinstance(op, Reduce) and op.kind.startswith("arg"):
        widths.append(8)
    if isinstance(op, ReduceWith) and layout.shape[op.axis] != xs[0].tile.shape[op.axis]:
        widths.append(4)  # whether an element exists
    return sum(-(-count * elements * w // 16) * 16 for w in widths)


def scan_digits(layout: RegisterLayout, axis: int) -> tuple[tuple[int, int] | None, list[tuple[int, int]]]:
    """The thread digit ``(divisor, size)`` along ``axis`` that shuffles within a warp scan, if there is one, and those
    that are left, outermost first. A digit that crosses the warp's boundary is split at it."""
    digits = [(divisor, size) for divisor, size, dim, _ in layout.thread_digits if dim == axis]
    if not digits or digits[-1][0] >= 32 or not all(map(_power, digits[-1])):
        return None, digits
    divisor, size = digits[-1]
    lanes = min(size, 32 // divisor)
    rest = [(divisor * lanes, size // lanes)] if size > lanes else []
    return (divisor, lanes), digits[:-1] + rest


def scan_slots(layout: RegisterLayout, axis: int) -> tuple[int, int]:
    """How many totals of a row meet in shared memory, and how many rows of a register do."""
    lanes, others = scan_digits(layout, axis)
    count = math.prod(size for _, size in others)
    return count, layout.num_threads // count // (lanes[1] if lanes else 1)


def _scan_bytes(op: Scan | ScanWith) -> int:
    xs = (op.x,) if isinstance(op, Scan) else op.xs
    layout = xs[0].tile.layout
    assert layout is not None
    count, group = scan_slots(layout, op.axis)
    if count == 1:
        return 0
    rows = layout.num_locals // math.prod(size for _, size, dim, _ in layout.local_digits if dim == op.axis)
    widths = [max(4, _storage(x.tile)) for x in xs]
    if isinstance(op, ScanWith) and op.reverse and layout.shape[op.axis] != xs[0].tile.shape[op.axis]:
        widths.append(4)  # whether an element exists
    return sum(-(-count * group * rows * width // 16) * 16 for width in widths)


def _dot_bytes(op: Dot, in_place: set[Value]) -> int:
    """Operands in registers, of a unit that takes them in shared memory, go through it."""
    if unit_of(op).place is not Place.SHARED:
        return 0
    return sum(operand_bytes(v) for v in (op.a, op.b) if v not in in_place)


def operand_bytes(value: Value) -> int:
    """Scratch bytes of a dot's operand, a multiple of 16."""
    return -(-_storage(value.tile) * value.tile.size // 16) * 16


def parts_in_place(op: Insert | Concat) -> list[tuple[Value, tuple[int, ...]]] | None:
    """The parts of a tile, each with the registers of the result that its own become, where every thread has its share
    of all of them already; else None."""
    layout = op.result.tile.layout
    if layout is None or (isinstance(op, Insert) and op.x.tile.layout != layout):
        return None
    found = []
    for part, registers in parts_registers(op, layout):
        if registers is None or registers.layout != part.tile.layout:
            return None
        found.append((part, registers.locals))
    return found


def slice_in_place(op: Slice) -> tuple[int, ...] | None:
    """The registers that a slice keeps, where every thread has its share already; else None."""
    layout = op.x.tile.layout
    part = None if layout is None else registers_of(op, layout)
    return tuple(part.locals) if part is not None and part.layout == op.result.tile.layout else None
