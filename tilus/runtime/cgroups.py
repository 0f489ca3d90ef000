"""What Linux's control groups leave a process of the processor's time, which containers are limited by."""

from __future__ import annotations

import os
from collections.abc import Iterator


def cpu_limit(proc: str = "/proc/self") -> float | None:
    """How many cores' time this process may use at most, by version 1 or 2 of control groups; None without a limit."""
    limits = []
    for directory, version in _groups(proc):
        limit = _limit(directory, version)
        if limit is not None:
            limits.append(limit)
    return min(limits, default=None)


def _groups(proc: str) -> Iterator[tuple[str, int]]:
    """The directories of the groups that the process is in, with those around them: each limits what is in it."""
    paths = {}
    for line in _lines(f"{proc}/cgroup"):
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if not controllers:
            paths[2] = path
        elif "cpu" in controllers.split(","):
            paths[1] = path
    for line in _lines(f"{proc}/mountinfo"):
        before, _, after = line.partition(" - ")
        fields, kind = before.split(" "), after.split(" ")
        if len(fields) < 5 or len(kind) < 3:
            continue
        version = 2 if kind[0] == "cgroup2" else 1 if kind[0] == "cgroup" and "cpu" in kind[2].split(",") else 0
        if version in paths:
            yield from _around(fields[3], fields[4], paths[version], version)


def _around(root: str, mounted: str, path: str, version: int) -> Iterator[tuple[str, int]]:
    """The directories from that of a group up to where the hierarchy's ``root`` is mounted."""
    inner = path[len(root):] if root != "/" and path.startswith(root) else path
    parts = [part for part in inner.split("/") if part and part != ".."]
    for depth in range(len(parts), -1, -1):
        yield os.path.join(mounted, *parts[:depth]), version


def _limit(directory: str, version: int) -> float | None:
    if version == 2:
        words = " ".join(_lines(f"{directory}/cpu.max")).split()
    else:
        words = [*_lines(f"{directory}/cpu.cfs_quota_us"), *_lines(f"{directory}/cpu.cfs_period_us")]
    if len(words) != 2 or not all(word.strip().isdecimal() for word in words) or int(words[1]) == 0:
        return None  # "max", or -1
    return int(words[0]) / int(words[1])


def _lines(path: str) -> list[str]:
    try:
        with open(path) as file:
            return file.read().splitlines()
    except (OSError, UnicodeDecodeError):
        return []


__all__ = ["cpu_limit"]
