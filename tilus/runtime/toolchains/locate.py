"""Finds the compilers inside the wheels they come in. System toolkits and PATH are ignored: a build is reproducible."""

from __future__ import annotations

import functools
import os
import sys
from typing import NamedTuple

from tilus.diagnostics import ToolchainError


class Tool(NamedTuple):
    """A file of a wheel.

    Attributes:
        name: what to call it in messages and in ``TOOLS``.
        package: the distribution that has it.
        path: where it lies under site-packages.
        requirement: what to ask pip for.
    """

    name: str
    package: str
    path: str
    requirement: str


def _tool(name: str, package: str, path: str, bounds: str) -> Tool:
    return Tool(name, package, path, package + bounds)


_13, _12 = ">=13.2,<14", ">=12.9.86,<13"

TOOLS: dict[str, Tool] = {tool.name: tool for tool in (
    _tool("ptxas-13", "nvidia-cuda-nvcc", "nvidia/cu13/bin/ptxas", _13),
    _tool("ptxas-12", "nvidia-cuda-nvcc-cu12", "nvidia/cuda_nvcc/bin/ptxas", _12),
    _tool("nvrtc-13", "nvidia-cuda-nvrtc", "nvidia/cu13/lib/libnvrtc.so.13", _13),
    _tool("nvrtc-12", "nvidia-cuda-nvrtc-cu12", "nvidia/cuda_nvrtc/lib/libnvrtc.so.12", _12),
    _tool("nvcc-13", "nvidia-cuda-nvcc", "nvidia/cu13/bin/nvcc", _13),
    _tool("headers-13", "nvidia-cuda-runtime", "nvidia/cu13/include", _13),
    _tool("nvdisasm-13", "nvidia-cuda-nvdisasm", "nvidia/cu13/bin/nvdisasm", _13),
    _tool("cuobjdump-13", "nvidia-cuda-cuobjdump", "nvidia/cu13/bin/cuobjdump", _13),
)}


def locate(name: str) -> str:
    """The absolute path of the tool ``name`` of ``TOOLS``.

    Raises:
        ToolchainError: E0901, its wheel is not installed.
    """
    path = find(name)
    if path is None:
        tool = TOOLS[name]
        raise ToolchainError.at("E0901", f"{name} is not installed: no site-packages directory has {tool.path}",
                                help=f"pip install '{tool.requirement}'")
    return path


@functools.cache
def find(name: str) -> str | None:
    """The path of the tool ``name`` of ``TOOLS``, or None where its wheel is not installed."""
    relative = TOOLS[name].path
    for directory in sys.path:
        path = os.path.join(directory, relative)
        if directory and os.path.exists(path):
            return path
    return None


@functools.cache
def version(package: str) -> str | None:
    """The installed version of a distribution, read off its metadata directory's name; None where there is none.

    ``importlib.metadata`` would say the same and take 50 ms to import.
    """
    prefix, suffix = package.replace("-", "_") + "-", ".dist-info"
    for directory in sys.path:
        for entry in _entries(directory):
            if entry.startswith(prefix) and entry.endswith(suffix):
                return entry[len(prefix):-len(suffix)]
    return None


@functools.cache
def _entries(directory: str) -> tuple[str, ...]:
    try:
        return tuple(entry for entry in os.listdir(directory) if entry.endswith(".dist-info"))
    except OSError:
        return ()
