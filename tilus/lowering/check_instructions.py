"""Refuses what the user named and the target lacks: before any pass adds operations of its own."""

from __future__ import annotations

from tilus.diagnostics import Diagnostic, Label, UnsupportedError
from tilus.ir.core import Module
from tilus.targets import TARGETS, get_target
from tilus.targets.features import NAMED_INSTRUCTIONS


def check_instructions(module: Module) -> None:
    """Raise UnsupportedError (E0502) with every place that names an instruction which the target lacks."""
    target = get_target(module.target)
    missing: dict[str, dict[Label, None]] = {}
    for function in module.kernels:
        for op in function.walk():
            if not target.supports(op.NAME):
                missing.setdefault(op.NAME, {})[Label(op.span, "named here")] = None
    if missing:
        raise UnsupportedError([_lacks(name, tuple(places), target.name) for name, places in missing.items()])


def _lacks(name: str, places: tuple[Label, ...], target: str) -> Diagnostic:
    feature = NAMED_INSTRUCTIONS[name]
    having = [t.name for t in TARGETS.values() if t.has(feature)]
    return Diagnostic("E0502", f"{target} lacks what tl.{name} names: {feature.value}", places,
                      f"choose in the kernel with `tl.supports(tl.{name})`; targets that have it: {', '.join(having)}")
