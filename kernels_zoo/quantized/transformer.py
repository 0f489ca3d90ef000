"""A small decoder whose linear layers are quantised: weights as `tilus quantize` writes them, kernels of the zoo.

Each layer is x += attention(norm(x)) and x += mlp(norm(x)), with RMSNorm, causal attention over heads, and a gated
feed-forward layer of two launches; x is f32, what is multiplied f16.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import tilus as tl
from kernels_zoo.attention.flash_attention import flash_attention_forward
from kernels_zoo.checking import Array, wide
from kernels_zoo.normalization.rms_norm import rms_norm
from kernels_zoo.quantized import mlp
from kernels_zoo.quantized.matmul import Weights, multiply

PROJECTIONS = ("q", "k", "v", "o", "gate", "up", "down")


@dataclass(frozen=True)
class Shape:
    """Extents of a model."""

    layers: int = 4
    width: int = 256
    heads: int = 4
    hidden: int = 512
    vocabulary: int = 128


def random_weights(shape: Shape, seed: int = 0) -> dict[str, Array]:
    """Weights of linear layers as (k, n), f32, whose columns hang together; embeddings and norms."""
    import numpy as np

    rng = np.random.default_rng(seed)
    d, found = shape.width, {"embedding": rng.standard_normal((shape.vocabulary, shape.width)).astype(np.float32)}
    extents = {"gate": (d, shape.hidden), "up": (d, shape.hidden), "down": (shape.hidden, d)}

    def matrix(k: int, n: int) -> Array:
        base = rng.standard_normal((k, max(1, n // 8))) @ rng.standard_normal((max(1, n // 8), n)) / (n / 8) ** 0.5
        return np.asarray(((base + rng.standard_normal((k, n))) * (0.5 / k) ** 0.5).astype(np.float32))

    for layer in range(shape.layers):
        for name in PROJECTIONS:
            found[f"layers.{layer}.{name}"] = matrix(*extents.get(name, (d, d)))
        for norm in ("attention_norm", "mlp_norm"):
            found[f"layers.{layer}.{norm}"] = rng.uniform(0.8, 1.2, d).astype(np.float32)
    found["norm"] = rng.uniform(0.8, 1.2, d).astype(np.float32)
    found["head"] = matrix(d, shape.vocabulary)
    return found


class Decoder:
    """The model of a file of weights."""

    def __init__(self, weights: Mapping[str, Any], shape: Shape, target: str | None = "cpu") -> None:
        """``weights`` is what ``tl.load_weights`` gives, of names as in ``random_weights``, with quantised matrices."""
        self.weights, self.shape = weights, shape
        self.linear = {name: Weights(q, target) for name, q in weights.items() if isinstance(q, tl.Quantized)}
        self.mlps = []
        for n in range(shape.layers):
            gate, up, down = (weights[f"layers.{n}.{part}"] for part in ("gate", "up", "down"))
            self.mlps.append(mlp.Mlp(gate, up, down, target))

    def logits(self, ids: Array) -> Array:
        """Of each position of a sequence, f32 (S, vocabulary)."""
        import numpy as np

        x = np.ascontiguousarray(self.weights["embedding"][ids])
        hidden = np.empty((len(ids), self.shape.hidden), np.float16)
        for n in range(self.shape.layers):
            x += self._attention(n, self._norm(x, f"layers.{n}.attention_norm"))
            y = np.empty_like(x)
            mlp.forward(self._norm(x, f"layers.{n}.mlp_norm"), self.mlps[n], hidden, y)
            x += y
        return self._product("head", self._norm(x, "norm"), np.float32)

    def _norm(self, x: Array, name: str) -> Array:
        import numpy as np

        y = np.empty(x.shape, np.float16)
        rms_norm(x, self.weights[name], y)
        return y

    def _product(self, name: str, x: Array, dtype: Any) -> Array:
        import numpy as np

        weights = self.linear[name]
        y = np.empty((len(x), weights.shape[1]), dtype)
        multiply(x, weights, y)
        return y

    def _attention(self, layer: int, x: Array) -> Array:
        import numpy as np

        rows, heads = len(x), self.shape.heads
        q, k, v = (self._product(f"layers.{layer}.{part}", x, np.float16).reshape(1, rows, heads, -1)
                   for part in ("q", "k", "v"))
        out, lse = np.empty_like(q), np.empty((1, heads, rows), np.float32)
        flash_attention_forward(q, k, v, out, lse, D=q.shape[3], causal=True)
        return self._product(f"layers.{layer}.o", out.reshape(rows, -1), np.float32)


def reference_logits(weights: Mapping[str, Array], shape: Shape, ids: Array) -> Array:
    """The same in f64, of dense weights."""
    import numpy as np

    def norm(x: Array, name: str) -> Array:
        return np.asarray(x / np.sqrt((x * x).mean(axis=1, keepdims=True) + 1e-6) * wide(weights[name]))

    x = wide(weights["embedding"])[ids]
    rows, heads = len(ids), shape.heads
    for n in range(shape.layers):
        own = {part: wide(weights[f"layers.{n}.{part}"]) for part in PROJECTIONS}
        u = norm(x, f"layers.{n}.attention_norm")
        q, k, v = ((u @ own[part]).reshape(rows, heads, -1).transpose(1, 0, 2) for part in ("q", "k", "v"))
        scores = q @ k.transpose(0, 2, 1) / q.shape[2] ** 0.5 + np.triu(np.full((rows, rows), -np.inf), 1)
        p = np.exp(scores - scores.max(axis=-1, keepdims=True))
        x = x + ((p / p.sum(axis=-1, keepdims=True)) @ v).transpose(1, 0, 2).reshape(rows, -1) @ own["o"]
        u = norm(x, f"layers.{n}.mlp_norm")
        gate = u @ own["gate"]
        x = x + (gate / (1 + np.exp(-gate)) * (u @ own["up"])) @ own["down"]
    return np.asarray(norm(x, "norm") @ wide(weights["head"]))


def main() -> None:
    import numpy as np

    shape = Shape()
    dense = random_weights(shape)
    linear = {name for name in dense if name == "head" or name.rpartition(".")[2] in PROJECTIONS}
    ids = np.random.default_rng(1).integers(0, shape.vocabulary, 40)
    weights = {name: tl.quantize(w, tl.u4, group=64) if name in linear else w for name, w in dense.items()}
    numbers = {name: tl.dequantize(w) if isinstance(w, tl.Quantized) else w for name, w in weights.items()}
    found, expected = Decoder(weights, shape).logits(ids), reference_logits(numbers, shape, ids)
    error = np.linalg.norm(found - expected) / np.linalg.norm(expected)
    print(f"decoder of {shape.layers} layers, u4: relative error of logits {error:.1e}")
    if error > 5e-3:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
