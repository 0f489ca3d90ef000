"""One execution of a grid: memory, batches of blocks, and what is collected of them."""
# NumPy types the results of most functions as Any.
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from tilus.diagnostics import ResourceError, UserError
from tilus.simulator import flow
from tilus.simulator.arguments import Arguments, Struct, content_of, pack_arguments, pack_variable
from tilus.simulator.asynchronous import AsyncQueue
from tilus.simulator.barriers import BarrierState
from tilus.simulator.faults import Checks, FaultLog
from tilus.simulator.heap import Heap
from tilus.simulator.history import History
from tilus.simulator.layout import GLOBAL_BASE, GUARD, RESERVED_SHARED, TEXTURE_BASE, WORKSPACE, WORKSPACE_BYTES
from tilus.simulator.machine import Array, Batch, Binder, Op
from tilus.simulator.mbarrier import barriers_of
from tilus.simulator.memory import GlobalSpace, LocalSpace, SharedSpace
from tilus.simulator.order import Order
from tilus.simulator.report import Report, build_report
from tilus.simulator.resolved import Decoded
from tilus.simulator.schedule import Executor, KernelAborted, Outcome
from tilus.simulator.sites import Site
from tilus.simulator.stalls import blame
from tilus.simulator.syntax import Module as Syntax
from tilus.simulator.tensor_map import MAP_BYTES, Descriptor, TensorMap, decode_map
from tilus.simulator.texture import Texture

LANES_AT_ONCE = 4096
BYTES_AT_ONCE = 1 << 29
BLOCK_BYTES = 1 << 31
# The KiB of shared memory that a block may have, by target; of others, that of the next one below.
SHARED_KIB = {50: 48, 70: 96, 75: 64, 80: 163, 86: 99, 87: 163, 88: 99, 89: 99, 90: 227, 120: 99}
MAX_GLOBAL = 1 << 34
MAX_OTHER_EXTENT = 65535
SECONDS = 1.0
Dim = tuple[int, int, int]
Watcher: TypeAlias = Callable[[int, int, int], None]


class Launch:
    """One execution of a grid."""

    def __init__(self, syntax: Syntax, program: flow.Program, grid: Dim, block: Dim, cluster: Dim, shared_bytes: int,
                 checks: Checks, counting: bool, resident_blocks: int | None, seed: int | None, max_steps: int,
                 target: int | None, stack_bytes: int, heap_bytes: int, skipped_files: frozenset[str],
                 watcher: Watcher | None) -> None:
        decoded = program.decoded
        self.syntax, self.program, self.path = syntax, program, syntax.path
        self.grid, self.block, self.cluster = grid, block, cluster
        self.threads = block[0] * block[1] * block[2]
        self.blocks = grid[0] * grid[1] * grid[2]
        self.cluster_size = cluster[0] * cluster[1] * cluster[2]
        self.checks, self.counting = checks, counting
        self.shadow_hooks = checks.race or checks.asynchronous or checks.uninitialised or checks.global_race
        self.faults = FaultLog(unreported=checks.unreported, skipped_files=skipped_files)
        align = decoded.dynamic_align
        self.dynamic_base = (decoded.shared_bytes + align - 1) // align * align
        self.dynamic_bytes = shared_bytes
        self.shared_size = (self.dynamic_base if decoded.dynamic_shared or shared_bytes else decoded.shared_bytes) \
            + shared_bytes
        self.reserved_base = (self.shared_size + 127) // 128 * 128
        self.reserves_shared = decoded.uses_reserved_shared
        if self.reserves_shared:
            self.shared_size = self.reserved_base + RESERVED_SHARED
        self.local_size = decoded.local_bytes + (stack_bytes if decoded.uses_stack else 0)
        self.steps, self.step_limit, self.progress, self.divergences = 0, max_steps, 0, 0
        self.watcher, self.watched_at = watcher, time.monotonic()
        self.ended = 0
        self.heap_bytes = heap_bytes
        self.heap: Heap
        self.textures: dict[int, Texture] = {}
        self.texture_references: dict[str, int] = {}
        self.order: Array = np.zeros(0, np.int64)
        self.following = 0
        self.clock_reads = 0
        self.seed = seed
        self.perturb = np.random.default_rng(seed) if seed is not None else None
        self.sites: dict[tuple[int, str], Site] = {}
        self.printed: list[str] = []
        self.notes: list[str] = []
        self.resident_blocks = resident_blocks or 132 * max(1, 2048 // max(32, self.threads))
        self.target = target or _target_number(syntax.target)
        self.global_shadow: Any = None
        self.history = History()
        self.numbers: dict[int, int] = {}
        self.numbered: list[Op | None] = [None]
        self.memory: GlobalSpace
        self.executed: dict[int, int] = {}
        self.matrix_operations = 0
        self.barrier_waits = 0
        self._validate(decoded)

    def _validate(self, decoded: Decoded) -> None:
        if self.dynamic_bytes < 0:
            raise UserError.at("E1003", f"shared_bytes is {self.dynamic_bytes}; it cannot be negative")
        if self.threads > 1024:
            raise UserError.at("E1003", f"a block has at most 1024 threads, not {self.threads}")
        room = 1024 * SHARED_KIB[max(number for number in SHARED_KIB if number <= max(50, self.target))]
        if self.shared_size - RESERVED_SHARED * self.reserves_shared > room:
            raise ResourceError.at("E0503", f"the kernel needs {self.shared_size} bytes of shared memory; a block of "
                                   f"sm_{self.target} has at most {room}")
        required = decoded.attributes.get("reqntid")
        if required and self.threads != int(np.prod(required)):
            raise UserError.at("E1003", f"the kernel requires blocks of {required} threads, not {self.block}")
        most = decoded.attributes.get("maxntid")
        if most and self.threads > int(np.prod(most)):
            raise UserError.at("E1003", f"the kernel allows at most {int(np.prod(most))} threads, not {self.threads}")
        if max(self.grid[1:]) > MAX_OTHER_EXTENT:
            raise UserError.at("E1003", f"grid {self.grid} is too long: at most {MAX_OTHER_EXTENT} blocks are launched "
                                        "along y and z")
        if any(g % c for g, c in zip(self.grid, self.cluster, strict=True)):
            raise UserError.at("E1003", f"grid {self.grid} is not a multiple of cluster {self.cluster}")

    def site(self, op: Op, space: str, write: bool, atomic: bool = False) -> Site:
        """The counters of a memory operation, shared by all batches."""
        key = (id(op), space)
        if key not in self.sites:
            self.sites[key] = Site(op, space, write, atomic)
        return self.sites[key]

    def number(self, op: Op) -> int:
        """A number of 16 bits for an operation; 0 where there are too many."""
        found = self.numbers.get(id(op))
        if found is None:
            found = len(self.numbered) if len(self.numbered) < 1 << 16 else 0
            self.numbers[id(op)] = found
            self.numbered.append(op)
        return found

    def operation(self, number: int) -> Op | None:
        """The operation of a number."""
        return self.numbered[number]

    def block_coordinates(self, block: int) -> Dim:
        """Coordinates of a block by its linear number."""
        gx, gy, _ = self.grid
        return block % gx, block // gx % gy, block // (gx * gy)

    def tick(self, steps: int) -> None:
        """So many instructions more were executed: tell who wants to know, now and then."""
        self.steps += steps
        if self.watcher is not None and time.monotonic() - self.watched_at >= SECONDS:
            self.watched_at = time.monotonic()
            self.watcher(self.ended, self.blocks, self.steps)

    def note(self, text: str) -> None:
        """Say once in the report what was not looked at."""
        if text not in self.notes:
            self.notes.append(text)

    def execute(self, args: Sequence[Any] | Mapping[str, Any], tensor_maps: Mapping[str, Any], collect: bool,
                variables: Mapping[str, Any]) -> Report:
        with np.errstate(all="ignore"):
            values = pack_arguments(self.program.decoded, args, tensor_maps)
            self._bind_textures(values, variables)
            variables = {name: value for name, value in variables.items() if not isinstance(value, Texture)}
            for name, value in variables.items():
                pack_variable(values, name, value, functools.partial(self._variable_offset, name))
            self._build_memory(values)
            settings = [(self._variable(name, value), _array_of(value)) for name, value in variables.items()]
            for place, array in settings:
                place[:] = np.frombuffer(array.tobytes(), np.uint8)
            values.copy_in(self.memory.views.data)
            try:
                self._run_blocks()
            except KernelAborted:
                pass
            values.copy_back(self.memory.views.data)
            for place, array in settings:
                if array.flags.writeable:
                    array[...] = np.frombuffer(place.tobytes(), array.dtype).reshape(array.shape)
        report = build_report(self)
        if not collect:
            report.raise_if_faulty()
        return report

    def _build_memory(self, values: Any) -> None:
        placement = self.program.decoded.placement
        end = values.place(placement.end)
        if end > MAX_GLOBAL:
            raise UserError.at("E1003", f"the arguments need {end} bytes of memory; at most {MAX_GLOBAL} are simulated")
        end = (end + GUARD - 1) // GUARD * GUARD
        heap = self.heap_bytes if any(op.opcode == "call.malloc" for op in self.program.decoded.ops) else 0
        size = end + GUARD + heap
        self.memory = GlobalSpace(size)
        data = self.memory.views.data
        entries = [(GUARD, GUARD + max(1, self.program.decoded.param_bytes), "the kernel's parameters", False)]
        entries.append((WORKSPACE, WORKSPACE + WORKSPACE_BYTES, "the workspace of a cooperative launch", True))
        data[WORKSPACE:WORKSPACE + 4] = np.frombuffer(WORKSPACE_BYTES.to_bytes(4, "little"), np.uint8)
        for variable, address in placement.variables:
            start = address - GLOBAL_BASE
            data[start:start + variable.bytes] = placement.initial(variable, self.path)
            entries.append((start, start + variable.bytes, variable.name, variable.space != "const"))
        parameters = values.parameter_bytes()
        data[GUARD:GUARD + parameters.size] = parameters
        entries += values.allocations()
        self.memory.set_allocations(entries)
        self.heap = Heap(self, end + GUARD, heap)
        if self.checks.global_race:
            from tilus.simulator.shadow_global import GlobalShadow

            self.global_shadow = GlobalShadow(self, size, self.history)

    def _bind_textures(self, values: Arguments, variables: Mapping[str, Any]) -> None:
        """Give textures handles: those of the arguments, and those that references of the module name."""
        self.textures = {TEXTURE_BASE + number: texture for number, texture in enumerate(values.textures)}
        for name, value in variables.items():
            if isinstance(value, Texture):
                self.texture_references[name] = TEXTURE_BASE + len(self.textures)
                self.textures[TEXTURE_BASE + len(self.textures)] = value

    def _variable_offset(self, name: str, count: int) -> int:
        """Where a variable of the module begins in the arena; it must hold ``count`` bytes."""
        placement = self.program.decoded.placement
        address = placement.addresses.get(name)
        if address is None:
            known = ", ".join(placement.addresses) or "it has none"
            raise UserError.at("E1003", f"the module has no variable {name!r} in .global or .const; its variables: "
                               f"{known}")
        size = next(variable.bytes for variable, place in placement.variables if place == address)
        if count > size:
            raise UserError.at("E1003", f"variable {name!r} needs a NumPy array of at most {size} bytes")
        return address - GLOBAL_BASE

    def _variable(self, name: str, value: Any) -> Array:
        """The bytes of a variable of the module, as many as its new contents have."""
        array = _array_of(value)
        if not isinstance(array, np.ndarray) or array.dtype.hasobject:
            raise UserError.at("E1003", f"variable {name!r} needs a NumPy array, a struct or a list of arrays")
        start = self._variable_offset(name, array.nbytes)
        return self.memory.views.data[start:start + array.nbytes]

    def tensor_map(self, address: int) -> Descriptor | None:
        """The tensor map at a generic address; None where none is."""
        start = address - GLOBAL_BASE
        data = self.memory.views.data
        if not 0 <= start <= data.size - MAP_BYTES or start % 64:
            return None
        return decode_map(data[start:start + MAP_BYTES].tobytes())

    # -- batches

    def _run_blocks(self) -> None:
        stride = (self.threads + 31) // 32 * 32
        capacity = self._capacity(stride)
        waiting: list[tuple[Executor, Batch]] = []
        spare: tuple[Executor, Batch] | None = None
        resident = 0
        self.following = 0
        idle = 0
        self.order = self._block_order()
        while self.following < self.blocks or waiting:
            limit = self.resident_blocks // self.cluster_size * self.cluster_size or self.cluster_size
            room = min(capacity, self.blocks - self.following, limit - resident)
            if room > 0 and (not waiting or idle == 0):
                executor, batch = spare or self._make_batch(capacity, stride)
                spare = None
                self._start(batch, executor, self.order[self.following:self.following + room])
                self.following += room
                resident += room
            elif waiting:
                executor, batch = waiting.pop(0)
            before = self.progress
            try:
                outcome = executor.run()
            except KernelAborted:
                for running in (executor, *(other for other, _ in waiting)):
                    self._collect_counts(running)
                raise
            if outcome is Outcome.DONE:
                resident -= len(batch.blocks)
                self.ended += len(batch.blocks)
                self.tick(executor.steps - executor.counted)
                self._collect_counts(executor)
                spare = (executor, batch)
                idle = 0
                continue
            waiting.append((executor, batch))
            room = min(capacity, self.blocks - self.following, limit - resident)
            if self.progress != before or room > 0:
                idle = 0
                continue
            idle += 1
            if idle > 2 * len(waiting):
                for stuck, _ in waiting:
                    blame(stuck, self.following < self.blocks)
                    self._collect_counts(stuck)
                raise KernelAborted

    def cancel_cluster(self) -> Dim | None:
        """Take the next cluster that was not launched yet off the queue: the coordinates of its first block."""
        if self.following >= self.blocks:
            return None
        first = int(self.order[self.following])
        self.following += self.cluster_size
        self.ended += self.cluster_size
        self.progress += 1
        return self.block_coordinates(first)

    def _capacity(self, stride: int) -> int:
        per_lane = sum(bits // 8 * len(names) if bits > 1 else len(names)
                       for bits, names in self.program.decoded.registers.items()) + self.local_size
        if per_lane * stride > BLOCK_BYTES:
            raise ResourceError.at("E0503", f"registers and local memory of one block take {per_lane * stride} bytes; "
                                   f"at most {BLOCK_BYTES} are simulated")
        lanes = max(stride, min(LANES_AT_ONCE, BYTES_AT_ONCE // max(1, per_lane)))
        fitting = BYTES_AT_ONCE // max(1, self.shared_size)
        blocks = max(1, min(lanes // stride, self.blocks, self.resident_blocks, fitting))
        size = self.cluster_size
        return max(size, blocks // size * size)

    def _block_order(self) -> Array:
        """Linear block numbers, those of a cluster next to each other."""
        numbers = np.arange(self.blocks)
        if self.cluster_size == 1:
            return numbers
        gx, gy, gz = self.grid
        cx, cy, cz = self.cluster
        shaped = numbers.reshape(gz // cz, cz, gy // cy, cy, gx // cx, cx)
        return shaped.transpose(0, 2, 4, 1, 3, 5).reshape(-1)

    def _make_batch(self, capacity: int, stride: int) -> tuple[Executor, Batch]:
        from tilus.simulator.lanes import make_registers, make_specials
        from tilus.simulator.mbarrier import ClusterBarrier
        from tilus.simulator.shadow import SharedShadow
        from tilus.simulator.visits import Visits

        batch = Batch(self, capacity, stride)
        decoded = self.program.decoded
        make_registers(batch, decoded, self.program.tracked)
        make_specials(batch)
        batch.shared = SharedSpace(batch, self.shared_size)
        batch.local = LocalSpace(batch, self.local_size)
        batch.order = Order(batch, self.history)
        batch.barriers = BarrierState(batch)
        batch.queue = AsyncQueue(batch)
        batch.state["clusters"] = ClusterBarrier(batch)
        if self.shadow_hooks and self.shared_size:
            batch.shared.shadow = SharedShadow(batch, batch.order, decoded.ops)
        if self.checks.race and self.cluster_size > 1:
            batch.shared.visits = Visits(batch, batch.order)
        executor = Executor(self.program, batch, Binder(batch))
        batch.state["executor"] = executor
        return executor, batch

    def _start(self, batch: Batch, executor: Executor, blocks: Array) -> None:
        from tilus.simulator.lanes import place_blocks

        place_blocks(batch, blocks)
        batch.order.reset()
        batch.order.place()
        barriers_of(batch).reset()
        batch.shared.reset()
        batch.local.reset()
        batch.barriers.reset()
        batch.queue.reset()
        batch.state["clusters"].reset()
        for row in (*batch.valid.values(), *batch.in_flight.values()):
            row[:] = False
        batch.polled.clear()
        batch.waits_for[:] = batch.polls_at[:] = -1
        batch.taint.reset()
        for name in ("wgmma", "call stack"):
            batch.state.pop(name, None)
        batch.state.pop("tensor memory", None)
        executor.start()

    def _collect_counts(self, executor: Executor) -> None:
        for bound in executor.at_order:
            if bound is not None and bound.executed:
                index = bound.segment.index
                self.executed[index] = self.executed.get(index, 0) + bound.executed
                bound.executed = 0
        self.barrier_waits += executor.batch.barriers.waits
        executor.batch.barriers.waits = 0


def _array_of(value: Any) -> Any:
    """The contents of a variable as an array; places of pointers are zeros."""
    if isinstance(value, (list, tuple)):
        return np.zeros(len(value), np.uint64)
    if isinstance(value, TensorMap):
        return np.zeros(MAP_BYTES, np.uint8)
    return content_of(value.data) if isinstance(value, Struct) else value


def _target_number(words: tuple[str, ...]) -> int:
    for word in words:
        digits = "".join(c for c in word if c.isdigit())
        if word.startswith("sm_") and digits:
            return int(digits)
    return 80
