"""Models for :mod:`benchmarks.torch_models`: the tasks of KernelBench's three levels, and graphs of our own."""

from __future__ import annotations

from benchmarks.torch_suite import chains, graphs, networks, operators
from benchmarks.torch_suite.task import Task

TASKS: list[Task] = [*operators.TASKS, *chains.TASKS, *networks.TASKS, *graphs.TASKS]

__all__ = ["TASKS", "Task"]
