"""Models for :mod:`benchmarks.torch_models`: a name, a category, and what makes a module and its inputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

R = torch.randn


class Task(NamedTuple):
    category: str
    name: str
    make: Callable[[], tuple[nn.Module, tuple[Tensor, ...]]]


class Function(nn.Module):
    """A function of the inputs and of parameters of given shapes."""

    def __init__(self, function: Callable[..., Any], *shapes: Sequence[int]) -> None:
        super().__init__()
        self.function = function
        self.weights = nn.ParameterList(nn.Parameter(R(*s) * (s[-1] ** -0.5 if len(s) > 1 else 1.0)) for s in shapes)

    def forward(self, *inputs: Tensor) -> Any:
        return self.function(*inputs, *self.weights)


def task(category: str, name: str, function: Callable[..., Any], *sizes: Sequence[int],
         weights: Sequence[Sequence[int]] = ()) -> Task:
    return Task(category, name, lambda: (Function(function, *weights), tuple(R(*s) for s in sizes)))


def model(category: str, name: str, make: Callable[[], nn.Module], *sizes: Sequence[int]) -> Task:
    return Task(category, name, lambda: (make(), tuple(R(*s) for s in sizes)))


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
    return F.relu(q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5) @ v


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


class Experts(nn.Module):
    """All experts, weighed by a gate that keeps the best two."""

    def __init__(self, width: int, count: int) -> None:
        super().__init__()
        self.gate, self.weight = nn.Linear(width, count), nn.Parameter(R(count, width, width) * width ** -0.5)

    def forward(self, x: Tensor) -> Tensor:
        weights = self.gate(x).softmax(-1)
        kept = weights * (weights >= weights.topk(2, -1)[0][..., -1:])
        return torch.einsum("bed,be->bd", F.silu(torch.einsum("bd,edf->bef", x, self.weight)), kept)


def conv(i: int, o: int, k: int = 3, **more: Any) -> nn.Conv2d:
    return nn.Conv2d(i, o, k, padding=k // 2, **more)


def conv_bn(i: int, o: int, k: int = 3, act: nn.Module | None = None, **more: Any) -> nn.Sequential:
    return Seq(conv(i, o, k, bias=False, **more), nn.BatchNorm2d(o), act or nn.ReLU())


def excite(c: int) -> nn.Module:
    return Residual(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(c, c // 4), nn.ReLU(), nn.Linear(c // 4, c),
                    nn.Sigmoid(), nn.Unflatten(1, (c, 1, 1)), join=torch.mul)


E, M, I = (256, 4096), (256, 512), (8, 32, 28, 28)
ACTIVATIONS = ("relu", "leaky_relu", "sigmoid", "tanh", "gelu", "silu", "elu", "selu", "hardsigmoid", "softplus",
               "softsign", "hardtanh", "hardswish", "mish", "logsigmoid")
TASKS: list[Task] = [
    *(task("elementwise", name, getattr(F, name), E) for name in ACTIVATIONS),
    task("elementwise", "gelu tanh", lambda x: F.gelu(x, approximate="tanh"), E),
    task("elementwise", "gelu by hand", lambda x: 0.5 * x * (1 + torch.tanh(0.79788456 * (x + 0.044715 * x**3))), E),
    task("elementwise", "swiglu", lambda x, y: F.silu(x) * y, E, E),
    task("elementwise", "clamp and scale", lambda x, s, b: (x * s + b).clamp(-1, 1) / 2, E, weights=[(4096,), (4096,)]),
    task("elementwise", "glu", lambda x: F.glu(x, -1), E),
    task("elementwise", "relu of images", F.relu, (32, 64, 7, 7)),

    task("reductions", "sum of rows", lambda x: x.sum(-1), E),
    task("reductions", "sum of columns", lambda x: x.sum(0), E),
    task("reductions", "mean of a middle axis", lambda x: x.mean(1, keepdim=True), (16, 256, 256)),
    task("reductions", "max of rows", lambda x: x.amax(-1), E),
    task("reductions", "min of a middle axis", lambda x: x.min(1)[0], (16, 256, 256)),
    task("reductions", "product", lambda x: (1 + x * 1e-3).prod(1), E),
    task("reductions", "variance", lambda x: x.var(-1), E),
    task("reductions", "sum of all", lambda x: x.sum(), E),
    task("reductions", "log-sum-exp", lambda x: x.logsumexp(-1), E),
    task("reductions", "any", lambda x: (x > 3).any(-1), E),
    task("reductions", "argmax", lambda x: x.argmax(1), (16, 256, 256)),
    task("reductions", "cumulative sum", lambda x: x.cumsum(1), E),
    task("reductions", "cumulative product", lambda x: (1 + x * 1e-3).cumprod(1), E),
    task("reductions", "global average", lambda x: x.mean((2, 3)), (32, 64, 7, 7)),

    task("norms", "layer norm", lambda x, w, b: F.layer_norm(x, (4096,), w, b), E, weights=[(4096,), (4096,)]),
    task("norms", "layer norm of short rows", lambda x, w, b: F.layer_norm(x, (64,), w, b), (4096, 64),
         weights=[(64,), (64,)]),
    task("norms", "rms norm", lambda x: x * torch.rsqrt(x.pow(2).mean(1, keepdim=True) + 1e-5), (8, 64, 64, 64)),
    model("norms", "batch norm", lambda: nn.BatchNorm2d(64), (16, 64, 32, 32)),
    model("norms", "instance norm", lambda: nn.InstanceNorm2d(64), (16, 64, 32, 32)),
    model("norms", "group norm", lambda: nn.GroupNorm(8, 64), (16, 64, 32, 32)),
    task("norms", "frobenius norm", lambda x: x / x.norm(), E),
    task("norms", "L1 norm", lambda x: x / x.abs().sum(1, keepdim=True), E),
    task("norms", "L2 norm", lambda x: x / x.norm(dim=1, keepdim=True), E),

    task("softmax", "softmax", lambda x: x.softmax(-1), E),
    task("softmax", "softmax of columns", lambda x: x.softmax(0), E),
    task("softmax", "log softmax", lambda x: x.log_softmax(-1), E),
    task("softmax", "masked softmax", lambda x, m: x.masked_fill(m > 0.5, -1e9).softmax(-1), E, E),
    Task("losses", "cross entropy", lambda: (Function(F.cross_entropy), (R(512, 100), torch.randint(100, (512,))))),
    task("losses", "mean squared error", F.mse_loss, E, E),
    task("losses", "huber", F.smooth_l1_loss, E, E),
    task("losses", "hinge", lambda x, t: (1 - x * t.sign()).clamp(min=0).mean(), E, E),
    task("losses", "KL divergence",
         lambda x, y: F.kl_div(x.log_softmax(-1), y.softmax(-1), reduction="batchmean"), E, E),
    task("losses", "cosine", lambda x, y: (1 - F.cosine_similarity(x, y, 1)).mean(), E, E),
    task("losses", "triplet", lambda a, p, n: F.triplet_margin_loss(a, p, n), E, E, E),

    task("products", "square", torch.matmul, (384, 384), (384, 384)),
    task("products", "rectangular", torch.matmul, (256, 512), (512, 1024)),
    task("products", "batch", torch.bmm, (16, 64, 128), (16, 128, 64)),
    task("products", "matrix by vector", torch.matmul, (1024, 2048), (2048, 1)),
    task("products", "first transposed", lambda a, b: a.t() @ b, (512, 256), (512, 384)),
    task("products", "second transposed", lambda a, b: a @ b.t(), (256, 512), (384, 512)),
    task("products", "both transposed", lambda a, b: a.t() @ b.t(), (512, 256), (384, 512)),
    task("products", "short inner dimension", torch.matmul, (1024, 16), (16, 1024)),
    task("products", "long inner dimension", torch.matmul, (64, 16384), (16384, 64)),
    task("products", "tall", torch.matmul, (4096, 32), (32, 32)),
    task("products", "diagonal", lambda d, b: torch.diag(d) @ b, (512,), (512, 512)),
    task("products", "rows scaled", lambda d, b: d[:, None] * b, (1024,), (1024, 1024)),
    task("products", "lower triangles", lambda a, b: (a.tril() @ b.tril()).tril(), (384, 384), (384, 384)),
    task("products", "3-D by 2-D", torch.matmul, (16, 64, 256), (256, 128)),
    task("products", "4-D by 2-D", lambda x, w: torch.einsum("bijl,lk->bijk", x, w), (4, 16, 32, 64), (64, 128)),
    task("products", "times a number", lambda a: a * 3.14, E),

    model("chains", "linear relu", lambda: Seq(nn.Linear(512, 512), nn.ReLU()), M),
    model("chains", "linear gelu", lambda: Seq(nn.Linear(512, 512), nn.GELU()), M),
    task("chains", "linear swish scale", lambda x, w, b: F.silu(F.linear(x, w, b)) * 2, M,
         weights=[(512, 512), (512,)]),
    task("chains", "linear divide sum scale", lambda x, w: (x @ w.t() / 2).sum(1, keepdim=True) * 1.5, M,
         weights=[(512, 512)]),
    task("chains", "linear max subtract gelu",
         lambda x, w: F.gelu((y := (x @ w).amax(1, keepdim=True)) - y.mean(1, keepdim=True) + x), M,
         weights=[(512, 512)]),
    model("chains", "linear group norm hardtanh", lambda: Seq(
        nn.Linear(512, 512), nn.GroupNorm(8, 512), nn.Hardtanh()), M),
    model("chains", "linear batch norm gelu", lambda: Seq(nn.Linear(512, 512), nn.BatchNorm1d(512), nn.GELU()), M),
    task("chains", "linear log-sum-exp mish", lambda x, w: F.mish((x @ w).logsumexp(1, keepdim=True)), M,
         weights=[(512, 512)]),
    model("chains", "linear dropout softmax", lambda: Seq(nn.Linear(512, 512), nn.Dropout(0.2), nn.Softmax(1)), M),
    task("chains", "linear sigmoid sum", lambda x, w, b: torch.sigmoid(F.linear(x, w, b)).sum(1), M,
         weights=[(512, 512), (512,)]),
    task("chains", "product pooled", lambda x, w: F.gelu(F.avg_pool1d((x @ w)[:, None], 4)[:, 0] * 2).amax(1), M,
         weights=[(512, 512)]),
    task("chains", "residual multiply", lambda x, w: (x @ w + x) * x, M, weights=[(512, 512)]),

    model("perceptrons", "three layers", lambda: Seq(nn.Linear(512, 1024), nn.ReLU(), nn.Linear(1024, 512), nn.ReLU(),
                                                     nn.Linear(512, 10)), (64, 512)),
    model("perceptrons", "one row", lambda: Seq(nn.Linear(512, 1024), nn.ReLU(), nn.Linear(1024, 512)), (1, 512)),
    model("perceptrons", "deep and narrow", lambda: Seq(*[m for _ in range(8) for m in (nn.Linear(64, 64), nn.Tanh())]),
          (128, 64)),
    model("perceptrons", "residual", lambda: Seq(*[Residual(nn.LayerNorm(128), nn.Linear(128, 256), nn.SiLU(),
                                                            nn.Linear(256, 128)) for _ in range(3)]), (128, 128)),
    model("perceptrons", "mixer block", lambda: Seq(
        Residual(nn.LayerNorm(128), Transposed(nn.Linear(64, 128), nn.GELU(), nn.Linear(128, 64))),
        Residual(nn.LayerNorm(128), nn.Linear(128, 256), nn.GELU(), nn.Linear(256, 128))), (8, 64, 128)),
    model("perceptrons", "experts", lambda: Experts(64, 8), (128, 64)),

    model("transformers", "block", lambda: block(128, 4, plain_attention), (4, 64, 128)),
    model("transformers", "causal block", lambda: block(128, 4, causal_attention), (4, 64, 128)),
    model("transformers", "block of relu attention", lambda: block(128, 4, relu_attention, nn.ReLU), (4, 64, 128)),
    model("transformers", "block by one operator", lambda: block(128, 4, F.scaled_dot_product_attention), (4, 64, 128)),
    model("transformers", "torch's encoder layer", lambda: nn.TransformerEncoderLayer(128, 4, 256, batch_first=True),
          (4, 64, 128)),
    task("transformers", "attention", plain_attention, (4, 4, 64, 32), (4, 4, 64, 32), (4, 4, 64, 32)),
    task("transformers", "rotary positions", rotary, (4, 4, 64, 64), (64, 32), (64, 32)),
    task("transformers", "linear attention", lambda q, k, v: (F.elu(q) + 1) @ ((F.elu(k) + 1).transpose(-1, -2) @ v),
         (4, 4, 64, 32), (4, 4, 64, 32), (4, 4, 64, 32)),
    model("transformers", "windows", lambda: Seq(
        nn.Unflatten(1, (4, 16)), nn.Flatten(0, 1), Attention(64, 2, plain_attention), nn.Unflatten(0, (4, 4)),
        nn.Flatten(1, 2)), (4, 64, 64)),

    model("convolutions", "relu bias", lambda: Seq(conv(16, 32), nn.ReLU(), Residual(conv(32, 32, 1))),
          (4, 16, 32, 32)),
    model("convolutions", "batch norm relu", lambda: conv_bn(32, 32), I),
    model("convolutions", "mish tanh", lambda: Seq(conv(32, 32), nn.Mish(), nn.Tanh()), I),
    model("convolutions", "global pool", lambda: Seq(
        conv(32, 64), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Softmax(1)), I),
    model("convolutions", "max pool", lambda: Seq(conv(32, 32), nn.MaxPool2d(2), nn.Sigmoid()), I),
    model("convolutions", "transposed", lambda: Seq(nn.ConvTranspose2d(32, 16, 4, 2, 1), nn.GELU()), I),
    model("convolutions", "depthwise separable", lambda: Seq(conv_bn(32, 32, groups=32), conv_bn(32, 64, 1)), I),
    model("convolutions", "residual block", lambda: Seq(Residual(conv_bn(32, 32), conv(32, 32, bias=False),
                                                                 nn.BatchNorm2d(32)), nn.ReLU()), I),
    model("convolutions", "inverted residual", lambda: Residual(conv_bn(32, 64, 1, nn.ReLU6()), conv_bn(
        64, 64, 3, nn.ReLU6(), groups=64), conv(64, 32, 1, bias=False), nn.BatchNorm2d(32)), I),
    model("convolutions", "squeeze and excite", lambda: excite(32), I),
    model("convolutions", "dense layer", lambda: Branches(
        nn.Identity(), Seq(nn.BatchNorm2d(32), nn.ReLU(), conv(32, 16))), I),
    model("convolutions", "inception cell", lambda: Branches(conv_bn(32, 8, 1), Seq(conv_bn(32, 8, 1), conv_bn(8, 16)),
                                                             Seq(nn.MaxPool2d(3, 1, 1), conv_bn(32, 8, 1))), I),
    model("convolutions", "lenet", lambda: Seq(
        nn.Conv2d(1, 6, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(256, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10)), (16, 1, 28, 28)),
    model("convolutions", "1-D", lambda: Seq(nn.Conv1d(32, 64, 3, padding=1), nn.BatchNorm1d(64), nn.SiLU()),
          (8, 32, 256)),
    model("convolutions", "3-D", lambda: Seq(
        nn.Conv3d(8, 16, 3, padding=1), nn.GroupNorm(4, 16), nn.Hardswish()), (2, 8, 8, 16, 16)),
    model("convolutions", "u-net block", lambda: Seq(conv(16, 32), nn.GroupNorm(8, 32), nn.SiLU(), nn.Upsample(
        scale_factor=2), conv(32, 16), nn.GroupNorm(8, 16), nn.SiLU()), (2, 16, 16, 16)),

    model("recurrent", "tanh cell", lambda: Steps(nn.RNNCell(64, 64), 64), (4, 32, 64)),
    model("recurrent", "LSTM cell", lambda: Steps(nn.LSTMCell(64, 64), 64, True), (4, 32, 64)),
    model("recurrent", "GRU cell", lambda: Steps(nn.GRUCell(64, 64), 64), (4, 32, 64)),
    task("recurrent", "state space", scan, (16, 32, 64), weights=[(64,), (64,)]),
]
