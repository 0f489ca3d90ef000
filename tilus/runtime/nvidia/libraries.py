"""What calls use of the library that their arrays are of: its current stream, and its allocator, whose memory is that
stream's: it may be freed as soon as what uses it is enqueued, and belongs to a CUDA graph that is being captured."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from tilus.diagnostics import ToolchainError
from tilus.runtime.arguments import is_torch
from tilus.runtime.arrays import ArrayArgument


class Library(NamedTuple):
    """Of one device.

    Attributes:
        stream: gives the current stream.
        allocate: for a number of bytes the address of uninitialised memory, and the object that holds it.
    """

    name: str
    stream: Callable[[], int]
    allocate: Callable[[int], tuple[int, Any]]


def library_of(arguments: Sequence[Any], device: int) -> Library:
    """Torch where there are tensors among the arguments, else CuPy. Raises ToolchainError: that is missing."""
    tensors = any(isinstance(a, ArrayArgument) and is_torch(a.owner) for a in arguments)
    return torch_library(device) if tensors else cupy_library(device)


@functools.cache
def torch_library(device: int) -> Library:
    torch = sys.modules["torch"]
    raw = getattr(torch._C, "_cuda_getCurrentRawStream", None)  # as torch.compile does: a tenth of the time
    stream = functools.partial(raw, device) if raw is not None else \
        lambda: int(torch.cuda.current_stream(device).cuda_stream)
    new = functools.partial(torch.empty, dtype=torch.uint8, device=f"cuda:{device}")

    def allocate(size: int) -> tuple[int, Any]:
        memory = new(size)
        return memory.data_ptr(), memory

    return Library("torch", stream, allocate)


def cupy_library(device: int) -> Library:
    return _cupy_library(cupy_module(), device)


@functools.cache
def _cupy_library(cupy: Any, device: int) -> Library:
    current, alloc, on_device = cupy.cuda.get_current_stream, cupy.cuda.alloc, cupy.cuda.Device(device)

    def stream() -> int:
        return int(current(device).ptr)

    def allocate(size: int) -> tuple[int, Any]:
        with on_device:
            memory = alloc(size)
        return int(memory.ptr), memory

    return Library("cupy", stream, allocate)


def cupy_module() -> Any:
    """CuPy. Raises ToolchainError (E0901) where it is not installed."""
    try:
        import cupy
    except ImportError as error:
        raise ToolchainError.at("E0901", "running on a GPU needs CuPy, which is not installed",
                                help="pip install 'tilus[cuda]', or pass torch's tensors") from error
    return cupy


__all__ = ["Library", "cupy_library", "cupy_module", "library_of", "torch_library"]
