"""Plants bugs, one at a time, in copies of the compiler, and counts how many of them the fuzzer finds.

``python -m tests.fuzz.mutants`` prints a table: each mutant (one replacement of text in one file), whether it is found,
after how many programs, and for how many of these the compiler emitted other code than without the bug (only those are
run). The exit status says whether nine in ten are found.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tilus.runtime.cache import key_of
from tilus.runtime.fingerprint import compiler_fingerprint

ROOT = Path(__file__).parents[2]
PROGRAMS = 500
"""How many programs a mutant may survive."""
CPU, GPU, PASSES = "cpu", "simulate:sm_80:ptx", "passes:sm_80"
CUDA = "simulate:sm_80:cuda"


@dataclass(frozen=True)
class Mutant:
    """A replacement of text in a file, and the engines on which it shows."""

    name: str
    file: str
    old: str
    new: str
    engines: str = GPU


_SIMPLIFY, _FACTS = "tilus/lowering/simplify.py", "tilus/lowering/facts.py"
_MEMORY, _REDUCTION = "tilus/lowering/cpu/memory.py", "tilus/lowering/cpu/reduction.py"
_ARITH = "tilus/codegen/llvm/arith.py"
_PIPELINE, _DEFER = "tilus/lowering/pipeline.py", "tilus/lowering/defer_reductions.py"
_INFER, _ORDER = "tilus/lowering/infer_layouts.py", "tilus/lowering/order_memory.py"
_INDUCTION, _CONTRACT = "tilus/lowering/pointer_induction.py", "tilus/lowering/contract.py"
_REGISTER, _CONVERT = "tilus/layouts/register.py", "tilus/layouts/convert.py"
_SHARED, _SIMT = "tilus/layouts/shared.py", "tilus/lowering/simt"

MUTANTS = (
    # passes over tiles, for every target
    Mutant("x % 1 is x", _SIMPLIFY, 'if b == 1 and op.kind == "mod":\n        return Const(0, dtype, shape)',
           'if b == 1 and op.kind == "mod":\n        return op.lhs', PASSES),
    Mutant("0 - x is x", _SIMPLIFY, 'if a == 0 and op.kind in ("add", "or", "xor"):',
           'if a == 0 and op.kind in ("add", "or", "xor", "sub"):', PASSES),
    Mutant("folded integers do not wrap", _SIMPLIFY, "value &= (1 << dtype.bits) - 1\n    return value -",
           "return value\n    return value -", PASSES),
    Mutant("a - b and b - a are one", _SIMPLIFY, 'op.kind in ("add", "mul", "and", "or", "xor", "eq", "ne"):',
           'op.kind in ("add", "sub", "mul", "and", "or", "xor", "eq", "ne", "lt"):', PASSES),
    Mutant("attributes do not tell operations apart", _SIMPLIFY,
           "attributes = tuple(_hashable(getattr(op, n)) for n in op.ATTRIBUTE_FIELDS)", "attributes = ()", PASSES),
    Mutant("x < y folds at x.high == y.low", _SIMPLIFY, "known = True if x.high < y.low else",
           "known = True if x.high <= y.low else", PASSES),
    Mutant("transposes compose the wrong way", _SIMPLIFY, "tuple(inner.permutation[p] for p in op.permutation)",
           "tuple(op.permutation[p] for p in inner.permutation)", PASSES),
    Mutant("the results of an if are its then", _SIMPLIFY, "                if a is b:\n",
           "                if True:\n", PASSES),
    Mutant("what a loop changes is hoisted", _SIMPLIFY, "        inside.update(region.args)\n    hoisted",
           "        inside.update(region.args[:1])\n    hoisted", PASSES),
    Mutant("iota reaches less far", _FACTS, "return Fact(0, max(0, op.shape[op.axis] - 1), 1)",
           "return Fact(0, max(0, op.shape[op.axis] - 3), 1)", PASSES),
    Mutant("a difference's range is a sum's", _FACTS, "return Fact(a.low - b.high, a.high - b.low,",
           "return Fact(a.low - b.low, a.high - b.high,", PASSES),
    # passes for GPUs
    Mutant("the main loop goes on into the partial tile", _PIPELINE, "b.const(count + s - 1))",
           "b.const(count + s - 2))"),
    Mutant("one copy too many may be open", _PIPELINE,
           "b.add(WaitAsync(self.stages - 2))\n        b.add(Sync())\n        self.copies",
           "b.add(WaitAsync(self.stages - 1))\n        b.add(Sync())\n        self.copies"),
    Mutant("no barrier before a slot is filled again", _PIPELINE,
           "b.add(WaitAsync(self.stages - 2))\n        b.add(Sync())\n        self.copies",
           "b.add(WaitAsync(self.stages - 2))\n        self.copies"),
    Mutant("tiles longer than the step are whole", _PIPELINE,
           "covers = isinstance(step, Const) and load.result.tile.shape[d] <= int(step.value)",
           "covers = isinstance(step, Const)"),
    Mutant("any comparison holds in whole tiles", _PIPELINE,
           "same = limit is self.loop.stop or self._same_number(limit, self.loop.stop)", "same = True", PASSES),
    Mutant("loads of written arrays are staged", _PIPELINE,
           "if plain and self.root(inner.view) not in self.written and", "if plain and", PASSES),
    Mutant("a slot is read before it is this one's turn", _PIPELINE,
           "this, following = slot, self.advance(b, slot)", "this, following = self.advance(b, slot), slot", PASSES),
    Mutant("deferred sums forget their factor", _DEFER, "if found.factor is not None:", "if False:", PASSES),
    Mutant("deferred sums begin at 0", _DEFER, "if isinstance(maker, Const) and maker.value == 0:",
           "if isinstance(maker, Const):", PASSES),
    Mutant("a reduction's result is where it is wanted", _INFER,
           "if is_tile(result) and result.tile.layout != natural:", "if False:"),
    Mutant("scans in several runs per thread", _INFER, "if along * run >= shape[axis]:", "if True:"),
    Mutant("transposes take the layout the wrong way", _INFER, "return layout.permute(inverse)",
           "return layout.permute(op.permutation)"),
    Mutant("no barrier between a store and a load", _ORDER, "if any(self._meet(old, new) for",
           "if False and any(self._meet(old, new) for"),
    Mutant("later iterations of a loop are forgotten", _ORDER, "again = _unique([*pending, *carried])",
           "again = list(pending)"),
    Mutant("neighbouring tiles do not meet", _ORDER, "if (step >= 0 and nearest >= extent)",
           "if (step >= 0 and nearest >= extent - 1)"),
    Mutant("what a loop needs dies in its first iteration", f"{_SIMT}/plan_shared.py",
           "live.last = max(live.last, position)", "pass"),
    Mutant("scratch memory is always fresh", f"{_SIMT}/plan_shared.py", "if not earlier and not live.in_loop:",
           "if True:"),
    Mutant("differences of indices are sums", _INDUCTION, 'sign = 1 if maker.kind == "add" else -1', "sign = 1"),
    Mutant("pointers begin at index 0", _INDUCTION, "walker.coefficient * start + walker.rest", "walker.rest"),
    Mutant("z - x * y is z + x * y", _CONTRACT,
           'factor = product.lhs if op.kind == "add" else _negate(product.lhs, ops, negated)', "factor = product.lhs"),
    # layouts
    Mutant("permuted registers are taken for equal", _CONVERT, "Identity() if perm == tuple(range(src.num_locals))",
           "Identity() if sorted(perm) == list(range(src.num_locals))"),
    Mutant("slices take the wrong registers", _REGISTER, "first += digit * self.local_digits[at][0]", "first += digit"),
    Mutant("buffers of shared memory overlap", _SHARED, "stride = -(-self.size // align) * align",
           "stride = max(align, self.size // 2 // align * align)"),
    Mutant("vectors cross a swizzle", _SHARED, "width = math.gcd(width, 1 << self.swizzle.base)", "pass"),
    # lowering to threads
    Mutant("one element of the padding is stored", f"{_SIMT}/views.py", "limit = extent - offsets[d]\n",
           "limit = extent - offsets[d] + 1\n"),
    Mutant("indices of dropped dimensions are in bounds", f"{_SIMT}/views.py",
           "inside = thread.both(inside, bounds)", "inside = None"),
    Mutant("every replica does the atomic", f"{_SIMT}/gathers.py",
           "first = thread.first_replica(layout) if tile.shape else one_thread(thread)\n    parts = []",
           "first = None if tile.shape else one_thread(thread)\n    parts = []"),
    Mutant("windows of windows begin too early", f"{_SIMT}/views.py",
           "low = _minus(thread, 0 if before is None else before, thread.value(start))",
           "low = _minus(thread, 0, thread.value(start))"),
    Mutant("lanes reduce in any order", f"{_SIMT}/collective.py", "if ordered:\n            values, others",
           "if False:\n            values, others"),
    Mutant("argmax takes the last of equals", f"{_SIMT}/collective.py",
           'earlier = thread.emit(Compare("lt", ys[1], xs[1]))', 'earlier = thread.emit(Compare("gt", ys[1], xs[1]))'),
    Mutant("negative numbers divide as unsigned", f"{_SIMT}/lower.py",
           "thread.facts.of(op.lhs).low >= 0 and thread.facts.of(op.rhs).low > 0", "thread.facts.of(op.rhs).low > 0"),
    Mutant("reversed scans do not turn round", f"{_SIMT}/rearrange.py",
           'position = thread.emit(Binary("sub", thread.const(count - 1), position))', "pass"),
    Mutant("ties round away", "tilus/lowering/expand_casts.py", 'e.op("or", above, e.op("and", tie, odd))',
           'e.op("or", above, tie)'),
    Mutant("sub-byte integers keep all bits", f"{_SIMT}/narrow.py",
           'return b.binary("and", x, _constant(b, (1 << dtype.bits) - 1, x))', "return x"),
    Mutant("sub-byte integers have no sign", f"{_SIMT}/narrow.py",
           'return b.binary("shr", b.binary("shl", x, shift), shift)', "return x"),
    Mutant("floats do not saturate to narrow integers", "tilus/codegen/cuda/conversions.py",
           'f"min(max(__{stem}2int_rz({x}), {target.min_value}), {target.max_value})"', 'f"__{stem}2int_rz({x})"',
           CUDA),
    # features that meet: several kernels, workspaces, groups, scalars, constants, rows, functions of many elements
    Mutant("grids are those of the first kernel", _FACTS, "grids.get(function.name, ())",
           "next(iter(grids.values()), ())"),
    Mutant("contractions read beyond their last tile", "tilus/lowering/array/evaluate.py",
           "if not self.fades(value, axes, k):", "if False:", CPU),
    Mutant("workspaces hold what was there before", "tilus/lowering/cpu/launch.py", "c.const(1 if op.zero else 0)",
           "c.const(0)", CPU),
    Mutant("groups share scratch memory", f"{_SIMT}/plan_shared.py",
           "(first, last), (start, stop) = self.span(), other.span()",
           "(first, last), (start, stop) = (self.first, self.last), (other.first, other.last)"),
    Mutant("all groups have one barrier", f"{_SIMT}/barriers.py", "return dict(zip(groups, free, strict=False))",
           "return dict.fromkeys(groups, free[0])"),
    Mutant("the block does not wait for its groups", _ORDER,
           "before = [a for a in pending if a.group is None] if isinstance(op, Group) else pending",
           "before = [a for a in pending if a.group is None]"),
    Mutant("accumulators of one variable are its registers", "tilus/codegen/cuda/kernel.py",
           "once = len(set(names)) == len(names)", "once = True", CUDA),
    Mutant("constants of 8-bit floats are their numbers", "tilus/codegen/cuda/literals.py",
           "bits = integer_bits(value, dtype) & ((1 << dtype.bits) - 1)", "bits = int(value) & ((1 << dtype.bits) - 1)",
           CUDA),
    Mutant("literals are cut off", "tilus/ir/literals.py", "code = round(units)", "code = int(units)"),
    Mutant("every scalar is a multiple of 16", _FACTS, "16 if parameter.divisible else 1", "16"),
    Mutant("remainders of near multiples are 0", _FACTS, "a.divisor % b.low == 0:\n        return constant_fact(0)",
           "a.divisor % b.low <= 1:\n        return constant_fact(0)", PASSES),
    Mutant("equal ranges are equal numbers", _SIMPLIFY, "elif x.is_constant and x == y:", "elif x == y:", PASSES),
    Mutant("exact quotients are rounded down", "tilus/lowering/math_power.py",
           'lower = m.both(differ, m.test("ne", r, 0.0))', "lower = differ", CPU),
    Mutant("rows begin at aligned places", f"{_SIMT}/access.py", "known.alignment // (bits // 8), start[1], known",
           "known.alignment // (bits // 8), known"),
    Mutant("parts of vectors are the first one", f"{_SIMT}/split_vectors.py", "tuple(range(first, first + PART))",
           "tuple(range(PART))"),
    Mutant("arrays between barriers are restrict", _ORDER, "value not in order.roots and value not in order.one_root",
           "value not in order.one_root", CUDA),
    Mutant("atomics let NaNs win", "tilus/lowering/expand_atomics.py",
           'idle = self.signed.min_value if op.kind == "max"', 'idle = self.signed.max_value if op.kind == "max"'),
    Mutant("8-bit floats saturate below infinity", "tilus/lowering/native_casts.py", 'if dtype.specials != "ieee":',
           "if True:", "simulate:sm_89:ptx"),
    # the CPU
    Mutant("bounds above are off by one", _MEMORY, "fact.high + extent <= high", "fact.high + extent <= high + 1", CPU),
    Mutant("user masks are dropped", _MEMORY, "condition = c.both(window_mask(self, window, coords), mask)",
           "condition = window_mask(self, window, coords)", CPU),
    Mutant("products start at 0", _REDUCTION, 'if kind == "prod":\n        return 1',
           'if kind == "prod":\n        return 0', CPU),
    Mutant("accumulators are overwritten while they are read", "tilus/lowering/cpu/dot.py",
           "and not any(_reads(self, v, rep) for v in operands) and not _still_read(self, rep, accumulator):",
           "and True:", CPU),
    Mutant("floor division truncates", _ARITH, 'lower = e.op(f"sub {ty} {quotient}, {text(1)}")',
           'lower = e.op(f"sub {ty} {quotient}, {text(0)}")', CPU),
    Mutant("shifts by the width are masked", _ARITH, 'inside = e.op(f"icmp ule {ty} {b}, {limit}")',
           'inside = e.op(f"icmp uge {ty} {limit}, {limit}")', CPU),
)


def applies(mutant: Mutant) -> bool:
    """Whether the text to replace is there, once or more."""
    return mutant.old in (ROOT / mutant.file).read_text()


@dataclass(frozen=True)
class Verdict:
    """``programs`` until one disagreed, or all; the code of ``changed`` of them is not the unchanged compiler's."""

    found: bool
    programs: int
    changed: int
    what: str = ""

    def __str__(self) -> str:
        word = "found after" if self.found else "MISSED in  "
        return f"{word} {self.programs:4d} ({self.changed:3d} with other code)"


def fuzz(directory: Path, *arguments: str) -> str:
    """The output of the fuzzer on the compiler in a directory."""
    environment = {**os.environ, "TILUS_CACHE_DIR": str(directory / "cache"), "PYTHONPATH": str(directory)}
    command = [sys.executable, "-m", "tests.fuzz", *arguments]
    done = subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True, check=False)
    if done.returncode not in (0, 1) or (done.returncode and not done.stdout):
        raise RuntimeError(f"the fuzzer did not end:\n{done.stdout}\n{done.stderr}")
    return done.stdout


@contextmanager
def copied() -> Iterator[Path]:
    """A copy of the compiler and of the fuzzer."""
    with tempfile.TemporaryDirectory() as directory:
        for name in ("tilus", "tests"):
            shutil.copytree(ROOT / name, Path(directory) / name,
                            ignore=shutil.ignore_patterns("__pycache__", "golden"))
        yield Path(directory)


def verdict(mutant: Mutant, known: Path, programs: int = PROGRAMS, first: int = 0) -> Verdict:
    """Fuzz a copy that has the bug. Programs whose code is the ``known`` one are not run."""
    with copied() as copy:
        path = copy / mutant.file
        path.write_text(path.read_text().replace(mutant.old, mutant.new))
        output = fuzz(copy, "--first", str(first), "--count", str(programs), "--engines", mutant.engines, "--stop",
                      "--brief", "--known", str(known))
    ran = re.search(r"^(\d+) programs, (\d+) with other code, (\d+) disagreements", output, re.MULTILINE)
    if ran is None:
        raise RuntimeError(f"the fuzzer did not end with {mutant.name}:\n{output}")
    return Verdict(int(ran[3]) > 0, int(ran[1]), int(ran[2]), output.splitlines()[0])


def known_code(engine: str, directory: Path, first: int, programs: int) -> Path:
    """A file with the digests of what the unchanged compiler makes of the programs, made where it is missing."""
    sources = [path.read_bytes() for path in sorted((ROOT / "tests" / "fuzz").glob("*.py"))]
    path = directory / f"{key_of([compiler_fingerprint(), engine, str(first), str(programs), *sources])}.json"
    if not path.exists():
        with copied() as copy:
            fuzz(copy, "--first", str(first), "--count", str(programs), "--engines", engine, "--write-known", str(path))
    return path


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--programs", type=int, default=PROGRAMS)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--only", default="", help="mutants with this in their name or file; several apart by commas")
    parser.add_argument("--verbose", action="store_true", help="print the first disagreement")
    parser.add_argument("--keep", type=Path, help="directory that keeps the digests of the code for the next run")
    options = parser.parse_args()
    chosen = [m for m in MUTANTS if any(word in m.name or word in m.file for word in options.only.split(","))]
    found = 0
    with tempfile.TemporaryDirectory() as temporary, ThreadPoolExecutor(options.jobs) as pool:
        directory = options.keep or Path(temporary)
        engines = sorted({m.engines for m in chosen})
        known = {e: known_code(e, directory, options.first, options.programs) for e in engines}
        results = pool.map(lambda m: verdict(m, known[m.engines], options.programs, options.first), chosen)
        for mutant, result in zip(chosen, results, strict=True):
            found += result.found
            print(f"{result}  {mutant.file.removeprefix('tilus/'):32s} {mutant.name}", flush=True)
            if options.verbose and result.found:
                print(f"    {result.what}")
    print(f"{found} of {len(chosen)} mutants found within {options.programs} programs each")
    raise SystemExit(0 if found >= 0.9 * len(chosen) else 1)


if __name__ == "__main__":
    main()
