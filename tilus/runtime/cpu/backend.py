"""The back end for this machine, and for others as object files."""

from __future__ import annotations

import functools
import importlib
from typing import Any

from tilus.backends import Artifact, Backend, Linked, Options, Route
from tilus.ir.core import Module
from tilus.ir.printer import print_module
from tilus.runtime.arrays import HOST
from tilus.runtime.compile import Compiled
from tilus.targets import TARGETS, Target


class CompiledForHost(Compiled):
    """A kernel compiled for this machine, or as an object file for programs."""

    @functools.cached_property
    def native(self) -> Any:
        """What runs it: a :class:`tilus.runtime.cpu.CpuKernel`."""
        from tilus.runtime.cpu import CpuKernel

        return CpuKernel.from_bytes(self.blobs["kernel"])

    @functools.cached_property
    def _linked(self) -> Artifact:
        """The object file for programs, and what is known of it."""
        from tilus.runtime.cpu.objects import build_object

        if self.options.linked is not None:
            return Artifact(self.blobs, self.metadata)
        return build_object(self.traced(), Linked(name=self.name))

    @property
    def object(self) -> bytes:
        """The object file for programs, which :meth:`files` has the header of."""
        return self._linked.blobs["object"]

    @functools.cached_property
    def processor(self) -> Any:
        """The processor that the code is for, a :class:`tilus.runtime.cpu.processor.Processor`."""
        from tilus.runtime.cpu.objects import processor_of

        return processor_of(self.options.linked or Linked())

    def functions(self) -> list[Any]:
        """The thread-level functions, for the vectors and caches of the processor."""
        from tilus.lowering.pipelines import CPU, lower_for_host, run_passes

        module = self.traced()
        run_passes(module, CPU.tile)
        return lower_for_host(module, self.processor.machine).functions

    def resources(self) -> dict[str, str]:
        if self.options.linked is None:
            return {"code": f"{len(self.native.code):,} B"}
        return {"processor": self.metadata["cpu"], "object file": f"{len(self.object):,} B"}

    def files(self, name: str) -> dict[str, bytes]:
        """The header that checks arguments and calls the object file ``name``."""
        from tilus.runtime.cpu.header import c_header

        launch = self.launch_module.launch
        assert launch is not None
        return {".h": c_header(self._linked.metadata, name, launch, self.specialisation.constants).encode()}

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

        return assembly(self.llvm, self.processor)


def _build(module: Module, target: Target, options: Options) -> Artifact:
    from tilus.lowering.pipelines import CPU, run_passes
    from tilus.runtime.cpu import compile_module
    from tilus.runtime.cpu.objects import build_object

    if options.linked is not None:
        return build_object(module, options.linked)
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


def _explain(prepared: Any) -> str:
    """By the models, which stand above this package."""
    text: str = importlib.import_module("tilus.model.cpu.explain").explain(prepared)
    return text


_STAGES = {"thread": lambda kernel: kernel.thread, "llvm": lambda kernel: kernel.llvm,
           "asm": lambda kernel: kernel.asm, "object": lambda kernel: kernel.object}
BACKEND = Backend(
    name="cpu", targets=(TARGETS["cpu"],), pipeline=_pipeline, routes=(Route("native", _build, _STAGES, _fingerprint),),
    emitted="asm", tiles=_tiles, engines={"cpu": _engine}, home=(HOST, "cpu"),
    binding=lambda target: "cpu", kernel=CompiledForHost, explain=_explain)
