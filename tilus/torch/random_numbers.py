"""Random numbers of compiled graphs: a function of a seed and of an element's place, computed where they are used.

Each operator that wants random numbers draws one seed from torch's generator, as an operator of the graph: what
follows from that is the same in the backward graph. A graph draws its seeds all at once, so that nothing waits for them
in turn.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch.fx import Graph, Node

from tilus.interp.elementwise import philox

aten = torch.ops.aten
_SEEDS = (-(1 << 63), (1 << 63) - 1)
"""The range of seeds, by which they are known in a graph."""

_library = torch.library.Library("tilus", "FRAGMENT")
for _name in ("random_uniform", "random_normal"):  # of the size of `like`, where that is given
    _library.define(f"{_name}(Tensor seed, SymInt[] size, Tensor? like=None) -> Tensor",
                    tags=(torch.Tag.pt2_compliant_tag,))
_library.define("random_seeds(int count, Device device) -> Tensor[]",
                tags=(torch.Tag.pt2_compliant_tag, torch.Tag.nondeterministic_seeded))


def _units(seed: Any, size: Sequence[int]) -> list[Any]:
    """Two arrays of numbers in [0, 1), as :func:`tilus.lang.builtins.random.rand` has them."""
    index = np.arange(np.prod(size, dtype=np.int64)).astype(np.uint64).reshape(size)
    words = philox(seed.cpu().numpy().astype(np.uint64)[0], index)[:2]
    return [torch.from_numpy((w >> np.uint32(8)).astype(np.float32) * np.float32(2.0**-24)) for w in words]


def _uniform(seed: Any, size: Sequence[int], like: Any = None) -> Any:
    return _units(seed, size)[0].to(seed.device)


def _normal(seed: Any, size: Sequence[int], like: Any = None) -> Any:
    a, b = _units(seed, size)
    return (((a + 2.0**-24).log() * -2).sqrt() * (b * (2 * torch.pi)).cos()).to(seed.device)


def _seeds(count: int, device: Any) -> list[Any]:
    return [n.clone() for n in torch.randint(*_SEEDS, (count, 1), device=device).unbind(0)]


_library.impl("random_uniform", _uniform, "CompositeExplicitAutograd")
_library.impl("random_normal", _normal, "CompositeExplicitAutograd")
_library.impl("random_seeds", _seeds, "CompositeExplicitAutograd")
for _name in ("random_uniform", "random_normal"):
    torch.library.register_fake(
        f"tilus::{_name}", lambda seed, size, like=None: seed.new_empty(size, dtype=torch.float32), lib=_library)


def _seed(device: Any) -> Any:
    return aten.randint.low(*_SEEDS, [1], dtype=torch.int64, device=device)


def _numbers(like: Any) -> Any:
    return torch.ops.tilus.random_uniform(_seed(like.device), like.shape, like)


def native_dropout(x: Any, p: float, train: bool | None) -> Any:
    if train is False or p == 0:
        return x.clone(), torch.ones_like(x, dtype=torch.bool)
    if p == 1:
        return torch.zeros_like(x), torch.zeros_like(x, dtype=torch.bool)
    kept = _numbers(x) >= p
    return (x * kept * (1.0 / (1.0 - p))).to(x.dtype), kept


def bernoulli(x: Any, generator: Any = None) -> Any:
    return NotImplemented if generator is not None else (_numbers(x) < x).to(x.dtype)


def bernoulli_p(x: Any, p: Any, generator: Any = None) -> Any:
    return NotImplemented if generator is not None else (_numbers(x) < p).to(x.dtype)


_BITS = {torch.float16: 11, torch.bfloat16: 8}
"""How many bits numbers below 1 have in types that are narrower than f32."""


def _rand(size: Any, dtype: Any, device: Any, like: Any = None) -> Any:
    found = torch.ops.tilus.random_uniform(_seed(device), size, like)
    if dtype in _BITS:
        found = (found * 2.0 ** _BITS[dtype]).floor() * 2.0 ** -_BITS[dtype]
    return found.to(dtype)


def _randn(size: Any, dtype: Any, device: Any, like: Any = None) -> Any:
    return torch.ops.tilus.random_normal(_seed(device), size, like).to(dtype)


def _new(make: Callable[..., Any]) -> Callable[..., Any]:
    def function(size: Any, *, dtype: Any = None, layout: Any = None, device: Any = None, pin_memory: Any = None
                 ) -> Any:
        kind = dtype or torch.get_default_dtype()
        if layout not in (None, torch.strided) or pin_memory or not kind.is_floating_point:
            return NotImplemented
        return make(size, kind, device or torch.get_default_device())

    return function


def _like(make: Callable[..., Any]) -> Callable[..., Any]:
    def function(x: Any, *, dtype: Any = None, layout: Any = None, device: Any = None, pin_memory: Any = None,
                 memory_format: Any = None) -> Any:
        kind = dtype or x.dtype
        if layout not in (None, torch.strided) or pin_memory or not x.is_contiguous() or not kind.is_floating_point \
                or memory_format not in (None, torch.preserve_format, torch.contiguous_format):
            return NotImplemented
        return make(x.shape, kind, device or x.device, x)

    return function


DECOMPOSITIONS: dict[Any, Callable[..., Any]] = {
    aten.native_dropout.default: native_dropout, aten.bernoulli.default: bernoulli, aten.bernoulli.p: bernoulli_p,
    aten.rand.default: _new(_rand), aten.randn.default: _new(_randn), aten.rand_like.default: _like(_rand),
    aten.randn_like.default: _like(_randn),
}


def draw_seeds_at_once(graph: Graph) -> None:
    """Have one operator at the beginning draw what several do on a device, in place."""
    places: dict[Any, list[Node]] = {}
    for node in graph.nodes:
        if node.target is aten.randint.low and tuple(node.args[:2]) == _SEEDS and list(node.args[2]) == [1]:
            places.setdefault(node.kwargs.get("device"), []).append(node)
    for device, nodes in places.items():
        if len(nodes) < 2:
            continue
        first = next(node for node in graph.nodes if node.op != "placeholder")
        with graph.inserting_before(first):
            drawn = graph.call_function(torch.ops.tilus.random_seeds.default, (len(nodes), device))
            parts = [graph.call_function(operator.getitem, (drawn, i)) for i in range(len(nodes))]
        drawn.meta["val"] = [node.meta["val"] for node in nodes]
        for node, part in zip(nodes, parts, strict=True):
            part.meta.update(node.meta)
            node.replace_all_uses_with(part)
            graph.erase_node(node)


__all__ = ["DECOMPOSITIONS", "draw_seeds_at_once"]
