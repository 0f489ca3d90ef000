"""The stages of ``benchmarks.device``: what they are called, their shares of the time, and those that are short."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.device_lab import GpuLab, Lab, Results
from benchmarks.device_outcomes import FILE as OUTCOMES
from tilus.model.boards import Board, get_board

ROOT = Path(__file__).parents[1]
PACKAGES = ("tilus", "numpy", "ml_dtypes", "cupy", "cupy-cuda12x", "cupy-cuda13x", "torch", "triton", "llvmlite",
            "nvidia-cuda-nvcc", "nvidia-cuda-nvrtc", "nvidia-cuda-nvdisasm")
SMI = ("name", "driver_version", "power.limit", "clocks.max.sm", "clocks.max.mem", "clocks.sm", "clocks.mem",
       "temperature.gpu", "mig.mode.current", "ecc.mode.current", "persistence_mode")
CLOCK, MEMORY_CLOCK, BUS_WIDTH = 13, 36, 37
"""Attributes of devices, as the CUDA runtime numbers them: kHz, kHz and bits."""
MOST_PROCESSES = 8
"""Processes that run device tests, which spend most of their time on compilations."""
NO_TESTS = 5
"""What pytest ends with where there is no test."""
ENDING = 5.0
"""Seconds that a stage's own processes have to end, before the stage has to."""


def machine(lab: Lab, found: Results, _: Mapping[str, Any]) -> None:
    """Names, clocks, memory, driver, packages."""
    found.update(engine=lab.name, target=lab.target.name, sm_count=lab.sm_count, l2=lab.l2, python=sys.version,
                 platform=platform.platform(), processors=os.cpu_count(), packages=dict(_packages()), smi=_smi())
    found["name"] = f"simulator of {lab.target.name}"
    if not isinstance(lab, GpuLab):
        return
    runtime, number = lab.cupy.cuda.runtime, lab.device.number
    properties = runtime.getDeviceProperties(number)
    name = properties["name"]
    found["name"] = name.decode() if isinstance(name, bytes) else str(name)
    found["properties"] = {k: v for k, v in properties.items() if isinstance(v, (int, float, str))}
    found.update(driver=runtime.driverGetVersion(), runtime=runtime.runtimeGetVersion(),
                 free_and_total_bytes=runtime.memGetInfo())
    found.save()
    clocks = {"clock": CLOCK, "memory_clock": MEMORY_CLOCK, "bus_width": BUS_WIDTH}
    attributes = {key: runtime.deviceGetAttribute(which, number) for key, which in clocks.items()}
    found.update(attributes=attributes, peak_bandwidth=2e3 * attributes["memory_clock"] * attributes["bus_width"] / 8)
    limit = re.match(r"[\d.]+", (found["smi"] or {}).get("power.limit", ""))
    found["power_limit"] = float(limit[0]) if limit else None


def _packages() -> list[tuple[str, str]]:
    versions = []
    for name in PACKAGES:
        try:
            versions.append((name, importlib.metadata.version(name)))
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def _smi() -> dict[str, str] | None:
    """What the driver's tool says of the first device; None where it is not here."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return None
    found = {}
    for field in SMI:  # one by one, since a tool that does not know one says nothing of the others
        done = subprocess.run([tool, f"--query-gpu={field}", "--format=csv,noheader", "--id=0"], capture_output=True,
                              text=True, timeout=20, check=False)
        if done.returncode == 0:
            found[field] = done.stdout.strip()
    return found


def calibration(lab: Lab, found: Results, _: Mapping[str, Any]) -> None:
    """Micro-kernels."""
    from benchmarks.device_micro import micro

    micro(lab, found)


def tests(lab: Lab, found: Results, _: Mapping[str, Any]) -> None:
    """The device tests, in processes of their own."""
    # What -m says replaces what the project's options say.
    command = [sys.executable, "-m", "pytest", "-m", "device and not slow", "-p", "no:cacheprovider", "--tb=short",
               "-p", "benchmarks.device_outcomes", *_files_with_device_tests()]
    if not lab.small and importlib.util.find_spec("xdist") is not None:
        command += ["-n", str(min(MOST_PROCESSES, os.cpu_count() or 1))]
    with tempfile.TemporaryDirectory(prefix="tilus-tests-") as folder:
        outcomes, said = Path(folder) / "outcomes", Path(folder) / "output"
        outcomes.touch()
        environment = {**os.environ, "PYTHONPATH": _python_path(), OUTCOMES: str(outcomes)}
        with open(said, "w") as output:
            process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT, env=environment)
            try:
                found["status"] = process.wait(max(1.0, lab.left - ENDING))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                found["status"] = None  # it was ended
        ended = [line.split(" ", 1) for line in outcomes.read_text().splitlines()]
        text = said.read_text(errors="replace")
    found["counts"] = {kind: sum(outcome == kind for outcome, _ in ended) for kind in ("passed", "failed", "skipped")}
    found["failures"] = [test for outcome, test in ended if outcome == "failed"]
    found["output_tail"] = text[-8000:]
    if not ended and found["status"] not in (0, None, NO_TESTS):
        raise RuntimeError(f"pytest has ended with {found['status']}: {text[-300:]}")


def _files_with_device_tests() -> list[str]:
    """The others are not read, which takes half a minute."""
    files = sorted((ROOT / "tests").rglob("test_*.py"))
    return [str(file.relative_to(ROOT)) for file in files if "pytest.mark.device" in file.read_text()]


def _python_path() -> str:
    return os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))


def zoo(lab: Lab, found: Results, _: Mapping[str, Any]) -> None:
    """Kernels of the zoo by both routes, and other libraries'."""
    from benchmarks.device_zoo import zoo as measure

    measure(lab, found)


def model(lab: Lab, found: Results, known: Mapping[str, Any]) -> None:
    """The model beside the zoo's times: with the board's record, and with the one that the calibration gives."""
    from benchmarks.device_search import spearman
    from benchmarks.device_zoo import ROUTES, cases, message, predict

    boards = _boards(lab, found, known)
    times = {(row["name"], route): ((row["routes"].get(route) or {}).get("timing") or {}).get("seconds")
             for row in known.get("zoo", {}).get("results", {}).get("rows", []) for route in ROUTES}
    found["rows"] = []
    for case in cases(lab.small):
        for route in ROUTES:
            if lab.left < 2:
                found.setdefault("left_out", []).append(f"{case.name}, {route}")
                continue
            row: dict[str, Any] = {"name": case.name, "shape": case.shape, "route": route,
                                   "measured": times.get((case.name, route)), "model": {}}
            found["rows"].append(row)
            for name, board in boards.items():
                try:
                    seconds, row["bottleneck"] = predict(lab, case, route, board)
                    row["model"][name] = seconds
                except Exception as error:
                    row["error"] = message(error)
            found.save()
    for name in boards:
        pairs = [(r["measured"], r["model"][name]) for r in found["rows"] if r["measured"] and name in r["model"]]
        found[name] = {
            "mape": sum(abs(said / true - 1) for true, said in pairs) / len(pairs) if pairs else None,
            "spearman": spearman([true for true, _ in pairs], [said for _, said in pairs])}


def _boards(lab: Lab, found: Results, known: Mapping[str, Any]) -> dict[str, Board]:
    from benchmarks.device_calibrate import board_like, measured_board, text_of

    name = known.get("machine", {}).get("results", {}).get("name", "")
    boards = {}
    recorded = board_like(name, lab.target.name)
    if recorded is not None:
        boards["record"] = recorded
    try:
        boards["calibrated"] = measured_board({"stages": known})[0]
    except ValueError as error:
        found["not_calibrated"] = str(error)
    found["boards"] = {key: text_of(board) for key, board in boards.items()}
    return boards or {"record": get_board("A100")}


def search(lab: Lab, found: Results, _: Mapping[str, Any]) -> None:
    """What the tuner and the model choose."""
    from benchmarks.device_search import search as contest

    contest(lab, found)


Stage = Callable[[Lab, Results, Mapping[str, Any]], None]
STAGES: dict[str, tuple[Stage, float]] = {
    "machine": (machine, 2), "calibration": (calibration, 12), "tests": (tests, 18), "zoo": (zoo, 26),
    "model": (model, 10), "search": (search, 32)}
"""By name, in their order, with their shares of the time."""


def share_of(name: str, todo: Sequence[str], seconds: float) -> float:
    """The seconds that a stage gets of those that are left for it and all that follow."""
    return seconds * STAGES[name][1] / sum(STAGES[other][1] for other in todo)
