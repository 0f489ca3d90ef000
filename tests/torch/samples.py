"""``python -m tests.torch.samples``: the back end against torch on the samples that torch keeps for its operators.

Wants ``expecttest``, which torch's own test utilities do. What torch itself refuses is passed over; operators without a
definite result (random numbers, memory that is not written) are left out, as are those of linear algebra, FFTs and
sparse tensors, which the back end leaves to torch.
"""

from __future__ import annotations

import argparse
import itertools
import logging
import time
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import torch

BOUNDS = {torch.float64: 1e-9, torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 5e-2}
"""Of |difference| / (|wanted| + its root mean square), for operators of all kinds."""
FEW = 1e-3
"""Added to that, for results of nothing but zeros."""
FAMILIES = ("linalg.", "fft.", "signal.", "sparse", "_refs", "torch.ops.aten._safe")
INDEFINITE = (
    "empty", "rand", "new_empty", "normal", "bernoulli", "multinomial", "uniform", "cauchy", "exponential", "geometric",
    "log_normal", "svd_lowrank", "pca_lowrank", "nn.functional.dropout", "nn.functional.alpha_dropout",
    "nn.functional.feature_alpha_dropout", "nn.functional.rrelu", "nn.functional.fractional_max_pool",
    "nn.functional.multi_head_attention_forward")


def operators() -> list[Any]:
    """Those of torch's samples that are compared."""
    from torch.testing._internal.common_methods_invocations import op_db

    return [op for op in op_db if not op.name.startswith((*FAMILIES, *INDEFINITE))]


def leaves(value: Any) -> list[torch.Tensor]:
    """The tensors in nested arguments or results."""
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    return [leaf for part in value for leaf in leaves(part)] if isinstance(value, (list, tuple)) else []


def copied(value: Any) -> Any:
    """Nested arguments with tensors of their own, of the same strides."""
    if isinstance(value, torch.Tensor):
        return value.detach().clone().requires_grad_(value.requires_grad)
    if isinstance(value, dict):
        return {name: copied(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)) and not hasattr(value, "_fields"):
        return type(value)(copied(part) for part in value)
    return value


def difference(found: torch.Tensor, wanted: torch.Tensor) -> str | None:
    """What is wrong with one tensor; None where nothing is."""
    if (found.dtype, found.shape) != (wanted.dtype, wanted.shape):
        return f"{found.dtype} {tuple(found.shape)} instead of {wanted.dtype} {tuple(wanted.shape)}"
    if wanted.layout != torch.strided or wanted.is_quantized or wanted.is_complex():
        return None
    if not wanted.dtype.is_floating_point:
        wrong = int((found != wanted).sum())
        return f"{wrong} of {wanted.numel()} differ" if wrong else None
    x, y = found.detach().double(), wanted.detach().double()
    finite = y.isfinite()
    others, theirs = (z[~finite].nan_to_num(nan=0.5) for z in (x, y))
    if not (torch.equal(others, theirs) and x[finite].isfinite().all()):
        return "other infinities, or other numbers that are none"
    x, y = x[finite], y[finite]
    if not y.numel():
        return None
    error = float(((x - y).abs() / (y.abs() + y.square().mean().sqrt() + FEW)).max())
    return f"relative error {error:.1e}" if error > BOUNDS.get(wanted.dtype, 5e-2) else None


def results(function: Any, sample: Any, derived: bool) -> list[torch.Tensor]:
    """What a function of (input, args, kwargs) gives for copies of a sample: its results, what it leaves in its
    arguments, and gradients by random ones of its results."""
    arguments = [copied(part) for part in (sample.input, sample.args, sample.kwargs)]
    torch.manual_seed(1)
    found = leaves(function(*arguments))
    given = leaves(arguments)
    derivatives: Sequence[torch.Tensor | None] = []
    if derived:
        ends, begins = [x for x in found if x.requires_grad], [x for x in given if x.requires_grad]
        torch.manual_seed(2)
        if ends and begins:
            derivatives = torch.autograd.grad(ends, begins, [torch.randn_like(x) for x in ends], allow_unused=True)
    return [*found, *given, *(x for x in derivatives if x is not None)]


def some(found: Sequence[Any], most: int) -> Sequence[Any]:
    """As many, at equal distances."""
    return found[::max(1, len(found) // most)][:most]


def disagreements(op: Any, dtype: torch.dtype, most: int, derived: bool = False, dynamic: bool | None = None
                  ) -> Iterator[str | None]:
    """What is wrong with each of some samples; None where nothing is."""
    derived = derived and op.supports_autograd and dtype.is_floating_point
    torch.manual_seed(0)
    for number, sample in enumerate(some(list(itertools.islice(
            op.sample_inputs("cpu", dtype, requires_grad=derived), 200)), most)):
        def function(x: Any, args: Any, kwargs: Any) -> Any:
            return op.op(x, *args, **kwargs)

        try:
            wanted = results(function, sample, derived)
        except Exception:  # what torch refuses is no sample
            continue
        torch._dynamo.reset()
        try:
            found = results(torch.compile(function, backend="tilus", dynamic=dynamic), sample, derived)
            wrong = [difference(x, y) for x, y in zip(found, wanted, strict=True)]
            message = next((w for w in wrong if w is not None), None)
        except Exception as error:  # as bad as a wrong result
            message = f"{type(error).__name__}: {str(error)[:400]}"
        shapes = [tuple(x.shape) for x in leaves([sample.input, sample.args, sample.kwargs])]
        yield message and f"{op.name} {op.variant_test_name} {dtype}, sample {number} {shapes}: {message}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--first", type=int, default=0, help="of the operators")
    parser.add_argument("--last", type=int, default=10**6)
    parser.add_argument("--only", default="", help="names of operators, apart by commas")
    parser.add_argument("--types", default="float32")
    parser.add_argument("--samples", type=int, default=4, help="of each operator and type, at most")
    parser.add_argument("--grad", action="store_true", help="gradients too")
    parser.add_argument("--dynamic", action="store_true", help="extents as symbols")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    start, count, wrong = time.perf_counter(), 0, 0
    for op in operators()[given.first : given.last]:
        for dtype in (getattr(torch, name) for name in given.types.split(",")):
            if dtype not in op.dtypes or (given.only and op.name not in given.only.split(",")):
                continue
            for message in disagreements(op, dtype, given.samples, given.grad, given.dynamic or None):
                count += 1
                if message is not None:
                    wrong += 1
                    print(message, flush=True)
    print(f"{count} samples, {wrong} disagreements, {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
