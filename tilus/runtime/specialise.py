"""Specialisations: a kernel with its compile-time arguments and what is assumed of the others."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from tilus.diagnostics import Diagnostic, warn
from tilus.ir.core import Module, Parameter
from tilus.lang.capture import CapturedFunction
from tilus.lang.reads import Reads
from tilus.lang.signature import Signature
from tilus.records import field, record

if TYPE_CHECKING:
    from tilus.targets import Target


@record(eq=False)
class Specialisation:
    """One specialisation of a kernel.

    Attributes:
        constants: the compile-time arguments, and None for absent optional ones.
        parameters: what is assumed of the other arguments, in order.
        reads: what its traces have read outside of the kernel.
        runners: what runs it, by engine.
        written: the names of the arrays that it may write, on any target it has been traced for.
        checked, hazards: the targets for which it has been looked at for missing barriers, and what was found.
    """

    captured: CapturedFunction
    signature: Signature
    constants: dict[str, Any]
    parameters: tuple[Parameter, ...]
    reads: Reads = field(default_factory=Reads)
    runners: dict[str, Any] = field(default_factory=dict)
    written: frozenset[str] | None = None
    may_alias: frozenset[str] = frozenset()
    checked: set[str] = field(default_factory=set)
    hazards: list[Diagnostic] = field(default_factory=list)
    lock: threading.RLock = field(default_factory=threading.RLock)

    def trace(self, target: Target | None = None) -> Module:
        """A new tile module of it for a target (None: for the engines of the host). Raises UserError."""
        from tilus.lang.program import trace_kernel  # loaded by the first trace: importing tilus does without

        module = trace_kernel(self.captured, self.signature, self.constants, list(self.parameters), target,
                              self.reads)
        kernel = module.kernels[0]
        written = frozenset(p.name for p in kernel.parameters if p.written and p.kind == "array")
        self.written = written | (self.written or frozenset())
        self.may_alias = frozenset(kernel.attributes.may_alias)
        name = target.name if target is not None else ""
        if name not in self.checked:
            self.checked.add(name)
            self._warn_of_hazards(module)
        return module

    def _warn_of_hazards(self, module: Module) -> None:
        """Each hazard once, whatever targets it is on."""
        from tilus.lowering.hazards import find_hazards

        for hazard in find_hazards(module):
            if hazard not in self.hazards:
                self.hazards.append(hazard)
                warn(hazard)
