"""``python -m tests.fuzz_python --first 0 --count 1000 --engines interpret,cpu``."""

from __future__ import annotations

import argparse
import collections
import sys

from tests.fuzz_python.harness import check, kernel_of


def main() -> int:
    parser = argparse.ArgumentParser(description="Random Python kernels, untraced and traced.")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--count", type=int, default=100, help="how many programs")
    parser.add_argument("--engines", default="interpret", help="engines compared with `python`, with commas between")
    parser.add_argument("--show", type=int, help="print the program of a seed")
    options = parser.parse_args()
    if options.show is not None:
        print(kernel_of(options.show)[0])
        print(check(options.show, options.engines.split(",")))
        return 0
    kinds: collections.Counter[str] = collections.Counter()
    for seed in range(options.first, options.first + options.count):
        verdict = check(seed, options.engines.split(","))
        kinds[verdict.kind] += 1
        if verdict.kind == "wrong":
            print(f"seed {seed}: {verdict.detail}")
    print(", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items())))
    return 1 if kinds["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
