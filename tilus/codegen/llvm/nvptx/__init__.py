"""Thread-level modules as LLVM IR for NVPTX, and that as PTX."""

from __future__ import annotations

from tilus.codegen.cells import CHOICES
from tilus.codegen.llvm.control import CONTROL
from tilus.codegen.llvm.debug_lines import DebugLines
from tilus.codegen.llvm.nvptx import elementwise, memory, operations
from tilus.codegen.llvm.nvptx.kernel import Handlers, KernelEmitter
from tilus.codegen.llvm.text import ModuleText
from tilus.ir.core import Module
from tilus.targets import get_target

HANDLERS: Handlers = {**CHOICES, **CONTROL, **elementwise.HANDLERS, **memory.HANDLERS, **operations.HANDLERS}


def emit_ptx(module: Module, lines: bool = False) -> str:
    """The PTX of every kernel of a thread-level module, by LLVM; with ``lines`` it says by ``.loc`` which line of the
    source an instruction comes from."""
    from tilus.codegen.llvm.nvptx.assembly import llvm_to_ptx

    return llvm_to_ptx(emit_llvm(module, lines), get_target(module.target))


def emit_llvm(module: Module, lines: bool = False) -> str:
    """The LLVM IR of every kernel of a thread-level module, with debug metadata where ``lines``."""
    target = get_target(module.target)
    text = ModuleText()
    debug = DebugLines(text) if lines else None
    for function in module.kernels:
        KernelEmitter(function, text, target, debug, HANDLERS).run()
    head = ['target triple = "nvptx64-nvidia-cuda"',
            "@shared_memory = external addrspace(3) global [0 x i8], align 128"]
    tail = ["attributes #0 = { convergent nounwind }", "attributes #1 = { nounwind memory(none) }"]
    if debug is not None:
        tail += debug.named()
    return "\n".join([*head, str(text), *tail]) + "\n"


__all__ = ["emit_llvm", "emit_ptx"]
