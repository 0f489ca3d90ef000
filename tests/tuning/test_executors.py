"""Where variants are compiled: in other processes and on clusters, whoever dies there, and wherever kernels stand."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tilus as tl
from tilus.diagnostics import TilusWarning
from tilus.ir.printer import print_module
from tilus.model.prediction import Prediction
from tilus.runtime.cache import default_cache
from tilus.tuning import compiling, executors, store
from tilus.tuning.ranking import register_predictor

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _environment() -> Iterator[None]:
    """Clusters of processes leave a number of threads in it."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TILUS_CACHE_DIR", str(tmp_path))
    for cached in (store.default_store, default_cache):
        cached.cache_clear()
    for memory in (copied.results, copied._choices, copied._absent):
        memory.clear()
    copied.kernel.forget()
    yield
    for cached in (store.default_store, default_cache):
        cached.cache_clear()


@tl.autotune(BLOCK=[16, 32, 64, 128], ROUNDS=[1, 2, 3, 4], key="N")
@tl.jit
def copied(x: tl.f32["N"], y: tl.f32["N"], BLOCK: int = 32, ROUNDS: int = 1) -> None:
    i = tl.grid(tl.cdiv(x.shape[0], BLOCK)) * BLOCK
    for _ in tl.range(ROUNDS):
        tl.store(y, i, tl.load(x, i, BLOCK))


def vectors() -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    return np.arange(1000, dtype=np.float32), np.zeros(1000, np.float32)


class Slow:
    """A model that takes its time, and may end the process that asks it about one variant."""

    def __init__(self, seconds: float = 0.0, deadly: int = 0) -> None:
        self.seconds, self.deadly = seconds, deadly

    def supports(self, target: Any) -> bool:
        return True

    def before_compiling(self, function: Any, engine: Any, args: Any, kwargs: Any, variants: Any) -> list[None]:
        return [None] * len(variants)

    def compiled(self, call: Any) -> Prediction:
        time.sleep(self.seconds)
        if f"shape=[{self.deadly}]" in print_module(call.module):
            os._exit(9)
        return Prediction(float(len(call.blobs["cubin"])))


def modelled(executor: Any = None, **fixed: int) -> Any:
    return copied.tune(*vectors(), target="sm_80", executor=executor, **fixed)


def test_processes_compile_what_is_much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling, "STARTING", 0.0)
    result = copied.tune(*vectors())
    assert executors.are_running()
    assert len(result.measured) == 16
    assert not result.failed


def test_little_is_compiled_in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> Any:
        raise AssertionError("processes are started")

    monkeypatch.setattr(executors, "_processes", None)
    monkeypatch.setattr(executors, "processes", refuse)
    assert len(copied.tune(*vectors(), ROUNDS=1).measured) == 4


PROGRAM = """
    import numpy as np
    import tilus as tl
    from tilus.tuning import compiling, executors

    print("begun")
    compiling.STARTING = 0.0
    FACTOR = 2

    def doubled(tile):
        return tile * FACTOR

    @tl.autotune(BLOCK=[16, 32, 64])
    @tl.jit
    def kernel(x: tl.f32["N"], y: tl.f32["N"], BLOCK: int = 32):
        i = tl.grid(tl.cdiv(x.shape[0], BLOCK)) * BLOCK
        tl.store(y, i, doubled(tl.load(x, i, BLOCK)))

    x, y = np.ones(100, np.float32), np.zeros(100, np.float32)
    result = kernel.tune(x, y)
    kernel(x, y)
    print(len(result.measured), len(result.failed), y.sum(), executors.are_running())
"""


@pytest.mark.sweep(keep=2)
@pytest.mark.parametrize("how", ["script", "command", "notebook"])
def test_kernels_of_the_main_module(how: str, tmp_path: Path) -> None:
    """No script runs twice, and it needs no guard."""
    text = textwrap.dedent(PROGRAM)
    pytest.importorskip("IPython" if how == "notebook" else "sys")
    if how == "notebook":
        text = f"from IPython.core.interactiveshell import InteractiveShell as S\nS().run_cell({text!r}).raise_error()"
    (tmp_path / "script.py").write_text(text)
    arguments = ["-c", text] if how == "command" else [str(tmp_path / "script.py")]
    found = subprocess.run([sys.executable, *arguments], env={**os.environ, "PYTHONPATH": str(ROOT)}, text=True,
                           capture_output=True, timeout=120, check=False)
    assert found.stdout == "begun\n3 0 200.0 True\n", found.stderr


def test_a_compiler_that_ends_its_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling, "STARTING", 0.0)
    register_predictor("nvidia", Slow(deadly=64))
    result = modelled(ROUNDS=1)
    assert [(m.variant["BLOCK"], m.reason) for m in result.failed] == [(64, "the compiler ends its process")]
    assert sorted(m.variant["BLOCK"] for m in result.measured) == [16, 32, 64, 128]


def test_where_no_processes_can_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling, "STARTING", 0.0)
    monkeypatch.setattr(executors, "can_run", lambda: False)
    doomed = executors.processes()
    with pytest.raises(executors.BrokenExecutor):
        doomed.submit(os._exit, 1).result()
    with pytest.warns(TilusWarning, match=r"W1113.*compiled by threads of this machine"):
        assert len(copied.tune(*vectors()).measured) == 16


def test_another_tilus_compiles_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    from concurrent.futures import ThreadPoolExecutor

    monkeypatch.setattr(compiling, "fingerprint_of", lambda route: "another one")
    monkeypatch.setattr(executors, "can_run", lambda: monkeypatch.undo() or False)
    with ThreadPoolExecutor(1) as executor, pytest.warns(TilusWarning, match=r"W1113.*it has another tilus"):
        result = copied.tune(*vectors(), executor=executor, ROUNDS=1)
    assert len(result.measured) == 4
    assert not result.failed


# -- clusters


@pytest.fixture
def cluster() -> Iterator[Any]:
    from distributed import LocalCluster

    with LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None,
                      silence_logs=100) as found:
        yield found


def test_a_cluster_that_loses_a_worker(cluster: Any) -> None:
    """Each variant is there once."""
    register_predictor("nvidia", Slow(0.2))
    address = cluster.scheduler_address.removeprefix("tcp://")
    first, second = (worker.pid for worker in cluster.workers.values())
    killer = threading.Timer(1.0, os.kill, (first, signal.SIGKILL))
    killer.start()
    result = modelled(f"dask://{address}")
    assert not killer.is_alive()
    assert result.ended == ""
    assert not result.failed
    assert len(result.measured) == len({str(m.variant) for m in result.measured}) == 16
    assert first not in [worker.pid for worker in cluster.workers.values() if worker.pid]
    # The code has come back: it is in the cache of this process.
    assert default_cache().stats().entries >= 16


def test_measured_searches_on_a_cluster(cluster: Any) -> None:
    result = copied.tune(*vectors(), executor=f"dask://{cluster.scheduler_address.removeprefix('tcp://')}")
    assert len(result.measured) == 16
    assert not result.failed


@pytest.mark.parametrize(("executor", "message"), [
    ("dask://127.0.0.1:1", "E1110.*there is no scheduler of Dask at 127.0.0.1:1"),
    ("ray://here", "E1110.*there is no executor 'ray://here'"),
])
def test_executors_that_are_not_there(executor: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executors, "_CONNECTING", 1.0)
    with pytest.raises(tl.UserError, match=message):
        copied.tune(*vectors(), executor=executor)


def test_clusters_without_their_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(tl.UserError, match=r"E1110(?s:.*)pip install 'tilus\[cluster\]'"):
        copied.tune(*vectors(), executor="dask://127.0.0.1:1")
