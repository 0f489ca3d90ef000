"""From a specialisation to a cubin, by either route, through the disk cache."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tilus.diagnostics import Diagnostic, Label, ResourceError, Severity, warn
from tilus.ir.core import Function, Module
from tilus.ir.printer import print_module
from tilus.ir.types import PointerType
from tilus.runtime.arguments import call_error
from tilus.runtime.internal import guarded
from tilus.runtime.specialise import Specialisation
from tilus.targets import Target, get_target

ROUTES = ("cuda", "ptx")


def module_key(module: Module, *options: str) -> str:
    """The cache's key of what is made of a traced module: its text (which has everything that the source, the callees,
    the constants and the assumptions about arguments amount to, with places), the options, the tools and tilus."""
    from tilus.runtime.cache import key_of
    from tilus.runtime.fingerprint import compiler_fingerprint, toolchain_fingerprint

    text = print_module(module, locations=True)
    return key_of([text, *options, toolchain_fingerprint(), compiler_fingerprint()])


def traced(specialisation: Specialisation, target: Target, folded: bool) -> Module:
    """A new tile module of a specialisation, ``folded`` for grids that are not launched as they are."""
    from tilus.lowering.raster import fold_grid

    module = specialisation.trace(target)
    if folded:
        fold_grid(module)
    return module


@dataclass(frozen=True)
class KernelArgument:
    """A parameter of the compiled function: ``a``, ``a.shape[0]``, ``a.strides[1]`` or a scalar's name, and its type
    (``"pointer"`` or an element type)."""

    name: str
    type: str


class CompiledKernel:
    """A kernel compiled for a GPU.

    Attributes:
        name, target, via: the kernel's name, the target's, and the route.
        line_info: whether the cubin knows which line of the source an instruction comes from.
        cubin: the machine code.
        metadata: ``registers`` and ``local_bytes`` of a thread, ``spill_stores`` and ``spill_loads`` (bytes),
            ``shared_bytes`` of a block, ``threads`` of a block, ``arguments`` and more; plain JSON. Where a fused
            function has several kernels these are the first one's or the greatest; ``kernels`` has each one's.
    """

    def __init__(self, specialisation: Specialisation, target: Target, via: str, line_info: bool,
                 blobs: Mapping[str, bytes], metadata: Mapping[str, Any]) -> None:
        self.specialisation = specialisation
        self.target = target.name
        self.via = via
        self.line_info = line_info
        self.name: str = specialisation.captured.name
        self.cubin = blobs["cubin"]
        self.metadata = dict(metadata)
        self._source = blobs["source"].decode()

    def __repr__(self) -> str:
        m = self.metadata
        return (f"<{self.name} for {self.target} via {self.via}: {m['registers']} registers, {m['shared_bytes']} bytes "
                f"shared, {m['spill_stores']} bytes spilled>")

    @property
    def arguments(self) -> tuple[KernelArgument, ...]:
        return tuple(KernelArgument(*a) for a in self.metadata["arguments"])

    @functools.cached_property
    def launch_module(self) -> Module:
        """The traced tile module, whose launch function gives grid and workspaces."""
        return traced(self.specialisation, get_target(self.target), self.metadata["folded"])

    @functools.cached_property
    def tile(self) -> str:
        """The traced tile module as text."""
        return print_module(self.launch_module)

    def _threads(self) -> Module:
        from tilus.lowering.pipelines import lower_for_gpu

        return lower_for_gpu(traced(self.specialisation, get_target(self.target), self.metadata["folded"]), self.target)

    @functools.cached_property
    def thread(self) -> str:
        """The thread-level module as text."""
        return print_module(self._threads())

    @functools.cached_property
    def cuda(self) -> str:
        """The CUDA C."""
        from tilus.codegen.cuda import emit_cuda

        return self._source if self.via == "cuda" else emit_cuda(self._threads(), self.line_info)

    @functools.cached_property
    def llvm(self) -> str:
        """The LLVM IR for NVPTX."""
        from tilus.codegen.llvm import nvptx

        text: str = nvptx.emit_llvm(self._threads(), self.line_info)
        return text

    @functools.cached_property
    def ptx(self) -> str:
        """The PTX: what LLVM gave, or what NVRTC makes of the CUDA C."""
        from tilus.runtime.toolchains.nvrtc import cuda_to_ptx

        if self.via == "ptx":
            return self._source
        return cuda_to_ptx(self._source, get_target(self.target), name=f"{self.name}.cu", line_info=self.line_info)

    def sass(self) -> str:
        """The disassembly, by nvdisasm."""
        from tilus.runtime.toolchains.binutils import disassemble

        return disassemble(self.cubin)


def compile_specialisation(specialisation: Specialisation, target_name: str | Target, via: str,
                           line_info: bool = False, folded: bool = False) -> CompiledKernel:
    """The kernel compiled for a target; from the cache where it has been compiled before. ``line_info`` is asked for:
    ptxas puts the whole PTX beside the lines, which makes a cubin five times as large. ``folded`` is for grids that are
    not launched as they are.

    Raises:
        UserError: the kernel or the target's name is wrong, E0503 or E0504 where it asks for too much.
    """
    from tilus.runtime.cache import default_cache

    target = get_target(target_name)
    if via not in ROUTES:
        raise call_error("E0804", f"via is 'cuda' or 'ptx', not {via!r}")
    if not target.is_cuda:
        raise call_error("E0501", f"{target.name} has no cubins", help="compile for sm_70 to sm_120a")
    key = f"{target.name}:{via}:{line_info}:{folded}"
    found: CompiledKernel | None = specialisation.runners.get(key)
    if found is not None:
        return found
    with specialisation.lock:
        module = traced(specialisation, target, folded)
        entry = default_cache().get_or_build(
            module_key(module, target.name, via, "lines" if line_info else ""),
            lambda: guarded(specialisation, f"compilation for {target.name} via {via}",
                            lambda: build(module, target, via, line_info)))
        compiled = CompiledKernel(specialisation, target, via, line_info, entry.blobs, entry.metadata)
        specialisation.runners[key] = compiled
    _warn_of_spills(specialisation, compiled)
    return compiled


def emit(module: Module, target: Target, via: str, lines: bool = False) -> tuple[str, dict[str, Any]]:
    """CUDA C or PTX of a traced module, which is used up, and what launching it takes; with ``lines`` the text says
    where in the source its instructions come from."""
    from tilus.lowering.pipelines import lower_for_gpu

    threads = lower_for_gpu(module, target.name)
    check_resources(threads, target)
    if via == "cuda":
        from tilus.codegen.cuda import emit_cuda

        source = emit_cuda(threads, lines)
    else:
        from tilus.codegen.llvm import nvptx

        source = nvptx.emit_ptx(threads, lines)
    kernels = {kernel.name: _launch_facts(kernel) for kernel in threads.kernels}
    first = kernels[threads.kernels[0].name]
    return source, {
        **first, "kernel": threads.kernels[0].name, "target": target.name, "via": via,
        "dynamic_shared_bytes": max(k["dynamic_shared_bytes"] for k in kernels.values()), "kernels": kernels,
    }


def _launch_facts(kernel: Function) -> dict[str, Any]:
    """What launching a kernel takes."""
    attributes = kernel.attributes
    arguments = [
        [name, "pointer" if isinstance(value.type, PointerType) else value.tile.dtype.name]
        for name, value in zip(attributes["arguments"], kernel.body.args, strict=True)
    ]
    return {
        "dynamic_shared_bytes": int(attributes.get("shared_bytes", 0)),
        "threads": 32 * int(attributes["warps"]), "warps": int(attributes["warps"]),
        "raster": int(attributes.get("raster") or 0), "folded": bool(attributes.get("folded")),
        "max_registers": attributes.get("max_registers"),
        "cooperative": bool(attributes.get("cooperative")), "arguments": arguments,
    }


def build(module: Module, target: Target, via: str,
          line_info: bool = False) -> tuple[dict[str, bytes], dict[str, Any]]:
    """Blobs and metadata of a traced module, which is used up."""
    source, metadata = emit(module, target, via, line_info)
    if via == "cuda":
        from tilus.runtime.toolchains.nvrtc import compile_cuda

        result = compile_cuda(source, target, name=f"{metadata['kernel']}.cu", line_info=line_info)
    else:
        from tilus.runtime.toolchains.ptxas import assemble

        result = assemble(source, target, max_registers=metadata["max_registers"], line_info=line_info)
    metadata.update(
        registers=result.registers, spill_stores=result.spill_stores, spill_loads=result.spill_loads,
        local_bytes=result.stack, shared_bytes=metadata["dynamic_shared_bytes"] + result.shared,
        barriers=max((f.barriers for f in result.functions.values()), default=0),
    )
    for name, facts in metadata["kernels"].items():
        facts["registers"] = result.functions[name].registers if name in result.functions else result.registers
    return {"cubin": result.cubin, "source": source.encode()}, metadata


@dataclass(frozen=True)
class PtxKernel:
    """What a simulator needs of a kernel: the PTX and how it is launched."""

    ptx: str
    metadata: Mapping[str, Any]


def compile_ptx(specialisation: Specialisation, target_name: str, via: str,
                folded: bool = False) -> tuple[PtxKernel, Module]:
    """The PTX of a specialisation with the lines of its source, from the cache or made, and its traced module.
    Raises UserError."""
    from tilus.runtime.cache import default_cache
    from tilus.runtime.toolchains.nvrtc import cuda_to_ptx

    target = get_target(target_name)
    module, used = traced(specialisation, target, folded), traced(specialisation, target, folded)

    def build_ptx() -> tuple[dict[str, bytes], dict[str, Any]]:
        source, metadata = guarded(specialisation, f"compilation for {target.name} via {via}",
                                   lambda: emit(used, target, via, lines=True))
        if via == "cuda":
            source = cuda_to_ptx(source, target, name=f"{metadata['kernel']}.cu", line_info=True)
        return {"ptx": source.encode()}, metadata

    entry = default_cache().get_or_build(module_key(module, target.name, via, "ptx"), build_ptx)
    return PtxKernel(entry["ptx"].decode(), entry.metadata), module


def check_resources(threads: Module, target: Target) -> None:
    """Raise ResourceError where a block asks for more than the target has."""
    for kernel in threads.kernels:
        shared = int(kernel.attributes.get("shared_bytes", 0))
        if shared > target.shared_per_block_optin:
            raise ResourceError.at(
                "E0503", f"{kernel.name} takes {shared} bytes of shared memory a block, but {target.name} has "
                         f"{target.shared_per_block_optin}", kernel.span,
                help="use smaller tiles or fewer stages")
        count = 32 * int(kernel.attributes["warps"])
        if count > target.max_threads_per_block:
            raise ResourceError.at("E0504", f"{kernel.name} has {count} threads a block, but {target.name} allows "
                                            f"{target.max_threads_per_block}", kernel.span)


def _warn_of_spills(specialisation: Specialisation, compiled: CompiledKernel) -> None:
    stores, loads = compiled.metadata["spill_stores"], compiled.metadata["spill_loads"]
    if not (stores or loads):
        return
    span = specialisation.captured.span(specialisation.captured.node)
    warn(Diagnostic(
        "W0505", f"{compiled.name} spills {stores} bytes of registers on {compiled.target} and reads {loads} back",
        (Label(span),), "use smaller tiles or more warps", severity=Severity.WARNING))


def metadata_json(compiled: CompiledKernel) -> str:
    """The metadata as the file that ``tilus compile`` writes next to a cubin."""
    signature = [
        {"name": p.name, "kind": p.kind, "contiguous": p.contiguous, "aligned": p.aligned, "small": p.small,
         "shape_divisible_by_16": list(p.shape_divisible)}
        for p in compiled.specialisation.parameters
    ]
    constants = {n: v if isinstance(v, (int, float, bool, str, type(None))) else str(v)
                 for n, v in compiled.specialisation.constants.items()}
    return json.dumps({**compiled.metadata, "constants": constants, "parameters": signature}, indent=2) + "\n"
