"""Faults planted in kernels of the tile language, by both routes: each is found, and the twins are clean."""

from __future__ import annotations

import linecache
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


@tl.jit
def beyond(x: tl.f32["N"], y: tl.f32["N"], blocks: int = 2, B: int = 128) -> None:
    """Block i reads row i of shared memory, which has two."""
    tl.block(warps=4)
    i = tl.grid(blocks)
    s = tl.shared((2, B), tl.f32)
    tl.store(s, (0, 0), tl.zeros((2, B), tl.f32))
    tl.sync()
    tile = tl.load(s[i])
    tl.store(y, (i * B,), tile)


def row(s: Any, i: int) -> tl.Tile:
    """A helper, inlined."""
    tile = tl.load(s[i])
    return tile + 1.0


@tl.jit
def in_helper(x: tl.f32["N"], y: tl.f32["N"], last: int = 0, B: int = 128) -> None:
    """The first row of shared memory is written, and ``last`` is read."""
    tl.block(warps=4)
    tl.grid(1)
    s = tl.shared((2, B), tl.f32)
    tl.store(s[0], (0,), tl.load(x, (0,), (B,)))
    tl.sync()
    tl.store(y, (0,), row(s, last))


@tl.jit
def bounded(x: tl.f32["N"], y: tl.f32["N"], limit: float = 1000.0, B: int = 128) -> None:
    """A promise about the values."""
    tl.grid(1)
    tile = tl.load(x, (0,), (B,))
    tl.device_assert(tl.max(tile) < limit, "a value is too large")
    tl.store(y, (0,), tile)


CASES: list[tuple[Any, tuple[int, ...], dict[str, Any], str, str, str]] = [
    (ring, (1000,), {"allowed": 2}, "E0706", "before the asynchronous copy into it was waited for",
     "tl.load(s[i % 2])"),
    (exchange, (32, 32), {"meet": False}, "E0701", "without a barrier between", "tl.load(s)"),
    (parts, (256,), {"step": 120}, "E0701", "threads write different values to one address",
     "tl.store(y, (i * step,), tl.load(x, (i * B,), (B,)))"),
    (half, (256,), {"rows": 1}, "E0702", "shared memory is read before it is written", "tl.load(s[i])"),
    (in_place, (512,), {"shift": 1}, "E0701", "race in global memory", "tl.store(x, (i * B,), tile + 1.0)"),
    (beyond, (384,), {"blocks": 3}, "E0703", "the block has 1024 bytes", "tl.load(s[i])"),
    (in_helper, (256,), {"last": 1}, "E0702", "shared memory is read before it is written", "tl.load(s[i])"),
    (bounded, (256,), {"limit": 100.0}, "E0704", "a value is too large",
     'tl.device_assert(tl.max(tile) < limit, "a value is too large")'),
]
"""Kernel, shape of its arrays, constants that plant the fault, its code and message, the expression that commits it."""


@pytest.mark.filterwarnings("ignore::tilus.diagnostics.TilusWarning")
@pytest.mark.parametrize("route", ["cuda", "ptx"])
@pytest.mark.parametrize(("kernel", "shape", "fault", "code", "message", "at"), CASES,
                         ids=[c[0].__name__ for c in CASES])
def test_planted_fault(kernel: Any, shape: tuple[int, ...], fault: dict[str, Any], code: str, message: str, at: str,
                       route: str) -> None:
    """Which of several operations on a line it was, LLVM's PTX says by the column; CUDA C names the line."""
    call = kernel.on(f"simulate:sm_80:{route}")
    x = np.arange(np.prod(shape), dtype="f4").reshape(shape)
    call(x.copy(), np.zeros_like(x))
    with pytest.raises(CheckError) as caught:
        call(x.copy(), np.zeros_like(x), **fault)
    found = [d for d in caught.value.diagnostics if d.code == code and message in d.message]
    assert found, caught.value
    assert all(any("thread" in note for note in d.notes) for d in found)
    assert all("(PTX line " in d.message for d in found) or code == "E0704"
    span = found[0].span
    assert span is not None
    assert span.file == __file__
    text = linecache.getline(span.file, span.line).rstrip()
    assert at in text
    if route == "ptx":
        assert text[span.column : span.end_column] == at
    lines = str(caught.value).splitlines()
    excerpt = lines.index(f"{span.line:>4} | {text}")
    assert lines[excerpt + 1].split(" | ")[1].strip().startswith("^^^")


@pytest.mark.parametrize("route", ["cuda", "ptx"])
def test_a_fault_of_many_instructions_is_told_once(route: str) -> None:
    x = np.zeros(1024, "f4")
    with pytest.raises(CheckError) as caught:
        beyond.on(f"simulate:sm_80:{route}")(x, np.zeros_like(x), blocks=4, B=512)
    spans = [(d.code, d.span) for d in caught.value.diagnostics]
    assert len(spans) == len(set(spans))


@pytest.mark.parametrize("route", ["cuda", "ptx"])
def test_prints_are_shown(route: str, capsys: pytest.CaptureFixture[str]) -> None:
    @tl.jit
    def kernel(x: tl.f32["N"], limit: int = 9) -> None:
        i = tl.grid(2)
        tl.print("block", i)
        tl.device_assert(x.shape[0] + i < limit, 'not {below} 100% of "limit"')

    kernel.on(f"simulate:sm_80:{route}")(np.zeros(3, "f4"))
    assert capsys.readouterr().out == "block 0\nblock 1\n"
    with pytest.raises(CheckError, match=r'not {below} 100% of "limit"'):
        kernel.on(f"simulate:sm_80:{route}")(np.zeros(3, "f4"), limit=4)
    assert capsys.readouterr().out == "block 0\nblock 1\n"
