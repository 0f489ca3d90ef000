"""The power that a kernel takes, from what it does: a regression on features of the time model.

Watts are what the board takes when idle, and more by how long it works: a mean over a short run holds the time before
and after it too. While it works, each kind of work takes energy at its rate. The form follows 'Understanding GEMM
Performance and Energy on NVIDIA Ada Lovelace', whose predictors are extents and run times; these here are counted by
the model.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tilus.model.kernel import KernelModel
from tilus.records import record

FEATURES = ("working", "issued", "arithmetic", "L1 and shared memory", "memory")
"""What takes power: being at work at all, and shares of the time in which things are busy."""


def features_of(model: KernelModel) -> list[float]:
    """The features of a launch, by FEATURES."""
    busy = model.busy
    arithmetic = sum(busy.get(pipe, 0.0) for pipe in ("fma", "half", "double", "tensor"))
    return [1.0, busy.get("issue", 0.0), arithmetic, busy.get("memory", 0.0), busy.get("DRAM", 0.0)]


@record(frozen=True)
class PowerModel:
    """Watts of a board.

    Attributes:
        idle: watts at rest.
        weights: watts of each feature at its full rate, by FEATURES; none is negative.
        settling: seconds within which a mean rises half of the way from rest.
    """

    idle: float
    weights: tuple[float, ...]
    settling: float

    def watts(self, features: Sequence[float], seconds: float) -> float:
        """The mean over a run that takes so long."""
        duty = seconds / (seconds + self.settling)
        return self.idle + duty * float(np.dot(self.weights, features))

    def joules(self, features: Sequence[float], seconds: float) -> float:
        """The energy of a run, what the board takes at rest included."""
        return (self.idle + float(np.dot(self.weights, features))) * seconds


def fit_power(features: Sequence[Sequence[float]], seconds: Sequence[float], watts: Sequence[float],
              idle: float) -> PowerModel:
    """The model nearest to measurements, by relative error.

    Args:
        features: of each run.
        seconds, watts: measured.
        idle: watts at rest.
    """
    rows, times, measured = np.asarray(features, float), np.asarray(seconds, float), np.asarray(watts, float)
    best: tuple[float, PowerModel] | None = None
    for settling in np.geomspace(0.01, 10.0, 25):
        duty = times / (times + settling)
        weights = non_negative(rows * (duty / measured)[:, None], (measured - idle) / measured)
        model = PowerModel(idle, tuple(map(float, weights)), float(settling))
        error = float(np.mean(np.abs((idle + duty * (rows @ weights)) / measured - 1)))
        if best is None or error < best[0]:
            best = error, model
    assert best is not None
    return best[1]


def non_negative(matrix: Any, right: Any, rounds: int = 50) -> Any:
    """Least squares without negative weights: by leaving out, each time, what would be most negative."""
    free = list(range(matrix.shape[1]))
    weights = np.zeros(matrix.shape[1])
    for _ in range(min(rounds, matrix.shape[1])):
        found = np.linalg.lstsq(matrix[:, free], right, rcond=None)[0]
        if (found >= 0).all():
            weights[free] = found
            break
        free.pop(int(np.argmin(found)))
    return weights


__all__ = ["FEATURES", "PowerModel", "features_of", "fit_power", "non_negative"]
