"""The peer's kernels by name."""

from triton_attention import forward
from triton_attention_backward import keys, queries
from triton_gemm import add_parts, convolution, epilogue, gathered_rows, masked_rows, matmul, split_k
from triton_memory import (
    add_rows,
    argmax_rows,
    converted,
    cross_entropy,
    elementwise,
    gather_rows,
    permute,
    plus_transposed,
    quotients,
    rotary_halves,
    rotary_pairs,
    scan_rows,
    scatter_rows,
    stencil,
    sum_columns,
    transpose,
)
from triton_row_wise import layer_norm, layer_norm_fits, softmax, softmax_fits, vector_add

__all__ = [
    "add_parts", "add_rows", "argmax_rows", "converted", "convolution", "cross_entropy", "elementwise", "epilogue",
    "forward", "gather_rows", "gathered_rows", "keys", "layer_norm", "layer_norm_fits", "masked_rows", "matmul",
    "permute", "plus_transposed", "queries", "quotients", "rotary_halves", "rotary_pairs", "scan_rows",
    "scatter_rows", "softmax", "softmax_fits", "split_k", "stencil", "sum_columns", "transpose", "vector_add",
]
