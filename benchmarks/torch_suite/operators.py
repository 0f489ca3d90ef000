"""Level 1: single operators, in the order of KernelBench's hundred tasks, each written anew from its name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.torch_suite.task import Function, R, Task, model, task

E, SHORT = (256, 4096), (16, 256, 256)
IMAGES = (16, 64, 32, 32)


def op(number: int, name: str, function: Callable[..., Any], *sizes: Sequence[int],
       weights: Sequence[Sequence[int]] = ()) -> Task:
    return task("operators", f"1/{number} {name}", function, *sizes, weights=weights)


def layer(number: int, name: str, make: Callable[[], nn.Module], *sizes: Sequence[int]) -> Task:
    return model("operators", f"1/{number} {name}", make, *sizes)


def conv(number: int, name: str, kind: type[nn.Module], size: Sequence[int], channels: int, kernel: Any,
         **more: Any) -> Task:
    return model("convolutions", f"1/{number} {name}", lambda: kind(size[1], channels, kernel, **more), size)


def symmetric(a: Tensor, b: Tensor) -> Tensor:
    return (a + a.t()) @ (b + b.t())


PRODUCTS = [
    op(1, "square product", torch.matmul, (384, 384), (384, 384)),
    op(2, "product", torch.matmul, (256, 512), (512, 1024)),
    op(3, "batch of products", torch.bmm, (16, 64, 128), (16, 128, 64)),
    op(4, "matrix by vector", torch.matmul, (1024, 2048), (2048, 1)),
    op(5, "matrix by a number", lambda a: a * 3.14, E),
    op(6, "long inner dimension", torch.matmul, (64, 16384), (16384, 64)),
    op(7, "short inner dimension", torch.matmul, (1024, 16), (16, 1024)),
    op(8, "odd extents", torch.matmul, (205, 297), (297, 331)),
    op(9, "tall and thin", torch.matmul, (4096, 32), (32, 32)),
    op(10, "3-D by matrix", torch.matmul, (16, 64, 256), (256, 128)),
    op(11, "4-D by matrix", lambda x, w: torch.einsum("bijl,lk->bijk", x, w), (4, 16, 32, 64), (64, 128)),
    op(12, "diagonal matrix", lambda d, b: torch.diag(d) @ b, (512,), (512, 512)),
    op(13, "symmetric matrices", symmetric, (384, 384), (384, 384)),
    op(14, "upper triangles", lambda a, b: (a.triu() @ b.triu()).triu(), (384, 384), (384, 384)),
    op(15, "lower triangles", lambda a, b: (a.tril() @ b.tril()).tril(), (384, 384), (384, 384)),
    op(16, "first transposed", lambda a, b: a.t() @ b, (512, 256), (512, 384)),
    op(17, "second transposed", lambda a, b: a @ b.t(), (256, 512), (384, 512)),
    op(18, "both transposed", lambda a, b: a.t() @ b.t(), (512, 256), (384, 512)),
]
ACTIVATIONS = [
    op(19, "relu", F.relu, E), op(20, "leaky relu", F.leaky_relu, E), op(21, "sigmoid", torch.sigmoid, E),
    op(22, "tanh", torch.tanh, E), op(23, "softmax", lambda x: x.softmax(1), E),
    op(24, "log softmax", lambda x: x.log_softmax(1), E), op(25, "swish", lambda x: x * torch.sigmoid(x), E),
    op(26, "gelu", F.gelu, E), op(27, "selu", F.selu, E), op(28, "hard sigmoid", F.hardsigmoid, E),
    op(29, "softplus", F.softplus, E), op(30, "softsign", lambda x: x / (1 + x.abs()), E), op(31, "elu", F.elu, E),
    op(32, "hard tanh", lambda x: F.hardtanh(x, -1, 1), E),
    op(88, "gelu by hand", lambda x: 0.5 * x * (1 + torch.tanh(0.79788456 * (x + 0.044715 * x**3))), E),
]
NORMS = [
    layer(33, "batch norm", lambda: nn.BatchNorm2d(64), IMAGES),
    layer(34, "instance norm", lambda: nn.InstanceNorm2d(64), IMAGES),
    layer(35, "group norm", lambda: nn.GroupNorm(8, 64), IMAGES),
    op(36, "RMS norm", lambda x: x * torch.rsqrt(x.pow(2).mean(1, keepdim=True) + 1e-5), (8, 64, 64, 64)),
    op(37, "Frobenius norm", lambda x: x / x.norm(), E),
    op(38, "L1 norm", lambda x: x / x.abs().sum(1, keepdim=True), E),
    op(39, "L2 norm", lambda x: x / x.norm(dim=1, keepdim=True), E),
    layer(40, "layer norm", lambda: nn.LayerNorm((16, 64, 64)), (4, 16, 64, 64)),
]
POOLS = [
    layer(41, "1-D maxima", lambda: nn.MaxPool1d(4, 2, 2, 3), (8, 64, 256)),
    layer(42, "2-D maxima", lambda: nn.MaxPool2d(2, 2, 1, 3), (8, 16, 64, 64)),
    layer(43, "3-D maxima", lambda: nn.MaxPool3d(3, 2, 1, 3), (4, 8, 24, 24, 24)),
    layer(44, "1-D averages", lambda: nn.AvgPool1d(4, 1, 1), (8, 32, 256)),
    layer(45, "2-D averages", lambda: nn.AvgPool2d(3), (8, 32, 64, 64)),
    layer(46, "3-D averages", lambda: nn.AvgPool3d(3, 2, 1), (4, 8, 24, 24, 24)),
]
REDUCTIONS = [
    op(47, "sum", lambda x: x.sum(1, keepdim=True), SHORT), op(48, "mean", lambda x: x.mean(1), SHORT),
    op(49, "maximum", lambda x: x.max(1)[0], SHORT), op(51, "argmax", lambda x: x.argmax(1), SHORT),
    op(52, "argmin", lambda x: x.argmin(1), SHORT), op(53, "minimum", lambda x: x.min(1)[0], SHORT),
    op(89, "cumulative sum", lambda x: x.cumsum(1), E),
    op(90, "cumulative product", lambda x: (1 + x * 1e-3).cumprod(1), E),
    op(91, "cumulative sum from the end", lambda x: x.flip(1).cumsum(1).flip(1), E),
    op(92, "exclusive cumulative sum", lambda x: torch.cat(
        (torch.zeros_like(x.select(1, 0).unsqueeze(1)), x), 1)[:, :-1].cumsum(1), E),
    op(93, "masked cumulative sum", lambda x, m: (x * (m > 0)).cumsum(1), E, E),
]
LOSSES = [
    op(94, "squared error", F.mse_loss, E, E),
    Task("operators", "1/95 cross entropy", lambda: (
        Function(F.cross_entropy), (R(512, 100), torch.randint(100, (512,))))),
    op(96, "Huber", F.smooth_l1_loss, E, E),
    op(97, "attention", F.scaled_dot_product_attention, *[(4, 8, 128, 64)] * 3),
    op(98, "Kullback-Leibler", lambda x, y: F.kl_div(x.softmax(-1).log(), y.softmax(-1), reduction="batchmean"), E, E),
    op(99, "triplet margin", F.triplet_margin_loss, E, E, E),
    op(100, "hinge", lambda x, t: (1 - x * t.sign()).clamp(min=0).mean(), E, E),
]
I2, A2, I3, A3 = (4, 16, 24, 24), (4, 16, 20, 40), (2, 4, 12, 12, 12), (2, 4, 8, 12, 16)
C1, C2, C3 = nn.Conv1d, nn.Conv2d, nn.Conv3d
T1, T2, T3 = nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d
CONVOLUTIONS = [
    conv(50, "2-D of 11", C2, (2, 3, 56, 56), 32, 11, stride=4, padding=2),
    conv(54, "3-D", C3, I3, 16, 3), conv(55, "2-D of oblong images", C2, A2, 32, 3),
    conv(56, "2-D, both oblong", C2, A2, 32, (5, 7)), conv(57, "2-D transposed", T2, I2, 16, 3),
    conv(58, "3-D transposed, both oblong", T3, A3, 8, (3, 5, 7)),
    conv(59, "3-D of flat kernels", C3, A3, 16, (3, 3, 1)),
    conv(60, "3-D of oblong kernels", C3, I3, 16, (3, 5, 7)), conv(61, "3-D transposed", T3, I3, 8, 3),
    conv(62, "2-D of oblong kernels", C2, I2, 32, (5, 9)), conv(63, "2-D", C2, I2, 32, 3),
    conv(64, "1-D transposed", T1, (8, 32, 128), 16, 3),
    conv(65, "2-D transposed of oblong kernels", T2, I2, 16, (3, 7)),
    conv(66, "3-D, both oblong", C3, A3, 16, (3, 5, 7)), conv(67, "1-D", C1, (8, 32, 256), 64, 3),
    conv(68, "3-D transposed of oblong kernels", T3, I3, 8, (3, 5, 5)),
    conv(69, "2-D transposed, both oblong", T2, A2, 16, (3, 5)),
    conv(70, "3-D transposed of oblong volumes", T3, A3, 8, 3),
    conv(71, "2-D transposed of oblong images", T2, A2, 16, 3),
    conv(72, "3-D transposed, strides, groups", T3, A3, 8, (3, 5, 7), stride=2, padding=(1, 2, 3), output_padding=1,
         groups=2),
    conv(73, "3-D transposed, cubes, groups", T3, A3, 8, 3, stride=2, padding=1, groups=4),
    conv(74, "1-D transposed, dilated", T1, (8, 16, 64), 32, 5, dilation=3),
    conv(75, "2-D transposed, all", T2, A2, 32, (3, 5), stride=(2, 3), padding=(1, 2), dilation=(2, 1), groups=4),
    conv(76, "1-D, strides, dilated", C1, (8, 32, 256), 64, 3, stride=3, dilation=4),
    conv(77, "3-D transposed, dilated", T3, I3, 8, 3, stride=2, padding=1, dilation=2),
    conv(78, "2-D transposed, pads", T2, A2, 16, (3, 7), padding=(1, 3)),
    conv(79, "1-D transposed, strides", T1, (8, 32, 65), 32, 3, stride=2, padding=1, dilation=2),
    conv(80, "2-D, dilated, pads", C2, I2, 32, (5, 9), padding=(2, 4), dilation=(2, 3)),
    conv(81, "2-D transposed, strides", T2, A2, 16, 3, stride=5, padding=1, dilation=2),
    conv(82, "depthwise", C2, I2, 16, 3, groups=16), conv(83, "depthwise columns", C2, I2, 16, (7, 1), groups=16),
    conv(84, "depthwise of oblong images", C2, A2, 32, 3, groups=16),
    conv(85, "depthwise, both oblong", C2, A2, 16, (3, 7), groups=16),
    model("convolutions", "1/86 depthwise and pointwise", lambda: nn.Sequential(
        C2(16, 16, 3, padding=1, groups=16), C2(16, 32, 1)), I2),
    conv(87, "pointwise", C2, (4, 64, 28, 28), 128, 1),
]
TASKS = [*PRODUCTS, *ACTIVATIONS, *NORMS, *POOLS, *REDUCTIONS, *LOSSES, *CONVOLUTIONS]

__all__ = ["TASKS"]
