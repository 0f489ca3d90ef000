"""Object files for programs in C: a module compiled for any processor, with what it needs to run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePath

from tilus.backends import Artifact, Linked
from tilus.codegen.llvm.host import emit_functions
from tilus.diagnostics import Diagnostic, UnsupportedError
from tilus.ir.core import Module, Operation
from tilus.ir.names import c_name
from tilus.ir.ops import Launch, Print
from tilus.lowering.cpu import CpuProgram
from tilus.lowering.cpu.launch import is_cooperative
from tilus.lowering.pipelines import CPU, lower_for_host, run_passes
from tilus.runtime.cpu.entry_ir import entry_text
from tilus.runtime.cpu.llvm import compile_object
from tilus.runtime.cpu.processor import Processor, processor


def processor_of(linked: Linked) -> Processor:
    """The processor that is asked for. Raises UserError (E0501) where there is no such one."""
    return processor(linked.cpu, linked.triple)


def build_object(module: Module, linked: Linked) -> Artifact:
    """The object file of a traced tile module, which is used up, and what its header has to know.

    Raises:
        UserError: E0501, there is no such processor.
        UnsupportedError: E0507, the kernels need more than the C library gives: they print, or blocks or groups of them
            run side by side.
    """
    chosen = processor_of(linked)
    run_passes(module, CPU.tile)
    _refuse_prints(module)
    program = lower_for_host(module, chosen.machine)
    _refuse_waiting(module, program)
    name = c_name(linked.name or module.kernels[0].name)
    program.functions[-1].attributes.linkage = "internal"
    code = compile_object(emit_functions(program.functions) + entry_text(f"{name}_entry"), chosen, linked=True)
    return Artifact({"object": code}, {
        "name": name, "triple": chosen.triple, "cpu": chosen.name, "messages": [*map(_message, program.checks)],
        "formats": dict(f for kernel in module.kernels for f in kernel.attributes.formats),
        "written": sorted(_written(module)), "waits": bool(program.waits),
    })


def _refuse_prints(module: Module) -> None:
    for op in _operations(module):
        if isinstance(op, Print):
            raise UnsupportedError.at("E0507", "a kernel in an object file cannot print", op.span,
                                      help="leave tl.print out, or guard it by a compile-time parameter")


def _refuse_waiting(module: Module, program: CpuProgram) -> None:
    """Blocks wait for earlier ones only, which have run before; whatever else waits needs a runtime that lets others go
    on meanwhile."""
    for wait in program.waits:
        if wait.warps is not None:
            raise UnsupportedError.at("E0507", f"groups in an object file cannot wait for {wait.what}", wait.span)
    for kernel in module.kernels:
        if is_cooperative(kernel):
            raise UnsupportedError.at("E0507", f"the blocks of {kernel.name} are cooperative, which those of a kernel "
                                               "in an object file cannot be", kernel.span)


def _operations(module: Module) -> Iterator[Operation]:
    for kernel in module.kernels:
        yield from kernel.walk()


def _message(failed: Diagnostic) -> str:
    """What is said where a check fails: its message and line."""
    label = failed.labels[0] if failed.labels else None
    return failed.message + (f" ({PurePath(label.span.file).name}:{label.span.line})" if label is not None else "")


def _written(module: Module) -> Iterator[str]:
    """The names of the launch function's arrays that kernels write."""
    launch = module.launch
    assert launch is not None
    for op in launch.body.ops:
        if isinstance(op, Launch):
            for parameter, argument in zip(module.kernel(op.kernel).parameters, op.args, strict=True):
                if parameter.written and argument in launch.body.args:
                    yield argument.name


__all__ = ["build_object", "processor_of"]
