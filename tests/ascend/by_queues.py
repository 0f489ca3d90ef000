"""Kernels of the zoo as if each said ``tl.block(queues=…)``."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

import tilus as tl
from tilus.ir.attributes import Attributes
from tilus.lang import trace_context


@contextmanager
def asking_for_queues(buffers: int) -> Iterator[None]:
    """Kernels traced meanwhile ask for queues with so many buffers."""
    with pytest.MonkeyPatch.context() as patch:
        if buffers:
            patch.setattr(trace_context, "Attributes", functools.partial(Attributes, queues=buffers))
        yield


def apart(kernel: tl.JitFunction) -> tl.JitFunction:
    """The kernel without what has been traced of it."""
    return tl.JitFunction(kernel.function)
