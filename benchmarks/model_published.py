"""Kernels of which others have published times, as the model sees them."""

from __future__ import annotations

import csv
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import tilus as tl
from kernels_zoo.attention.flash_attention import flash_attention_forward
from kernels_zoo.attention.flash_attention_backward import (
    attention_backward_keys,
    attention_backward_queries,
    attention_delta,
)
from kernels_zoo.gemm.matmul import matmul
from kernels_zoo.gemm.matmul_split_k import matmul_split_k
from kernels_zoo.quantized import matmul as quantized
from tilus.ir.dtypes import parse_dtype
from tilus.ir.prepacked import PrepackedFormat, header_of, parse_format
from tilus.model.boards import Board
from tilus.model.gpu import described, model_call, model_launch
from tilus.model.kernel import KernelModel
from tilus.model.launch import ArrayAt, Launch
from tilus.runtime.compile import compile_specialisation
from tilus.runtime.toolchains.nvrtc import compile_cuda
from tilus.targets import get_target
from tilus.tuning.arguments import untouched_array

PUBLISHED = Path(__file__).parent / "published"
FEW_ROWS = 16


@dataclass(frozen=True)
class Row:
    """A published time and the model's, in seconds."""

    group: str
    name: str
    measured: float
    modelled: float
    bottleneck: str = ""


def rows_of(name: str) -> list[dict[str, str]]:
    with open(PUBLISHED / f"{name}.csv", newline="") as file:
        return list(csv.DictReader(file))


# -- low precision


def low_precision(board: Board) -> Iterator[Row]:
    """Products with weights of few bits, and with f16 ones."""
    for row in rows_of("low_precision_matmul"):
        m, k, n, group = (int(row[name]) for name in ("m", "k", "n", "group"))
        time, why = product(row["type"], m, k, n, group, board)
        name = f"{row['type']} {m}x{k}x{n}" + (f" group {group}" if group else "")
        yield Row(row["system"], name, float(row["milliseconds"]) * 1e-3, time, why)


@cache
def product(kind: str, m: int, k: int, n: int, group: int, board: Board) -> tuple[float, str]:
    """Seconds and bottleneck of the zoo's kernel for so many rows, as ``kernels_zoo.quantized.multiply`` chooses it."""
    models = f16_product(m, k, n, board) if kind == "f16" else quantized_product(kind, m, k, n, group, board)
    worst = max(models, key=lambda model: model.seconds)
    return sum(model.seconds for model in models), worst.bottleneck


MODELS: dict[str, tuple[int, list[tuple[int, int]], tuple[int, int]]] = {
    "gemma-2-9b": (42, [(3584, 8192), (4096, 3584), (3584, 28672), (14336, 3584)], (3584, 256000)),
    "Qwen2.5-Coder-32B-Instruct": (64, [(5120, 7168), (5120, 5120), (5120, 55296), (27648, 5120)], (5120, 152064)),
    "Meta-Llama-3-70B-Instruct": (80, [(8192, 10240), (8192, 8192), (8192, 57344), (28672, 8192)], (8192, 128256)),
}
"""Layers, the (k, n) of the products of each, and that of the last product, which is in f16."""


def whole_models(board: Board) -> Iterator[Row]:
    """The products of whole models, without what else there is: attention, normalisation, the framework."""
    for row in rows_of("low_precision_models"):
        if row["board"] != board.name:
            continue
        layers, shapes, last = MODELS[row["model"]]
        batch, prefill = int(row["batch"]), row["stage"] == "prefill"
        m = int(row["tokens"]) if prefill else batch
        group = 0 if row["type"] == "f16" else 128
        seconds = layers * sum(product(row["type"], m, k, n, group, board)[0] for k, n in shapes)
        seconds += product("f16", batch, *last, 0, board)[0]
        yield Row(row["system"], f"{row['model']} {row['type']} {row['stage']} batch {batch}",
                  float(row["milliseconds"]) * 1e-3, seconds)


def quantized_product(kind: str, m: int, k: int, n: int, group: int, board: Board) -> list[KernelModel]:
    dtype = parse_dtype(kind if kind != "f8e4m3" else "f8e4m3fn")
    zero = float(1 << dtype.bits - 1) if dtype.kind == "uint" else 0.0
    constants: dict[str, Any] = {"wtype": dtype, "zero": zero, "group": group or -1} | quantized.tile_of(dtype)
    arguments = {"x": untouched(tl.f16, m, k), "w": prepacked(constants, (k, n), board.target),
                 "scales": untouched(tl.f16, k // group if group else 1, n), "y": untouched(tl.f16, m, n)}
    kernel = quantized.quantized_matmul
    if m <= FEW_ROWS:
        kernel, constants["BK"] = quantized.quantized_matmul_split_k, 128
        arguments["splits"] = max(1, min(8, k // 1024))
    else:
        kernel = quantized.quantized_matmul_persistent if m >= 4096 else kernel
        constants["BM"] = 64 if m <= 64 else 128
    return modelled(kernel, arguments, board, constants)


def untouched(dtype: tl.DType, *shape: int) -> Any:
    return untouched_array(dtype, shape, "")


@cache
def weight_format(names: tuple[tuple[str, Any], ...], target: str) -> PrepackedFormat:
    compiled = quantized.quantized_matmul.compile(target, prepacked=("w",), zeros=None, bias=None, **dict(names))
    return parse_format(compiled.formats["w"])


def prepacked(constants: Mapping[str, Any], shape: tuple[int, int], target: str) -> Any:
    """Weights in the order in which the kernels read them, in memory that nobody has touched."""
    format = weight_format(tuple(constants.items()), target)
    return tl.prepacked(untouched(tl.u8, format.nbytes(shape)), header_of(format, shape))


def f16_product(m: int, k: int, n: int, board: Board) -> list[KernelModel]:
    arguments: dict[str, Any] = {"a": untouched(tl.f16, m, k), "b": untouched(tl.f16, k, n),
                                 "c": untouched(tl.f16, m, n)}
    if m > FEW_ROWS:
        return modelled(matmul, arguments, board, {})
    return modelled(matmul_split_k, {**arguments, "splits": max(1, min(8, k // 1024))}, board,
                    {"BM": 16, "BN": 128, "BK": 64})


def modelled(kernel: Any, arguments: Mapping[str, Any], board: Board,
             constants: Mapping[str, Any]) -> list[KernelModel]:
    """Of a call, which is compiled for what its arrays are."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # spills are in the model
        prepared = kernel.prepared(f"simulate:{board.target}", (), {**arguments, **constants})
        compiled = compile_specialisation(prepared.specialisation, board.target)
        return [launch.model for launch in model_call(compiled, described(prepared.call), board)]


# -- attention


def attention_forward(board: Board, *, causal: bool, head_dim: int, batch: int, length: int,
                      constants: Mapping[str, int] = {}) -> KernelModel:
    """FlashAttention-2's forward pass at a hidden size of 2048."""
    heads = 2048 // head_dim
    arguments = {name: untouched(tl.f16, batch, length, heads, head_dim) for name in "qkvo"}
    arguments["lse"] = untouched(tl.f32, batch, heads, length)
    return modelled(flash_attention_forward, arguments, board, {"D": head_dim, "causal": causal, **constants})[0]


def attention_backward(board: Board, part: str, *, causal: bool, head_dim: int, batch: int, length: int,
                       constants: Mapping[str, int] = {}) -> KernelModel:
    """A kernel of FlashAttention-2's backward pass at a hidden size of 2048: ``part`` is delta, keys or queries."""
    heads = 2048 // head_dim
    kernel, given, written = {
        "delta": (attention_delta, ("o", "do"), ()),
        "keys": (attention_backward_keys, ("q", "k", "v", "do"), ("dk", "dv")),
        "queries": (attention_backward_queries, ("q", "k", "v", "do"), ("dq",))}[part]
    arguments = {name: untouched(tl.f16, batch, length, heads, head_dim) for name in (*given, *written)}
    rows = ("lse", "delta", "lse2") if part == "delta" else ("lse2", "delta")
    arguments |= {name: untouched(tl.f32, batch, heads, length) for name in rows}
    own = {} if part == "delta" else {"causal": causal}
    return modelled(kernel, arguments, board, {"D": head_dim, **own, **constants})[0]


def attention_operations(*, causal: bool, head_dim: int, batch: int, length: int) -> float:
    return 4.0 * batch * length * length * 2048 // (2 if causal else 1)


# -- the textbook product

SGEMM = """extern __shared__ float tiles[];
extern "C" __global__ void sgemm(const float *A, const float *B, float *C, int M, int N, int K, int T) {
    float *As = tiles, *Bs = tiles + T * T;
    int tx = threadIdx.x, ty = threadIdx.y, row = blockIdx.y * T + ty, column = blockIdx.x * T + tx;
    float sum = 0.0f;
    for (int t = 0; t < (K + T - 1) / T; t++) {
        int ka = t * T + tx, kb = t * T + ty;
        As[ty * T + tx] = row < M && ka < K ? A[row * K + ka] : 0.0f;
        Bs[ty * T + tx] = kb < K && column < N ? B[kb * N + column] : 0.0f;
        __syncthreads();
        #pragma unroll 1
        for (int k = 0; k < T; k++) sum += As[ty * T + k] * Bs[k * T + tx];
        __syncthreads();
    }
    if (row < M && column < N) C[row * N + column] = sum;
}
"""


@cache
def sgemm_cubin(target: str) -> bytes:
    return compile_cuda(SGEMM, get_target(target)).cubin


@cache
def sgemm(m: int, n: int, k: int, tile: int, board: Board) -> KernelModel:
    """The textbook product: one thread an element."""
    first = 1 << 32
    sizes = {"A": 4 * m * k, "B": 4 * k * n, "C": 4 * m * n}
    arrays, parameters = [], b""
    for name, size in sizes.items():
        arrays.append(ArrayAt(name, first, size, 32))
        parameters += first.to_bytes(8, "little")
        first += -(-size // (1 << 21)) * (1 << 21) + (1 << 21)
    parameters += b"".join(value.to_bytes(4, "little") for value in (m, n, k, tile))
    launch = Launch("sgemm", (-(-n // tile), -(-m // tile), 1), (tile, tile, 1), 8 * tile * tile, parameters,
                    tuple(arrays))
    return model_launch(sgemm_cubin(board.target), launch, get_target(board.target), board).model


def ada_runs(board: Board, least: float = 0.05) -> Iterator[tuple[Row, KernelModel, float]]:
    """Runs of at least so many seconds, with the model, and the measured watts."""
    for row in rows_of("ada_matmul"):
        if not row["milliseconds"] or float(row["milliseconds"]) < least * 1e3:
            continue
        m, n, k, tile = (int(row[name]) for name in ("m", "n", "k", "tile"))
        model = sgemm(m, n, k, tile, board)
        seconds = float(row["milliseconds"]) * 1e-3
        yield (Row(f"tile {tile}", f"{m}x{n}x{k}", seconds, model.seconds, model.bottleneck), model,
               float(row["watts"] or "nan"))
