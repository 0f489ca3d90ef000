"""Device tests run where there is a GPU; the summary says how many did. Tests have a cache of their own."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import gc
import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from tests import sweeps

# How long an example takes depends on what else the machine does.
settings.register_profile("tilus", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tilus")


@functools.cache
def gpu_present() -> bool:
    """Whether the CUDA driver is here and sees a device."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    count = ctypes.c_int()
    return driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0 and count.value > 0


@pytest.fixture(scope="session", autouse=True)
def _private_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    # All workers of a parallel run share one; the directory of theirs lies in one of the run.
    base = tmp_path_factory.getbasetemp()
    run = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    cache = run / "tilus-cache"
    cache.mkdir(exist_ok=True)
    # The runtime of the twin takes long to compile and is kept by its content, so all runs share it.
    runtime = (run if run != base else base.parent) / "tilus-twin"
    runtime.mkdir(exist_ok=True)
    with contextlib.suppress(FileExistsError):
        (cache / "twin").symlink_to(runtime)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TILUS_CACHE_DIR", str(cache))
        yield


@pytest.fixture(scope="session", autouse=True)
def _all_threads() -> None:
    """Small grids run on all threads as well, so that what goes wrong between threads shows."""
    from tilus.runtime.cpu import pool_ir

    pool_ir.WORTH_CALLING = pool_ir.WORTH_WAKING = 1


@pytest.hookimpl(tryfirst=True)  # before tests are deselected by their marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    sweeps.mark(items)
    skip = pytest.mark.skip(reason="no GPU")
    for item in items:
        if item.get_closest_marker("device"):
            # Travels with the report from the workers of a parallel run.
            item.user_properties.append(("device", True))
            if not gpu_present():
                item.add_marker(skip)


def pytest_collection_finish() -> None:
    # What is there by now stays; collecting walks what compilations make, and finds little.
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 50)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    def count(*outcomes: str) -> int:
        reports = (report for outcome in outcomes for report in terminalreporter.stats.get(outcome, []))
        return sum(("device", True) in getattr(report, "user_properties", []) for report in reports)

    ran, skipped = count("passed", "failed"), count("skipped")
    terminalreporter.write_line(f"device tests: {ran} ran, {skipped} skipped{'' if gpu_present() else ' (no GPU)'}")
