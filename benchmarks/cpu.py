"""The CPU engine against NumPy with OpenBLAS and PyTorch: ratios of times, above 1 where tilus is faster.

Run ``python -m benchmarks.cpu [--peer-python PYTHON] [--threads 1 2]``. Each measurement runs in a process of its own,
on the given number of threads, tilus and its peer by turns, the best of several rounds each. ``--peer-python`` is a
Python that has torch (2.13 was used for the marks); without one only NumPy's lines appear.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

ROUNDS = 3
SIZE = 4096
Thunk = Callable[[], Any]


def best(run: Thunk, repeats: int = 10) -> float:
    """The least time of a call, in milliseconds, after two to warm up."""
    run()
    run()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return 1e3 * min(times)


def normal(*shape: int, dtype: Any = np.float32) -> Any:
    return np.random.default_rng(0).standard_normal(shape).astype(dtype)


# What is measured, by tilus.


def tilus_matmul(dtype: Any = np.float32) -> Thunk:
    from kernels_zoo.gemm.matmul import matmul

    a, b, c = normal(1024, 1024, dtype=dtype), normal(1024, 1024, dtype=dtype), np.zeros((1024, 1024), dtype)
    return lambda: matmul(a, b, c)


def tilus_matmul_f16() -> Thunk:
    return tilus_matmul(np.float16)


def tilus_matmul_bf16() -> Thunk:
    import ml_dtypes

    return tilus_matmul(ml_dtypes.bfloat16)


def tilus_vector_add() -> Thunk:
    from kernels_zoo.elementwise.vector_add import vector_add

    x, y, z = normal(1 << 24), normal(1 << 24), np.zeros(1 << 24, np.float32)
    return lambda: vector_add(x, y, z)


def tilus_softmax() -> Thunk:
    from kernels_zoo.normalization.softmax import softmax

    x = normal(SIZE, SIZE)
    y = np.zeros_like(x)
    return lambda: softmax(x, y, BN=SIZE, fits=True)


def tilus_layer_norm() -> Thunk:
    from kernels_zoo.normalization.layer_norm import layer_norm

    x, w, b = normal(SIZE, SIZE), normal(SIZE), normal(SIZE)
    y = np.zeros_like(x)
    return lambda: layer_norm(x, w, b, y, BN=SIZE, fits=True)


def tilus_attention(causal: bool = False) -> Thunk:
    from kernels_zoo.attention.flash_attention import flash_attention_forward

    q, k, v = (normal(1, 1024, 8, 64) for _ in range(3))
    o, lse = np.zeros_like(q), np.zeros((1, 8, 1024), np.float32)
    return lambda: flash_attention_forward(q, k, v, o, lse, causal=causal)


def tilus_attention_causal() -> Thunk:
    return tilus_attention(True)


def tilus_lstm() -> Thunk:
    from kernels_zoo.rnn.lstm import lstm_step

    wx, r, bias = normal(16, 4, 1, 256), normal(4, 1, 256, 256), normal(4, 1, 256)
    h, c = normal(16, 1, 256), normal(16, 1, 256)
    h_out, c_out = np.zeros_like(h), np.zeros_like(c)
    return lambda: lstm_step(wx, r, bias, h, c, h_out, c_out)


# The peers.


def numpy_matmul() -> Thunk:
    a, b, c = normal(1024, 1024), normal(1024, 1024), np.zeros((1024, 1024), np.float32)
    return lambda: np.matmul(a, b, out=c)


def numpy_vector_add() -> Thunk:
    x, y, z = normal(1 << 24), normal(1 << 24), np.zeros(1 << 24, np.float32)
    return lambda: np.add(x, y, out=z)


def torch_softmax() -> Thunk:
    import torch

    x = torch.from_numpy(normal(SIZE, SIZE))
    y = torch.empty_like(x)
    return lambda: torch.softmax(x, 1, out=y)


def torch_layer_norm() -> Thunk:
    import torch

    x, w, b = (torch.from_numpy(normal(*s)) for s in ((SIZE, SIZE), (SIZE,), (SIZE,)))
    y, mean, rstd = torch.empty_like(x), torch.empty(SIZE, 1), torch.empty(SIZE, 1)
    return lambda: torch.ops.aten.native_layer_norm.out(x, (SIZE,), w, b, 1e-5, out0=y, out1=mean, out2=rstd)


def torch_attention(causal: bool = False) -> Thunk:
    import torch

    q, k, v = (torch.from_numpy(normal(1, 8, 1024, 64)) for _ in range(3))
    attention = torch.nn.functional.scaled_dot_product_attention
    return lambda: attention(q, k, v, is_causal=causal)


def torch_attention_causal() -> Thunk:
    return torch_attention(True)


def torch_lstm() -> Thunk:
    """One of 64 steps: the input's product is shared by all of them, as it is given to tilus's step."""
    import torch

    layer, x = torch.nn.LSTM(256, 256), torch.randn(64, 16, 256)
    torch.set_grad_enabled(False)
    return lambda: layer(x)


PAIRS: list[tuple[str, Callable[[], Thunk], Callable[[], Thunk], float]] = [
    ("f32 matmul 1024³ / OpenBLAS", tilus_matmul, numpy_matmul, 1.0),
    ("f16 matmul 1024³ / own f32", tilus_matmul_f16, tilus_matmul, 1.0),
    ("bf16 matmul 1024³ / own f32", tilus_matmul_bf16, tilus_matmul, 1.0),
    ("vector add 16.8 M / NumPy", tilus_vector_add, numpy_vector_add, 1.0),
    ("softmax 4096² / torch out=", tilus_softmax, torch_softmax, 1.0),
    ("layer norm 4096² / torch out=", tilus_layer_norm, torch_layer_norm, 1.0),
    ("attention 1×8×1024×64 / torch", tilus_attention, torch_attention, 1.0),
    ("attention, causal / torch", tilus_attention_causal, torch_attention_causal, 1.0),
    ("LSTM step B=16 H=256 / torch", tilus_lstm, torch_lstm, 64.0),
]


def worker(name: str, threads: int) -> None:
    """In a process of its own: print the best time of one function."""
    if name.startswith("torch"):
        import torch

        torch.set_num_threads(threads)
    elif name.startswith("tilus"):
        from tilus.runtime.cpu import set_num_threads

        set_num_threads(threads)
    make: Callable[[], Thunk] = globals()[name]
    print(json.dumps(best(make(), 200 if name.endswith("lstm") else 10)))


def measure(name: str, threads: int, python: str) -> float:
    environment = {k: v for k, v in os.environ.items() if k not in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")}
    environment["OPENBLAS_NUM_THREADS"] = environment["OMP_NUM_THREADS"] = str(threads)
    command = [python, __file__, "--worker", name, "--threads", str(threads)]
    if name.startswith("tilus"):
        command = [sys.executable, "-m", "benchmarks.cpu", *command[2:]]
    run = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    return float(json.loads(run.stdout.splitlines()[-1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peer-python", help="a Python with torch")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        worker(options.worker, options.threads[0])
        return
    print(f"{'':34}{'threads':>8}{'tilus ms':>10}{'peer ms':>10}{'ratio':>8}")
    for label, ours, peer, steps in PAIRS:
        if peer.__name__.startswith("torch") and not options.peer_python:
            continue
        python = options.peer_python if peer.__name__.startswith("torch") else sys.executable
        for threads in options.threads:
            times = [(measure(ours.__name__, threads, python), measure(peer.__name__, threads, python) / steps)
                     for _ in range(ROUNDS)]
            mine, theirs = (min(t[i] for t in times) for i in (0, 1))
            print(f"{label:34}{threads:8}{mine:10.3f}{theirs:10.3f}{theirs / mine:8.2f}", flush=True)


if __name__ == "__main__":
    main()
