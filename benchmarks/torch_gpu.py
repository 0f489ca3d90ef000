"""The fused functions of models compiled for GPUs: kernels, registers, and whether anything is spilled. Nothing runs on
a GPU; torch computes in their place.

    python -m benchmarks.torch_gpu [--only WORDS] [--every N] [--targets sm_80:ptx,sm_90a:cuda,…]
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple
from unittest import mock

import torch

from benchmarks.torch_suite import TASKS, Task
from tilus.diagnostics import TilusError
from tilus.runtime.compile import compile_specialisation
from tilus.torch.call import FusedCall, _passed
from tilus.torch.report import reports

TARGETS = "sm_80:ptx,sm_80:cuda,sm_90a:ptx,sm_90a:cuda"


class Compiled(NamedTuple):
    function: str
    target: str
    registers: int
    spilled: int
    kernels: int
    seconds: float


class Compiler:
    """Takes the place of the first call of each fused function: compiles it, and lets torch compute."""

    def __init__(self, targets: Sequence[str]) -> None:
        self.targets = targets
        self.found: list[Compiled] = []
        self.failures: list[str] = []
        self.seen: set[Any] = set()

    def first(self, call: FusedCall, inputs: Sequence[Any], tensors: Sequence[Any], numbers: Sequence[Any],
              key: tuple[int, ...]) -> Any:
        call.engine = "simulate:" + self.targets[0]  # whose tile sizes are all GPUs'
        try:
            plan = call._plan(tensors, key)
            outputs = [make() for make in plan.makers]
            prepared = plan.kernel.prepared(call.engine, (*tensors, *numbers, *_passed(plan, outputs)), {})
            if prepared.specialisation not in self.seen:
                self.seen.add(prepared.specialisation)
                self.compile(call.fused.captured.name, prepared.specialisation)
        except TilusError as error:
            self.failures.append(f"{call.fused.captured.name}: {error.diagnostics[0].message}")
        return call._eager(*inputs)

    def compile(self, name: str, specialisation: Any) -> None:
        for target in self.targets:
            start = time.perf_counter()
            made = compile_specialisation(specialisation, *target.split(":"))
            data = made.metadata
            self.found.append(Compiled(name, target, data["registers"], data["spill_stores"] + data["local_bytes"],
                                       len(data["kernels"]), time.perf_counter() - start))


def check(task: Task, targets: Sequence[str]) -> tuple[Compiler, int]:
    """What becomes of a task, and how many operators are left to torch."""
    torch._dynamo.reset()
    torch.manual_seed(0)
    model, inputs = task.make()
    compiler = Compiler(targets)

    def first(self: FusedCall, *given: Any) -> Any:
        return compiler.first(self, *given)

    with mock.patch.object(FusedCall, "_first", first), torch.no_grad(), reports() as found:
        torch.compile(model.eval(), backend="tilus")(*inputs)
    return compiler, sum(reason is not None for report in found for reason in report.left.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="tasks whose category or name has this in it")
    parser.add_argument("--every", type=int, default=1, help="one of so many tasks")
    parser.add_argument("--targets", default=TARGETS, help="targets and routes")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    torch._dynamo.config.allow_rnn = True
    targets = given.targets.split(",")
    chosen = [t for t in TASKS if given.only in f"{t.category} {t.name}"][:: given.every]
    spilled = failed = functions = kernels = 0
    for task in chosen:
        compiler, left = check(task, targets)
        spills = [c for c in compiler.found if c.spilled]
        functions += len(compiler.found) // len(targets)
        count = sum(c.kernels for c in compiler.found) // len(targets)
        kernels, spilled, failed = kernels + count, spilled + len(spills), failed + len(compiler.failures)
        most = max((c.registers for c in compiler.found), default=0)
        seconds = max((c.seconds for c in compiler.found), default=0.0)
        print(f"{task.category:<13} {task.name:<40} {len(compiler.found) // len(targets):>3} functions {count:>3} "
              f"kernels {left:>2} left {most:>4} registers {seconds:>5.1f} s at most"
              + "".join(f"\n    SPILLS {c.spilled} bytes: {c.function} for {c.target}" for c in spills)
              + "".join(f"\n    FAILED {text}" for text in compiler.failures), flush=True)
    print(f"{len(chosen)} tasks, {functions} functions, {kernels} kernels, {len(targets)} targets: {spilled} spill, "
          f"{failed} do not compile")


if __name__ == "__main__":
    main()
