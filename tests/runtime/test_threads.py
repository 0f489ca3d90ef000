"""The number of threads: what is asked for, what the system allows, and what nobody says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import tilus as tl
from tilus.runtime import threads
from tilus.runtime.cgroups import cpu_limit

MOUNTS = """\
24 30 0:22 / /proc rw,nosuid - proc proc rw
31 23 0:28 / {root} rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 {inner} {root}/cpu rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
37 31 0:34 / {root}/memory rw,relatime - cgroup cgroup rw,memory
38 31 0:35 / {root}/unified rw,relatime - cgroup2 cgroup2 rw
broken line
"""


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    write(tmp_path / "proc" / "mountinfo", MOUNTS.format(root=tmp_path / "fs", inner="/"))
    return tmp_path / "proc"


@pytest.mark.parametrize(("files", "limit"), [
    ({}, None),
    ({"cpu.max": "max 100000\n"}, None),
    ({"cpu.max": "150000 100000\n"}, 1.5),
    ({"a/cpu.max": "max 100000\n", "cpu.max": "400000 100000\n"}, 4),
    ({"a/b/cpu.max": "300000 100000\n", "a/cpu.max": "200000 100000\n"}, 2),
    ({"a/b/c/cpu.max": "50000 100000\n"}, None),
    ({"a/b/cpu.max": "nonsense"}, None),
    ({"a/b/cpu.max": "100000 0\n"}, None),
])
def test_version_2(proc: Path, files: dict[str, str], limit: float | None) -> None:
    write(proc / "cgroup", "0::/a/b\n")
    for name, text in files.items():
        write(proc.parent / "fs" / "unified" / name, text)
    assert cpu_limit(str(proc)) == limit


@pytest.mark.parametrize(("quota", "period", "limit"), [("-1", "100000", None), ("250000", "100000", 2.5)])
@pytest.mark.parametrize("inner", ["/", "/docker/1234"])
def test_version_1(proc: Path, inner: str, quota: str, period: str, limit: float | None) -> None:
    """In a container the group's path may be that of the host, of which only a part is mounted."""
    write(proc / "mountinfo", MOUNTS.format(root=proc.parent / "fs", inner=inner))
    write(proc / "cgroup", "5:memory:/x\n4:cpu,cpuacct:/docker/1234\n0::/\n")
    group = proc.parent / "fs" / "cpu" / ("docker/1234" if inner == "/" else "")
    write(group / "cpu.cfs_quota_us", quota + "\n")
    write(group / "cpu.cfs_period_us", period + "\n")
    assert cpu_limit(str(proc)) == limit


def test_without_control_groups(tmp_path: Path) -> None:
    assert cpu_limit(str(tmp_path)) is None


@pytest.mark.parametrize(("environment", "limit", "count"), [
    ({}, None, 6), ({}, 2.5, 3), ({}, 0.3, 1), ({}, 100.0, 6),
    ({"OMP_NUM_THREADS": "4"}, None, 4), ({"OMP_NUM_THREADS": "4,2"}, 2.0, 2), ({"OMP_NUM_THREADS": "64"}, None, 6),
    ({"OMP_NUM_THREADS": "many"}, None, 6), ({"OMP_NUM_THREADS": "0"}, None, 6),
    ({"TILUS_NUM_THREADS": "9", "OMP_NUM_THREADS": "4"}, 2.0, 9),
])
def test_defaults(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], limit: float | None,
                  count: int) -> None:
    for name in ("TILUS_NUM_THREADS", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(threads, "_limit", lambda: limit)
    monkeypatch.setattr(threads, "cores", lambda: list(range(6)))
    monkeypatch.setattr(threads, "_wanted", None)
    assert tl.get_num_threads() == count


@pytest.mark.parametrize("value", ["0", "-1", "many", "257", "1.5"])
def test_a_wrong_number_in_the_environment(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("TILUS_NUM_THREADS", value)
    monkeypatch.setattr(threads, "_wanted", None)
    with pytest.raises(tl.UserError, match="TILUS_NUM_THREADS"):
        tl.get_num_threads()


@pytest.mark.parametrize("count", [0, -1, 257, True, 1.0, "2"])
def test_a_wrong_number(count: object) -> None:
    before = tl.get_num_threads()
    with pytest.raises(tl.UserError, match="1 to 256"):
        tl.set_num_threads(count)  # type: ignore[arg-type]
    assert tl.get_num_threads() == before


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity masks")
def test_the_affinity_mask() -> None:
    """Neither the number of threads nor where they run goes beyond it."""
    script = """
import os
core = min(os.sched_getaffinity(0))
os.sched_setaffinity(0, {core})
import numpy as np, tilus as tl
from kernels_zoo.elementwise.vector_add import vector_add
assert tl.get_num_threads() == 1
x = np.ones(1 << 20, np.float32)
vector_add(x, x, x.copy())
tl.set_num_threads(2)
vector_add(x, x, x.copy())
for thread in os.listdir("/proc/self/task"):
    assert os.sched_getaffinity(int(thread)) == {core}, thread
"""
    environment = {n: v for n, v in os.environ.items() if n not in ("TILUS_NUM_THREADS", "OMP_NUM_THREADS")}
    subprocess.run([sys.executable, "-c", script], env=environment, check=True, timeout=120)
