"""Which mutants change nothing: looked at on the text tests of passes and on the code of a few kernels."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import tilus as tl
from tests.fuzz.emitted import _cpu_code, _gpu_code
from tests.fuzz.mutants_planted import Anything, Mutant, planted
from tests.lowering import kernels
from tests.passes.case import files, read
from tilus.lowering.pipelines import lower_for_gpu


@tl.jit
def narrow_constants(x: tl.f8e4m3fn["N"]):
    tl.grid(1)
    tl.store(x, 0, tl.full(64, 1.5, tl.f8e4m3fn))


@tl.jit
def zeroed(x: tl.f32["N"], y: tl.f32["N"]):
    tl.grid(1)
    w = tl.workspace((x.shape[0],), tl.f32, zero=True)
    tl.store(y, 0, tl.load(w, 0, 64))


@tl.jit
def sums_of_squares(n: tl.i32, y: tl.f32["M", "N"]):
    """A product whose operands are its accumulator."""
    tl.grid(1)
    v = tl.iota((13, 13), 1, tl.i32).to(tl.f32)
    for _ in tl.range(n):
        v = tl.dot(v * 0.5, v, v)
    tl.store(y, (0, 0), v)


@tl.jit
def masked(x: tl.f32["N"], y: tl.f32[64], z: tl.f32["N"]):
    tl.grid(1)
    odd = tl.arange(64) % 2 == 1
    v = tl.load(x, 0, 64, mask=odd)
    tl.store(z, 0, v // tl.load(y, 1, 64), mask=odd)
    tl.store(z, 64, tl.prod(tl.load(x, 0, 1000)))


@tl.jit
def products(x: tl.f16["M", "K"], y: tl.f32["M", "N"]):
    """An accumulator that is read after the dot."""
    tl.grid(1)
    v = tl.load(x, (0, 0), (32, 32))
    once = tl.dot(v, v.T)
    twice = tl.dot(v, v.T, once)
    tl.store(y, (0, 0), once * twice)


@tl.jit
def packed(x: tl.u3["N"], w: tl.float(exponent=2, mantissa=2)["N"], c: tl.ternary["N"], b: tl.integer(12)["N"],
           u: tl.i4["M", 128], y: tl.f32["N"], n: tl.i32):
    """Elements at any bit and at bytes, under masks, in shared memory, converted and on both ways."""
    tl.grid(1)
    odd = tl.arange(64) % 2 == 1
    s, t = tl.shared((77,), tl.u3), tl.shared((32, 128), tl.i4)
    tl.copy_async(s, x, 1)
    tl.copy_async(t, u, (n, 0))
    tl.commit()
    tl.wait(0)
    tl.sync()
    v = tl.load(x, n, 64, mask=odd, other=1)
    tl.store(s, 3, v[:1])
    tl.store(x, 0, v, mask=odd)
    tl.store(x, n + 100, v)
    tl.store(b, 0, tl.load(b, 64, 64))
    tl.store(c, 0, (tl.load(y, 64, 64) + tl.load(u[n, :], 64, 64).to(tl.f32)).to(tl.ternary))
    tl.store(y, 0, tl.load(w, n, 64).to(tl.f32) + tl.load(c, 0, 64).to(tl.f32) + tl.load(x, 0, 64).to(tl.f16))
    y[9] = tl.sum(tl.load(w, 0, 4096).to(tl.f32))
    y[10] = tl.sum(tl.load(u, (0, 0), (32, 128)).to(tl.f16))
    tl.store(x, 0, tl.insert(tl.load(x, 0, 4096), v, (7,)))
    tl.store(u, (0, 0), tl.load(u, (16, 0), (16, 128), mask=n > 2, other=1))
    q = tl.load(x, 200, 64)
    if n > 2:
        tl.store(y, 64, q.to(tl.i64).to(tl.f32))
    else:
        tl.store(y, 64, (q.to(tl.i64) + 1).to(tl.f32))


KERNELS: tuple[Any, ...] = (
    kernels.arithmetic(tl.f16), kernels.integers(tl.i32), kernels.integers(tl.u32), kernels.reductions,
    kernels.rearranged, kernels.scans, kernels.gathers, kernels.control, kernels.matmul(tl.f32, tl.f32),
    kernels.explicit_shared, narrow_constants, zeroed, sums_of_squares, masked, products,
    kernels.convert(tl.f32, tl.f8e5m2), packed,
)


@dataclass
class Sample:
    """A text: what the compiler makes of something."""

    text: Callable[[], str]
    unchanged: str = ""
    calls: set[str] = field(default_factory=set)

    def run(self) -> str:
        """The text, or the error with a bug in the compiler."""
        try:
            return self.text()
        except Exception as error:
            return f"{type(error).__name__}: {error}"


def _samples() -> Iterator[Sample]:
    for path in files():
        yield Sample(lambda path=path: str(read(path).run()))  # type: ignore[misc]
    for kernel, known in [*((kernel, "contiguous") for kernel in KERNELS), (packed, "divisible")]:
        made = kernel.assume(known, {})
        yield Sample(lambda made=made: _cpu_code(made.trace()))  # type: ignore[misc]
        for route in ("ptx", "cuda"):
            yield Sample(lambda made=made, route=route: "".join(  # type: ignore[misc]
                _gpu_code(lower_for_gpu(made.trace(), "sm_80"), route)))


def without_effect(mutants: Sequence[Mutant]) -> list[str]:
    """The names of the mutants under which no sample changes."""
    samples = list(_samples())
    calls: set[str] = set()

    def noting(place: str) -> Callable[[Anything], Anything]:
        def change(original: Anything) -> Anything:
            def noted(*args: Any, **keywords: Any) -> Any:
                calls.add(place)
                return original(*args, **keywords)

            return noted

        return change

    with ExitStack() as stack:
        for place in {m.place for m in mutants}:
            stack.enter_context(planted(place, noting(place)))
        for sample in samples:
            calls.clear()
            sample.unchanged = sample.text()
            sample.calls = set(calls)
    return [m.name for m in mutants if not _changes(m, [s for s in samples if m.place in s.calls])]


def _changes(mutant: Mutant, samples: list[Sample]) -> bool:
    """In a process of its own: what the compiler remembers of a bug does not outlast it."""
    child = os.fork()
    if not child:
        with planted(mutant.place, mutant.change):
            os._exit(0 if any(s.run() != s.unchanged for s in samples) else 1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
