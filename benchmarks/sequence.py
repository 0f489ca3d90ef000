"""The sequence kernels of the zoo: on the CPU against PyTorch and each other, and their loops on GPUs.

    python -m benchmarks.sequence [--threads 1 2] [--only TEXT] [--rounds 3]
    python -m benchmarks.sequence --memory | --sass | --spills [--via cuda] [--only TEXT]

By default, ratios of times, above 1 where ours is less than the peer's; the peer is PyTorch (2.13 was used), or the
kernel of ours that the name says. ``--memory`` prints what forward and backward take beyond their arrays,
``--sass`` instructions of the main loops on sm_80, ``--spills`` what default tiles spill on each target.
"""

from __future__ import annotations

import argparse
import itertools
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

import tilus as tl
from benchmarks.cpu import Side, compare
from benchmarks.cpu_lines import Line, Thunk, bfloat16, normal, ours_attention, tensor, torch_attention

LINES: list[Line] = []
LIGHTNING_SIZES = (4096, 8192, 16384, 32768)
HEAD_DIMENSIONS = (32, 40, 59, 64, 80, 96, 111, 128, 160, 192, 224, 256)
TARGETS = ("sm_75", "sm_80", "sm_86", "sm_89", "sm_90a", "sm_100a", "sm_120a")


def line(name: str, ours: Callable[[], Thunk], bar: float, **peers: Callable[[], Thunk]) -> None:
    LINES.append(Line(name, ours, "compute", bar, **peers))


# Attention, forward: (batch, queries, keys, heads, kv_heads, d).


def of_type(x: Any, half: bool) -> Any:
    return x.astype(bfloat16()) if half else x


def ours_forward(length: int, causal: bool, half: bool) -> Thunk:
    from kernels_zoo.attention.flash_attention import flash_attention_forward

    q, k, v = (of_type(normal(1, length, 8, 64), half) for _ in range(3))
    o, lse = np.zeros_like(q), np.zeros((1, 8, length), np.float32)
    return lambda: flash_attention_forward(q, k, v, o, lse, D=64, causal=causal)


for length, causal in itertools.product((1024, 4096), (False, True)):
    shape, note = (1, length, length, 8, 8, 64), ", causal" * causal
    line(f"attention forward f32 1x8x{length}x64{note}", lambda s=shape, c=causal: ours_attention(*s, c),
         1.4 if causal else 1.1, torch=lambda s=shape, c=causal: torch_attention(*s, c))
    line(f"attention forward bf16 1x8x{length}x64{note}, of f32",
         lambda n=length, c=causal: ours_forward(n, c, True), 1.0,
         f32=lambda n=length, c=causal: ours_forward(n, c, False))


# Attention, backward.


def ours_backward(length: int, causal: bool) -> Thunk:
    from kernels_zoo.attention.flash_attention import flash_attention
    from kernels_zoo.attention.flash_attention_backward import flash_attention_backward
    from kernels_zoo.attention.forms import Form

    form = Form(causal=causal)
    q, k, v, do = (normal(1, length, 8, 64) for _ in range(4))
    o, lse = flash_attention(q, k, v, form)
    return lambda: flash_attention_backward(q, k, v, o, lse, do, form)


def torch_backward(length: int, causal: bool) -> Thunk:
    import torch

    q, k, v, do = (tensor(normal(1, 8, length, 64)) for _ in range(4))
    inputs = [x.requires_grad_() for x in (q, k, v)]
    out = torch.nn.functional.scaled_dot_product_attention(*inputs, is_causal=causal)
    return lambda: torch.autograd.grad(out, inputs, do, retain_graph=True)


for length, causal in itertools.product((1024, 4096), (False, True)):
    line(f"attention backward f32 1x8x{length}x64{', causal' * causal}", lambda n=length, c=causal: ours_backward(n, c),
         1.0, torch=lambda n=length, c=causal: torch_backward(n, c))


# Decoding: one query of 32 heads. Rows of heads lie side by side in caches, and one head after another in PyTorch.


def cached(kv_heads: int, d: int, by_heads: bool) -> Any:
    """Keys or values (B, S, H, D)."""
    return normal(1, kv_heads, 8192, d).swapaxes(1, 2) if by_heads else normal(1, 8192, kv_heads, d)


def ours_decoding(kv_heads: int, d: int, by_heads: bool, half: bool = False) -> Thunk:
    from kernels_zoo.attention.cache import Cache
    from kernels_zoo.attention.decoding import decode

    q, (k, v) = of_type(normal(1, 1, 32, d), half), (of_type(cached(kv_heads, d, by_heads), half) for _ in range(2))
    cache, slots = Cache(k, v, np.array([8192], np.int32)), tl.get_num_threads()
    return lambda: decode(q, cache, slots=slots)


def torch_decoding(kv_heads: int, d: int, by_heads: bool) -> Thunk:
    import torch

    q, (k, v) = tensor(normal(1, 32, 1, d)), (tensor(cached(kv_heads, d, by_heads)).transpose(1, 2) for _ in range(2))
    attention = torch.nn.functional.scaled_dot_product_attention
    return lambda: attention(q, k, v, enable_gqa=kv_heads != 32)


def ours_latent(half: bool = False) -> Thunk:
    from kernels_zoo.attention.latent_attention import LatentCache, latent_attention

    shapes = (1, 1, 32, 512), (1, 1, 32, 64), (1, 8192, 512), (1, 8192, 64)
    q, q_rope, c, rope = (of_type(normal(*shape), half) for shape in shapes)
    cache, slots = LatentCache(c, rope, np.array([8192], np.int32)), tl.get_num_threads()
    return lambda: latent_attention(q, q_rope, cache, 192**-0.5, slots=slots)


def torch_latent() -> Thunk:
    import torch

    q, k = (tensor(normal(*s)) for s in ((1, 1, 32, 576), (1, 1, 8192, 576)))
    return lambda: torch.nn.functional.scaled_dot_product_attention(q, k, k[..., :512], scale=192**-0.5)


for kv_heads, d in ((32, 64), (32, 128), (8, 128)):
    for by_heads in (False, True):
        name = f"1x8192, 32 heads, {kv_heads} of keys, d {d}{', by heads' * by_heads}"
        given = kv_heads, d, by_heads
        line(f"decoding f32 {name}", lambda a=given: ours_decoding(*a), 1.5, torch=lambda a=given: torch_decoding(*a))
    line(f"decoding bf16 1x8192, 32 heads, {kv_heads} of keys, d {d}, of f32",
         lambda h=kv_heads, d=d: ours_decoding(h, d, False, True), 1.0,
         f32=lambda h=kv_heads, d=d: ours_decoding(h, d, False))
line("decoding f32 1x8192, 32 heads, latent 512 + 64", ours_latent, 1.5, torch=torch_latent)


# Linear attention.


def ours_lightning(length: int) -> Thunk:
    from kernels_zoo.linear_attention.lightning import lightning_attention, slopes

    q, k, v = (normal(1, 2, length, 64) for _ in range(3))
    slope, o = slopes(2), np.zeros_like(v)
    return lambda: lightning_attention(q, k, v, slope, o, None, None, D=64, E=64)


def ours_quadratic(length: int) -> Thunk:
    from kernels_zoo.linear_attention.lightning import slopes
    from kernels_zoo.linear_attention.lightning_quadratic import lightning_attention_quadratic

    q, k, v = (normal(1, 2, length, 64) for _ in range(3))
    slope, o = slopes(2), np.zeros_like(v)
    return lambda: lightning_attention_quadratic(q, k, v, slope, o, D=64, E=64)


def ours_gated(length: int, scalar: bool) -> Thunk:
    from kernels_zoo.linear_attention.gated_linear_attention import gated_linear_attention
    from kernels_zoo.linear_attention.scalar_gated_attention import scalar_gated_attention

    q, k, v, g = (normal(1, 2, length, 64) for _ in range(4))
    g = -np.log1p(np.exp(-g[..., 0]))
    if scalar:
        return lambda: scalar_gated_attention(q, k, v, g)
    return lambda: gated_linear_attention(q, k, v, np.broadcast_to(g[..., None], q.shape))


for length in LIGHTNING_SIZES:
    line(f"lightning f32 1x2x{length}x64, of causal flash attention", lambda n=length: ours_lightning(n),
         8.0 if length == 32768 else 0.0, flash=lambda n=length: ours_attention(1, n, n, 2, 2, 64, True))
line("lightning f32 1x2x1024x64, of its quadratic form", lambda: ours_lightning(1024), 0.0,
     quadratic=lambda: ours_quadratic(1024))
line("one gate a token f32 1x2x4096x64, of one an element", lambda: ours_gated(4096, True), 0.0,
     gated=lambda: ours_gated(4096, False))


def print_ratios(options: argparse.Namespace) -> None:
    for threads in options.threads:
        ours, peers = (Side(side, threads, lines="benchmarks.sequence") for side in ("ours", "peers"))
        print(f"{'':62}{'threads':>8}{'ours ms':>11}{'peer ms':>11}  {'peer':10}{'ratio':>7}{'bar':>6}")
        for number, made in enumerate(LINES):
            if options.only not in made.name:
                continue
            mine, name, other = compare(ours, peers, number, list(made.peers), options.rounds)
            ratio, bar = other / mine, f"{made.bar:6.2f}" if made.bar else "      "
            print(f"{made.name:62}{threads:8}{1e3 * mine:11.4f}{1e3 * other:11.4f}  {name:10}{ratio:7.2f}{bar}"
                  f"{'  *' if ratio < made.bar else ''}", flush=True)
        ours.close()
        peers.close()


# Memory.


def beyond_arrays(part: str, length: int) -> int:
    """Bytes that a pass of f32 attention, 1×1×length×64, takes beyond its inputs and outputs, at their peak."""
    from kernels_zoo.attention.flash_attention import flash_attention
    from kernels_zoo.attention.flash_attention_backward import flash_attention_backward

    def operands(n: int) -> tuple[Any, ...]:
        q, k, v, do = (normal(1, n, 1, 64) for _ in range(4))
        o, lse = np.ones_like(q), np.ones((1, 1, n), np.float32)
        return (q, k, v) if part == "forward" else (q, k, v, o, lse, do)

    run: Any = flash_attention if part == "forward" else flash_attention_backward
    run(*operands(256))                                            # compiles, and starts threads
    arguments = operands(length)
    before = resident("VmRSS")
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")                                            # the peak is counted anew
    results = run(*arguments)
    return resident("VmHWM") - before - sum(x.nbytes for x in results)


def resident(name: str) -> int:
    with open("/proc/self/status") as file:
        return next(1024 * int(text.split()[1]) for text in file if text.startswith(name))


def print_memory() -> None:
    for part in ("forward", "backward"):
        for length in (8192, 16384, 32768):
            command = [sys.executable, "-m", "benchmarks.sequence", "--beyond", part, str(length)]
            found = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            print(f"attention {part} f32 1x1x{length}x64: {found / 2**20:8.2f} MiB beyond its arrays, "
                  f"{found / length:6.0f} bytes a token; a matrix of scores has {4 * length**2 / 2**20:8.1f} MiB",
                  flush=True)


# GPUs.


def print_code() -> None:
    from benchmarks.gpu_code import main_loop
    from tilus.runtime.toolchains.binutils import disassemble

    print(f"{'main loop on sm_80':46}{'route':>7}{'registers':>11}{'spilled':>9}{'a tile':>9}{'per MMA':>9}{'bar':>6}")
    for name, kernel, constants, per_tile in [*attention_loops(), *linear_loops()]:
        for via in ("cuda", "ptx"):
            compiled = kernel.compile(target="sm_80", via=via, **constants)
            loop = main_loop(disassemble(compiled.cubin))
            assert loop is not None, name
            tiles = loop.matrix / per_tile if per_tile else 1.0
            bar = next((b for start, b in BARS.items() if name.startswith(start)), None)
            print(f"{name:46}{via:>7}{compiled.metadata['registers']:11}{compiled.metadata['spill_stores']:9}"
                  f"{loop.total / tiles:9.1f}{loop.total / loop.matrix:9.2f}{bar or '':>6}"
                  f"{'  *' if bar and loop.total / tiles > bar else ''}", flush=True)


BARS = {"attention d64": 580, "attention d128": 500}
"""The most instructions of a tile of keys that are asked for."""


def attention_loops() -> list[tuple[str, Any, dict[str, Any], int]]:
    """Name, kernel, constants, and the tensor-core instructions of one tile."""
    from kernels_zoo.attention.flash_attention import flash_attention_forward
    from kernels_zoo.attention.flash_attention_backward import attention_backward_keys, attention_backward_queries

    causal, wide = {"causal": True}, {"D": 128, "BM": 128, "warps": 8}
    return [
        ("attention d64, 128×64", flash_attention_forward, {}, 128),
        ("attention d64, 128×64, causal", flash_attention_forward, causal, 128),
        ("attention d128, 128×64, 8 warps", flash_attention_forward, wide, 128),
        ("attention d128, 128×64, 8 warps, causal", flash_attention_forward, wide | causal, 128),
        *(("backward keys " + name, attention_backward_keys, constants, 128) for name, constants in (
            ("d64, 64×64", {}), ("d64, 64×64, causal", causal), ("d128, 32×128", {"D": 128}),
            ("d128, 32×128, causal", {"D": 128, "causal": True, "group": 1}))),
        *(("backward queries " + name, attention_backward_queries, constants, 96) for name, constants in (
            ("d64, 128×32", {}), ("d64, 128×32, causal", causal), ("d128, 128×64", {"D": 128}),
            ("d128, 128×64, causal", {"D": 128, "causal": True}))),
    ]


def linear_loops() -> list[tuple[str, Any, dict[str, Any], int]]:
    """As :func:`attention_loops`; 0 where a loop's instructions are counted as they are."""
    from kernels_zoo.linear_attention.gated_linear_attention import gla_outputs
    from kernels_zoo.linear_attention.lightning import lightning_attention
    from kernels_zoo.linear_attention.lightning_quadratic import lightning_attention_quadratic
    from kernels_zoo.linear_attention.scalar_gated_attention import chunk_for, scalar_gated_outputs

    kernels = {"lightning": lightning_attention, "lightning, quadratic": lightning_attention_quadratic,
               "gated linear": gla_outputs, "one gate a token": scalar_gated_outputs}
    return [(f"{name} d{d}", kernel, {"D": d, "E": d, **({"C": chunk_for(d, 16)} if "gate a" in name else {})}, 0)
            for name, kernel in kernels.items() for d in (64, 128)]


def spilling(kernel: str, d: int, dtype: tl.DType) -> tuple[Any, dict[str, Any]]:
    """One of :data:`KERNELS` by name, and its constants for rows of ``d`` elements."""
    from kernels_zoo.attention import decoding, flash_attention
    from kernels_zoo.attention import flash_attention_backward as backward

    if kernel in ("forward", "decoding"):
        found = flash_attention.flash_attention_forward if kernel == "forward" else decoding.attention_split
        return found, dict.fromkeys("qkvo", dtype)
    types = dict.fromkeys(("q", "k", "v", "do"), dtype)
    if kernel == "queries":
        return backward.attention_backward_queries, {**types, "dq": dtype}
    sums: dict[str, Any] = {"dk": dtype, "dv": dtype}
    if d > backward.BOTH_SUMS:
        sums["dv" if kernel == "keys" else "dk"] = None
    return backward.attention_backward_keys, {**types, **sums, "group": 1}


KERNELS = ("forward", "decoding", "keys", "values", "queries")
"""Of attention; ``values`` are with ``keys`` where registers hold the sums of both."""


def print_spills(via: str, only: str) -> None:
    """Bytes of stores, with the tiles that the kernels choose; 0 is a point."""
    from kernels_zoo.attention.flash_attention_backward import BOTH_SUMS

    print(f"{'':30}" + "".join(f"{target:>9}" for target in TARGETS))
    for name, causal, dtype, d in itertools.product(KERNELS, (False, True), (tl.f16, tl.bf16), HEAD_DIMENSIONS):
        label = f"{name + ', causal' * causal:22}{dtype!s:4}{d:4}"
        if (name == "values" and d <= BOTH_SUMS) or only not in label:
            continue
        kernel, constants = spilling(name, d, dtype)
        found = [kernel.compile(target, via, D=d, causal=causal, **constants).metadata["spill_stores"]
                 for target in TARGETS]
        print(label + "".join(f"{n or '.':>9}" for n in found), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", help="lines whose names have this text")
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--sass", action="store_true")
    parser.add_argument("--spills", action="store_true")
    parser.add_argument("--via", choices=("ptx", "cuda"), default="ptx", help="the route of --spills")
    parser.add_argument("--beyond", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.beyond:
        print(beyond_arrays(options.beyond[0], int(options.beyond[1])))
    elif options.memory:
        print_memory()
    elif options.sass:
        print_code()
    elif options.spills:
        print_spills(options.via, options.only)
    else:
        print_ratios(options)


if __name__ == "__main__":
    main()
