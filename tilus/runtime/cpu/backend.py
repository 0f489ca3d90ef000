"""The back end for this machine."""

from __future__ import annotations

import functools
from typing import Any

from tilus.backends import Artifact, Backend, Options, Route
from tilus.ir.core import Module
from tilus.ir.printer import print_module
from tilus.runtime.arrays import HOST
from tilus.runtime.compile import Compiled
from tilus.targets import TARGETS, Target


class CompiledForHost(Compiled):
    """A kernel compiled for this machine."""

    @functools.cached_property
    def native(self) -> Any:
        """What runs it: a :class:`tilus.runtime.cpu.CpuKernel`."""
        from tilus.runtime.cpu import CpuKernel

        return CpuKernel.from_bytes(self.blobs["kernel"])

    def functions(self) -> list[Any]:
        """The thread-level functions, for the vectors and caches of this machine."""
        from tilus.lowering.pipelines import CPU, lower_for_host, run_passes
        from tilus.runtime.cpu.llvm import machine

        module = self.traced()
        run_passes(module, CPU.tile)
        return lower_for_host(module, machine()).functions

    def resources(self) -> dict[str, str]:
        return {"code": f"{len(self.native.code):,} B"}

    @functools.cached_property
    def thread(self) -> str:
        """Those as text."""
        return print_module(Module(self.functions(), None, "thread"))

    @functools.cached_property
    def llvm(self) -> str:
        """The LLVM IR."""
        from tilus.codegen.llvm.host import emit_functions

        return emit_functions(self.functions())

    @functools.cached_property
    def asm(self) -> str:
        """The assembly."""
        from tilus.runtime.cpu.llvm import assembly

        return assembly(self.llvm)


def _build(module: Module, target: Target, options: Options) -> Artifact:
    from tilus.lowering.pipelines import CPU, run_passes
    from tilus.runtime.cpu import compile_module

    run_passes(module, CPU.tile)
    return Artifact({"kernel": compile_module(module).serialize()}, {})


def _fingerprint() -> str:
    from tilus.runtime.cpu.llvm import host_description
    from tilus.runtime.fingerprint import toolchain_fingerprint

    return f"{toolchain_fingerprint()} {host_description()}"


def _pipeline(target: Target) -> Any:
    from tilus.lowering.pipelines import CPU

    return CPU


def _tiles() -> Any:
    from tilus.lowering.array.tiles import CPU_TILES

    return CPU_TILES


def _engine(name: str) -> Any:
    from tilus.runtime.cpu.engine import CpuEngine
    from tilus.runtime.engines import no_engine

    if name != "cpu":
        raise no_engine(name)
    return CpuEngine(name)


_STAGES = {"thread": lambda kernel: kernel.thread, "llvm": lambda kernel: kernel.llvm,
           "asm": lambda kernel: kernel.asm}
BACKEND = Backend(
    name="cpu", targets=(TARGETS["cpu"],), pipeline=_pipeline, routes=(Route("native", _build, _STAGES, _fingerprint),),
    emitted="asm", tiles=_tiles, engines={"cpu": _engine}, home=(HOST, "cpu"),
    binding=lambda target: "cpu", kernel=CompiledForHost)
