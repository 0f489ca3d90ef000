"""What a task of the suite is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

R = torch.randn


class Task(NamedTuple):
    """A module and its inputs, made anew by ``make``."""

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


__all__ = ["Function", "R", "Task", "model", "task"]
