"""Models by ``torch.compile(backend="tilus")``, against eager torch (and inductor): right or wrong, what is left to
torch, and how fast.

    python -m benchmarks.torch_models [--only WORDS] [--every N] [--train] [--inductor] [--threads N]

Right is ‖out − ref‖ / ‖ref‖ ≤ 1e-5, where ref is torch's result in f64 (where eager's own difference in f32 is larger,
no more than twice that). Ratios are eager's time (or inductor's) by
tilus's: above 1 tilus is faster. Times are the least of calls by turns.
"""

from __future__ import annotations

import argparse
import copy
import math
import time
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch

import tilus as tl
import tilus.torch
from benchmarks.torch_suite import TASKS, Task
from tilus.torch.node import operator_name
from tilus.torch.report import GraphReport, reports

TOLERANCE = 1e-5


class Result(NamedTuple):
    task: Task
    error: float
    eager_error: float
    fused: int
    left: Counter[str]
    seconds: float
    times: dict[str, float]

    @property
    def is_right(self) -> bool:
        return self.error <= max(TOLERANCE, 2 * self.eager_error)


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


def prepared(task: Task, kind: str, train: bool, like: tuple[Any, Any]) -> Callable[[], list[torch.Tensor]]:
    """The task as a function without arguments, on copies of a model and inputs."""
    torch._dynamo.reset()
    model, inputs = copy.deepcopy(like[0]), [x.clone() for x in like[1]]
    if kind == "f64":
        model, inputs = model.double(), [x.double() if x.is_floating_point() else x for x in inputs]
    if kind == "tilus":
        model = torch.compile(model, backend=tilus.torch.backend)
    if kind == "inductor":
        model = torch.compile(model)
    return (training if train else inference)(model, inputs)


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


def run_task(task: Task, train: bool, inductor: bool, seconds: float) -> Result:
    torch.manual_seed(0)
    model, inputs = task.make()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0  # random numbers are not torch's
    like = model.train(train), inputs
    wanted = prepared(task, "f64", train, like)()
    runs = {"eager": prepared(task, "eager", train, like)}
    if inductor:
        runs["inductor"] = prepared(task, "inductor", train, like)
    runs["tilus"] = prepared(task, "tilus", train, like)
    with reports() as found:
        start = time.perf_counter()
        got = [t.clone() for t in runs["tilus"]()]
        taken = time.perf_counter() - start
    like_eager = [t.clone() for t in runs["eager"]()]
    errors = difference(got, wanted), difference(like_eager, wanted)
    return Result(task, *errors, sum(len(r.calls) for r in found), left_of(found), taken, measure(runs, seconds))


def left_of(found: Sequence[GraphReport]) -> Counter[str]:
    """The operators that torch runs, by name."""
    names = Counter(operator_name(node) for report in found for node, reason in report.left.items() if reason)
    for call in (call for report in found for call in report.calls if call.failure):
        names["(not compiled)"] += len(call.fused.operators)
    return names


def line(result: Result) -> str:
    times = result.times
    ratios = "".join(f"{times[name] / times['tilus']:>9.2f}" for name in times if name != "tilus")
    left = ", ".join(n.removeprefix("aten.") + (f" × {k}" if k > 1 else "") for n, k in result.left.items())
    return (f"{result.task.category:<13} {result.task.name:<28} {'right' if result.is_right else 'WRONG':<6}"
            f"{result.error:>9.1e} {result.fused:>3} fused {sum(result.left.values()):>3} left {result.seconds:>6.1f} s"
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
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="tasks whose category or name has this in it")
    parser.add_argument("--every", type=int, default=1, help="one of so many tasks")
    parser.add_argument("--train", action="store_true", help="a training step rather than a forward pass")
    parser.add_argument("--inductor", action="store_true", help="measure inductor as well; needs a C++ compiler")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=0.3, help="time for the measurement of a task")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    tl.set_num_threads(given.threads)
    warnings.simplefilter("ignore")
    torch._dynamo.config.allow_rnn = True  # torch's recurrent modules are traced step by step
    results, failed = [], []
    others = "eager / tilus" + ("  inductor / tilus" if given.inductor else "")
    print(f"category, task, result, difference, fused functions, operators left to torch, compile time, time, {others}")
    for task in [t for t in TASKS if given.only in f"{t.category} {t.name}"][:: given.every]:
        if given.train and not trains(task):
            continue
        try:
            results.append(run_task(task, given.train, given.inductor, given.seconds))
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
