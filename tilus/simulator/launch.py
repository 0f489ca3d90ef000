"""The entry points: load a module, launch a kernel on NumPy arrays."""
# NumPy types the results of most functions as Any.
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from tilus.diagnostics import UserError
from tilus.simulator import flow
from tilus.simulator.decode import decode
from tilus.simulator.execution import Dim, Launch, Watcher
from tilus.simulator.faults import Checks
from tilus.simulator.operations import load_operations
from tilus.simulator.parser import parse
from tilus.simulator.report import Report
from tilus.simulator.syntax import Module as Syntax

MAX_EXTENT = (1 << 31) - 1
MAX_BLOCKS = 1 << 28
STACK_BYTES = 1 << 14
HEAP_BYTES = 1 << 23
MAX_STEPS = 1 << 25


class Module:
    """A parsed PTX module; programs of its entries are decoded once and kept."""

    def __init__(self, syntax: Syntax) -> None:
        self.syntax = syntax
        self._programs: dict[str, flow.Program] = {}

    @property
    def entries(self) -> list[str]:
        """Names of the kernels."""
        return [f.name for f in self.syntax.functions.values() if f.is_entry and f.body is not None]

    def program(self, entry: str) -> flow.Program:
        if entry not in self._programs:
            load_operations()
            self._programs[entry] = flow.build(decode(self.syntax, entry), self.syntax.path)
        return self._programs[entry]

    def launch(
        self,
        entry: str,
        grid: int | Sequence[int],
        block: int | Sequence[int],
        args: Sequence[Any] | Mapping[str, Any],
        *,
        shared_bytes: int = 0,
        cluster: Sequence[int] | None = None,
        tensor_maps: Mapping[str, Any] | None = None,
        target: int | None = None,
        checks: bool | Checks | Iterable[str] = True,
        counters: bool = True,
        resident_blocks: int | None = None,
        seed: int | None = None,
        collect: bool = False,
        max_steps: int = MAX_STEPS,
        stack_bytes: int = STACK_BYTES,
        heap_bytes: int = HEAP_BYTES,
        variables: Mapping[str, Any] | None = None,
        skipped_files: Iterable[str] = (),
        progress: Watcher | None = None,
    ) -> Report:
        """Run a kernel; see :func:`launch`."""
        program = self.program(entry)
        run = Launch(self.syntax, program, dim3(grid), dim3(block), _cluster(program, cluster), shared_bytes,
                     Checks.of(checks), counters, resident_blocks, seed, max_steps, target, stack_bytes,
                     heap_bytes, frozenset(skipped_files), progress)
        return run.execute(args, tensor_maps or {}, collect, variables or {})


@functools.lru_cache(maxsize=64)
def load(ptx: str, path: str = "<ptx>") -> Module:
    """Parse PTX text; equal texts share one module.

    Raises:
        UserError: E1001 where the text is malformed.
    """
    return Module(parse(ptx, path))


def launch(ptx: str, entry: str, grid: int | Sequence[int], block: int | Sequence[int],
           args: Sequence[Any] | Mapping[str, Any], *, shared_bytes: int = 0, cluster: Sequence[int] | None = None,
           tensor_maps: Mapping[str, Any] | None = None, target: int | None = None,
           checks: bool | Checks | Iterable[str] = True, counters: bool = True, resident_blocks: int | None = None,
           seed: int | None = None, collect: bool = False, max_steps: int = MAX_STEPS,
           stack_bytes: int = STACK_BYTES, heap_bytes: int = HEAP_BYTES, variables: Mapping[str, Any] | None = None,
           skipped_files: Iterable[str] = (), progress: Watcher | None = None) -> Report:
    """Run a kernel of a PTX module on arrays.

    Args:
        ptx: text of the module.
        entry: name of the kernel.
        grid: blocks in x, y, z.
        block: threads in x, y, z.
        args: one value for each parameter, by position or by name. An array stands for a pointer to its first element
            and is changed in place; its own extent bounds the accesses. ``Pointer`` adds an offset. Scalars
            take the parameter's type; ``bytes`` fill a struct.
        shared_bytes: dynamic shared memory, bytes.
        cluster: blocks of a cluster in x, y, z.
        tensor_maps: values of the tensor-map parameters by name.
        target: sm number that ``ptx`` is run as; default: the module's ``.target``.
        checks: all (True), none (False), a :class:`Checks`, or names of the checks wanted.
        counters: whether memory transactions are counted.
        resident_blocks: how many blocks run at once when blocks wait for each other; default: all that fit 132 SMs.
        seed: completes asynchronous copies at random moments, and moves approximate functions inside their bounds.
        collect: return the faults in the report instead of raising.
        max_steps: instructions of a batch of blocks that run together after which the run is given up; the fault names
            the loop that went on.
        progress: called about every second with the number of blocks that have ended, of all blocks, and of executed
            instructions.
        stack_bytes: local memory of a thread for the frames of recursive functions.
        heap_bytes: bytes that ``malloc`` of device code can give.
        variables: contents of variables of the module by name, as ``cudaMemcpyToSymbol`` sets them; those that the
            kernel may write are changed in place.
        skipped_files: source files, as ``.file`` names them, of functions that are not the user's: a fault in one is
            reported where it was called.

    Raises:
        CheckError: with one diagnostic for each fault.
        UserError: E1001 malformed PTX, E1002 unknown instruction, E1003 bad launch.
    """
    return load(ptx).launch(entry, grid, block, args, shared_bytes=shared_bytes, cluster=cluster,
                            tensor_maps=tensor_maps, target=target, checks=checks, counters=counters,
                            resident_blocks=resident_blocks, seed=seed, collect=collect, max_steps=max_steps,
                            stack_bytes=stack_bytes, heap_bytes=heap_bytes, variables=variables,
                            skipped_files=skipped_files, progress=progress)


def dim3(value: int | Sequence[int]) -> Dim:
    """Three extents from one to three given ones."""
    try:
        items = [int(value)] if isinstance(value, (int, np.integer)) else [int(v) for v in value]
    except (TypeError, ValueError):
        raise UserError.at("E1003", f"bad extents {value!r}: one to three positive numbers are expected") from None
    if not 1 <= len(items) <= 3 or min(items) < 1:
        raise UserError.at("E1003", f"bad extents {value!r}: one to three positive numbers are expected")
    if max(items) > MAX_EXTENT or math.prod(items) > MAX_BLOCKS:
        raise UserError.at("E1003", f"bad extents {value!r}: at most {MAX_BLOCKS} in all are simulated")
    x, y, z = items + [1] * (3 - len(items))
    return x, y, z


def _cluster(program: flow.Program, cluster: Sequence[int] | None) -> Dim:
    if cluster is not None:
        return dim3(cluster)
    declared = program.decoded.attributes.get("reqnctapercluster")
    return dim3(declared) if declared else (1, 1, 1)
