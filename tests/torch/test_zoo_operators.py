"""Kernels of the zoo as operators of torch: checked by torch's own checks, and against torch."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from kernels_zoo.attention.flash_attention import flash_attention_forward
from kernels_zoo.gemm.matmul import matmul
from kernels_zoo.normalization.layer_norm import layer_norm
from kernels_zoo.normalization.softmax import softmax
from kernels_zoo.rnn.lstm import lstm_step
from tests.torch.graphs import torch
from tilus.torch import custom_op

Operator = Callable[[], tuple[Any, tuple[Any, ...], Callable[..., Any]]]


def product() -> Any:
    op = custom_op(matmul, outputs={"c": lambda a, b, **_: a.new_empty(a.shape[0], b.shape[1])})
    return op, (torch.randn(33, 40), torch.randn(40, 17)), lambda a, b: a @ b


def rows() -> Any:
    op = custom_op(softmax, outputs={"y": lambda x, **_: torch.empty_like(x)})
    return op, (torch.randn(9, 300),), lambda x: x.softmax(1)


def norm() -> Any:
    op = custom_op(layer_norm, outputs={"y": lambda x, **_: torch.empty_like(x)})
    return op, (torch.randn(9, 64), torch.randn(64), torch.randn(64)), lambda x, w, b: torch.nn.functional.layer_norm(
        x, (64,), w, b)


def attention() -> Any:
    op = custom_op(flash_attention_forward, outputs={
        "o": lambda q, **_: torch.empty_like(q),
        "lse": lambda q, **_: q.new_empty(q.shape[0], q.shape[2], q.shape[1])})

    def wanted(q: Any, k: Any, v: Any) -> Any:
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))
        scores = q @ k.transpose(2, 3) / math.sqrt(64)
        return (scores.softmax(3) @ v).transpose(1, 2), scores.logsumexp(3)

    return op, tuple(torch.randn(1, n, 2, 64) for n in (20, 30, 30)), wanted


def step() -> Any:
    op = custom_op(lstm_step, outputs={"h_out": lambda h, **_: torch.empty_like(h),
                                       "c_out": lambda c, **_: torch.empty_like(c)})
    inputs = [torch.randn(n) for n in ((5, 4, 1, 24), (4, 1, 24, 24), (4, 1, 24), (5, 1, 24), (5, 1, 24))]

    def wanted(wx: Any, r: Any, bias: Any, h: Any, c: Any) -> Any:
        i, f, z, o = (wx + torch.einsum("bnk,gndk->bgnd", h, r) + bias).unbind(1)
        new = f.sigmoid() * c + i.sigmoid() * z.tanh()
        return o.sigmoid() * new.tanh(), new

    return op, tuple(inputs), wanted


OPERATORS: dict[str, Operator] = {"matmul": product, "softmax": rows, "layer_norm": norm, "attention": attention,
                                  "lstm_step": step}


@pytest.mark.parametrize("name", OPERATORS)
def test_operator(name: str) -> None:
    torch.manual_seed(0)
    op, inputs, wanted = OPERATORS[name]()
    torch.testing.assert_close(op(*inputs), wanted(*inputs), rtol=1e-4, atol=1e-5)
    assert set(torch.library.opcheck(op, inputs).values()) == {"SUCCESS"}
