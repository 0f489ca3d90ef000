"""A plugin of pytest that writes how each test ends into the file that ``TILUS_OUTCOMES`` names, at once: what is known
stays known when the run is ended."""

from __future__ import annotations

import os
from typing import Any

FILE = "TILUS_OUTCOMES"


def pytest_runtest_logreport(report: Any) -> None:
    # Processes of a parallel run report to the one that has started them.
    told = report.when == "call" or report.outcome != "passed"
    if told and "PYTEST_XDIST_WORKER" not in os.environ:
        with open(os.environ[FILE], "a") as file:
            file.write(f"{report.outcome} {report.nodeid}\n")
