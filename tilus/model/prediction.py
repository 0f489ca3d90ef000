"""What a model says of a variant."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tilus.ir.core import Module
from tilus.records import record
from tilus.targets import Target


@record(frozen=True)
class Prediction:
    """What a model says of a variant.

    Attributes:
        seconds: of a call; infinite where the variant cannot be launched.
        bottleneck: what limits it, in words; why it cannot be launched where it cannot.
    """

    seconds: float
    bottleneck: str = ""

    @property
    def possible(self) -> bool:
        """Whether it can be launched."""
        return math.isfinite(self.seconds)


@record(frozen=True, eq=False)
class CallArray:
    """An array of a call, as launch functions and models ask about it.

    Attributes:
        shape, strides: extents, and strides in elements.
        contents: of a table of integers, on which addresses and loops may depend; None of other arrays.
    """

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    contents: np.ndarray[Any, Any] | None = None


@record(eq=False)
class CompiledCall:
    """A call of a compiled kernel, as far as models look at it; it can be pickled.

    Attributes:
        target: what it is compiled for.
        module: the traced tile module, whose launch function gives the grids: ``evaluate_launch(module.launch,
            arguments, …)``.
        blobs: what the route has made, by name, such as ``"cubin"``.
        metadata: what is known of it (``tilus/runtime/compile.py: Compiled``).
        arguments: one for each parameter of the launch function: a :class:`CallArray` or a number.
    """

    target: Target
    module: Module
    blobs: Mapping[str, bytes]
    metadata: Mapping[str, Any]
    arguments: Sequence[Any]


__all__ = ["CallArray", "CompiledCall", "Prediction"]
