"""Writes docs/functions.md: the documented error bounds beside what dense random arguments show.

Run ``python -m tools.function_table > docs/functions.md`` from the root of the repository (some minutes).
"""

from __future__ import annotations

import sys

from tests.lowering.test_math import BOUNDS, REFERENCES, TYPES, worst
from tilus.ir.functions import ROUNDED_ULPS
from tilus.lowering.math.rounded import ROUNDED

ON_GPUS = """\
On GPUs a result that comes to be rounded to f16 or bf16 has the precision that this takes: the error, that
rounding included, is at most {bound} units in the last place of f16 or bf16 for {names}
of f16 and bf16, and of f32 where nothing but a conversion uses the result, by way of products, quotients, `min`, `max`,
`where`, movements and sums of what is not negative. On the way to f16, numbers below 2⁻¹²⁶ count as 0. Quotients whose
rounding is the only use of them are products with an approximate reciprocal (`/` of f16 and bf16 themselves is
exact). `precision=tl.f32` keeps all of it, `precision=tl.f16` or `tl.bf16` asks for it whatever the use.
"""


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    print("# Elementary functions\n")
    print("Bounds on the error, in units in the last place of the exact result, on every engine that computes by")
    print("tilus's own expansions (`tilus/lowering/math`); in brackets the largest error that random")
    print(f"arguments showed against mpmath (about {6 * count} each, subnormals and large arguments among them).")
    print("f16 and bf16 are computed in f32 and rounded once more. Subnormals are kept. `fmod`, `%` and `//` of floats")
    print("are exact. `min` and `max` prefer a number to a NaN. Made by `tools/function_table.py`.\n")
    names = ", ".join(f"`{name}`" for name in sorted(set(ROUNDED) - {"rcp", "sqrt"}))
    print(ON_GPUS.format(bound=ROUNDED_ULPS, names=names))
    print("| function | f32 | f64 |\n|---|---|---|")
    for name in sorted(BOUNDS):
        cells = []
        for t, dtype in TYPES:
            bound = BOUNDS[name][t]
            cells.append(f"{bound:g} ({worst(name, dtype, count):.2f})" if name in REFERENCES else f"{bound:g}")
        print(f"| `{name}` | {cells[0]} | {cells[1]} |")


if __name__ == "__main__":
    main()
