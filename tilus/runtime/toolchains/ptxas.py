"""PTX to cubin, by the ptxas of the CUDA 13 wheel, or of the CUDA 12 wheel for architectures that 13 dropped."""

from __future__ import annotations

from tilus.diagnostics import UnsupportedError
from tilus.runtime.toolchains.locate import locate
from tilus.runtime.toolchains.process import memory_files, run_tool
from tilus.runtime.toolchains.result import CubinResult
from tilus.targets import Target


def require_cuda(target: Target, what: str) -> None:
    """Refuse, with E0507, a target that has no cubins."""
    if not target.is_cuda:
        raise UnsupportedError.at("E0507", f"{what} compiles for NVIDIA targets only, not for {target.name}")


def assemble(ptx: str, target: Target, *, opt_level: int = 3, max_registers: int | None = None,
             line_info: bool = False) -> CubinResult:
    """Assemble a PTX module.

    Args:
        opt_level: ptxas's -O, 0 to 3.
        max_registers: registers of a thread beyond which ptxas spills.
        line_info: keep the source lines (``.loc``) in the cubin.

    Raises:
        ToolchainError: E0901, no ptxas; E0902, ptxas refuses the module.
    """
    require_cuda(target, "ptxas")
    command = [locate(f"ptxas-{target.toolkit}"), "-v", f"-arch={target.name}", f"-O{opt_level}"]
    if max_registers is not None:
        command.append(f"--maxrregcount={max_registers}")
    if line_info:
        command.append("--generate-line-info")
    with memory_files(ptx.encode(), b"") as files:
        source, cubin = files
        _, log = run_tool([*command, source.path, "-o", cubin.path], files, names=("kernel.ptx", "kernel.cubin"))
        return CubinResult(cubin.read(), log)
