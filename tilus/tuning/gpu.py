"""Timing on NVIDIA's GPUs, through CuPy: by events on the stream, with a cold L2 and clocks that are up.

What a call costs the host is not in the times. Before a sample a kernel keeps the stream busy for as long as it takes
to put all calls into it; where that was not long enough, since the first call began before the last one was there, the
sample is taken once more after a longer one. Of CuPy only memory, streams, events and launches are used, which need no
compiler of its own.
"""

from __future__ import annotations

import functools
import statistics
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from tilus.runtime.arrays import ArrayArgument
from tilus.runtime.nvidia.cuda_engine import device_of, target_of
from tilus.runtime.nvidia.driver import driver
from tilus.runtime.nvidia.libraries import cupy_module, library_of
from tilus.runtime.packed_array import is_held
from tilus.tuning.devices import Call, DeviceLost, Memory

HOST_TO_DEVICE, DEVICE_TO_HOST, DEVICE_TO_DEVICE = 1, 2, 3
"""Kinds of copies, as the CUDA runtime numbers them."""
LEAST_FLUSHED, FLUSHED = 64 << 20, 2
"""Bytes that are written before each timed call, at least, and as a multiple of the L2."""
WARM, COLD = 5e-3, 50e-3
"""A device that has had no sample for ``COLD`` seconds runs for ``WARM`` seconds first, for its clocks to rise."""
MOST_HOLDS = 4
"""How often a sample is taken until the device was kept busy for long enough. Calls that wait for the device themselves
never are: their times have in them what they cost the host."""
A_CALL = 3e-4
"""Seconds that it takes to put a call into the stream, before one is known."""
CYCLES_A_SECOND = 2.5e9
"""No less than the clocks of the devices, so that they are kept busy for no less time than is asked for."""
HOLD = """extern "C" __global__ void hold(long long cycles) {
    long long start = clock64();
    while (clock64() - start < cycles) {}
}
"""


@functools.lru_cache(maxsize=16)
def _hold_cubin(target: str) -> bytes:
    from tilus.runtime.toolchains.nvrtc import compile_cuda
    from tilus.targets import get_target

    return compile_cuda(HOLD, get_target(target)).cubin


class Gpu:
    """The GPU that some arrays are on, and the stream that calls on them use.

    Raises:
        UserError: they are on several.
    """

    children = False
    most_repeats = 16

    def __init__(self, arrays: Sequence[ArrayArgument] = ()) -> None:
        self.cupy = cupy_module()
        runtime = self.cupy.cuda.runtime
        self.number = device_of(driver(), arrays)
        self.name = f"cuda {runtime.deviceGetPCIBusId(self.number)}"
        self.device = self.cupy.cuda.Device(self.number)
        library = library_of(arrays, self.number)
        with self.device:
            self.stream = self.cupy.cuda.ExternalStream(library.stream())
            properties = runtime.getDeviceProperties(self.number)
            self._flushed = max(LEAST_FLUSHED, FLUSHED * int(properties["l2CacheSize"]))
            self._buffer = self.cupy.cuda.alloc(self._flushed)
            module = self.cupy.cuda.function.Module()
            module.load(_hold_cubin(target_of(driver(), self.number)))
            self._hold = module.get_function("hold")
        self._a_call = A_CALL
        self._last = float("-inf")

    def first(self, run: Call) -> float:
        started = time.perf_counter()
        self._checked(lambda: (run(), self.stream.synchronize()))
        return time.perf_counter() - started

    def sample(self, run: Call, repeats: int, before: Call | None) -> float:
        found: float = self._checked(lambda: self._sampled(run, repeats, before))
        return found

    def memory(self, array: ArrayArgument) -> Memory:
        return GpuMemory(self.cupy, array, self.stream)

    def _checked(self, work: Call) -> Any:
        """Do something on the device. Raises DeviceLost where that has left it in a state in which nothing works."""
        try:
            with self.device, self.stream:
                return work()
        except Exception as error:
            try:
                self.cupy.cuda.runtime.deviceSynchronize()
            except Exception:
                raise DeviceLost(f"{type(error).__name__}: {error}".split("\n")[0]) from error
            raise

    def _sampled(self, run: Call, repeats: int, before: Call | None) -> float:
        if time.perf_counter() - self._last > COLD:
            self._warm_up(run, before)
        events = [(self.cupy.cuda.Event(), self.cupy.cuda.Event()) for _ in range(repeats)]
        hold = 2 * repeats * self._a_call
        for _ in range(MOST_HOLDS):
            took, in_time = self._take(run, events, before, hold)
            self._a_call = took / repeats
            if in_time:
                break
            hold = 2 * max(hold, took)
        self._last = time.perf_counter()
        elapsed = self.cupy.cuda.get_elapsed_time
        return 1e-3 * float(statistics.median(elapsed(start, stop) for start, stop in events))

    def _take(self, run: Call, events: Sequence[tuple[Any, Any]], before: Call | None,
              hold: float) -> tuple[float, bool]:
        """Calls between events, after so many seconds in which the device is busy. The seconds that it took to put them
        into the stream, and whether all were there before the first one began."""
        stream, memset = self.stream, self.cupy.cuda.runtime.memsetAsync
        self._hold((1, 1, 1), (1, 1, 1), (np.int64(hold * CYCLES_A_SECOND),), stream=stream)
        started = time.perf_counter()
        for start, stop in events:
            if before is not None:
                before()
            memset(self._buffer.ptr, 0, self._flushed, stream.ptr)
            start.record(stream)
            run()
            stop.record(stream)
        in_time = not events[0][0].done
        took = time.perf_counter() - started
        stream.synchronize()
        return took, in_time

    def _warm_up(self, run: Call, before: Call | None) -> None:
        started = time.perf_counter()
        while time.perf_counter() - started < WARM:
            if before is not None:
                before()
            run()
            self.stream.synchronize()


class GpuMemory:
    """Memory of an array on a GPU. It is copied whole, with what lies between the elements of a strided array, which
    nobody else changes meanwhile."""

    def __init__(self, cupy: Any, array: ArrayArgument, stream: Any) -> None:
        self.cupy, self.array, self.stream = cupy, array, stream
        self.low, high = array.extent_bytes()
        self.size = high - self.low
        self._zeroed: Any = None

    @property
    def address(self) -> int:
        """The first byte."""
        return self.array.address + self.low

    def numbers(self) -> np.ndarray[Any, Any]:
        return self._elements(self._bytes())

    def saved(self) -> Any:
        """A copy on the device."""
        kept = self.cupy.cuda.alloc(max(1, self.size))
        self._copy(kept.ptr, self.address)
        return kept

    def put(self, saved: Any) -> None:
        self._copy(self.address, saved.ptr)

    def clear(self) -> None:
        if self.array.is_contiguous or not is_held(self.array.dtype):
            self.cupy.cuda.runtime.memsetAsync(self.address, 0, self.size, self.stream.ptr)
            return
        if self._zeroed is None:
            memory = self._bytes()
            self._elements(memory)[...] = 0
            self._zeroed = self.cupy.cuda.alloc(max(1, self.size))
            self.cupy.cuda.runtime.memcpy(self._zeroed.ptr, memory.ctypes.data, self.size, HOST_TO_DEVICE)
        self.put(self._zeroed)

    def _copy(self, to: int, source: int) -> None:
        self.cupy.cuda.runtime.memcpyAsync(to, source, self.size, DEVICE_TO_DEVICE, self.stream.ptr)

    def _bytes(self) -> np.ndarray[Any, Any]:
        """A copy of the memory on the host."""
        memory = np.empty(self.size, np.uint8)
        self.stream.synchronize()
        self.cupy.cuda.runtime.memcpy(memory.ctypes.data, self.address, self.size, DEVICE_TO_HOST)
        return memory

    def _elements(self, memory: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """The elements in a copy of the memory; the bytes where NumPy has no type for them."""
        dtype, shape = self.array.dtype, self.array.shape
        if not is_held(dtype):
            return memory
        if 0 in shape:
            return np.empty(shape, dtype.numpy)
        strides = tuple(s * dtype.itemsize for s in self.array.strides)
        elements: np.ndarray[Any, Any] = np.ndarray(shape, dtype.numpy, memory.data, -self.low, strides)
        return elements


__all__ = ["Gpu", "GpuMemory"]
