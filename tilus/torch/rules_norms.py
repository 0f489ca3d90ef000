"""Softmaxes and normalisations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tilus.lang.builtins import reduction
from tilus.lang.builtins.functions import FUNCTIONS
from tilus.lang.values import Tile
from tilus.torch.node import Call, convert
from tilus.torch.registry import Refused, rule
from tilus.torch.rules_reductions import count_of, reduced, total, variance, wide, without


def _shifted(x: Tile, dim: int) -> tuple[Tile, list[int]]:
    """Less the greatest of each row. A NaN makes the sum over its row one, so that the maximum may pass it over."""
    if not x.shape:
        return x - x, []
    axes = [dim % len(x.shape)]
    return x - reduced(reduction.max, x, axes), axes


@rule("_softmax")
def softmax(call: Call, x: Tile, dim: int, half_to_float: bool) -> Tile:
    shifted, axes = _shifted(convert(x, wide(x.dtype)), dim)
    weights = FUNCTIONS["exp"](shifted)
    return weights / total(weights, axes)


@rule("_log_softmax")
def log_softmax(call: Call, x: Tile, dim: int, half_to_float: bool) -> Tile:
    shifted, axes = _shifted(convert(x, wide(x.dtype)), dim)
    return shifted - FUNCTIONS["log"](total(FUNCTIONS["exp"](shifted), axes))


def normalised(x: Tile, axes: Sequence[int], eps: float) -> tuple[Tile, Tile, Tile]:
    """The elements less their mean, by their deviation; that mean; 1 / the deviation."""
    found, mean = variance(x, axes)
    rstd = FUNCTIONS["rsqrt"](found + eps)
    return (x - mean) * rstd, mean, rstd


@rule("native_layer_norm")
def layer_norm(call: Call, x: Tile, shape: Any, weight: Tile | None, bias: Tile | None, eps: float) -> tuple[Tile, ...]:
    rank = len(x.shape)
    axes = range(rank - len(shape), rank)
    wide_type = wide(x.dtype)
    out, mean, rstd = normalised(convert(x, wide_type), axes, eps)
    return _affine(out, _wide(weight), _wide(bias)), mean, rstd


def _wide(x: Tile | None) -> Tile | None:
    return None if x is None else convert(x, wide(x.dtype))


def _affine(x: Tile, weight: Tile | None, bias: Tile | None) -> Tile:
    if weight is not None:
        x = x * weight
    return x if bias is None else x + bias


def _channels(x: Tile | None, rank: int) -> Tile | None:
    """A vector over the second dimension."""
    return None if x is None else _wide(x.reshape(1, x.shape[0], *[1] * (rank - 2)))


@rule("native_group_norm")
def group_norm(call: Call, x: Tile, weight: Tile | None, bias: Tile | None, n: Any, c: Any, size: Any, groups: int,
               eps: float) -> tuple[Tile, ...]:
    rank = len(x.shape)
    channels = call.metas[0].shape[1]
    if groups == 1:
        axes = range(1, rank)
    elif groups == channels:
        axes = range(2, rank)
    else:
        raise Refused("groups of several channels, which split a dimension")
    out, mean, rstd = normalised(convert(x, wide(x.dtype)), axes, eps)
    stats = [without(s, range(2, rank), False) for s in (mean, rstd)]
    return _affine(out, _channels(weight, rank), _channels(bias, rank)), *stats


@rule("_native_batch_norm_legit_no_training")
def batch_norm_inference(call: Call, x: Tile, weight: Tile | None, bias: Tile | None, mean: Tile, var: Tile,
                         momentum: float, eps: float) -> tuple[Tile, None, None]:
    if call.uses(1) or call.uses(2):
        raise Refused("the empty statistics of a batch norm in evaluation")
    rank = len(x.shape)
    scale = FUNCTIONS["rsqrt"](_known(_channels(var, rank)) + eps)
    out = (convert(x, wide(x.dtype)) - _known(_channels(mean, rank))) * scale
    return _affine(out, _channels(weight, rank), _channels(bias, rank)), None, None


def _known(x: Tile | None) -> Tile:
    assert x is not None
    return x


def _batch_statistics(call: Call, x: Tile, weight: Tile | None, bias: Tile | None, eps: float) -> tuple[Tile, ...]:
    """The normalised tensor, the mean and 1 / the deviation of each channel, and the variance."""
    rank = len(x.shape)
    axes = [d for d in range(rank) if d != 1]
    wide_x = convert(x, wide(x.dtype))
    found, mean = variance(wide_x, axes)
    rstd = FUNCTIONS["rsqrt"](found + eps)
    out = _affine((wide_x - mean) * rstd, _channels(weight, rank), _channels(bias, rank))
    return out, *(without(s, axes, False) for s in (mean, rstd, found))


@rule("_native_batch_norm_legit.no_stats")
def batch_norm_of_batch(call: Call, x: Tile, weight: Tile | None, bias: Tile | None, training: bool, momentum: float,
                        eps: float) -> tuple[Tile, ...]:
    return _batch_statistics(call, x, weight, bias, eps)[:3]


@rule("_native_batch_norm_legit_functional")
def batch_norm_training(call: Call, x: Tile, weight: Tile | None, bias: Tile | None, mean: Tile, var: Tile,
                        training: bool, momentum: float, eps: float) -> tuple[Any, ...]:
    if not training:
        return *batch_norm_inference(call, x, weight, bias, mean, var, momentum, eps), mean, var
    out, batch_mean, rstd, batch_var = _batch_statistics(call, x, weight, bias, eps)
    count = count_of(x, [d for d in range(len(x.shape)) if d != 1], batch_var.dtype)
    unbiased = batch_var * (count / (count - 1.0))
    return (out, batch_mean, rstd, _moved(mean, batch_mean, momentum), _moved(var, unbiased, momentum))


def _moved(old: Tile, new: Tile, momentum: float) -> Tile:
    return _known(_wide(old)) * (1.0 - momentum) + new * momentum
