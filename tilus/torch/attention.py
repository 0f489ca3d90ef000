"""Attention in graphs: a product of a softmax of what another product gives."""

from __future__ import annotations

from collections.abc import Container

import torch
from torch.fx import Node

from tilus.torch.registry import PRODUCT, VIEW, rule_of

aten = torch.ops.aten
PASSED = (aten.clone.default, aten._to_copy.default)


def scores_of(node: Node, fusable: Container[Node]) -> Node | None:
    """The product whose result becomes the weights of ``node`` through a softmax and what is done to each score; None
    where it is no attention, or what is between has other users or is not fused."""
    if node.target not in (aten.mm.default, aten.bmm.default, aten.matmul.default):
        return None
    current = node.args[0]
    while _is_between(current, fusable) and current.target is not aten._softmax.default:
        rule = rule_of(current.target)
        if current.target not in PASSED and (rule is None or rule.kind != VIEW):
            return None
        current = current.args[0]
    if not _is_between(current, fusable):
        return None
    x, dim, _ = current.args
    if dim not in (-1, x.meta["val"].dim() - 1):
        return None
    return _product_below(x, fusable)


def _is_between(node: Node, fusable: Container[Node]) -> bool:
    return node.op == "call_function" and node in fusable and len(node.users) == 1


def _product_below(node: Node, fusable: Container[Node]) -> Node | None:
    """The one product that elementwise operations make scores of."""
    waiting, found = [node], list[Node]()
    while waiting:
        current = waiting.pop()
        if not _is_between(current, fusable):
            continue
        rule = rule_of(current.target)
        if rule is not None and rule.kind == PRODUCT:
            found.append(current)
        else:
            waiting += current.all_input_nodes
    return found[0] if len(found) == 1 else None


__all__ = ["scores_of"]
