"""The back end for Ascend NPUs: C++ for their compiler, which the twin runs here."""

from __future__ import annotations

import functools
from typing import Any

from tilus.backends import Artifact, Backend, Options, Route
from tilus.ir.core import Module
from tilus.ir.dtypes import i64
from tilus.runtime.ascend.core_arguments import CoreArgument, core_arguments
from tilus.runtime.compile import Compiled
from tilus.targets import TARGETS, Target


class CompiledForAscend(Compiled):
    """A kernel as Ascend C."""

    has_project = True

    @functools.cached_property
    def ascendc(self) -> str:
        """The C++ of all kernels of the launch."""
        return self.blobs["ascendc"].decode()

    def files(self, name: str) -> dict[str, bytes]:
        """The header that checks arguments and launches the kernels of the file ``name``."""
        from tilus.runtime.ascend.header import c_header

        return {".h": c_header(self).encode()}

    def project(self) -> dict[str, bytes]:
        from tilus.runtime.ascend.project import project_files

        return project_files(self)

    def arguments(self, kernel: str) -> list[CoreArgument]:
        """What a kernel's program of cores takes."""
        function = self.launch_module.kernel(kernel)
        return core_arguments(self.metadata["kernels"][kernel]["arguments"], function)

    def parameter_types(self, kernel: str) -> list[str]:
        """The types of those, as the twin names them."""
        from tilus.codegen.ascendc.scalars import type_name

        return ["gm" if a.is_address else type_name(a.dtype or i64) for a in self.arguments(kernel)]

    def resources(self) -> dict[str, str]:
        return {name.upper(): f"{size:,} B" for name, size in self.metadata["memory"].items()}


def _build(module: Module, target: Target, options: Options) -> Artifact:
    from tilus.codegen.ascendc import emit_module
    from tilus.lowering.ascend.pipeline import ASCEND
    from tilus.lowering.ascend.plan_memory import memory_used

    cores = ASCEND.run(module, target.name)
    kernels = {k.name: {"arguments": list(k.attributes.arguments), "cores": k.attributes.cores} for k in cores.kernels}
    return Artifact({"ascendc": emit_module(cores).encode()}, {"kernels": kernels, "memory": memory_used(cores)})


def _pipeline(target: Target) -> Any:
    from tilus.lowering.ascend.pipeline import ASCEND

    return ASCEND


def _tiles() -> Any:
    from tilus.lowering.array.tiles import ASCEND_TILES

    return ASCEND_TILES


def _engine(name: str) -> Any:
    from tilus.runtime.ascend.engine import TwinEngine

    return TwinEngine(name)


def _explain(prepared: Any) -> str:
    from tilus.runtime.ascend.explain import explain

    return explain(prepared)


BACKEND = Backend(
    name="ascend", targets=tuple(t for t in TARGETS.values() if t.backend == "ascend"), pipeline=_pipeline,
    routes=(Route("ascendc", _build, {"ascendc": lambda kernel: kernel.ascendc}),), emitted="ascendc", tiles=_tiles,
    engines={"ascend910b": _engine}, kernel=CompiledForAscend,
    explain=_explain)
