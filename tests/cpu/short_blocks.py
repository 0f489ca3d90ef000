"""Kernels whose blocks do little, which are taken together, or are not; prints those that go wrong.

``python -m tests.cpu.short_blocks`` is a process of its own, for the level that ``TILUS_CPU`` says.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np

import tilus as tl

ROWS, COLUMNS = 291, (1, 16, 50)


def normalise(x: tl.f32["M", "N"], y: tl.f32["M", "N"], BN: int = 512) -> None:
    """Loops of one iteration, for rows that are short."""
    i = tl.grid(x.shape[0])
    total = tl.zeros((1, 1), tl.f32)
    for j in tl.range(0, x.shape[1], BN):
        total += tl.sum(tl.load(x, (i, j), (1, BN)), axis=1, keepdims=True)
    for j in tl.range(0, x.shape[1], BN):
        tl.store(y, (i, j), tl.load(x, (i, j), (1, BN)) / total)


def masks(x: tl.f32["M", "N"], y: tl.f32["M", "N"], BM: int = 2) -> None:
    i = tl.grid(tl.cdiv(x.shape[0], BM)) * BM
    rows, columns = i + tl.arange(BM)[:, None], tl.arange(64)[None, :]
    keep = (rows + columns) % 3 != 0
    v = tl.load(x, (i, 0), (BM, 64), mask=keep, other=-1.0)
    tl.store(y, (i, 0), v * 2.0 + rows.to(tl.f32), mask=columns % 2 == 0)


def numbers(x: tl.f32["M", "N"], y: tl.f32["M", "N"]) -> None:
    """Rows know their numbers, by which they are masked and drop elements by chance."""
    i = tl.grid(x.shape[0])
    columns = tl.arange(64)[None, :]
    keep = tl.random.rand(7, i * 64 + columns) < 0.5
    v = tl.load(x, (i, 0), (1, 64))
    tl.store(y, (i, 0), tl.where(keep & (columns <= i), v, 0.0))


def several(x: tl.f32["M", "N"], y: tl.f32["M", "N"], scale: tl.f32["M"], bias: tl.f32["N"], best: tl.i64["M"],
            prefix: tl.f32["M", "N"], flip: tl.i32) -> None:
    """Several arrays, some of fewer dimensions, a branch on an argument, a loop, a scan, and what argmax finds."""
    i = tl.grid(tl.cdiv(x.shape[0], 2)) * 2
    v = tl.load(x, (i, 0), (2, 64))
    v = v * tl.load(scale, i, 2)[:, None] + tl.load(bias, 0, 64)[None, :]
    if flip > 0:
        v = -v
    for _ in tl.range(3):
        v = v + tl.maximum(v, 0.0)
    tl.store(best, i, tl.argmax(v, axis=1))
    tl.store(prefix, (i, 0), tl.cumsum(v, axis=1))
    tl.store(y, (i, 0), v)


def turned(x: tl.f32["M", "N"], y: tl.f32["N", "M"]) -> None:
    i = tl.grid(x.shape[0])
    tl.store(y, (0, i), tl.load(x, (i, 0), (1, 64)).T)


def whole(x: tl.f32["M", 16], y: tl.f32["M", 16]) -> None:
    """Extents that are known."""
    i = tl.grid(x.shape[0])
    v = tl.load(x, (i, 0), (1, 16))
    tl.store(y, (i, 0), tl.exp(v - tl.max(v, axis=1, keepdims=True)))


def kinds(x: tl.f32["M", "N"], y: tl.f32["M", "N"], found: tl.i32["R", "M"], flags: tl.bool["Q", "M"],
          halves: tl.f16["Q", "M"], BM: int = 4) -> None:
    """Reductions of other kinds and types, and of what is the same beyond the rows."""
    i = tl.grid(tl.cdiv(x.shape[0], BM)) * BM
    v = tl.load(x, (i, 0), (BM, 256), other=0.5)
    k = (v * 8.0).to(tl.i32)
    tl.store(found[0], i, tl.sum(k, axis=1))
    tl.store(found[1], i, tl.max(k, axis=1))
    tl.store(found[2], i, tl.xor_sum(k, axis=1))
    tl.store(flags[0], i, tl.any(v > 2.0, axis=1))
    tl.store(flags[1], i, tl.all(v > 0.1, axis=1))
    tl.store(halves[0], i, tl.max(v.to(tl.f16), axis=1))
    tl.store(halves[1], i, tl.min(v.to(tl.f16), axis=1))
    tl.store(y, (i, 0), v - tl.sum(tl.exp(-v), axis=1, keepdims=True))


def blurring(x: tl.f32["M", "N"], y: tl.f32["M", "N"]) -> None:
    """What is written is read again, from the same rows."""
    i = tl.grid(x.shape[0])
    tl.store(y, (i, 0), tl.load(x, (i, 0), (1, 64)))
    tl.store(y, (i, 0), tl.load(y, (i, 0), (1, 64)) + tl.load(y, (i, 1), (1, 64)))


# Those that are refused.


def repeating(x: tl.f32["M", "N"], y: tl.f32["M", "N"]) -> None:
    """The number of a row within its block."""
    i = tl.grid(tl.cdiv(x.shape[0], 2)) * 2
    tl.store(y, (i, 0), tl.load(x, (i, 0), (2, 64)) * tl.arange(2)[:, None].to(tl.f32))


def reading(x: tl.f32["M", "N"], y: tl.f32["M", "N"]) -> None:
    """Rows of an array that is written."""
    i = tl.grid(x.shape[0])
    before = tl.load(y, (i - 1, 0), (1, 64))
    tl.store(y, (i, 0), tl.load(x, (i, 0), (1, 64)) + tl.where(before > 1000.0, 1.0, 0.0))


def overlapping(x: tl.f32["M", "N"], y: tl.f32["M", "N"]) -> None:
    """Neighbours read the same rows."""
    i = tl.grid(x.shape[0])
    v = tl.sum(tl.load(x, (i, 0), (2, 64)), axis=0, keepdims=True)
    tl.store(y, (i, 0), v)


def across(x: tl.f32["M", "N"], y: tl.f32["M", "N"]) -> None:
    """A reduction along the dimension of neighbours."""
    i = tl.grid(tl.cdiv(x.shape[0], 2)) * 2
    v = tl.load(x, (i, 0), (2, 64))
    tl.store(y, (i, 0), v + tl.zeros((2, 1), tl.f32) + tl.sum(v, axis=0, keepdims=True))


def asserting(x: tl.f32["M", "N"], y: tl.f32["M", "N"]) -> None:
    i = tl.grid(x.shape[0])
    tl.device_assert(i < 100_000, "never")
    tl.store(y, (i, 0), tl.load(x, (i, 0), (1, 64)))


def branching(x: tl.f32["M", "N"], y: tl.f32["M", "N"]) -> None:
    """What blocks do differs."""
    i = tl.grid(x.shape[0])
    if i % 2 == 0:
        tl.store(y, (i, 0), tl.load(x, (i, 0), (1, 64)))


def looping(x: tl.f32["M", "N"], y: tl.f32["M", "N"]) -> None:
    i = tl.grid(x.shape[0])
    v = tl.load(x, (i, 0), (1, 64))
    for _ in tl.range(i % 3):
        v = v + 1.0
    tl.store(y, (i, 0), v)


def counting(x: tl.f32["M", "N"], y: tl.f32["M", "N"], count: tl.i32[1]) -> None:
    i = tl.grid(x.shape[0])
    tl.atomic_add(count, 0, 1)
    tl.store(y, (i, 0), tl.load(x, (i, 0), (1, 64)))


def measuring(x: tl.f32["M", "N"], y: tl.f32["M", "N"]) -> None:
    """The extent of the grid matters."""
    i = tl.grid(x.shape[0])
    tl.store(y, (tl.grid_size(0) - 1 - i, 0), tl.load(x, (i, 0), (1, 64)))


def looking(x: tl.f32["M", "N"], y: tl.f32["M", "N"], scale: tl.f32["M"]) -> None:
    """A number of its own for each block."""
    i = tl.grid(x.shape[0])
    tl.store(y, (i, 0), tl.load(x, (i, 0), (1, 64)) * scale[i])


def scattering(x: tl.f32["M", "N"], y: tl.f32["M", "N"]) -> None:
    i = tl.grid(x.shape[0])
    rows, columns = tl.full((64,), i, tl.i64), tl.arange(64)
    tl.scatter(y, (rows, columns), tl.load(x, (i, 0), (1, 64))[0, :])


def backwards(x: tl.f32["M", "N"], y: tl.f32["M", "N"]) -> None:
    i = x.shape[0] - 1 - tl.grid(x.shape[0])
    tl.store(y, (i, 0), tl.load(x, (i, 0), (1, 64)))


def flat(x: tl.f32["M", "N"], y: tl.f32["M", "N"]) -> None:
    """Two axes of the grid."""
    i, j = tl.grid(x.shape[0], 1)
    tl.store(y, (i, j), tl.load(x, (i, j), (1, 64)))


TOGETHER = ("normalise", "masks", "numbers", "several", "turned", "whole", "kinds", "blurring")
RACING = ("reading",)
REFUSED = {
    "reading": "write what neighbours access", "repeating": "repeats itself", "overlapping": "another shape",
    "across": "differs among neighbours", "asserting": "differs among neighbours",
    "branching": "differs among neighbours", "looping": "may be long", "counting": "atomic", "measuring": "grid_size",
    "looking": "a scalar differs", "scattering": "scatter", "backwards": "do not access parts", "flat": "do not access",
}
"""Why kernels are."""
FUNCTIONS: dict[str, Any] = {name: globals()[name] for name in (*TOGETHER, *REFUSED)}
KERNELS = {name: tl.jit(function) for name, function in FUNCTIONS.items()}


def cases(name: str) -> list[dict[str, Any]]:
    """Arguments: rows of some lengths, packed, strided and transposed."""
    found = []
    for columns in (16,) if name == "whole" else COLUMNS:
        rng = np.random.default_rng(columns)
        x = np.abs(rng.standard_normal((ROWS, 2 * columns))).astype("f")
        arrays = [x[:, :columns].copy()]
        if columns == 16:
            arrays += [x[:, ::2], np.asfortranarray(x[:, :columns])]
        for array in arrays:
            y = np.zeros((columns, ROWS) if name == "turned" else (ROWS, columns), "f")
            case: dict[str, Any] = {"x": array, "y": y}
            if name == "several":
                case |= {"scale": rng.standard_normal(ROWS).astype("f"), "bias": x[0, :columns].copy(),
                         "best": np.zeros(ROWS, "i8"), "prefix": np.zeros_like(y), "flip": columns % 2}
            if name == "kinds":
                case |= {"found": np.zeros((3, ROWS), "i4"), "flags": np.zeros((2, ROWS), "?"),
                         "halves": np.zeros((2, ROWS), "f2")}
            if name == "looking":
                case["scale"] = x[:, 0].copy()
            if name == "counting":
                case["count"] = np.zeros(1, "i4")
            found.append(case)
    return found


def wrong(name: str) -> list[str]:
    """Where results are not those of the interpreter."""
    found = []
    for case in cases(name):
        on = []
        for engine in ("cpu", "interpret"):
            given = {k: v.copy("K") if isinstance(v, np.ndarray) and k != "x" else v for k, v in case.items()}
            KERNELS[name].on(engine)(*given.values())
            on.append(given)
        for key, value in on[0].items():
            if isinstance(value, np.ndarray) and not np.allclose(value, on[1][key], 1e-4, 1e-4):
                found.append(f"{name} {case['x'].shape} {case['x'].strides}: {key}")
    return found


if __name__ == "__main__":
    tl.set_num_threads(2)
    print(json.dumps([text for name in TOGETHER for text in wrong(name)]))
