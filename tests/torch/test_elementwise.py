"""Elementwise rules: the numbers, types and shapes of ATen, on NaNs, infinities, signed zeros, integers and bools."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.torch.graphs import agree, torch

F = torch.nn.functional
NAN, INF = float("nan"), float("inf")
X = torch.tensor([NAN, INF, -INF, 0.0, -0.0, 1.0, -1.0, 0.3, -2.5, 2.5, 3.7, -3.7, 0.5, 100.0, -100.0, 7.0])
Y = torch.tensor([1.0, 2.0, NAN, 0.0, 3.0, -0.0, -2.0, 0.7, -2.0, 2.5, INF, -1.5, -0.5, 2.0, -3.0, -2.0])

FLOATS: dict[str, Callable[[Any, Any], list[Any]]] = {
    "functions": lambda x, y: [f(x) for f in (
        torch.cos, torch.sin, torch.tan, torch.exp, torch.expm1, torch.log, torch.log2, torch.log10, torch.log1p,
        torch.sqrt, torch.rsqrt, torch.reciprocal, torch.sigmoid, torch.tanh, torch.erf, torch.erfc, torch.exp2,
        torch.acos, torch.asin, torch.atan, torch.acosh, torch.asinh, torch.atanh, torch.sinh, torch.cosh)],
    "exact functions": lambda x, y: [f(x) for f in (
        torch.floor, torch.ceil, torch.round, torch.trunc, torch.isnan, torch.isinf, torch.isfinite, torch.abs,
        torch.neg, torch.sign, torch.logical_not, torch.square, torch.frac, torch.nan_to_num)],
    "activations": lambda x, y: [f(x) for f in (
        F.relu, F.silu, F.elu, F.selu, F.celu, F.leaky_relu, F.softplus, F.hardtanh, F.relu6, F.hardsigmoid,
        F.hardswish, F.mish, F.softsign, F.tanhshrink, F.hardshrink, F.softshrink, F.logsigmoid)] + [
        F.gelu(torch.where(x.isinf(), 2.0, x)),  # torch's is NaN there with AVX-512
        F.gelu(x, approximate="tanh"), F.threshold(x, 0.5, 2.0), F.hardtanh(x, -0.5, 3.0), F.elu(x, 1.7)],
    "arithmetic": lambda x, y: [
        x + y, x - y, x * y, x / y, torch.add(x, y, alpha=0.3), torch.sub(x, y, alpha=2), x + 1, 2 - x, x * 0.1, x / 3,
        torch.maximum(x, y), torch.minimum(x, y), torch.fmax(x, y), torch.fmin(x, y), torch.atan2(x, y),
        torch.copysign(x, y), torch.where(x > y, x, y), torch.lerp(x, y, 0.3), torch.addcmul(x, x, y, value=0.5)],
    "quotients": lambda x, y: [
        torch.div(x, y, rounding_mode="floor"), torch.div(x, y, rounding_mode="trunc"), torch.fmod(x, y),
        torch.remainder(x, y), x // 2, x % 3, torch.fmod(x, -2.0)],
    "powers": lambda x, y: [
        x**2, x**3, x**0.5, x**-1, x**-0.5, x**2.5, 2**x, torch.pow(x, y), x**0, x**7, x**1],
    "comparisons": lambda x, y: [
        x == y, x != y, x < y, x <= y, x > y, x >= y, x == 0.3, x < 0, x >= 1, torch.logical_and(x > 0, y),
        torch.logical_or(x > 0, y > 0), torch.logical_xor(x, y)],
    "limits": lambda x, y: [
        x.clamp(-1, 1), x.clamp(min=0), x.clamp(max=0.5), x.clamp(y, y + 1), x.clamp(min=y), x.clamp(2, -2),
        x.clamp(NAN)],
}


@pytest.mark.parametrize("family", FLOATS)
def test_floats(family: str) -> None:
    report = agree(FLOATS[family], X, Y)
    assert len(report.calls) == 1


def integers(x: Any, y: Any) -> list[Any]:
    return [
        x + y, x - y, x * y, x + 1, torch.maximum(x, y), x & y, x | y, x ^ y, ~x, x == y, x < 3, x // 3, x % 5,
        torch.fmod(x, 5), x / 2, x / y, x**2, x.clamp(2, 30), torch.abs(x), torch.sign(x), -x, x.float(), x.double(),
        x.bool(), x.to(torch.int8), x.to(torch.uint8), torch.relu(x), x * 0.5, x + 1.5, torch.exp(x * 0.01),
        torch.isnan(x), torch.floor(x), torch.where(x > 0, x, y), torch.where(x > 0, 1.0, 0.0), x.square()]


def signed(x: Any, y: Any) -> list[Any]:
    return [torch.div(x, -3, rounding_mode="trunc"), torch.div(x, -3, rounding_mode="floor"), x % -5,
            torch.fmod(x, -5), x.clamp(-3, 3)]


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.uint8], ids=str)
def test_integers(dtype: Any) -> None:
    x = torch.tensor([7, -7, 0, 3, -3, 100, -128, 1]).to(dtype)
    y = torch.tensor([2, -2, 5, -3, 3, 7, 3, -1]).to(dtype)
    agree(integers, x, y)
    if dtype != torch.uint8:
        agree(signed, x, y)


def test_bools() -> None:
    agree(lambda b, c: [
        b + c, b * c, b & c, b | c, b ^ c, ~b, b == c, b < c, torch.maximum(b, c), b.float(), b + 1, b * 2.5,
        torch.where(b, 1, 2), torch.logical_not(b), b.long()],
        torch.tensor([True, False, True, False]), torch.tensor([True, True, False, False]))


def test_types_that_meet() -> None:
    """A tensor of rank 0 and a number do not widen; numbers are rounded to 16 bits where they are compared only."""
    h = torch.tensor([0.1, 0.2, -0.3, 1000.0]).half()
    agree(lambda i, h, d, s: [
        h + i, h * 2, h + d, i * h, torch.maximum(h, i.half()), h == i, h < 0.1, h == 0.1, h * 0.1, h / 3, h.float(),
        d.float(), h.to(torch.bfloat16), h * s, i + s, i * 2.5, h.to(torch.uint8), (h * 1.001).bfloat16().float()],
        torch.arange(4), h, h.double() * 1.7, torch.tensor(2.5, dtype=torch.float64), tolerance=1e-3)


def test_divisions_of_integers_by_tensors_are_torchs() -> None:
    """They raise an error where a divisor is 0."""
    x = torch.tensor([7, -7]), torch.tensor([2, 3])
    agree(lambda x, y: [x // y, x % y, x + y], *x,
          expected=("aten.div.Tensor_mode", "aten.remainder.Tensor"))


def test_numbers_beyond_the_type_are_torchs() -> None:
    agree(lambda x: [x + 300, x + 3], torch.tensor([250, 3], dtype=torch.uint8), expected=("aten.add.Tensor",))


def test_rank_zero() -> None:
    agree(lambda x, z: [x * z, z + 1, z.half() * 2, z.double() + z, z.exp(), z > 3], torch.arange(3.0),
          torch.tensor(3.5), tolerance=1e-3)


def test_on_the_cpu() -> None:
    agree(FLOATS["activations"], torch.randn(3, 37), torch.randn(3, 37), engine=None)
