"""What the stages of ``benchmarks.device`` stand on: a GPU through CuPy, or the PTX simulator in its place, which runs
everything once, in small sizes, and knows no times."""

from __future__ import annotations

import json
import math
import os
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tilus.runtime.arrays import CUDA
from tilus.runtime.engines import get_engine
from tilus.targets import Target

SAMPLES, SAMPLE = 7, 2e-3
"""Samples of a timing, and seconds of one, of which a call that is shorter has several."""
HOST_CALLS = 50
"""Calls in which the host's share of a call is timed."""


class Results(dict[str, Any]):
    """What a stage has found, kept in a file as it goes on, so that nothing is lost when it is ended."""

    def __init__(self, path: Path | None = None) -> None:
        super().__init__()
        self.path = path

    def save(self) -> None:
        if self.path is not None:
            write_json(self.path, self)


def write_json(path: Path, content: Any) -> None:
    """Write a file whole or not at all; numbers that JSON has not become null."""
    beside = path.with_name(path.name + ".new")
    beside.write_text(json.dumps(_plain(content), indent=1, allow_nan=False) + "\n")
    os.replace(beside, path)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, (bool, int, str, type(None))):
        return value
    if isinstance(value, (float, np.floating)):
        return float(value) if math.isfinite(value) else None
    return int(value) if isinstance(value, np.integer) else str(value)


Launch = Callable[[Sequence[int], Sequence[int], Sequence[Any]], None]


class Lab:
    """Where the stages run.

    Attributes:
        name: of the engine that calls have by default.
        small: whether sizes are small.
        deadline: by ``time.monotonic``.
        sm_count, l2: multiprocessors and bytes of L2.
    """

    sm_count: int
    l2: int

    def __init__(self, name: str, seconds: float, small: bool) -> None:
        self.name, self.small = name, small
        self.deadline = time.monotonic() + seconds

    @property
    def target(self) -> Target:
        return get_engine(self.name).target

    @property
    def blocks(self) -> int:
        """Blocks that keep the device busy, one for each multiprocessor; few in small sizes."""
        return 2 if self.small else self.sm_count

    @property
    def left(self) -> float:
        """Seconds until the deadline."""
        return self.deadline - time.monotonic()

    def engine(self, route: str) -> str:
        """The engine of a route."""
        return f"{self.name}:{route}"

    def upload(self, value: Any) -> Any:
        """An array where kernels take it; what is no array stays as it is."""
        raise NotImplementedError

    def download(self, array: Any) -> np.ndarray[Any, Any]:
        raise NotImplementedError

    def empty(self, size: int) -> Any:
        """So many bytes of memory."""
        raise NotImplementedError

    def kernel(self, source: str, name: str) -> Launch:
        """A kernel of CUDA C; it is called with grid, block and arguments: arrays, and integers of 32 bits."""
        raise NotImplementedError

    def time(self, run: Callable[[], Any]) -> dict[str, Any] | None:
        """The seconds of a call on the device: the median of some samples and half of the distance between their
        quartiles. None on the simulator, where it runs once."""
        raise NotImplementedError


class GpuLab(Lab):
    """The current GPU."""

    def __init__(self, name: str, seconds: float, small: bool) -> None:
        super().__init__(name, seconds, small)
        from tilus.tuning.gpu import Gpu

        self.device = Gpu()
        self.cupy = self.device.cupy
        properties = self.cupy.cuda.runtime.getDeviceProperties(self.device.number)
        self.sm_count, self.l2 = int(properties["multiProcessorCount"]), int(properties["l2CacheSize"])

    def upload(self, value: Any) -> Any:
        from tilus.tuning.arguments import on_gpu

        return on_gpu(value)

    def download(self, array: Any) -> np.ndarray[Any, Any]:
        return np.asarray(array.get())

    def empty(self, size: int) -> Any:
        return self.cupy.empty(size, np.uint8)

    def kernel(self, source: str, name: str) -> Launch:
        from tilus.runtime.toolchains import nvrtc

        module = self.cupy.cuda.function.Module()
        module.load(nvrtc.compile_cuda(source, self.target).cubin)
        function = module.get_function(name)

        def launch(grid: Sequence[int], block: Sequence[int], args: Sequence[Any]) -> None:
            values = tuple(np.int32(a) if isinstance(a, int) else np.uint64(a.data.ptr) for a in args)
            function(_three(grid), _three(block), values)

        return launch

    def time(self, run: Callable[[], Any]) -> dict[str, Any] | None:
        self.device.first(run)
        once = self.device.sample(run, 1, None)
        samples, most = (2, 1) if self.small else (SAMPLES, self.device.most_repeats)
        repeats = min(most, max(1, round(SAMPLE / max(once, 1e-9))))
        found = [self.device.sample(run, repeats, None) for _ in range(samples)]
        first, middle, third = statistics.quantiles(found, n=4, method="inclusive")
        return {"seconds": middle, "spread": (third - first) / 2, "samples": samples, "calls": samples * repeats}

    def host_seconds(self, run: Callable[[], Any]) -> float:
        """What a call costs the host, while the device does not hold it up."""
        found = []
        for _ in range(2 if self.small else HOST_CALLS):
            self.device.stream.synchronize()
            started = time.perf_counter()
            run()
            found.append(time.perf_counter() - started)
        self.device.stream.synchronize()
        return statistics.median(found)


class SimulatedLab(Lab):
    """The PTX simulator."""

    def __init__(self, name: str, seconds: float) -> None:
        super().__init__(name, seconds, small=True)
        from tilus.model.boards import board_of

        board = board_of(self.target.name)
        self.sm_count, self.l2 = self.target.sm_count, board.l2 if board is not None else 0

    def upload(self, value: Any) -> Any:
        return value

    def download(self, array: Any) -> np.ndarray[Any, Any]:
        return np.asarray(array)

    def empty(self, size: int) -> Any:
        return np.zeros(size, np.uint8)

    def kernel(self, source: str, name: str) -> Launch:
        from tilus.runtime.toolchains import nvrtc
        from tilus.simulator import launch

        ptx = nvrtc.cuda_to_ptx(source, self.target)

        def run(grid: Sequence[int], block: Sequence[int], args: Sequence[Any]) -> None:
            launch(ptx, name, _three(grid), _three(block), list(args), target=self.target.arch)

        return run

    def time(self, run: Callable[[], Any]) -> dict[str, Any] | None:
        run()
        return None


def _three(extents: Sequence[int]) -> tuple[int, int, int]:
    x, y, z = (*extents, 1, 1)[:3]
    return int(x), int(y), int(z)


def open_lab(engine: str, seconds: float, small: bool) -> Lab:
    """Where an engine runs: a GPU (``cuda``) or the simulator (``simulate:sm_80``). Raises ValueError."""
    found = get_engine(engine)
    if found.kind == CUDA:
        return GpuLab(engine, seconds, small)
    if engine.startswith("simulate:"):
        return SimulatedLab(engine, seconds)
    raise ValueError(f"stages run on a GPU or on the simulator, not on {engine!r}")
