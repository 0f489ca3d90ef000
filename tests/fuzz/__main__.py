"""``python -m tests.fuzz --count 5000 --engines cpu,python``: a long run; prints disagreements and the distribution.

Engines are those of ``kernel.on`` and ``passes:TARGET``, which interprets the module after every tile-level pass.
``--seed N --reduce`` prints a smaller program that fails in the same way. ``--write-known FILE`` runs nothing and keeps
digests of the emitted code; with ``--known FILE`` programs whose code is still the same are counted, but not run.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from tests.fuzz.emitted import digest
from tests.fuzz.examine import Outcome, examine
from tests.fuzz.generator import generate
from tests.fuzz.harness import Disagreement, check_program
from tests.fuzz.reduce import reduce_program

CHUNK = 20
"""How many programs a process does before it reports."""


def outcomes_of(options: argparse.Namespace) -> Iterator[Outcome]:
    """In the order of the seeds, from as many processes as are asked for."""
    engines: list[str] = options.engines.split(",")
    known: dict[str, str] = json.loads(options.known.read_text()) if options.known else {}
    if known and len(engines) > 1:
        raise SystemExit("--known is about the code of one engine")
    seeds = range(options.first, options.first + options.count)
    if options.jobs == 1:
        for seed in seeds:
            yield from examine(range(seed, seed + 1), engines, known)
        return
    chunks = [seeds[at : at + CHUNK] for at in range(0, len(seeds), CHUNK)]
    with ProcessPoolExecutor(options.jobs, get_context("spawn")) as pool:
        pending = [pool.submit(examine, chunk, engines, known) for chunk in chunks]
        try:
            for future in pending:
                yield from future.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--seed", type=int, help="one program only")
    parser.add_argument("--engines", default="cpu")
    parser.add_argument("--jobs", type=int, default=1, help="processes that share the programs")
    parser.add_argument("--stop", action="store_true", help="stop at the first disagreement")
    parser.add_argument("--reduce", action="store_true", help="print a smaller program for each disagreement")
    parser.add_argument("--save", type=Path, help="directory for the smaller programs, as JSON")
    parser.add_argument("--brief", action="store_true", help="do not print the programs")
    parser.add_argument("--distribution", action="store_true", help="print what the programs are made of")
    parser.add_argument("--progress", type=int, default=500, help="say on stderr how many programs are done, so often")
    parser.add_argument("--seconds", type=float, default=float("inf"))
    parser.add_argument("--known", type=Path, help="do not run programs whose code has the digest in this file")
    parser.add_argument("--write-known", type=Path, help="run nothing; write the digests of the code")
    options = parser.parse_args()
    if options.seed is not None:
        options.first, options.count = options.seed, 1
    if options.write_known:
        seeds = range(options.first, options.first + options.count)
        digests = {seed: digest(generate(seed), options.engines) for seed in seeds}
        options.write_known.write_text(json.dumps(digests))
        return
    wrong = run(options)
    raise SystemExit(1 if wrong else 0)


def run(options: argparse.Namespace) -> int:
    """All programs; how many disagreements there are."""
    counts: Counter[str] = Counter()
    start, wrong, done, ran = time.perf_counter(), 0, 0, 0
    for outcome in outcomes_of(options):
        counts.update(outcome.counts)
        done += 1
        ran += outcome.ran
        wrong += len(outcome.found)
        for found in outcome.found:
            show(found, options.reduce, options.brief, options.save)
        seconds = time.perf_counter() - start
        if done % options.progress == 0:
            print(f"{done} programs, {wrong} disagreements, {seconds:.0f} s", file=sys.stderr, flush=True)
        if seconds > options.seconds or (options.stop and wrong):
            break
    unchanged = f", {ran} with other code" if options.known else ""
    print(f"{done} programs{unchanged}, {wrong} disagreements, {time.perf_counter() - start:.0f} s")
    if options.distribution:
        for name, count in counts.most_common():
            print(f"{count:7d} {name}")
    return wrong


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
