"""Spaces of variants: seconds to prune 10⁶ combinations to the variants that meet the constraints.

Run ``python -m benchmarks.spaces [runs]``. Times are the least of the runs, for the first variant too; what
misses the mark is marked.
"""

import sys
import time
from collections.abc import Callable

from kernels_zoo.rnn.tiling import SHAPES, tiling
from tilus.tuning.domain import Domain
from tilus.tuning.system import System, interval

MARK = 1.0
"""Seconds for 10⁶ combinations."""
TILES = [16, 32, 48, 64, 80, 96, 112, 128, 192, 256]
MATMUL = {"BM": TILES, "BN": TILES, "BK": TILES, "stages": range(1, 11), "warps": range(1, 11), "split": range(1, 11)}
FITS = "BM * BN // warps <= 4096; (BM * BK + BK * BN) * 2 * stages <= 163 * 1024"
DIVIDES = "BM % warps == 0 | BN % warps == 0; 4096 % (BK * split) == 0; primes(warps) in [2]"
INTERVALS: dict[str, Domain] = {name: interval(1, 10) for name in "abcdef"}
CASES = {
    "matmul, realistic": (MATMUL, f"{FITS}; {DIVIDES}"),
    "matmul, limits only": (MATMUL, FITS),
    "all variables at once": (MATMUL, "(BM + BN + BK) * stages * warps * split % 7 == 3"),
    "no constraints": (MATMUL, ""),
    "intervals, a product": (INTERVALS, "a * b * c * d * e * f == 720"),
    "intervals, orders": (INTERVALS, "a < b; b < c; c < d; d < e; e < f"),
}


def least(run: Callable[[], object], runs: int) -> float:
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)


def main(runs: int) -> None:
    print(f"10⁶ combinations; the mark is {MARK} s")
    print(f"{'constraints':24} {'variants':>10} {'all, s':>8} {'first, ms':>10}")
    for name, (variables, where) in CASES.items():
        def make(variables: object = variables, where: str = where) -> System:
            return System(variables, where)  # type: ignore[arg-type]

        everything = least(lambda: make().count(), runs)
        first = least(lambda: make().first(), runs)
        missed = "" if everything <= MARK else f"  <- {everything / MARK:.2f} of the mark"
        print(f"{name:24} {make().count():10} {everything:8.3f} {first * 1e3:10.2f}{missed}")
    tilings = {f"D={D} N={N}": least(lambda D=D, N=N: tiling(D, N), runs) for D, N in SHAPES}
    print("FlashRNN's tilings, ms: " + ", ".join(f"{name} {seconds * 1e3:.0f}" for name, seconds in tilings.items()))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
