"""How PTX calls the types of instructions and the scopes of memory operations."""

from __future__ import annotations

from tilus.ir.ops.simt import Mma

PTX_SCOPES = {"block": "cta", "cluster": "cluster", "device": "gpu", "system": "sys"}
PTX_TYPES = {
    "f16": "f16", "bf16": "bf16", "f32": "f32", "f64": "f64", "i8": "s8", "u8": "u8", "i32": "s32", "f8e4m3fn": "e4m3",
    "f8e5m2": "e5m2",
}


def mma_types(op: Mma) -> tuple[str, str, str]:
    """The types of the operands and of the accumulator of a matrix instruction."""
    a, b, c = (PTX_TYPES[v.tile.dtype.name] for v in (op.a, op.b, op.c))
    return ("tf32", "tf32", c) if op.tf32 else (a, b, c)


def mma_instruction(op: Mma) -> str:
    m, n, k = op.shape
    a, b, c = mma_types(op)
    return f"mma.sync.aligned.m{m}n{n}k{k}.{op.order}.{c}.{a}.{b}.{c}"
