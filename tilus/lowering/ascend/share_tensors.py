"""Elementwise calls write where an operand is that nothing needs any more. Where copies go by queues, one that brings a
tile and one that takes a result away have tensors of their own."""

from __future__ import annotations

from tilus.ir.core import Block, Module, Operation, Value
from tilus.ir.ops.cores import Call, Local, Part, local_type
from tilus.ir.rewriter import replace_values
from tilus.ir.types import LocalType
from tilus.lowering.ascend.accesses import local_of
from tilus.lowering.ascend.programs import program_blocks, queued_programs

IN_PLACE = frozenset({
    "Add", "Sub", "Mul", "Div", "Max", "Min", "Adds", "Muls", "Maxs", "Mins", "Exp", "Ln", "Sqrt", "Abs", "And", "Or",
    "Not", "ShiftLeft", "ShiftRight",
})
"""Calls that may have their result at the address of their first operand."""


def share_tensors(module: Module) -> None:
    """Merge tensors in place."""
    for function in module.kernels:
        queued = queued_programs(function)
        for program in program_blocks(function):
            uses = _uses(program)
            for block in _blocks(program):
                _share(block, uses, queued=program in queued)


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


def _share(block: Block, uses: dict[Local, list[Operation]], *, queued: bool) -> None:
    made = {op for op in block.ops if isinstance(op, Local)}
    here = set(map(id, block.walk()))
    mapping: dict[Value, Value] = {}
    for op in block.ops:
        if not isinstance(op, Call) or op.form.split("(")[0] not in IN_PLACE or op.written != 1:
            continue
        to, source = (_current(v, mapping) for v in op.tensors[:2])
        if to is None or source is None or to is source or to not in made or source not in made:
            continue
        if queued and _is_copied(uses[source], "MTE2") and _is_copied(uses[to], "MTE3"):
            continue
        alike = to.dtype is source.dtype and to.size == source.size and _place(op.tensors[0]) == _place(op.tensors[1])
        if alike and to.slots == 1 and _same_call(uses[to][0], op) and _same_call(uses[source][-1], op) and all(
                id(user) in here for user in uses[source]):
            mapping[to.result] = source.result
            uses[source] = list(dict.fromkeys((*uses[source], *uses.pop(to))))
    if mapping:
        replace_values(block, mapping)
        block.ops = [op for op in block.ops if not (isinstance(op, Local) and op.result in mapping)]


def _is_copied(users: list[Operation], pipe: str) -> bool:
    return any(isinstance(op, Call) and op.pipe == pipe for op in users)


def _current(value: Value, mapping: dict[Value, Value]) -> Local | None:
    """The tensor that a value is, or is a part of."""
    local = local_of(value)
    while local is not None and local.result in mapping:
        local = local_of(mapping[local.result])
    return local


def _place(value: Value) -> object:
    """Which part of its tensor a value is."""
    op = value.defining
    return (op.start, op.offset, op.size) if isinstance(op, Part) else (0, None, local_type(value).size)


def _same_call(a: Operation, b: Call) -> bool:
    return a is b or (isinstance(a, Call) and a.group == b.group != 0)
