"""The record of the host: what its cores do in a cycle, what its caches hold and bring, what a launch costs.

It is measured once, by micro-benchmarks that know nothing of any kernel, and kept in the cache of compiled kernels.
"""

from __future__ import annotations

import functools
import json
import math
import re
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tilus.model.cpu.instructions import PORTS
from tilus.records import record

VERSION = "4"
"""Of what is measured."""
MOST_L3 = 16
"""How many times a core's second cache of what many cores share counts as near: what lies further is as slow as
memory."""


@record(frozen=True)
class Level:
    """A cache behind the first one, or memory.

    Attributes:
        name: in words.
        capacity: bytes that a core finds there; infinite for memory.
        nanoseconds: that a byte takes to come, of neighbouring lines, with all cores at work; ``alone``: one core.
        single: nanoseconds of a line alone, of many that lie apart.
    """

    name: str
    capacity: float
    nanoseconds: float
    single: float
    alone: float


@record(frozen=True)
class Host:
    """A machine that runs kernels.

    Attributes:
        hertz: of a core.
        vector_bytes: of a register.
        per_cycle: uses of each of ``PORTS`` in a cycle, of whole registers.
        issued: instructions in a cycle.
        l1_bytes: of the first cache.
        levels: where data come from that are not there, the nearest first, memory last.
        latencies: cycles from a sum of floats, a sum of vectors of them, and a multiply-add, to what needs it.
        block: seconds to begin a block; ``launch``: to launch on one core; ``fork``: what more cores add.
        measured: whether it has been measured, rather than being an estimate.
    """

    hertz: float
    vector_bytes: int
    per_cycle: tuple[float, ...]
    issued: float
    l1_bytes: float
    levels: tuple[Level, ...]
    block: float
    launch: float
    fork: float
    latencies: tuple[float, float, float] = (4.0, 4.0, 4.0)
    measured: bool = False


def cache_sizes() -> tuple[float, float, float]:
    """Bytes of the caches that a core sees, as Linux says; usual ones where it does not."""
    found = {1: 32 << 10, 2: 512 << 10, 3: 8 << 20}
    root = Path("/sys/devices/system/cpu/cpu0/cache")
    for entry in sorted(root.glob("index*")) if root.is_dir() else ():
        try:
            level, kind, size = ((entry / name).read_text().strip() for name in ("level", "type", "size"))
        except OSError:
            continue
        match = re.fullmatch(r"(\d+)([KMG]?)", size)
        if kind != "Instruction" and match:
            found[int(level)] = int(match[1]) << {"": 0, "K": 10, "M": 20, "G": 30}[match[2]]
    return found[1], found[2], min(found[3], MOST_L3 * found[2])


def estimate(vector_bytes: int) -> Host:
    """A usual core with the caches of this machine, where nothing can be measured."""
    l1, l2, l3 = cache_sizes()
    levels = (Level("second-level cache", l2, 0.015, 3, 0.012), Level("third-level cache", l3, 0.05, 6, 0.04),
              Level("memory", math.inf, 0.1, 12, 0.07))
    return Host(3.5e9, vector_bytes, (2.0, 2.0, 1.0, 4.0, 0.1, 1.0), 5.0, l1, levels, 60e-9, 4e-6, 3e-6)


def measure(vector_bytes: int, threads: int) -> Host:
    """The record of this machine, with so many cores at work: about half a second of short loops."""
    import numpy as np

    from tilus.model.cpu.probes import LATENCIES, MULTIPLY_LATENCY, PROBES, RATES, Probes

    probes = Probes(vector_bytes, threads)
    l1, l2, l3 = cache_sizes()
    largest = int(4 * l3 if l3 < 16 << 20 else 2 * l3)
    raw = [np.zeros(largest + 4096, np.uint8) for _ in range(threads)]
    buffers = [b[-b.ctypes.data % 64 :][:largest] for b in raw]
    for buffer in buffers:
        buffer[::1024] = 1  # pages of its own
    at = buffers[0].ctypes.data
    cycle = probes.seconds("latency", 20000, at) / PROBES["latency"] / MULTIPLY_LATENCY
    rates = [PROBES[name] * cycle / probes.seconds(name, 5000, at)
             for name in RATES]
    latencies = [probes.seconds(name, 5000, at) / cycle / PROBES[name] for name in LATENCIES]
    levels = []
    for name, capacity, size in (("second-level cache", l2, l2 / 2), ("third-level cache", l3, max(2 * l2, l3 / 4)),
                                 ("memory", math.inf, largest)):
        near, alone = (probes.per_byte("read", buffers, int(size), n) for n in (threads, 1))
        single = probes.per_byte("single", buffers, int(size), threads) * 64
        levels.append(Level(name, capacity, 1e9 * near, 1e9 * single, 1e9 * alone))
    # Some more instructions than there are units for plain ones of scalars: loads and vectors have ports of their own.
    issued = rates[PORTS.index("scalar instructions")] + 1
    return Host(1 / cycle, vector_bytes, tuple(rates), issued, l1, tuple(levels), *_launches(threads),
                (latencies[0], latencies[1], latencies[2]), measured=True)


MANY_BLOCKS, ROUNDS = 20000, 8


def _launches(threads: int) -> tuple[float, float, float]:
    """Seconds of a block, of a launch on one core, and what more cores add to that."""
    from tilus.model.cpu.empty import empty
    from tilus.model.cpu.probes import on_core
    from tilus.runtime.cpu.pool import current_pool

    run = empty.on("cpu")
    current_pool()  # whose threads have cores of their own, all but the first one
    with on_core(0):
        one, two, many = (_least(functools.partial(run, n)) for n in (1, 2, MANY_BLOCKS))
    return max(0.0, many - two) / MANY_BLOCKS * threads, one, max(0.0, two - one)


def _least(run: Callable[[], Any]) -> float:
    """Seconds; in rounds apart, since threads that share a core for a while take much longer."""
    best = math.inf
    for _ in range(ROUNDS):
        time.sleep(0.004)
        for _ in range(10):
            started = time.perf_counter()
            run()
            best = min(best, time.perf_counter() - started)
    return best


_hosts: dict[int, Host] = {}


def host() -> Host:
    """The record of this machine for the threads that kernels run on, measured where it has not been."""
    from tilus.runtime.cpu.llvm import host_description, machine
    from tilus.runtime.threads import get_num_threads

    threads = get_num_threads()
    found = _hosts.get(threads)
    if found is None:
        found = _hosts[threads] = _kept(machine().vector_bytes, threads, host_description())
    return found


def _kept(vector_bytes: int, threads: int, description: str) -> Host:
    """From the cache, else measured and put there."""
    from tilus.runtime.cache import default_cache, key_of

    def build() -> tuple[dict[str, bytes], dict[str, Any]]:
        return {"host": json.dumps(asdict(measure(vector_bytes, threads))).encode()}, {}

    entry = default_cache().get_or_build(key_of(["host", VERSION, description, str(threads)]), build)
    fields = json.loads(entry["host"])
    fields["levels"] = tuple(Level(**level) for level in fields["levels"])
    fields |= {name: tuple(fields[name]) for name in ("per_cycle", "latencies")}
    return Host(**fields)


__all__ = ["Host", "Level", "cache_sizes", "estimate", "host", "measure"]
