"""``benchmarks.device`` on the simulator, and the record of a board that its measurements give."""

from __future__ import annotations

import dataclasses
import json
import os
import select
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import device_zoo
from benchmarks.device import wait
from benchmarks.device_calibrate import board_like, measured_board, text_of
from benchmarks.device_lab import GpuLab, Results, SimulatedLab
from benchmarks.device_search import spearman
from benchmarks.device_stages import STAGES, share_of
from benchmarks.device_zoo import cases
from tests.fake_gpu import stand_in
from tilus.model import boards
from tilus.model.boards import BOARDS
from tilus.tuning.devices import DeviceLost

ROOT = Path(__file__).parents[2]
FAKE_GPU = ROOT / "tests" / "fake_gpu"


def benchmark(folder: Path, *options: str, path: Path = ROOT) -> str:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(path)])}
    return subprocess.run([sys.executable, "-m", "benchmarks.device", *options], cwd=folder, env=environment,
                          capture_output=True, text=True, timeout=600, check=True).stdout


def stages_of(folder: Path, engine: str, *only: str, path: Path = ROOT) -> dict[str, Any]:
    benchmark(folder, "--engine", engine, "--small", "--out", "found.json", "--only", *only, path=path)
    data = json.loads((folder / "found.json").read_text())
    assert list(data["stages"]) == list(only)
    assert data["engine"] == engine
    for name, stage in data["stages"].items():
        assert (stage["status"], stage["error"]) == ("ok", None), name
        assert "error" not in json.dumps(stage["results"].get("failed", {}))
    return {name: stage["results"] for name, stage in data["stages"].items()}


def errors_in(value: Any) -> list[str]:
    """The errors of parts of a stage."""
    if isinstance(value, dict):
        own = [value["error"]] if value.get("error") else []
        return own + [error for item in value.values() for error in errors_in(item)]
    return [error for item in value for error in errors_in(item)] if isinstance(value, list) else []


def test_quick_stages_on_the_simulator(tmp_path: Path) -> None:
    found = stages_of(tmp_path, "simulate:sm_80", "machine", "calibration")
    assert found["machine"]["target"] == "sm_80"
    assert "numpy" in found["machine"]["packages"]
    micro = found["calibration"]
    assert list(micro) == ["clock", "launch", "copy", "l2", "latency", "shared", "products", "special"]
    assert not errors_in(micro)
    assert micro["clock"] == {"ghz": None, "multiply_add_cycles": None, "timing": None}
    assert list(micro["shared"]["cycles_by_degree"]) == ["1", "2", "4", "8", "16", "32"]
    assert {"f16", "bf16", "tf32", "i8"} <= set(micro["products"])


@pytest.mark.slow
@pytest.mark.parametrize(("engine", "path"), [("simulate:sm_80", ROOT), ("cuda", FAKE_GPU)])
def test_all_stages(tmp_path: Path, engine: str, path: Path) -> None:
    """On the simulator, and through CuPy's stand-in, where launches have times."""
    found = stages_of(tmp_path, engine, *STAGES, path=path)
    assert not errors_in(found)
    assert sum(found["tests"]["counts"].values()) > 100
    timed = engine == "cuda"
    rows = found["zoo"]["rows"]
    assert [row["name"] for row in rows] == [case.name for case in cases(small=True)]
    for row in rows:
        assert set(row["routes"]) == {"ptx", "cuda"}
        assert all((route["timing"] is not None) == timed for route in row["routes"].values())
    assert len(found["model"]["rows"]) == 2 * len(rows)
    assert (found["model"]["record"]["spearman"] is not None) == timed
    assert all(row["compiled"] == 2 for row in found["search"].values())
    assert all(("against_best" in row) == timed for row in found["search"].values())
    assert all(len(row["predicted_before_compiling"]) == 2 for row in found["search"].values())


def test_a_stage_that_fails_is_noted_and_the_next_one_goes_on(tmp_path: Path) -> None:
    benchmark(tmp_path, "--engine", "cpu", "--out", "found.json", "--only", "machine", "calibration")
    stages = json.loads((tmp_path / "found.json").read_text())["stages"]
    assert [stage["status"] for stage in stages.values()] == ["failed", "failed"]
    assert all("not on 'cpu'" in stage["error"] for stage in stages.values())


def test_a_stage_is_ended_in_time_with_what_it_has_started() -> None:
    reading, writing = os.pipe()
    sleeping = "import time; time.sleep(60)"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {sleeping!r}], close_fds=False)"
    process = subprocess.Popen([sys.executable, "-c", code], start_new_session=True, pass_fds=[writing])
    os.close(writing)
    assert wait(process, 1.0) == "out of time"
    assert select.select([reading], [], [], 20)[0]
    assert os.read(reading, 1) == b""  # nobody has the other end any more
    os.close(reading)


def test_shares_of_the_time() -> None:
    todo = list(STAGES)
    assert sum(share_of(name, todo, 480) for name in todo) == pytest.approx(480)
    assert share_of("search", ["search"], 100) == 100


def test_a_case_that_breaks_the_device_is_noted_and_the_others_follow(monkeypatch: pytest.MonkeyPatch) -> None:
    """In another process, for which a new start stands here."""
    cupy = stand_in()
    cupy.device.reset()
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    two = [case for case in cases(small=True) if case.name in ("softmax", "row sum")]
    monkeypatch.setattr(device_zoo, "cases", lambda small: two)
    found = Results()
    cupy.device.breaks = lambda name, grid: name == "softmax"
    with pytest.raises(DeviceLost, match="illegal memory access"):
        device_zoo.zoo(GpuLab("cuda", 600, small=True), found)
    assert [row["name"] for row in found["rows"]] == ["softmax"]
    assert "illegal memory access" in found["rows"][0]["error"]
    cupy.device.reset()
    device_zoo.zoo(GpuLab("cuda", 600, small=True), found)
    assert [row["name"] for row in found["rows"]] == ["softmax", "row sum"]
    assert not errors_in(found["rows"][1])


def test_what_a_process_says_with_its_status() -> None:
    for code, status in ((0, "ok"), (3, "device lost"), (1, "failed")):
        assert wait(subprocess.Popen([sys.executable, "-c", f"raise SystemExit({code})"], start_new_session=True),
                    60) == status


# -- calibration

MEASURED = {"stages": {
    "machine": {"results": {"name": "NVIDIA H200", "target": "sm_90a", "sm_count": 132, "l2": 60 << 20,
                            "peak_bandwidth": 4.8e12, "power_limit": 700.0}},
    "calibration": {"results": {
        "clock": {"ghz": 1.9801}, "launch": {"seconds": 2.31e-6},
        "copy": {"by_size": {"1048576": {"bytes_per_second": 9e12}, "1073741824": {"bytes_per_second": 4.32e12},
                             "268435456": {"bytes_per_second": 4.2e12}}},
        "l2": {"bytes_per_cycle": 4400.4}, "shared": {"error": "it failed"},
        "latency": {"l1": {"cycles": 39.6}, "l2": {"cycles": 270.2}, "memory": {"error": "it failed"}},
        "products": {"f16": {"multiply_adds_per_cycle": 1200.0, "ghz": 1.7},
                     "f16, summed in f16": {"multiply_adds_per_cycle": 1290.0, "ghz": 1.75}}}}}}


def test_the_record_that_measurements_give() -> None:
    board, known, missing = measured_board(MEASURED)
    assert known is BOARDS["H200"]
    assert missing == ["memory_latency"]
    assert board == dataclasses.replace(BOARDS["H200"], clock=1.75, memory_bandwidth=4800, efficiency=0.9, l2=60 << 20,
                                        l2_bandwidth=4400, l1_latency=40, l2_latency=270, launch=2.3e-6, power=700)
    assert eval(text_of(board), vars(boards)) == board


def test_the_record_as_it_is_printed(tmp_path: Path) -> None:
    (tmp_path / "measured.json").write_text(json.dumps(MEASURED))
    lines = benchmark(tmp_path, "--calibrate", "measured.json").splitlines()
    assert lines[0].startswith("Board('H200', 'sm_90a', 132, 1.75, 4800, 60 * MIB, 4400, efficiency=0.9, ")
    shown = {line.split()[0]: " ".join(line.split()[1:]) for line in lines[3:]}
    assert shown["clock"] == "1.83 1.75 -4.4%"
    assert shown["memory_latency"] == "479 479 not measured"
    assert shown["half_rate"] == "False False as it was"


def test_half_the_rate_of_tensor_cores() -> None:
    products = {"f16": {"multiply_adds_per_cycle": 512.0}, "f16, summed in f16": {"multiply_adds_per_cycle": 1010.0}}
    data = {"stages": {"machine": {"results": {**MEASURED["stages"]["machine"]["results"], "name": "NVIDIA L40S",
                                               "target": "sm_89"}},
                       "calibration": {"results": {"products": products}}}}
    board, known, missing = measured_board(data)
    assert known is BOARDS["L40S"]
    assert board.half_rate
    assert {"clock", "launch", "l2_bandwidth"} <= set(missing)


@pytest.mark.parametrize(("name", "board"), [
    ("NVIDIA H200", "H200"), ("NVIDIA H100 80GB HBM3", "H100 SXM"), ("NVIDIA GeForce RTX 4090", "RTX 4090"),
    ("NVIDIA A100-SXM4-80GB", "A100"), ("somebody's board", "A100")])
def test_which_record_is_compared_with(name: str, board: str) -> None:
    found = board_like(name, "sm_80")
    assert found is not None
    assert found.name == board


def test_a_file_without_a_machine() -> None:
    with pytest.raises(ValueError, match="no stage 'machine'"):
        measured_board({"stages": {}})


def test_ranks() -> None:
    assert spearman([1.0, 2.0, 3.0], [10.0, 20.0, 15.0]) == pytest.approx(0.5)
    assert spearman([1.0], [2.0]) is None


def test_results_of_the_zoo_are_compared_with_numpy() -> None:
    """A kernel that computes something else is listed with its difference."""
    from benchmarks.device_zoo import Case, _route
    from tilus.tuning.arguments import random_array

    lab = SimulatedLab("simulate:sm_80", 60)
    case = next(c for c in cases(small=True) if c.name == "vector add")
    wrong = Case(case.name, case.shape, case.kernel, case.arrays, "z", lambda a, r: 2 * case.reference(a, r), 1e-6)
    arrays = {name: random_array(*array, name) for name, array in case.arrays.items()}
    assert _route(lab, case, "ptx", arrays, {}, arrays, arrays)["error"] is None
    assert "differs from NumPy by 0.5" in _route(lab, wrong, "ptx", arrays, {}, arrays, arrays)["error"]
