"""The compressed systems of the papers, measured here, with the papers' headlines beside.

    python -m benchmarks.compressed [gptq nf4 ...] [--threads 1]

Ours is time on the CPU, the least of some runs, unless a line says otherwise. The papers' figures are of GPUs, against
their own baselines: they say what a system is for, not how fast it is here.
"""

from __future__ import annotations

import argparse
import importlib
import os
import pkgutil

NOT_SYSTEMS = ("timing",)


def systems() -> list[str]:
    import benchmarks.compressed as package

    names = [module.name for module in pkgutil.iter_modules(package.__path__)]
    return [name for name in names if name not in NOT_SYSTEMS and name[0] != "_"]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compressed")
    parser.add_argument("systems", nargs="*", metavar="SYSTEM", help=", ".join(systems()))
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    os.environ["OPENBLAS_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = str(options.threads)  # before NumPy is there
    from rich.console import Console
    from rich.table import Table

    import tilus as tl

    tl.set_num_threads(options.threads)
    console = Console(width=180)
    for name in options.systems or systems():
        table = Table("what", "measured", "ours", "times", "of", "asked", "the paper, on GPUs", title=name,
                      title_justify="left")
        for line in importlib.import_module(f"benchmarks.compressed.{name}").lines():
            missed = line.bar is not None and line.ratio < line.bar
            table.add_row(line.name, line.measured, line.figure, f"{line.ratio:.2f}{' *' if missed else ''}", line.of,
                          "" if line.bar is None else f"{line.bar:g}", line.paper)
        console.print(table)


if __name__ == "__main__":
    main()
