"""mma.sync with block scales: the mx and nv forms of 8-, 6- and 4-bit floats."""

from __future__ import annotations

# NumPy types the results of most functions as Any.
# mypy: disable-error-code="no-any-return"
from typing import Any

import numpy as np

from tilus.simulator import fragments
from tilus.simulator.isa import instr
from tilus.simulator.machine import Array, Binder, Const, Group, Op, Run, Vec
from tilus.simulator.numbers import TABLES
from tilus.simulator.ops_matrix import whole_warps
from tilus.simulator.ops_mma import Accumulator, bind_rows, of_lanes, parse_shape

_NARROW = "e4m3|e5m2|e3m2|e2m3|e2m1"


@instr(f"mma =sync =aligned shape:m16n8k32 =row =col =kind::mxf8f6f4 =block_scale ?sv:scale_vec::1X =f32 ta:{_NARROW} "
       f"tb:{_NARROW} =f32 ts:ue8m0",
       "mma =sync =aligned shape:m16n8k64 =row =col =kind::mxf4 =block_scale ?sv:scale_vec::2X =f32 ta:e2m1 tb:e2m1 "
       "=f32 ts:ue8m0",
       "mma =sync =aligned shape:m16n8k64 =row =col =kind::mxf4nvf4 =block_scale sv:scale_vec::2X =f32 ta:e2m1 tb:e2m1 "
       "=f32 ts:ue8m0",
       "mma =sync =aligned shape:m16n8k64 =row =col =kind::mxf4nvf4 =block_scale sv:scale_vec::4X =f32 ta:e2m1 tb:e2m1 "
       "=f32 ts:ue4m3", gate="warp", kind="mma")
def mma_scaled(b: Binder, op: Op) -> Run:
    f = op.fields
    m, n, k = parse_shape(str(f["shape"]))
    packed = k == 64
    ta, tb = (str(f[x]) if packed or f[x] != "e2m1" else "e2m1p" for x in ("ta", "tb"))
    d, a, bb, c = b.need(op, 8)[:4]
    accumulator = Accumulator(b, op, d, c, ("f32", "f32"))
    rows_a, rows_b = bind_rows(b, op, a, ta), bind_rows(b, op, bb, tb)
    if (len(accumulator.rows_d), len(rows_a), len(rows_b), len(accumulator.rows_c)) != (4, 4, 2, 4):
        raise b.error("fragments of other sizes than 4, 4, 2 and 4 registers", op)
    scales = Scales(b, op, op.operands[4:])

    def run(g: Group) -> None:
        lanes = whole_warps(b, op, g)
        left, right = scales.apply(fragments.matrix_a(of_lanes(rows_a, lanes), ta, m),
                                   fragments.matrix_b(of_lanes(rows_b, lanes), tb), lanes)
        accumulator.add(np.matmul(left, right), lanes)
        b.launch.matrix_operations += 2 * m * n * k * len(left)

    return run


class Scales:
    """The operands scale-a, selector, scale-b, selector of a block-scaled instruction."""

    def __init__(self, b: Binder, op: Op, operands: tuple[Any, ...]) -> None:
        self.b = b
        f = op.fields
        m, n, _ = parse_shape(str(f["shape"]))
        default = 1 if "mxf8f6f4" in op.opcode else 2
        self.blocks = int(str(f["sv"])[-2]) if f["sv"] else default
        scale_a, select_a, scale_b, select_b = operands
        self.words = (b.src(op, scale_a, "b32"), b.src(op, scale_b, "b32"))
        byte_a, thread_a = _selector(b, op, select_a)
        byte_b, thread_b = _selector(b, op, select_b)
        self.first = (byte_a, byte_b)
        self.table = TABLES["ue8m0"] if f["ts"] == "ue8m0" else np.abs(TABLES["e4m3"][np.arange(256) & 127])
        row = np.arange(m)
        self.source = (4 * (row % 8) + 2 * thread_a + row // 8, 4 * np.arange(n) + thread_b)

    def _factors(self, which: int, lanes: Array | None, k: int) -> Array:
        """(warps, rows or columns, k): the scale of each element."""
        full = np.broadcast_to(self.words[which], (self.b.lanes,))
        words = np.ascontiguousarray(full if lanes is None else full[lanes]).reshape(-1, 32)[:, self.source[which]]
        bytes_ = np.ascontiguousarray(words).view(np.uint8).reshape(*words.shape, 4)
        codes = bytes_[..., self.first[which]:self.first[which] + self.blocks]
        return np.repeat(self.table[codes], k // self.blocks, axis=2)

    def apply(self, left: Array, right: Array, lanes: Array | None) -> tuple[Array, Array]:
        """A (warps, m, k) and B (warps, k, n) times their scales, in float64."""
        k = left.shape[2]
        scaled = right * self._factors(1, lanes, k).transpose(0, 2, 1)
        return (left * self._factors(0, lanes, k)).astype(np.float64), scaled.astype(np.float64)


def _selector(b: Binder, op: Op, item: Any) -> tuple[int, int]:
    """The constants {byte, thread} that choose which scales of a quad count."""
    if not isinstance(item, Vec) or len(item.items) != 2:
        raise b.error("a selector {byte-id, thread-id} is expected", op)
    numbers = []
    for part in item.items:
        if not isinstance(part, Const):
            raise b.error("the scale selectors must be constants", op)
        numbers.append(int(part.value))
    return numbers[0], numbers[1]
