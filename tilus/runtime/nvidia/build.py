"""CUDA C or PTX of a module, and the cubin that the toolchain makes of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tilus.backends import Artifact, Options
from tilus.diagnostics import ResourceError
from tilus.ir.core import Module
from tilus.records import record
from tilus.runtime.compile import module_key, traced
from tilus.runtime.fingerprint import toolchain_fingerprint
from tilus.runtime.internal import guarded
from tilus.runtime.nvidia.launch_facts import LaunchFacts, facts_in, facts_of
from tilus.runtime.specialise import Specialisation
from tilus.targets import Target

if TYPE_CHECKING:
    from tilus.runtime.toolchains.result import CubinResult


@record(eq=False, repr=False)
class GpuRoute:
    """What is peculiar to a way to cubins.

    Attributes:
        text: the thread-level module as text, with the lines of the source or without.
        to_ptx: the PTX that the text becomes; its name is for messages.
        assemble: the cubin of the text, with the resources that it takes.
    """

    name: str
    text: Callable[[Module, bool], str]
    to_ptx: Callable[[str, Target, str], str]
    assemble: Callable[[str, Target, Mapping[str, Any], Options], CubinResult]


def _cuda_text(threads: Module, lines: bool) -> str:
    from tilus.codegen.cuda import emit_cuda

    return emit_cuda(threads, lines)


def _cuda_to_ptx(source: str, target: Target, name: str) -> str:
    from tilus.runtime.toolchains.nvrtc import cuda_to_ptx

    return cuda_to_ptx(source, target, name=f"{name}.cu", line_info=True)


def _compile_cuda(source: str, target: Target, metadata: Mapping[str, Any], options: Options) -> CubinResult:
    from tilus.runtime.toolchains.nvrtc import compile_cuda

    return compile_cuda(source, target, name=f"{metadata['kernel']}.cu", line_info=options.line_info)


def _ptx_text(threads: Module, lines: bool) -> str:
    from tilus.codegen.llvm import nvptx

    return nvptx.emit_ptx(threads, lines)


def _assemble_ptx(source: str, target: Target, metadata: Mapping[str, Any], options: Options) -> CubinResult:
    from tilus.runtime.toolchains.ptxas import assemble

    return assemble(source, target, max_registers=metadata["max_registers"], line_info=options.line_info)


PTX = GpuRoute("ptx", _ptx_text, lambda source, target, name: source, _assemble_ptx)
"""LLVM and ptxas; it takes about half the time of NVRTC."""
CUDA = GpuRoute("cuda", _cuda_text, _cuda_to_ptx, _compile_cuda)
"""CUDA C and NVRTC."""
ROUTES = {route.name: route for route in (PTX, CUDA)}
"""By name, the default first."""


def route_named(parts: Sequence[str]) -> GpuRoute | None:
    """The route that the rest of an engine's name says, the default for none; None where there is no such route."""
    if not parts:
        return next(iter(ROUTES.values()))
    return ROUTES.get(parts[0]) if len(parts) == 1 else None


def emit(module: Module, target: Target, route: GpuRoute, lines: bool = False) -> tuple[str, dict[str, Any]]:
    """The text of a traced module, which is used up, and what launching it takes; with ``lines`` the text says where
    in the source its instructions come from."""
    from tilus.lowering.pipelines import lower_for_gpu

    threads = lower_for_gpu(module, target.name)
    check_resources(threads, target)
    source = route.text(threads, lines)
    kernels = {kernel.name: facts_of(kernel, target).as_json() for kernel in threads.kernels}
    first = kernels[threads.kernels[0].name]
    return source, {
        **first, "kernel": threads.kernels[0].name, "target": target.name, "via": route.name,
        "dynamic_shared_bytes": max(k["dynamic_shared_bytes"] for k in kernels.values()), "kernels": kernels,
    }


def build(route: GpuRoute, module: Module, target: Target, options: Options) -> Artifact:
    """The cubin of a traced module, which is used up, the text that it is made of, and the metadata."""
    source, metadata = emit(module, target, route, options.line_info)
    result = route.assemble(source, target, metadata, options)
    metadata.update(
        registers=result.registers, spill_stores=result.spill_stores, spill_loads=result.spill_loads,
        local_bytes=result.stack, shared_bytes=metadata["dynamic_shared_bytes"] + result.shared,
        barriers=max((f.barriers for f in result.functions.values()), default=0),
    )
    for name, facts in metadata["kernels"].items():
        facts["registers"] = result.functions[name].registers if name in result.functions else result.registers
    return Artifact({"cubin": result.cubin, route.name: source.encode()}, metadata)


@record(eq=False, repr=False)
class PtxKernel:
    """What a simulator needs of a kernel: the PTX and how it is launched."""

    ptx: str
    launches: Mapping[str, LaunchFacts]


def compile_ptx(specialisation: Specialisation, target: Target, route: GpuRoute,
                folded: bool = False) -> tuple[PtxKernel, Module]:
    """The PTX of a specialisation with the lines of its source, from the cache or made, and its traced module.
    Raises UserError."""
    from tilus.runtime.cache import default_cache

    module, used = traced(specialisation, target, folded), traced(specialisation, target, folded)

    def build_ptx() -> tuple[dict[str, bytes], dict[str, Any]]:
        source, metadata = guarded(specialisation, f"compilation for {target.name} via {route.name}",
                                   lambda: emit(used, target, route, lines=True))
        return {"ptx": route.to_ptx(source, target, metadata["kernel"]).encode()}, metadata

    entry = default_cache().get_or_build(
        module_key(module, target.name, route.name, "ptx", toolchain_fingerprint()), build_ptx)
    return PtxKernel(entry["ptx"].decode(), facts_in(entry.metadata)), module


def check_resources(threads: Module, target: Target) -> None:
    """Raise ResourceError where a block asks for more than the target has."""
    for kernel in threads.kernels:
        shared = kernel.attributes.shared_bytes
        if shared > target.shared_per_block_optin:
            raise ResourceError.at(
                "E0503", f"{kernel.name} takes {shared} bytes of shared memory a block, but {target.name} has "
                         f"{target.shared_per_block_optin}", kernel.span,
                help="use smaller tiles or fewer stages")
        count = target.warp_size * kernel.attributes.warps
        if count > target.max_threads_per_block:
            raise ResourceError.at("E0504", f"{kernel.name} has {count} threads a block, but {target.name} allows "
                                            f"{target.max_threads_per_block}", kernel.span)


__all__ = ["ROUTES", "GpuRoute", "PtxKernel", "build", "check_resources", "compile_ptx", "emit", "route_named"]
