"""The gradients of attention: against the definition, central differences and plain 16-bit attention."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tilus as tl
from kernels_zoo.attention import flash_attention
from kernels_zoo.attention.flash_attention_backward import (
    BOTH_SUMS,
    CASES,
    SHAPES,
    attention_backward_keys,
    attention_backward_queries,
    flash_attention_backward,
    operands,
    reference,
)
from kernels_zoo.attention.forms import Form
from kernels_zoo.checking import Array, relative_error, run, wide
from tests.zoo.turns import ROUTES, by_turns

NAMES = ("dq", "dk", "dv")
RAGGED = (1, 65, 191, 2, 2, 59)


@pytest.mark.sweep(keep=2)
@pytest.mark.parametrize("engine", ["interpret", "cpu", "python"])
@pytest.mark.parametrize(("index", "causal"), by_turns(range(len(CASES)), [False, True]))
def test_kernels(index: int, causal: bool, engine: str) -> None:
    kernel, make = CASES[index]
    shapes = SHAPES if engine != "python" else SHAPES[:1]
    for shape in shapes:
        for dtype in (tl.f16, tl.bf16, tl.f32):
            case = make(shape, dtype, causal=causal)
            assert run(kernel, case, engine) <= case.tolerance, (shape, dtype)


@pytest.mark.sweep(keep=2)
@pytest.mark.parametrize(("index", "engine"), by_turns(range(len(CASES)), ROUTES))
def test_simulated(index: int, engine: str) -> None:
    """Fewer queries than keys, two heads a group, a tile and a bit; a head dimension that is no multiple of 16."""
    kernel, make = CASES[index]
    for shape in ((1, 65, 129, 2, 1, 32), (1, 70, 66, 1, 1, 59)):
        case = make(shape, tl.f16, causal=True)
        assert run(kernel, case, engine) <= case.tolerance, shape


def gradients(shape: tuple[int, ...], dtype: tl.DType, causal: bool, engine: str = "cpu",
              seed: int = 0) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
    """What the function gives, and the definition in f64."""
    q, k, v, o, lse, do = operands(shape, dtype, seed, causal)
    found = flash_attention_backward(q, k, v, o, lse, do, Form(causal=causal), engine=engine)
    return found, reference(*(wide(x) for x in (q, k, v, do)), causal)


@pytest.mark.sweep
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("shape", [s for s in SHAPES if all(s)], ids=str)
def test_the_three_together(shape: tuple[int, ...], causal: bool) -> None:
    for name, out, exact in zip(NAMES, *gradients(shape, tl.f32, causal), strict=True):
        assert relative_error(out, exact) < 3e-6, name


@pytest.mark.parametrize("causal", [False, True])
def test_after_the_forward_kernel(causal: bool) -> None:
    """With the output and log-sum-exp that the forward kernel gives."""
    case = flash_attention.case(RAGGED, tl.f32, causal=causal)
    q, k, v, o, lse = case.arguments
    run(flash_attention.flash_attention_forward, case, "cpu")
    do = np.random.default_rng(1).standard_normal(o.shape).astype(np.float32)
    found = flash_attention_backward(q, k, v, o, lse, do, Form(causal=causal), engine="cpu")
    for name, out, exact in zip(NAMES, found, reference(*map(wide, (q, k, v, do)), causal), strict=True):
        assert relative_error(out, exact) < 3e-6, name


@pytest.mark.parametrize("causal", [False, True])
def test_central_differences(causal: bool) -> None:
    """Of f(q, k, v) = sum(do ⊙ attention(q, k, v)) in f64, for the definition and for the kernels in f32."""
    shape = (1, 4, 5, 2, 1, 16)
    q, k, v, o, lse, do = operands(shape, tl.f32, 0, causal)
    arrays = [wide(x) for x in (q, k, v)]

    def value() -> float:
        return float(np.sum(wide(do) * flash_attention.reference(*arrays, causal)[0]))

    found = flash_attention_backward(q, k, v, o, lse, do, Form(causal=causal), engine="cpu")
    for name, array, out, exact in zip(NAMES, arrays, found, reference(*arrays, wide(do), causal), strict=True):
        slope = np.empty_like(array)
        for at in np.ndindex(array.shape):
            kept, step = array[at], 1e-5
            array[at] = kept + step
            above = value()
            array[at] = kept - step
            slope[at] = (above - value()) / (2 * step)
            array[at] = kept
        assert relative_error(exact, slope) < 1e-8, name
        assert relative_error(out, slope) < 3e-6, name


def plain(q: Array, k: Array, v: Array, do: Array, **meaning: Any) -> tuple[Array, ...]:
    """The gradients as a framework computes them: matrices in 16 bits, products summed in f32."""
    kind, f32 = q.dtype, np.float32
    repeats, edit, slope = q.shape[2] // k.shape[2], meaning.get("edit"), meaning.get("slope")
    q32, k32, v32, do32 = (np.moveaxis(x, 1, 2).astype(f32) for x in (q, k, v, do))
    k32, v32 = (np.repeat(x, repeats, axis=1) for x in (k32, v32))

    def rounded(x: Array) -> Array:
        return x.astype(kind).astype(f32)

    scale = f32(q.shape[3] ** -0.5)
    products = rounded(q32 @ k32.swapaxes(2, 3)) * scale
    s = products if edit is None else rounded(edit(products))
    seen = meaning.get("seen")
    s = s if seen is None else np.where(seen, s, -np.inf)
    top = s.max(3, keepdims=True, initial=-1e30)
    sinks = meaning.get("sinks", np.array([-np.inf]))[:, None, None]
    top = np.maximum(top, sinks)
    e = np.exp(s - top)
    total = e.sum(3, keepdims=True) + np.exp(sinks - top)
    p = rounded(e / np.where(total > 0, total, 1))
    weights = meaning.get("weights", f32(1))
    dp = rounded(do32 @ v32.swapaxes(2, 3)) * weights
    ds = p * (dp - (dp * p).sum(3, keepdims=True)) * scale
    ds = rounded(ds if slope is None else ds * slope(products))
    dk, dv = ds.swapaxes(2, 3) @ q32, rounded(p * weights).swapaxes(2, 3) @ do32
    dk, dv = (x.reshape(x.shape[0], k.shape[2], repeats, *x.shape[2:]).sum(2) for x in (dk, dv))
    return tuple(np.moveaxis(x.astype(kind), 2, 1) for x in (ds @ k32, dk, dv))


def as_exact_as_plain(found: tuple[Array, ...], q: Array, k: Array, v: Array, do: Array, **meaning: Any) -> None:
    """No element is further off than three times the worst one of plain 16-bit attention. Where rows see one key, dS is
    0: dP less Δ, which is the product with an output that has been rounded."""
    exact = reference(*map(wide, (q, k, v, do)), **meaning)
    for name, out, other, best in zip(NAMES, found, plain(q, k, v, do, **meaning), exact, strict=True):
        cancels = np.abs(best).max(initial=0) < 1e-12
        allowed = 2.0**-4 if cancels else 3 * np.abs(wide(other) - best).max(initial=0)
        assert np.abs(wide(out) - best).max(initial=0) <= allowed, name


@pytest.mark.sweep(keep=2)
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("dtype", [tl.f16, tl.bf16], ids=str)
@pytest.mark.parametrize("engine", ["cpu", "simulate:sm_80"])
def test_as_exact_as_plain_attention(engine: str, dtype: tl.DType, causal: bool) -> None:
    shape = (1, 96, 96, 1, 1, 64) if engine != "cpu" else (2, 200, 200, 2, 2, 64)
    q, k, v, o, lse, do = operands(shape, dtype, 3, causal)
    found = flash_attention_backward(q, k, v, o, lse, do, Form(causal=causal), engine=engine)
    seen = np.tri(shape[1], dtype=bool) if causal else None
    as_exact_as_plain(found, q, k, v, do, seen=seen)


@pytest.mark.parametrize("engine", ["interpret", "cpu", "simulate:sm_80"])
def test_rows_without_a_key(engine: str) -> None:
    """With more queries than keys the first ones see none: their gradient is 0, and they add nothing to the keys'."""
    shape = (1, 70, 6, 1, 1, 16)
    (dq, dk, dv), exact = gradients(shape, tl.f16, True, engine)
    assert np.array_equal(dq[:, :64], np.zeros_like(dq[:, :64]))
    for out, best in zip((dq, dk, dv), exact, strict=True):
        assert relative_error(out, best) < 2e-3


@pytest.mark.parametrize("engine", ["cpu", "simulate:sm_80"])
def test_the_same_bits_every_time(engine: str) -> None:
    runs = [gradients((1, 130, 70, 4, 1, 16), tl.f16, True, engine)[0] for _ in range(2)]
    for one, other in zip(*runs, strict=True):
        assert one.tobytes() == other.tobytes()


@pytest.mark.parametrize(("shape", "zero"), [((0, 8, 8, 1, 1, 64), ()), ((1, 5, 0, 1, 1, 64), (0,)),
                                             ((1, 0, 5, 1, 1, 64), (1, 2))], ids=str)
def test_empty(shape: tuple[int, ...], zero: tuple[int, ...]) -> None:
    """Sums of nothing are 0."""
    found: Any = gradients(shape, tl.f32, False)[0]
    assert all(not found[i].any() for i in zero)


@pytest.mark.sweep(keep=2)
@pytest.mark.parametrize("dtype", [tl.f16, tl.f32], ids=str)
@pytest.mark.parametrize("head_dim", [40, 111, 256])
def test_head_dimensions(head_dim: int, dtype: tl.DType) -> None:
    """The longest ones by a kernel for dk and one for dv."""
    found, exact = gradients((1, 33, 47, 2, 1, head_dim), dtype, True)
    for name, out, best in zip(NAMES, found, exact, strict=True):
        assert relative_error(out, best) < (2e-3 if dtype is tl.f16 else 3e-6), name


@pytest.mark.parametrize("engine", ["simulate:sm_80", "simulate:sm_120a:cuda"])
def test_long_rows_simulated(engine: str) -> None:
    found, exact = gradients((1, 17, 35, 1, 1, 256), tl.bf16, True, engine)
    for name, out, best in zip(NAMES, found, exact, strict=True):
        assert relative_error(out, best) < 1e-2, name


@pytest.mark.slow
@pytest.mark.parametrize("via", ["ptx", "cuda"])
@pytest.mark.parametrize("target", ["sm_75", "sm_80", "sm_86", "sm_90a", "sm_100a", "sm_120a"])
@pytest.mark.parametrize("head_dim", [32, 59, 64, 80, 128, 224, 256])
def test_no_spills(head_dim: int, target: str, via: str) -> None:
    """With the tiles that the kernels choose."""
    check_spills(head_dim, target, via, (tl.f16, tl.bf16))


@pytest.mark.parametrize(("head_dim", "target", "dtype"), [(128, "sm_75", tl.f16), (256, "sm_86", tl.f32)], ids=str)
def test_fits(head_dim: int, target: str, dtype: tl.DType) -> None:
    check_spills(head_dim, target, "ptx", (dtype,))


def check_spills(head_dim: int, target: str, via: str, dtypes: tuple[tl.DType, ...]) -> None:
    sums = [{}] if head_dim <= BOTH_SUMS else [{"dk": None}, {"dv": None}]
    for dtype in dtypes:
        for causal in (False, True):
            constants: dict[str, Any] = {"D": head_dim, "causal": causal, **dict.fromkeys(("q", "k", "v", "do"), dtype)}
            outputs: list[dict[str, Any]] = [{"dk": dtype, "dv": dtype, **left_out} for left_out in sums]
            found = [attention_backward_keys.compile(target, via, group=1, **constants, **some) for some in outputs]
            found.append(attention_backward_queries.compile(target, via, **constants, dq=dtype))
            assert [compiled.metadata["spill_stores"] for compiled in found] == [0] * len(found), (dtype, causal)
