"""Register files and special registers of a batch."""
# NumPy types the results of most functions as Any.
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import numpy as np

from tilus.simulator.flow import registers_of
from tilus.simulator.layout import GLOBAL_BASE, RESERVED_SHARED, WORKSPACE
from tilus.simulator.machine import POISON, Array, Batch
from tilus.simulator.resolved import Decoded

_DTYPES = {1: np.bool_, 16: np.uint16, 32: np.uint32, 64: np.uint64}


def make_registers(batch: Batch, decoded: Decoded, tracked: set[tuple[int, int]]) -> None:
    """One row of all lanes for each register, filled with a poison value."""
    for bits, names in decoded.registers.items():
        if bits == 128:
            batch.regs[bits] = np.zeros((len(names), batch.lanes, 2), np.uint64)
            continue
        rows: Array = np.empty((len(names), batch.lanes), _DTYPES[bits])
        rows[...] = 0 if bits == 1 else POISON & ((1 << bits) - 1)
        batch.regs[bits] = rows
    for op in decoded.ops:
        if op.operands and op.opcode.startswith("wgmma.mma_async"):
            for reg in registers_of(op.operands[0]):
                if (reg.bits, reg.index) not in batch.in_flight:
                    batch.in_flight[reg.bits, reg.index] = np.zeros(batch.lanes, bool)
    if batch.launch.checks.uninitialised:
        batch.valid = {key: np.zeros(batch.lanes, bool) for key in tracked}


def make_specials(batch: Batch) -> None:
    """Rows of the special registers that do not depend on which blocks run."""
    launch = batch.launch
    thread = batch.thread_of
    bx, by, _ = launch.block
    lane = (thread % 32).astype(np.uint32)
    one = np.uint32(1)
    rows: dict[str, Array] = {
        "%tid.x": thread % bx, "%tid.y": thread // bx % by, "%tid.z": thread // (bx * by),
        "%laneid": lane, "%warpid": thread // 32, "%nwarpid": np.full(batch.lanes, 64),
        "%lanemask_eq": one << lane, "%lanemask_lt": (one << lane) - one,
        "%lanemask_le": ((one << lane) - one) | (one << lane),
        "%lanemask_ge": ~((one << lane) - one), "%lanemask_gt": ~(((one << lane) - one) | (one << lane)),
    }
    constants: dict[str, int] = {
        "%nsmid": 132, "%gridid": 1, "%dynamic_smem_size": launch.dynamic_bytes,
        "%total_smem_size": launch.shared_size, "%aggr_smem_size": launch.shared_size,
        "%is_explicit_cluster": int(launch.cluster_size > 1), "%cluster_nctarank": launch.cluster_size,
        "%clock": 0, "%clock_hi": 0, "%globaltimer_lo": 0, "%globaltimer_hi": 0,
    }
    for name, count in (("%envreg", 32), ("%pm", 8)):
        constants.update({f"{name}{i}": 0 for i in range(count)})
    workspace = GLOBAL_BASE + WORKSPACE
    constants.update({"%envreg1": workspace >> 32, "%envreg2": workspace & 0xFFFFFFFF})
    reserved = {"begin": 0, "0": 0, "1": RESERVED_SHARED // 2, "end": RESERVED_SHARED}
    constants.update({f"%reserved_smem_offset_{part}": launch.reserved_base + at for part, at in reserved.items()})
    constants["%reserved_smem_offset_cap"] = RESERVED_SHARED
    for i, axis in enumerate("xyz"):
        constants[f"%ntid.{axis}"] = launch.block[i]
        constants[f"%nctaid.{axis}"] = launch.grid[i]
        constants[f"%cluster_nctaid.{axis}"] = launch.cluster[i]
        constants[f"%nclusterid.{axis}"] = launch.grid[i] // launch.cluster[i]
    for name, row in rows.items():
        batch.specials[name] = np.ascontiguousarray(row, np.uint32)
    for name, value in constants.items():
        batch.specials[name] = np.full(batch.lanes, value, np.uint32)
    for name in ("%ctaid", "%clusterid", "%cluster_ctaid"):
        for axis in "xyz":
            batch.specials[f"{name}.{axis}"] = np.zeros(batch.lanes, np.uint32)
    batch.specials["%cluster_ctarank"] = np.zeros(batch.lanes, np.uint32)
    batch.specials["%smid"] = np.zeros(batch.lanes, np.uint32)
    for name in ("%clock64", "%globaltimer", "%current_graph_exec", *(f"%pm{i}_64" for i in range(8))):
        batch.specials[name] = np.zeros(batch.lanes, np.uint64)


def place_blocks(batch: Batch, blocks: Array) -> None:
    """Give the batch its blocks (linear numbers): their coordinates, and which lanes live."""
    launch = batch.launch
    batch.blocks = blocks
    gx, gy, _ = launch.grid
    numbers = np.zeros(batch.capacity, np.int64)
    numbers[:len(blocks)] = blocks
    position = (numbers % gx, numbers // gx % gy, numbers // (gx * gy))
    rank = np.zeros(batch.capacity, np.int64)
    scale = 1

    def give(name: str, values: Array) -> None:
        batch.specials[name].reshape(batch.capacity, -1)[...] = values[:, None]

    for axis, value, size in zip("xyz", position, launch.cluster, strict=True):
        give(f"%ctaid.{axis}", value)
        give(f"%clusterid.{axis}", value // size)
        give(f"%cluster_ctaid.{axis}", value % size)
        rank += value % size * scale
        scale *= size
    give("%cluster_ctarank", rank)
    give("%smid", numbers % 132)
    batch.live[:] = (batch.thread_of < launch.threads) & (batch.block_of < len(blocks))


def put_rows(table: Array, cells: Array, values: Array) -> None:
    """``table[cells] = values[:, None]`` for cells (n, m) and values (n,); one column goes without broadcasting."""
    if cells.shape[1] == 1:
        table[cells[:, 0]] = values
    else:
        table[cells] = values[:, None]
