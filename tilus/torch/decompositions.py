"""What operators are made of before graphs are divided: torch's decompositions to the core operators, and ours."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import torch
from torch._decomp import core_aten_decompositions, get_decompositions
from torch._prims_common import suggest_memory_format

from tilus.torch.layers import layers
from tilus.torch.random_numbers import DECOMPOSITIONS

aten = torch.ops.aten
_MORE = (aten.repeat, aten._adaptive_avg_pool2d, aten.upsample_bilinear2d, aten.grid_sampler_2d)
"""Operators that torch can do by core operators, though its table leaves them whole."""


def group_norm(x: Any, weight: Any, bias: Any, n: Any, channels: Any, size: Any, groups: int, eps: float) -> Any:
    """Groups of several channels as a dimension of their own, in which all is done: only the result has the shape of
    the argument again. One group, or groups of one channel, need no other shape and stay."""
    if groups in (1, channels):
        return NotImplemented
    wide = torch.float64 if x.dtype == torch.float64 else torch.float32
    parts = x.to(wide).reshape(n, groups, channels // groups, size)
    variance, mean = torch.var_mean(parts, [2, 3], correction=0, keepdim=True)
    rstd = torch.rsqrt(variance + eps)
    out = (parts - mean) * rstd
    if weight is not None:
        out = out * weight.view(1, groups, channels // groups, 1)
    if bias is not None:
        out = out + bias.view(1, groups, channels // groups, 1)
    out = out.to(x.dtype).view(x.shape).contiguous(memory_format=suggest_memory_format(x))
    return out, mean.view(n, groups).to(x.dtype), rstd.view(n, groups).to(x.dtype)


def copy(x: Any, source: Any, non_blocking: bool = False) -> Any:
    """What ``x`` is after it has been written over."""
    return source.to(x.dtype).expand(x.shape).clone()


def empty(size: Any, *, dtype: Any = None, layout: Any = None, device: Any = None, pin_memory: Any = None,
          memory_format: Any = None) -> Any:
    """What nobody has written yet may be anything; as zeros it needs no memory where all of it is written later."""
    if layout not in (None, torch.strided) or memory_format not in (None, torch.contiguous_format) or pin_memory:
        return NotImplemented
    return torch.full(size, 0, dtype=dtype or torch.get_default_dtype(), device=device)


def distances(x: Any, y: Any, p: float, mode: Any = None) -> Any:
    """Between all rows of two batches, from differences: near rows are as exact as far ones."""
    apart = (x.unsqueeze(-2) - y.unsqueeze(-3)).abs()
    if p == 0:
        return (apart != 0).to(x.dtype).sum(-1)
    if p == math.inf:
        return apart.amax(-1) if x.shape[-1] else apart.sum(-1)
    if p == 1:
        return apart.sum(-1)
    return (apart * apart).sum(-1).sqrt() if p == 2 else apart.pow(p).sum(-1).pow(1 / p)


OURS = {aten.native_group_norm.default: group_norm, aten.copy.default: copy, aten.empty.memory_format: empty,
        aten._cdist_forward.default: distances}


@functools.cache
def decompositions(fallback_random: bool = False) -> dict[Any, Callable[..., Any]]:
    """By operator. Attention is one operator here, so that its parts stay together; random numbers are torch's own
    where ``fallback_random``."""
    found = {op: function for op, function in core_aten_decompositions().items()
             if "scaled_dot_product" not in str(op)}
    ours = {} if fallback_random else DECOMPOSITIONS
    return {**found, **get_decompositions(_MORE), **OURS, **layers(), **ours}


__all__ = ["decompositions"]
