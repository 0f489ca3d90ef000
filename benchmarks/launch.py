"""What a warm call of a kernel on CUDA arrays costs the host, without a GPU: against a driver that does nothing.

    python -m benchmarks.launch [--calls 20000]

The driver's functions are native code that returns at once, so that what is measured is all that comes before it:
arguments are recognised and compared with those of earlier calls, the stream is asked for, workspaces are allocated,
grids and parameters are computed. Arrays are imitations: tensors of torch in host memory that say that they are on a
GPU, objects with the attributes of CuPy's arrays, and arrays of NumPy's, which are read where they lie and so show
what remains where asking a library costs nothing. No figure is one of a GPU.
"""

from __future__ import annotations

import argparse
import ctypes
import functools
import operator
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

import tilus as tl
from tests.fake_gpu.driver import StandIn
from tilus.runtime import recognise
from tilus.runtime.arrays import CUDA, ArrayArgument
from tilus.runtime.cpu.llvm import function, loaded
from tilus.runtime.nvidia import driver, libraries

CONTEXT = 0xC000
STREAM = 0x57
ROUNDS = 20
SIZE = 1000
_DRIVER = f"""
define i32 @get_current(ptr %found) {{
  store i64 {CONTEXT}, ptr %found
  ret i32 0
}}
define i32 @push(ptr %context) {{
  ret i32 0
}}
define i32 @launch(ptr %config, ptr %function, ptr %parameters, ptr %extra) {{
  ret i32 0
}}
define i32 @set(i64 %address, i8 %value, i64 %size, ptr %stream) {{
  ret i32 0
}}
"""


class Idle(StandIn):
    """A driver whose functions that native code calls do nothing, in native code."""

    def __init__(self) -> None:
        super().__init__()
        self._code = loaded(_DRIVER)
        pointer = ctypes.c_void_p
        self.cuCtxGetCurrent = function(self._code.address("get_current"), ctypes.c_int, pointer)
        self.cuLaunchKernelEx = function(self._code.address("launch"), ctypes.c_int, *[pointer] * 4)
        self.cuMemsetD8Async = function(self._code.address("set"), ctypes.c_int, ctypes.c_uint64, ctypes.c_ubyte,
                                        ctypes.c_size_t, pointer)


@tl.jit
def three(x: tl.f32["N"], y: tl.f32["N"], z: tl.f32["N"], BLOCK: int = 128):
    i = tl.grid(tl.cdiv(x.shape[0], BLOCK)) * BLOCK
    tl.store(z, i, tl.load(x, i, BLOCK) + tl.load(y, i, BLOCK))


@tl.jit
def twelve(a: tl.f32["N"], b: tl.f32["N"], c: tl.f32["N"], d: tl.f32["N"], e: tl.f32["N"], f: tl.f32["N"],
           g: tl.f32["N"], h: tl.f32["N"], i: tl.f32["N"], j: tl.f32["N"], k: tl.f32["N"], z: tl.f32["N"],
           BLOCK: int = 128):
    at = tl.grid(tl.cdiv(a.shape[0], BLOCK)) * BLOCK
    total = tl.load(a, at, BLOCK)
    for array in (b, c, d, e, f, g, h, i, j, k):
        total += tl.load(array, at, BLOCK)
    tl.store(z, at, total)


@tl.fuse
def one_kernel(x, y):
    return x + y


@tl.fuse
def workspace(x, y):
    """Kernels that share a workspace."""
    return (x + y) / tl.sum(x * y)


class CupyArray:
    """With the attributes of ``cupy.ndarray`` that calls use, over host memory."""

    __slots__ = ("data", "dtype", "host", "itemsize", "shape", "strides")

    def __init__(self, shape: Any, dtype: Any = np.float32) -> None:
        self.host = np.zeros(shape, dtype)
        self.data = _Memory(self.host.ctypes.data)
        self.dtype, self.itemsize = self.host.dtype, self.host.itemsize
        self.shape, self.strides = self.host.shape, self.host.strides

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {"shape": self.shape, "typestr": self.dtype.str, "data": (self.data.ptr, False), "version": 3}


class _Memory:
    __slots__ = ("device_id", "ptr")

    def __init__(self, address: int) -> None:
        self.ptr, self.device_id = address, 0


CupyArray.__module__ = "cupy"


class _Device:
    def __init__(self, number: int) -> None:
        pass

    def __enter__(self) -> None:
        pass

    def __exit__(self, *error: object) -> None:
        pass


def imitate_cupy() -> Callable[[], Any]:
    """CuPy's arrays, streams and allocator; gives what makes an array."""
    cupy: Any = ModuleType("cupy")
    stream, memory = SimpleNamespace(ptr=STREAM), _Memory(1 << 20)
    cupy.ndarray, cupy.empty = CupyArray, CupyArray
    cupy.cuda = SimpleNamespace(get_current_stream=lambda device: stream, alloc=lambda size: memory, Device=_Device)
    sys.modules["cupy"] = cupy
    return lambda: CupyArray(SIZE)


def imitate_torch() -> Callable[[], Any] | None:
    """Tensors that say that they are on the first GPU, by functions of torch's own that give False, True and 0; gives
    what makes one. None where there is no torch."""
    try:
        import torch
    except ImportError:
        return None
    base: Any = torch._C.TensorBase
    kind: Any = torch.Tensor
    kind.is_cpu, kind.is_cuda, kind.get_device = base.is_cuda, base.is_cpu, base.storage_offset
    new = functools.partial(torch.empty, dtype=torch.uint8)

    def allocate(size: int) -> tuple[int, Any]:
        memory = new(size)
        return memory.data_ptr(), memory

    library = libraries.Library("torch", functools.partial(operator.index, STREAM), allocate)
    libraries.torch_library = lambda device: library  # type: ignore[assignment]
    return lambda: torch.zeros(SIZE)


def imitate_numpy() -> Callable[[], Any]:
    """NumPy's arrays as if they were on a GPU."""
    taken = recognise.from_ndarray

    def on_gpu(owner: Any, array: np.ndarray[Any, Any]) -> ArrayArgument:
        return replace(taken(owner, array), kind=CUDA)

    recognise.from_ndarray = on_gpu
    return lambda: np.zeros(SIZE, np.float32)


def microseconds(call: Callable[..., Any], arguments: Sequence[Any], calls: int) -> float:
    """Of a warm call: the least of some rounds, since what else a machine does only adds."""
    for _ in range(5):
        call(*arguments)
    rounds, each = [], max(1, calls // ROUNDS)
    for _ in range(ROUNDS):
        started = time.perf_counter()
        for _ in range(each):
            call(*arguments)
        rounds.append((time.perf_counter() - started) / each)
    return 1e6 * min(rounds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=20000, help="calls of each kind")
    calls = parser.parse_args().calls
    driver.install(driver.Driver(Idle()))
    table = Table("arrays", "3 arrays", "12 arrays", "fused, 2 in 1 out", "fused, workspace", title="µs a warm call")
    makers = {"torch": imitate_torch(), "CuPy": imitate_cupy(), "NumPy": imitate_numpy()}
    for name, make in makers.items():
        if make is None:
            continue
        row = [(three, 3), (twelve, 12)] + ([] if name == "NumPy" else [(one_kernel, 2), (workspace, 2)])
        table.add_row(name, *(f"{microseconds(kernel, [make() for _ in range(count)], calls):.2f}"
                              for kernel, count in row))
    Console().print(table)


if __name__ == "__main__":
    main()
