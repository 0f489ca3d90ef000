"""The record of a board (``tilus/model/boards.py``) from what ``benchmarks.device`` has measured."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from benchmarks.device_micro import clock_under_load
from tilus.model.boards import BOARDS, MIB, Board, board_of

HALF = 0.75
"""Sums in f32 run at half the rate of tensor cores where they reach less than this share of sums in f16."""
DIGITS = {"clock": 3, "efficiency": 3}
"""Of the measured fields; others are rounded to whole numbers, ``launch`` to tenths of microseconds."""


def board_like(name: str, target: str) -> Board | None:
    """The record of the board that a driver calls so: all of its words are in the name, or the first one; else that of
    the target."""
    words = name.lower().split()
    for count in (None, 1):
        for board in sorted(BOARDS.values(), key=lambda b: -len(b.name.split())):
            if all(word in words for word in board.name.lower().split()[:count]):
                return board
    return board_of(target)


def measured_board(data: Mapping[str, Any]) -> tuple[Board, Board | None, list[str]]:
    """The record that measurements give, the one that is there, and the fields that were not measured, which are taken
    over from it. Raises ValueError where the machine is not known."""
    stages = data["stages"]
    machine = stages.get("machine", {}).get("results", {})
    if "name" not in machine:
        raise ValueError("the file has no stage 'machine' that has found a board")
    known = board_like(machine["name"], machine["target"])
    found = _fields(machine, stages.get("calibration", {}).get("results", {}), known)
    missing = [field.name for field in dataclasses.fields(Board) if found.get(field.name) is None]
    for name in missing:
        if known is None:
            raise ValueError(f"{name} was not measured, and there is no record of a board like {machine['name']}")
        found[name] = getattr(known, name)
    return Board(**found), known, missing


def _fields(machine: Mapping[str, Any], micro: Mapping[str, Any], known: Board | None) -> dict[str, Any]:
    """What is known of each field; None of what is not."""
    clock = clock_under_load(dict(micro))
    peak = machine.get("peak_bandwidth") or (None if known is None else known.memory_bandwidth * 1e9)
    latency = {name: row.get("cycles") for name, row in micro.get("latency", {}).items() if isinstance(row, dict)}
    found = {
        "name": machine["name"] if known is None else known.name, "target": machine["target"],
        "sm_count": machine["sm_count"], "clock": clock, "l2": machine.get("l2"),
        "memory_bandwidth": None if peak is None else peak * 1e-9,
        "efficiency": _efficiency(machine, micro, peak),
        "l2_bandwidth": micro.get("l2", {}).get("bytes_per_cycle"), "l1_latency": latency.get("l1"),
        "l2_latency": latency.get("l2"), "memory_latency": latency.get("memory"),
        "launch": micro.get("launch", {}).get("seconds"), "power": machine.get("power_limit"),
        "half_rate": _half_rate(micro.get("products", {}))}
    return {name: _rounded(name, value) for name, value in found.items()}


def _efficiency(machine: Mapping[str, Any], micro: Mapping[str, Any], peak: float | None) -> float | None:
    """The share of the peak that the fastest copy reaches of an array that L2 does not hold."""
    rates = [row["bytes_per_second"] for size, row in micro.get("copy", {}).get("by_size", {}).items()
             if row.get("bytes_per_second") and int(size) > (machine.get("l2") or 0)]
    return None if not rates or not peak else max(rates) / peak


def _half_rate(products: Mapping[str, Any]) -> bool | None:
    rates = [products.get(name, {}).get("multiply_adds_per_cycle") for name in ("f16", "f16, summed in f16")]
    return None if not all(rates) else bool(rates[0] < HALF * rates[1])


def _rounded(name: str, value: Any) -> Any:
    if not isinstance(value, float):
        return value
    return round(value, 7) if name == "launch" else round(value, DIGITS[name]) if name in DIGITS else round(value)


def text_of(board: Board) -> str:
    """The record as it stands in the source."""
    parts = [repr(board.name), repr(board.target), str(board.sm_count), repr(board.clock), repr(board.memory_bandwidth),
             f"{board.l2 // MIB} * MIB" if board.l2 % MIB == 0 else str(board.l2), repr(board.l2_bandwidth)]
    for field in dataclasses.fields(Board)[len(parts):]:
        parts.append(f"{field.name}={getattr(board, field.name)!r}")
    return f"Board({', '.join(parts)})"


def report(data: Mapping[str, Any]) -> str:
    """The record and how it differs from the one that is there."""
    board, known, missing = measured_board(data)
    lines = [text_of(board), ""]
    if known is None:
        return "\n".join([*lines, "there is no record of such a board"])
    for field in dataclasses.fields(Board):
        old, new = getattr(known, field.name), getattr(board, field.name)
        change = "not measured" if field.name in missing else "as it was" if old == new else "changed"
        if change == "changed" and isinstance(old, (int, float)) and not isinstance(old, bool) and old:
            change = f"{new / old - 1:+.1%}"
        lines.append(f"{field.name:18}{old!s:>12}{new!s:>12}   {change}")
    return "\n".join([*lines[:2], f"{'':18}{'record':>12}{'measured':>12}", *lines[2:]])
