"""The CUDA driver, by ctypes: what loading kernels and launching them takes.

Devices are used by their primary contexts, which are those of CuPy's and torch's arrays.
"""

from __future__ import annotations

import ctypes
import functools
import sys
from typing import Any, NamedTuple

from tilus.diagnostics import ToolchainError
from tilus.runtime.cpu.llvm import function_address

_COMPUTE_MAJOR, _COMPUTE_MINOR, _MULTIPROCESSORS = 75, 76, 16
"""``CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR``, ``…_MINOR``, ``CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT``."""
_DYNAMIC_SHARED_BYTES = 8
"""``CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES``."""
_DEVICE_ORDINAL = 9
"""``CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL``."""
USUAL_SHARED_BYTES = 48 * 1024
"""What a block gets of shared memory without being asked whether it may."""
_NAME_BYTES = 256
_LIBRARY = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"


class Properties(NamedTuple):
    """Of a device."""

    major: int
    minor: int
    multiprocessors: int


class Driver:
    """The functions of a driver library, or of a stand-in with functions of these names."""

    def __init__(self, library: Any) -> None:
        self._library = library
        self.call("be initialised", "cuInit", 0)

    def address(self, name: str) -> int:
        """Of a function. Raises ToolchainError (E0901) where the driver is too old to have it."""
        try:
            return function_address(getattr(self._library, name))
        except AttributeError:
            raise ToolchainError.at("E0901", f"the CUDA driver has no {name}: it is older than CUDA 11.8",
                                    help="install a newer driver") from None

    def call(self, what: str, name: str, *arguments: Any) -> None:
        """Call a function. Raises ToolchainError (E0904), which says that the driver could not do ``what``."""
        error = getattr(self._library, name)(*arguments)
        if error:
            raise self.error(error, f"the CUDA driver could not {what}")

    def error(self, code: int, message: str) -> ToolchainError:
        """The error for a code of the driver's."""
        return ToolchainError.at("E0904", f"{message}: {self._text('cuGetErrorName', code)}",
                                 notes=(self._text("cuGetErrorString", code),))

    def _text(self, name: str, code: int) -> str:
        text = ctypes.c_char_p()
        unknown = getattr(self._library, name)(ctypes.c_int(code), ctypes.byref(text))
        return f"error {code}" if unknown or text.value is None else text.value.decode()

    def devices(self) -> list[str]:
        """The names of all devices."""
        count = ctypes.c_int()
        self.call("count the devices", "cuDeviceGetCount", ctypes.byref(count))
        names = []
        for device in range(count.value):
            text = ctypes.create_string_buffer(_NAME_BYTES)
            self.call(f"name device {device}", "cuDeviceGetName", text, _NAME_BYTES, self._handle(device))
            names.append(text.value.decode())
        return names

    @functools.cache  # noqa: B019  (a driver lives as long as the process)
    def properties(self, device: int) -> Properties:
        return Properties(*(self._attribute(device, which) for which in (
            _COMPUTE_MAJOR, _COMPUTE_MINOR, _MULTIPROCESSORS)))

    def _attribute(self, device: int, which: int) -> int:
        value = ctypes.c_int()
        self.call(f"describe device {device}", "cuDeviceGetAttribute", ctypes.byref(value), which,
                  self._handle(device))
        return value.value

    def _handle(self, device: int) -> int:
        handle = ctypes.c_int()
        self.call(f"find device {device}", "cuDeviceGet", ctypes.byref(handle), device)
        return handle.value

    @functools.cache  # noqa: B019
    def context(self, device: int) -> int:
        """The primary context of a device, which it keeps."""
        context = ctypes.c_void_p()
        self.call(f"give the context of device {device}", "cuDevicePrimaryCtxRetain", ctypes.byref(context),
                  self._handle(device))
        return context.value or 0

    def current_device(self) -> int:
        """The number of the device that this thread has chosen, 0 where it has chosen none."""
        device = ctypes.c_int()
        return 0 if self._library.cuCtxGetDevice(ctypes.byref(device)) else device.value

    def device_of(self, address: int) -> int:
        """The number of the device that an address is of."""
        device = ctypes.c_int()
        self.call("say which device an array is on", "cuPointerGetAttribute", ctypes.byref(device), _DEVICE_ORDINAL,
                  ctypes.c_uint64(address))
        return device.value

    def load(self, cubin: bytes, device: int, kernels: dict[str, int]) -> dict[str, int]:
        """The functions of a cubin's kernels on a device, which stay loaded. ``kernels`` has the shared memory of a
        block of each."""
        first = next(iter(kernels))
        what = f"load {first}"
        self.call(what, "cuCtxPushCurrent_v2", ctypes.c_void_p(self.context(device)))
        try:
            module = ctypes.c_void_p()
            self.call(what, "cuModuleLoadData", ctypes.byref(module), cubin)
            return {name: self._function(module, name, shared) for name, shared in kernels.items()}
        finally:
            self.call(what, "cuCtxPopCurrent_v2", ctypes.byref(ctypes.c_void_p()))

    def _function(self, module: ctypes.c_void_p, name: str, shared: int) -> int:
        function = ctypes.c_void_p()
        self.call(f"find {name}", "cuModuleGetFunction", ctypes.byref(function), module, name.encode())
        if shared > USUAL_SHARED_BYTES:
            self.call(f"give {name} {shared} bytes of shared memory", "cuFuncSetAttribute", function,
                      _DYNAMIC_SHARED_BYTES, shared)
        return function.value or 0


_installed: list[Driver] = []


def driver() -> Driver:
    """This machine's. Raises ToolchainError: E0901, there is none; E0904, it does not work."""
    if not _installed:
        try:
            library = ctypes.CDLL(_LIBRARY)
        except OSError:
            raise ToolchainError.at("E0901", "running on a GPU needs NVIDIA's driver, and there is no "
                                             f"{_LIBRARY} here") from None
        _installed.append(Driver(library))
    return _installed[0]


def install(stand_in: Driver | None) -> Driver | None:
    """Use a stand-in from now on, or this machine's driver for None; gives what has been used so far."""
    before = _installed[0] if _installed else None
    _installed[:] = [] if stand_in is None else [stand_in]
    return before


__all__ = ["Driver", "Properties", "driver", "install"]
