"""Elementwise calls write where an operand is that nothing needs any more."""

from __future__ import annotations

from tilus.ir.core import Block, Module, Operation, Value
from tilus.ir.ops.cores import Call, Local, local_type
from tilus.ir.rewriter import replace_values
from tilus.ir.types import LocalType
from tilus.lowering.ascend.accesses import local_of
from tilus.lowering.ascend.rotation import program_blocks

IN_PLACE = frozenset({
    "Add", "Sub", "Mul", "Div", "Max", "Min", "Adds", "Muls", "Maxs", "Mins", "Exp", "Ln", "Sqrt", "Abs", "And", "Or",
    "Not", "ShiftLeft", "ShiftRight",
})
"""Calls that may have their result at the address of their first operand."""


def share_tensors(module: Module) -> None:
    """Merge tensors in place."""
    for function in module.kernels:
        for program in program_blocks(function):
            uses = _uses(program)
            for block in _blocks(program):
                _share(block, uses)


def _blocks(block: Block) -> list[Block]:
    return [block, *(inner for op in block.ops for region in op.regions for inner in _blocks(region))]


def _uses(program: Block) -> dict[Local, list[Operation]]:
    """The operations that use each tensor, in order."""
    uses: dict[Local, list[Operation]] = {}
    for op in program.walk():
        for value in op.operands:
            local = local_of(value) if isinstance(value.type, LocalType) else None
            if local is not None and not (op.results and isinstance(op.results[0].type, LocalType)):
                uses.setdefault(local, []).append(op)
    return uses


def _share(block: Block, uses: dict[Local, list[Operation]]) -> None:
    made = {op for op in block.ops if isinstance(op, Local)}
    here = set(map(id, block.ops))
    mapping: dict[Value, Value] = {}
    for op in block.ops:
        if not isinstance(op, Call) or op.form.split("(")[0] not in IN_PLACE or op.written != 1:
            continue
        to, source = (_whole(v, mapping) for v in (op.tensors[0], op.tensors[1]))
        if to is None or source is None or to is source or to not in made or source not in made:
            continue
        alike = local_type(to.result).bytes == local_type(source.result).bytes and to.dtype is source.dtype
        if alike and to.slots == source.slots == 1 and uses[to][0] is op and uses[source][-1] is op and all(
                id(user) in here for user in uses[source]):
            mapping[to.result] = source.result
            uses[source] = list(dict.fromkeys((*uses[source], *uses.pop(to))))
    if mapping:
        replace_values(block, mapping)
        block.ops = [op for op in block.ops if not (isinstance(op, Local) and op.result in mapping)]


def _whole(value: Value, mapping: dict[Value, Value]) -> Local | None:
    """The tensor that a value is all of."""
    while value in mapping:
        value = mapping[value]
    return value.defining if isinstance(value.defining, Local) else None
