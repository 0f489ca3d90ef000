"""Products of batches: torch makes one dimension of those before a matrix, multiplies (``bmm``), and divides it again.
Between the two products of an attention that would be a change of shape which nothing can be fused over. Here such a
product takes the dimensions as they are."""

from __future__ import annotations

from typing import Any

import torch
from torch.fx import Graph, Node

from tilus.torch.extents import extent_key

aten = torch.ops.aten
VIEWS = (aten.view.default, aten._unsafe_view.default, aten.reshape.default)
Sizes = tuple[int | str, ...]


def divide_batches(graph: Graph) -> None:
    """Replace products of batches whose result is divided, in place, where the operands were put together for it."""
    for node in graph.nodes:
        if node.op == "call_function" and node.target is aten.bmm.default:
            _divide(graph, node)
    graph.eliminate_dead_code()


def _divide(graph: Graph, product: Node) -> None:
    views = list(product.users)
    if not views or any(user.target not in VIEWS for user in views):
        return
    shape = views[0].meta["val"].shape
    lead, matrix = shape[:-2], sizes(product)[1:]
    if len(lead) < 2 or any(sizes(view) != sizes(views[0]) for view in views) or sizes(views[0])[-2:] != matrix:
        return
    sources = [_undivided(operand, lead) for operand in product.args]
    if None in sources:
        return
    with graph.inserting_before(product):
        divided = graph.call_function(aten.matmul.default, tuple(sources))
    divided.meta = {**product.meta, "val": views[0].meta["val"]}
    for view in views:
        view.replace_all_uses_with(divided)
        graph.erase_node(view)
    graph.erase_node(product)


def _undivided(operand: Any, lead: Any) -> Node | None:
    """What an operand was before its dimensions ``lead`` became one."""
    if operand.target not in VIEWS:
        return None
    source = operand.args[0]
    wanted = (*map(extent_key, lead), *sizes(operand)[1:])
    if sizes(source) != wanted:
        return None
    while source.target in (aten.clone.default, aten.expand.default) and sizes(source.args[0]) == wanted:
        source = source.args[0]
    return source


def sizes(node: Node) -> Sizes:
    """What tells the extents of a tensor apart from others'."""
    return tuple(map(extent_key, node.meta["val"].shape))


__all__ = ["divide_batches"]
