"""CUDA C++ to PTX for the tests of the simulator."""

from __future__ import annotations

import functools

from tilus.runtime.toolchains.nvrtc import cuda_to_ptx
from tilus.targets import get_target


@functools.lru_cache(maxsize=256)
def to_ptx(source: str, arch: str = "sm_80") -> str:
    """PTX of a CUDA C++ source."""
    return cuda_to_ptx(source, get_target(arch))


@functools.lru_cache(maxsize=512)
def to_ptx_with_lines(source: str, arch: str = "sm_80") -> str:
    """PTX with the source line of each instruction."""
    return cuda_to_ptx(source, get_target(arch), line_info=True)
