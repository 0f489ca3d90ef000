"""The model of a call: its kernels lowered and followed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tilus.ir.core import Module
from tilus.lowering.cpu import CpuProgram, lower_module
from tilus.lowering.cpu.kept_operands import MEMOS_OF_DOT, count_memos
from tilus.lowering.cpu.launch import is_grouped
from tilus.lowering.pipelines import CPU, run_passes
from tilus.model.cpu.launches import Launch, LaunchFunction, bind
from tilus.model.cpu.machine import Host
from tilus.model.cpu.predict import Estimate, LaunchModel
from tilus.records import record
from tilus.runtime.cpu.llvm import machine
from tilus.runtime.internal import collection_paused
from tilus.runtime.jit import Prepared
from tilus.runtime.threads import get_num_threads
from tilus.targets import TARGETS


def estimate(prepared: Prepared, host: Host, threads: int | None = None) -> Estimate:
    """What a call takes on a host, by the model. Raises UserError where the kernel does not trace or lower.

    Args:
        prepared: the call, which may never have been compiled.
        host: the record of the machine.
        threads: on how many cores it runs; by default as many as kernels do now.
    """
    module = prepared.specialisation.trace(TARGETS["cpu"])
    return estimate_module(module, prepared.call.arguments, host, threads)


def estimate_module(module: Module, arguments: Sequence[Any], host: Host, threads: int | None = None) -> Estimate:
    """Of a traced module, which is lowered in place, for the arguments of its launch function."""
    total = Estimate(0.0)
    for followed in follow(module, arguments, host, threads)[1]:
        _add(total, followed.estimate)
    return total


@record(eq=False)
class Followed:
    """A launch of a call, its model, and what that says."""

    launch: Launch
    model: LaunchModel
    estimate: Estimate


def follow(module: Module, arguments: Sequence[Any], host: Host,
           threads: int | None = None) -> tuple[CpuProgram, list[Followed]]:
    """The code of a traced module, which is lowered in place, and what a call with these arguments of its launch
    function launches."""
    with collection_paused():
        run_passes(module, CPU.tile)
        program = lower_module(module, machine())
        functions = {f.name: f for f in program.functions}
        assert module.launch is not None
        cores = threads or get_num_threads()
        memory = bind([v.type for v in module.launch.body.args], arguments, cores)
        found = []
        for launch in LaunchFunction(functions["launch"], memory).run():
            kernel = module.kernel(launch.kernel)
            model = LaunchModel(functions[launch.function], launch, memory, host,
                                1 if launch.single else cores, count_memos(kernel) * MEMOS_OF_DOT, is_grouped(kernel),
                                program.frame_bytes)
            found.append(Followed(launch, model, model.estimate()))
        return program, found


def _add(total: Estimate, part: Estimate) -> None:
    total.seconds += part.seconds
    total.assumed |= part.assumed
    for into, found in ((total.parts, part.parts), (total.counts, part.counts)):
        for name, value in found.items():
            into[name] = into.get(name, 0.0) + value


__all__ = ["Followed", "estimate", "estimate_module", "follow"]
