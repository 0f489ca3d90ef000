"""Arrays of bool: any byte but 0 is true, and what is written is 0 or 1."""

from typing import Any

import numpy as np
import pytest

import tilus as tl

ENGINES = ("interpret", "python", "cpu", "simulate:sm_80:ptx", "simulate:sm_80:cuda", "simulate:sm_70:cuda",
           "simulate:sm_90:ptx")
BYTES = np.array([0, 1, 2, 255, 128, 3, 4, 0] * 5, np.uint8)
TRUE = BYTES != 0


@tl.jit
def tiles(x: tl.bool["N"], numbers: tl.i32["N"], copy: tl.bool["N"], inverse: tl.bool["N"], gathered: tl.bool["N"],
          scattered: tl.bool["N"], shifted: tl.bool["N"], B: int = 64):
    n, = x.shape
    tl.grid(1)
    v = tl.load(x, 0, B)
    i = tl.arange(0, B)
    tl.store(numbers, 0, v.to(tl.i32))
    tl.store(copy, 0, v)
    tl.store(inverse, 0, ~v)
    tl.store(gathered, 0, tl.gather(x, (n - 1 - i,)))
    tl.scatter(scattered, (n - 1 - i,), v)
    tl.store(shifted, 0, tl.load(x, 3, B, other=True))


@tl.jit
def scalars(x: tl.bool["N"], y: tl.i32["M"], B: int = 64):
    tl.grid(1)
    v = tl.load(x, 0, B)
    y[0] = tl.sum(v)
    y[1] = 1 if x[2] else 0
    y[2] = tl.any(v[2:4]).to(tl.i32)
    y[3] = (x[2] == x[1]).to(tl.i32)
    y[4] = x[3].to(tl.i32)
    y[5] = tl.sum((v == (v.to(tl.i32) == 1)).to(tl.i32))
    if x[4] & ~x[0]:
        y[6] = 1


@tl.jit
def shared(x: tl.bool["N"], y: tl.bool["N"], B: int = 64):
    tl.grid(1)
    a, b = tl.shared((B,), tl.bool), tl.shared((B,), tl.bool)
    tl.copy_async(a, x, 0)
    tl.commit()
    tl.wait(0)
    tl.store(b, 0, ~tl.load(x, 0, B))
    tl.sync()
    tl.store(y, 0, tl.load(a, 0, B) & ~tl.load(b, 0, B))


def stored(array: np.ndarray) -> list[int]:
    return array.view(np.uint8).tolist()


@pytest.mark.parametrize("step", [1, -1, 2])
@pytest.mark.parametrize("engine", ENGINES)
def test_loads_of_all_kinds(engine: str, step: int) -> None:
    x, true = BYTES[::step].view(bool), TRUE[::step]
    n = len(x)
    numbers = np.full(n, 9, np.int32)
    outs = [np.full(n, 7, np.uint8).view(bool) for _ in range(5)]
    tiles.on(engine)(x, numbers, *outs)
    assert numbers.tolist() == true.astype(int).tolist()
    expected = (true, ~true, true[::-1], true[::-1], np.append(true[3:], [True] * 3))
    for out, right in zip(outs, expected, strict=True):
        assert stored(out) == right.astype(int).tolist()


@pytest.mark.parametrize("engine", ENGINES)
def test_scalars_and_reductions(engine: str) -> None:
    y = np.zeros(7, np.int32)
    scalars.on(engine)(BYTES.view(bool), y)
    assert y.tolist() == [int(TRUE.sum()), 1, 1, 1, 1, 64, 1]


@pytest.mark.parametrize("engine", [e for e in ENGINES if "sm_70" not in e])
def test_shared_memory(engine: str) -> None:
    y = np.full(len(BYTES), 7, np.uint8).view(bool)
    shared.on(engine)(BYTES.view(bool), y)
    assert stored(y) == TRUE.astype(int).tolist()


@pytest.mark.parametrize("engine", [e for e in ENGINES if e != "python"])
def test_fused_functions(engine: str) -> None:
    functions: list[tuple[Any, Any]] = [
        (lambda x: tl.where(x, 10, 20), np.where(TRUE, 10, 20)),
        (lambda x: tl.sum(x, axis=0), TRUE.sum()),
        (lambda x: x | x, TRUE),
        (lambda x: ~x, ~TRUE),
    ]
    for function, right in functions:
        out = tl.fuse(function).on(engine)(BYTES.view(bool))
        assert np.array_equal(out, right)
        if out.dtype == np.bool_:
            assert stored(out) == right.astype(int).tolist()
