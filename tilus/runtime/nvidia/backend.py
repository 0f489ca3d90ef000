"""The back end for NVIDIA's GPUs."""

from __future__ import annotations

from typing import Any

from tilus.backends import Artifact, Backend, Options, Route
from tilus.ir.core import Module
from tilus.runtime.arrays import CUDA as CUDA_ARRAYS
from tilus.runtime.fingerprint import toolchain_fingerprint
from tilus.runtime.nvidia.build import ROUTES, GpuRoute, build
from tilus.runtime.nvidia.kernel import CompiledKernel
from tilus.targets import TARGETS, Target


def _pipeline(target: Target) -> Any:
    from tilus.lowering.pipelines import GPU

    return GPU


def _tiles() -> Any:
    from tilus.lowering.array.tiles import GPU_TILES

    return GPU_TILES


def _route(route: GpuRoute) -> Route:
    def made(module: Module, target: Target, options: Options) -> Artifact:
        return build(route, module, target, options)

    return Route(route.name, made, {
        "cubin": lambda kernel: kernel.cubin, "ptx": lambda kernel: kernel.ptx, "cuda": lambda kernel: kernel.cuda,
        "llvm": lambda kernel: kernel.llvm, "sass": CompiledKernel.sass,
    }, toolchain_fingerprint)


def _on_device(name: str) -> Any:
    from tilus.runtime.nvidia.cuda_engine import CudaEngine

    return CudaEngine(name)


def _simulated(name: str) -> Any:
    from tilus.runtime.nvidia.engines import SimulateEngine

    return SimulateEngine(name)


BACKEND = Backend(
    name="nvidia", targets=tuple(t for t in TARGETS.values() if t.backend == "nvidia"), pipeline=_pipeline,
    routes=tuple(map(_route, ROUTES.values())), emitted="cubin", tiles=_tiles,
    engines={"cuda": _on_device, "simulate": _simulated}, home=(CUDA_ARRAYS, "cuda"),
    binding=lambda target: f"simulate:{target.name}", kernel=CompiledKernel)
