"""Quantisation on the host: bytes of f32 a second of processor time, for every type of at most 8 bits.

Run ``python -m benchmarks.quantize [rows] [columns] [group]``. Weights are (k, n) with groups along k. The time is that
of all threads together, so that figures are those of one core; the least is marked where it falls short of the mark.
"""

import sys
import time
from collections.abc import Callable, Iterator

import numpy as np

import tilus as tl

MARK = 200
"""MB/s."""


def types() -> Iterator[tl.DType | tl.QuantFormat]:
    for bits in range(1, 9):
        yield from (tl.integer(bits), tl.integer(bits, signed=False))
    for bits in range(3, 9):
        for signed in (True, False):
            for exponent in range(1, bits - signed + 1):
                for specials in ("ieee", "fn", "finite"):
                    yield tl.float(exponent, bits - signed - exponent, specials, signed=signed)
    rng = np.random.default_rng(0)
    yield from (tl.nf4, tl.ternary, tl.codebook("normal", sorted(rng.standard_normal(256))),
                tl.codebook("close", [1 + n / 2**20 for n in range(256)]))
    yield from (tl.mxfp4, tl.mxfp6e3m2, tl.mxfp8e4m3, tl.mxint8, tl.nvfp4, tl.qlora)


def seconds(run: Callable[[], object], runs: int = 4) -> float:
    """The least processor time of some runs after a first one."""
    run()
    times = []
    for _ in range(runs):
        start = time.process_time()
        run()
        times.append(time.process_time() - start)
    return min(times)


def main(rows: int, columns: int, group: int) -> None:
    w = (np.random.default_rng(0).standard_normal((rows, columns)) * 0.02).astype(np.float32)
    least: dict[str, tuple[float, str]] = {}
    print(f"MB/s of f32, {rows} x {columns}, groups of {group}; the mark is {MARK}")
    print(f"{'type':16} {'nearest':>10} {'zero points':>12} {'stochastic':>12} {'dequantise':>12}")
    for dtype in types():
        element = dtype if isinstance(dtype, tl.DType) else dtype.dtype
        name = str(element) if element is dtype else next(n for n, v in vars(tl).items() if v is dtype)
        x = np.abs(w) if element.is_float and not element.signed else w
        options = {"group": group} if element is dtype else {"axis": None if dtype is tl.qlora else 0}
        q = tl.quantize(x, dtype, **options)
        runs = {"nearest": lambda x=x, o=options, d=dtype: tl.quantize(x, d, **o),
                "zero points": lambda x=x, o=options, d=dtype: tl.quantize(x, d, symmetric=False, **o),
                "stochastic": lambda x=x, o=options, d=dtype: tl.quantize(x, d, rounding="stochastic", **o),
                "dequantise": lambda q=q: tl.dequantize(q)}
        if not element.is_int or element is not dtype:
            del runs["zero points"]
        found = {kind: w.nbytes / 1e6 / seconds(run) for kind, run in runs.items()}
        for kind, figure in found.items():
            least[kind] = min(least.get(kind, (figure, name)), (figure, name))
        print(f"{name:16} " + " ".join(f"{found[kind]:{width}.0f}" if kind in found else " " * width for kind, width in
                                       (("nearest", 10), ("zero points", 12), ("stochastic", 12), ("dequantise", 12))))
    for kind, (figure, name) in least.items():
        print(f"least of {kind}: {figure:.0f} MB/s ({name}){'' if figure >= MARK else ', BELOW THE MARK'}")


if __name__ == "__main__":
    main(*(int(n) for n in (*sys.argv[1:], *("1024", "1024", "128")[len(sys.argv) - 1 :])))
