"""Level 2: a convolution or product and what follows it, in the order of KernelBench's hundred tasks, each written anew
from its name."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.torch_suite.task import R, Task

Step = nn.Module | Callable[[Tensor], Tensor]


class Chain(nn.Module):
    """Modules and functions, one after the other."""

    def __init__(self, *steps: Step) -> None:
        super().__init__()
        self.steps = nn.ModuleList(s if isinstance(s, nn.Module) else Apply(s) for s in steps)

    def forward(self, x: Tensor) -> Tensor:
        for step in self.steps:
            x = step(x)
        return x


class Apply(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


class With(nn.Module):
    """A function of the tensor and of a parameter."""

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor], *shape: int) -> None:
        super().__init__()
        self.function, self.weight = function, nn.Parameter(R(*shape) * 0.1)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x, self.weight)


class Beside(nn.Module):
    """A function of the input and of what a chain makes of it."""

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor], *steps: Step) -> None:
        super().__init__()
        self.function, self.chain = function, Chain(*steps)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x, self.chain(x))


def plus(*shape: int) -> nn.Module:
    return With(torch.add, *shape)


def minus(*shape: int) -> nn.Module:
    return With(torch.sub, *shape)


def times(*shape: int) -> nn.Module:
    return With(torch.mul, *shape)


def scale(factor: float) -> Step:
    return lambda x: x * factor


def shift(number: float) -> Step:
    return lambda x: x + number


def divide(number: float) -> Step:
    return lambda x: x / number


def clamp(low: float, high: float) -> Step:
    return lambda x: x.clamp(low, high)


def mean(*dims: int) -> Step:
    return lambda x: x.mean(dims, keepdim=True)


def total(*dims: int) -> Step:
    return lambda x: x.sum(dims, keepdim=True)


def largest(dim: int = 1) -> Step:
    return lambda x: x.max(dim, keepdim=True)[0]


def least(dim: int = 1) -> Step:
    return lambda x: x.min(dim, keepdim=True)[0]


def lse(dim: int = 1) -> Step:
    return lambda x: x.logsumexp(dim, keepdim=True)


def softmax(dim: int = 1) -> Step:
    return lambda x: x.softmax(dim)


def leaky(slope: float = 0.2) -> Step:
    return lambda x: F.leaky_relu(x, slope)


def at_most(number: float) -> Step:
    return lambda x: torch.min(x, torch.tensor(number))


def swish(x: Tensor) -> Tensor:
    return torch.sigmoid(x) * x


mish, gelu, relu, tanh, sigmoid = F.mish, F.gelu, F.relu, torch.tanh, torch.sigmoid
hardswish, hardtanh = F.hardswish, F.hardtanh
C2, T2, C3, T3, L = nn.Conv2d, nn.ConvTranspose2d, nn.Conv3d, nn.ConvTranspose3d, nn.Linear
IMAGE, VOLUME, ROWS = (4, 8, 22, 22), (2, 4, 8, 14, 14), (64, 256)


def chains(sizes: tuple[int, ...], **steps: Callable[[], tuple[Step, ...]]) -> list[Task]:
    """Tasks on inputs of one shape, by their numbers among the hundred."""
    return [Task("chains", f"2/{name[1:].replace('_', ' ')}", lambda make=make: (Chain(*make()), (R(*sizes),)))
            for name, make in steps.items()]


ON_IMAGES = chains(
    IMAGE,
    _1_conv_relu_bias=lambda: (C2(8, 16, 3), relu, plus(16, 1, 1)),
    _2_transposed_clamp_scale_clamp=lambda: (T2(8, 16, 3, 2, 1, 1), plus(16, 1, 1), clamp(0, 1), scale(2), clamp(0, 1),
                                            divide(2)),
    _4_conv_mish_mish=lambda: (C2(8, 16, 3), mish, mish),
    _5_transposed_subtract_tanh=lambda: (T2(8, 16, 4, 2, 1, 1), minus(16, 1, 1), tanh),
    _10_transposed_pool_hardtanh_mean_tanh=lambda: (T2(8, 16, 3, padding=1), nn.MaxPool2d(2), hardtanh,
                                                    mean(2, 3), tanh),
    _11_transposed_batch_norm_tanh_pool_group_norm=lambda: (T2(8, 16, 5, padding=1), nn.BatchNorm2d(16), tanh,
                                                            nn.MaxPool2d(2), nn.GroupNorm(4, 16)),
    _16_transposed_mish_add_hardtanh_scale=lambda: (T2(8, 16, 3, 2, 1, 1), mish, shift(0.5), hardtanh, scale(2)),
    _17_conv_instance_norm_divide=lambda: (C2(8, 16, 3), nn.InstanceNorm2d(16), divide(2)),
    _19_transposed_gelu_group_norm=lambda: (T2(8, 16, 3), gelu, nn.GroupNorm(8, 16)),
    _21_conv_add_scale_sigmoid_group_norm=lambda: (C2(8, 16, 3), plus(16, 1, 1), times(16, 1, 1), sigmoid,
                                                   nn.GroupNorm(8, 16)),
    _25_conv_min_tanh_tanh=lambda: (C2(8, 16, 3), least(), tanh, tanh),
    _31_conv_min_add_multiply=lambda: (C2(8, 16, 3), at_most(0.5), plus(16, 1, 1), scale(2)),
    _32_conv_scale_min=lambda: (C2(8, 16, 3), scale(2), least()),
    _35_conv_subtract_hardswish_pool_mish=lambda: (C2(8, 16, 3), shift(-0.5), hardswish, nn.MaxPool2d(2), mish),
    _36_transposed_min_sum_gelu_add=lambda: (T2(8, 16, 3, 2, 1, 1), least(), total(2), gelu, plus(1, 1, 1)),
    _42_transposed_average_bias_lse_sum=lambda: (T2(8, 16, 3), mean(2, 3), plus(16, 1, 1), lse(),
                                                 lambda x: x.sum((2, 3)), scale(10)),
    _44_transposed_multiply_averages=lambda: (T2(8, 16, 3, 2, 1, 1), scale(0.5), mean(2, 3), mean(2, 3)),
    _46_conv_subtract_tanh_subtract_pool=lambda: (C2(8, 16, 3), shift(-0.5), tanh, shift(-0.2), nn.AvgPool2d(2)),
    _52_conv_activation_batch_norm=lambda: (C2(8, 16, 3), lambda x: torch.tanh(F.softplus(x)) * x, nn.BatchNorm2d(16)),
    _54_conv_multiply_leaky_gelu=lambda: (C2(8, 16, 3), times(16, 1, 1), leaky(0.01), gelu),
    _57_conv_relu_hardswish=lambda: (C2(8, 16, 3), relu, lambda x: x * ((x + 3) / 6).clamp(0, 1)),
    _65_conv_pool_sigmoid_sum=lambda: (C2(8, 16, 3), nn.AvgPool2d(2), sigmoid, lambda x: x.sum((1, 2, 3))),
    _67_conv_gelu_average=lambda: (C2(8, 16, 3), gelu, nn.AdaptiveAvgPool2d(1), lambda x: x.squeeze(-1).squeeze(-1)),
    _69_conv_hardswish_relu=lambda: (C2(8, 16, 3), hardswish, relu),
    _71_conv_divide_leaky=lambda: (C2(8, 16, 3), divide(2), leaky(0.01)),
    _73_conv_batch_norm_scale=lambda: (C2(8, 16, 3), nn.BatchNorm2d(16), scale(2)),
    _82_conv_tanh_scale_bias_pool=lambda: (C2(8, 16, 3), tanh, scale(2), plus(16, 1, 1), nn.MaxPool2d(2)),
    _85_conv_group_norm_scale_pool_clamp=lambda: (C2(8, 16, 3), nn.GroupNorm(8, 16), times(16, 1, 1), nn.MaxPool2d(2),
                                                  clamp(0, 1)),
    _87_conv_subtract_subtract_mish=lambda: (C2(8, 16, 3), shift(-0.5), shift(-0.2), mish),
    _91_transposed_softmax_bias_scale_sigmoid=lambda: (T2(8, 16, 4, 2, 1, 1), softmax(), plus(16, 1, 1), scale(2),
                                                       sigmoid),
    _92_conv_group_norm_tanh_hardswish_residual_lse=lambda: (C2(8, 16, 3), Beside(
        torch.add, nn.GroupNorm(8, 16), tanh, hardswish), lse()),
    _93_transposed_add_min_gelu_multiply=lambda: (T2(8, 16, 4, 2), shift(0.5), at_most(0.0), gelu, scale(2)),
)
ON_VOLUMES = chains(
    VOLUME,
    _3_transposed_sum_layer_norm_pool_gelu=lambda: (T3(4, 8, 3, 2, 1, 1), shift(1.0), nn.LayerNorm(28), nn.AvgPool3d(2),
                                                    gelu),
    _6_conv_softmax_pool_pool=lambda: (C3(4, 8, 3), softmax(), nn.MaxPool3d(2), nn.MaxPool3d(2)),
    _7_conv_relu_leaky_gelu_sigmoid_bias=lambda: (C3(4, 8, 3), relu, leaky(0.01), gelu, sigmoid, plus(8, 1, 1, 1)),
    _8_conv_divide_pool_average_bias_sum=lambda: (C3(4, 8, 3), divide(2), nn.MaxPool3d(2), mean(2, 3, 4),
                                                  plus(8, 1, 1, 1), lambda x: x.sum(1)),
    _13_transposed_mean_add_softmax_tanh_scale=lambda: (T3(4, 8, 3, padding=1), mean(2), plus(1, 8, 1, 1, 1), softmax(),
                                                       tanh, scale(2)),
    _15_transposed_batch_norm_subtract=lambda: (T3(4, 8, 3, 2, 1), nn.BatchNorm3d(8),
                                                lambda x: x - x.mean((2, 3, 4), keepdim=True)),
    _20_transposed_sum_residuals=lambda: (T3(4, 8, 3, 2, 1, 1), With(lambda x, b: ((x + b) + x) * x + x, 8, 1, 1, 1)),
    _23_conv_group_norm_mean=lambda: (C3(4, 8, 3), nn.GroupNorm(4, 8), lambda x: x.mean((1, 2, 3, 4))),
    _24_conv_min_softmax=lambda: (C3(4, 8, 3), lambda x: x.min(2)[0], softmax()),
    _26_transposed_add_hardswish=lambda: (T3(4, 8, 3, 2, 1, 1), With(lambda x, b: (x + b) * F.hardswish(x + b),
                                                                     8, 1, 1, 1)),
    _27_conv_hardswish_group_norm_mean=lambda: (C3(4, 8, 3), hardswish, nn.GroupNorm(4, 8),
                                                lambda x: x.mean((2, 3, 4))),
    _34_transposed_layer_norm_gelu_scale=lambda: (T3(4, 8, 4, 2, 1), nn.LayerNorm(28), gelu, scale(1.5)),
    _38_pool_transposed_clamp_softmax_multiply=lambda: (nn.AvgPool3d(2), T3(4, 8, 3, 2, 1, 1), clamp(0, 1), lambda x: (
        x.flatten(2).softmax(2).view(x.shape)), times(1, 8, 1, 1, 1)),
    _43_conv_pool_lse_relu=lambda: (C3(4, 8, 3, 1, 1), nn.MaxPool3d(2, 2), lse(), relu),
    _47_conv_mish_tanh=lambda: (C3(4, 8, 3), mish, tanh),
    _48_conv_scale_tanh_multiply_sigmoid=lambda: (C3(4, 8, 3), times(8, 1, 1, 1), tanh, times(8, 1, 1, 1), sigmoid),
    _49_transposed_softmax_sigmoid=lambda: (T3(4, 8, 3, 2, 1, 1), softmax(), sigmoid),
    _50_transposed_scale_pool_bias_scale=lambda: (T3(4, 8, 3, 2, 1), times(1), nn.AvgPool3d(2), plus(8, 1, 1, 1),
                                                  times(1)),
    _58_transposed_lse_hardswish_subtract_clamp=lambda: (T3(4, 8, 3, 2, 1), lse(), lambda x: x * sigmoid(x + 3) / 6,
                                                         minus(1, 1, 1, 1), clamp(-1, 1)),
    _60_transposed_swish_group_norm_hardswish=lambda: (T3(4, 8, 3, 2, 1), swish, nn.GroupNorm(4, 8), hardswish),
    _61_transposed_relu_group_norm=lambda: (T3(4, 8, 3, bias=False), relu, nn.GroupNorm(4, 8)),
    _72_transposed_batch_norm_pools=lambda: (T3(4, 8, 3, 2, 1), nn.BatchNorm3d(8), nn.AvgPool3d(2), nn.AvgPool3d(2)),
    _74_transposed_leaky_multiply_leaky_pool=lambda: (T3(4, 8, 3, 2, 1, 1), leaky(), times(8, 1, 1, 1), leaky(),
                                                      nn.MaxPool3d(2)),
    _77_transposed_scale_batch_norm_average=lambda: (T3(4, 8, 3), scale(2), nn.BatchNorm3d(8),
                                                     nn.AdaptiveAvgPool3d(1)),
    _78_transposed_pools_sum=lambda: (T3(4, 8, 5, 2, 2), nn.MaxPool3d(2), nn.MaxPool3d(3), total(1)),
    _79_conv_multiply_instance_norm_clamp_multiply_max=lambda: (
        C3(4, 8, 3), With(lambda x, w: (F.instance_norm(x * w).clamp(-1, 1) * w).max(1)[0], 8, 1, 1, 1)),
    _83_conv_group_norm_min_clamp_dropout=lambda: (C3(4, 8, 3), nn.GroupNorm(4, 8), at_most(0.0), clamp(0, 1),
                                                   nn.Dropout(0.2)),
    _89_transposed_pool_softmax_subtract_swish_max=lambda: (T3(4, 8, 3, 2, 1, 1), nn.MaxPool3d(2), softmax(),
                                                            minus(8, 1, 1, 1), swish, lambda x: x.max(1)[0]),
    _90_conv_leaky_sum_clamp_gelu=lambda: (C3(4, 8, 3), leaky(), plus(8, 1, 1, 1), clamp(-1, 1), gelu),
    _96_transposed_multiply_pool_average_clamp=lambda: (T3(4, 8, 3, 2, 1), scale(0.5), nn.MaxPool3d(2),
                                                        nn.AdaptiveAvgPool3d(1), clamp(0, 1)),
    _100_transposed_clamp_divide=lambda: (T3(4, 8, 3, 2, 1), lambda x: x.clamp(min=-1.0), divide(2)),
)
ON_ROWS = chains(
    ROWS,
    _9_linear_subtract_multiply_relu=lambda: (L(256, 128), shift(-2), scale(1.5), relu),
    _12_linear_multiply_leaky=lambda: (L(256, 128), scale(2), leaky(0.1)),
    _14_product_divide_sum_scale=lambda: (With(lambda x, w: (x @ w.T / 2).sum(1, keepdim=True) * 1.5, 128, 256),),
    _18_linear_sum_max_mean_lse_lse=lambda: (L(256, 128), total(1), largest(), mean(1), lse(), lse()),
    _22_linear_scale_residual_clamp_lse_mish=lambda: (L(256, 128), scale(2), lambda x: x + x, clamp(-10, 10), lse(),
                                                      lambda x: x * mish(x)),
    _29_linear_mish_mish=lambda: (L(256, 128), mish, mish),
    _30_linear_group_norm_hardtanh=lambda: (L(256, 128), nn.GroupNorm(8, 128), hardtanh),
    _33_linear_scale_batch_norm=lambda: (L(256, 128), times(128), nn.BatchNorm1d(128)),
    _37_linear_swish_bias_group_norm=lambda: (L(256, 128), swish, plus(128), nn.GroupNorm(8, 128)),
    _39_linear_scale_batch_norm_again=lambda: (L(256, 128), times(128), nn.BatchNorm1d(128)),
    _40_linear_scale_residual=lambda: (L(256, 128), lambda x: x * 0.5 + x.clone().detach()),
    _41_linear_batch_norm_gelu_relu=lambda: (L(256, 128), nn.BatchNorm1d(128), gelu, relu),
    _45_linear_sigmoid_linear_lse=lambda: (L(256, 128), sigmoid, L(128, 64), lambda x: x.logsumexp(1)),
    _51_linear_subtract_average_lse_gelu_residual=lambda: (Beside(
        torch.add, L(256, 128), minus(128), mean(1), lse(), gelu),),
    _53_linear_scale_hardtanh_gelu=lambda: (L(256, 128), scale(0.5), hardtanh, gelu),
    _55_linear_pool_sum_scale=lambda: (L(256, 128), lambda x: F.max_pool1d(x.unsqueeze(1), 2).squeeze(1).sum(1),
                                       scale(0.5)),
    _56_linear_sigmoid_sum=lambda: (L(256, 128), sigmoid, total(1)),
    _59_linear_swish_scale=lambda: (L(256, 128), swish, scale(2)),
    _62_linear_group_norm_leaky_sum=lambda: (L(256, 128), nn.GroupNorm(8, 128), leaky(0.01), lambda x: x + x),
    _63_linear_relu_divide=lambda: (L(256, 128), relu, divide(2)),
    _64_linear_lse_leaky_leaky_gelu_gelu=lambda: (L(256, 128), lse(), leaky(0.01), leaky(0.01), gelu, gelu),
    _66_linear_dropout_softmax=lambda: (L(256, 128), nn.Dropout(0.2), softmax()),
    _68_linear_min_subtract=lambda: (L(256, 128), at_most(0.5), shift(-0.5)),
    _70_linear_sigmoid_scale_residual=lambda: (L(256, 128), lambda x: sigmoid(x) * 2 + x),
    _75_linear_group_norm_min_bias=lambda: (L(256, 128), nn.GroupNorm(8, 128), least(), plus(1, 128, 1, 1)),
    _76_linear_add_relu=lambda: (L(256, 128, bias=False), plus(128), relu),
    _80_linear_max_subtract_gelu=lambda: (L(256, 128), largest(), lambda x: x - x.mean(1, keepdim=True), gelu),
    _81_linear_swish_divide_clamp_tanh_clamp=lambda: (L(256, 128), swish, divide(2), clamp(-1, 1), tanh, clamp(-1, 1)),
    _84_linear_batch_norm_scale_softmax=lambda: (L(256, 128), nn.BatchNorm1d(128), times(1), softmax()),
    _86_linear_divide_gelu=lambda: (L(256, 128), divide(10), gelu),
    _88_linear_group_norm_swish_multiply_swish=lambda: (L(256, 128), nn.GroupNorm(8, 128), swish, times(128), swish),
    _94_linear_bias_hardtanh_mish_group_norm=lambda: (L(256, 128), plus(128), hardtanh, mish, nn.GroupNorm(8, 128)),
    _95_linear_add_swish_tanh_gelu_hardtanh=lambda: (L(256, 128), plus(128), swish, tanh, gelu, hardtanh),
    _97_linear_batch_norm_bias_divide_swish=lambda: (L(256, 128), nn.BatchNorm1d(128), plus(1), divide(2), swish),
    _98_linear_pool_gelu_scale_max=lambda: (L(256, 128), lambda x: F.avg_pool1d(x.unsqueeze(1), 4).squeeze(1), gelu,
                                            scale(2), lambda x: x.max(1)[0]),
    _99_linear_gelu_softmax=lambda: (L(256, 128), gelu, softmax()),
)


class NormedProduct(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = L(256, 128)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        normed = F.instance_norm(self.linear(x)[:, None, None]).squeeze(1).squeeze(1)
        return (normed + y) * y


TASKS = [*ON_IMAGES, *ON_VOLUMES, *ON_ROWS,
         Task("chains", "2/28 linear instance norm sum multiply", lambda: (NormedProduct(), (R(*ROWS), R(64, 128))))]

__all__ = ["TASKS", "Chain"]
