"""``python -m tests.fuzz --count 5000 --engines cpu,python``: a long run; prints disagreements and the distribution.

Engines are those of ``kernel.on`` and ``passes:TARGET``, which interprets the module after every tile-level pass.
``--seed N --reduce`` prints a smaller program that fails in the same way.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from pathlib import Path

from tests.fuzz.generator import generate
from tests.fuzz.harness import Disagreement, check, check_program
from tests.fuzz.reduce import reduce_program


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--seed", type=int, help="one program only")
    parser.add_argument("--engines", default="cpu")
    parser.add_argument("--stop", action="store_true", help="stop at the first disagreement")
    parser.add_argument("--reduce", action="store_true", help="print a smaller program for each disagreement")
    parser.add_argument("--save", type=Path, help="directory for the smaller programs, as JSON")
    parser.add_argument("--brief", action="store_true", help="do not print the programs")
    parser.add_argument("--seconds", type=float, default=float("inf"))
    options = parser.parse_args()
    if options.seed is not None:
        options.first, options.count = options.seed, 1
    counts: Counter[str] = Counter()
    start, wrong, ran = time.perf_counter(), 0, 0
    for seed in range(options.first, options.first + options.count):
        for found in check(seed, options.engines.split(","), counts):
            wrong += 1
            show(found, options.reduce, options.brief, options.save)
        ran += 1
        if time.perf_counter() - start > options.seconds or (options.stop and wrong):
            break
    print(f"{ran} programs, {wrong} disagreements, {time.perf_counter() - start:.0f} s")
    if not options.brief:
        for name, count in counts.most_common():
            print(f"{count:7d} {name}")
    raise SystemExit(1 if wrong else 0)


def show(found: Disagreement, reduce: bool, brief: bool, save: Path | None) -> None:
    if reduce:
        program = reduce_program(generate(found.seed), found.engine)
        if save is not None:
            name = f"{found.seed}_{found.engine.replace(':', '_')}.json"
            (save / name).write_text(program.to_json())
        for smaller in check_program(program, [found.engine]):
            print(smaller)
        for array in (*program.arrays, *program.outputs):
            print(f"    {array}")
        print(f"    grid {program.grid}, {program.scalars}\n", flush=True)
    else:
        print(f"seed {found.seed} on {found.engine}: {found.what[:400]}" if brief else found, "\n", flush=True)


if __name__ == "__main__":
    main()
