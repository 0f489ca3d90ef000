"""Grids of every shape, on every engine alike."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tilus as tl
from kernels_zoo.gemm.matmul import matmul
from tilus.diagnostics import UserError
from tilus.simulator import launch
from tilus.targets.grid import MAX_BLOCKS

ENGINES = ["interpret", "python", "cpu", "simulate:sm_80", "simulate:sm_80:cuda"]


@tl.jit
def number(out: tl.i64["N"], x: tl.i32, y: tl.i32, z: tl.i32) -> None:
    """Each block notes its place, and the first one the grid's extents."""
    tl.block(warps=1)
    i, j, k = tl.grid(x, y, z)
    out[i + x * (j + y * k) + 1] = i + 1000 * (j + 100000 * k)
    if (i == 0) & (j == 0) & (k == 0):
        out[0] = tl.grid_size(0) + 10 * (tl.grid_size(1) + 100000 * tl.grid_size(2))


@tl.jit
def rows(out: tl.i32["M", "N"]) -> None:
    tl.block(warps=1)
    i, j = tl.grid(out.shape[1], out.shape[0])
    out[j, i] = (j * 10 + i).to(tl.i32)


@pytest.mark.sweep(keep=3)
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("x", "y", "z"), [(1, 65536, 1), (1, 2, 65537), (1, 65535, 1)])
def test_long_axes(engine: str, x: int, y: int, z: int) -> None:
    """Beyond the 65,535 blocks that a GPU launches along its second and third axis."""
    if engine in ("interpret", "python"):
        y, z = min(y, 700), min(z, 300)  # these run a block at a time
    out = np.full(x * y * z + 1, -1, np.int64)
    number.on(engine)(out, x, y, z)
    k, j, i = np.indices((z, y, x)).reshape(3, -1)
    assert np.array_equal(out[1:], i + 1000 * (j + 100000 * k))
    assert out[0] == x + 10 * (y + 100000 * z)


@pytest.mark.sweep(keep=2)
@pytest.mark.parametrize("engine", [e for e in ENGINES if e != "python"])
def test_a_long_second_axis(engine: str) -> None:
    out = np.zeros((70_000, 1), np.int32)
    rows.on(engine)(out)
    assert np.array_equal(out[:, 0], np.arange(70_000) * 10)


@pytest.mark.parametrize("route", ["ptx", "cuda"])
def test_three_axes_folded(route: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tilus.runtime.nvidia.engines.is_launchable", lambda grid: False)
    x, y, z = 3, 5, 7
    out = np.full(x * y * z + 1, -1, np.int64)
    number.on(f"simulate:sm_80:{route}")(out, x, y, z)
    k, j, i = np.indices((z, y, x)).reshape(3, -1)
    assert np.array_equal(out[1:], i + 1000 * (j + 100000 * k))
    assert out[0] == x + 10 * (y + 100000 * z)


@pytest.mark.parametrize("engine", ENGINES)
def test_too_many_blocks(engine: str) -> None:
    out = np.zeros(1, np.int64)
    for extents in ((1 << 30, 2, 1), (2**31 - 1, 1, 2), (1 << 20, 1 << 20, 1 << 20)):
        with pytest.raises(UserError) as caught:
            number.on(engine)(out, *extents)
        error = caught.value.diagnostics[0]
        assert (error.code, error.message) == ("E0606", f"the grid has more than {MAX_BLOCKS} blocks in all")
        assert error.help == "let each block do more, with larger tiles or in a loop"
        assert error.span is not None
        assert error.span.file == __file__
    number.on(engine)(out, 2**31 - 1, 2**31 - 1, 0)
    number.on(engine)(out, -1, 2**31 - 1, 2**31 - 1)
    assert out[0] == 0


@pytest.mark.parametrize("via", ["ptx", "cuda"])
def test_folded_products(via: str) -> None:
    """A kernel that is launched in groups of blocks otherwise."""
    from tilus.backends import Options
    from tilus.runtime.compile import compile_specialisation

    specialisation = matmul.assume("contiguous", {"BM": 16, "BN": 16, "BK": 16, "warps": 1})
    folded = compile_specialisation(specialisation, "sm_80", via, Options(folded=True))
    assert [a.name for a in folded.arguments][-1] == "grid.x"
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal(s).astype(np.float16) for s in ((40, 24), (24, 56)))
    c = np.zeros((40, 56), np.float16)
    values: dict[str, Any] = {"a": a, "b": b, "c": c}
    arguments: list[Any] = []
    for argument in folded.arguments:
        name, _, axis = argument.name.partition(".shape[")
        arguments.append(3 if name == "grid.x" else values[name].shape[int(axis[0])] if axis else values[name])
    shared = folded.metadata["dynamic_shared_bytes"]
    launch(folded.ptx, "matmul", (12, 1, 1), (32, 1, 1), arguments, shared_bytes=shared)
    want = a.astype(np.float32) @ b.astype(np.float32)
    np.testing.assert_allclose(c, want, rtol=1e-2, atol=1e-2)


def test_the_simulator_launches_what_a_gpu_launches() -> None:
    ptx = number.compile().ptx
    with pytest.raises(UserError, match=r"E1003.*at most 65535 blocks are launched along y and z"):
        launch(ptx, "number", (1, 65536, 1), (32, 1, 1), [np.zeros(8, np.int64), 8, 1, 65536, 1])
