"""Faults planted in kernels of the tile language, by both routes: each is found, and the twins are clean."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tilus as tl
from tilus.diagnostics import CheckError


@tl.jit
def ring(x: tl.f32["N"], y: tl.f32["N"], allowed: int = 1, B: int = 256) -> None:
    """Two stages of asynchronous copies; ``allowed=2`` waits for one group too few."""
    N = x.shape[0]
    tl.block(warps=4)
    tl.grid(1)
    s = tl.shared((2, B), tl.f32)
    tl.copy_async(s[0], x, (0,))
    tl.commit()
    for i in tl.range(tl.cdiv(N, B)):
        tl.copy_async(s[(i + 1) % 2], x, ((i + 1) * B,))
        tl.commit()
        tl.wait(allowed)
        tl.sync()
        tl.store(y, (i * B,), tl.load(s[i % 2]))
        tl.sync()
    tl.wait(0)


@tl.jit
def exchange(x: tl.f32["M", "N"], y: tl.f32["N", "M"], meet: bool = True, B: int = 32) -> None:
    """A transposition through shared memory, with or without the barrier."""
    tl.block(warps=4)
    tl.grid(1)
    s = tl.shared((B, B), tl.f32)
    tl.store(s, (0, 0), tl.load(x, (0, 0), (B, B)))
    if meet:
        tl.sync()
    tl.store(y, (0, 0), tl.load(s).T)


@tl.jit
def parts(x: tl.f32["N"], y: tl.f32["N"], step: int = 128, B: int = 128) -> None:
    """Every block writes B elements; with a smaller step they overlap."""
    tl.block(warps=4)
    i = tl.grid(2)
    tl.store(y, (i * step,), tl.load(x, (i * B,), (B,)))


@tl.jit
def half(x: tl.f32["N"], y: tl.f32["N"], rows: int = 2, B: int = 128) -> None:
    """Rows of a shared tile, of which some may never be written."""
    tl.block(warps=4)
    tl.grid(1)
    s = tl.shared((2, B), tl.f32)
    for i in tl.static_range(rows):
        tl.store(s[i], (0,), tl.load(x, (i * B,), (B,)))
    tl.sync()
    for i in tl.static_range(2):
        tl.store(y, (i * B,), tl.load(s[i]))


@tl.jit
def in_place(x: tl.f32["N"], other: tl.f32["N"], shift: int = 0, B: int = 128) -> None:
    """Every block reads its part, or with a shift a neighbour's too, and writes its part."""
    tl.block(warps=4)
    i = tl.grid(4)
    tile = tl.load(x, (i * B + shift,), (B,))
    tl.store(x, (i * B,), tile + 1.0)


CASES: list[tuple[Any, tuple[int, ...], dict[str, Any], str, str]] = [
    (ring, (1000,), {"allowed": 2}, "E0706", "before the asynchronous copy into it was waited for"),
    (exchange, (32, 32), {"meet": False}, "E0701", "without a barrier between"),
    (parts, (256,), {"step": 120}, "E0701", "threads write different values to one address"),
    (half, (256,), {"rows": 1}, "E0702", "shared memory is read before it is written"),
    (in_place, (512,), {"shift": 1}, "E0701", "race in global memory"),
]


@pytest.mark.parametrize("route", ["cuda", "ptx"])
@pytest.mark.parametrize(("kernel", "shape", "fault", "code", "message"), CASES, ids=[c[0].__name__ for c in CASES])
def test_planted_fault(kernel: Any, shape: tuple[int, ...], fault: dict[str, Any], code: str, message: str,
                       route: str) -> None:
    call = kernel.on(f"simulate:sm_80:{route}")
    x = np.arange(np.prod(shape), dtype="f4").reshape(shape)
    call(x.copy(), np.zeros_like(x))
    with pytest.raises(CheckError) as caught:
        call(x.copy(), np.zeros_like(x), **fault)
    found = [d for d in caught.value.diagnostics if d.code == code and message in d.message]
    assert found, caught.value
    assert all("(PTX line " in d.message and any("thread" in note for note in d.notes) for d in found)
