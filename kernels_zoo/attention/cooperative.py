"""Attention to a cache of which one part is in the host's memory and the other in a device's (FastAttention, Lin et
al., 2024): each engine attends to the part that it has, both at the same time, so that queries and outputs cross
between them instead of keys and values. The outputs are merged by their log-sum-exps, as splits of one cache are
(:mod:`decoding`).

Either part may be the earlier one of the sequences, and may be empty.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple

import tilus as tl
from kernels_zoo.attention import flash_attention
from kernels_zoo.attention.cache import Cache
from kernels_zoo.attention.decoding import MOST_SPLITS, attend_in_splits, attention_merge, splits_of
from kernels_zoo.attention.forms import Form
from kernels_zoo.checking import Array, normal, relative_error, wide

SHAPES = [(1, 1, 900, 100, 4, 2, 64), (2, 3, 0, 129, 4, 4, 64), (2, 3, 129, 0, 4, 1, 64), (1, 7, 65, 3, 2, 1, 59),
          (1, 2, 0, 0, 2, 2, 64)]
Convert = Callable[[Any], Any]


def same(x: Any) -> Any:
    return x


class Part(NamedTuple):
    """Keys and values that one engine has in its memory.

    ``put`` makes an array there of one of NumPy's, ``get`` the reverse: ``cupy.asarray`` and ``cupy.asnumpy`` for
    ``"cuda"``. ``slots`` blocks run there at once; 0: as many as this machine has processors (:func:`decoding.decode`).
    """

    cache: Cache
    engine: str = "cpu"
    put: Convert = same
    get: Convert = same
    slots: int = 0


@dataclass(frozen=True)
class BeforeOthers:
    """What queries see of keys that ``others[b]`` (B,) further ones follow."""

    causal: bool
    left: int

    def __call__(self, b: Any, h: Any, q_index: Any, k_index: Any, others: Any) -> Any:
        position = q_index + others[b]
        seen = k_index >= position - self.left if self.left >= 0 else k_index >= 0
        return seen & (k_index <= position) if self.causal else seen


def cooperative_attention(q: Array, earlier: Part, later: Part, causal: bool = False, left: int = -1,
                          sinks: Array | None = None, **tiles: int) -> tuple[Array, Array]:
    """The output (B, Sq, H, E), in the type of ``q``, and the log-sum-exp of each row, (B, H, Sq), f32, of the last Sq
    queries of sequences that have the keys of ``earlier``, then those of ``later``.

    ``q`` is NumPy's, (B, Sq, H, D). With ``causal`` the last query stands at the last key; ``left`` and ``sinks`` are
    as in :class:`forms.Form`. ``tiles`` are BM, BN, stages and warps.
    """
    import numpy as np

    others = earlier.put(later.get(later.cache.lengths))
    masked = causal or left >= 0
    forms = (Form(mask=BeforeOthers(causal, left), arrays=(others,)) if masked else Form(),
             Form(causal=causal, left=left, sinks=None if sinks is None else later.put(sinks)))
    with ThreadPoolExecutor(2) as pool:
        begun = [pool.submit(attend_to_part, q, part, form, tiles)
                 for part, form in zip((earlier, later), forms, strict=True)]
        parts, sums = (np.concatenate(x) for x in zip(*(b.result() for b in begun), strict=True))
    batch, sq, h, e = parts.shape[1:]
    o, lse = np.empty((batch, sq, h, e), q.dtype), np.empty((batch, h, sq), np.float32)
    attention_merge.on("cpu")(parts, sums, o, lse, E=e)
    return o, lse


def attend_to_part(q: Array, part: Part, form: Form, tiles: dict[str, int]) -> tuple[Array, Array]:
    """Outputs (splits, B, Sq, H, E) and log-sum-exps (splits, B, H, Sq) of splits, −inf where no key is seen."""
    import numpy as np

    (batch, sq, h, _), cache = q.shape, part.cache
    longest = int(part.get(cache.lengths).max(initial=0))
    splits = min(splits_of(q, cache, longest, part.slots, part.engine, **tiles), MOST_SPLITS // 2)
    shapes = (splits, batch, sq, h, cache.values.shape[3]), (splits, batch, h, sq)
    o, sums = (part.put(np.empty(shape, np.float32)) for shape in shapes)
    attend_in_splits(part.put(q), cache, (o, sums), form, None, None, part.engine, **tiles)
    o, sums = map(part.get, (o, sums))
    return o, np.where(sums == np.inf, -np.inf, sums)


def main() -> None:
    import numpy as np

    rng = np.random.default_rng(0)
    for batch, sq, sk, more, h, hk, d in SHAPES:
        q = normal(rng, (batch, sq, h, d), tl.f32)
        k, v = (normal(rng, (batch, sk + more, hk, d), tl.f32) for _ in range(2))
        lengths = (np.full(batch, n, np.int32) for n in (sk, more))
        host, device = (Part(Cache(k[:, x], v[:, x], next(lengths)), engine)
                        for x, engine in ((slice(sk), "cpu"), (slice(sk, None), "simulate:sm_80")))
        out, _ = cooperative_attention(q, host, device, causal=True)
        error = relative_error(out, flash_attention.reference(wide(q), wide(k), wide(v), True)[0])
        print(f"{sk} keys on the host, {more} on a simulated device: relative error {error:.1e}")


if __name__ == "__main__":
    main()
