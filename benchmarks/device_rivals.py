"""What kernels of the zoo are compared with on a GPU: torch's operations, and Triton's kernels of the same work."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.device_lab import GpuLab, Lab

BLOCK = 1024


@dataclass(frozen=True)
class Rival:
    """Another library's kernel: a call, and its results in host memory after that."""

    run: Callable[[], Any]
    result: Callable[[], np.ndarray[Any, Any]]


def rivals_of(lab: Lab, name: str, arrays: Mapping[str, Any]) -> Iterator[tuple[str, Callable[[], Rival]]]:
    """What makes those of a case for which there is a library here, by the library; none on the simulator."""
    if not isinstance(lab, GpuLab) or importlib.util.find_spec("torch") is None:
        return
    import torch

    if not torch.cuda.is_available():
        return
    tensors = {n: torch.as_tensor(a, device="cuda") for n, a in arrays.items()
               if hasattr(a, "__cuda_array_interface__")}
    yield "torch", lambda: _kept(TORCH[name](torch, tensors))
    if importlib.util.find_spec("triton") is not None and name in TRITON:
        yield "triton", lambda: TRITON[name](torch, tensors)


class Kept:
    """A call whose result is kept."""

    def __init__(self, compute: Callable[[], Any]) -> None:
        self.compute, self.found = compute, None

    def run(self) -> None:
        self.found = self.compute()

    def result(self) -> np.ndarray[Any, Any]:
        found: Any = self.found
        return np.asarray(found.float().cpu().numpy())


def _kept(compute: Callable[[], Any]) -> Rival:
    kept = Kept(compute)
    return Rival(kept.run, kept.result)


def _attention(torch: Any, t: Mapping[str, Any]) -> Callable[[], Any]:
    q, k, v = (t[n].transpose(1, 2) for n in "qkv")
    return lambda: torch.nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2)


def _lstm(torch: Any, t: Mapping[str, Any]) -> Callable[[], Any]:
    """The step as torch's operations, the product as one of cuBLAS."""
    wx, r, bias = t["wx"][:, :, 0], t["r"][:, 0].reshape(-1, t["r"].shape[-1]), t["bias"][:, 0]
    h, c = t["h"][:, 0], t["c"][:, 0]

    def step() -> Any:
        i, f, z, o = (wx + (h @ r.T).reshape(wx.shape) + bias).float().unbind(1)
        new = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(z)
        return (torch.sigmoid(o) * torch.tanh(new)).half()[:, None]

    return step


def _product(torch: Any, t: Mapping[str, Any]) -> Callable[[], Any]:
    """With the weights as f16."""
    return lambda: t["x"] @ t["dense"]


TORCH: dict[str, Callable[[Any, Mapping[str, Any]], Callable[[], Any]]] = {
    "matmul": lambda torch, t: lambda: t["a"] @ t["b"],
    "attention": _attention,
    "softmax": lambda torch, t: lambda: torch.softmax(t["x"], 1),
    "layer norm": lambda torch, t: lambda: torch.nn.functional.layer_norm(
        t["x"], t["x"].shape[1:], t["weight"], t["bias"], 1e-5),
    "LSTM step": _lstm,
    "vector add": lambda torch, t: lambda: t["x"] + t["y"],
    "transpose": lambda torch, t: lambda: t["x"].t().contiguous(),
    "row sum": lambda torch, t: lambda: t["x"].sum(1),
    "quantised matmul, decode": _product,
    "quantised matmul, prefill": _product,
}


# -- Triton


def _into(out: Any, launch: Callable[[], Any]) -> Rival:
    return Rival(launch, lambda: np.asarray(out.float().cpu().numpy()))


def _triton_add(torch: Any, t: Mapping[str, Any]) -> Rival:
    from benchmarks.triton_row_wise import vector_add

    x, y, n = t["x"], t["y"], t["x"].numel()
    z = torch.empty_like(x)
    return _into(z, lambda: vector_add[(math.ceil(n / BLOCK),)](x, y, z, n, B=BLOCK))


def _triton_softmax(torch: Any, t: Mapping[str, Any]) -> Rival:
    from benchmarks.triton_row_wise import softmax_fits

    x, (rows, columns) = t["x"], t["x"].shape
    y = torch.empty_like(x)
    block = 1 << (columns - 1).bit_length()
    return _into(y, lambda: softmax_fits[(rows,)](x, y, columns, columns, columns, B=block, num_warps=8))


def _triton_layer_norm(torch: Any, t: Mapping[str, Any]) -> Rival:
    from benchmarks.triton_row_wise import layer_norm_fits

    x, (rows, columns) = t["x"], t["x"].shape
    y, block = torch.empty_like(x), 1 << (columns - 1).bit_length()
    return _into(y, lambda: layer_norm_fits[(rows,)](x, t["weight"], t["bias"], y, columns, columns, 1e-5, B=block,
                                                     num_warps=8))


def _triton_matmul(torch: Any, t: Mapping[str, Any]) -> Rival:
    from benchmarks.triton_product import product

    a, b = t["a"], t["b"]
    (m, k), n = a.shape, b.shape[1]
    c = torch.empty((m, n), dtype=a.dtype, device=a.device)
    grid = (math.ceil(m / 128) * math.ceil(n / 256),)
    return _into(c, lambda: product[grid](a, b, c, m, n, k, BM=128, BN=256, BK=64, GROUP=8, num_warps=8, num_stages=3))


TRITON: dict[str, Callable[[Any, Mapping[str, Any]], Rival]] = {
    "vector add": _triton_add, "softmax": _triton_softmax, "layer norm": _triton_layer_norm, "matmul": _triton_matmul}
