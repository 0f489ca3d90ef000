"""Lightning attention and its gradients: against the recurrence, the definition and central differences."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

import tilus as tl
from kernels_zoo.checking import Array, relative_error, run, wide
from kernels_zoo.linear_attention import lightning_quadratic as quadratic
from kernels_zoo.linear_attention.lightning import (
    CASES,
    SHAPES,
    lightning_attention,
    lightning_attention_backward,
    lightning_attention_step,
    operands,
    reference,
    reference_backward,
    slopes,
)
from tests.zoo.turns import ROUTES, by_turns

NAMES = ("dq", "dk", "dv")
TOLERANCES = {tl.f16: 2e-3, tl.bf16: 1e-2, tl.f32: 1e-6}
QUICK = [s for s in SHAPES if s[2] < 300]


@pytest.mark.sweep(keep=3)
@pytest.mark.parametrize("engine", ["interpret", "cpu", "python"])
@pytest.mark.parametrize("index", range(len(CASES)))
def test_kernels(index: int, engine: str) -> None:
    kernel, make = CASES[index]
    for shape, dtype in zip(QUICK if engine != "python" else QUICK[:1], itertools.cycle(TOLERANCES), strict=False):
        case = make(shape, dtype)
        assert run(kernel, case, engine) <= case.tolerance, (shape, dtype)


@pytest.mark.sweep(keep=2)
@pytest.mark.parametrize(("index", "engine"), by_turns(range(len(CASES)), ROUTES))
def test_simulated(index: int, engine: str) -> None:
    """A block and a bit; extents that are no multiples of 16."""
    kernel, make = CASES[index]
    for shape, dtype in (((1, 2, 70, 59, 40), tl.f16), ((1, 1, 35, 24, 33), tl.f32)):
        case = make(shape, dtype)
        assert run(kernel, case, engine) <= case.tolerance, shape


def test_slopes() -> None:
    assert slopes(8).tolist() == [2.0**-i for i in range(1, 9)]
    assert np.allclose(slopes(6), [2**-2, 2**-4, 2**-6, 2**-8, 2**-1, 2**-3])


def gradients(shape: tuple[int, ...], dtype: tl.DType, engine: str = "cpu") -> tuple[Sequence[Array], Sequence[Array]]:
    """What the function gives, and the definition in f64."""
    q, k, v, slope, _, do = operands(shape, dtype, 0)
    found = lightning_attention_backward(q, k, v, slope, do, engine)
    return found, reference_backward(*map(wide, (q, k, v, slope, do)))


@pytest.mark.sweep(keep=2)
@pytest.mark.parametrize(("shape", "dtype"), list(zip(SHAPES, itertools.cycle(TOLERANCES))), ids=str)
def test_gradients(shape: tuple[int, ...], dtype: tl.DType) -> None:
    for name, out, exact in zip(NAMES, *gradients(shape, dtype), strict=True):
        assert out.dtype == dtype.numpy
        assert relative_error(out, exact) <= TOLERANCES[dtype], name


@pytest.mark.sweep(keep=2)
@pytest.mark.parametrize("engine", ["interpret", "simulate:sm_80:ptx", "simulate:sm_90a:cuda"])
def test_gradients_on_other_engines(engine: str) -> None:
    for name, out, exact in zip(NAMES, *gradients((1, 1, 70, 24, 40), tl.f16, engine), strict=True):
        assert relative_error(out, exact) <= TOLERANCES[tl.f16], name


def test_central_differences() -> None:
    """Of f(q, k, v) = sum(do ⊙ attention(q, k, v)) in f64, for the definition and for both kernels in f32."""
    q, k, v, slope, _, do = operands((1, 2, 5, 3, 4), tl.f32, 0)
    arrays = [wide(x) for x in (q, k, v)]
    found = [backward(q, k, v, slope, do, "cpu") for backward in (
        lightning_attention_backward, quadratic.lightning_attention_quadratic_backward)]
    exact = reference_backward(*arrays, wide(slope), wide(do))
    for n, (name, array, best) in enumerate(zip(NAMES, arrays, exact, strict=True)):
        ascent = np.empty_like(array)
        for at in np.ndindex(array.shape):
            kept, values = array[at], []
            for step in (1e-5, -1e-5):
                array[at] = kept + step
                values.append(float(np.sum(wide(do) * reference(*arrays, wide(slope))[0])))
            array[at] = kept
            ascent[at] = (values[0] - values[1]) / 2e-5
        assert relative_error(best, ascent) < 1e-8, name
        for gradients_ in found:
            assert relative_error(gradients_[n], ascent) < 1e-6, name


@pytest.mark.sweep(keep=2)
@pytest.mark.parametrize(("length", "d"), [(913, 16), (513, 32), (1213, 64)])
def test_published_shapes(d: int, length: int) -> None:
    """A few of the heads of the authors' tests, with their inputs, which are a tenth of normal."""
    q, k, v, _, _, do = ((x * x.dtype.type(0.1)) for x in operands((1, 2, length, d, 64), tl.bf16, 1))
    slope, o = slopes(8)[[0, 7]], np.empty_like(v)
    lightning_attention.on("cpu")(q, k, v, slope, o, None, None, D=d)
    assert relative_error(o, reference(*map(wide, (q, k, v, slope)))[0]) < TOLERANCES[tl.bf16]
    found = lightning_attention_backward(q, k, v, slope, do, "cpu")
    for name, out, exact in zip(NAMES, found, reference_backward(*map(wide, (q, k, v, slope, do))), strict=True):
        assert relative_error(out, exact) < TOLERANCES[tl.bf16], name


@pytest.mark.parametrize("engine", ["cpu", "interpret"])
def test_a_sequence_in_pieces(engine: str) -> None:
    """A prompt, its continuation from the state, and single tokens give what the whole gives."""
    q, k, v, slope, _, _ = operands((2, 2, 140, 24, 40), tl.f32, 0)
    o, state = np.empty_like(v), np.empty((2, 2, 24, 40), np.float32)
    initial = None
    for piece in (slice(0, 70), slice(70, 137)):
        lightning_attention.on(engine)(q[:, :, piece], k[:, :, piece], v[:, :, piece], slope, o[:, :, piece], initial,
                                       state, D=24, E=40)
        initial = state.copy()
    for t in range(137, 140):
        lightning_attention_step.on(engine)(q[:, :, t], k[:, :, t], v[:, :, t], slope, state, o[:, :, t], D=24)
    out, final = reference(*map(wide, (q, k, v, slope)))
    assert relative_error(o, out) < TOLERANCES[tl.f32]
    assert relative_error(state, final) < TOLERANCES[tl.f32]


@pytest.mark.parametrize("slope", [0.0, 30.0, 1e4])
def test_extreme_slopes(slope: float) -> None:
    """No decay at all, and so much that only a token's own value is left: nothing overflows."""
    q, k, v, _, _, do = operands((1, 1, 130, 16, 16), tl.f32, 0)
    slopes_, o, final = np.array([slope], np.float32), np.empty_like(v), np.empty((1, 1, 16, 16), np.float32)
    lightning_attention.on("cpu")(q, k, v, slopes_, o, None, final, D=16, E=16)
    arrays = [wide(x) for x in (q, k, v, slopes_)]
    for out, exact in zip((o, final), reference(*arrays), strict=True):
        assert relative_error(out, exact) < 1e-6
    found = lightning_attention_backward(q, k, v, slopes_, do, "cpu")
    for name, out, exact in zip(NAMES, found, reference_backward(*arrays, wide(do)), strict=True):
        assert relative_error(out, exact) < 1e-6, name


@pytest.mark.slow
@pytest.mark.parametrize("via", ["ptx", "cuda"])
@pytest.mark.parametrize("target", ["sm_80", "sm_90a", "sm_120a"])
@pytest.mark.parametrize("d", [32, 64, 128, 256])
def test_no_spills(d: int, target: str, via: str) -> None:
    """With the tiles that the kernel chooses."""
    for dtype in TOLERANCES:
        for reverse in (False, True):
            types: dict[str, Any] = dict.fromkeys("qkvo", dtype)
            compiled = lightning_attention.compile(target, via, D=d, reverse=reverse, **types)
            assert compiled.metadata["spill_stores"] == 0, (dtype, reverse)


@pytest.mark.sweep(keep=2)
@pytest.mark.parametrize(("index", "engine"), by_turns(range(len(quadratic.CASES)), ROUTES))
def test_quadratic_simulated(index: int, engine: str) -> None:
    kernel, make = quadratic.CASES[index]
    case = make((1, 2, 70, 59, 40), tl.f32 if engine.endswith("ptx") else tl.f16)
    assert run(kernel, case, engine, BM=32, BN=16, warps=2) <= case.tolerance


@pytest.mark.sweep(keep=2)
@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
def test_quadratic_gradients(dtype: tl.DType) -> None:
    for shape in ((1, 2, 70, 24, 40), (2, 3, 193, 24, 40), (1, 1, 0, 24, 40)):
        q, k, v, slope, _, do = operands(shape, dtype, 0)
        found = quadratic.lightning_attention_quadratic_backward(q, k, v, slope, do, "cpu")
        exact = reference_backward(*map(wide, (q, k, v, slope, do)))
        for name, out, best in zip(NAMES, found, exact, strict=True):
            assert relative_error(out, best) <= TOLERANCES[dtype], (name, shape)


@pytest.mark.parametrize("slope", [0.0, 30.0, 1e4])
def test_quadratic_extreme_slopes(slope: float) -> None:
    q, k, v, _, _, do = operands((1, 1, 200, 16, 16), tl.f32, 0)
    slopes_ = np.array([slope], np.float32)
    found = quadratic.lightning_attention_quadratic_backward(q, k, v, slopes_, do, "cpu")
    for name, out, exact in zip(NAMES, found, reference_backward(*map(wide, (q, k, v, slopes_, do))), strict=True):
        assert relative_error(out, exact) < 1e-6, name


@pytest.mark.slow
@pytest.mark.parametrize("via", ["ptx", "cuda"])
@pytest.mark.parametrize(("d", "target"), [(d, target) for d in (32, 64, 128, 256) for target in (
    "sm_75", "sm_80", "sm_90a", "sm_120a") if d <= 128 or target != "sm_75"])
def test_quadratic_no_spills(d: int, target: str, via: str) -> None:
    for dtype in TOLERANCES if target != "sm_75" else [tl.f16]:
        for reverse in (False, True):
            types: dict[str, Any] = dict.fromkeys("qkvo", dtype)
            compiled = quadratic.lightning_attention_quadratic.compile(target, via, D=d, E=d, reverse=reverse, **types)
            assert compiled.metadata["spill_stores"] == 0, (dtype, reverse)
