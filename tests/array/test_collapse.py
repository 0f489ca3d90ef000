"""Dimensions that become one in fused functions, and tiles that fit short ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tilus as tl
from kernels_zoo.fused.images import average, channels_last, instance_norm, relu
from tilus.ir.core import Operation
from tilus.ir.ops import CollapseView, Reduce
from tilus.ir.ops.memory import split_dims

ENGINES = ("interpret", "cpu", "simulate:sm_80:ptx", "simulate:sm_80:cuda")
SHAPES = ((3, 5, 7, 7), (2, 1, 3, 1), (1, 4, 9, 130), (4, 7, 1, 9), (2, 3, 0, 5))


@tl.fuse
def scale_channels(x, s):
    return tl.relu(x * s[:, None, None])


@tl.fuse
def statistics(x):
    return tl.mean(tl.mean(tl.mean(x, axis=3), axis=2), axis=0), tl.max(tl.max(x, axis=1), axis=1)


@tl.fuse
def inner_axes(x):
    return tl.sum(tl.sum(x, axis=1), axis=1)


@tl.fuse
def apart(x):
    return tl.sum(tl.sum(x, axis=1), axis=2), tl.max(tl.sum(x, axis=3), axis=2)


@tl.fuse
def numbered(x: tl.f32["A", "B", "C", 9]):
    return x + tl.arange(9).to(tl.f32)


def _normalised(x: Any) -> Any:
    with np.errstate(invalid="ignore"):
        d = x - x.mean((2, 3), keepdims=True)
        return d / np.sqrt((d * d).mean((2, 3), keepdims=True) + 1e-5)


REFERENCES: dict[str, tuple[Any, Any]] = {
    "relu": (relu, lambda x: np.maximum(x, 0)),
    "average": (average, lambda x: x.mean((2, 3))),
    "instance_norm": (instance_norm, _normalised),
    "channels_last": (channels_last, lambda x: x.transpose(0, 2, 3, 1)),
    "statistics": (statistics, lambda x: (x.mean((0, 2, 3)), x.max(1).max(1))),
    "inner_axes": (inner_axes, lambda x: x.sum((1, 2))),
    "apart": (apart, lambda x: (x.sum((1, 3)), x.sum(3).max(2))),
}


def _views(x: Any) -> list[Any]:
    """The array, backwards, with channels innermost, and every other row."""
    wide = np.zeros((x.shape[0], x.shape[1], 2 * x.shape[2], x.shape[3]), x.dtype)
    wide[:, :, ::2] = x
    return [x, x[::-1], np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2), wide[:, :, ::2]]


@pytest.mark.sweep(keep=3)
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", REFERENCES)
def test_against_numpy(name: str, engine: str) -> None:
    function, reference = REFERENCES[name]
    for shape in SHAPES[:3] if engine.startswith("simulate") else SHAPES:
        if 0 in shape and name in ("average", "instance_norm", "statistics", "apart"):
            continue  # means and extrema of nothing
        for x in _views(np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)):
            found, expected = function.on(engine)(x), reference(x.astype(np.float64))
            for got, wanted in zip(found, expected, strict=True) if isinstance(found, tuple) else [(found, expected)]:
                assert got.shape == wanted.shape
                np.testing.assert_allclose(got, wanted, rtol=2e-5, atol=2e-5 * np.abs(wanted).max(initial=0))


@pytest.mark.parametrize("engine", ENGINES)
def test_outputs_that_are_not_contiguous(engine: str) -> None:
    x = np.random.default_rng(0).standard_normal((3, 5, 4, 6)).astype(np.float32)
    wide = np.full((3, 5, 8, 6), -1, np.float32)
    relu.on(engine)(x, out=wide[:, :, ::2])
    np.testing.assert_array_equal(wide[:, :, ::2], np.maximum(x, 0))
    assert (wide[:, :, 1::2] == -1).all()


def _operations(function: Any, *arguments: Any) -> list[Operation]:
    """What the kernels of a call do."""
    called = tl.fuse(function.function)
    called.on("interpret")(*arguments)
    (program,) = called._programs.values()
    (kernel,) = [k for k in program.kernels.values() if k._specialisations]
    (specialisation,) = kernel._specialisations.values()
    return [op for k in specialisation.trace().kernels for op in k.walk()]


def _groups(function: Any, *arguments: Any) -> list[tuple[int, ...]]:
    """The groups of dimensions that the kernels of a call take as one."""
    return [op.groups for op in _operations(function, *arguments) if isinstance(op, CollapseView)]


def test_groups() -> None:
    x, s = np.ones((3, 5, 7, 9), np.float32), np.ones(5, np.float32)
    assert _groups(relu, x) == [(4,), (4,)]
    assert _groups(scale_channels, x, s) == [(1, 1, 2), (1, 1, 2)]
    assert _groups(average, x) == [(2, 2), (2,)]
    assert _groups(instance_norm, x) == [(2, 2), (2, 2)]
    assert _groups(channels_last, x) == [(1, 1, 2), (1, 2, 1)]
    assert _groups(inner_axes, x) == [(1, 2, 1)]
    assert _groups(apart, x) == []
    assert _groups(numbered, x) == [(3, 1), (3, 1)]
    assert _groups(relu, x[:, ::2]) == []


def test_nested_means_are_one_reduction() -> None:
    operations = _operations(instance_norm, np.ones((3, 5, 7, 9), np.float32))
    assert sum(isinstance(op, Reduce) for op in operations) == 2


def test_tiles_fit_short_dimensions() -> None:
    """One specialisation for all extents up to a power of two."""
    function = tl.fuse(channels_last.function)
    for shape in ((2, 3, 5, 5), (9, 3, 5, 5), (2, 4, 4, 7), (2, 3, 40, 40)):
        x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
        np.testing.assert_array_equal(function.on("cpu")(x), x.transpose(0, 2, 3, 1))
    (program,) = function._programs.values()
    assert [dict(k) for k in program.kernels if k] == [{"x_1": 4, "x_2*x_3": 32}, {"x_1": 4}]


@pytest.mark.parametrize("engine", ENGINES[:3])
@pytest.mark.parametrize("columns", [5, 1024, 1500])
def test_extrema_of_nothing_but_nan(columns: int, engine: str) -> None:
    """NaNs are passed over unless there is nothing else, whatever tiles a row takes."""
    @tl.fuse
    def extrema(x):
        return tl.max(x, axis=1), tl.min(x, axis=1), tl.max(x, axis=0)

    x = np.random.default_rng(0).standard_normal((4, columns)).astype(np.float32)
    x[1] = np.nan
    x[:, 2] = np.nan
    x[3] = -np.inf
    x[3, 2] = np.nan
    largest, least, down = extrema.on(engine)(x)
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(largest, np.fmax.reduce(x, axis=1))
        np.testing.assert_array_equal(least, np.fmin.reduce(x, axis=1))
        np.testing.assert_array_equal(down, np.fmax.reduce(x, axis=0))


def test_split_dims() -> None:
    assert split_dims("abcd", (1, 3)) == [("a",), ("b", "c", "d")]
