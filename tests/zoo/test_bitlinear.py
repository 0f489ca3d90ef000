"""BitLinear, products of int8, int4 and fp8 whose activations are quantised on the way, shifts and adds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tilus as tl
from kernels_zoo.checking import empty, normal, relative_error, run, wide
from kernels_zoo.quantized import bitlinear, scaled, shift_add
from tests.zoo.turns import ROUTES, by_turns

ENGINES = ["interpret", "cpu", *ROUTES]
SMALL = [(5, 40, 250), (7, 1, 64), (0, 5, 3), (3, 7, 1)]


@pytest.mark.sweep(keep=4)
@pytest.mark.parametrize(("dtype", "engine"), by_turns([tl.f32, tl.f16, tl.bf16], ENGINES, 3))
@pytest.mark.parametrize("five", [False, True])
def test_bitlinear(five: bool, dtype: tl.DType, engine: str) -> None:
    for shape in SMALL[:2] if ":" in engine else SMALL:
        case = bitlinear.case(shape, dtype, five=five)
        assert run(bitlinear.bitlinear, case, engine) <= case.tolerance, shape


def test_all_bytes_of_five() -> None:
    digits = np.stack([np.arange(243) // 3**place % 3 for place in range(4, -1, -1)]).astype(np.uint8)
    rows = np.ones((160, 243), np.uint8)
    rows[::32] = digits
    byte = bitlinear.fives(rows)[0].astype(int)
    for place in range(5):
        byte *= 3
        np.testing.assert_array_equal(byte >> 8, digits[place])
        byte &= 255


@pytest.mark.sweep(keep=2)
@pytest.mark.parametrize("engine", ["cpu", "simulate:sm_80"])
@pytest.mark.parametrize("m", [5, 40])
def test_forward_and_backward(m: int, engine: str) -> None:
    rng = np.random.default_rng(0)
    k, n = 130, 70
    w, x, dy = (rng.standard_normal(shape).astype(np.float32) for shape in ((k, n), (m, k), (m, n)))
    gain = rng.uniform(0.5, 1.5, k).astype(np.float32)
    weights, y, factors = bitlinear.Weights(w), empty((m, n), tl.f32), empty((m, 2), tl.f32)
    du, dx, dw = empty((m, k), tl.f32), empty((m, k), tl.f32), empty((k, n), tl.f32)
    with tl.engine(engine):
        bitlinear.forward(x, weights, y, gain, factors)
        bitlinear.backward(x, weights, dy, factors, du, dx, dw, gain)
    expected, xq, wq = bitlinear.reference(wide(x), wide(w), wide(gain))
    assert relative_error(y, expected) <= 1e-6
    assert relative_error(dw, xq.T @ wide(dy)) <= 1e-6
    # RMSNorm's derivative, by a difference quotient along a direction
    g, step = wide(dy) @ wq.T, 1e-6
    along = rng.standard_normal((m, k))

    def norm(z: Any) -> Any:
        return wide(gain) * z / np.sqrt((z * z).mean(axis=1, keepdims=True) + 1e-8)

    slope = ((norm(wide(x) + step * along) - norm(wide(x) - step * along)) / (2 * step) * g).sum(axis=1)
    np.testing.assert_allclose((wide(dx) * along).sum(axis=1), slope, rtol=2e-4, atol=1e-3)


TYPES = [(tl.i8, tl.i8), (tl.i4, tl.i4), (tl.i8, tl.i4), (tl.f8e4m3fn, tl.f8e4m3fn), (tl.f8e4m3fn, tl.f8e5m2)]


@pytest.mark.sweep(keep=4)
@pytest.mark.parametrize(("types", "engine"), by_turns(TYPES, ENGINES))
def test_scaled(types: tuple[tl.DType, tl.DType], engine: str) -> None:
    for shape in SMALL[:2] if ":" in engine else SMALL:
        case = scaled.case(shape, tl.f16, wtype=types[1], xtype=types[0])
        assert run(scaled.scaled_matmul, case, engine) <= case.tolerance, shape


@pytest.mark.sweep(keep=5)
@pytest.mark.parametrize(("dtype", "engine"), by_turns(
    [tl.i8, tl.i4, tl.f8e4m3fn], ["cpu", "interpret", *ROUTES, "simulate:sm_120a:ptx"], 3))
def test_quantised_operands(dtype: tl.DType, engine: str) -> None:
    rng = np.random.default_rng(0)
    x, w = (rng.standard_normal(shape).astype(np.float32) for shape in ((37, 100), (100, 72)))
    rows = tl.quantize(x, dtype, axis=1, scale_dtype=tl.f32)
    weights, y = scaled.Weights(w, dtype), empty((37, 72), tl.f32)
    bias = normal(rng, (72,), tl.f32)
    codes = rows.values if dtype is tl.i4 else rows.values.argument.array
    scaled.quantised_matmul.on(engine)(codes, weights.w, rows.scales.reshape(-1), weights.scales, y, bias, xtype=dtype,
                                       wtype=dtype)
    expected = wide(tl.dequantize(rows)) @ wide(tl.dequantize(weights.numbers)) + wide(bias)
    assert relative_error(y, expected) <= 1e-6


def test_many_rows() -> None:
    rng = np.random.default_rng(0)
    x, y = normal(rng, (70, 96), tl.f32), empty((70, 40), tl.f32)
    weights = scaled.Weights(rng.standard_normal((96, 40)).astype(np.float32), tl.i8)
    scaled.multiply(x, weights, y)
    expected = scaled.quantised_rows(wide(x), tl.i8) @ wide(tl.dequantize(weights.numbers))
    assert relative_error(y, expected) <= 1e-5


@pytest.mark.parametrize("engine", ENGINES)
def test_shifts_and_adds(engine: str) -> None:
    for shape in shift_add.SHAPES[2:4]:
        case = shift_add.case(shape)
        assert run(shift_add.shift_matmul, case, engine) <= case.tolerance
    for shape in shift_add.ADD_SHAPES[:4]:
        case = shift_add.add_case(shape, tl.f16)
        assert run(shift_add.add_matmul, case, engine) <= case.tolerance


@pytest.mark.parametrize("engine", ["interpret", "cpu", "simulate:sm_80"])
def test_shifts_of_integers_are_exact(engine: str) -> None:
    rng = np.random.default_rng(0)
    x = rng.integers(-(2**31), 2**31, (9, 20)).astype(np.int32)
    sign, shift = rng.integers(-1, 2, (20, 33)).astype(np.int8), rng.integers(-31, 32, (20, 33)).astype(np.int8)
    y = np.zeros((9, 33), np.int32)
    shift_add.shift_matmul.on(engine)(x, sign, shift, y)
    np.testing.assert_array_equal(y, shift_add.reference(x, sign, shift))


def test_shapes_of_the_paper() -> None:
    case, added = shift_add.case(shift_add.PAPER), shift_add.add_case(shift_add.ADD_PAPER)
    assert run(shift_add.shift_matmul, case, "cpu") <= case.tolerance
    assert run(shift_add.add_matmul, added, "cpu") <= added.tolerance


@pytest.mark.parametrize("engine", ["cpu", "simulate:sm_80"])
def test_gradients_of_shifts_and_adds(engine: str) -> None:
    """Products with what is transposed in memory."""
    x, sign, shift, _ = shift_add.case((9, 20, 33)).arguments
    dx, dy = empty((9, 33), tl.f32), normal(np.random.default_rng(1), (9, 20), tl.f32)
    mask, v, _ = shift_add.add_case((2, 7, 12, 5)).arguments
    dv, dz = empty(v.shape, tl.f32), normal(np.random.default_rng(1), (2, 7, 12), tl.f32)
    with tl.engine(engine):
        shift_add.input_gradient(dy, sign, shift, dx)
        shift_add.add_gradient(mask, dz, dv)
    assert dx.shape == x.shape
    assert relative_error(dx, wide(dy) @ (wide(sign) * np.exp2(-wide(shift))).T) <= 1e-3  # fixed point is cut off
    assert relative_error(dv, np.einsum("bkm,bmn->bkn", mask > 0, wide(dz))) <= 1e-6


def test_powers_of_two() -> None:
    w = np.array([0, 1, -1, 0.5, 3, -0.3, 1e-30, 1e30])
    sign, shift = shift_add.powers_of_two(w)
    assert sign.tolist() == [0, 1, -1, 1, 1, -1, 1, 1]
    assert shift.tolist() == [0, 0, 0, 1, -2, 2, 31, -31]


def test_mistakes() -> None:
    weights = bitlinear.Weights(np.ones((64, 8), np.float32))
    with pytest.raises(tl.UserError, match="weights have other than K rows"):
        bitlinear.bitlinear.on("cpu")(np.ones((3, 63), np.float32), weights.w, np.ones((3, 8), np.float32), 1.0)
    case = scaled.case((3, 8, 64), wtype=tl.f8e4m3fn, xtype=tl.f8e4m3fn)
    with pytest.raises(tl.UserError, match="integers are multiplied with integers"):
        scaled.scaled_matmul.on("cpu")(*case.arguments, **{**case.constants, "xtype": tl.i8})
