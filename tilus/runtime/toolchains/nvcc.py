"""CUDA C to cubin by the nvcc of the CUDA 13 wheel, where it is asked for; it needs a host C++ compiler."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Sequence

from tilus.diagnostics import ToolchainError, UnsupportedError
from tilus.runtime.toolchains.locate import locate
from tilus.runtime.toolchains.process import run_tool
from tilus.runtime.toolchains.ptxas import require_cuda
from tilus.runtime.toolchains.result import CubinResult
from tilus.targets import Target


def compile_cuda(source: str, target: Target, *, name: str = "kernel.cu", options: Sequence[str] = (),
                 max_registers: int | None = None, line_info: bool = False) -> CubinResult:
    """As ``nvrtc.compile_cuda``, by nvcc: a second front end to compare with, twenty times as slow to start.

    Raises:
        UnsupportedError: E0507, a target of the CUDA 12 tools, whose wheels have no nvcc.
        ToolchainError: E0901, no nvcc or no host compiler; E0902, it refuses the source.
    """
    require_cuda(target, "nvcc")
    if target.toolkit != 13:
        raise UnsupportedError.at("E0507", f"nvcc is not available for {target.name}", help="use NVRTC")
    if shutil.which("g++") is None:
        raise ToolchainError.at("E0901", "nvcc needs a host C++ compiler and there is no g++",
                                help="install g++ (on Debian: apt install g++), or use NVRTC")
    command = [locate("nvcc-13"), f"-arch={target.name}", "-cubin", "-Xptxas", "-v", *options]
    if max_registers is not None:
        command.append(f"-maxrregcount={max_registers}")
    if line_info:
        command.append("-lineinfo")
    with tempfile.TemporaryDirectory(prefix="tilus-") as directory:
        path, cubin = os.path.join(directory, os.path.basename(name)), os.path.join(directory, "out.cubin")
        with open(path, "w", encoding="utf-8") as stream:
            stream.write(source)
        _, log = run_tool([*command, path, "-o", cubin])
        with open(cubin, "rb") as stream:
            return CubinResult(stream.read(), log)
