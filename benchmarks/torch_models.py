"""Models by ``torch.compile(backend="tilus")``, against eager torch (and inductor): right or wrong, what is left to
torch, and how fast.

    python -m benchmarks.torch_models [--only WORDS] [--every N] [--train] [--inductor] [--memory] [--autocast]
        [--threads N]

Right is ‖out − ref‖ / ‖ref‖ ≤ 1e-5 (2e-2 with ``--autocast``, which has products in bf16), where ref is torch's result
in f64 (where eager's own difference is larger, no more than twice that). Ratios are eager's time (or inductor's) by
tilus's: above 1 tilus is faster. Times are the least of calls by turns. Compile times are those of first calls without
anything cached. ``--memory`` measures how much the process grows during a call, outputs included, in a process whose
larger allocations all go back to the system (Linux).
"""

from __future__ import annotations

import argparse
import copy
import gc
import math
import os
import statistics
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch._inductor.config

import tilus as tl
import tilus.torch
from benchmarks.torch_suite import TASKS, Task
from tilus.torch.node import operator_name
from tilus.torch.report import GraphReport, reports

TOLERANCE, TOLERANCE_OF_BF16 = 1e-5, 2e-2
MAPPED = "65536"
"""Allocations of so many bytes go back to the system when they are freed, where memory is measured."""


class Result(NamedTuple):
    task: Task
    error: float
    eager_error: float
    fused: int
    left: Counter[str]
    compiling: dict[str, float]
    times: dict[str, float]
    memory: dict[str, int]

    tolerance: float

    @property
    def is_right(self) -> bool:
        return self.error <= max(self.tolerance, 2 * self.eager_error)


def flat(outputs: Any) -> list[torch.Tensor]:
    return [outputs] if isinstance(outputs, torch.Tensor) else [t for o in outputs for t in flat(o)]


def difference(got: Sequence[torch.Tensor], wanted: Sequence[torch.Tensor]) -> float:
    """The greatest relative difference of outputs, in the norm; of those that are almost 0 among larger ones (gradients
    that cancel) relative to the others."""
    sizes = [float(w.double().norm()) for w in wanted]
    least = 1e-4 * max(sizes) or 1.0
    return max((float((g.double() - w.double()).norm()) / max(size, least) if g.shape == w.shape else math.inf
                for g, w, size in zip(got, wanted, sizes, strict=True)), default=0.0)


def inference(model: torch.nn.Module, inputs: Sequence[torch.Tensor]) -> Callable[[], list[torch.Tensor]]:
    def run() -> list[torch.Tensor]:
        with torch.no_grad():
            return flat(model(*inputs))

    return run


def training(model: torch.nn.Module, inputs: Sequence[torch.Tensor]) -> Callable[[], list[torch.Tensor]]:
    """A step: forward, backward, and stochastic gradient descent; the outputs and the gradients come out."""
    weights = [p for p in model.parameters() if p.requires_grad]
    floats = [x.requires_grad_() if x.is_floating_point() else x for x in inputs]
    optimiser = torch.optim.SGD([*weights, *(x for x in floats if x.is_floating_point())], lr=0.01)

    def run() -> list[torch.Tensor]:
        torch.manual_seed(0)
        optimiser.zero_grad()
        outputs = [o for o in flat(model(*floats)) if o.is_floating_point()]
        torch.manual_seed(1)
        sum((o * torch.rand(o.shape)).sum() for o in outputs).backward()
        optimiser.step()
        return [t.detach() for t in (*outputs, *(p.grad for p in (*weights, *floats))) if t is not None]

    return run


def prepared(kind: str, given: argparse.Namespace, like: tuple[Any, Any]) -> Callable[[], list[torch.Tensor]]:
    """A model as a function without arguments, on copies of it and of inputs."""
    torch._dynamo.reset()
    model, inputs = copy.deepcopy(like[0]), [x.clone() for x in like[1]]
    if kind == "f64":
        model, inputs = model.double(), [x.double() if x.is_floating_point() else x for x in inputs]
    if kind == "tilus":
        model = torch.compile(model, backend=tilus.torch.backend)
    if kind == "inductor":
        model = torch.compile(model)
    run = (training if given.train else inference)(model, inputs)
    if not given.autocast or kind == "f64":
        return run

    def with_halves() -> list[torch.Tensor]:
        with torch.autocast("cpu", torch.bfloat16):
            return run()

    return with_halves


def measure(runs: dict[str, Callable[[], Any]], seconds: float) -> dict[str, float]:
    best = dict.fromkeys(runs, math.inf)
    end, turns = time.perf_counter() + seconds, 0
    while turns < 5 or time.perf_counter() < end:
        turns += 1
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            best[name] = min(best[name], time.perf_counter() - start)
    return best


def growth(run: Callable[[], Any]) -> int:
    """Bytes by which the process is larger at some time during a call than before."""
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # the peak so far is what there is now
    before = _status("VmRSS")
    kept = run()
    peak = _status("VmHWM") - before
    del kept
    return max(0, peak)


def _status(name: str) -> int:
    text = Path("/proc/self/status").read_text()
    return 1024 * int(next(line.split()[1] for line in text.splitlines() if line.startswith(name)))


def run_task(task: Task, given: argparse.Namespace) -> Result:
    torch.manual_seed(0)
    model, inputs = task.make()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0  # random numbers are not torch's
        if isinstance(getattr(module, "bias", None), torch.Tensor) and (module.bias == 0).all():
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)  # of norms, which would make means of what they give 0
            torch.nn.init.uniform_(module.bias, -0.5, 0.5)
    like = model.train(given.train), inputs
    wanted = prepared("f64", given, like)()
    kinds = ("eager", "inductor", "tilus") if given.inductor else ("eager", "tilus")
    runs = {kind: prepared(kind, given, like) for kind in kinds}
    compiling, got = {}, {}
    with reports() as found:
        for name, run in runs.items():
            start = time.perf_counter()
            got[name] = [t.clone() for t in run()]
            compiling[name] = time.perf_counter() - start
    errors = difference(got["tilus"], wanted), difference(got["eager"], wanted)
    times = measure(runs, given.seconds)
    peaks = {name: min(growth(run) for _ in range(3)) for name, run in runs.items()} if given.memory else {}
    return Result(task, *errors, sum(len(r.calls) for r in found), left_of(found), compiling, times, peaks,
                  TOLERANCE_OF_BF16 if given.autocast else TOLERANCE)


def left_of(found: Sequence[GraphReport]) -> Counter[str]:
    """The operators that torch runs, by name."""
    names = Counter(operator_name(node) for report in found for node, reason in report.left.items() if reason)
    for call in (call for report in found for call in report.calls if call.failure):
        names["(not compiled)"] += len(call.fused.operators)
    return names


def line(result: Result) -> str:
    times, compiling, memory = result.times, result.compiling, result.memory
    ratios = "".join(f"{times[name] / times['tilus']:>9.2f}" for name in times if name != "tilus")
    if "inductor" in times:
        ratios += f"{compiling['tilus'] / compiling['inductor']:>9.2f}"
    ratios += "".join(f"{memory[name] / 1e6:>9.2f} MB" for name in memory)
    left = ", ".join(n.removeprefix("aten.") + (f" × {k}" if k > 1 else "") for n, k in result.left.items())
    return (f"{result.task.category:<13} {result.task.name:<28} {'right' if result.is_right else 'WRONG':<6}"
            f"{result.error:>9.1e} {result.fused:>3} fused {sum(result.left.values()):>3} left"
            f"{compiling['tilus']:>7.1f} s"
            f"{times['tilus'] * 1e6:>9.0f} µs{ratios}  {left}")


def mean_ratio(results: Sequence[Result], name: str) -> float:
    logs = [math.log(r.times[name] / r.times["tilus"]) for r in results]
    return math.exp(sum(logs) / len(logs))


def summary(results: Sequence[Result], failed: Sequence[str]) -> str:
    total = len(results) + len(failed)
    left = [sum(r.left.values()) for r in results]
    none, few, many = sum(n == 0 for n in left), sum(0 < n <= 2 for n in left), sum(n > 2 for n in left)
    right = f"{total} tasks: {sum(r.is_right for r in results)} right, {len(failed)} failed"
    lines = [f"{right}; without fallback {none}, with one or two {few}, with more {many}"]
    tasks = Counter(name for r in results for name in r.left)
    if tasks:
        lines.append("left to torch, by tasks: " + ", ".join(f"{n.removeprefix('aten.')} {k}" for n, k in
                                                              tasks.most_common()))
    for name in results[0].times if results else ():
        if name == "tilus":
            continue
        parts = ", ".join(f"{c} {mean_ratio([r for r in results if r.task.category == c], name):.2f}"
                          for c in dict.fromkeys(r.task.category for r in results))
        lines.append(f"{name} / tilus, geometric mean: {mean_ratio(results, name):.2f} ({parts})")
    if results and "inductor" in results[0].times:
        ratios = [r.compiling["tilus"] / r.compiling["inductor"] for r in results]
        lines.append(f"compile time, tilus / inductor: {statistics.median(ratios):.2f} in the median")
    if results and results[0].memory:
        sums = {name: sum(r.memory[name] for r in results) / 1e6 for name in results[0].memory}
        lines.append("growth during a call, all tasks: " + ", ".join(f"{n} {x:.1f} MB" for n, x in sums.items()))
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="tasks whose category or name has this in it")
    parser.add_argument("--every", type=int, default=1, help="one of so many tasks")
    parser.add_argument("--train", action="store_true", help="a training step rather than a forward pass")
    parser.add_argument("--inductor", action="store_true", help="measure inductor as well; needs a C++ compiler")
    parser.add_argument("--memory", action="store_true", help="measure how much memory calls take as well")
    parser.add_argument("--autocast", action="store_true", help="under torch.autocast to bf16")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=0.3, help="time for the measurement of a task")
    given = parser.parse_args()
    if given.memory and os.environ.get("MALLOC_MMAP_THRESHOLD_") != MAPPED:
        options = {**os.environ, "MALLOC_MMAP_THRESHOLD_": MAPPED, "MALLOC_TRIM_THRESHOLD_": MAPPED}
        os.execve(sys.executable, sys.orig_argv, options)
    if given.inductor:
        torch._inductor.config.force_disable_caches = True
        os.environ["TILUS_CACHE_DIR"] = tempfile.mkdtemp()
    torch.set_num_threads(given.threads)
    tl.set_num_threads(given.threads)
    warnings.simplefilter("ignore")
    torch._dynamo.config.allow_rnn = True  # torch's recurrent modules are traced step by step
    results, failed = [], []
    others = "eager / tilus" + ("  inductor / tilus, compile time tilus / inductor" if given.inductor else "")
    print(f"category, task, result, difference, fused functions, operators left to torch, compile time, time, {others}")
    for task in [t for t in TASKS if given.only in f"{t.category} {t.name}"][:: given.every]:
        if given.train and not trains(task):
            continue
        try:
            results.append(run_task(task, given))
            print(line(results[-1]), flush=True)
        except Exception as error:  # the others are still worth knowing
            failed.append(task.name)
            print(f"{task.category:<13} {task.name:<28} FAILED {type(error).__name__}: {str(error)[:200]}", flush=True)
    print(summary(results, failed))


def trains(task: Task) -> bool:
    """Whether anything that comes out depends smoothly on what goes in."""
    model, inputs = task.make()
    return any(o.is_floating_point() for o in flat(model(*inputs)))


if __name__ == "__main__":
    main()
