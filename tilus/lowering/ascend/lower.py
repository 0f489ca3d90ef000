"""From tile programs to programs of an Ascend core: blocks in a loop over those of a core, tiles in local memory."""

from __future__ import annotations

from collections.abc import Callable

from tilus.ir.attributes import Attributes
from tilus.ir.core import Block, Function, Module, Operation, Value
from tilus.ir.dtypes import DType, i64, u8
from tilus.ir.families import DerivedView
from tilus.ir.ops import (
    Assume,
    Binary,
    Bitcast,
    Cast,
    Compare,
    Concat,
    Dim,
    Fma,
    For,
    GridIndex,
    GridSize,
    If,
    Insert,
    Load,
    Reduce,
    Scan,
    Select,
    Slice,
    Store,
    Stride,
    Transpose,
    Unary,
    While,
    Yield,
)
from tilus.ir.ops.cores import CoreIndex, Receive, Send, Side, Strips
from tilus.ir.types import PointerType, TileType, ViewType
from tilus.lowering.ascend.casts import lower_cast
from tilus.lowering.ascend.channels import Channels, Ports
from tilus.lowering.ascend.comparisons import narrow_comparisons
from tilus.lowering.ascend.control import lower_for, lower_if, lower_strips, lower_while
from tilus.lowering.ascend.core import Core, Scalar
from tilus.lowering.ascend.cube import Cube
from tilus.lowering.ascend.elementwise import (
    lower_binary,
    lower_bitcast,
    lower_compare,
    lower_fma,
    lower_select,
    lower_unary,
)
from tilus.lowering.ascend.movement import (
    lower_concat,
    lower_insert,
    lower_load,
    lower_receive,
    lower_send,
    lower_slice,
    lower_store,
    lower_transpose,
)
from tilus.lowering.ascend.reductions import lower_reduce
from tilus.lowering.ascend.scans import lower_scan
from tilus.lowering.ascend.vector import Vector
from tilus.lowering.ascend.views import GlobalView


def lower_to_cores(module: Module) -> Module:
    """The kernels of a tile module for the cores of the target."""
    functions = [_lower_kernel(kernel, module.launch) for kernel in module.kernels]
    return Module(functions, None, "thread", frozenset({"cores"}), module.target)


def _held_as(dtype: DType) -> DType:
    """What elements in global memory are for copies: those of less than a byte are bytes of several."""
    return u8 if dtype.packed_bits < 8 else dtype


class Signature:
    """The arguments of a core's function: pointers, what extents and strides are run-time values, scalars, and the
    extents of the grid."""

    def __init__(self, kernel: Function) -> None:
        self.body = Block()
        self.names: list[str] = []
        self.arrays: dict[Value, GlobalView] = {}
        self.scalars: dict[Value, Value] = {}
        for value, parameter in zip(kernel.body.args, kernel.parameters, strict=True):
            if isinstance(value.type, ViewType):
                pointer = self._argument(PointerType(_held_as(value.type.dtype)), parameter.name, parameter.name)
                extents = [self._number(n, f"{parameter.name}.shape[{d}]", f"{parameter.name}_shape{d}")
                           for d, n in enumerate(parameter.shape or value.type.shape)]
                known = parameter.strides or (None,) * value.type.rank
                if parameter.contiguous and known:
                    known = (*known[:-1], 1)
                strides = [self._number(n, f"{parameter.name}.strides[{d}]", f"{parameter.name}_stride{d}")
                           for d, n in enumerate(known)]
                self.arrays[value] = GlobalView(pointer, 0, (0,) * len(extents), tuple(extents), tuple(strides))
            else:
                self.scalars[value] = self._argument(value.type, parameter.name, parameter.name)
        self.grid = [self._argument(TileType(i64), f"grid[{axis}]", f"grid{axis}")
                     for axis in range(kernel.attributes.grid_rank)]

    def _argument(self, type_: object, meaning: str, name: str) -> Value:
        self.names.append(meaning)
        return self.body.add_arg(type_, name)  # type: ignore[arg-type]

    def _number(self, known: int | None, meaning: str, name: str) -> Scalar:
        return self._argument(TileType(i64), meaning, name) if known is None else known


def _lower_kernel(kernel: Function, launch: Function | None) -> Function:
    signature = Signature(kernel)
    channels = Channels(signature.body, signature.names, Vector.target, kernel)
    sides = [op for op in kernel.body.ops if isinstance(op, Side)]
    kinds = {op.kind for op in sides}
    if len(sides) > 1:
        for side in sides:
            made = Side(side.kind, Block(), span=side.span)
            _lower_side(made.body, kernel, side.body, side.kind, signature, channels, launch, mixed=True)
            signature.body.ops.append(made)
        signature.body.ops.append(Yield())
    else:
        body = sides[0].body if sides else kernel.body
        kind = "cube" if kinds == {"cube"} else "vector"
        _lower_side(signature.body, kernel, body, kind, signature, channels, launch, mixed=False)
    cores = "MIX_AIC_1_2" if len(sides) > 1 else "AIC_ONLY" if kinds == {"cube"} else "AIV_ONLY"
    attributes = Attributes(grid_rank=kernel.attributes.grid_rank, arguments=tuple(signature.names),
                            queues=kernel.attributes.queues, cores=cores)
    return Function(kernel.name, signature.body, (), attributes, kernel.span)


def _lower_side(into: Block, kernel: Function, body: Block, kind: str, signature: Signature, channels: Channels,
                launch: Function | None, *, mixed: bool) -> None:
    """The program of one kind of core: the blocks of the grid that are its turn."""
    source = Block()
    source.args, source.ops = kernel.body.args, body.ops
    function = Function(kernel.name, source, kernel.parameters, kernel.attributes, kernel.span)
    facts = narrow_comparisons(function, launch)
    body = function.body
    core = Core(into)
    core.span = kernel.span
    first = core.emit(CoreIndex("whole" if mixed and kind == "vector" else "block"))
    step = core.emit(CoreIndex("blocks"))
    at = len(into.ops)
    ports = Ports(core, channels, first)
    side: Vector | Cube = (Cube(core, function, facts, signature.arrays, ports) if kind == "cube" else
                           Vector(core, function, facts, signature.arrays, ports))
    side.rules = RULES
    side.scalars.update(signature.scalars)
    total: Scalar = 1
    for extent in signature.grid:
        total = core.mul(total, extent)
    with core.loop(first, total, step, "block") as block:
        side.grid, side.extents = _indices(core, block, signature.grid), list(signature.grid)
        for op in body.ops:
            if not isinstance(op, Yield):
                side.operation(op)
    if isinstance(side, Cube):
        for halves in (side.stages, side.exits):
            into.ops[at:at] = halves.opening()
            into.ops += halves.closing()
    into.ops[at:at] = ports.opening()
    into.ops += ports.closing("FIX" if kind == "cube" else "MTE3")
    core.append(Yield())


def _indices(core: Core, block: Scalar, grid: list[Value]) -> list[Scalar]:
    """The indices of a block from its number, of which the first axis runs fastest."""
    indices: list[Scalar] = []
    for extent in grid[:-1]:
        rest = core.emit(Binary("quo", core.value(block), extent))
        indices.append(core.sub(block, core.mul(rest, extent)))
        block = rest
    return [*indices, block]


def lower_part(vector: Vector, op: CoreIndex) -> None:
    vector.scalars[op.result] = vector.core.emit(CoreIndex(op.kind))


def lower_grid_index(vector: Vector, op: GridIndex) -> None:
    vector.scalars[op.result] = vector.core.value(vector.grid[op.axis])


def lower_grid_size(vector: Vector, op: GridSize) -> None:
    vector.scalars[op.result] = vector.core.value(vector.extents[op.axis])


def lower_dim(vector: Vector, op: Dim) -> None:
    view = vector.views.of(op.view)
    vector.scalars[op.result] = vector.core.value(view.highs[op.axis])


def lower_stride(vector: Vector, op: Stride) -> None:
    vector.scalars[op.result] = vector.core.value(vector.views.of(op.view).strides[op.axis])


def nothing(vector: Vector, op: Operation) -> None:
    """Said to the compiler alone, or done where it is used."""


RULES: dict[type[Operation], Callable[..., None]] = {
    Binary: lower_binary, Unary: lower_unary, Compare: lower_compare, Select: lower_select, Cast: lower_cast,
    Fma: lower_fma, Bitcast: lower_bitcast, Load: lower_load, Store: lower_store, Transpose: lower_transpose,
    Slice: lower_slice, Concat: lower_concat, Insert: lower_insert, Reduce: lower_reduce, Scan: lower_scan,
    For: lower_for, If: lower_if,
    While: lower_while, GridIndex: lower_grid_index, GridSize: lower_grid_size, Dim: lower_dim, Stride: lower_stride,
    Assume: nothing, CoreIndex: lower_part, Strips: lower_strips, Send: lower_send, Receive: lower_receive,
}
RULES.update((kind, nothing) for kind in DerivedView.__subclasses__())
