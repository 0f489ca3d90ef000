"""Graphs that models of today are made of, beside the networks of KernelBench."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.torch_suite.blocks import (
    Attention,
    Branches,
    Residual,
    Seq,
    Steps,
    Transposed,
    WindowAttention,
    Windows,
    block,
    causal_attention,
    conv,
    conv_bn,
    excite,
    plain_attention,
)
from benchmarks.torch_suite.task import Function, R, Task, model, task

HEADS = (4, 4, 64, 32)


def graph(name: str, make: Callable[[], nn.Module], *sizes: Sequence[int]) -> Task:
    return model("graphs", name, make, *sizes)


def function(name: str, function: Callable[..., Any], *sizes: Sequence[int],
             weights: Sequence[Sequence[int]] = ()) -> Task:
    return task("graphs", name, function, *sizes, weights=weights)


def scan(x: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """A state space of one number for each channel, step by step."""
    h, out = torch.zeros_like(x[0]), []
    for step in x:
        h = torch.sigmoid(a) * h + b * step
        out.append(h)
    return torch.stack(out)


def rotary(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    first, second = x.chunk(2, -1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), -1)


class RmsNorm(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * self.weight


class Llama(nn.Module):
    """Rotary positions, grouped keys and values, gated layers, norms by mean squares."""

    def __init__(self, width: int, heads: int, groups: int) -> None:
        super().__init__()
        self.heads, self.groups, self.size = heads, groups, width // heads
        self.q, self.out = nn.Linear(width, width, bias=False), nn.Linear(width, width, bias=False)
        self.k, self.v = (nn.Linear(width, groups * self.size, bias=False) for _ in range(2))
        self.norm1, self.norm2 = RmsNorm(width), RmsNorm(width)
        self.gate, self.up = (nn.Linear(width, 3 * width, bias=False) for _ in range(2))
        self.down = nn.Linear(3 * width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        b, t, c = x.shape
        y = self.norm1(x)
        q, k, v = (f(y).view(b, t, -1, self.size).transpose(1, 2) for f in (self.q, self.k, self.v))
        angles = torch.arange(t, dtype=torch.float32)[:, None] * 10000.0 ** (
            -torch.arange(self.size // 2, dtype=torch.float32) / (self.size // 2))
        q, k = (rotary(z, angles.cos().to(x.dtype), angles.sin().to(x.dtype)) for z in (q, k))
        k, v = (z.repeat_interleave(self.heads // self.groups, 1) for z in (k, v))
        x = x + self.out(F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(b, t, c))
        y = self.norm2(x)
        return x + self.down(F.silu(self.gate(y)) * self.up(y))


class Experts(nn.Module):
    """All experts, weighed by a gate that keeps the best two."""

    def __init__(self, width: int, count: int) -> None:
        super().__init__()
        self.gate, self.weight = nn.Linear(width, count), nn.Parameter(R(count, width, width) * width ** -0.5)

    def forward(self, x: Tensor) -> Tensor:
        weights = self.gate(x).softmax(-1)
        best, which = weights.topk(2, -1)
        kept = torch.zeros_like(weights).scatter(-1, which, best)
        return torch.einsum("bed,be->bd", F.silu(torch.einsum("bd,edf->bef", x, self.weight)), kept)


class Diffusion(nn.Module):
    """Two convolutions with an embedding of the time between, and attention over the places."""

    def __init__(self, i: int, o: int, time: int) -> None:
        super().__init__()
        self.before, self.time = Seq(nn.GroupNorm(4, i), nn.SiLU(), conv(i, o)), Seq(nn.SiLU(), nn.Linear(time, o))
        self.after, self.short = Seq(nn.GroupNorm(4, o), nn.SiLU(), conv(o, o)), nn.Conv2d(i, o, 1)
        self.norm, self.attend = nn.GroupNorm(4, o), Attention(o, 2, plain_attention)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        y = self.short(x) + self.after(self.before(x) + self.time(t)[:, :, None, None])
        rows = self.norm(y).flatten(2).transpose(1, 2)
        return y + self.attend(rows).transpose(1, 2).reshape(y.shape)


class MambaBlock(nn.Module):
    """A short convolution along time, a selective state space as a sum of products, a gate."""

    def __init__(self, width: int, state: int) -> None:
        super().__init__()
        self.into, self.out = nn.Linear(width, 2 * width), nn.Linear(width, width)
        self.conv, self.states = nn.Conv1d(width, width, 4, groups=width, padding=3), nn.Linear(width, 2 * state + 1)
        self.a, self.d = nn.Parameter(-torch.rand(width, state)), nn.Parameter(R(width))

    def forward(self, x: Tensor) -> Tensor:
        length = x.shape[1]
        y, gate = self.into(x).chunk(2, -1)
        y = F.silu(self.conv(y.transpose(1, 2))[..., :length].transpose(1, 2))
        n = self.a.shape[1]
        delta, b, c = self.states(y).split((1, n, n), -1)
        delta = F.softplus(delta)
        decay = (delta[..., None] * self.a).cumsum(1).exp()
        state = decay * ((delta * y)[..., None] * b[:, :, None] / decay).cumsum(1)
        return self.out(((state * c[:, :, None]).sum(-1) + y * self.d) * F.silu(gate))


class Bag(nn.Module):
    """Words and places as vectors, a norm."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.places, self.norm = nn.Embedding(100, 64), nn.Embedding(32, 64), nn.LayerNorm(64)

    def forward(self, ids: Tensor) -> Tensor:
        return self.norm(self.words(ids) + self.places(torch.arange(ids.shape[1])))


class Last(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.permute(0, 2, 3, 1)


class Images(nn.Module):
    """Channels back from the end."""

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(0, 3, 1, 2)


def label_smoothing(x: Tensor, t: Tensor) -> Tensor:
    return F.cross_entropy(x, t, label_smoothing=0.1)


def contrastive(a: Tensor, b: Tensor) -> Tensor:
    scores = F.normalize(a, dim=1) @ F.normalize(b, dim=1).t() / 0.07
    return -(scores.diagonal() - scores.logsumexp(1)).mean()


def focal(x: Tensor, t: Tensor) -> Tensor:
    p = torch.sigmoid(x)
    return (-(1 - p).pow(2) * t.sigmoid() * F.logsigmoid(x)).mean()


def dice(x: Tensor, t: Tensor) -> Tensor:
    p, t = torch.sigmoid(x).flatten(1), (t > 0).to(x.dtype).flatten(1)
    return (1 - (2 * (p * t).sum(1) + 1) / (p.sum(1) + t.sum(1) + 1)).mean()


TASKS = [
    graph("transformer block", lambda: block(128, 4, plain_attention), (4, 64, 128)),
    graph("causal transformer block", lambda: block(128, 4, causal_attention), (4, 64, 128)),
    graph("transformer block by one operator", lambda: block(128, 4, F.scaled_dot_product_attention), (4, 64, 128)),
    graph("torch's encoder layer", lambda: nn.TransformerEncoderLayer(128, 4, 256, 0.0, batch_first=True),
          (4, 64, 128)),
    graph("torch's decoder layer", lambda: nn.TransformerDecoderLayer(64, 4, 128, 0.0, batch_first=True), (4, 24, 64),
          (4, 32, 64)),
    graph("Llama block", lambda: Llama(128, 8, 2), (2, 48, 128)),
    function("attention", plain_attention, HEADS, HEADS, HEADS),
    function("rotary positions", rotary, (4, 4, 64, 64), (64, 32), (64, 32)),
    function("linear attention", lambda q, k, v: (F.elu(q) + 1) @ ((F.elu(k) + 1).transpose(-1, -2) @ v),
             HEADS, HEADS, HEADS),
    graph("windows' attention", lambda: Windows(Attention(32, 2, plain_attention), 4, 2), (2, 16, 16, 32)),
    graph("ViT block with windows", lambda: Seq(
        Residual(nn.LayerNorm(32), Windows(WindowAttention(32, 2, 4), 4)),
        Residual(nn.LayerNorm(32), nn.Linear(32, 128), nn.GELU(), nn.Linear(128, 32))), (2, 16, 16, 32)),
    Task("graphs", "diffusion block", lambda: (Diffusion(16, 32, 24), (R(2, 16, 16, 16), R(2, 24)))),
    graph("U-Net block", lambda: Seq(conv(16, 32), nn.GroupNorm(8, 32), nn.SiLU(), nn.Upsample(scale_factor=2),
                                     conv(32, 16), nn.GroupNorm(8, 16), nn.SiLU()), (2, 16, 16, 16)),
    graph("bilinear upsampling", lambda: Seq(conv(8, 8), nn.Upsample(scale_factor=2, mode="bilinear")), (2, 8, 16, 16)),
    graph("Mamba block", lambda: MambaBlock(32, 8), (2, 32, 32)),
    function("state space", scan, (16, 32, 64), weights=[(64,), (64,)]),
    graph("experts", lambda: Experts(64, 8), (128, 64)),
    graph("tanh cell", lambda: Steps(nn.RNNCell(64, 64), 64), (4, 32, 64)),
    graph("LSTM cell", lambda: Steps(nn.LSTMCell(64, 64), 64, True), (4, 32, 64)),
    graph("GRU cell", lambda: Steps(nn.GRUCell(64, 64), 64), (4, 32, 64)),
    Task("graphs", "embeddings", lambda: (Bag(), (torch.randint(100, (8, 32)),))),
    graph("mixer block", lambda: Seq(
        Residual(nn.LayerNorm(128), Transposed(nn.Linear(64, 128), nn.GELU(), nn.Linear(128, 64))),
        Residual(nn.LayerNorm(128), nn.Linear(128, 256), nn.GELU(), nn.Linear(256, 128))), (8, 64, 128)),
    graph("ConvNeXt block", lambda: Residual(conv(32, 32, 7, groups=32), Last(), nn.LayerNorm(32), nn.Linear(32, 128),
                                             nn.GELU(), nn.Linear(128, 32), Images()), (2, 32, 16, 16)),
    graph("squeeze and excite", lambda: Seq(conv_bn(32, 32), excite(32)), (4, 32, 16, 16)),
    graph("dilated branches", lambda: Branches(*[
        nn.Conv2d(16, 8, 3, padding=d, dilation=d) for d in (1, 2, 4)]), (2, 16, 24, 24)),
    graph("gated convolution", lambda: Seq(nn.Conv1d(32, 64, 3, padding=2, dilation=2), nn.GLU(1)), (4, 32, 128)),
    graph("gated perceptron", lambda: Residual(RmsNorm(128), nn.Linear(128, 512), nn.GLU(), nn.Linear(256, 128)),
          (128, 128)),
    graph("one row", lambda: Seq(nn.Linear(512, 1024), nn.ReLU(), nn.Linear(1024, 512)), (1, 512)),
    function("matrix by a long vector", torch.matmul, (256, 16384), (16384, 1)),
    graph("perceptron with dropout", lambda: Seq(nn.Linear(128, 256), nn.ReLU(), nn.Dropout(0.1), nn.Linear(256, 128)),
          (64, 128)),
    Task("graphs", "smoothed cross entropy", lambda: (
        Function(label_smoothing), (R(256, 100), torch.randint(100, (256,))))),
    function("contrastive loss", contrastive, (128, 64), (128, 64)),
    function("focal loss", focal, (256, 256), (256, 256)), function("dice loss", dice, (8, 1, 64, 64), (8, 1, 64, 64)),
    function("cosine loss", lambda x, y: (1 - F.cosine_similarity(x, y, 1)).mean(), (256, 512), (256, 512)),
    function("masked softmax", lambda x, m: x.masked_fill(m > 0.5, -1e9).softmax(-1), (256, 1024), (256, 1024)),
    function("best five", lambda x: x.softmax(-1).topk(5, -1), (256, 100)),
    function("sorted rows", lambda x: x.sort(-1)[0].cumsum(-1), (64, 200)),
    function("sum of all", lambda x: x.sum(), (256, 4096)), function("variance", lambda x: x.var(-1), (256, 4096)),
    function("relu of small images", F.relu, (32, 64, 7, 7)),
    function("average of small images", lambda x: x.mean((2, 3)), (32, 64, 7, 7)),
]

__all__ = ["TASKS"]
