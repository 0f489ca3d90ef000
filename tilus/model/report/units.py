"""Numbers with their units, for readers."""

from __future__ import annotations

_BYTES = ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"))
_RATES = ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
_TIMES = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"))


def time_text(seconds: float) -> str:
    """``12.3 µs``."""
    return _scaled(seconds, _TIMES, 1e-9, "ns")


def bytes_text(count: float) -> str:
    """``12.3 MB``, by powers of ten."""
    return _scaled(count, _BYTES, 1.0, "B")


def rate_text(rate: float, unit: str) -> str:
    """``12.3 TFLOP/s``."""
    for scale, prefix in _RATES:
        if rate >= scale:
            return f"{rate / scale:.3g} {prefix}{unit}"
    return f"{rate:.3g} {unit}"


def _scaled(value: float, units: tuple[tuple[float, str], ...], least: float, name: str) -> str:
    for scale, unit in units:
        if value >= scale:
            return f"{value / scale:.3g} {unit}"
    return f"{value / least:.3g} {name}"


__all__ = ["bytes_text", "rate_text", "time_text"]
