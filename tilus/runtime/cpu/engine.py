"""The engine that runs native code of this machine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tilus.runtime.cpu.kernel import kernel_arguments
from tilus.runtime.engines import Engine, Plan, Runner
from tilus.runtime.specialise import Specialisation


class CpuEngine(Engine):
    """Native code of this machine, by way of LLVM and the disk cache."""

    timed = True

    def make(self, specialisation: Specialisation) -> Runner:
        return Native(load_native(specialisation))


def load_native(specialisation: Specialisation) -> Any:
    """The CPU kernel of a specialisation, from the cache or compiled."""
    from tilus.runtime.compile import compile_specialisation

    return compile_specialisation(specialisation, "cpu").native


class Native:
    def __init__(self, kernel: Any) -> None:
        self.kernel = kernel

    def run(self, arguments: Sequence[Any]) -> None:
        self.kernel(*kernel_arguments(arguments))

    def formats(self, arguments: Sequence[Any]) -> dict[str, str]:
        return dict(self.kernel.formats)

    def plan(self, call: Any, specialisation: Specialisation) -> Plan | None:
        from tilus.runtime.cpu.plan import native_plan

        return native_plan(call, specialisation, self.kernel)


__all__ = ["CpuEngine", "Native", "load_native"]
