"""Which nodes of a graph become one fused function.

A node that no fused function can hold (no rule, or its rule refuses these arguments) runs by torch. Each node gets a
level: how many such nodes lie one after the other on the way to it, and then how many products. Nodes of one level
depend on each other directly only, so that those which hang together can be one function. Products divide functions
because what one of them reads of another is in memory anyway: the layers of a model, and the steps of a recurrent one,
are then functions that say the same, of which one is compiled. The two products of an attention stay together. What
only later levels need goes to the first of them.
"""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Sequence

import torch
from torch.fx import Graph, Node

from tilus.records import field, record
from tilus.torch import rules  # noqa: F401  (registers them)
from tilus.torch.attention import scores_of
from tilus.torch.batches import divide_batches
from tilus.torch.node import reason_against
from tilus.torch.registry import COMPUTE, CREATION, PRODUCT, VIEW, rule_of

LARGEST = 64
"""Operators in one function, at most: beyond this it is divided, since the time to compile grows faster than them."""


MOST_PRODUCTS = 4
"""Products in one function, at most, where none needs another one."""


@record(eq=False)
class Group:
    """Nodes of one fused function, in the graph's order; what they read, and those that others read."""

    nodes: list[Node]
    inputs: list[Node] = field(default_factory=list)
    outputs: list[Node] = field(default_factory=list)

    def complete(self) -> Group:
        inside = set(self.nodes)
        self.inputs = list(dict.fromkeys(n for node in self.nodes for n in node.all_input_nodes if n not in inside))
        self.outputs = [n for n in self.nodes if any(user not in inside for user in n.users)]
        return self


@record
class Division:
    """Groups, and why each operator that is left to torch is; views and copies, which torch does as well, have no
    reason."""

    groups: list[Group]
    left: dict[Node, str | None]


def divide(graph: Graph) -> Division:
    """Divide a graph, which gets copies of nodes that are cheaper done again than written to memory."""
    divide_batches(graph)
    reasons = {node: reason_against(node) for node in graph.nodes if node.op == "call_function"}
    fusable = {node for node, reason in reasons.items() if reason is None}
    _repeat_cheap(graph, fusable)
    groups = []
    level = _levels(graph, fusable)
    _move_later(_connected(graph, fusable, level), level)
    for members in _connected(graph, fusable, level):
        for part in _parts(members):
            if any(kind_of(n) in (COMPUTE, PRODUCT) for n in part) and _reads_tensors(part):
                groups.append(Group(part))
            else:
                fusable.difference_update(part)
    left = {n: None if _is_free(n) or _is_kernel(n) else reasons.get(n) for n in graph.nodes
            if n.op == "call_function" and n not in fusable}
    return Division([g.complete() for g in groups], left)


def kind_of(node: Node) -> str:
    """The kind of the node's rule; views for what takes a result out of a tuple."""
    found = rule_of(node.target)
    return VIEW if node.target is operator.getitem or found is None else found.kind


def _is_free(node: Node) -> bool:
    """Whether torch computes nothing for a node: it is a view, or about extents."""
    if not isinstance(node.target, torch._ops.OpOverload):
        return True
    returns = node.target._schema.returns
    return bool(returns) and all(r.alias_info is not None and not r.alias_info.is_write for r in returns)


def _is_kernel(node: Node) -> bool:
    """Whether a node is no operator of torch's own, as kernels are that are called by name."""
    return isinstance(node.target, torch._ops.OpOverload) and node.target.namespace not in ("aten", "prims")


def _reads_tensors(nodes: Sequence[Node]) -> bool:
    inside = set(nodes)
    return any(isinstance(n.meta.get("val"), torch.Tensor) for node in nodes for n in node.all_input_nodes
               if n not in inside)


def _repeat_cheap(graph: Graph, fusable: set[Node]) -> None:
    """Give each user of a view or of a new tensor its own, and leave to torch those that torch needs anyway."""
    for node in reversed(list(graph.nodes)):
        if node not in fusable or not is_repeated(node):
            continue
        users = [user for user in node.users if user in fusable]
        if not users:
            fusable.discard(node)
            continue
        keep = len(users) < len(node.users)
        for user in users if keep else users[1:]:
            with graph.inserting_after(node):
                copy = graph.node_copy(node)
            fusable.add(copy)
            user.replace_input_with(node, copy)
        if keep:
            fusable.discard(node)


Level = tuple[int, int]


def _levels(graph: Graph, fusable: set[Node]) -> dict[Node, Level]:
    level: dict[Node, Level] = {}
    after = (0, 0)  # effects and random numbers stay in order

    def beyond(node: Node) -> Level:
        """The level of what needs a node."""
        first, second = level[node]
        return (first, second) if node in fusable or node.op != "call_function" else (first + 1, 0)

    for node in graph.nodes:
        own = max(map(beyond, node.all_input_nodes), default=(0, 0))
        if node in fusable and kind_of(node) == PRODUCT and scores_of(node, fusable) is None:
            own = (own[0], own[1] + 1)
        if is_ordered(node):
            own = max(own, after)
            after = (own[0] + 1, 0)
        level[node] = own
    for node in reversed(graph.nodes):  # what has one user, since it is done again for each, goes with it
        if node in fusable and is_repeated(node):
            level[node] = min(level[user] for user in node.users)
    return level


def is_repeated(node: Node) -> bool:
    """Whether a node is rather done again than written to memory."""
    return node.target is not operator.getitem and kind_of(node) in (VIEW, CREATION)


def is_ordered(node: Node) -> bool:
    """Whether a node has to keep its place among others of the kind: it has effects, or takes random numbers."""
    if node.op != "call_function":
        return False
    tags = getattr(node.target, "tags", ())
    return torch.Tag.nondeterministic_seeded in tags or node.is_impure()


def _connected(graph: Graph, fusable: set[Node], level: dict[Node, Level]) -> list[list[Node]]:
    """The nodes of each level that hang together, in the graph's order: one reads the other, or both read a tensor."""
    group: dict[Node, list[Node]] = {}
    reader: dict[tuple[Node, Level], Node] = {}
    for node in graph.nodes:
        if node not in fusable:
            continue
        group[node] = [node]
        for read in node.all_input_nodes:
            inside = read in fusable and level[read] == level[node]
            other = read if inside else reader.setdefault((read, level[node]), node)
            if group[other] is not group[node]:
                small, large = sorted((group[other], group[node]), key=len)
                large += small
                group.update((member, large) for member in small)
    order = {node: i for i, node in enumerate(graph.nodes)}
    distinct = {id(members): members for members in group.values()}
    return [sorted(members, key=order.__getitem__) for members in distinct.values()]


def _move_later(connected: list[list[Node]], level: dict[Node, Level]) -> None:
    """Raise the level of what no node of its own level needs, nor the graph's result, to the first that does."""
    for members in sorted(connected, key=lambda m: level[m[0]], reverse=True):
        if any(kind_of(node) == PRODUCT for node in members):
            continue
        inside = set(members)
        users = {user for node in members for user in node.users if user not in inside}
        if users and all(user.op != "output" for user in users):
            first = min(level[user] for user in users)
            level.update((node, first) for node in members)


def _parts(members: list[Node]) -> list[list[Node]]:
    """Pieces that compile in reasonable time: of not too many products, nor too many operators. Each needs those before
    it only."""
    by_products = _by_products(members)
    sizes = Counter[int]()
    part: dict[Node, tuple[int, int]] = {}
    for node in members:
        first = by_products[node]
        before = [part[n] for n in node.all_input_nodes if n in part]
        own = (first, sizes[first] // LARGEST)
        part[node] = before[0] if node.target is operator.getitem else max([own, *before])
        sizes[first] += 1
    for node in reversed(members):
        if is_repeated(node):
            part[node] = min(part[user] for user in node.users)
    found: dict[tuple[int, int], list[Node]] = {}
    for node in members:
        found.setdefault(part[node], []).append(node)
    return [found[key] for key in sorted(found)]


def _by_products(members: list[Node]) -> dict[Node, int]:
    """The number of a piece for each node: products in their order, with what is done to their operands and results."""
    part: dict[Node, int] = {}
    later: set[Node] = set()  # what needs a product
    products = 0
    for node in members:
        inputs = [n for n in node.all_input_nodes if n in part]
        part[node] = max((part[n] for n in inputs), default=0)
        if kind_of(node) == PRODUCT and scores_of(node, part) is None:
            part[node] = max(part[node], products // MOST_PRODUCTS)
            products += 1
        if kind_of(node) == PRODUCT or later.intersection(inputs):
            later.add(node)
    for node in reversed(members):
        users = [part[user] for user in node.users if user in part]
        if users and node not in later:
            part[node] = min(users)
    return part


__all__ = ["Division", "Group", "divide", "is_ordered", "kind_of"]
