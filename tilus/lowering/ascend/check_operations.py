"""Refuses what programs of Ascend's cores cannot be: before any pass divides the work among them."""

from __future__ import annotations

from tilus.diagnostics import UnsupportedError
from tilus.ir.core import Function, Module, Operation
from tilus.ir.ops import AllocShared, Atomic, GridSync, Groups, NamedBarrier, Print, WaitUntil
from tilus.ir.rewriter import count_uses

_SHARED = ("tl.shared names memory that the threads of a GPU's block share, which {target} has not",
           "load tiles, compute with them and store them: the compiler places them in the cores' memories")
_WAIT = ("blocks of {target} cannot wait for each other", "make what comes after a kernel of its own")
_GROUPS = ("thread groups are a GPU's: the cores of {target} have no threads",
           "leave them out: copies and calculations run side by side without")
_REFUSED: dict[type[Operation], tuple[str, str]] = {
    AllocShared: _SHARED, GridSync: _WAIT, WaitUntil: _WAIT, Groups: _GROUPS, NamedBarrier: _GROUPS,
    Print: ("a kernel for {target} cannot print", 'print on another engine: kernel.on("interpret")(…)'),
}


def check_operations(module: Module) -> None:
    """Raise UnsupportedError (E0507) at the first operation that has no meaning on the target."""
    for kernel in module.kernels:
        _check_kernel(kernel, module.target)


def _check_kernel(kernel: Function, target: str) -> None:
    uses = count_uses(kernel)
    for op in kernel.walk():
        found = _REFUSED.get(type(op))
        if found is None and isinstance(op, Atomic) and any(uses[result] for result in op.results):
            found = ("atomics of {target} give no result: copies add to memory as they write it",
                     "use the memory's contents in a kernel of its own")
        if found is not None:
            message, help_ = found
            raise UnsupportedError.at("E0507", message.format(target=target), op.span, help=help_)


__all__ = ["check_operations"]
