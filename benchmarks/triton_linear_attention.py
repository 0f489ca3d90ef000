"""Triton's kernels of linear attention in the package flash-linear-attention, compiled for sm_80 without a GPU.

Run by the peer's Python: ``triton_linear_attention.py DIR`` writes the cubins of :func:`kernels` into DIR, of bf16, for
lengths of any kind, arrays aligned to 16 bytes, and the package's tiles: chunks of 64 tokens, and of the sizes that its
tuner chooses from those that are closest to the zoo's.
"""

import sys
from pathlib import Path
from typing import Any

import triton
from fla.ops.common import chunk_h, chunk_o, fused_chunk
from fla.ops.gla import chunk as gla
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.runtime import JITFunction

FLOATS = frozenset({"g", "gk", "gv", "g_gamma", "h0", "ht", "dht", "dh0", "dg", "dA"})
"""Arrays of f32; others are bf16."""
COMMON = {"B": 4, "H": 8, "HV": 8, "HQ": 8, "NG": 1, "BT": 64, "BS": 64, "BC": 16, "NC": 4, "NV": 1}
"""Constants of all kernels; those that a kernel does not name are 0 or False."""


def kernels(d: int) -> dict[str, tuple[Any, dict[str, Any], set[str]]]:
    """By name, a kernel, its constants beside the common ones, and the optional arrays that it is given."""
    wide, tile, final = {"BK": d, "BV": 32}, {"BK": min(d, 64), "BV": min(d, 64)}, {"STORE_FINAL_STATE": True}
    by_head, by_token, by_channel = ({name: True} for name in ("USE_G_GAMMA", "USE_G", "USE_GK"))
    small, fused = {"BK": 32, "BV": 32}, fused_chunk.fused_chunk_fwd_kernel
    return {
        "fused_head": (fused, {**tile, "BV": 32, **by_head, **final}, {"g_gamma", "ht"}),
        "fused_token": (fused, {**tile, "BV": 32, **by_token, **final}, {"g", "ht"}),
        "fused_head_32": (fused, {**wide, "BT": 32, **by_head, **final}, {"g_gamma", "ht"}),
        "fused_token_32": (fused, {**wide, "BT": 32, **by_token, **final}, {"g", "ht"}),
        "fused_head_backward": (fused_chunk.fused_chunk_bwd_kernel, {**tile, **by_head}, {"g_gamma"}),
        "fused_token_backward": (fused_chunk.fused_chunk_bwd_kernel, {**tile, **by_token}, {"g", "dg"}),
        "head_dqk": (chunk_o.chunk_bwd_kernel_dqkwg, {**tile, **by_head}, {"g_gamma"}),
        "token_dqk": (chunk_o.chunk_bwd_kernel_dqkwg, {**tile, **by_token}, {"g", "dg"}),
        "gla_scores": (gla.chunk_gla_fwd_A_kernel_intra_sub_inter, {"BK": 64}, {"g"}),
        "gla_states": (chunk_h.chunk_fwd_kernel_h, {**small, **by_channel, **final}, {"gk", "ht"}),
        "gla_outputs": (gla.chunk_gla_fwd_kernel_o, {"BK": 64, "BV": 64}, {"g"}),
        "gla_dqk_intra": (gla.chunk_gla_bwd_kernel_intra, {"BK": min(d, 64)}, {"g"}),
        "gla_dqk_inter": (gla.chunk_gla_bwd_kernel_inter, small, {"g", "dg"}),
        "gla_dv": (gla.chunk_gla_bwd_kernel_dv, small, {"g"}),
    }


OPTIONAL = frozenset({"g", "g_gamma", "gk", "gv", "h0", "ht", "dht", "dh0", "dg", "dw", "cu_seqlens", "chunk_indices",
                      "split_offsets"})


def function(kernel: Any) -> Any:
    """The function within tuners and heuristics."""
    while not isinstance(kernel, JITFunction):
        kernel = kernel.fn
    return kernel


def typed(name: str) -> str:
    if name in ("T", "scale"):
        return {"T": "i32", "scale": "fp32"}[name]
    return "*fp32" if name in FLOATS else "*bf16"


def compile_into(folder: Path, d: int) -> None:
    for name, (kernel, constants, given) in kernels(d).items():
        fn = function(kernel)
        values = {**COMMON, "K": d, "V": d, **constants}
        scores = {"A": "*fp32" if name == "gla_scores" else "*bf16"}
        signature, fixed = {}, {}
        for p in fn.params:
            absent = p.name in OPTIONAL and p.name not in given
            if p.is_constexpr or absent:
                signature[p.name], fixed[p.name] = "constexpr", None if absent else values.get(p.name, False)
            else:
                signature[p.name] = scores.get(p.name, typed(p.name))
        aligned = {(i,): [["tt.divisibility", 16]] for i, n in enumerate(signature) if signature[n].startswith("*")}
        source = ASTSource(fn=fn, signature=signature, constexprs=fixed, attrs=aligned)
        compiled = triton.compile(source, target=GPUTarget("cuda", 80, 32), options={"num_warps": 4, "num_stages": 2})
        (folder / f"{name}_d{d}.cubin").write_bytes(compiled.asm["cubin"])


if __name__ == "__main__":
    for d in (64, 128):
        compile_into(Path(sys.argv[1]), d)
