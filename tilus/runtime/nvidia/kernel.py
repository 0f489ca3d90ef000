"""A kernel compiled for an NVIDIA GPU, as users get it."""

from __future__ import annotations

import functools
import json

from tilus.backends import Artifact, Options, Route
from tilus.diagnostics import Diagnostic, Label, Severity, warn
from tilus.ir.core import Module
from tilus.ir.ops import Yield
from tilus.ir.printer import print_module
from tilus.records import record
from tilus.runtime.compile import Compiled
from tilus.runtime.nvidia.launch_facts import LaunchFacts, facts_in, formats_of
from tilus.runtime.specialise import Specialisation
from tilus.targets import Target


@record(frozen=True)
class KernelArgument:
    """A parameter of the compiled function: ``a``, ``a.shape[0]``, ``a.strides[1]`` or a scalar's name, and its type
    (``"pointer"`` or an element type)."""

    name: str
    type: str


class CompiledKernel(Compiled):
    """A kernel compiled for a GPU.

    Attributes:
        name, target, via: the kernel's name, the target's, and the route.
        line_info: whether the cubin knows which line of the source an instruction comes from.
        cubin: the machine code.
        metadata: ``registers`` and ``local_bytes`` of a thread, ``spill_stores`` and ``spill_loads`` (bytes),
            ``shared_bytes`` of a block, ``threads`` of a block, ``arguments`` and more; plain JSON. Where a fused
            function has several kernels these are the first one's or the greatest; ``kernels`` has each one's.
    """

    def __init__(self, specialisation: Specialisation, target: Target, route: Route, options: Options,
                 artifact: Artifact) -> None:
        super().__init__(specialisation, target, route, options, artifact)
        self.cubin = artifact.blobs["cubin"]

    def __repr__(self) -> str:
        m = self.metadata
        return (f"<{self.name} for {self.target} via {self.via}: {m['registers']} registers, {m['shared_bytes']} bytes "
                f"shared, {m['spill_stores']} bytes spilled>")

    @functools.cached_property
    def launches(self) -> dict[str, LaunchFacts]:
        """What launching each kernel takes."""
        return facts_in(self.metadata)

    @property
    def formats(self) -> dict[str, str]:
        """In which order the elements of its prepacked arrays lie, by parameter: ``tl.prepack(format=…)`` takes it."""
        return formats_of(self.launches)

    @property
    def arguments(self) -> tuple[KernelArgument, ...]:
        return tuple(KernelArgument(*a) for a in self.metadata["arguments"])

    @functools.cached_property
    def cuda(self) -> str:
        """The CUDA C: what the cubin is made of, or would be by the other route."""
        from tilus.codegen.cuda import emit_cuda

        source = self.blobs.get("cuda")
        return emit_cuda(self.lowered(), self.line_info) if source is None else source.decode()

    @functools.cached_property
    def llvm(self) -> str:
        """The LLVM IR for NVPTX."""
        from tilus.codegen.llvm import nvptx

        text: str = nvptx.emit_llvm(self.lowered(), self.line_info)
        return text

    @functools.cached_property
    def ptx(self) -> str:
        """The PTX: what LLVM gave, or what NVRTC makes of the CUDA C."""
        from tilus.runtime.toolchains.nvrtc import cuda_to_ptx

        source = self.blobs.get("ptx")
        if source is not None:
            return source.decode()
        return cuda_to_ptx(self.cuda, self.record, name=f"{self.name}.cu", line_info=self.line_info)

    def sass(self) -> str:
        """The disassembly, by nvdisasm."""
        from tilus.runtime.toolchains.binutils import disassemble

        return disassemble(self.cubin)

    def resources(self) -> dict[str, str]:
        m = self.metadata
        return {"registers": str(m["registers"]), "shared": f"{m['shared_bytes']:,} B", "threads": str(m["threads"]),
                "spilled": f"{m['spill_stores']} B", "reloaded": f"{m['spill_loads']} B",
                "local": f"{m['local_bytes']} B", "code": f"{len(self.cubin):,} B"}

    def summary(self) -> str:
        m = self.metadata
        return (f"{m['registers']} registers a thread, {m['threads']} threads, {m['shared_bytes']} bytes of shared "
                f"memory, {m['spill_stores']} bytes spilled, {m['local_bytes']} bytes local")

    def files(self, name: str) -> dict[str, bytes]:
        """The signature, and a header that loads and launches the cubin in the file ``name``."""
        from tilus.runtime.nvidia.header import c_header

        return {".json": metadata_json(self).encode(), ".h": c_header(self, name).encode()}

    def check(self) -> None:
        """Warn of registers that are spilled."""
        stores, loads = self.metadata["spill_stores"], self.metadata["spill_loads"]
        if not (stores or loads):
            return
        captured = self.specialisation.captured
        warn(Diagnostic(
            "W0505", f"{self.name} spills {stores} bytes of registers on {self.target} and reads {loads} back",
            (Label(captured.span(captured.node)),), "use smaller tiles or more warps", severity=Severity.WARNING))


def metadata_json(compiled: CompiledKernel) -> str:
    """The metadata as the file that ``tilus compile`` writes next to a cubin."""
    signature = [
        {"name": p.name, "kind": p.kind, "contiguous": p.contiguous, "aligned": p.aligned, "small": p.small,
         "shape_divisors": list(p.shape_divisors),
         **({"prepacked": json.loads(compiled.formats[p.name])} if p.name in compiled.formats else {})}
        for p in compiled.specialisation.parameters
    ]
    constants = {n: v if isinstance(v, (int, float, bool, str, type(None))) else str(v)
                 for n, v in compiled.specialisation.constants.items()}
    return json.dumps({**compiled.metadata, "constants": constants, "parameters": signature,
                       "module": print_module(launch_alone(compiled.traced()))}, indent=2) + "\n"


def launch_alone(module: Module) -> Module:
    """A traced module with its launch function and the heads of its kernels: what grids and workspaces are."""
    for kernel in module.kernels:
        kernel.body.ops = [Yield(())]
    return module


__all__ = ["CompiledKernel", "KernelArgument", "metadata_json"]
