"""Gated linear attention: kernel by kernel and together, against the recurrence."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

import tilus as tl
from kernels_zoo.checking import Array, relative_error, run, wide
from kernels_zoo.linear_attention.gated_linear_attention import (
    CASES,
    SHAPES,
    chunk_of,
    gated_linear_attention,
    gated_linear_attention_backward,
    gla_gated_outputs,
    gla_gates,
    gla_outputs,
    gla_scores,
    gla_step,
    operands,
    reference,
    reference_backward,
)
from tests.zoo.turns import ROUTES, by_turns

TOLERANCES = {tl.f16: 2e-3, tl.bf16: 1e-2, tl.f32: 1e-6}
QUICK = [s for s in SHAPES if s[2] < 300]


@pytest.mark.sweep(keep=4)
@pytest.mark.parametrize("engine", ["interpret", "cpu", "python"])
@pytest.mark.parametrize("index", range(len(CASES)))
def test_kernels(index: int, engine: str) -> None:
    kernel, make = CASES[index]
    for shape, dtype in zip(QUICK if engine != "python" else QUICK[:1], itertools.cycle(TOLERANCES), strict=False):
        case = make(shape, dtype)
        assert run(kernel, case, engine) <= case.tolerance, (shape, dtype)


@pytest.mark.sweep(keep=3)
@pytest.mark.parametrize(("index", "engine"), by_turns(range(len(CASES)), ROUTES))
def test_simulated(index: int, engine: str) -> None:
    """A chunk and a bit; extents that are no multiples of 16, and more columns of gates than a tile has."""
    kernel, make = CASES[index]
    for shape, dtype in (((1, 1, 70, 68, 24), tl.f16), ((1, 2, 35, 24, 33), tl.f32)):
        case = make(shape, dtype)
        assert run(kernel, case, engine) <= case.tolerance, shape


def errors(shape: tuple[int, ...], dtype: tl.DType, temper: float, engine: str) -> list[float]:
    """Of the output and of the final state."""
    arrays = operands(shape, dtype, 1, temper)
    found = gated_linear_attention(*arrays, engine)
    exact = reference(*(wide(x) for x in arrays))
    return [relative_error(out, best) for out, best in zip(found, exact, strict=True)]


@pytest.mark.sweep(keep=2)
@pytest.mark.parametrize(("dtype", "temper"), by_turns(tuple(TOLERANCES), [0.1, 1.0, 10.0], 3), ids=str)
def test_the_three_together(dtype: tl.DType, temper: float) -> None:
    """With gates that forget everything within a few tokens, and that hardly forget."""
    for shape in ((1, 4, 63, 60, 60), (1, 1, 300, 64, 64), (1, 1, 90, 128, 128), (0, 1, 8, 60, 60), (1, 1, 0, 60, 60)):
        assert max(errors(shape, dtype, temper, "cpu")) <= TOLERANCES[dtype], shape


@pytest.mark.sweep(keep=2)
@pytest.mark.parametrize("engine", ["interpret", "simulate:sm_80:ptx", "simulate:sm_90a:cuda"])
def test_on_other_engines(engine: str) -> None:
    assert max(errors((1, 1, 83, 60, 33), tl.f16, 1.0, engine)) <= TOLERANCES[tl.f16]


@pytest.mark.parametrize("gate", [0.0, -30.0, -1e4])
def test_extreme_gates(gate: float) -> None:
    """Within a chunk, the exponents add up to what no float holds: neither overflows nor 0 times infinity."""
    q, k, v, g, initial = operands((1, 1, 130, 32, 16), tl.f32, 0)
    g[...] = 0.0
    g[:, :, ::3, ::2] = gate
    found = gated_linear_attention(q, k, v, g, initial, "cpu")
    for out, exact in zip(found, reference(*map(wide, (q, k, v, g)), initial=wide(initial)), strict=True):
        assert relative_error(out, exact) < 1e-6


@pytest.mark.parametrize("engine", ["cpu", "interpret"])
def test_a_sequence_in_pieces(engine: str) -> None:
    """A prompt, its continuation from the state, and single tokens give what the whole gives."""
    q, k, v, g, _ = operands((2, 2, 140, 24, 40), tl.f32, 0, temper=16)
    outputs: list[Array] = []
    state = None
    for piece in (slice(0, 70), slice(70, 137)):
        o, state = gated_linear_attention(*(x[:, :, piece] for x in (q, k, v, g)), state, engine)
        outputs.append(o)
    for t in range(137, 140):
        outputs.append(np.empty((2, 2, 1, 40), np.float32))
        gla_step.on(engine)(*(x[:, :, t] for x in (q, k, v, g)), state, outputs[-1][:, :, 0], D=24)
    out, final = reference(*map(wide, (q, k, v, g)))
    assert relative_error(np.concatenate(outputs, axis=2), out) < TOLERANCES[tl.f32]
    assert relative_error(state, final) < TOLERANCES[tl.f32]


def gradient_errors(shape: tuple[int, ...], dtype: tl.DType, temper: float, engine: str) -> list[float]:
    """Of dq, dk, dv and dg."""
    q, k, v, g, _ = operands(shape, dtype, 1, temper)
    do = np.random.default_rng(2).standard_normal(v.shape).astype(v.dtype)
    found = gated_linear_attention_backward(q, k, v, g, do, engine)
    exact = reference_backward(*map(wide, (q, k, v, g, do)))
    assert [x.dtype for x in found] == [q.dtype, k.dtype, v.dtype, g.dtype]
    return [relative_error(out, best) for out, best in zip(found, exact, strict=True)]


@pytest.mark.sweep(keep=2)
@pytest.mark.parametrize(("dtype", "temper"), by_turns(tuple(TOLERANCES), [0.1, 1.0, 10.0], 3), ids=str)
def test_gradients(dtype: tl.DType, temper: float) -> None:
    for shape in ((1, 4, 63, 60, 60), (1, 1, 150, 32, 64), (0, 1, 8, 60, 60), (1, 1, 0, 60, 60)):
        *found, gates = gradient_errors(shape, dtype, temper, "cpu")
        assert max(found) <= TOLERANCES[dtype], shape
        assert gates <= max(4 * TOLERANCES[dtype], 1e-5), shape    # sums of differences of the others


@pytest.mark.sweep(keep=2)
@pytest.mark.parametrize("engine", ["interpret", "simulate:sm_80:ptx", "simulate:sm_90a:cuda"])
def test_gradients_on_other_engines(engine: str) -> None:
    *found, gates = gradient_errors((1, 1, 70, 40, 33), tl.f16, 1.0, engine)
    assert max(found) <= TOLERANCES[tl.f16]
    assert gates <= 4 * TOLERANCES[tl.f16]


def test_central_differences() -> None:
    """Of f(q, k, v, g) = sum(do ⊙ attention(q, k, v, g)) in f64, for the gradients by the recurrence."""
    arrays = [wide(x) for x in operands((1, 1, 5, 3, 4), tl.f32, 0)[:4]]
    do = np.random.default_rng(2).standard_normal((1, 1, 5, 4))
    for array, exact in zip(arrays, reference_backward(*arrays, do), strict=True):
        ascent = np.empty_like(array)
        for at in np.ndindex(array.shape):
            kept, values = array[at], []
            for step in (1e-5, -1e-5):
                array[at] = kept + step
                values.append(float(np.sum(do * reference(*arrays)[0])))
            array[at] = kept
            ascent[at] = (values[0] - values[1]) / 2e-5
        assert relative_error(exact, ascent) < 1e-8


@pytest.mark.slow
@pytest.mark.parametrize("via", ["ptx", "cuda"])
@pytest.mark.parametrize("target", ["sm_80", "sm_90a", "sm_120a"])
@pytest.mark.parametrize("d", [32, 64, 128, 256])
def test_no_spills(d: int, target: str, via: str) -> None:
    """With the tiles that the kernels choose."""
    names = {gla_gates: ("q", "k", "queries", "keys", "blocks"), gla_scores: ("q", "k", "blocks", "a"),
             gla_outputs: ("queries", "keys", "a", "v", "o"), gla_step: ("q", "k", "v", "o"),
             gla_gated_outputs: ("q", "k", "v")}
    for dtype in TOLERANCES:
        for kernel, arrays in names.items():
            chunks = {} if kernel in (gla_step, gla_gated_outputs) else {"C": chunk_of(dtype.bits)}
            constants: dict[str, Any] = {"D": d, **chunks}
            compiled = kernel.compile(target, via, **constants, **dict.fromkeys(arrays, dtype))
            assert compiled.metadata["spill_stores"] == 0, (kernel.__name__, dtype)


def rms_errors(shape: tuple[int, ...], temper: float, dtype: tl.DType = tl.bf16) -> dict[str, float]:
    """RMS(error) / RMS(reference) of outputs and gradients, of gates log σ(x) / temper with x uniform in [0, 1)."""
    rng = np.random.default_rng(0)
    q, k, v, _, _ = operands(shape, dtype, 1)
    g = (-np.log1p(np.exp(-rng.random(q.shape))) / temper).astype(np.float32)
    do = rng.standard_normal(v.shape).astype(v.dtype)
    found = (*gated_linear_attention(q, k, v, g, None, "cpu"),
             *gated_linear_attention_backward(q, k, v, g, do, "cpu"))
    arrays = [wide(x) for x in (q, k, v, g)]
    exact = (*reference(*arrays), *reference_backward(*arrays, wide(do)))
    names = ("o", "final", "dq", "dk", "dv", "dg")
    return {name: relative_error(x, best) for name, x, best in zip(names, found, exact, strict=True)}


PUBLISHED = [(1, h, t, d, d) if t == 63 and h == 4 else pytest.param((1, h, t, d, d), marks=pytest.mark.slow)
             for t, d, h in itertools.product((63, 1024, 2048), (60, 64, 128), (1, 4, 8))]


@pytest.mark.sweep(keep=2)
@pytest.mark.parametrize("temper", [0.1, 1.0, 10.0])
@pytest.mark.parametrize("shape", PUBLISHED, ids=str)
def test_published_shapes(shape: tuple[int, ...], temper: float) -> None:
    """Of the authors' tests, with their criterion."""
    errors_ = rms_errors(shape, temper)
    assert max(errors_.values()) < 0.005, errors_
