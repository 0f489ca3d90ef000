"""What a model says of a variant."""

from __future__ import annotations

import math

from tilus.records import record


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


__all__ = ["Prediction"]
