"""What the networks of :mod:`benchmarks.torch_suite` are made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def Seq(*layers: nn.Module) -> nn.Sequential:
    return nn.Sequential(*layers)


class Residual(nn.Module):
    """x + f(x), or what ``join`` makes of both."""

    def __init__(self, *layers: nn.Module, join: Callable[[Tensor, Tensor], Tensor] = torch.add,
                 short: nn.Module | None = None) -> None:
        super().__init__()
        self.layers, self.join, self.short = Seq(*layers), join, short or nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.join(self.short(x), self.layers(x))


class Branches(nn.Module):
    """The results of several modules side by side along a dimension."""

    def __init__(self, *branches: nn.Module, dim: int = 1) -> None:
        super().__init__()
        self.branches, self.dim = nn.ModuleList(branches), dim

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([b(x) for b in self.branches], self.dim)


class Attention(nn.Module):
    """Self-attention with ``heads`` heads: by ``kernel`` of the queries, keys and values."""

    def __init__(self, width: int, heads: int, kernel: Callable[..., Tensor]) -> None:
        super().__init__()
        self.heads, self.kernel = heads, kernel
        self.q, self.k, self.v, self.out = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        b, t, c = x.shape
        q, k, v = (f(x).view(b, t, self.heads, c // self.heads).transpose(1, 2) for f in (self.q, self.k, self.v))
        return self.out(self.kernel(q, k, v).transpose(1, 2).reshape(b, t, c))


def plain_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).softmax(-1) @ v


def causal_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    scores = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
    mask = torch.ones(q.shape[-2], q.shape[-2], dtype=torch.bool).triu(1)
    return scores.masked_fill(mask, float("-inf")).softmax(-1) @ v


def relu_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    scores = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
    mask = torch.ones(q.shape[-2], q.shape[-2], dtype=torch.bool).triu(1)
    return F.relu(scores.masked_fill(mask, float("-inf"))) @ v


def block(width: int, heads: int, kernel: Callable[..., Tensor], act: type[nn.Module] = nn.GELU) -> nn.Module:
    return Seq(Residual(nn.LayerNorm(width), Attention(width, heads, kernel)),
               Residual(nn.LayerNorm(width), nn.Linear(width, 4 * width), act(), nn.Linear(4 * width, width)))


class Transposed(nn.Module):
    """Layers over the last but one dimension."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = Seq(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x.transpose(1, 2)).transpose(1, 2)


class Steps(nn.Module):
    """A cell over the first dimension; the last state."""

    def __init__(self, cell: nn.Module, width: int, several: bool = False) -> None:
        super().__init__()
        self.cell, self.width, self.several = cell, width, several

    def forward(self, xs: Tensor) -> Tensor:
        zero = xs.new_zeros(xs.shape[1], self.width)
        state: Any = (zero, zero) if self.several else zero
        for x in xs:
            state = self.cell(x, state)
        return state[0] if self.several else state


class Windows(nn.Module):
    """A module on each window of an image whose channels come last, shifted cyclically before and after."""

    def __init__(self, inner: nn.Module, size: int, shift: int = 0) -> None:
        super().__init__()
        self.inner, self.size, self.shift = inner, size, shift

    def forward(self, x: Tensor) -> Tensor:
        b, h, w, c = x.shape
        n, s = self.size, self.shift
        x = torch.roll(x, (-s, -s), (1, 2)) if s else x
        parts = x.view(b, h // n, n, w // n, n, c).transpose(2, 3).reshape(-1, n * n, c)
        y = self.inner(parts).view(b, h // n, w // n, n, n, c).transpose(2, 3).reshape(b, h, w, c)
        return torch.roll(y, (s, s), (1, 2)) if s else y


class WindowAttention(nn.Module):
    """Attention by cosines with a learned bias of relative positions, of Swin's second version."""

    def __init__(self, width: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads, self.qkv, self.out = heads, nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.scale = nn.Parameter(torch.full((heads, 1, 1), 2.3))
        self.table = nn.Sequential(nn.Linear(2, 32), nn.ReLU(), nn.Linear(32, heads, bias=False))
        span = torch.arange(window)
        places = torch.stack(torch.meshgrid(span, span, indexing="ij")).flatten(1)
        offsets = (places[:, :, None] - places[:, None]).permute(1, 2, 0) + window - 1
        grid = torch.arange(2 * window - 1) / (window - 1) - 1
        self.register_buffer("grid", torch.stack(torch.meshgrid(grid, grid, indexing="ij"), -1).view(-1, 2))
        self.register_buffer("index", offsets[..., 0] * (2 * window - 1) + offsets[..., 1])

    def forward(self, x: Tensor) -> Tensor:
        b, t, c = x.shape
        q, k, v = self.qkv(x).view(b, t, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        scores = F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).transpose(-1, -2)
        scores = scores * self.scale.clamp(max=4.6).exp()
        bias = 16 * torch.sigmoid(self.table(self.grid)[self.index.view(-1)].view(t, t, self.heads).permute(2, 0, 1))
        return self.out(((scores + bias).softmax(-1) @ v).transpose(1, 2).reshape(b, t, c))


def conv(i: int, o: int, k: int = 3, **more: Any) -> nn.Conv2d:
    return nn.Conv2d(i, o, k, padding=k // 2, **more)


def conv_bn(i: int, o: int, k: int = 3, act: nn.Module | None = None, **more: Any) -> nn.Sequential:
    return Seq(conv(i, o, k, bias=False, **more), nn.BatchNorm2d(o), act or nn.ReLU())


def linear_bn(i: int, o: int, k: int = 1, **more: Any) -> nn.Sequential:
    """A convolution and its norm without what is usually applied after them."""
    return Seq(conv(i, o, k, bias=False, **more), nn.BatchNorm2d(o))


def excite(c: int, inner: int | None = None) -> nn.Module:
    """Channels weighed by what their averages say."""
    inner = inner or c // 4
    return Residual(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(c, inner), nn.ReLU(), nn.Linear(inner, c),
                    nn.Sigmoid(), nn.Unflatten(1, (c, 1, 1)), join=torch.mul)


def head(width: int, classes: int = 10) -> nn.Module:
    return Seq(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, classes))


__all__ = ["Attention", "Branches", "Residual", "Seq", "Steps", "Transposed", "WindowAttention", "Windows", "block",
           "causal_attention", "conv", "conv_bn", "excite", "head", "linear_bn", "plain_attention", "relu_attention"]
