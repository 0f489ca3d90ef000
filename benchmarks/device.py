"""What a borrowed GPU can tell in eight minutes, in one command without network.

    python -m benchmarks.device [--out device.json] [--seconds 480] [--engine cuda|simulate:sm_80] [--only STAGE …]
    python -m benchmarks.device --calibrate device.json

Stages: the machine; micro-kernels for the record of its board; the device tests; kernels of the zoo by both routes
against torch and Triton where these are installed; the model's predictions beside them; and what the tuner and the
model choose, against measuring every variant. Each is a process of its own with its share of the time: one that fails
or hangs is noted, and the next one goes on; where a kernel breaks the device, what follows it in its stage goes on in
another process. The file is written after each.

On the simulator (``--engine simulate:sm_80``) all of that runs in small sizes, without times. ``--calibrate`` prints
the record of the board that a file's measurements give, beside the one in ``tilus/model/boards.py``.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.device_lab import Results, open_lab, write_json
from benchmarks.device_stages import ENDING, ROOT, STAGES, share_of

SECONDS = 480.0
LEAST = 5.0
"""Seconds that a stage gets at least."""
LOST, LOST_CODE, MOST_LOSSES = "device lost", 3, 5
"""How a process says that the device does not work any more in it, and how many processes a stage gets at most."""
STATUS = {0: "ok", LOST_CODE: LOST}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("device.json"))
    parser.add_argument("--seconds", type=float, default=SECONDS)
    parser.add_argument("--engine", default="cuda", help="cuda, or simulate:sm_80 for a trial without a GPU")
    parser.add_argument("--only", nargs="+", choices=list(STAGES), default=list(STAGES), metavar="STAGE",
                        help=", ".join(STAGES))
    parser.add_argument("--small", action="store_true", help="small sizes, as on the simulator")
    parser.add_argument("--calibrate", type=Path, metavar="FILE", help="print the record of a board instead")
    parser.add_argument("--stage", choices=list(STAGES), help=argparse.SUPPRESS)
    parser.add_argument("--result", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.calibrate is not None:
        from benchmarks.device_calibrate import report

        print(report(json.loads(options.calibrate.read_text())))
    elif options.stage is not None:
        sys.exit(run_stage(options))
    else:
        run_all(options)


def run_all(options: argparse.Namespace) -> None:
    """All stages, each with its share of what is left."""
    deadline = time.monotonic() + options.seconds
    todo = [name for name in STAGES if name in options.only]
    data: dict[str, Any] = {"engine": options.engine, "seconds": options.seconds, "small": options.small,
                            "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "stages": {}}
    write_json(options.out, data)
    while todo:
        name = todo[0]
        left = deadline - time.monotonic()
        run_to_its_end(name, options, max(LEAST, share_of(name, todo, left)), data)
        todo.pop(0)
        print(summary(name, data["stages"][name]), flush=True)


def run_to_its_end(name: str, options: argparse.Namespace, seconds: float, data: dict[str, Any]) -> None:
    """A stage, in another process once more where something has left the device unusable: it goes on after that."""
    deadline = time.monotonic() + seconds
    for _ in range(MOST_LOSSES):
        earlier = data["stages"].get(name, {}).get("results", {})
        stage = run_in_child(name, options, max(LEAST, deadline - time.monotonic()))
        stage["results"] = stage["results"] or earlier
        data["stages"][name] = stage
        write_json(options.out, data)
        if stage["status"] != LOST or deadline - time.monotonic() < LEAST:
            return


def run_in_child(name: str, options: argparse.Namespace, seconds: float) -> dict[str, Any]:
    """What has become of a stage, which has so many seconds."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="tilus-device-") as folder:
        result = Path(folder) / "result.json"
        command = [sys.executable, "-m", "benchmarks.device", "--stage", name, "--engine", options.engine,
                   "--seconds", str(max(1.0, seconds - ENDING)), "--out", str(options.out.resolve()),
                   "--result", str(result), *(["--small"] if options.small else [])]
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
        with open(Path(folder) / "output", "w+") as output:
            process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
                                       cwd=folder, env={**os.environ, "PYTHONPATH": path})
            status = wait(process, seconds)
            output.seek(0)
            said = output.read()
        found = json.loads(result.read_text()) if result.exists() else {}
    error = found.pop("error", None) or (said[-2000:] if status == "failed" else None)
    return {"status": status, "seconds": time.monotonic() - started, "error": error, "results": found}


def wait(process: subprocess.Popen[Any], seconds: float) -> str:
    """``ok``, ``failed``, ``device lost`` or ``out of time``; what goes on after so many seconds is ended, with all
    that it started."""
    try:
        return STATUS.get(process.wait(seconds), "failed")
    except subprocess.TimeoutExpired:
        return "out of time"
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def run_stage(options: argparse.Namespace) -> int:
    """One stage in this process."""
    from tilus.tuning.devices import DeviceLost

    found = Results(options.result)
    data = json.loads(options.out.read_text())
    found.update(data["stages"].get(options.stage, {}).get("results", {}))
    try:
        lab = open_lab(options.engine, options.seconds, options.small)
        STAGES[options.stage][0](lab, found, data["stages"])
    except DeviceLost as error:
        found["error"] = f"the device was lost: {error}"
        found.save()
        return LOST_CODE
    except Exception as error:
        import traceback

        traceback.print_exc()
        found["error"] = f"{type(error).__name__}: {error}"
        found.save()
        return 1
    found.save()
    return 0


def summary(name: str, stage: Mapping[str, Any]) -> str:
    """One line about a stage."""
    what = f": {stage['error'].strip().splitlines()[-1]}" if stage["error"] else ""
    return f"{name:12} {stage['status']:12} {stage['seconds']:6.1f} s{what}"


if __name__ == "__main__":
    main()
