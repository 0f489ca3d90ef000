"""A stand-in for the CUDA driver: what Python calls are methods with its functions' names, what native code calls are C
functions. It takes note of what is enqueued, and checks contexts and streams as the driver does."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any, NamedTuple

from tilus.runtime.cubin import read_cubin

NOT_SUPPORTED, INVALID_VALUE, INVALID_CONTEXT, INVALID_HANDLE, LAUNCH_FAILED = 801, 1, 201, 400, 719
NAMES = {INVALID_VALUE: "CUDA_ERROR_INVALID_VALUE", INVALID_CONTEXT: "CUDA_ERROR_INVALID_CONTEXT",
         INVALID_HANDLE: "CUDA_ERROR_INVALID_HANDLE", LAUNCH_FAILED: "CUDA_ERROR_LAUNCH_FAILED"}


class Config(ctypes.Structure):
    """``CUlaunchConfig``."""

    _fields_ = (("grid", ctypes.c_uint * 3), ("block", ctypes.c_uint * 3), ("shared", ctypes.c_uint),
                ("stream", ctypes.c_void_p), ("attributes", ctypes.c_void_p), ("count", ctypes.c_uint))


class Attribute(ctypes.Structure):
    """``CUlaunchAttribute``, with a value that is an int."""

    _fields_ = (("id", ctypes.c_int), ("pad", ctypes.c_int), ("value", ctypes.c_int), ("rest", ctypes.c_char * 60))


class Enqueued(NamedTuple):
    """A launch; ``parameters`` are the bytes of each."""

    name: str
    grid: tuple[int, ...]
    block: tuple[int, ...]
    shared: int
    stream: int
    cooperative: bool
    parameters: tuple[bytes, ...]
    cubin: bytes
    device: int


class Zeroed(NamedTuple):
    address: int
    size: int
    stream: int


class StandIn:
    """Devices of one architecture.

    Attributes:
        enqueued: launches and memory that is set to 0, in order.
        execute: what a launch does besides; it gives an error of the driver's or 0.
        device_of: the number of the device that an address is of.
        current: the contexts that have been pushed.
        error: what the next launch gives instead of being enqueued.
    """

    def __init__(self, architecture: tuple[int, int] = (8, 0), multiprocessors: int = 108) -> None:
        self.enqueued: list[Enqueued | Zeroed] = []
        self.execute: Callable[[Enqueued], int] = lambda launch: 0
        self.clear: Callable[[Zeroed], int] = lambda zeroed: 0
        self.device_of: Callable[[int], int] = lambda address: 0
        self.current: list[int] = []
        self.error = 0
        self.attributes = {75: architecture[0], 76: architecture[1], 16: multiprocessors}
        self.functions: list[tuple[str, bytes, int]] = []
        self.shared: dict[str, int] = {}
        self.cubins: list[bytes] = []
        pointer, integer = ctypes.c_void_p, ctypes.c_int
        self.cuCtxGetCurrent = ctypes.CFUNCTYPE(integer, pointer)(self._get_current)
        self.cuCtxPushCurrent_v2 = ctypes.CFUNCTYPE(integer, pointer)(self._push)
        self.cuCtxPopCurrent_v2 = ctypes.CFUNCTYPE(integer, pointer)(self._pop)
        self.cuLaunchKernelEx = ctypes.CFUNCTYPE(integer, pointer, pointer, pointer, pointer)(self._launch)
        self.cuMemsetD8Async = ctypes.CFUNCTYPE(integer, ctypes.c_uint64, ctypes.c_ubyte, ctypes.c_size_t, pointer)(
            self._set)

    # -- called by Python

    def cuInit(self, flags: int) -> int:
        return 0

    def cuDeviceGetCount(self, found: Any) -> int:
        found._obj.value = 2
        return 0

    def cuDeviceGetName(self, text: Any, size: int, device: int) -> int:
        text.value = b"Fake A100 number %d" % device
        return 0

    def cuDeviceGet(self, found: Any, number: int) -> int:
        found._obj.value = number
        return 0

    def cuDeviceGetAttribute(self, found: Any, which: int, device: int) -> int:
        found._obj.value = self.attributes[which]
        return 0

    def cuDevicePrimaryCtxRetain(self, found: Any, device: int) -> int:
        found._obj.value = _context(device)
        return 0

    def cuCtxGetDevice(self, found: Any) -> int:
        if not self.current:
            return INVALID_CONTEXT
        found._obj.value = _device(self.current[-1])
        return 0

    def cuPointerGetAttribute(self, found: Any, which: int, address: Any) -> int:
        found._obj.value = self.device_of(address.value)
        return 0

    def cuModuleLoadData(self, found: Any, cubin: bytes) -> int:
        if not self.current:
            return INVALID_CONTEXT
        self.cubins.append(cubin)
        found._obj.value = len(self.cubins)
        return 0

    def cuModuleGetFunction(self, found: Any, module: Any, name: bytes) -> int:
        self.functions.append((name.decode(), self.cubins[module.value - 1], _device(self.current[-1])))
        found._obj.value = 0x1000 + len(self.functions)
        return 0

    def cuFuncSetAttribute(self, function: Any, which: int, value: int) -> int:
        self.shared[self.functions[function.value - 0x1001][0]] = value
        return 0

    def cuGetErrorName(self, code: Any, text: Any) -> int:
        if code.value not in NAMES:
            return INVALID_VALUE
        text._obj.value = NAMES[code.value].encode()
        return 0

    def cuGetErrorString(self, code: Any, text: Any) -> int:
        text._obj.value = b"what the driver says of it"
        return 0

    # -- called by native code

    def _get_current(self, found: int) -> int:
        ctypes.c_void_p.from_address(found).value = self.current[-1] if self.current else None
        return 0

    def _push(self, context: int) -> int:
        self.current.append(context)
        return 0

    def _pop(self, found: int) -> int:
        ctypes.c_void_p.from_address(found).value = self.current.pop()
        return 0

    def _set(self, address: int, value: int, size: int, stream: int | None) -> int:
        assert value == 0
        self.enqueued.append(Zeroed(address, size, stream or 0))
        return self.clear(self.enqueued[-1])

    def _launch(self, config_at: int, function: int, parameters_at: int, extra: int | None) -> int:
        if self.error:
            return self.error
        config = Config.from_address(config_at)
        name, cubin, device = self.functions[function - 0x1001]
        if not self.current or self.current[-1] != _context(device):
            return INVALID_CONTEXT
        if 0 in config.grid or max(config.grid[1:]) > 65535 or config.shared > max(self.shared.get(name, 0), 48 << 10):
            return INVALID_VALUE
        attributes = (Attribute * config.count).from_address(config.attributes) if config.count else ()
        assert {a.id for a in attributes} <= {2}
        sizes = [p.size for p in read_cubin(cubin).kernels[name].parameters]
        addresses = (ctypes.c_void_p * len(sizes)).from_address(parameters_at) if sizes else ()
        given = tuple(ctypes.string_at(at, size) for at, size in zip(addresses, sizes, strict=True))
        launch = Enqueued(name, tuple(config.grid), tuple(config.block), config.shared, config.stream or 0,
                          any(a.value for a in attributes), given, cubin, device)
        self.enqueued.append(launch)
        return self.execute(launch)


def _context(device: int) -> int:
    return 0xC000 + device


def _device(context: int) -> int:
    return context - 0xC000
