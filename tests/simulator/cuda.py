"""CUDA C++ to PTX for the tests of the simulator."""

from __future__ import annotations

import functools

from tilus.runtime.toolchains.nvrtc import cuda_to_ptx
from tilus.targets import get_target


@functools.lru_cache(maxsize=256)
def to_ptx(source: str, arch: str = "sm_80") -> str:
    """PTX of a CUDA C++ source."""
    return cuda_to_ptx(source, get_target(arch))
