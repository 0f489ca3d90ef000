"""The pass: what a machine does not spell becomes what it does, at thread level."""

from __future__ import annotations

from collections.abc import Callable

from tilus.diagnostics import UnsupportedError
from tilus.ir.builder import Builder
from tilus.ir.core import Block, Module, Operation, Value
from tilus.lowering.legalise.legality import Legality, Machine, subject
from tilus.lowering.legalise.rules import RULES, Rule
from tilus.targets import get_target


def legalise(legality: Legality) -> Callable[[Module], None]:
    """The pass for a machine's emitters: it works on the kernels of a thread-level module, in place."""

    def run(module: Module) -> None:
        machine = Machine(legality, get_target(module.target))
        for function in module.kernels:
            legalise_block(function.body, machine)

    return run


def legalise_block(block: Block, machine: Machine) -> None:
    """The same for the operations of one block, in place."""
    _Legaliser(machine).block(block)


class _Legaliser:
    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.mapping: dict[Value, Value] = {}

    def block(self, block: Block) -> None:
        ops: list[Operation] = []
        for op in block.ops:
            self.operation(op, ops)
        block.ops = ops

    def operation(self, op: Operation, ops: list[Operation]) -> None:
        """Append the operation, or what takes its place, which is made legal in turn."""
        if self.mapping:
            op.map_operands(lambda v: self.mapping.get(v, v))
        rules = RULES.get(type(op))
        if rules is None or self.machine.spells(op):
            ops.append(op)
            for region in op.regions:
                self.block(region)
            return
        builder = Builder(Block(), op.span)
        new = self.rule(op, rules).rewrite(builder, op, self.machine)
        values = (new,) if isinstance(new, Value) else new
        for made in builder.block.ops:
            self.operation(made, ops)
        for old, value in zip(op.results, values, strict=True):
            self.mapping[old] = self.mapping.get(value, value)

    def rule(self, op: Operation, rules: list[Rule]) -> Rule:
        for rule in rules:
            if rule.applies(op, self.machine):
                return rule
        kind = f" {op.kind}" if hasattr(op, "kind") else ""
        raise UnsupportedError.at(
            "E0507", f"{self.machine.target.name} has no {op.NAME}{kind} of {subject(op)}", op.span)
