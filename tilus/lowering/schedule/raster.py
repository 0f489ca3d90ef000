"""Block rasterisation: blocks that run at the same time share what they read, so that it comes from the L2 cache.

The hardware starts blocks in the order of their numbers, the first axis fastest. Where some loads depend on the first
axis and others on the second, as in a matrix product, a wave of blocks that is narrow along the first axis and long
along the second reads fewer distinct tiles. The kernel's first axis is therefore launched in groups of columns: a grid
(X, Y) becomes (width, Y, groups) with width * groups >= X, and the blocks beyond X do nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from tilus.ir.core import Block, Function, Module, Operation, Value
from tilus.ir.ops import Atomic, Dot, For, GridIndex, Load, WaitUntil, While
from tilus.targets import Feature, get_target
from tilus.targets.grid import MAX_OTHER_EXTENT


def rasterise_blocks(module: Module) -> None:
    """Set the attribute ``raster``, the width of a group, of kernels that gain by it and have none; 0 is no groups.

    Where copies to shared memory pass through registers, a loop has none to spare for the number of its block, and a
    spill costs more than groups bring.
    """
    target = get_target(module.target)
    for function in module.kernels:
        if function.attributes.raster is None and function.attributes.grid_rank > 1:
            gains = target.has(Feature.CP_ASYNC) and not depends_on_order(function)
            function.attributes.raster = _group_width(function, target.sm_count) if gains else 0


def launched_grid(grid: Sequence[int], raster: int, folded: bool = False) -> tuple[tuple[int, int, int], int]:
    """The grid to launch for one of a kernel whose groups are ``raster`` columns wide, and the number of groups.

    The columns are shared out evenly over the groups, so that few blocks are beyond the grid.
    """
    x, y, z = (*grid, 1, 1)[:3]
    if folded:
        return (x * y * z, 1, 1), 1
    if not raster:
        return (x, y, z), 1
    groups = max(1, min(-(-x // raster), MAX_OTHER_EXTENT // max(z, 1)))
    width = -(-x // groups)
    groups = -(-x // width)
    return (width, y, groups * z), groups


def fold_grid(module: Module) -> None:
    """Number the blocks along the first axis alone, in their order: for grids that a GPU does not launch as they are.
    Kernels find their indices by divisions then, which others are spared."""
    for function in module.kernels:
        if function.attributes.grid_rank > 1:
            function.attributes.folded, function.attributes.raster = True, 0


def depends_on_order(function: Function) -> bool:
    """Whether blocks wait for others, which they may for lower ones: the order in which they start has to stay."""
    if function.attributes.cooperative:
        return True
    return any(isinstance(op, WaitUntil) or (isinstance(op, While) and any(isinstance(i, Atomic) for i in op.walk()))
               for op in function.walk())


def _group_width(function: Function, sm_count: int) -> int:
    """The width that reads least in a wave of one block per multiprocessor.

    A wave of R blocks, G wide, reads G tiles along the first axis and R / G along the second: with A and B bytes each,
    G A + R B / G is least at G = sqrt(R B / A).
    """
    along = [0, 0]
    axes: dict[Value, frozenset[int]] = {}
    _count_loads(function.body, axes, False, along)
    first, second = along
    return max(1, round(math.sqrt(sm_count * second / first))) if first and second else 0


def _count_loads(block: Block, axes: dict[Value, frozenset[int]], in_loop: bool, along: list[int]) -> None:
    """Add up the bits that loops with dots load by the first axis alone, and by the second alone."""
    for op in block.ops:
        depends = _axes_of(op, axes)
        for result in op.results:
            axes[result] = depends
        for region in op.regions:
            axes.update(dict.fromkeys(region.args, depends))
            loops = isinstance(op, For) and any(isinstance(inner, Dot) for inner in op.walk())
            _count_loads(region, axes, in_loop or loops, along)
        if in_loop and isinstance(op, Load):
            where = _union((op.view, *op.offsets), axes) & {0, 1}
            if len(where) == 1:
                along[min(where)] += op.result.tile.size * op.result.tile.dtype.bits


def _axes_of(op: Operation, axes: dict[Value, frozenset[int]]) -> frozenset[int]:
    """The axes of the grid that the results of an operation depend on."""
    if isinstance(op, GridIndex):
        return frozenset((op.axis,))
    return _union(op.operands, axes)


def _union(values: Sequence[Value], axes: dict[Value, frozenset[int]]) -> frozenset[int]:
    return frozenset[int]().union(*(axes.get(v, frozenset()) for v in values))
