"""How many threads kernels run on where they run on this machine."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable

from tilus.diagnostics.entry import public_function
from tilus.runtime.arguments import call_error
from tilus.runtime.cgroups import cpu_limit

MAX_THREADS = 256
_wanted: int | None = None
_on_change: list[Callable[[int], None]] = []
_limit = functools.cache(cpu_limit)


@public_function
def set_num_threads(count: int) -> None:
    """Run kernels of the CPU engine on ``count`` threads from now on, 1 to 256, the calling one among them. A launch
    that is running is waited for.

    Without it there are as many as ``TILUS_NUM_THREADS`` in the environment says; else as many as there are cores for
    this process, by its affinity mask and the limit of its control group, and no more than ``OMP_NUM_THREADS`` says. A
    launch takes fewer where its work is not worth more. While one is running, kernels that other threads of the program
    call run on those threads alone.

    Raises:
        UserError: E0601, it is no such number.
    """
    global _wanted
    if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= MAX_THREADS:
        raise call_error("E0601", f"the number of threads is 1 to {MAX_THREADS}, not {count!r}")
    _wanted = count
    for changed in _on_change:
        changed(count)


@public_function
def get_num_threads() -> int:
    """The number of threads that kernels of the CPU engine run on; see ``tl.set_num_threads``.

    Raises:
        UserError: E0601, ``TILUS_NUM_THREADS`` is no number from 1 to 256.
    """
    return _wanted or default_threads()


def on_change(call: Callable[[int], None]) -> None:
    """``call`` is told of every new number."""
    _on_change.append(call)


def default_threads() -> int:
    """The number where nobody has set one. Raises UserError."""
    asked = os.environ.get("TILUS_NUM_THREADS", "")
    if asked:
        if not asked.isdecimal() or not 1 <= int(asked) <= MAX_THREADS:
            raise call_error("E0601", f"TILUS_NUM_THREADS is {asked!r}, which is no number from 1 to {MAX_THREADS}")
        return int(asked)
    limit = _limit()
    counts = [MAX_THREADS, len(cores())]
    if limit is not None:
        counts.append(max(1, -int(-limit // 1)))  # a part of a core is one that is used now and then
    others = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    if others.isdecimal() and int(others) > 0:
        counts.append(int(others))
    return min(counts)


def cores() -> list[int]:
    """The cores that the calling thread may run on."""
    try:
        return sorted(os.sched_getaffinity(0))
    except AttributeError:
        return list(range(os.cpu_count() or 1))


__all__ = ["get_num_threads", "set_num_threads"]
