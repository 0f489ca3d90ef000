"""Thread-level modules as CUDA C, which is self-contained: NVRTC comes without headers."""

from __future__ import annotations

from tilus.codegen.cells import CHOICES
from tilus.codegen.cuda import control, elementwise, memory, operations
from tilus.codegen.cuda.kernel import Handlers, KernelPrinter, line_directive
from tilus.codegen.cuda.prelude import PRELUDE_FILE
from tilus.ir.core import Module
from tilus.targets import get_target

HANDLERS: Handlers = {
    **CHOICES, **elementwise.HANDLERS, **memory.HANDLERS, **operations.HANDLERS, **control.HANDLERS,
}


def emit_cuda(module: Module, lines: bool = False) -> str:
    """The CUDA C of every kernel of a thread-level module; with ``lines`` it says by ``#line`` which line of the source
    each of its own comes from."""
    target = get_target(module.target)
    printers = [KernelPrinter(f, target, lines, HANDLERS) for f in module.kernels]
    bodies = [p.run() for p in printers]
    functions = {text: None for p in printers for text in p.functions.values()}
    called = [text for p in printers for text in p.called]
    instructions = {text: None for p in printers for text in p.instructions.values()}
    text = [f"// {', '.join(f.name for f in module.kernels)} for {module.target}, made by tilus"]
    if lines:
        text.append(line_directive(PRELUDE_FILE, 1))
    if instructions:
        text += ["namespace ptx {", *instructions, "}  // namespace ptx"]
    text += functions
    if called:
        text += ["namespace parts {", *called, "}  // namespace parts"]
    return "\n".join([*text, "", *bodies]) + "\n"


__all__ = ["emit_cuda"]
