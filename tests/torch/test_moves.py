"""Parts of tensors, indexing, pooling, scans and positions of extrema are those of torch."""

from __future__ import annotations

import pytest

from tests.torch.graphs import agree, torch

F = torch.nn.functional


def test_parts() -> None:
    x = torch.randn(5, 8, 3)
    agree(lambda x: [x[1:4] * 2, x[:, -3:] + 1, x[:, ::3].relu(), x[2] - 1, x[..., -1].exp(), x[:, :100] * 3], x)
    agree(lambda x: [a * 2 for a in x.split(3, 1)] + [a + 1 for a in x.unbind(0)[:2]] + [x.chunk(2, 0)[1] * 2], x)


def test_windows() -> None:
    x = torch.randn(2, 13)
    agree(lambda x: [x.unfold(1, 4, 3) * 2, x.unfold(-1, 5, 1).sum(-1), x.unfold(0, 2, 2).exp()], x)


def test_several_as_one() -> None:
    x, y = torch.randn(4, 5), torch.randn(4, 2)
    agree(lambda x, y: [torch.cat([x, y, x], 1) * 2, torch.stack([x, x + 1], 1).relu()], x, y)
    agree(lambda x, y: [torch.cat([x.half(), y], -1) + 1], x, y)


def test_more_around() -> None:
    x = torch.randn(2, 3, 6, 5)
    agree(lambda x: [F.pad(x, (1, 2)) * 2, F.pad(x, (0, 1, 3, 0), value=-1.5).relu(), F.pad(x, (-1, 2, 0, -3)) + 1], x)
    agree(lambda x: [x.flip(1) * 2, x.flip(0, 3) + x], x)


def test_indices() -> None:
    w, i = torch.randn(9, 4), torch.tensor([[1, 8, 0], [3, 3, 2]])
    agree(lambda w, i: [F.embedding(i, w) * 2, w[i] + 1, w.index_select(0, i[0]).relu(), w[i[0], i[1]] * 2], w, i)
    agree(lambda w, i: [w[i - 5] * 2, w.gather(0, i) + 1], w, i)
    agree(lambda w: [w[:, torch.tensor([1, -1])] + 1], w)


@pytest.mark.parametrize("form", [{}, {"stride": 1}, {"padding": 1}, {"stride": (2, 1), "padding": (0, 1)}], ids=str)
def test_pooling(form: dict[str, int]) -> None:
    x = torch.randn(2, 3, 9, 8)
    x[0, 0, 2, 2] = float("nan")
    agree(lambda x: [F.max_pool2d(x, 2, **form), F.avg_pool2d(x, 2, **form) * 2], x)
    agree(lambda x: [*F.max_pool2d(x, (3, 2), return_indices=True, **form)], x)
    agree(lambda x: [F.avg_pool2d(x, 2, count_include_pad=False, **form)], x)


def test_pooling_of_other_ranks() -> None:
    agree(lambda x: [F.max_pool1d(x, 3, 2), F.avg_pool1d(x, 2, 1, 1)], torch.randn(2, 3, 9))
    agree(lambda x: [F.max_pool3d(x, 2, dilation=2), F.avg_pool3d(x, 2)], torch.randn(1, 2, 6, 5, 7))
    agree(lambda x: [F.max_pool2d(x, 2, ceil_mode=True)], torch.randn(1, 2, 7, 7))
    agree(lambda x: [F.adaptive_avg_pool2d(x, 3)], torch.randn(1, 2, 6, 9))


def test_scans_and_positions() -> None:
    x = torch.randn(5, 70)
    x[2, 30] = float("nan")
    agree(lambda x: [x.cumsum(1), x.cumsum(0).relu(), x.cumprod(-1), x.half().cumsum(1)], torch.randn(5, 70))
    agree(lambda x: [x.argmax(1), x.argmin(0), x.argmax(), x.argmax(1, keepdim=True)], x)
    agree(lambda x: [x.cumsum(1)], torch.randint(0, 9, (3, 40)))


def test_numbers_in_steps() -> None:
    agree(lambda x: [x + torch.arange(7), x * torch.arange(20, 6, -2), x[:, :1] * torch.arange(3, dtype=torch.float32)],
          torch.randn(5, 7))
    agree(lambda x: [torch.where(torch.arange(7)[:, None] >= torch.arange(7), x @ x.T, 0.0)], torch.randn(7, 3))
