"""How PTX calls the types of instructions and the scopes of memory operations."""

from __future__ import annotations

PTX_SCOPES = {"block": "cta", "cluster": "cluster", "device": "gpu", "system": "sys"}
PTX_TYPES = {
    "f16": "f16", "bf16": "bf16", "f32": "f32", "f64": "f64", "i8": "s8", "u8": "u8", "i32": "s32", "f8e4m3fn": "e4m3",
    "f8e5m2": "e5m2",
}

