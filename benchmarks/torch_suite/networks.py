"""Level 3: networks, in the order of KernelBench's fifty tasks, each written anew from its name; with fewer channels
and smaller images than the originals'."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.torch_suite.blocks import (
    Attention,
    Branches,
    Residual,
    Seq,
    WindowAttention,
    Windows,
    block,
    causal_attention,
    conv,
    conv_bn,
    excite,
    head,
    linear_bn,
    relu_attention,
)
from benchmarks.torch_suite.task import R, Task, model

POOL = (3, 2, 1)
IMAGE = (2, 3, 32, 32)


def net(number: int, name: str, make: Callable[[], nn.Module], *sizes: Sequence[int]) -> Task:
    return model("networks", f"3/{number} {name}", make, *sizes)


def perceptron(*widths: int) -> nn.Module:
    layers: list[nn.Module] = []
    for i, o in itertools.pairwise(widths):
        layers += [nn.Linear(i, o), nn.ReLU()]
    return Seq(*layers[:-1])


def alexnet() -> nn.Module:
    return Seq(nn.Conv2d(3, 24, 11, 4, 2), nn.ReLU(), nn.MaxPool2d(3, 2), conv(24, 32, 5), nn.ReLU(),
               nn.MaxPool2d(3, 2), conv(32, 48), nn.ReLU(), conv(48, 48), nn.ReLU(), conv(48, 32), nn.ReLU(),
               nn.MaxPool2d(3, 2), nn.Flatten(), nn.Linear(128, 256), nn.ReLU(), nn.Dropout(0.0), nn.Linear(256, 10))


def inception(i: int, one: int, before3: int, three: int, before5: int, five: int, pooled: int) -> nn.Module:
    return Branches(conv(i, one, 1), Seq(conv(i, before3, 1), conv(before3, three)),
                    Seq(conv(i, before5, 1), conv(before5, five, 5)), Seq(nn.MaxPool2d(3, 1, 1), conv(i, pooled, 1)))


def googlenet() -> nn.Module:
    return Seq(nn.Conv2d(3, 16, 7, 2, 3), nn.ReLU(), nn.MaxPool2d(*POOL), conv(16, 16, 1), nn.ReLU(), conv(16, 32),
               nn.ReLU(), nn.MaxPool2d(*POOL), inception(32, 8, 8, 16, 4, 8, 8), inception(40, 16, 16, 24, 8, 12, 12),
               nn.MaxPool2d(*POOL), inception(64, 24, 12, 26, 4, 12, 12), head(74))


def basic(i: int, o: int, stride: int = 1) -> nn.Module:
    short = None if i == o and stride == 1 else linear_bn(i, o, 1, stride=stride)
    return Seq(Residual(conv_bn(i, o, stride=stride), linear_bn(o, o, 3), short=short), nn.ReLU())


def bottleneck(i: int, inner: int, stride: int = 1) -> nn.Module:
    o = 4 * inner
    short = None if i == o and stride == 1 else linear_bn(i, o, 1, stride=stride)
    return Seq(Residual(conv_bn(i, inner, 1), conv_bn(inner, inner, stride=stride), linear_bn(inner, o), short=short),
               nn.ReLU())


def stem(o: int) -> nn.Module:
    return Seq(nn.Conv2d(3, o, 7, 2, 3, bias=False), nn.BatchNorm2d(o), nn.ReLU(), nn.MaxPool2d(*POOL))


def resnet18() -> nn.Module:
    layers = [basic(16, 16), basic(16, 16), basic(16, 32, 2), basic(32, 32), basic(32, 48, 2), basic(48, 48),
              basic(48, 64, 2), basic(64, 64)]
    return Seq(stem(16), *layers, head(64))


def resnet101() -> nn.Module:
    layers = [bottleneck(16, 8), *[bottleneck(32, 8) for _ in range(2)], bottleneck(32, 12, 2),
              *[bottleneck(48, 12) for _ in range(3)], bottleneck(48, 16, 2), *[bottleneck(64, 16) for _ in range(22)],
              bottleneck(64, 24, 2), *[bottleneck(96, 24) for _ in range(2)]]
    return Seq(stem(16), *layers, head(96))


def vgg(*counts: int) -> nn.Module:
    layers: list[nn.Module] = []
    i = 3
    for o, count in zip((8, 16, 32, 64, 64), counts, strict=True):
        for _ in range(count):
            layers += [conv(i, o), nn.ReLU()]
            i = o
        layers.append(nn.MaxPool2d(2))
    return Seq(*layers, nn.Flatten(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 10))


def dense_layer(i: int, growth: int) -> nn.Module:
    return Branches(nn.Identity(), Seq(nn.BatchNorm2d(i), nn.ReLU(), conv(i, growth, bias=False)))


def dense_block(i: int, growth: int, count: int) -> nn.Module:
    return Seq(*[dense_layer(i + n * growth, growth) for n in range(count)])


def transition(i: int, o: int) -> nn.Module:
    return Seq(nn.BatchNorm2d(i), nn.ReLU(), conv(i, o, 1, bias=False), nn.AvgPool2d(2))


def densenet(*counts: int, growth: int = 4) -> nn.Module:
    layers: list[nn.Module] = [stem(8)]
    width = 8
    for n, count in enumerate(counts):
        layers.append(dense_block(width, growth, count))
        width += growth * count
        if n < len(counts) - 1:
            layers.append(transition(width, width // 2))
            width //= 2
    return Seq(*layers, nn.BatchNorm2d(width), nn.ReLU(), head(width))


def fire(i: int, squeezed: int, o: int) -> nn.Module:
    return Seq(conv(i, squeezed, 1), nn.ReLU(), Branches(Seq(conv(squeezed, o, 1), nn.ReLU()),
                                                         Seq(conv(squeezed, o), nn.ReLU())))


def squeezenet() -> nn.Module:
    return Seq(nn.Conv2d(3, 24, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, ceil_mode=True), fire(24, 8, 16), fire(32, 8, 16),
               fire(32, 8, 24), nn.MaxPool2d(3, 2, ceil_mode=True), fire(48, 12, 24), fire(48, 12, 32),
               nn.Dropout(0.0), conv(64, 10, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())


def separable(i: int, o: int, stride: int = 1) -> nn.Module:
    return Seq(conv_bn(i, i, stride=stride, groups=i), conv_bn(i, o, 1))


def mobilenet() -> nn.Module:
    widths = (8, 16, 32, 32, 64, 64, 128, *[128] * 4, 256)
    return Seq(conv_bn(3, 8, stride=2), *[separable(i, o, 2 if o != i and o > 16 else 1)
                                          for i, o in itertools.pairwise(widths)], head(256))


def inverted(i: int, o: int, stride: int = 1, expand: int = 4, kernel: int = 3, weighed: bool = False,
             act: Callable[[], nn.Module] = nn.ReLU6) -> nn.Module:
    inner = i * expand
    layers = [conv_bn(i, inner, 1, act()), conv_bn(inner, inner, kernel, act(), stride=stride, groups=inner),
              *([excite(inner, max(1, i // 4))] if weighed else []), linear_bn(inner, o)]
    return Residual(*layers) if stride == 1 and i == o else Seq(*layers)


def mobilenet2() -> nn.Module:
    return Seq(conv_bn(3, 8, act=nn.ReLU6(), stride=2), inverted(8, 8, expand=1), inverted(8, 12, 2), inverted(12, 12),
               inverted(12, 16, 2), inverted(16, 16), inverted(16, 16), inverted(16, 24, 2), inverted(24, 24),
               conv_bn(24, 64, 1, nn.ReLU6()), head(64))


def efficientnet(*counts: int) -> nn.Module:
    layers: list[nn.Module] = [conv_bn(3, 8, act=nn.SiLU(), stride=2)]
    width = 8
    for n, count in enumerate(counts):
        for step in range(count):
            o, stride = 8 + 4 * n, 2 if step == 0 and n % 2 else 1
            layers.append(inverted(width, o, stride, 1 if n == 0 else 4, 5 if n % 3 == 2 else 3, True, nn.SiLU))
            width = o
    return Seq(*layers, conv_bn(width, 64, 1, nn.SiLU()), head(64))


class Shuffle(nn.Module):
    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = groups

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        return x.view(n, self.groups, c // self.groups, h, w).transpose(1, 2).reshape(n, c, h, w)


def shuffle_unit(i: int, o: int, groups: int = 3) -> nn.Module:
    inner = o // 4
    short = None if i == o else linear_bn(i, o)
    return Residual(conv_bn(i, inner, 1, groups=groups), Shuffle(groups), linear_bn(inner, inner, 3, groups=inner),
                    conv_bn(inner, o, 1, groups=groups), short=short)


def shufflenet() -> nn.Module:
    return Seq(conv_bn(3, 12, stride=2), nn.MaxPool2d(*POOL), shuffle_unit(12, 24), shuffle_unit(24, 24),
               shuffle_unit(24, 48), shuffle_unit(48, 48), conv_bn(48, 64, 1), head(64))


def regnet() -> nn.Module:
    def stage(i: int, o: int) -> nn.Module:
        return Seq(conv_bn(i, o), conv_bn(o, o), nn.MaxPool2d(2))

    return Seq(stage(3, 16), stage(16, 32), stage(32, 48), nn.Flatten(2), Mean(2), nn.Linear(48, 10))


class Mean(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(self.dim)


class VisionTransformer(nn.Module):
    """Patches by a reshape of unfolded images, a token of the class, torch's encoder layers."""

    def __init__(self, patch: int, width: int, depth: int, convolved: bool = False) -> None:
        super().__init__()
        self.patch, self.convolved = patch, convolved
        self.embed: nn.Module = nn.Conv2d(3, width, patch, patch) if convolved else nn.Linear(3 * patch**2, width)
        self.token, self.places = nn.Parameter(R(1, 1, width)), nn.Parameter(R(1, (32 // patch) ** 2 + 1, width))
        self.layers = Seq(*[nn.TransformerEncoderLayer(width, 4, 2 * width, 0.0, "gelu", batch_first=True)
                            for _ in range(depth)])
        self.head = Seq(nn.Linear(width, 64), nn.GELU(), nn.Linear(64, 10))

    def forward(self, x: Tensor) -> Tensor:
        p = self.patch
        if self.convolved:
            x = self.embed(x).flatten(2).transpose(1, 2)
        else:
            patches = x.unfold(2, p, p).unfold(3, p, p)
            x = self.embed(patches.reshape(x.shape[0], -1, p * p * x.shape[1]))
        x = torch.cat((self.token.expand(x.shape[0], -1, -1), x), 1) + self.places
        return self.head(self.layers(x)[:, 0])


class Merge(nn.Module):
    """Patches of 2 by 2 become one of twice the width."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.linear = nn.LayerNorm(4 * width), nn.Linear(4 * width, 2 * width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        parts = [x[:, i::2, j::2] for j in (0, 1) for i in (0, 1)]
        return self.linear(self.norm(torch.cat(parts, -1)))


class Last(nn.Module):
    """Channels to the end."""

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(0, 2, 3, 1)


class AverageOfPlaces(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean((1, 2))


class TokensOfHeads(nn.Module):
    """A product over the places of a window, of its own for each head."""

    def __init__(self, heads: int, places: int) -> None:
        super().__init__()
        self.heads, self.mix = heads, nn.Conv1d(heads * places, heads * places, 1, groups=heads)

    def forward(self, x: Tensor) -> Tensor:
        b, t, c = x.shape
        parts = x.view(b, t, self.heads, c // self.heads).transpose(1, 2).reshape(b, self.heads * t, c // self.heads)
        return self.mix(parts).view(b, self.heads, t, c // self.heads).transpose(1, 2).reshape(b, t, c)


def swin(inner: Callable[[int, int], nn.Module], after: bool) -> nn.Module:
    def layer(width: int, shift: int) -> nn.Module:
        mix, mlp = Windows(inner(width, 4), 4, shift), perceptron(width, 2 * width, width)
        norms = [nn.LayerNorm(width) for _ in range(2)]
        pairs = [(mix, norms[0]), (mlp, norms[1])] if after else [(norms[0], mix), (norms[1], mlp)]
        return Seq(*[Residual(*pair) for pair in pairs])

    return Seq(nn.Conv2d(3, 32, 4, 4), Last(), nn.LayerNorm(32), layer(32, 0), layer(32, 2), Merge(32), layer(64, 0),
               nn.LayerNorm(64), AverageOfPlaces(), nn.Linear(64, 10))


class ImageAttention(nn.Module):
    """Torch's attention over the places of an image, with its norm after the sum."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attend, self.norm = nn.MultiheadAttention(width, heads), nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        rows = x.flatten(2).permute(2, 0, 1)
        found, _ = self.attend(rows, rows, rows)
        return self.norm(found + rows).permute(1, 2, 0).view(b, c, h, w)


class Recurrent(nn.Module):
    """One of torch's recurrent modules, and a layer on the last of its outputs; or one of its states."""

    def __init__(self, kind: type[nn.Module], state: int | None = None, both: bool = False) -> None:
        super().__init__()
        self.inner = kind(16, 32, 2, batch_first=True, bidirectional=both)
        self.state, self.layer = state, nn.Linear(64 if both else 32, 10)

    def forward(self, x: Tensor) -> Tensor:
        out, states = self.inner(x)
        if self.state is not None:
            return states[self.state] if isinstance(states, tuple) else states
        return self.layer(out[:, -1])


class Vanilla(nn.Module):
    """A recurrent network of two products, step by step."""

    def __init__(self, hidden: bool) -> None:
        super().__init__()
        self.step, self.out, self.hidden = nn.Linear(16 + 32, 32), nn.Linear(32, 8), hidden

    def forward(self, xs: Tensor, state: Tensor) -> Tensor:
        found = []
        for x in xs:
            state = torch.tanh(self.step(torch.cat((x, state), 1)))
            found.append(self.out(state))
        return torch.stack(found) if self.hidden else found[-1]


class NewGelu(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return 0.5 * x * (1 + torch.tanh(0.7978845608 * (x + 0.044715 * x.pow(3))))


class Unet(nn.Module):
    """Two levels, each of two convolutions with softmaxes along the width."""

    def __init__(self, i: int, width: int) -> None:
        super().__init__()
        def double(i: int, o: int) -> nn.Module:
            return Seq(*[m for a in (i, o) for m in (conv(a, o), nn.BatchNorm2d(o), nn.Softmax(-1))])

        self.down1, self.down2, self.middle = double(i, width), double(width, 2 * width), double(2 * width, 4 * width)
        self.up2, self.up1 = (nn.ConvTranspose2d(2 * w, w, 2, 2) for w in (2 * width, width))
        self.join2, self.join1 = double(4 * width, 2 * width), double(2 * width, width)
        self.out = nn.Conv2d(width, i, 1)

    def forward(self, x: Tensor) -> Tensor:
        first = self.down1(x)
        second = self.down2(F.max_pool2d(first, 2))
        middle = self.middle(F.max_pool2d(second, 2))
        second = self.join2(torch.cat((self.up2(middle), second), 1))
        return self.out(self.join1(torch.cat((self.up1(second), first), 1)))


class NetVlad(nn.Module):
    """Residuals of features to the centres of clusters, weighed by a softmax; ``ghosts`` clusters are dropped."""

    def __init__(self, clusters: int, width: int, ghosts: int) -> None:
        super().__init__()
        self.clusters, self.weight = clusters, nn.Parameter(R(width, clusters + ghosts) * width**-0.5)
        self.norm, self.centres = nn.BatchNorm1d(clusters + ghosts), nn.Parameter(R(1, width, clusters) * width**-0.5)

    def forward(self, x: Tensor) -> Tensor:
        b, t, c = x.shape
        weights = self.norm(x.reshape(-1, c) @ self.weight).softmax(1)[:, : self.clusters].view(b, t, self.clusters)
        found = (weights.transpose(1, 2) @ x).transpose(1, 2) - weights.sum(1, keepdim=True) * self.centres
        return F.normalize(F.normalize(found).reshape(b, -1))


class Mamba(nn.Module):
    """The chunked form of a state space with scalar decays (SSD): what chunks say, and what states carry."""

    def __init__(self, length: int, heads: int, state: int, last: bool) -> None:
        super().__init__()
        self.decay, self.last = nn.Parameter(-torch.rand(1, length, heads)), last
        self.b, self.c = (nn.Parameter(R(1, length, heads, state)) for _ in range(2))

    def segments(self, x: Tensor) -> Tensor:
        total = x.cumsum(-1)
        found = total[..., :, None] - total[..., None, :]
        inside = torch.ones(x.shape[-1], x.shape[-1], dtype=torch.bool, device=x.device).tril()
        return found.masked_fill(~inside, float("-inf"))

    def forward(self, x: Tensor) -> Tensor:
        batch, length, heads, width = x.shape
        chunks = (length // 16, 16)
        x, b, c = (v.expand(batch, -1, -1, -1).reshape(batch, *chunks, heads, -1) for v in (x, self.b, self.c))
        a = self.decay.expand(batch, -1, -1).reshape(batch, *chunks, heads).permute(0, 3, 1, 2)
        total = a.cumsum(-1)
        inside = torch.einsum("bclhn,bcshn,bhcls,bcshp->bclhp", c, b, self.segments(a).exp(), x)
        states = torch.einsum("bclhn,bhcl,bclhp->bchpn", b, (total[..., -1:] - total).exp(), x)
        states = torch.cat((torch.zeros_like(states[:, :1]), states), 1)
        between = self.segments(F.pad(total[..., -1], (1, 0))).exp()
        states = torch.einsum("bhzc,bchpn->bzhpn", between, states)
        if self.last:
            return states[:, -1]
        carried = torch.einsum("bclhn,bchpn,bhcl->bclhp", c, states[:, :-1], total.exp())
        return (inside + carried).reshape(batch, length, heads, width)


def convolved_transformer() -> nn.Module:
    return Seq(nn.Conv2d(3, 32, 4, 4), nn.Flatten(2), TokensFirst(),
               *[nn.TransformerEncoderLayer(32, 4, 64, 0.0, batch_first=True) for _ in range(2)], Mean(1),
               nn.Linear(32, 10))


class TokensFirst(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.transpose(1, 2)


TASKS = [
    net(1, "perceptron", lambda: perceptron(512, 256, 256, 10), (16, 512)),
    net(2, "wide perceptron", lambda: perceptron(256, 2048, 2048, 10), (1, 256)),
    net(3, "deep perceptron", lambda: perceptron(256, *[64] * 16, 10), (1, 256)),
    net(4, "LeNet-5", lambda: Seq(
        nn.Conv2d(1, 6, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10)), (4, 1, 32, 32)),
    net(5, "AlexNet", alexnet, (2, 3, 96, 96)),
    net(6, "inception", lambda: inception(24, 16, 12, 24, 4, 8, 8), (2, 24, 28, 28)),
    net(7, "GoogLeNet", googlenet, (2, 3, 64, 64)), net(8, "residual block", lambda: basic(8, 32), (2, 8, 28, 28)),
    net(9, "ResNet-18", resnet18, (2, 3, 64, 64)), net(10, "ResNet-101", resnet101, (2, 3, 64, 64)),
    net(11, "VGG-16", lambda: vgg(2, 2, 3, 3, 3), IMAGE), net(12, "VGG-19", lambda: vgg(2, 2, 4, 4, 4), IMAGE),
    net(13, "dense transition", lambda: transition(32, 64), (4, 32, 32, 32)),
    net(14, "dense block", lambda: dense_block(16, 8, 6), (2, 16, 28, 28)),
    net(15, "DenseNet-121", lambda: densenet(6, 12, 24, 16), (2, 3, 64, 64)),
    net(16, "DenseNet-201", lambda: densenet(6, 12, 48, 32), (2, 3, 64, 64)),
    net(17, "fire module", lambda: fire(3, 6, 64), IMAGE), net(18, "SqueezeNet", squeezenet, (2, 3, 64, 64)),
    net(19, "MobileNet", mobilenet, (2, 3, 64, 64)), net(20, "MobileNet 2", mobilenet2, (2, 3, 64, 64)),
    net(21, "weighed inverted block", lambda: inverted(16, 24, 2, 6, 5), (2, 16, 28, 28)),
    net(22, "EfficientNet B0", lambda: efficientnet(1, 2, 2, 3, 3, 4, 1), (2, 3, 64, 64)),
    net(23, "EfficientNet B1", lambda: efficientnet(2, 3, 3, 4, 4, 5, 2), (2, 3, 64, 64)),
    net(24, "EfficientNet B2", lambda: efficientnet(2, 3, 3, 4, 4, 5, 2), (2, 3, 80, 80)),
    net(25, "shuffle unit", lambda: shuffle_unit(24, 48), (2, 24, 28, 28)),
    net(26, "ShuffleNet", shufflenet, (2, 3, 64, 64)), net(27, "RegNet", regnet, (2, 3, 64, 64)),
    net(28, "vision transformer", lambda: VisionTransformer(8, 64, 3), IMAGE),
    net(29, "Swin of products", lambda: swin(lambda w, n: TokensOfHeads(4, n * n), False), IMAGE),
    net(30, "Swin 2", lambda: swin(lambda w, n: WindowAttention(w, 4, n), True), IMAGE),
    net(31, "vision attention", lambda: ImageAttention(32, 4), (2, 32, 12, 12)),
    net(32, "convolutional transformer", convolved_transformer, IMAGE),
    net(33, "recurrent network", lambda: Vanilla(False), (4, 8, 16), (8, 32)),
    net(34, "recurrent network, all outputs", lambda: Vanilla(True), (4, 8, 16), (8, 32)),
    net(35, "LSTM", lambda: Recurrent(nn.LSTM), (4, 6, 16)),
    net(36, "LSTM's hidden", lambda: Recurrent(nn.LSTM, 0), (4, 6, 16)),
    net(37, "LSTM's cell", lambda: Recurrent(nn.LSTM, 1), (4, 6, 16)),
    net(38, "LSTM, both ways", lambda: Recurrent(nn.LSTM, None, True), (4, 6, 16)),
    net(39, "GRU", lambda: Recurrent(nn.GRU), (4, 6, 16)),
    net(40, "GRU's hidden", lambda: Recurrent(nn.GRU, 0), (4, 6, 16)),
    net(41, "GRU, both ways", lambda: Recurrent(nn.GRU, None, True), (4, 6, 16)),
    net(42, "GRU's hidden, both ways", lambda: Recurrent(nn.GRU, 0, True), (4, 6, 16)),
    net(43, "causal attention", lambda: Attention(64, 4, causal_attention), (2, 64, 64)),
    net(44, "GPT block", lambda: Seq(Residual(nn.LayerNorm(64), Attention(64, 4, causal_attention)), Residual(
        nn.LayerNorm(64), nn.Linear(64, 256), NewGelu(), nn.Linear(256, 64))), (2, 64, 64)),
    net(45, "U-Net of softmaxes", lambda: Unet(4, 8), (2, 4, 16, 32)),
    net(46, "NetVLAD", lambda: NetVlad(16, 32, 0), (2, 50, 32)),
    net(47, "NetVLAD with ghosts", lambda: NetVlad(16, 32, 8), (2, 50, 32)),
    net(48, "Mamba 2", lambda: Mamba(64, 4, 8, False), (2, 64, 4, 16)),
    net(49, "Mamba 2, last state", lambda: Mamba(64, 4, 8, True), (2, 64, 4, 16)),
    net(50, "relu attention", lambda: Attention(64, 4, relu_attention), (2, 64, 64)),
]

__all__ = ["TASKS", "Recurrent", "block"]
