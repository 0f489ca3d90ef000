"""Whole layers that torch runs as one operator in inference, said by smaller ones: what is around them can then be
fused with their parts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

aten = torch.ops.aten
LSTM = 2
"""The mode of oneDNN's recurrent layers that is an LSTM."""


def lstm(x: Tensor, w_x: Tensor, w_h: Tensor, b_x: Tensor, b_h: Tensor, h: Tensor, c: Tensor, reverse: bool,
         batch_sizes: Sequence[int], mode: int, hidden_size: int, num_layers: int, has_biases: bool,
         bidirectional: bool, batch_first: bool, train: bool) -> Any:
    """A layer of an LSTM over x (time, batch, width) step by step; the products of all inputs are one."""
    if mode != LSTM or train or batch_first or len(batch_sizes) > 0:
        return NotImplemented
    inputs = F.linear(x, w_x, b_x + b_h if has_biases else None)
    shape = h.shape
    h, c = (state.reshape(x.shape[1], hidden_size) for state in (h, c))
    found = []
    for step in reversed(inputs.unbind()) if reverse else inputs.unbind():
        i, f, g, o = (step + F.linear(h, w_h)).chunk(4, 1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(c)
        found.append(h)
    out = torch.stack(found[::-1] if reverse else found)
    return out, h.reshape(shape), c.reshape(shape), x.new_empty(0)


def attention(query: Tensor, key: Tensor, value: Tensor, embed_dim: int, num_head: int, qkv_weight: Tensor,
              qkv_bias: Tensor, proj_weight: Tensor, proj_bias: Tensor, mask: Tensor | None = None,
              need_weights: bool = True, average_attn_weights: bool = True, mask_type: int | None = None) -> Any:
    """Self-attention of rows (batch, time, width)."""
    if need_weights or mask is not None or query is not key or key is not value:
        return NotImplemented
    parts = F.linear(query, qkv_weight, qkv_bias).unflatten(-1, (3, num_head, -1)).permute(2, 0, 3, 1, 4)
    found = F.scaled_dot_product_attention(*parts.unbind())
    return F.linear(found.transpose(1, 2).flatten(2), proj_weight, proj_bias), None


def encoder(x: Tensor, embed_dim: int, num_heads: int, qkv_weight: Tensor, qkv_bias: Tensor, proj_weight: Tensor,
            proj_bias: Tensor, use_gelu: bool, norm_first: bool, eps: float, norm_weight_1: Tensor,
            norm_bias_1: Tensor, norm_weight_2: Tensor, norm_bias_2: Tensor, ffn_weight_1: Tensor, ffn_bias_1: Tensor,
            ffn_weight_2: Tensor, ffn_bias_2: Tensor, mask: Tensor | None = None, mask_type: int | None = None) -> Any:
    """A layer of a transformer's encoder in evaluation."""
    if mask is not None:
        return NotImplemented

    def attend(rows: Tensor) -> Any:
        return attention(rows, rows, rows, embed_dim, num_heads, qkv_weight, qkv_bias, proj_weight, proj_bias, None,
                         False)[0]

    def feed(rows: Tensor) -> Tensor:
        inner = F.linear(rows, ffn_weight_1, ffn_bias_1)
        return F.linear(F.gelu(inner) if use_gelu else F.relu(inner), ffn_weight_2, ffn_bias_2)

    def norm(rows: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return F.layer_norm(rows, (embed_dim,), weight, bias, eps)

    if norm_first:
        x = x + attend(norm(x, norm_weight_1, norm_bias_1))
        return x + feed(norm(x, norm_weight_2, norm_bias_2))
    x = norm(x + attend(x), norm_weight_1, norm_bias_1)
    return norm(x + feed(x), norm_weight_2, norm_bias_2)


def layers() -> dict[Any, Callable[..., Any]]:
    """The decompositions by operator; those that this version of torch lacks are passed over."""
    named: dict[str, Callable[..., Any]] = {"mkldnn_rnn_layer": lstm, "_native_multi_head_attention": attention,
             "_transformer_encoder_layer_fwd": encoder}
    return {getattr(aten, name).default: function for name, function in named.items() if hasattr(aten, name)}


__all__ = ["layers"]
