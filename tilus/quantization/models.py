"""All matrices of a file of weights quantised, one after another, with the errors that this makes."""

# NumPy types the results of most functions as Any.
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from tilus.ir.dtypes import f64
from tilus.quantization.dequantize import dequantized
from tilus.quantization.formats import QuantFormat
from tilus.quantization.gptq import compensated
from tilus.quantization.groups import Array
from tilus.quantization.hessian import moments_of
from tilus.quantization.host import SOURCES, quantized
from tilus.quantization.quantized import Quantized
from tilus.records import record
from tilus.runtime.prepacked import PrepackedArray, unprepack

PRECISION = f64
MOMENTS = ".moments"
Samples = Mapping[str, Array]


@record(frozen=True)
class Plan:
    """What is to be done to the tensors of a file.

    Attributes:
        format: what matrices become, along k.
        turned: whether they are (n, k), as PyTorch's linear layers have them, or (k, n).
        only, skip: patterns of names, such as ``*.mlp.*``.
        samples: for GPTQ by name inputs (…, k), or second moments as NAME.moments; without them weights are rounded.
        act_order, damp: GPTQ's.
    """

    format: QuantFormat
    turned: bool
    only: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()
    samples: Samples | None = None
    act_order: bool = False
    damp: float = 0.01

    def refusal(self, name: str, array: Any) -> str | None:
        """Why a tensor stays as it is; None where it does not."""
        if isinstance(array, Quantized):
            return "quantised already"
        if array.dtype.name not in SOURCES:
            return f"{array.dtype}"
        if array.ndim != 2:
            return f"rank {array.ndim}"
        if not array.size:
            return "no elements"
        if any(fnmatch.fnmatch(name, p) for p in self.skip) or (
                self.only and not any(fnmatch.fnmatch(name, p) for p in self.only)):
            return "not asked for"
        k, group = array.shape[self.turned], self.format.group
        return f"k = {k}, no multiple of {group}" if group != -1 and k % group else None

    def samples_for(self, name: str, k: int) -> Array | None:
        """The second moments of a tensor's inputs, if there is anything. Raises ValueError."""
        for key in (name, name.removesuffix(".weight")):
            if self.samples is not None and key + MOMENTS in self.samples:
                return self.samples[key + MOMENTS]
            if self.samples is not None and key in self.samples:
                return moments_of(self.samples[key], k).matrix
        return None


@record(frozen=True)
class Outcome:
    """What has become of a tensor.

    Attributes:
        how: "GPTQ", "rounded", or why it stays as it is.
        before, after: bytes.
        error: ‖w' − w‖ / ‖w‖; None where it stays.
        output_error: the same of its products with the samples, where there are such.
    """

    name: str
    how: str
    before: int
    after: int
    error: float | None = None
    output_error: float | None = None


def check_samples(samples: Samples, names: Any) -> None:
    """Raises ValueError where samples are of no tensor of the file."""
    known = {key + end for name in names for key in (name, name.removesuffix(".weight")) for end in ("", MOMENTS)}
    strange = sorted(set(samples) - known)
    if strange:
        raise ValueError(f"there are samples of {strange[0]!r}, which is no tensor of the file")


def quantize_all(weights: Mapping[str, Any], plan: Plan, finish: Callable[[Quantized], Quantized],
                 report: Callable[[Outcome], None]) -> dict[str, Any]:
    """The tensors of a file, matrices among them quantised, (k, n) with groups along k.

    Args:
        weights: what ``tl.load_weights`` gives.
        plan: what is to be done.
        finish: what else is done to each quantised array.
        report: called with the outcome of each tensor.

    Raises:
        ValueError, TypeError: a tensor cannot be quantised so; the message names it.
    """
    found: dict[str, Any] = {}
    for name, array in weights.items():
        reason = plan.refusal(name, array)
        if reason is not None:
            found[name] = finish(array) if isinstance(array, Quantized) else array
            report(Outcome(name, reason, int(array.nbytes), int(found[name].nbytes)))
            continue
        try:
            found[name], outcome = _quantise(name, array, plan, finish)
        except (ValueError, TypeError) as error:
            raise type(error)(f"{name!r}: {error}") from None
        report(outcome)
    return found


def _quantise(name: str, array: Array, plan: Plan, finish: Callable[[Quantized], Quantized]) -> tuple[Any, Outcome]:
    w = np.ascontiguousarray(array.T if plan.turned else array)
    moments = plan.samples_for(name, len(w))
    if moments is None:
        q = quantized(w, plan.format, 0, "nearest", 0)
    else:
        q = compensated(w, None, moments, plan.format, axis=0, damp=plan.damp, act_order=plan.act_order,
                        static_groups=False, block=128, precision=PRECISION)
    wide = w.astype(np.float32)
    difference = dequantized(q, np.float32) - wide
    of_outputs = None if moments is None else _weighted(difference, moments) / max(_weighted(wide, moments), 1e-30)
    error = float(np.linalg.norm(difference)) / max(float(np.linalg.norm(wide)), 1e-30)
    done = finish(q)
    return done, Outcome(name, "rounded" if moments is None else "GPTQ", int(array.nbytes), done.nbytes, error,
                         of_outputs)


def _weighted(w: Array, moments: Array) -> float:
    """‖x w‖ up to a factor, by the second moments of x."""
    return float(np.sqrt(max(0.0, float(np.einsum("ij,ij->", w, moments.astype(np.float32) @ w)))))


def prepacked_for(target: str) -> Callable[[Quantized], Quantized]:
    """What puts codes into the order of the zoo's products on a target."""
    from kernels_zoo.quantized.matmul import Weights

    def finish(q: Quantized) -> Quantized:
        if isinstance(q.values, PrepackedArray):
            q = replace(q, values=unprepack(q.values))
        return replace(q, values=Weights(q, target).w)

    return finish


__all__ = ["Outcome", "Plan", "check_samples", "prepacked_for", "quantize_all"]
