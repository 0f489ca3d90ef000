"""The passes of each target, in order."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from tilus.ir.core import Function, Module
from tilus.lowering.check_instructions import check_instructions
from tilus.lowering.contract import contract
from tilus.lowering.demand_precision import demand_precision
from tilus.lowering.divide_blocks import divide_blocks
from tilus.lowering.dots import choose_dot_units
from tilus.lowering.empty_tiles import drop_empty_tiles
from tilus.lowering.enter_groups import enter_groups
from tilus.lowering.hazards import verify_barriers
from tilus.lowering.infer_layouts import infer_layouts
from tilus.lowering.join_gathers import join_gathers
from tilus.lowering.legalise import HOST, HOST_SCALES, HOST_WITHOUT_HALVES, NVIDIA, legalise
from tilus.lowering.pointer_induction import induct_pointers
from tilus.lowering.prepacked import choose_host_formats, unpack_loads
from tilus.lowering.reduce_in_loops import reduce_in_loops
from tilus.lowering.schedule.defer_reductions import defer_reductions
from tilus.lowering.schedule.order_memory import order_memory
from tilus.lowering.schedule.pipeline import pipeline_loops
from tilus.lowering.schedule.plan import plan_loops
from tilus.lowering.schedule.raster import rasterise_blocks
from tilus.lowering.schedule.remake_after_loops import remake_after_loops
from tilus.lowering.schedule.unroll import unroll_loops, unroll_loops_without_dots
from tilus.lowering.simplify import simplify
from tilus.lowering.simt.split_vectors import split_vectors
from tilus.records import record

if TYPE_CHECKING:
    from tilus.lowering.cpu import CpuProgram
    from tilus.lowering.cpu.gpu_launch import GpuLaunch, LaunchedKernel
    from tilus.lowering.cpu.values import Machine as HostMachine

Pass = Callable[[Module], None]

GPU_TILE_PASSES: tuple[tuple[str, Pass], ...] = (
    ("check-instructions", check_instructions),
    ("drop-empty-tiles", drop_empty_tiles),
    ("simplify", simplify),
    ("demand-precision", demand_precision),
    ("enter-groups", enter_groups),
    ("unpack-loads", unpack_loads),
    ("choose-dot-units", choose_dot_units),
    ("rasterise-blocks", rasterise_blocks),
    ("defer-reductions", defer_reductions),
    ("plan-loops", plan_loops),
    ("pipeline-loops", pipeline_loops),
    ("unroll-loops", unroll_loops),
    ("simplify-after-pipelining", simplify),
    ("infer-layouts", infer_layouts),
    ("simplify-after-layouts", simplify),
    ("remake-after-loops", remake_after_loops),
    ("order-memory", order_memory),
    ("verify-barriers", verify_barriers),
)
"""From a traced tile module to a scheduled one, for every GPU."""

CPU_TILE_PASSES: tuple[tuple[str, Pass], ...] = (
    ("unroll-loops-without-dots", unroll_loops_without_dots),
    ("simplify", simplify),
    ("reduce-in-loops", reduce_in_loops),
    ("choose-host-formats", choose_host_formats),
    ("join-gathers", join_gathers),
    ("divide-blocks", divide_blocks),
)
"""From a traced tile module to the one that is lowered for the CPU."""

CPU_THREAD_PASSES: tuple[tuple[str, Pass], ...] = (
    ("legalise", legalise(HOST)),
)
"""From the loops over vectors to what is printed."""

GPU_THREAD_PASSES: tuple[tuple[str, Pass], ...] = (
    ("simplify-threads", simplify),
    ("split-vectors", split_vectors),
    ("legalise", legalise(NVIDIA)),
    ("induct-pointers", induct_pointers),
    ("simplify-after-induction", simplify),
    ("contract", contract),
)
"""From the lowered thread-level module to what is printed."""


@record(eq=False, repr=False)
class Pipeline:
    """The way of a module to what is emitted: passes over the traced tile module, its lowering to thread level under a
    name of its own, and passes over what comes out."""

    tile: tuple[tuple[str, Pass], ...]
    lowering: tuple[str, Callable[[Module], Module]]
    thread: tuple[tuple[str, Pass], ...] = ()

    def run(self, module: Module, target: str, *, verify: bool = False) -> Module:
        """The thread-level module of a traced tile module, which is scheduled in place; ``verify`` checks the modules
        after each pass."""
        module.target = target
        run_passes(module, self.tile, verify=verify)
        threads = self.lowering[1](module)
        run_passes(threads, self.thread, verify=verify)
        return threads

    @property
    def names(self) -> tuple[str, ...]:
        """Of the passes, in order."""
        return (*dict(self.tile), self.lowering[0], *dict(self.thread))


def lower_to_threads(module: Module) -> Module:
    """The functions of a scheduled tile module for the threads of a GPU."""
    from tilus.lowering.simt.lower import lower_to_threads  # much code, which CPUs do without

    return lower_to_threads(module)


def lower_to_loops(module: Module) -> Module:
    """The functions of a tile module for a CPU with vectors of 32 bytes."""
    from tilus.lowering.cpu import lower_module

    return Module(lower_module(module).functions, None, "thread", frozenset(), module.target)


GPU = Pipeline(GPU_TILE_PASSES, ("lower-to-threads", lower_to_threads), GPU_THREAD_PASSES)
CPU = Pipeline(CPU_TILE_PASSES, ("lower-to-loops", lower_to_loops), CPU_THREAD_PASSES)


def lower_for_host(module: Module, machine: HostMachine) -> CpuProgram:
    """The thread-level program of a simplified tile module, for a CPU's vectors and caches."""
    from tilus.lowering.cpu import lower_module

    program = lower_module(module, machine)
    _legalise_for_host(program.functions, machine)
    return program


def lower_gpu_launch(module: Module, kernels: Mapping[str, LaunchedKernel],
                     folded: Mapping[str, LaunchedKernel] | None, machine: HostMachine) -> GpuLaunch:
    """Thread-level functions of the host that launch a traced module's kernels on a GPU."""
    from tilus.lowering.cpu import gpu_launch

    found = gpu_launch.lower_gpu_launch(module, kernels, folded)
    _legalise_for_host(found.functions, machine)
    return found


def _legalise_for_host(functions: list[Function], machine: HostMachine) -> None:
    legality = HOST_SCALES if machine.scales else HOST if machine.halves else HOST_WITHOUT_HALVES
    legalise(legality)(Module(functions, None, "thread", frozenset(), "cpu"))


def run_passes(module: Module, passes: tuple[tuple[str, Pass], ...], *, verify: bool = False) -> None:
    """Run passes in place; ``verify`` checks the module after each."""
    for name, run in passes:
        run(module)
        if verify:
            from tilus.ir.verifier import verify_module

            verify_module(module, name)


def lower_for_gpu(module: Module, target: str, *, verify: bool = False) -> Module:
    """The thread-level module of a traced tile module for a GPU target. The tile module is scheduled in place."""
    return GPU.run(module, target, verify=verify)
