"""The engine that runs kernels on the GPU that the arrays are on, through the driver."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tilus.diagnostics import UnsupportedError, UserError
from tilus.ir.core import Parameter
from tilus.runtime.arguments import call_error
from tilus.runtime.arrays import CUDA, ArrayArgument
from tilus.runtime.cpu.kernel import kernel_arguments
from tilus.runtime.engines import Engine, Plan, Runner
from tilus.runtime.nvidia.build import GpuRoute, route_named
from tilus.runtime.nvidia.device_kernel import BoundKernel, DeviceKernel
from tilus.runtime.nvidia.driver import Driver, driver
from tilus.runtime.nvidia.libraries import library_of
from tilus.runtime.specialise import Specialisation
from tilus.targets import Target, get_target


class CudaEngine(Engine):
    """``cuda``, ``cuda:ptx``, ``cuda:cuda``: with code of a route."""

    kind = CUDA
    timed = True

    def __init__(self, name: str) -> None:
        super().__init__(name)
        route = route_named(name.split(":")[1:])
        if route is None:
            raise call_error("E0506", f"there is no engine {name!r}", help="cuda, cuda:ptx, cuda:cuda")
        self.route = route

    def assumed(self, parameters: Sequence[Parameter]) -> Sequence[Parameter]:
        return parameters

    @property
    def target(self) -> Target:
        """That fits the current device."""
        return get_target(target_of(driver(), driver().current_device()))

    def make(self, specialisation: Specialisation) -> Runner:
        return _Cuda(specialisation, self.route)


class _Cuda:
    """Cubins are compiled per architecture at the first call on a device of it."""

    def __init__(self, specialisation: Specialisation, route: GpuRoute) -> None:
        self.specialisation, self.route = specialisation, route
        specialisation.trace()  # says which arrays are written
        self._kernels: dict[int, DeviceKernel] = {}
        self._bound: dict[tuple[int, str], BoundKernel] = {}

    def bound(self, arguments: Sequence[Any]) -> BoundKernel:
        """The kernel on the device that arrays are on, for their library."""
        found_driver = driver()
        device = device_of(found_driver, arguments)
        library = library_of(arguments, device)
        found = self._bound.get((device, library.name))
        if found is None or found.library is not library:
            kernel = self._kernels.get(device)
            if kernel is None:
                kernel = self._kernels[device] = DeviceKernel(
                    self.specialisation, target_of(found_driver, device), self.route, found_driver, device)
            found = self._bound[device, library.name] = BoundKernel(kernel, library)
        return found

    def formats(self, arguments: Sequence[Any]) -> dict[str, str]:
        return self.bound(arguments).formats

    def run(self, arguments: Sequence[Any]) -> None:
        kernel = self.bound(arguments)
        kernel.launch(kernel.pack(kernel_arguments(arguments)))

    def plan(self, call: Any, specialisation: Specialisation) -> Plan | None:
        from tilus.runtime.cpu.plan import native_plan

        return native_plan(call, specialisation, self.bound(call.arguments))


def target_of(found_driver: Driver, device: int) -> str:
    """The target that fits a device."""
    properties = found_driver.properties(device)
    return device_target(properties.major, properties.minor)


def device_target(major: int, minor: int) -> str:
    """The target of an architecture, or the newest one below it of the same family."""
    arch = major * 10 + minor
    for name in (f"sm_{arch}a", f"sm_{arch}"):
        try:
            return get_target(name).name
        except UserError:
            continue
    older = [n for n in (120, 100, 90, 89, 86, 80, 75, 70) if n // 10 == arch // 10 and n < arch]
    if not older:
        raise UnsupportedError.at("E0501", f"no target fits the device, which is sm_{arch}")
    return f"sm_{older[0]}"


def device_of(found_driver: Driver, arguments: Sequence[Any]) -> int:
    """The number of the device that the arrays among some arguments are on. Raises UserError: they are on several."""
    devices = {found_driver.device_of(argument.address) for argument in arguments
               if isinstance(argument, ArrayArgument) and argument.address}
    if len(devices) > 1:
        raise UserError.at("E0601", f"the arrays are on several devices: {sorted(devices)}")
    return devices.pop() if devices else found_driver.current_device()


__all__ = ["CudaEngine", "device_of", "device_target", "target_of"]
