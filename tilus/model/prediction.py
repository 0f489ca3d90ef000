"""What a model says of a variant."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

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


@record(eq=False)
class CompiledCall:
    """A call of a compiled kernel, as far as models look at it; it can be pickled.

    Attributes:
        target: what it is compiled for.
        module: the traced tile module, whose launch function gives the grids: ``evaluate_launch(module.launch,
            arguments, …)``.
        blobs: what the route has made, by name, such as ``"cubin"``.
        metadata: what is known of it (``tilus/runtime/compile.py: Compiled``).
        arguments: one for each parameter of the launch function: an :class:`tilus.interp.ArrayArgument` or a number.
    """

    target: Target
    module: Module
    blobs: Mapping[str, bytes]
    metadata: Mapping[str, Any]
    arguments: Sequence[Any]


__all__ = ["CompiledCall", "Prediction"]
