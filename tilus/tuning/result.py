"""What a search has found, and how it is shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tilus.model.prediction import Prediction
from tilus.records import record
from tilus.tuning.config import shown
from tilus.tuning.keys import TuningKey

MOST_LISTED = 20


@record(frozen=True)
class Measured:
    """One variant of a search.

    Attributes:
        variant: the values of the parameters.
        median: seconds of a call; None where it failed or only a model has been asked.
        spread: half of the distance between the quartiles, in seconds.
        count: how many measurements there were.
        predicted: seconds by a model, None where there is none.
        bottleneck: what limits it, by the model.
        reason: why it failed; "" where it works.
        earlier: whether an earlier search has found that, and this one has not measured it again.
    """

    variant: Mapping[str, Any]
    median: float | None
    spread: float | None = None
    count: int = 0
    predicted: float | None = None
    bottleneck: str = ""
    reason: str = ""
    earlier: bool = False

    @property
    def seconds(self) -> float | None:
        """Of a call: measured, else by the model."""
        return self.predicted if self.median is None else self.median


def measured_of(variant: Mapping[str, Any], prediction: Prediction | None, median: float | None = None,
                spread: float | None = None, count: int = 0) -> Measured:
    """A variant that works, with what a model says of it."""
    if prediction is None or not prediction.possible:
        return Measured(variant, median, spread, count)
    return Measured(variant, median, spread, count, prediction.seconds, prediction.bottleneck)


@record(frozen=True)
class TuningResult:
    """What :meth:`tilus.AutotunedFunction.tune` has found; ``print`` shows it as a table.

    Attributes:
        kernel: the name of the kernel.
        key: what calls the result is for.
        variant: the best variant, which calls of the key have from now on.
        untuned: the variant that the kernel has without a search, by its defaults.
        measured: all variants that were tried: the best one, the others by their times, those that failed.
        left: how many variants of the space were not tried.
        seconds: how long the search took.
        ended: why it stopped early: "the budget was used up", "interrupted"; "" where it did not.
        stored: whether the result is stored for other processes.
        modelled: whether the times are a model's, since nothing here could be measured.
        gain: how many times as fast as the untuned variant the best one was, by the turns in which both ran; None where
            there is no such turn.
    """

    kernel: str
    key: TuningKey
    variant: Mapping[str, Any]
    untuned: Mapping[str, Any]
    measured: Sequence[Measured]
    left: int
    seconds: float
    ended: str
    stored: bool
    modelled: bool = False
    gain: float | None = None

    @property
    def failed(self) -> list[Measured]:
        """The variants that do not work, with their reasons."""
        return [m for m in self.measured if m.reason]

    def time(self, variant: Mapping[str, Any]) -> float | None:
        """Seconds of a call of a variant; None where there are none."""
        return next((m.seconds for m in self.measured if m.variant == variant), None)

    @property
    def speedup(self) -> float | None:
        """How many times as fast the best variant is as the untuned one; None where that does not work."""
        if self.gain is not None:
            return self.gain
        best, before = self.time(self.variant), self.time(self.untuned)
        return None if best is None or before is None else before / best

    def __str__(self) -> str:
        return "\n".join([self._headline(), *self._table(), *self._failures(), *self._notes()])

    def _headline(self) -> str:
        sizes = shown(dict(self.key.sizes))
        gain = "" if self.speedup is None else f", {self.speedup:.2f} times as fast as the untuned one"
        gain += " by the model" if self.modelled else ""
        return f"{self.kernel} on {self.key.target}{f' for {sizes}' if sizes else ''}: {shown(self.variant)}{gain}"

    def _table(self) -> list[str]:
        working = [m for m in self.measured if not m.reason]
        names = list(dict.fromkeys(name for m in working for name in m.variant))
        best = self.time(self.variant)
        timed = [] if self.modelled else ["time", "±", "samples"]
        predicted = ["model"] if any(m.predicted is not None for m in working) else []
        rows = [[*names, *timed, "against best", *predicted, "", "bottleneck, by the model" if predicted else ""]]
        for m in working[:MOST_LISTED]:
            against = f"{m.seconds / best:.2f}" if m.seconds is not None and best else ""
            measured = [time_text(m.median), time_text(m.spread), str(m.count)]
            rows.append([*(str(m.variant.get(n, "")) for n in names), *(measured if timed else []), against,
                         *([time_text(m.predicted)] if predicted else []),
                         "untuned" if m.variant == self.untuned else "earlier" if m.earlier else "", m.bottleneck])
        widths = [max(map(len, column)) for column in zip(*(row[:-1] for row in rows), strict=True)]
        lines = ["  " + "  ".join([*(cell.rjust(w) for cell, w in zip(row, widths, strict=False)), row[-1]]).rstrip()
                 for row in rows]
        more = len(working) - MOST_LISTED
        return [*lines, *([f"  … and {more} slower ones"] if more > 0 else [])]

    def _failures(self) -> list[str]:
        reasons: dict[str, list[str]] = {}
        for m in self.failed:
            reasons.setdefault(m.reason, []).append(shown(m.variant))
        lines = []
        for reason, variants in reasons.items():
            lines.append(f"  failed, {len(variants)}: {reason}")
            lines += [f"    {v}" for v in variants[:MOST_LISTED]]
            lines += [f"    … and {len(variants) - MOST_LISTED} more"] if len(variants) > MOST_LISTED else []
        return lines

    def _notes(self) -> list[str]:
        left = f"; {self.left} variants were not tried" if self.left else ""
        ended = f"; {self.ended}" if self.ended else ""
        return [f"  {len(self.measured)} variants in {self.seconds:.1f} s{left}{ended}"
                + ("" if self.stored else "; not stored")]


def time_text(seconds: float | None) -> str:
    """Seconds in the unit that suits them."""
    if seconds is None:
        return ""
    for unit, factor in (("s", 1.0), ("ms", 1e3), ("µs", 1e6)):
        if seconds * factor >= 1 or unit == "µs":
            return f"{seconds * factor:.3g} {unit}"
    return ""


__all__ = ["Measured", "TuningResult", "measured_of", "time_text"]
