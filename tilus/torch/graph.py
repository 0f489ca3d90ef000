"""A group of nodes as a fused function, and the graph in which groups are calls of such functions."""

from __future__ import annotations

import heapq
import operator
import weakref
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch
from torch.fx import Graph, GraphModule, Node

from tilus.diagnostics import UNKNOWN_SPAN, Span, UserError
from tilus.ir.core import Module
from tilus.ir.dtypes import DType
from tilus.ir.types import Extent
from tilus.lang.arrays import ArraySpec, build_arrays
from tilus.lang.capture import BuiltFunction
from tilus.lang.values import Tile
from tilus.lowering.array.tiles import TileTable
from tilus.runtime.program import Program
from tilus.torch.dtypes import dtype_of, number_type
from tilus.torch.extents import Extents
from tilus.torch.memory_order import Order, inverse, memory_order
from tilus.torch.node import compute, is_number, operator_name, span_of
from tilus.torch.partition import Group, is_ordered, kind_of
from tilus.torch.registry import COMPUTE, PRODUCT, Refused


class FusedNodes:
    """A fused function whose body is a group of nodes. Groups that say the same share one, wherever they come from.

    Attributes:
        operators: the names of the operators in it.
        extents: the names of the extents of its arrays.
        tensors, numbers: the nodes among the group's inputs that are tensors, and numbers other than their extents.
        orders, output_orders: in which order of dimensions it takes tensors, and gives results.
    """

    def __init__(self, group: Group) -> None:
        self.nodes, self.outputs = group.nodes, group.outputs
        self.tensors = tensors_of(group)
        self.extents = Extents(n.meta["val"] for n in self.tensors)
        self.numbers = [n for n in group.inputs if is_number(n, self.extents)]
        self.operators = [operator_name(n) for n in group.nodes if n.target is not operator.getitem]
        spans = [s for s in map(span_of, group.nodes) if s is not None]
        self.captured = BuiltFunction(_name(group.nodes), spans[-1] if spans else UNKNOWN_SPAN)
        self.orders, self.output_orders = (
            [memory_order(n.meta["val"]) for n in nodes] for nodes in (self.tensors, self.outputs))
        self.specs = tuple(
            ArraySpec(f"x{i}", dtype_of(n.meta["val"].dtype), _in_order(self.extents.shape(n.meta["val"]), order))
            for i, (n, order) in enumerate(zip(self.tensors, self.orders, strict=True)))
        self.scalars = tuple((f"s{i}", number_type(n.meta["val"])) for i, n in enumerate(self.numbers))
        self._programs: dict[TileTable, Program] = {}

    def program(self, tiles: TileTable) -> Program:
        """Raises UserError at the line of the operator that is wrong."""
        found = self._programs.get(tiles)
        if found is None:
            found = self._programs[tiles] = Program(self, self.specs, self.scalars, {}, tiles, {})
        return found

    def span(self, name: str) -> Span | None:
        """See :class:`~tilus.runtime.program.Source`."""
        return self.captured.span(self.captured.node)

    def array_level(self, arrays: tuple[ArraySpec, ...], scalars: tuple[tuple[str, DType], ...],
                    constants: dict[str, Any]) -> tuple[Module, bool]:
        """See :class:`~tilus.runtime.program.Source`."""
        return build_arrays(self.captured, arrays, scalars, self._build)

    def _build(self, *tiles: Tile) -> tuple[Tile, ...]:
        values: dict[Node, Any] = dict(zip((*self.tensors, *self.numbers), tiles, strict=True))
        for node, order in zip(self.tensors, self.orders, strict=True):
            if order is not None:
                values[node] = values[node].transpose(*inverse(order))
        for node in self.nodes:
            try:
                values[node] = compute(node, values.__getitem__, self.extents)
            except Refused as refused:  # though it did not of the node alone
                raise UserError.at("E0115", f"{operator_name(node)}: {refused}", span_of(node)) from None
        return tuple(values[n] if order is None else values[n].transpose(*order)
                     for n, order in zip(self.outputs, self.output_orders, strict=True))


def _in_order(shape: tuple[Extent, ...], order: Order | None) -> tuple[Extent, ...]:
    return shape if order is None else tuple(shape[d] for d in order)


def tensors_of(group: Group) -> list[Node]:
    """The inputs of a group that are tensors."""
    return [n for n in group.inputs if isinstance(n.meta.get("val"), torch.Tensor)]


def _name(nodes: Sequence[Node]) -> str:
    """What kernels are called: the last operators of a function that compute."""
    words = [operator_name(n).split(".")[1].strip("_") for n in nodes if kind_of(n) in (COMPUTE, PRODUCT)]
    return "_".join(words[-3:])


_shared: weakref.WeakValueDictionary[str, FusedNodes] = weakref.WeakValueDictionary()


def fused_nodes(group: Group) -> FusedNodes:
    """The fused function of a group, made anew where none says the same."""
    made = FusedNodes(group)
    return _shared.setdefault(f"{_text(group, made.extents)}\n{made.orders} {made.output_orders}", made)


def _text(group: Group, extents: Extents) -> str:
    """All that the function of a group depends on, but for the places in the user's files."""
    names: dict[Node, str] = {}

    def described(value: Any) -> str:
        if isinstance(value, (tuple, list)):
            return "(" + ", ".join(described(v) for v in value) + ")"
        if isinstance(value, torch.Tensor):
            return f"{value.dtype}{[extents.text(n) for n in value.shape]}"
        return repr(value)

    def argument(value: Any) -> str:
        if isinstance(value, Node):
            return names.get(value) or extents.text(value.meta["val"])
        if isinstance(value, (tuple, list)):
            return "(" + ", ".join(argument(v) for v in value) + ")"
        return repr(value)

    lines = []
    numbers = [n for n in group.inputs if is_number(n, extents)]
    names.update((n, f"{number_type(n.meta['val'])} s{i}") for i, n in enumerate(numbers))
    for node in (*tensors_of(group), *group.nodes):
        given = "" if node in group.inputs else " ".join(
            [operator_name(node), *map(argument, node.args), *(f"{k}={argument(v)}" for k, v in node.kwargs.items())])
        names[node] = f"n{len(names)}"
        used = sorted({str(user.args[1]) for user in node.users if user.target is operator.getitem})
        lines.append(f"{names[node]}: {described(node.meta['val'])} = {given} {used}")
    return "\n".join([*lines, " ".join(names[n] for n in group.outputs)])


def eager(group: Group) -> GraphModule:
    """The same nodes run by torch one by one, on all of the group's inputs."""
    graph = Graph()
    copies = {n: graph.placeholder(f"x{i}") for i, n in enumerate(group.inputs)}
    for node in group.nodes:
        copies[node] = graph.node_copy(node, copies.__getitem__)
    outputs = tuple(copies[n] for n in group.outputs)
    graph.output(outputs[0] if len(outputs) == 1 else outputs)
    return GraphModule({}, graph)


Unit: TypeAlias = Node | tuple[Group, Callable[..., Any]]


def rewritten(gm: GraphModule, calls: Sequence[tuple[Group, Callable[..., Any]]]) -> GraphModule:
    """The graph with a call in the place of each group."""
    graph = Graph()
    copies: dict[Node, Node] = {}
    for unit in _ordered(gm.graph, calls):
        if isinstance(unit, Node):
            copies[unit] = graph.node_copy(unit, copies.__getitem__)
            continue
        group, call = unit
        result = graph.call_function(call, tuple(copies[n] for n in group.inputs))
        if len(group.outputs) == 1:
            copies[group.outputs[0]] = result
        else:
            copies.update((n, graph.call_function(operator.getitem, (result, i))) for i, n in enumerate(group.outputs))
    return GraphModule(gm, graph)


def _ordered(graph: Graph, calls: Sequence[tuple[Group, Callable[..., Any]]]) -> list[Unit]:
    """Nodes and groups so that each comes after what it needs, and otherwise as they were; a group is where its last
    node was."""
    position = {node: i for i, node in enumerate(graph.nodes)}
    unit_of: dict[Node, Unit] = {node: node for node in graph.nodes}
    for call in calls:
        unit_of.update((node, call) for node in call[0].nodes)
    place: dict[int, int] = {}
    needs: dict[int, set[int]] = {}
    units: dict[int, Unit] = {}
    previous: Node | None = None
    for node in graph.nodes:
        key = id(unit_of[node])
        units[key] = unit_of[node]
        place[key] = position[node]
        needs.setdefault(key, set()).update(id(unit_of[n]) for n in node.all_input_nodes)
        if is_ordered(node):
            if previous is not None:
                needs[key].add(id(unit_of[previous]))
            previous = node
    followers: dict[int, list[int]] = {}
    for key, needed in needs.items():
        needed.discard(key)
        for other in needed:
            followers.setdefault(other, []).append(key)
    ready = [(place[key], key) for key, needed in needs.items() if not needed]
    heapq.heapify(ready)
    found = []
    while ready:
        _, key = heapq.heappop(ready)
        found.append(units[key])
        for other in followers.get(key, ()):
            needs[other].discard(key)
            if not needs[other]:
                heapq.heappush(ready, (place[other], other))
    assert len(found) == len(units)
    return found


__all__ = ["FusedNodes", "eager", "fused_nodes", "rewritten", "tensors_of"]
