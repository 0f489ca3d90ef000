"""What ``benchmarks.cpu`` measures: each line is a kernel with the tile constants that a GPU wants, or a fused
function, and the same by NumPy (OpenBLAS) and PyTorch.

A line's functions make arrays and give a function without arguments that is measured. Arrays are random, of one seed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import tilus as tl

Thunk = Callable[[], Any]
Maker = Callable[[], Thunk]


class Line:
    """One measurement: ours, and its peers by name. ``bar`` is the least ratio that is asked of it; ``bound`` says what
    it should be limited by ("compute", "memory" or "call")."""

    def __init__(self, name: str, ours: Maker, bound: str = "memory", bar: float = 0.9, **peers: Maker) -> None:
        self.name, self.ours, self.bound, self.bar, self.peers = name, ours, bound, bar, peers


LINES: list[Line] = []


def line(name: str, ours: Maker, bound: str = "memory", bar: float = 0.9, **peers: Maker) -> None:
    LINES.append(Line(name, ours, bound, bar, **peers))


def normal(*shape: int, dtype: Any = np.float32) -> Any:
    return np.random.default_rng(0).standard_normal(shape, np.float32).astype(dtype)


def tensor(x: Any) -> Any:
    import torch

    if x.dtype.name == "bfloat16":
        return torch.from_numpy(x.astype(np.float32)).bfloat16()
    return torch.from_numpy(x)


def bfloat16() -> Any:
    import ml_dtypes

    return ml_dtypes.bfloat16


# Products.


def ours_matmul(m: int, n: int, k: int, dtype: Any = np.float32, turned: str = "", **constants: int) -> Thunk:
    from kernels_zoo.gemm.matmul import matmul

    a = normal(k, m, dtype=dtype).T if "a" in turned else normal(m, k, dtype=dtype)
    b = normal(n, k, dtype=dtype).T if "b" in turned else normal(k, n, dtype=dtype)
    c = np.zeros((m, n), dtype)
    return lambda: matmul(a, b, c, **constants)


def numpy_matmul(m: int, n: int, k: int, dtype: Any = np.float32, turned: str = "") -> Thunk:
    a = normal(k, m, dtype=dtype).T if "a" in turned else normal(m, k, dtype=dtype)
    b = normal(n, k, dtype=dtype).T if "b" in turned else normal(k, n, dtype=dtype)
    c = np.zeros((m, n), dtype)
    return lambda: np.matmul(a, b, out=c)


def torch_matmul(m: int, n: int, k: int, dtype: Any = np.float32, turned: str = "") -> Thunk:
    import torch

    a = tensor(normal(k, m, dtype=dtype)).T if "a" in turned else tensor(normal(m, k, dtype=dtype))
    b = tensor(normal(n, k, dtype=dtype)).T if "b" in turned else tensor(normal(k, n, dtype=dtype))
    c = torch.empty((m, n), dtype=a.dtype)
    return lambda: torch.mm(a, b, out=c)


def matmul_line(m: int, n: int, k: int, bar: float = 0.9, turned: str = "", **constants: int) -> None:
    note = {"": "", "a": ", A turned", "b": ", B turned"}[turned] + "".join(f", {k}={v}" for k, v in constants.items())
    line(f"matmul f32 {m}x{n}x{k}{note}", lambda: ours_matmul(m, n, k, turned=turned, **constants),
         "compute" if min(m, n, k) >= 32 else "memory", bar, numpy=lambda: numpy_matmul(m, n, k, turned=turned),
         torch=lambda: torch_matmul(m, n, k, turned=turned))


for size, least in ((64, 0.9), (128, 0.9), (256, 0.9), (512, 0.9), (1024, 1.0), (2048, 1.0)):
    matmul_line(size, size, size, least)
matmul_line(100, 1000, 77)
matmul_line(1, 4096, 4096, 0.95)
matmul_line(1, 4096, 4096, 0.95, BM=16)
matmul_line(8, 4096, 4096)
matmul_line(4096, 8, 4096)
matmul_line(4096, 1, 4096)
matmul_line(32, 11008, 4096)
matmul_line(1000, 3, 1000)
matmul_line(4096, 4096, 16)
matmul_line(1024, 1024, 1024, turned="a")
matmul_line(1024, 1024, 1024, turned="b")
matmul_line(8, 4096, 4096, turned="b")
matmul_line(1, 4096, 4096, turned="b")


@tl.jit
def matmul_f64(a: tl.f64["M", "K"], b: tl.f64["K", "N"], c: tl.f64["M", "N"], BM: int = 64, BN: int = 64,
               BK: int = 16) -> None:
    i, j = tl.grid(tl.cdiv(c.shape[0], BM), tl.cdiv(c.shape[1], BN))
    acc = tl.zeros((BM, BN), tl.f64)
    for k in tl.range(0, a.shape[1], BK):
        acc = tl.dot(tl.load(a, (i * BM, k), (BM, BK)), tl.load(b, (k, j * BN), (BK, BN)), acc)
    tl.store(c, (i * BM, j * BN), acc)


@tl.jit
def matmul_i8(a: tl.i8["M", "K"], b: tl.i8["K", "N"], c: tl.i32["M", "N"], BM: int = 128, BN: int = 128,
              BK: int = 64) -> None:
    i, j = tl.grid(tl.cdiv(c.shape[0], BM), tl.cdiv(c.shape[1], BN))
    acc = tl.zeros((BM, BN), tl.i32)
    for k in tl.range(0, a.shape[1], BK):
        acc = tl.dot(tl.load(a, (i * BM, k), (BM, BK)), tl.load(b, (k, j * BN), (BK, BN)), acc)
    tl.store(c, (i * BM, j * BN), acc)


def ours_plain(kernel: Any, m: int, n: int, k: int, dtype: Any, out: Any) -> Thunk:
    a, b = integers(m, k) if dtype == np.int8 else normal(m, k, dtype=dtype), \
        integers(k, n) if dtype == np.int8 else normal(k, n, dtype=dtype)
    c = np.zeros((m, n), out)
    return lambda: kernel(a, b, c)


def integers(*shape: int) -> Any:
    return np.random.default_rng(0).integers(-127, 128, shape).astype(np.int8)


def torch_int_mm(m: int, n: int, k: int) -> Thunk:
    import torch

    a, b, c = tensor(integers(m, k)), tensor(integers(k, n)), torch.empty((m, n), dtype=torch.int32)
    return lambda: torch._int_mm(a, b, out=c)


def ours_batched(batch: int, m: int, n: int, k: int) -> Thunk:
    from kernels_zoo.gemm.batched_matmul import batched_matmul

    a, b, c = normal(batch, m, k), normal(batch, k, n), np.zeros((batch, m, n), np.float32)
    return lambda: batched_matmul(a, b, c)


def numpy_batched(batch: int, m: int, n: int, k: int) -> Thunk:
    a, b, c = normal(batch, m, k), normal(batch, k, n), np.zeros((batch, m, n), np.float32)
    return lambda: np.matmul(a, b, out=c)


def torch_batched(batch: int, m: int, n: int, k: int) -> Thunk:
    import torch

    a, b, c = tensor(normal(batch, m, k)), tensor(normal(batch, k, n)), torch.empty(batch, m, n)
    return lambda: torch.bmm(a, b, out=c)


line("matmul f32 batch of 64, 128x128x128", lambda: ours_batched(64, 128, 128, 128), "compute",
     numpy=lambda: numpy_batched(64, 128, 128, 128), torch=lambda: torch_batched(64, 128, 128, 128))
line("matmul f64 1024x1024x1024", lambda: ours_plain(matmul_f64, 1024, 1024, 1024, np.float64, np.float64), "compute",
     numpy=lambda: numpy_matmul(1024, 1024, 1024, np.float64), torch=lambda: torch_matmul(1024, 1024, 1024, np.float64))
line("matmul bf16 1024x1024x1024", lambda: ours_matmul(1024, 1024, 1024, bfloat16()), "compute",
     torch=lambda: torch_matmul(1024, 1024, 1024, bfloat16()))
line("matmul bf16 1x4096x4096", lambda: ours_matmul(1, 4096, 4096, bfloat16()),
     torch=lambda: torch_matmul(1, 4096, 4096, bfloat16()))
line("matmul bf16 8x4096x4096", lambda: ours_matmul(8, 4096, 4096, bfloat16()),
     torch=lambda: torch_matmul(8, 4096, 4096, bfloat16()))
line("matmul f16 1024x1024x1024", lambda: ours_matmul(1024, 1024, 1024, np.float16), "compute",
     torch=lambda: torch_matmul(1024, 1024, 1024, np.float16))
for rows in (1024, 8):
    line(f"matmul i8 {rows}x1024x1024", lambda m=rows: ours_plain(matmul_i8, m, 1024, 1024, np.int8, np.int32),
         "compute" if rows > 8 else "memory",
         **({"torch": lambda m=rows: torch_int_mm(m, 1024, 1024)} if rows > 16 else
            {"torch": lambda m=rows: torch_int_mm(32, 1024, 1024)}))  # it wants more than 16 rows


# Rows.


def ours_rows(module: str, shape: tuple[int, int], dtype: Any = np.float32, vectors: int = 0) -> Thunk:
    """A kernel of ``kernels_zoo/normalization`` with rows in tiles of its default size, or whole where they fit."""
    import importlib

    kernel = getattr(importlib.import_module(f"kernels_zoo.normalization.{module}"), module)
    x = normal(*shape, dtype=dtype)
    others = [normal(shape[1], dtype=dtype) for _ in range(vectors)]
    y = np.zeros_like(x)
    constants = {"BN": 4096, "fits": True} if shape[1] == 4096 else {}
    return lambda: kernel(x, *others, y, **constants)


def torch_softmax(shape: tuple[int, int], dtype: Any = np.float32) -> Thunk:
    import torch

    x = tensor(normal(*shape, dtype=dtype))
    y = torch.empty_like(x)
    return lambda: torch.softmax(x, 1, out=y)


def torch_layer_norm(shape: tuple[int, int]) -> Thunk:
    import torch

    x, w = tensor(normal(*shape)), tensor(normal(shape[1]))
    y, mean, rstd = torch.empty_like(x), torch.empty(shape[0], 1), torch.empty(shape[0], 1)
    return lambda: torch.ops.aten.native_layer_norm.out(x, shape[1:], w, w, 1e-5, out0=y, out1=mean, out2=rstd)


def torch_rms_norm(shape: tuple[int, int]) -> Thunk:
    import torch

    x, w = tensor(normal(*shape)), tensor(normal(shape[1]))
    return lambda: torch.nn.functional.rms_norm(x, shape[1:], w, 1e-6)


def softmax_line(rows: int, columns: int, bar: float = 0.9, dtype: Any = np.float32, name: str = "f32") -> None:
    line(f"softmax {name} {rows}x{columns}", lambda: ours_rows("softmax", (rows, columns), dtype), "memory", bar,
         torch=lambda: torch_softmax((rows, columns), dtype))


softmax_line(100000, 16)
softmax_line(4096, 4096, 1.5)
softmax_line(4096, 1000)
softmax_line(16, 1000000)
softmax_line(1, 100)
softmax_line(4096, 4096, 0.9, np.float16, "f16")
softmax_line(4096, 4096, 0.9, bfloat16(), "bf16")
for width, least in ((4096, 1.5), (768, 0.9)):
    line(f"layer norm 4096x{width}", lambda n=width: ours_rows("layer_norm", (4096, n), vectors=2), "memory", least,
         torch=lambda n=width: torch_layer_norm((4096, n)))
line("RMS norm 4096x4096", lambda: ours_rows("rms_norm", (4096, 4096), vectors=1),
     torch=lambda: torch_rms_norm((4096, 4096)))


def ours_row_sum(rows: int, columns: int) -> Thunk:
    from kernels_zoo.reduction.row_sum import row_sum

    x, y = normal(rows, columns), np.zeros(rows, np.float32)
    return lambda: row_sum(x, y)


def numpy_sum(shape: tuple[int, ...], axis: int) -> Thunk:
    x = normal(*shape)
    y = np.zeros(tuple(n for d, n in enumerate(shape) if d != axis), np.float32)
    return lambda: np.sum(x, axis=axis, out=y)


def torch_sum(shape: tuple[int, ...], axis: int) -> Thunk:
    import torch

    x = tensor(normal(*shape))
    y = torch.empty(tuple(n for d, n in enumerate(shape) if d != axis))
    return lambda: torch.sum(x, axis, out=y)


for shape in ((100000, 16), (4096, 4096), (8, 2000000), (1, 100)):
    line(f"row sum {shape[0]}x{shape[1]}", lambda s=shape: ours_row_sum(*s), "call" if shape[0] == 1 else "memory",
         numpy=lambda s=shape: numpy_sum(s, 1), torch=lambda s=shape: torch_sum(s, 1))


@tl.jit
def column_sum(x: tl.f32["M", "N"], y: tl.f32["N"], BM: int = 64, BN: int = 128) -> None:
    j = tl.grid(tl.cdiv(x.shape[1], BN))
    total = tl.zeros((BN,), tl.f32)
    for i in tl.range(0, x.shape[0], BM):
        total += tl.sum(tl.load(x, (i, j * BN), (BM, BN)), axis=0)
    tl.store(y, j * BN, total)


def ours_column_sum(rows: int, columns: int) -> Thunk:
    x, y = normal(rows, columns), np.zeros(columns, np.float32)
    return lambda: column_sum(x, y)


for shape in ((4096, 4096), (1000000, 16)):
    line(f"column sum {shape[0]}x{shape[1]}", lambda s=shape: ours_column_sum(*s),
         numpy=lambda s=shape: numpy_sum(s, 0), torch=lambda s=shape: torch_sum(s, 0))


@tl.jit
def running_sum(x: tl.f32["M", "N"], y: tl.f32["M", "N"], BM: int = 4, BN: int = 1024) -> None:
    i = tl.grid(tl.cdiv(x.shape[0], BM))
    before = tl.zeros((BM, 1), tl.f32)
    for j in tl.range(0, x.shape[1], BN):
        tile = tl.load(x, (i * BM, j), (BM, BN))
        tl.store(y, (i * BM, j), tl.cumsum(tile, axis=1) + before)
        before += tl.sum(tile, axis=1, keepdims=True)


def ours_running_sum() -> Thunk:
    x = normal(4096, 1024)
    y = np.zeros_like(x)
    return lambda: running_sum(x, y)


def numpy_running_sum() -> Thunk:
    x = normal(4096, 1024)
    y = np.zeros_like(x)
    return lambda: np.cumsum(x, axis=1, out=y)


def torch_running_sum() -> Thunk:
    import torch

    x = tensor(normal(4096, 1024))
    y = torch.empty_like(x)
    return lambda: torch.cumsum(x, 1, out=y)


line("cumulative sum 4096x1024", ours_running_sum, numpy=numpy_running_sum, torch=torch_running_sum)

# Attention and recurrence.


def ours_attention(batch: int, queries: int, keys: int, heads: int, kv_heads: int, d: int, causal: bool) -> Thunk:
    from kernels_zoo.attention.flash_attention import flash_attention_forward

    q, (k, v) = normal(batch, queries, heads, d), (normal(batch, keys, kv_heads, d) for _ in range(2))
    o, lse = np.zeros_like(q), np.zeros((batch, heads, queries), np.float32)
    return lambda: flash_attention_forward(q, k, v, o, lse, D=d, causal=causal)


def torch_attention(batch: int, queries: int, keys: int, heads: int, kv_heads: int, d: int, causal: bool) -> Thunk:
    import torch

    q, (k, v) = tensor(normal(batch, heads, queries, d)), (tensor(normal(batch, kv_heads, keys, d)) for _ in range(2))
    attention = torch.nn.functional.scaled_dot_product_attention
    return lambda: attention(q, k, v, is_causal=causal, enable_gqa=heads != kv_heads)


def attention_line(*shape: int, causal: bool = False, bar: float = 0.9) -> None:
    name = f"attention {'x'.join(map(str, shape))}{', causal' * causal}"
    line(name, lambda: ours_attention(*shape, causal), "compute" if shape[1] > 8 else "memory", bar,
         torch=lambda: torch_attention(*shape, causal))


attention_line(1, 1024, 1024, 8, 8, 64, bar=1.2)
attention_line(1, 1024, 1024, 8, 8, 64, causal=True, bar=1.6)
attention_line(1, 4096, 4096, 8, 8, 64)
attention_line(4, 512, 512, 16, 16, 128)
attention_line(1, 1000, 1000, 4, 4, 80)
attention_line(1, 1, 8192, 32, 8, 128, bar=1.0)


def recurrent(batch: int, d: int) -> list[Any]:
    return [normal(batch, 4, 1, d), normal(4, 1, d, d) / np.float32(np.sqrt(d)), normal(4, 1, d), normal(batch, 1, d),
            normal(batch, 1, d)]


def ours_lstm(batch: int, d: int) -> Thunk:
    from kernels_zoo.rnn.lstm import lstm_step

    wx, r, bias, h, c = recurrent(batch, d)
    h_out, c_out = np.zeros_like(h), np.zeros_like(c)
    return lambda: lstm_step(wx, r, bias, h, c, h_out, c_out)


def torch_lstm(batch: int, d: int) -> Thunk:
    import torch

    wx, r, bias, h, c = recurrent(batch, d)
    gates_x, bias_, h_, c_ = (tensor(x.reshape(batch, -1) if len(x) == batch else x.reshape(-1))
                              for x in (wx, bias, h, c))
    h_, c_ = h_.reshape(batch, d), c_.reshape(batch, d)
    weights = tensor(np.ascontiguousarray(r.reshape(4 * d, d))).T
    gates_x, total = gates_x.reshape(batch, 4 * d), bias_.reshape(4 * d)
    torch.set_grad_enabled(False)

    def step() -> Any:
        i, f, z, o = (torch.addmm(gates_x, h_, weights) + total).chunk(4, 1)
        new = torch.sigmoid(f) * c_ + torch.sigmoid(i) * torch.tanh(z)
        return torch.sigmoid(o) * torch.tanh(new), new

    return step


for batch, d in ((1, 256), (16, 128), (16, 256), (16, 512), (64, 1024), (256, 256)):
    line(f"LSTM step B={batch} D={d}", lambda b=batch, d=d: ours_lstm(b, d), "memory" if batch < 16 else "compute", 1.2,
         torch=lambda b=batch, d=d: torch_lstm(b, d))

# Elementwise functions, and movements of elements.

MILLION = 1 << 20


@tl.jit
def gelu(x: tl.f32["N"], y: tl.f32["N"], B: int = 1024) -> None:
    i = tl.grid(tl.cdiv(x.shape[0], B)) * B
    v = tl.load(x, i, (B,))
    tl.store(y, i, 0.5 * v * (1 + tl.erf(v * 0.7071067811865476)))


def elementwise(function: Callable[..., Any]) -> Any:
    @tl.jit
    def apply(x: tl.f32["N"], y: tl.f32["N"], B: int = 1024) -> None:
        i = tl.grid(tl.cdiv(x.shape[0], B)) * B
        tl.store(y, i, function(tl.load(x, i, (B,))))

    return apply


def ours_elementwise(kernel: Any) -> Thunk:
    x = np.abs(normal(MILLION))
    y = np.zeros_like(x)
    return lambda: kernel(x, y)


def torch_elementwise(function: Callable[..., Any]) -> Thunk:
    import torch

    x = tensor(np.abs(normal(MILLION)))
    y = torch.empty_like(x)
    return lambda: function(x, out=y)


def torch_gelu() -> Thunk:
    import torch

    x = tensor(np.abs(normal(MILLION)))
    y = torch.empty_like(x)
    return lambda: torch.ops.aten.gelu.out(x, out=y)


line("gelu (erf) 1 M", lambda: ours_elementwise(gelu), torch=torch_gelu)
for name in ("exp", "tanh", "erf", "sin", "log1p", "sigmoid", "rsqrt"):
    line(f"{name} 1 M", lambda name=name: ours_elementwise(elementwise(getattr(tl, name))),
         torch=lambda name=name: torch_elementwise(getattr(__import__("torch"), name)))


def ours_vector_add(n: int) -> Thunk:
    from kernels_zoo.elementwise.vector_add import vector_add

    x, y, z = normal(n), normal(n), np.zeros(n, np.float32)
    return lambda: vector_add(x, y, z)


def numpy_vector_add(n: int) -> Thunk:
    x, y, z = normal(n), normal(n), np.zeros(n, np.float32)
    return lambda: np.add(x, y, out=z)


def torch_vector_add(n: int) -> Thunk:
    import torch

    x, y, z = tensor(normal(n)), tensor(normal(n)), torch.empty(n)
    return lambda: torch.add(x, y, out=z)


for count, name in ((1 << 24, "16.8 M"), (MILLION, "1 M"), (10000, "10,000"), (100, "100")):
    line(f"vector add {name}", lambda n=count: ours_vector_add(n), "memory" if count > 10000 else "call",
         numpy=lambda n=count: numpy_vector_add(n), torch=lambda n=count: torch_vector_add(n))


def ours_transpose(m: int, n: int) -> Thunk:
    from kernels_zoo.data_movement.transpose import transpose

    x, y = normal(m, n), np.zeros((n, m), np.float32)
    return lambda: transpose(x, y)


def numpy_transpose(m: int, n: int) -> Thunk:
    x, y = normal(m, n), np.zeros((n, m), np.float32)
    return lambda: np.copyto(y, x.T)


def torch_transpose(m: int, n: int) -> Thunk:
    import torch

    x, y = tensor(normal(m, n)), torch.empty(n, m)
    return lambda: y.copy_(x.T)


for shape in ((4096, 4096), (1000, 3), (100000, 3)):
    line(f"transpose {shape[0]}x{shape[1]}", lambda s=shape: ours_transpose(*s), "call" if shape[0] == 1000 else
         "memory", numpy=lambda s=shape: numpy_transpose(*s), torch=lambda s=shape: torch_transpose(*s))


@tl.jit
def gather_rows(x: tl.f32["M", "N"], index: tl.i64["R"], y: tl.f32["R", "N"], BR: int = 32, BN: int = 128) -> None:
    i, j = tl.grid(tl.cdiv(index.shape[0], BR), tl.cdiv(x.shape[1], BN))
    rows = tl.load(index, i * BR, (BR,))
    columns = j * BN + tl.arange(0, BN)
    tl.store(y, (i * BR, j * BN), tl.gather(x, (rows[:, None], columns[None, :])))


def row_numbers() -> Any:
    return np.random.default_rng(1).integers(0, 50000, 20000)


def ours_gather() -> Thunk:
    x, index, y = normal(50000, 128), row_numbers(), np.zeros((20000, 128), np.float32)
    return lambda: gather_rows(x, index, y)


def numpy_gather() -> Thunk:
    x, index, y = normal(50000, 128), row_numbers(), np.zeros((20000, 128), np.float32)
    return lambda: np.take(x, index, axis=0, out=y, mode="clip")


def torch_gather() -> Thunk:
    import torch

    x, index, y = tensor(normal(50000, 128)), tensor(row_numbers()), torch.empty(20000, 128)
    return lambda: torch.index_select(x, 0, index, out=y)


line("gather of 20000 rows of 128", ours_gather, numpy=numpy_gather, torch=torch_gather)


@tl.jit
def halved(x: tl.u8["N"], y: tl.f32["N"], B: int = 1024) -> None:
    i = tl.grid(tl.cdiv(x.shape[0], B)) * B
    tl.store(y, i, tl.load(x, i, (B,)).to(tl.f32) * 0.5)


def bytes_of(n: int) -> Any:
    return np.random.default_rng(0).integers(0, 256, n).astype(np.uint8)


def ours_halved() -> Thunk:
    x, y = bytes_of(1 << 22), np.zeros(1 << 22, np.float32)
    return lambda: halved(x, y)


def numpy_halved() -> Thunk:
    x, y = bytes_of(1 << 22), np.zeros(1 << 22, np.float32)
    return lambda: np.multiply(x, np.float32(0.5), out=y, dtype=np.float32, casting="unsafe")


def torch_halved() -> Thunk:
    x = tensor(bytes_of(1 << 22))
    return lambda: x * 0.5


line("u8 to f32, halved, 4 M", ours_halved, numpy=numpy_halved, torch=torch_halved)


@tl.jit
def histogram(x: tl.i32["N"], counts: tl.i32["K"], B: int = 1024) -> None:
    i = tl.grid(tl.cdiv(x.shape[0], B)) * B
    at = tl.load(x, i, (B,))
    inside = i + tl.arange(0, B) < x.shape[0]
    tl.atomic_add(counts, at, tl.full((B,), 1, tl.i32), mask=inside)


def ours_histogram() -> Thunk:
    x, counts = np.random.default_rng(0).integers(0, 256, 1 << 22).astype(np.int32), np.zeros(256, np.int32)
    return lambda: histogram(x, counts)


def numpy_histogram() -> Thunk:
    x = np.random.default_rng(0).integers(0, 256, 1 << 22).astype(np.int32)
    return lambda: np.bincount(x, minlength=256)


def torch_histogram() -> Thunk:
    import torch

    x = tensor(np.random.default_rng(0).integers(0, 256, 1 << 22).astype(np.int32))
    return lambda: torch.bincount(x, minlength=256)


line("histogram of 4 M", ours_histogram, numpy=numpy_histogram, torch=torch_histogram)


@tl.jit
def stencil(x: tl.f32["M", "N"], y: tl.f32["M", "N"], BM: int = 32, BN: int = 128) -> None:
    i, j = tl.grid(tl.cdiv(x.shape[0], BM), tl.cdiv(x.shape[1], BN))
    r, c = i * BM, j * BN
    total = tl.load(x, (r, c), (BM, BN)) * -4.0
    for dr, dc in ((-1, 0), (1, 0), (0, -1), (0, 1)):
        total += tl.load(x, (r + dr, c + dc), (BM, BN))
    tl.store(y, (r, c), total)


def ours_stencil() -> Thunk:
    x = normal(4096, 4096)
    y = np.zeros_like(x)
    return lambda: stencil(x, y)


def numpy_stencil() -> Thunk:
    x = normal(4096, 4096)
    y = np.zeros_like(x)

    def run() -> None:
        np.multiply(x, np.float32(-4), out=y)
        y[1:] += x[:-1]
        y[:-1] += x[1:]
        y[:, 1:] += x[:, :-1]
        y[:, :-1] += x[:, 1:]

    return run


def torch_stencil() -> Thunk:
    import torch

    x = tensor(normal(4096, 4096))[None, None]
    kernel = torch.tensor([[0.0, 1, 0], [1, -4, 1], [0, 1, 0]])[None, None]
    return lambda: torch.nn.functional.conv2d(x, kernel, padding=1)


line("stencil of 5 points 4096x4096", ours_stencil, numpy=numpy_stencil, torch=torch_stencil)

# Fused functions.


@tl.fuse
def fused_softmax(x):
    e = tl.exp(x - tl.max(x, axis=-1, keepdims=True))
    return e / tl.sum(e, axis=-1, keepdims=True)


@tl.fuse
def fused_mlp(x, w, bias):
    return tl.relu(x @ w + bias)


@tl.fuse
def fused_batch_norm(x, scale, shift):
    return tl.relu(x * scale[:, None, None] + shift[:, None, None])


@tl.fuse
def fused_mean_square(x, y):
    d = x - y
    return tl.mean(d * d)


def ours_fused(function: Any, *arrays: Any) -> Thunk:
    return lambda: function(*arrays)


line("fused softmax 16x16384", lambda: ours_fused(fused_softmax, normal(16, 16384)),
     torch=lambda: torch_softmax((16, 16384)))
for rows in (1, 256):
    line(f"fused MLP layer {rows}x1024x1024",
         lambda m=rows: ours_fused(fused_mlp, normal(m, 1024), normal(1024, 1024), normal(1024)),
         "compute" if rows > 1 else "memory", torch=lambda m=rows: torch_mlp(m))


def torch_mlp(m: int) -> Thunk:
    import torch

    x, w, bias = tensor(normal(m, 1024)), tensor(normal(1024, 1024)), tensor(normal(1024))
    return lambda: torch.relu(torch.addmm(bias, x, w))


def torch_batch_norm(*shape: int) -> Thunk:
    x, s = tensor(normal(*shape)), tensor(normal(shape[1]))
    return lambda: (x * s[:, None, None] + s[:, None, None]).relu_()


def torch_mean_square(n: int) -> Thunk:
    import torch

    x, y = tensor(normal(n)), tensor(normal(n))
    return lambda: torch.nn.functional.mse_loss(x, y)


for shape in ((32, 512, 7, 7), (4, 64, 56, 56)):
    line(f"fused batch norm, ReLU {'x'.join(map(str, shape))}",
         lambda s=shape: ours_fused(fused_batch_norm, normal(*s), normal(s[1]), normal(s[1])),
         torch=lambda s=shape: torch_batch_norm(*s))
line("fused mean square of 4 M differences", lambda: ours_fused(fused_mean_square, normal(1 << 22), normal(1 << 22)),
     torch=lambda: torch_mean_square(1 << 22))
