"""Looks into cubins with NVIDIA's own tools."""

from __future__ import annotations

import re
from collections.abc import Sequence

from tilus.diagnostics import UnsupportedError
from tilus.runtime.cubin import read_cubin
from tilus.runtime.toolchains.locate import locate
from tilus.runtime.toolchains.process import memory_files, run_tool
from tilus.runtime.toolchains.result import FunctionUsage

OLDEST = 75
"""The oldest architecture that the disassembler reads."""


def disassemble(cubin: bytes, options: Sequence[str] = ("-c",)) -> str:
    """The SASS of a cubin as nvdisasm prints it.

    Args:
        options: nvdisasm's; the default prints code sections only, ``("-c", "-hex")`` the encodings too.

    Raises:
        UnsupportedError: E0507, the architecture is older than what nvdisasm's wheels read.
        ToolchainError: E0901, no nvdisasm; E0902, this is no cubin.
    """
    arch = read_cubin(cubin).arch
    if arch < OLDEST:
        raise UnsupportedError.at("E0507", f"no wheel has an nvdisasm that reads sm_{arch}",
                                  help=f"look at the code of sm_{OLDEST} or newer")
    with memory_files(cubin) as files:
        return run_tool([locate("nvdisasm-13"), *options, files[0].path], files, names=("kernel.cubin",))[0]


_RESOURCES = r"Function (\S+):\s+REG:(\d+) STACK:(\d+) SHARED:(\d+) LOCAL:(\d+) CONSTANT\[0\]:(\d+)"


def cuobjdump_usage(cubin: bytes) -> dict[str, FunctionUsage]:
    """Resources of each kernel by cuobjdump; ``read_cubin`` says the same without a process.

    Raises:
        ToolchainError: E0901, no cuobjdump; E0902, this is no cubin.
    """
    with memory_files(cubin) as files:
        text, _ = run_tool([locate("cuobjdump-13"), "-res-usage", files[0].path], files, names=("kernel.cubin",))
    usage = {}
    for name, *numbers in re.findall(_RESOURCES, text):
        registers, stack, shared, local, constant = map(int, numbers)
        usage[name] = FunctionUsage(registers=registers, stack=stack, shared=shared, local=local, constant=constant)
    return usage
