"""The stages of a kernel on its way to this machine's code, as text."""

from __future__ import annotations

from tilus.ir.core import Module
from tilus.ir.printer import print_module
from tilus.runtime.specialise import Specialisation

STAGES = ("tile", "thread", "llvm", "asm")


def stage_text(specialisation: Specialisation, stage: str) -> str:
    """The traced tile module, the thread-level functions, the LLVM IR, or the assembly. Raises UserError."""
    from tilus.codegen.llvm.host import emit_functions
    from tilus.lowering.cpu import lower_module
    from tilus.lowering.pipelines import CPU_TILE_PASSES, run_passes
    from tilus.runtime.cpu.llvm import assembly, machine

    module = specialisation.trace()
    if stage == "tile":
        return print_module(module)
    run_passes(module, CPU_TILE_PASSES)
    functions = lower_module(module, machine()).functions
    if stage == "thread":
        return print_module(Module(functions, None, "thread"))
    text = emit_functions(functions)
    return text if stage == "llvm" else assembly(text)
