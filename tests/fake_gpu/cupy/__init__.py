"""What tilus uses of CuPy, with a device of ``sm_80`` whose memory is the host's: launches run on the PTX simulator,
and take as long as :data:`device` says.

As in CuPy, functions and modules have no attributes but their own, an error of a kernel is seen by what waits for it,
and after an illegal access nothing works. Kernels are those that tilus compiles in this process.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np

from tests.fake_gpu.driver import Enqueued, StandIn, Zeroed
from tilus.runtime.nvidia.driver import Driver, install

__version__ = "0.0-fake"
ALIGNMENT = 256
LARGEST_SET = 32 << 20
"""Larger memory, such as what flushes caches, is not written."""
sources: dict[bytes, Callable[[], str]] = {}
"""The PTX of cubins."""


class Device_:
    """The one device, and what tests may change of it.

    Attributes:
        now: its clock, in milliseconds.
        seconds: how long a launch takes, by the kernel's name, the grid and the number of instructions.
        breaks: whether a launch is one after which nothing works.
        late: so many samples begin before all of their calls are there.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.now, self.broken, self.late = 0.0, False, 0
        self.seconds: Callable[[str, tuple[int, ...], int], float] = lambda name, grid, count: 1e-11 * count
        self.breaks: Callable[[str, tuple[int, ...]], bool] = lambda name, grid: False
        self.launched: list[str] = []
        self.errors: list[Exception] = []

    def check(self) -> None:
        if self.errors:
            raise self.errors.pop(0)
        if self.broken:
            raise CUDARuntimeError("cudaErrorIllegalAddress: an illegal memory access was encountered")


class CUDARuntimeError(RuntimeError):
    pass


class _Allocation:
    """Device memory."""

    device_id = 0

    def __init__(self, size: int) -> None:
        memory = np.zeros(size + ALIGNMENT, np.uint8)
        skipped = -memory.ctypes.data % ALIGNMENT
        self.bytes = memory[skipped:skipped + size]
        self.ptr = self.bytes.ctypes.data
        allocations.append(self)


allocations: list[_Allocation] = []
device = Device_()


def _pointer(address: int) -> Any:
    """An address as the simulator takes it; None where it is none of the device's."""
    from tilus.simulator import Pointer

    for found in allocations:
        if found.ptr <= address < found.ptr + max(1, len(found.bytes)):
            return Pointer(found.bytes, address - found.ptr)
    return None


class ndarray:
    def __init__(self, shape: Any, dtype: Any = np.float64) -> None:
        self.shape = (shape,) if isinstance(shape, int) else tuple(shape)
        self.dtype = np.dtype(dtype)
        self.itemsize = self.dtype.itemsize
        self.nbytes = int(np.prod(self.shape, dtype=np.int64)) * self.itemsize
        self.data = _Allocation(self.nbytes)
        self.host = self.data.bytes.view(self.dtype).reshape(self.shape)
        self.strides = self.host.strides

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {"shape": self.shape, "typestr": self.dtype.str, "data": (self.data.ptr, False), "version": 3}

    def get(self) -> np.ndarray[Any, Any]:
        device.check()
        return self.host.copy()


def empty(shape: Any, dtype: Any = np.float64) -> ndarray:
    return ndarray(shape, dtype)


zeros = empty


def asarray(array: np.ndarray[Any, Any]) -> ndarray:
    found = ndarray(array.shape, array.dtype)
    found.host[...] = array
    return found


# -- streams, events and time


class Stream:
    null: Stream
    ptr = 0

    def synchronize(self) -> None:
        device.check()

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *error: object) -> None:
        pass


Stream.null = Stream()


class Event:
    __slots__ = ("time",)

    def record(self, stream: Stream | None = None) -> None:
        self.time = device.now

    @property
    def done(self) -> bool:
        device.late -= 1
        return device.late >= 0

    def synchronize(self) -> None:
        device.check()


class Device:
    def __init__(self, number: int | None = None) -> None:
        self.id = number or 0

    def __enter__(self) -> Device:
        return self

    def __exit__(self, *error: object) -> None:
        pass


# -- code


class Module:
    __slots__ = ("cubin",)

    def load(self, cubin: bytes) -> None:
        device.check()
        self.cubin = cubin

    def get_function(self, name: str) -> Function:
        return Function(self, name)


class Function:
    __slots__ = ("module", "name", "ptr")

    def __init__(self, module: Module, name: str) -> None:
        self.module, self.name, self.ptr = module, name, id(self)

    def __call__(self, grid: tuple[int, ...], block: tuple[int, ...], args: tuple[Any, ...], shared_mem: int = 0,
                 stream: Stream | None = None) -> None:
        assert len(grid) == len(block) == 3
        assert all(isinstance(value, np.generic) for value in args)
        _run(self.module.cubin, self.name, grid, block, [value.tobytes() for value in args], shared_mem)


def _run(cubin: bytes, name: str, grid: tuple[int, ...], block: tuple[int, ...], parameters: Sequence[bytes],
         shared: int) -> None:
    from tilus.simulator import launch

    device.launched.append(name)
    if name == "hold":
        return
    count = 0
    if device.breaks(name, grid):
        device.broken = True
    else:
        values = [(len(p) == 8 and _pointer(int.from_bytes(p, "little"))) or p for p in parameters]
        count = launch(sources[cubin](), name, grid, block, values, shared_bytes=shared, target=80).total_instructions
    device.now += 1e3 * device.seconds(name, grid, count)


def _enqueued(launch: Enqueued) -> int:
    """A launch through the driver. What it does wrong is seen by what waits for it."""
    try:
        _run(launch.cubin, launch.name, launch.grid, launch.block, launch.parameters, launch.shared)
    except Exception as error:
        device.errors.append(error)
    return 0


def _cleared(zeroed: Zeroed) -> int:
    _set(zeroed.address, 0, zeroed.size)
    return 0


def _install_driver() -> StandIn:
    """Launches by the driver are those of this device."""
    stand_in = StandIn()
    stand_in.execute, stand_in.clear = _enqueued, _cleared
    install(Driver(stand_in))
    return stand_in


def _watch_compilations() -> None:
    """Take note of the PTX of what is compiled from now on."""
    from tilus.runtime.nvidia.kernel import CompiledKernel
    from tilus.runtime.toolchains import nvrtc

    begin, compile_cuda = CompiledKernel.__init__, nvrtc.compile_cuda

    @functools.wraps(begin)
    def beginning(self: Any, *args: Any, **kwargs: Any) -> None:
        begin(self, *args, **kwargs)
        sources[self.cubin] = lambda: self.ptx

    @functools.wraps(compile_cuda)
    def compiling(source: str, target: Any, **options: Any) -> Any:
        result = compile_cuda(source, target, **options)
        sources[result.cubin] = functools.cache(lambda: nvrtc.cuda_to_ptx(source, target))
        return result

    CompiledKernel.__init__ = beginning  # type: ignore[method-assign]
    nvrtc.compile_cuda = compiling


_watch_compilations()
cuda_driver = _install_driver()


# -- the runtime


def _copy(to: int, source: int, size: int, kind: int, stream: int = 0) -> None:
    device.check()
    assert kind in (1, 2, 3)
    for address, on_device in ((to, kind != 2), (source, kind != 1)):
        assert not size or (_pointer(address) is not None) == on_device
    ctypes.memmove(to, source, size)


def _set(address: int, value: int, size: int, stream: int = 0) -> None:
    device.check()
    assert not size or _pointer(address) is not None
    if size <= LARGEST_SET:
        ctypes.memset(address, value, size)


def _properties(number: int) -> dict[str, Any]:
    return {"name": b"Fake A100", "major": 8, "minor": 0, "multiProcessorCount": 108, "l2CacheSize": 40 << 20,
            "totalGlobalMem": 80 << 30, "warpSize": 32}


def _attribute(number: int, which: int) -> int:
    return {13: 1410000, 36: 1593000, 37: 5120}[number]


runtime = SimpleNamespace(
    CUDARuntimeError=CUDARuntimeError, getDevice=lambda: 0, getDeviceCount=lambda: 1, getDeviceProperties=_properties,
    deviceGetPCIBusId=lambda number: "0000:01:00.0", deviceGetAttribute=_attribute, deviceSynchronize=device.check,
    pointerGetAttributes=lambda address: SimpleNamespace(device=0), memcpy=_copy, memcpyAsync=_copy, memsetAsync=_set,
    driverGetVersion=lambda: 13000, runtimeGetVersion=lambda: 13000, memGetInfo=lambda: (64 << 30, 80 << 30))


def _elapsed(start: Event, stop: Event) -> float:
    return stop.time - start.time


cuda = SimpleNamespace(
    runtime=runtime, Device=Device, Event=Event, Stream=Stream,
    ExternalStream=lambda address: Stream.null,
    function=SimpleNamespace(Module=Module, Function=Function), alloc=_Allocation, get_elapsed_time=_elapsed,
    get_current_stream=lambda device=-1: Stream.null)
