"""mma.sync: matrix products of the fragments of a warp."""
# NumPy types the results of most functions as Any.
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tilus.simulator import fragments
from tilus.simulator.isa import instr
from tilus.simulator.machine import Array, Binder, Group, Op, Reg, Run, Vec
from tilus.simulator.ops_matrix import whole_warps
from tilus.simulator.syntax import type_bits


def bind_rows(b: Binder, op: Op, item: Any, kind: str) -> list[Array]:
    """Rows of a fragment's registers as unsigned words of the type's register size."""
    items = item.items if isinstance(item, Vec) else (item,)
    rows = []
    for part in items:
        if isinstance(part, Reg):
            rows.append(b.src(op, part, "b64" if kind == "f64" else "b32"))
        else:
            rows.append(np.broadcast_to(b.src(op, part, "b64" if kind == "f64" else "b32"), (b.lanes,)))
    return rows


def bind_target(b: Binder, op: Op, item: Any, kind: str) -> list[Array]:
    """Rows of the registers that the result goes to."""
    for part in item.items if isinstance(item, Vec) else (item,):
        if not isinstance(part, Reg):
            raise b.error("the destination is not a register", op)
    return bind_rows(b, op, item, kind)


def of_lanes(rows: list[Array], lanes: Array | None) -> list[Array]:
    """The lanes (None: all) of each row."""
    return rows if lanes is None else [row[lanes] for row in rows]


def stack(rows: list[Array], lanes: Array | None) -> Array:
    """Rows as one array (registers, lanes)."""
    return np.concatenate(of_lanes(rows, lanes)).reshape(len(rows), -1)


def read_accumulator(words: Array, kind: str) -> Array:
    """Accumulator elements (elements, lanes) from register words."""
    if kind == "f16":
        halves = words.view(np.float16).reshape(len(words), -1, 2).astype(np.float32)
        return np.ascontiguousarray(halves.transpose(0, 2, 1)).reshape(2 * len(words), -1)
    dtype = {"f32": np.float32, "s32": np.int32, "f64": np.float64}[kind]
    return words.view(dtype)


def write_accumulator(values: Array, kind: str) -> Array:
    """Register words from accumulator elements."""
    if kind == "f16":
        halves = values.astype(np.float16).reshape(len(values) // 2, 2, -1).transpose(0, 2, 1)
        return np.ascontiguousarray(halves).view(np.uint32).reshape(len(values) // 2, -1)
    dtype = {"f32": np.uint32, "s32": np.uint32, "f64": np.uint64}[kind]
    return np.ascontiguousarray(values).view(dtype)


def put(rows: list[Array], words: Array, lanes: Array | None) -> None:
    for row, value in zip(rows, words, strict=True):
        if lanes is None:
            row[...] = value
        else:
            row[lanes] = value


def integer_sum(product: Array, c: Array, saturate: bool) -> Array:
    """Integer accumulation: wraps, or clamps with .satfinite."""
    total = np.rint(product).astype(np.int64) + c
    if saturate:
        return np.clip(total, -(1 << 31), (1 << 31) - 1).astype(np.int32)
    return total.astype(np.int32)


Product = Callable[[Array, Array], Array]
Total = Callable[[Array, Array], Array]


def total_of(op: Op, kind: str) -> Total:
    """How float or integer accumulators take up a product, element by element."""
    saturate = ".satfinite" in op.opcode
    if kind == "s32":
        return lambda product, c: integer_sum(product, c, saturate)
    return np.add


class Accumulator:
    """The operands D and C of a product with the standard fragments; ``kinds`` are those of both."""

    def __init__(self, b: Binder, op: Op, d: Any, c: Any, kinds: tuple[str, str]) -> None:
        self.kd, self.kc = kinds
        self.rows_d, self.rows_c = bind_target(b, op, d, self.kd), bind_rows(b, op, c, self.kc)
        self.total = total_of(op, self.kd)

    def add(self, product: Array, lanes: Array | None) -> None:
        """D = product + C, for a product (warps, m, 8)."""
        old = read_accumulator(stack(self.rows_c, lanes), self.kc)
        result = self.total(fragments.scatter_c(product), old)
        if self.kd == "f32" and result.dtype != np.float32:
            result = result.astype(np.float32)
        put(self.rows_d, write_accumulator(result, self.kd), lanes)


def bind_mma(b: Binder, op: Op, shape: tuple[int, int, int], kinds: tuple[str, str, str, str],
             product: Product = np.matmul) -> Run:
    """A warp-wide product with the standard fragments: ``kinds`` are those of D, A, B and C."""
    m, n, k = shape
    kd, ka, kb, kc = kinds
    d, a, bb, c = b.need(op, 4)
    accumulator = Accumulator(b, op, d, c, (kd, kc))
    rows_a, rows_b = bind_rows(b, op, a, ka), bind_rows(b, op, bb, kb)
    per_register = {kind: (64 if kind == "f64" else 32) // bits_of(kind) for kind in (ka, kb)}
    expected = (m * n // 32 // (2 if kd == "f16" else 1), m * k // 32 // per_register[ka],
                k * n // 32 // per_register[kb], m * n // 32 // (2 if kc == "f16" else 1))
    found = (len(accumulator.rows_d), len(rows_a), len(rows_b), len(accumulator.rows_c))
    if found != expected:
        raise b.error(f"fragments of {found} registers instead of {expected}", op)
    launch = b.launch

    def run(g: Group) -> None:
        lanes = whole_warps(b, op, g)
        left = fragments.matrix_a(of_lanes(rows_a, lanes), ka, m)
        right = fragments.matrix_b(of_lanes(rows_b, lanes), kb)
        accumulator.add(product(left, right), lanes)
        launch.matrix_operations += 2 * m * n * k * len(left)

    return run


def bits_of(kind: str) -> int:
    """Bits that an element takes in a register."""
    return {"e2m1p": 8, "e3m2": 8, "e2m3": 8, "tf32": 32, "e2m1": 4}.get(kind) or type_bits(kind)


def parse_shape(text: str) -> tuple[int, int, int]:
    """(m, n, k) of ``m16n8k16``."""
    m, rest = text[1:].split("n")
    n, k = rest.split("k")
    return int(m), int(n), int(k)


_RC = "la:row|col lb:row|col"


@instr("mma =sync =aligned shape:m16n8k8|m16n8k16 =row =col td:f16|f32 ta:f16 tb:f16 tc:f16|f32",
       "mma =sync =aligned shape:m16n8k8|m16n8k16 =row =col td:f32 ta:bf16 tb:bf16 tc:f32",
       "mma =sync =aligned shape:m16n8k4|m16n8k8 =row =col td:f32 ta:tf32 tb:tf32 tc:f32",
       "mma =sync =aligned shape:m8n8k4|m16n8k4|m16n8k8|m16n8k16 =row =col ?rn td:f64 ta:f64 tb:f64 tc:f64",
       "mma =sync =aligned shape:m8n8k16|m16n8k16|m16n8k32 =row =col ?satfinite td:s32 ta:u8|s8 tb:u8|s8 tc:s32",
       "mma =sync =aligned shape:m8n8k32|m16n8k32|m16n8k64 =row =col ?satfinite td:s32 ta:u4|s4 tb:u4|s4 tc:s32",
       "mma =sync =aligned shape:m16n8k16|m16n8k32 =row =col ?kind:kind::f8f6f4 td:f16|f32 ta:e4m3|e5m2 tb:e4m3|e5m2 "
       "tc:f16|f32",
       gate="warp", kind="mma")
def mma(b: Binder, op: Op) -> Run:
    f = op.fields
    kinds = (str(f["td"]), str(f["ta"]), str(f["tb"]), str(f["tc"]))
    return bind_mma(b, op, parse_shape(str(f["shape"])), kinds)


@instr("mma =sync =aligned shape:m16n8k32 =row =col =kind::f8f6f4 td:f16|f32 ta:e4m3|e5m2|e3m2|e2m3|e2m1 "
       "tb:e4m3|e5m2|e3m2|e2m3|e2m1 tc:f16|f32", gate="warp", kind="mma")
def mma_f8f6f4(b: Binder, op: Op) -> Run:
    f = op.fields
    ta, tb = ("e2m1p" if f[name] == "e2m1" else str(f[name]) for name in ("ta", "tb"))
    kinds = (str(f["td"]), ta, tb, str(f["tc"]))
    return bind_mma(b, op, parse_shape(str(f["shape"])), kinds)


@instr("mma =sync =aligned shape:m8n8k128|m16n8k128|m16n8k256 =row =col =s32 =b1 =b1 =s32 bool:xor|and =popc",
       gate="warp", kind="mma")
def mma_binary(b: Binder, op: Op) -> Run:
    product = differing_bits if op.fields["bool"] == "xor" else np.matmul
    return bind_mma(b, op, parse_shape(str(op.fields["shape"])), ("s32", "b1", "b1", "s32"), product)


def differing_bits(left: Array, right: Array) -> Array:
    """How many bits of the rows of A and the columns of B differ: matrices of zeros and ones."""
    return left.sum(axis=2)[:, :, None] + right.sum(axis=1)[:, None, :] - 2 * np.matmul(left, right)


@instr(f"mma =sync =aligned =m8n8k4 {_RC} td:f16|f32 =f16 =f16 tc:f16|f32", gate="warp", kind="mma")
def mma_volta(b: Binder, op: Op) -> Run:
    f = op.fields
    kd, kc = str(f["td"]), str(f["tc"])
    d, a, bb, c = b.need(op, 4)
    rows_d = bind_target(b, op, d, kd)
    rows_a, rows_b, rows_c = (bind_rows(b, op, item, kind) for item, kind in ((a, "f16"), (bb, "f16"), (c, kc)))
    found = (len(rows_d), len(rows_a), len(rows_b), len(rows_c))
    expected = (4 if kd == "f16" else 8, 2, 2, 4 if kc == "f16" else 8)
    if found != expected:
        raise b.error(f"fragments of {found} registers instead of {expected}", op)
    at_a, at_b = fragments.Volta.a(str(f["la"])), fragments.Volta.b(str(f["lb"]))
    at_c, at_d = fragments.Volta.c(kc), fragments.Volta.c(kd)

    def spread(values: Array, at: tuple[Array, Array, Array], shape: tuple[int, int]) -> Array:
        """(elements, lanes) to (warps, 4, rows, columns)."""
        out = np.zeros((values.shape[1] // 32, 4, *shape), np.float32)
        out[:, at[0], at[1], at[2]] = values.reshape(len(values), -1, 32).transpose(1, 2, 0)
        return out

    def run(g: Group) -> None:
        lanes = whole_warps(b, op, g)
        left = spread(read_accumulator(stack(rows_a, lanes), "f16"), at_a, (8, 4))
        right = spread(read_accumulator(stack(rows_b, lanes), "f16"), at_b, (4, 8))
        base = spread(read_accumulator(stack(rows_c, lanes), kc), at_c, (8, 8))
        result = np.matmul(left, right) + base
        values = result[:, at_d[0], at_d[1], at_d[2]].transpose(2, 0, 1).reshape(8, -1)
        put(rows_d, write_accumulator(np.ascontiguousarray(values), kd), lanes)
        b.launch.matrix_operations += 4 * 2 * 8 * 8 * 4 * len(left)

    return run
