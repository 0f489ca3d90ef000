"""Linear attention with one gate a token, and retention: against the recurrence, and gated linear attention."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

import tilus as tl
from kernels_zoo.checking import Array, relative_error, run, wide
from kernels_zoo.linear_attention import gated_linear_attention as gated
from kernels_zoo.linear_attention.scalar_gated_attention import (
    CASES,
    SHAPES,
    chunk_for,
    operands,
    reference,
    reference_backward,
    retention,
    retention_backward,
    retention_slopes,
    scalar_gate_gradients,
    scalar_gated_attention,
    scalar_gated_attention_backward,
    scalar_gated_outputs,
    scalar_gated_step,
)
from tests.zoo.turns import ROUTES, by_turns

TOLERANCES = {tl.f16: 2e-3, tl.bf16: 1e-2, tl.f32: 1e-6}
QUICK = [s for s in SHAPES if s[2] < 300]
NAMES = ("dq", "dk", "dv", "dg")


@pytest.mark.parametrize("engine", ["interpret", "cpu", "python"])
@pytest.mark.parametrize("index", [0, 2, 3])
def test_kernels(index: int, engine: str) -> None:
    kernel, make = CASES[index]
    for shape, dtype in zip(QUICK if engine != "python" else QUICK[:1], itertools.cycle(TOLERANCES), strict=False):
        case = make(shape, dtype)
        assert run(kernel, case, engine) <= case.tolerance, (shape, dtype)


@pytest.mark.sweep(keep=4)
@pytest.mark.parametrize(("index", "engine"), by_turns([0, 1, 3], ROUTES))
def test_simulated(index: int, engine: str) -> None:
    """A chunk and a bit; extents that are no multiples of 16."""
    kernel, make = CASES[index]
    case = make((1, 1, 70, 59, 24), tl.f32 if engine.endswith("ptx") else tl.f16)
    assert run(kernel, case, engine) <= case.tolerance


@pytest.mark.sweep(keep=2)
@pytest.mark.parametrize(("dtype", "temper"), by_turns(tuple(TOLERANCES), [0.1, 1.0, 10.0], 3), ids=str)
def test_gradients(dtype: tl.DType, temper: float) -> None:
    """With gates that forget everything within a few tokens, and that hardly forget."""
    for shape in ((1, 2, 63, 60, 60), (1, 1, 150, 60, 60), (0, 1, 8, 60, 60), (1, 1, 0, 60, 60)):
        q, k, v, g, _ = operands(shape, dtype, 1, temper)
        do = np.random.default_rng(2).standard_normal(v.shape).astype(v.dtype)
        found = scalar_gated_attention_backward(q, k, v, g, do, "cpu")
        assert [x.dtype for x in found] == [q.dtype, k.dtype, v.dtype, g.dtype]
        for name, out, exact in zip(NAMES, found, reference_backward(*map(wide, (q, k, v, g, do))), strict=True):
            of_gates = max(4 * TOLERANCES[dtype], 3e-5)            # sums of differences of the others
            assert relative_error(out, exact) <= (of_gates if name == "dg" else TOLERANCES[dtype]), (name, shape)


@pytest.mark.slow
@pytest.mark.parametrize("temper", [0.1, 1.0, 10.0])
@pytest.mark.parametrize("shape", [(1, 4, 63, 60, 60), (1, 4, 1024, 64, 64), (1, 1, 2048, 128, 128)], ids=str)
def test_published_shapes(shape: tuple[int, ...], temper: float) -> None:
    """Those of gated linear attention, with its criterion."""
    q, k, v, g, _ = operands(shape, tl.bf16, 1)
    rng = np.random.default_rng(0)
    g[...] = -np.log1p(np.exp(-rng.random(g.shape))) / temper
    do = rng.standard_normal(v.shape).astype(v.dtype)
    found = (*scalar_gated_attention(q, k, v, g, None, "cpu"),
             *scalar_gated_attention_backward(q, k, v, g, do, "cpu"))
    arrays = [wide(x) for x in (q, k, v, g)]
    exact = (*reference(*arrays), *reference_backward(*arrays, wide(do)))
    assert max(relative_error(x, best) for x, best in zip(found, exact, strict=True)) < 0.005


@pytest.mark.parametrize("gate", [0.0, -30.0, -1e4])
def test_extreme_gates(gate: float) -> None:
    """Within a chunk, the exponents add up to what no float holds: neither overflows nor 0 times infinity."""
    q, k, v, g, initial = operands((1, 1, 130, 32, 16), tl.f32, 0, temper=16)
    g[:, :, ::3] = gate
    found = scalar_gated_attention(q, k, v, g, initial, "cpu")
    for out, exact in zip(found, reference(*map(wide, (q, k, v, g, initial))), strict=True):
        assert relative_error(out, exact) < 1e-6


@pytest.mark.parametrize("engine", ["cpu", "interpret"])
def test_a_sequence_in_pieces(engine: str) -> None:
    """A prompt, its continuation from the state, and single tokens give what the whole gives."""
    q, k, v, g, _ = operands((2, 2, 140, 24, 40), tl.f32, 0, temper=16)
    outputs: list[Array] = []
    state = None
    for piece in (slice(0, 70), slice(70, 137)):
        o, state = scalar_gated_attention(*(x[:, :, piece] for x in (q, k, v, g)), state, engine)
        outputs.append(o)
    assert state is not None
    for t in range(137, 140):
        outputs.append(np.empty((2, 2, 1, 40), np.float32))
        scalar_gated_step(*(x[:, :, t] for x in (q, k, v, g)), state, outputs[-1][:, :, 0], engine)
    out, final = reference(*map(wide, (q, k, v, g)))
    assert relative_error(np.concatenate(outputs, axis=2), out) < TOLERANCES[tl.f32]
    assert relative_error(state, final) < TOLERANCES[tl.f32]


@pytest.mark.parametrize("dtype", [tl.f16, tl.f32], ids=str)
def test_it_is_gated_linear_attention(dtype: tl.DType) -> None:
    """With the gate of a token for each of its elements."""
    q, k, v, g, initial = operands((1, 2, 130, 24, 40), dtype, 0)
    gates = np.broadcast_to(g[..., None], q.shape)
    found = scalar_gated_attention(q, k, v, g, initial, "cpu")
    for out, other in zip(found, gated.gated_linear_attention(q, k, v, gates, initial, "cpu"), strict=True):
        assert relative_error(out, wide(other)) <= 2 * TOLERANCES[dtype]


def test_retention() -> None:
    """It is that with constant gates, forward and backward."""
    q, k, v, g, initial = operands((1, 3, 140, 24, 40), tl.f32, 0)
    assert np.allclose(np.exp(-retention_slopes(3)), 1 - 2.0 ** -np.arange(5, 8))
    g[...] = -retention_slopes(3)[:, None]
    found = retention(q, k, v, initial, "cpu")
    for out, exact in zip(found, reference(*map(wide, (q, k, v, g, initial))), strict=True):
        assert relative_error(out, exact) <= TOLERANCES[tl.f32]
    do = np.random.default_rng(2).standard_normal(v.shape).astype(np.float32)
    *exact, _ = reference_backward(*map(wide, (q, k, v, g, do)))
    for name, out, best in zip(NAMES, retention_backward(q, k, v, do, "cpu"), exact, strict=False):
        assert relative_error(out, best) <= TOLERANCES[tl.f32], name


@pytest.mark.slow
@pytest.mark.parametrize("via", ["ptx", "cuda"])
@pytest.mark.parametrize(("d", "target"), [(d, target) for d in (32, 64, 128, 256) for target in (
    "sm_75", "sm_80", "sm_90a", "sm_120a") if d <= 128 or target != "sm_75"])
def test_no_spills(d: int, target: str, via: str) -> None:
    """With the tiles that the kernels choose."""
    for dtype in TOLERANCES if target != "sm_75" else [tl.f16]:
        for kernel, arrays in ((scalar_gated_outputs, "qkvo"), (scalar_gate_gradients, "qk")):
            for exact in (False, True) if kernel is scalar_gated_outputs else (False,):
                constants: dict[str, Any] = {"C": chunk_for(d, dtype.bits, exact), **dict.fromkeys(arrays, dtype)}
                constants |= {"o": tl.f32} if exact else {}
                compiled = kernel.compile(target, via, D=d, **constants)
                assert compiled.metadata["spill_stores"] == 0, (kernel.__name__, dtype)
