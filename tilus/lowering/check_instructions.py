"""Refuses what the user named and the target lacks: before any pass adds operations of its own."""

from __future__ import annotations

from tilus.diagnostics import Diagnostic, Label, ResourceError, UnsupportedError
from tilus.ir.core import Module, Operation
from tilus.ir.types import TileType
from tilus.targets import TARGETS, get_target
from tilus.targets.features import NAMED_INSTRUCTIONS


def check_instructions(module: Module) -> None:
    """Raise UnsupportedError (E0502) with every place that names an instruction which the target lacks."""
    target = get_target(module.target)
    missing: dict[str, dict[Label, None]] = {}
    for function in module.kernels:
        threads = target.warp_size * function.attributes.warps
        for op in function.walk():
            _check_registers(op, threads, target.name)
            if not target.supports(op.NAME):
                missing.setdefault(op.NAME, {})[Label(op.span, "named here")] = None
    if missing:
        raise UnsupportedError([_lacks(name, tuple(places), target.name) for name, places in missing.items()])


MOST_ELEMENTS = 4096
"""Elements of one tile that a thread cannot hold, whatever their type: it has 255 registers of 32 bits."""


def _check_registers(op: Operation, threads: int, target: str) -> None:
    for value in op.results:
        if isinstance(value.type, TileType) and value.type.size > MOST_ELEMENTS * threads:
            raise ResourceError.at(
                "E0508", f"a tile of shape {value.type.shape} is {-(-value.type.size // threads)} elements for each of "
                         f"{threads} threads, which the registers of {target} cannot hold", op.span,
                help="use smaller tiles, in a loop or a larger grid")


def _lacks(name: str, places: tuple[Label, ...], target: str) -> Diagnostic:
    feature = NAMED_INSTRUCTIONS[name]
    having = [t.name for t in TARGETS.values() if t.has(feature)]
    return Diagnostic("E0502", f"{target} lacks what tl.{name} names: {feature.value}", places,
                      f"choose in the kernel with `tl.supports(tl.{name})`; targets that have it: {', '.join(having)}")
