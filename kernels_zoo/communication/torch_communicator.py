"""A communicator over torch.distributed, whatever its backend for arrays of the host (gloo, MPI)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist

from kernels_zoo.checking import Array

TYPES_OF_TORCH = {"bfloat16": torch.bfloat16}
"""Those that NumPy has not of itself."""


class TorchCommunicator:
    """The ranks of a process group, by default of all processes."""

    def __init__(self, group: Any = None) -> None:
        self.group = group
        self.rank, self.size = dist.get_rank(group), dist.get_world_size(group)

    def all_reduce(self, x: Array) -> list[Any]:
        return [dist.all_reduce(tensor_of(x), group=self.group, async_op=True)]

    def shift(self, sent: Sequence[Array], received: Sequence[Array]) -> list[Any]:
        if self.size == 1:
            for into, x in zip(received, sent, strict=True):
                into[...] = x
            return []
        to, source = (self.rank + 1) % self.size, (self.rank - 1) % self.size
        return [*(dist.isend(bytes_of(x), group=self.group, group_dst=to) for x in sent if x.size),
                *(dist.irecv(bytes_of(x), group=self.group, group_src=source) for x in received if x.size)]

    def wait(self, operation: list[Any]) -> None:
        for work in operation:
            work.wait()


def bytes_of(x: Array) -> torch.Tensor:
    """The memory of an array, whatever its type."""
    if not x.flags.c_contiguous:
        raise ValueError("a communicator takes contiguous arrays")
    return torch.from_numpy(x.reshape(-1).view("u1"))


def tensor_of(x: Array) -> torch.Tensor:
    """The same elements in the same memory."""
    kind = TYPES_OF_TORCH.get(x.dtype.name)
    return torch.from_numpy(x) if kind is None else torch.from_numpy(x.view("i2")).view(kind)
