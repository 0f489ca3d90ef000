"""Kernels of the zoo at real sizes by both routes, against torch and Triton where these are, and by the model."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import tilus as tl
from benchmarks.device_lab import GpuLab, Lab, Results
from benchmarks.device_rivals import Rival, rivals_of
from benchmarks.model_published import prepacked
from kernels_zoo.attention.flash_attention import flash_attention_forward
from kernels_zoo.attention.flash_attention import reference as attention_reference
from kernels_zoo.data_movement.transpose import transpose
from kernels_zoo.elementwise.vector_add import vector_add
from kernels_zoo.gemm.matmul import matmul
from kernels_zoo.normalization.layer_norm import layer_norm
from kernels_zoo.normalization.softmax import reference as softmax_reference
from kernels_zoo.normalization.softmax import softmax
from kernels_zoo.quantized import matmul as quantized
from kernels_zoo.reduction.row_sum import row_sum
from kernels_zoo.rnn.lstm import lstm_step
from kernels_zoo.rnn.lstm import reference as lstm_reference
from tilus.ir.dtypes import DType
from tilus.model.boards import Board
from tilus.model.gpu import described, model_call
from tilus.runtime.compile import compile_specialisation
from tilus.tuning.arguments import random_array, untouched_array
from tilus.tuning.devices import DeviceLost

ROUTES = ("ptx", "cuda")
GROUP = 128
"""Rows of quantised weights that share their scales."""
ROWS = 8
"""So many rows of results are compared with NumPy."""
Arrays = Mapping[str, Any]


@dataclass(frozen=True)
class Case:
    """A call of a kernel.

    Attributes:
        arrays: element types and shapes by parameter.
        output: the array that is compared; ``along`` is the axis of which rows are taken.
        reference: rows of it from the arrays in f64, by NumPy.
        tolerance: of ‖out − ref‖ / ‖ref‖.
        operations, bytes: what the call does at least.
        weights: whether ``w`` is a matrix of 4 bits, with ``scales``, prepacked.
    """

    name: str
    shape: str
    kernel: Any
    arrays: Mapping[str, tuple[DType, tuple[int, ...]]]
    output: str
    reference: Callable[[Arrays, np.ndarray[Any, Any]], Any]
    tolerance: float = 3e-3
    constants: dict[str, Any] = field(default_factory=dict)
    operations: float = 0
    along: int = 0
    weights: tuple[int, int] | None = None

    @property
    def bytes(self) -> float:
        sizes = [np.prod(shape, dtype=float) * dtype.packed_bits / 8 for dtype, shape in self.arrays.values()]
        return float(sum(sizes)) + (np.prod(self.weights, dtype=float) / 2 if self.weights else 0.0)

    def host_arrays(self, lab: Lab, contents: bool) -> tuple[dict[str, Any], dict[str, Any]]:
        """Arrays in host memory, with random numbers or without contents, and the compile-time values. The dense
        weights are called ``dense``."""
        make = random_array if contents else untouched_array
        arrays = {name: make(dtype, shape, name) for name, (dtype, shape) in self.arrays.items()}
        if self.weights is None:
            return arrays, self.constants
        found, constants = _weights(self.weights, lab.target.name, contents)
        return {**arrays, **found}, {**constants, **self.constants}


@functools.lru_cache(maxsize=2)
def _weights(shape: tuple[int, int], target: str, contents: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    """Weights of 4 bits in groups of 128, prepacked for a target, and as f16; and what describes them."""
    if not contents:
        constants = {"wtype": tl.u4, "group": GROUP, "zero": 8.0, **quantized.tile_of(tl.u4)}
        scales = untouched_array(tl.f16, (shape[0] // GROUP, shape[1]), "scales")
        return {"w": prepacked(constants, shape, target), "scales": scales}, constants
    q = tl.quantize(random_array(tl.f32, shape, "w") * np.float32(0.05), tl.u4, group=GROUP, scale_dtype=tl.f16,
                    symmetric=True)
    weights = quantized.Weights(q, target)
    return {"w": weights.w, "scales": weights.scales, "dense": tl.dequantize(q).astype(np.float16)}, weights.constants


def _wide(array: Any) -> Any:
    return array.astype(np.float64)


def _layer_norm(a: Arrays, rows: Any) -> Any:
    x = _wide(a["x"][rows])
    x = x - x.mean(axis=1, keepdims=True)
    return x / np.sqrt((x**2).mean(axis=1, keepdims=True) + 1e-5) * _wide(a["weight"]) + _wide(a["bias"])


def _attention(a: Arrays, rows: Any) -> Any:
    """``rows`` are positions of the first sequence."""
    return attention_reference(*(_wide(a[n][:1, rows] if n == "q" else a[n][:1]) for n in "qkv"), False)[0][0]


def _lstm(a: Arrays, rows: Any) -> Any:
    inputs = (a["wx"][rows], a["r"], a["bias"], a["h"][rows], a["c"][rows])
    return lstm_reference(*map(_wide, inputs))[0]


def _products(a: Arrays, rows: Any) -> Any:
    return _wide(a["x"][rows]) @ _wide(a["dense"])


def cases(small: bool) -> list[Case]:
    """All calls; the small ones take the simulator less than a second."""
    def size(large: int, little: int) -> int:
        return little if small else large

    n, rows, d = size(4096, 64), size(8192, 8), size(4096, 256)
    b, s, h = size(4, 1), size(4096, 64), size(16, 1)
    q = (b, s, h, 64)
    k, columns, batch, state = size(4096, 256), size(8192, 128), size(64, 16), size(2048, 32)
    length, side = size(1 << 26, 2048), size(8192, 64)
    f16, f32 = tl.f16, tl.f32
    found = [
        Case("matmul", f"{n}x{n}x{n}", matmul, dict.fromkeys("abc", (f16, (n, n))), "c",
             lambda a, r: _wide(a["a"][r]) @ _wide(a["b"]), operations=2.0 * n**3),
        Case("attention", "x".join(map(str, q)), flash_attention_forward,
             {**dict.fromkeys("qkvo", (f16, q)), "lse": (f32, (b, h, s))}, "o", _attention,
             constants={"D": 64}, operations=4.0 * b * h * s * s * 64, along=1),
        Case("softmax", f"{rows}x{d}", softmax, dict.fromkeys("xy", (f32, (rows, d))), "y",
             lambda a, r: softmax_reference(_wide(a["x"][r])), 1e-5, {"BN": d, "fits": True}),
        Case("layer norm", f"{rows}x{d}", layer_norm,
             {"x": (f16, (rows, d)), "weight": (f16, (d,)), "bias": (f16, (d,)), "y": (f16, (rows, d))}, "y",
             _layer_norm, constants={"BN": d, "fits": True}),
        Case("LSTM step", f"{batch}x1x{state}", lstm_step,
             {"wx": (f16, (batch, 4, 1, state)), "r": (f16, (4, 1, state, state)), "bias": (f16, (4, 1, state)),
              "h": (f16, (batch, 1, state)), "c": (f32, (batch, 1, state)), "h_out": (f16, (batch, 1, state)),
              "c_out": (f32, (batch, 1, state))}, "h_out", _lstm, operations=8.0 * batch * state**2),
        Case("vector add", f"{length}", vector_add, dict.fromkeys("xyz", (f32, (length,))), "z",
             lambda a, r: _wide(a["x"][r]) + _wide(a["y"][r]), 1e-6),
        Case("transpose", f"{side}x{side}", transpose, dict.fromkeys("xy", (f32, (side, side))), "y",
             lambda a, r: _wide(a["x"][:, r]).T, 0.0),
        Case("row sum", f"{rows}x{d}", row_sum, {"x": (f32, (rows, d)), "y": (f32, (rows,))}, "y",
             lambda a, r: _wide(a["x"][r]).sum(axis=1), 1e-5),
    ]
    for name, m in (("decode", 1), ("prefill", size(4096, 32))):
        kernel, constants = quantized.kernel_for(m, k)
        found.append(Case(f"quantised matmul, {name}", f"{m}x{columns}x{k}", kernel,
                          {"x": (f16, (m, k)), "y": (f16, (m, columns))}, "y", _products, constants=constants,
                          operations=2.0 * m * columns * k, weights=(k, columns)))
    return found


def zoo(lab: Lab, found: Results) -> None:
    """Times of all cases; what fails is listed with its error."""
    done = {row["name"] for row in found.setdefault("rows", [])}
    for case in cases(lab.small):
        if case.name in done:
            continue
        if lab.left < 2:
            found.setdefault("left_out", []).append(case.name)
            continue
        row = {"name": case.name, "shape": case.shape, "operations": case.operations, "bytes": case.bytes,
               "routes": {}, "rivals": {}}
        found["rows"].append(row)
        try:
            _measure(lab, case, row, found)
        except DeviceLost as error:
            row["error"] = str(error)
            raise
        except Exception as error:
            row["error"] = message(error)
        found.save()


def message(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".split("\n")[0]


def _measure(lab: Lab, case: Case, row: dict[str, Any], found: Results) -> None:
    host, constants = case.host_arrays(lab, contents=True)
    arrays = {name: lab.upload(value) for name, value in host.items()}
    given = {name: value for name, value in arrays.items() if name != "dense"}
    for route in ROUTES:
        try:
            row["routes"][route] = _route(lab, case, route, given, constants, host, arrays)
        except DeviceLost:
            raise
        except Exception as error:
            row["routes"][route] = {"error": message(error)}
        found.save()
    for library, make in rivals_of(lab, case.name, arrays):
        try:
            row["rivals"][library] = _rival(lab, case, make(), arrays)
        except DeviceLost:
            raise
        except Exception as error:
            row["rivals"][library] = {"error": message(error)}
        found.save()


def _route(lab: Lab, case: Case, route: str, given: Arrays, constants: Arrays, host: Arrays,
           arrays: Arrays) -> dict[str, Any]:
    """A kernel by a route: its time, what a call costs the host, and how far it is from NumPy."""
    run = case.kernel.on(lab.engine(route))

    def call() -> None:
        run(**given, **constants)

    timing = lab.time(call)
    shape = case.arrays[case.output][1]
    rows = np.unique(np.linspace(0, shape[case.along] - 1, ROWS).astype(int))
    result = lab.download(arrays[case.output])
    error = _far(result[0, rows] if case.along else result[rows], case.reference(host, rows))
    return {"timing": timing, "host_seconds": lab.host_seconds(call) if isinstance(lab, GpuLab) else None,
            "error": None if error <= case.tolerance else f"it differs from NumPy by {error:.2g}", "difference": error}


def _rival(lab: Lab, case: Case, rival: Rival, arrays: Arrays) -> dict[str, Any]:
    """The time of another library's kernel, and how far all of its results are from those of ours."""
    timing = lab.time(rival.run)
    difference = _far(rival.result(), lab.download(arrays[case.output]))
    return {"timing": timing, "difference": difference}


def _far(result: Any, reference: Any) -> float:
    """‖result − reference‖ / ‖reference‖."""
    result, reference = np.asarray(result, np.float64), np.asarray(reference, np.float64)
    return float(np.linalg.norm(result - reference) / max(float(np.linalg.norm(reference)), 1e-30))


# -- the model


def predict(lab: Lab, case: Case, route: str, board: Board) -> tuple[float, str]:
    """Seconds of a call by the model, and what limits it."""
    host, constants = case.host_arrays(lab, contents=False)
    given = {name: value for name, value in host.items() if name != "dense"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # spills are in the model
        prepared = case.kernel.prepared(f"simulate:{lab.target.name}", (), {**given, **constants})
        compiled = compile_specialisation(prepared.specialisation, lab.target, route)
        models = [launch.model for launch in model_call(compiled, described(prepared.call), board)]
    return sum(m.seconds for m in models), max(models, key=lambda m: m.seconds).bottleneck

