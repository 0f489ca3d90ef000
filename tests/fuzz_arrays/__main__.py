"""``python -m tests.fuzz_arrays --count 1000 --engines cpu,interpret``: random fused functions against NumPy."""

from __future__ import annotations

import argparse
import time
from collections import Counter

from tests.fuzz_arrays.program import disagreement, drawn


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--engines", default="cpu")
    parser.add_argument("--most", type=int, default=9, help="operations in a program, at most")
    given = parser.parse_args()
    start, wrong, kinds = time.perf_counter(), 0, Counter[str]()
    for seed in range(given.first, given.first + given.count):
        program = drawn(seed, given.most)
        kinds.update(step.name for step in program.steps)
        for engine in given.engines.split(","):
            try:
                message = disagreement(program, engine, turned=seed % 5 == 0)
            except Exception as error:  # as bad as a wrong result
                message = f"{type(error).__name__}: {str(error)[:400]}"
            if message is not None:
                wrong += 1
                print(f"{engine}: {message}\n{program}\n", flush=True)
    print(", ".join(f"{name} {count}" for name, count in kinds.most_common()))
    print(f"{given.count} programs, {wrong} disagreements, {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
