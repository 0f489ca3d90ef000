"""Whole numbers: shifts, divisions, places among boundaries; and functions that others are made of."""

from __future__ import annotations

import pytest

from tests.torch.graphs import agree, compiled, left, torch

F = torch.nn.functional


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64, torch.uint8, torch.int8], ids=str)
def test_shifts(dtype: torch.dtype) -> None:
    x = torch.randint(-100 if dtype.is_signed else 0, 100, (40,)).to(dtype)
    y = torch.randint(-3 if dtype.is_signed else 0, 70, (40,)).to(dtype)
    agree(lambda x, y: [x << y, x >> y, x << 3, x >> 1, x.__lshift__(2), 5 << y], x, y)
    agree(lambda x, y: [x & y, x | 3, x ^ y, ~x, (x > y) & (y > 3), (x > y) ^ (y > 3)], x, y)


def test_a_division_that_may_raise_is_torchs() -> None:
    x, y = torch.tensor([7, -7, 5]), torch.tensor([2, 2, -3])
    (got, rest), report = compiled(lambda x, y: [x // y + 1, x % y * 2], x, y)
    assert torch.equal(got, x // y + 1)
    assert torch.equal(rest, x % y * 2)
    assert left(report) == ["aten.div.Tensor_mode", "aten.remainder.Tensor"]
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        compiled(lambda x, y: [x // y], x, y * 0)
    agree(lambda x: [x // 3, x % -3, 7 % x.double(), torch.fmod(x, 4)], x)


def test_boundaries() -> None:
    x, limits = torch.randn(5, 30), torch.tensor([-1.0, 0.0, 0.0, 0.5, 2.0])
    x[0, :3] = torch.tensor([0.0, float("nan"), 0.5])
    agree(lambda x, b: [torch.bucketize(x, b), torch.bucketize(x, b, right=True, out_int32=True)], x, limits)
    agree(lambda x, b: [torch.searchsorted(b, x), torch.searchsorted(b, x, right=True)], x, limits)


def test_extrema_and_their_places() -> None:
    x = torch.randint(-9, 9, (5, 40)).float()
    agree(lambda x: [*x.max(1), *x.min(0), *x.max(1, keepdim=True), *x.cummax(1), *x.cummin(0)], x)
    x[1, 7], x[3, 0] = float("nan"), float("nan")
    agree(lambda x: [*x.max(1), *x.min(1), *x.cummax(1), *x.cummin(1)], x)
    agree(lambda x: [*x.long().max(1), *x.long().cummax(1)], torch.randint(-9, 9, (5, 40)))


def test_functions_of_others() -> None:
    x, y = torch.randn(50) * 1e20, torch.randn(50) * 1e20
    x[:4], y[:4] = torch.tensor([0, float("inf"), float("nan"), 0]), torch.tensor([0, float("nan"), 1, -3.0])
    agree(lambda x, y: [torch.hypot(x, y), torch.ldexp(x, (y > 0) * 3)], x, y)


def test_images() -> None:
    x = torch.randn(2, 3, 6, 5)
    agree(lambda x: [F.interpolate(x, scale_factor=2, mode="nearest") * 2,
                     F.interpolate(x, (9, 7), mode="bilinear") + 1], x)
    agree(lambda x: [F.grid_sample(x, torch.linspace(-1.2, 1.2, 2 * 4 * 4 * 2).reshape(2, 4, 4, 2),
                                   align_corners=False)], x)
    agree(lambda x: [torch.ops.aten._adaptive_avg_pool2d_backward(x[:, :, :2, :1].exp(), x) + 1], x)
