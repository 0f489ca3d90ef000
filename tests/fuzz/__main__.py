"""``python -m tests.fuzz --count 5000 --engines cpu,python``: a long run; prints disagreements and the distribution."""

from __future__ import annotations

import argparse
import time
from collections import Counter

from tests.fuzz.harness import check


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--engines", default="cpu")
    parser.add_argument("--stop", action="store_true", help="stop at the first disagreement")
    parser.add_argument("--seconds", type=float, default=float("inf"))
    options = parser.parse_args()
    counts: Counter[str] = Counter()
    start, wrong, ran = time.perf_counter(), 0, 0
    for seed in range(options.first, options.first + options.count):
        for found in check(seed, options.engines.split(","), counts):
            wrong += 1
            print(found, "\n", flush=True)
        ran += 1
        if time.perf_counter() - start > options.seconds or (options.stop and wrong):
            break
    print(f"{ran} programs, {wrong} disagreements, {time.perf_counter() - start:.0f} s")
    for name, count in counts.most_common():
        print(f"{count:7d} {name}")
    raise SystemExit(1 if wrong else 0)


if __name__ == "__main__":
    main()
