"""What people who come from other languages look for, and what it is here."""

from __future__ import annotations

HELP = {
    "program_id": "`i = tl.grid(n)` declares the grid and gives this block's index",
    "num_programs": "`tl.grid_size(axis)` is the extent of the grid",
    "constexpr": "annotate compile-time parameters `int`, `bool` or `float`",
    "autotune": "give tile sizes as compile-time parameters, and time their variants",
    "astype": "`.to(dtype)` converts",
    "item": "a scalar is used as it is",
    "tolist": "tiles are used whole; store them into an array to look at them",
    "size": "`x.shape` has the extents",
    "ndim": "`len(x.shape)` is the rank",
    "float32": "tl.f32", "float16": "tl.f16", "float64": "tl.f64", "bfloat16": "tl.bf16",
    "int8": "tl.i8", "int16": "tl.i16", "int32": "tl.i32", "int64": "tl.i64",
    "uint8": "tl.u8", "uint16": "tl.u16", "uint32": "tl.u32", "uint64": "tl.u64", "int1": "tl.bool",
    "matmul": "`a @ b`, or tl.dot(a, b, accumulator)",
    "debug_barrier": "tl.sync()", "syncthreads": "tl.sync()",
    "absolute": "tl.abs", "power": "tl.pow", "concat": "tl.concatenate", "cat": "tl.concatenate",
}
