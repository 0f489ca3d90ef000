"""What the compiler makes of a program, as a digest: equal digests are equal code, which needs no second run."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

from tests.fuzz.harness import load_kernel, make_arguments
from tests.fuzz.program import Program
from tilus.ir.core import Module
from tilus.ir.printer import print_module
from tilus.lowering.pipelines import CPU_TILE_PASSES, GPU_TILE_PASSES, lower_for_gpu, lower_for_host, run_passes
from tilus.runtime.jit import Call
from tilus.targets import get_target


def digest(program: Program, engine: str) -> str:
    """Of the code that an engine runs for the program, or of the error that its compilation ends in."""
    found = hashlib.blake2b(digest_size=16)
    try:
        for text in _texts(program, engine):
            found.update(text.encode())
    except Exception as error:
        found.update(f"{type(error).__name__}: {error}".encode())
    return found.hexdigest()


def _texts(program: Program, engine: str) -> Iterator[str]:
    kernel = load_kernel(program)
    arguments, _ = make_arguments(program)
    kind, _, rest = engine.partition(":")
    target, _, route = rest.partition(":")
    if program.fused:
        yield from _fused_code(kernel, arguments, kind, target, route)
        return
    call = Call(kernel, kernel._bind(tuple(arguments), {}))
    specialisation = kernel.specialise(call.constants, call.parameters)
    module = specialisation.trace(get_target(target) if kind == "simulate" else None)
    if kind == "passes":
        module.target = target
        for _, pass_ in GPU_TILE_PASSES:
            pass_(module)
            yield print_module(module)
    elif kind == "simulate":
        yield from _gpu_code(lower_for_gpu(module, target), route)
    elif kind == "cpu":
        yield _cpu_code(module)
    else:
        raise ValueError(f"{engine} runs no code of its own")


def fused_module(function: Any, arguments: list[Any], kind: str = "interpret", target: str = "") -> Module:
    """The kernels that a fused function becomes for these arguments: it is run once."""
    function.on("cpu" if kind == "cpu" else "interpret")(*arguments)
    program = list(function._programs.values())[-1]
    specialisation = list(list(program.kernels.values())[-1]._specialisations.values())[-1]
    return specialisation.trace(get_target(target) if kind == "simulate" else None)


def _fused_code(function: Any, arguments: list[Any], kind: str, target: str, route: str) -> Iterator[str]:
    """The code of the kernels that a fused function becomes: they are made at a call."""
    if kind == "passes":
        return
    module = fused_module(function, arguments, kind, target)
    if kind == "cpu":
        yield _cpu_code(module)
    else:
        yield from _gpu_code(lower_for_gpu(module, target), route)


def _gpu_code(threads: Module, route: str) -> Iterator[str]:
    from tilus.codegen.cuda import emit_cuda
    from tilus.codegen.llvm.nvptx import emit_llvm

    yield emit_cuda(threads) if route == "cuda" else emit_llvm(threads)
    for kernel in threads.kernels:
        yield str(sorted((name, str(value)) for name, value in kernel.attributes.given().items()))


def _cpu_code(module: Module) -> str:
    from tilus.codegen.llvm.host import emit_functions
    from tilus.runtime.cpu.llvm import machine

    run_passes(module, CPU_TILE_PASSES)
    return emit_functions(lower_for_host(module, machine()).functions)
