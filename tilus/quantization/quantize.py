"""``tl.quantize``, ``tl.gptq`` and ``tl.dequantize``."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tilus.ir.dtypes import DType, f64, u4
from tilus.quantization.formats import QuantFormat
from tilus.quantization.quantized import Quantized
from tilus.runtime.packed_array import PackedArray

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt  # loaded by the first call, not by the import


def quantize(w: Any, dtype: DType | QuantFormat, *, group: int | None = None, axis: int | None = 0,
             symmetric: bool | None = None, scale_dtype: DType | QuantFormat | None = None,
             zero_dtype: DType | None = None, scale: str | None = None, rounding: str = "nearest",
             seed: int = 0) -> Quantized:
    """Numbers as codes of a narrow type, with a scale for each group of them (docs/quantization.md).

    Args:
        w: numbers of f16, bf16, f32 or f64: a NumPy array or torch tensor of the CPU. Those of f64 are rounded to f32.
        dtype: the type of the codes, or a format (``tl.mxfp4``), of which the following arguments change parts.
        group, symmetric, scale_dtype, zero_dtype, scale: see ``tl.QuantFormat``. By default one f16 scale for the
            whole axis, and a symmetric range.
        axis: the dimension along which neighbours share a scale: for the weights (k, n) of a product 0. None: groups
            are runs of elements in row-major order, of which the last may be short, so that without a group all
            elements share one scale.
        rounding: ``"nearest"``, where integers and floats round ties to even and codebooks to the lower index, or
            ``"stochastic"``: to one of the two neighbours, to the upper one with probability
            (x - lower) / (upper - lower).
        seed: of stochastic rounding, which takes the number ``tl.random.rand(seed, i)`` for the element i in row-major
            order.

    Returns:
        Codes packed in row-major order, scales and zero points; of a torch tensor in tensors.

    Raises:
        TypeError: w holds no floats, or not in host memory; a type is none that can be in its place.
        ValueError: w has no elements, no such axis, or one that groups do not divide; it holds a number that the type
            has not (a NaN, an infinity, a negative number for an unsigned float); a scale is beyond its type;
            arguments exclude each other.
    """
    from tilus.quantization.host import quantized

    format = _format(dtype, group=group, symmetric=symmetric, scale_dtype=scale_dtype, zero_dtype=zero_dtype,
                     scale=scale)
    return quantized(w, format, axis, rounding, seed)


def gptq(w: Any, samples: Any = None, dtype: DType | QuantFormat = u4, *, moments: Any = None, group: int | None = None,
         axis: int = 0, symmetric: bool | None = None, scale_dtype: DType | QuantFormat | None = None,
         zero_dtype: DType | None = None, scale: str | None = None, damp: float = 0.01, act_order: bool = False,
         static_groups: bool = False, block: int = 128, precision: DType = f64) -> Quantized:
    """The weights of a product quantised so that its results change little (GPTQ, arXiv 2210.17323).

    Rows of the weights (k, n) are quantised one after another as ``tl.quantize`` does. With H = 2 / N sum x xᵀ over N
    samples and U, the upper triangular matrix with (H + damp mean(diag H) I)⁻¹ = Uᵀ U, the error of row i,
    e = (w_i - its number) / U_ii, is taken off from every later row j as U_ij e. A group's scale is found when its
    first row's turn comes. All is computed on the host. Rows whose inputs are 0 in all samples become 0.

    Args:
        w: weights (k, n), or (n, k) with ``axis=1``: a NumPy array or torch tensor of the CPU, of floats.
        samples: inputs (…, k) of the layer.
        moments: (k, k), H of such samples, in their place.
        dtype, group, symmetric, scale_dtype, zero_dtype, scale: as for ``tl.quantize``. Scales that are quantised in
            turn are found beforehand, as with ``static_groups``.
        damp: what is added to the diagonal of H, in means of it.
        act_order: rows are taken by decreasing H_ii. Groups are then of rows in that order, which the result keeps
            (``order``), so that the product is ``x[:, order] @ values``.
        static_groups: scales are found before any weight changes; with ``act_order`` rows keep their places, then.
        block: how many rows are made up for together. It changes the time and nothing else.
        precision: f64, or f32 for what is taken off the rows, in half the time, as other implementations have it. The
            factor of H is computed in f64.

    Returns:
        Codes packed in row-major order, scales and zero points; of a torch tensor in tensors.

    Raises:
        TypeError: w or samples hold no floats, or not in host memory; a type is none that can be in its place.
        ValueError: w is not two-dimensional, groups do not divide k, extents do not fit, samples are not finite, or
            H is not positive definite; or as for ``tl.quantize``.
    """
    from tilus.quantization.gptq import compensated

    format = _format(dtype, group=group, symmetric=symmetric, scale_dtype=scale_dtype, zero_dtype=zero_dtype,
                     scale=scale)
    return compensated(w, samples, moments, format, axis=axis, damp=damp, act_order=act_order,
                       static_groups=static_groups, block=block, precision=precision)


def _format(dtype: DType | QuantFormat, **given: Any) -> QuantFormat:
    """A type with options, or a format of which they change parts."""
    format = dtype if isinstance(dtype, QuantFormat) else QuantFormat(dtype)
    return replace(format, **{name: value for name, value in given.items() if value is not None})


def dequantize(values: Quantized | PackedArray, scales: Any = None, zeros: Any = None, *, group: int | None = None,
               axis: int | None = 0, dtype: npt.DTypeLike = "float32") -> np.ndarray[Any, Any]:
    """The numbers that codes with scales stand for: ``(code's number - zero) * scale``, in f32 and then rounded.

    Args:
        values: what ``tl.quantize`` gives, without further arguments; or the codes as a packed array. Of prepacked
            ones the numbers are those row by row.
        scales, zeros: arrays of one number for each group, as in ``tl.Quantized``; zeros may be one number.
        group: how many elements share a scale; by default as many as the shape of the scales says.
        axis: along which dimension they do; None: in row-major order.
        dtype: the NumPy type of the result: a float.

    Raises:
        TypeError: the arrays are not in host memory or no arrays, or no float type is asked for.
        ValueError: shapes do not fit each other.
    """
    from tilus.quantization.dequantize import dequantized

    if isinstance(values, Quantized):
        if scales is not None or zeros is not None or group is not None:
            raise ValueError("quantised numbers have their scales, zero points and groups: leave these arguments out")
        return dequantized(values, dtype)
    if scales is None:
        raise ValueError("codes without scales are numbers by themselves: tl.unpack gives them")
    return dequantized(Quantized(values, scales, zeros, -1 if group is None else group, axis), dtype)


__all__ = ["dequantize", "gptq", "quantize"]
