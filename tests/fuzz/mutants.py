"""Plants bugs, one at a time, in copies of the compiler, and counts how many of them the fuzzer finds.

``python -m tests.fuzz.mutants --programs 150``; each mutant is one replacement of text in one file.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Mutant:
    name: str
    file: str
    old: str
    new: str


_SIMPLIFY, _FACTS = "tilus/lowering/simplify.py", "tilus/lowering/facts.py"
_MEMORY, _REDUCTION = "tilus/lowering/cpu/memory.py", "tilus/lowering/cpu/reduction.py"
_ARITH, _COMPUTE = "tilus/codegen/llvm/arith.py", "tilus/lowering/cpu/compute.py"

MUTANTS = (
    Mutant("x % 1 is x", _SIMPLIFY, 'if b == 1 and op.kind == "mod":\n        return Const(0, dtype, shape)',
           'if b == 1 and op.kind == "mod":\n        return op.lhs'),
    Mutant("0 - x is x", _SIMPLIFY, 'if a == 0 and op.kind in ("add", "or", "xor"):',
           'if a == 0 and op.kind in ("add", "or", "xor", "sub"):'),
    Mutant("x * 0 is x", _SIMPLIFY, '("mul", "and"):\n        return Const(0, dtype, shape)',
           '("mul", "and"):\n        return op.lhs'),
    Mutant("folded integers do not wrap", _SIMPLIFY, "value &= (1 << dtype.bits) - 1\n    return value -",
           "return value\n    return value -"),
    Mutant("a - b and b - a are one", _SIMPLIFY, 'op.kind in ("add", "mul", "and", "or", "xor", "eq", "ne"):',
           'op.kind in ("add", "sub", "mul", "and", "or", "xor", "eq", "ne", "lt"):'),
    Mutant("attributes do not tell operations apart", _SIMPLIFY,
           "attributes = tuple(_hashable(getattr(op, n)) for n in op.ATTRIBUTE_FIELDS)", "attributes = ()"),
    Mutant("comparisons that always hold are false", _SIMPLIFY, "known = True if x.high < y.low else (False",
           "known = False if x.high < y.low else (False"),
    Mutant("x < y folds at x.high == y.low", _SIMPLIFY, "known = True if x.high < y.low else",
           "known = True if x.high <= y.low else"),
    Mutant("select takes the other value", _SIMPLIFY, "return op.x if condition else op.y",
           "return op.y if condition else op.x"),
    Mutant("reshape of a reshape forgets", _SIMPLIFY, "return Reshape(inner.x, op.shape, span=op.span)",
           "return Reshape(op.x, op.shape[::-1], span=op.span)"),
    Mutant("transposes compose the wrong way", _SIMPLIFY, "tuple(inner.permutation[p] for p in op.permutation)",
           "tuple(op.permutation[p] for p in inner.permutation)"),
    Mutant("the results of an if are its then", _SIMPLIFY, "                if a is b:\n",
           "                if True:\n"),
    Mutant("iota reaches further than it does", _FACTS, "return Fact(0, max(0, op.shape[op.axis] - 1), 1)",
           "return Fact(0, max(0, op.shape[op.axis] - 3), 1)"),
    Mutant("a difference's range is a sum's", _FACTS, "return Fact(a.low - b.high, a.high - b.low,",
           "return Fact(a.low - b.low, a.high - b.high,"),
    Mutant("bounds above are off by one", _MEMORY, "fact.high + extent <= high", "fact.high + extent <= high + 1"),
    Mutant("bounds above are not looked at", _MEMORY, "highs.append(None if above else c.sub(high, at))",
           "highs.append(None if True else c.sub(high, at))"),
    Mutant("negative offsets are in bounds", _MEMORY, "lows.append(None if below else c.sub(low, at))",
           "lows.append(None if True else c.sub(low, at))"),
    Mutant("`other` is zero", _MEMORY, "fill = None if other is None else c.splat(other, lanes)", "fill = None"),
    Mutant("user masks are dropped", _MEMORY, "condition = c.both(window_mask(self, window, coords), mask)",
           "condition = window_mask(self, window, coords)"),
    Mutant("argmax takes the last", _REDUCTION, 'test("lt", b[1], a[1])', 'test("gt", b[1], a[1])'),
    Mutant("products start at 0", _REDUCTION, 'if kind == "prod":\n        return 1',
           'if kind == "prod":\n        return 0'),
    Mutant("minima start at the least", _REDUCTION, 'return dtype.max_value if kind in ("min", "argmin")',
           'return dtype.max_value if kind in ("max", "argmin")'),
    Mutant("floor division truncates", _ARITH, 'lower = e.op(f"sub {ty} {quotient}, {text(1)}")',
           'lower = e.op(f"sub {ty} {quotient}, {text(0)}")'),
    Mutant("the remainder has the dividend's sign", _ARITH, 'raised = e.op(f"add {ty} {remainder}, {divisor}")',
           'raised = e.op(f"add {ty} {remainder}, {text(0)}")'),
    Mutant("division by zero gives the dividend", _ARITH, 'otherwise = text(0) if kind == "floordiv" else a',
           "otherwise = a"),
    Mutant("shifts by the width are masked", _ARITH, 'inside = e.op(f"icmp ule {ty} {b}, {limit}")',
           'inside = e.op(f"icmp uge {ty} {limit}, {limit}")'),
    Mutant("16-bit floats keep f32 precision", _COMPUTE,
           "return cast(b, binary(b, kind, cast(b, x, f32), cast(b, y, f32)), dtype)",
           "return cast(b, binary(b, 'add' if kind == 'sub' else kind, cast(b, x, f32), cast(b, y, f32)), dtype)"),
    Mutant("maxima are minima", _ARITH, "name = f\"llvm.{'s' if dtype.kind == 'int' else 'u'}{kind}.",
           "name = f\"llvm.{'s' if dtype.kind == 'int' else 's'}{kind}."),
)


def applies(mutant: Mutant) -> bool:
    """Whether the text to replace is there, once or more."""
    return mutant.old in (ROOT / mutant.file).read_text()


def is_found(mutant: Mutant, programs: int, seconds: float = 300.0) -> bool:
    """Whether the fuzzer disagrees with a copy that has the bug."""
    with tempfile.TemporaryDirectory() as directory:
        copy = Path(directory)
        unused = shutil.ignore_patterns("__pycache__", "simulator", "golden")
        for name in ("tilus", "tests"):
            shutil.copytree(ROOT / name, copy / name, ignore=unused)
        path = copy / mutant.file
        path.write_text(path.read_text().replace(mutant.old, mutant.new))
        environment = {**os.environ, "TILUS_CACHE_DIR": str(copy / "cache"), "PYTHONPATH": str(copy)}
        command = [sys.executable, "-m", "tests.fuzz", "--count", str(programs), "--engines", "cpu", "--stop"]
        done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, timeout=seconds,
                              check=False)
        return done.returncode != 0


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--programs", type=int, default=150)
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    found = [m for m in MUTANTS if options.only in m.name]
    missed = []
    for mutant in found:
        verdict = is_found(mutant, options.programs)
        print(f"{'found ' if verdict else 'MISSED'} {mutant.name}", flush=True)
        missed += [] if verdict else [mutant.name]
    print(f"{len(found) - len(missed)} of {len(found)} found")


if __name__ == "__main__":
    main()
