"""Plants bugs, one at a time, in the compiler, and counts how many of them the fuzzer finds.

``python -m tests.fuzz.mutants`` prints a table: each mutant (a function that does something else), whether it is found,
after how many programs, and for how many of these the compiler emitted other code than without the bug (only those are
run). The exit status says whether nine in ten are found. ``--plant NAME`` runs the fuzzer with one bug, and takes the
options of ``python -m tests.fuzz``; ``--check`` says which mutants change nothing in texts of passes and a few kernels.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.fuzz.mutants_packed import PACKED_MUTANTS
from tests.fuzz.mutants_planted import Mutant, planted
from tests.fuzz.mutants_thread import THREAD_MUTANTS
from tests.fuzz.mutants_tile import TILE_MUTANTS
from tilus.runtime.cache import key_of
from tilus.runtime.fingerprint import compiler_fingerprint

ROOT = Path(__file__).parents[2]
PROGRAMS = 500
"""How many programs a mutant may survive."""
MUTANTS = (*TILE_MUTANTS, *THREAD_MUTANTS, *PACKED_MUTANTS)


@dataclass(frozen=True)
class Verdict:
    """``programs`` until one disagreed, or all; the code of ``changed`` of them is not the unchanged compiler's, or of
    one at least where the process has died."""

    found: bool
    programs: int
    changed: int
    what: str = ""

    def __str__(self) -> str:
        word = "found after" if self.found else "MISSED in  "
        return f"{word} {self.programs:4d} ({self.changed:3d} with other code)"


def fuzz(module: str, *arguments: str) -> tuple[str, str]:
    """The output of the fuzzer in a process, and with a cache, of its own; and where a signal has ended it what it had
    written on stderr, which is empty otherwise."""
    with tempfile.TemporaryDirectory() as cache:
        environment = {**os.environ, "TILUS_CACHE_DIR": cache, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", module, *arguments]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode > 1 or (done.returncode > 0 and not done.stdout):
        raise RuntimeError(f"the fuzzer did not end:\n{done.stdout}\n{done.stderr}")
    return done.stdout, done.stderr if done.returncode < 0 else ""


def verdict(mutant: Mutant, known: Path, programs: int = PROGRAMS, first: int = 0) -> Verdict:
    """Fuzz the compiler with the bug. Programs whose code is the ``known`` one are not run."""
    output, died = fuzz("tests.fuzz.mutants", "--plant", mutant.name, "--first", str(first), "--count", str(programs),
                        "--engines", mutant.engine, "--stop", "--brief", "--progress", "1", "--known", str(known))
    if died:  # LLVM, or what it has made: one more program than there were lines
        before = re.findall(r"^(\d+) programs, 0 disagreements", died, re.MULTILINE)
        return Verdict(True, int(before[-1] if before else 0) + 1, 1, died.splitlines()[-1])
    ran = re.search(r"^(\d+) programs, (\d+) with other code, (\d+) disagreements", output, re.MULTILINE)
    if ran is None:
        raise RuntimeError(f"the fuzzer did not end with {mutant.name}:\n{output}")
    return Verdict(int(ran[3]) > 0, int(ran[1]), int(ran[2]), output.splitlines()[0])


def known_code(engine: str, directory: Path, first: int, programs: int) -> Path:
    """A file with the digests of what the unchanged compiler makes of the programs, made where it is missing."""
    sources = [path.read_bytes() for path in sorted((ROOT / "tests" / "fuzz").glob("*.py"))
               if not path.name.startswith("mutants")]
    path = directory / f"{key_of([compiler_fingerprint(), engine, str(first), str(programs), *sources])}.json"
    if not path.exists():
        fuzz("tests.fuzz", "--first", str(first), "--count", str(programs), "--engines", engine, "--write-known",
             str(path))
    return path


def run_planted(name: str, arguments: list[str]) -> None:
    """The fuzzer, in this process, with a bug in the compiler."""
    from tests.fuzz import __main__ as fuzzer

    mutant = next(m for m in MUTANTS if m.name == name)
    sys.argv[1:] = arguments
    with planted(mutant.place, mutant.change):
        fuzzer.main()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--programs", type=int, default=PROGRAMS)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--only", default="", help="mutants with this in their name or place; several apart by commas")
    parser.add_argument("--verbose", action="store_true", help="print the first disagreement")
    parser.add_argument("--keep", type=Path, help="directory that keeps the digests of the code for the next run")
    parser.add_argument("--plant", metavar="NAME", help="run the fuzzer with one bug")
    parser.add_argument("--check", action="store_true", help="only look whether mutants change anything")
    options, rest = parser.parse_known_args()
    chosen = [m for m in MUTANTS if any(word in m.name or word in m.place for word in options.only.split(","))]
    if options.plant:
        # what the fuzzer takes too has been parsed here: it gets all but the name
        at = sys.argv.index("--plant")
        run_planted(options.plant, sys.argv[1:at] + sys.argv[at + 2 :])
    elif rest:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    elif options.check:
        from tests.fuzz.mutants_checked import without_effect

        idle = without_effect(chosen)
        print("\n".join(idle) or f"all of {len(chosen)} mutants change something")
        raise SystemExit(bool(idle))
    else:
        run_all(chosen, options)


def run_all(chosen: list[Mutant], options: argparse.Namespace) -> None:
    found = 0
    with tempfile.TemporaryDirectory() as temporary, ThreadPoolExecutor(options.jobs) as pool:
        directory = options.keep or Path(temporary)
        engines = sorted({m.engine for m in chosen})
        known = {e: known_code(e, directory, options.first, options.programs) for e in engines}
        results = pool.map(lambda m: verdict(m, known[m.engine], options.programs, options.first), chosen)
        for mutant, result in zip(chosen, results, strict=True):
            found += result.found
            print(f"{result}  {mutant.place.removeprefix('tilus.').partition(':')[0]:28s} {mutant.name}", flush=True)
            if options.verbose and result.found:
                print(f"    {result.what}")
    print(f"{found} of {len(chosen)} mutants found within {options.programs} programs each")
    raise SystemExit(0 if found >= 0.9 * len(chosen) else 1)


if __name__ == "__main__":
    main()
