"""How many kernels a graph of torch takes on a GPU: ours, and those that inductor's Triton back end generates with what
it leaves to libraries. Nothing runs on a GPU, and nothing is compiled for one; torch computes in their place.

    python -m benchmarks.torch_kernels [--only WORDS] [--every N]

For inductor's count the environment has to have Triton (``pip install triton``), whose code nobody compiles here.
"""

from __future__ import annotations

import argparse
import logging
import re
import warnings
from collections.abc import Sequence
from typing import Any
from unittest import mock

import torch

from benchmarks.torch_suite import TASKS, Task
from tilus.runtime.compile import traced
from tilus.targets import TARGETS
from tilus.torch.call import FusedCall, _passed
from tilus.torch.report import reports

TARGET = "sm_80"


class Counted(Exception):
    """Ends inductor's compilation when the code is there."""


def ours(task: Task) -> int:
    """Kernels of the fused functions, and operators that are left to torch."""
    torch._dynamo.reset()
    torch.manual_seed(0)
    model, inputs = task.make()
    found = 0

    def first(call: FusedCall, values: Sequence[Any], tensors: Sequence[Any], numbers: Sequence[Any],
              key: tuple[int, ...]) -> Any:
        nonlocal found
        call.engine = f"simulate:{TARGET}"  # whose tile sizes are all GPUs'
        plan = call._plan(tensors, key)
        outputs = [make() for make in plan.makers]
        prepared = plan.kernel.prepared(call.engine, (*tensors, *numbers, *_passed(plan, outputs)), {})
        found += len(traced(prepared.specialisation, TARGETS[TARGET], False).kernels)
        return call._eager(*values)

    with mock.patch.object(FusedCall, "_first", first), torch.no_grad(), reports() as made:
        torch.compile(model.eval(), backend="tilus")(*inputs)
    return found + sum(reason is not None for report in made for reason in report.left.values())


def inductors(task: Task) -> int:
    """Triton kernels, and calls of libraries and of ATen in the generated program."""
    import torch._inductor.config as config
    from torch._inductor import metrics
    from torch._inductor.graph import GraphLowering

    torch._dynamo.reset()
    torch.manual_seed(0)
    model, inputs = task.make()
    metrics.reset()
    generate, found = GraphLowering.codegen, 0

    def codegen(self: GraphLowering) -> Any:
        nonlocal found
        made = generate(self)
        text = made[0].value if hasattr(made[0], "value") else str(made[0])
        found += len(re.findall(r"^\s+(?:\w+ = )?(?:extern_kernels|torch\.ops)\.[\w.]+\(", text, re.M))
        raise Counted

    with mock.patch.object(GraphLowering, "codegen", codegen), torch.no_grad(), \
            mock.patch("torch.utils._triton.triton_hash_with_backend", return_value=""), \
            torch.backends.mkldnn.flags(enabled=False), config.patch(
                cpu_backend="triton", compile_threads=1, force_disable_caches=True, layout_optimization=False):
        try:
            torch.compile(model.eval())(*inputs)
        except Exception as error:
            if "Counted" not in repr(error):
                raise
    return found + int(metrics.generated_kernel_count)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="tasks whose category or name has this in it")
    parser.add_argument("--every", type=int, default=1, help="one of so many tasks")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.getLogger("torch._inductor").setLevel(logging.ERROR)  # compilation that ends early
    torch._dynamo.config.allow_rnn = True
    counts: list[tuple[int, int]] = []
    for task in [t for t in TASKS if given.only in f"{t.category} {t.name}"][:: given.every]:
        one, other = ours(task), inductors(task)
        counts.append((one, other))
        more = " *" if one > other else ""
        print(f"{task.category:<13} {task.name:<40} {one:>4} ours {other:>4} inductor's{more}", flush=True)
    mean = [sum(column) / max(1, len(counts)) for column in zip(*counts, strict=True)]
    print(f"{len(counts)} tasks: {mean[0]:.2f} kernels a graph in the mean, inductor {mean[1]:.2f}")


if __name__ == "__main__":
    main()
